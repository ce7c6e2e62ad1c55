"""A stand-in for the Hugging Face Hub: what the unmodified clients need of its protocol to push and to load.

For tests alone. There is one user, no Xet, and no rule of the real Hub but those that its clients wait for.
HF_ENDPOINT=url and HF_HUB_DISABLE_XET=1 in its environment lead a client here.
"""

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.requests import ClientDisconnect


USER, TOKEN = "user", "hf_standin"
KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


@dataclass
class Repository:
    """`commits`: sha -> path -> git or LFS object ID. `branches`: name -> sha."""

    kind: str
    name: str
    private: bool
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)

    def commit(self, branch: str, tree: dict[str, str], title: str) -> str:
        parent = self.branches.get(branch, "")
        sha = hashlib.sha1(json.dumps([parent, title, len(self.commits), tree]).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = tree, sha
        self.titles.append(title)
        return sha


class HubServer:
    """What the stand-in holds.

    Attributes:
        requests: (method, path) of everything that was asked, in order.
        holds: as long as it is true of the path of an upload or a commit, that is held.
        lost: how many were held, or on their way, when their client died.
    """

    def __init__(self, folder: Path):
        self.folder, self.url = folder, ""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.holds: Callable[[str], bool] = lambda path: False
        self.lost = 0

    def asked(self, part: str) -> list[str]:
        """The requests, as "PUT /lfs/...", that have `part` in them."""
        return [f"{method} {path}" for method, path in self.requests if part in f"{method} {path}"]

    def tree(self, kind: str, name: str, branch: str = "main") -> dict[str, bytes]:
        """The files of a repository, for the test's own eyes."""
        repository = self.repositories[kind, name]
        tree = repository.commits[repository.branches[branch]]
        return {path: (self.folder / oid).read_bytes() for path, oid in tree.items()}

    def store(self, content: bytes, oid: str) -> str:
        (self.folder / oid).write_bytes(content)
        return oid

    def entry(self, path: str, oid: str) -> dict[str, Any]:
        size = (self.folder / oid).stat().st_size
        large = {"lfs": {"oid": oid, "size": size, "pointerSize": 134}} if len(oid) == 64 else {}
        return {"type": "file", "path": path, "size": size, "oid": oid, **large}

    def find(self, request: Request, kind: str, name: str, revision: str = "main") -> tuple[Repository, str]:
        """A repository, and the commit that a branch or a commit's ID names in it."""
        repository = self.repositories.get((kind, name))
        if repository is None or (repository.private and not is_user(request)):
            raise error(401 if repository else 404, "RepoNotFound", f"no repository {kind}/{name}")
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            raise error(404, "RevisionNotFound", f"{kind}/{name} has no revision {revision}")
        return repository, sha

    async def body(self, request: Request) -> bytes:
        try:
            body = await request.body()
        except ClientDisconnect:  # the client died while it sent
            self.lost += 1
            raise HTTPException(499) from None
        while self.holds(request.url.path):
            if await request.is_disconnected():
                self.lost += 1
                raise HTTPException(499)
            await asyncio.sleep(0.02)
        return body


def error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> HTTPException:
    """An error in the headers that huggingface_hub makes its exceptions of."""
    headers = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
    return HTTPException(status, message, headers=headers)


def is_user(request: Request) -> bool:
    return request.headers.get("Authorization") == f"Bearer {TOKEN}"


def must_be_user(request: Request) -> None:
    if not is_user(request):
        message = "Invalid credentials in Authorization header"
        raise HTTPException(401, message, headers={"X-Error-Message": message})


def make_app(hub: HubServer) -> Callable:
    app = FastAPI()

    async def record(scope, receive, send):
        if scope["type"] == "http":
            hub.requests.append((scope["method"], scope["path"]))
        await app(scope, receive, send)

    for add_routes in (add_repository_routes, add_reading_routes, add_large_file_routes, add_commit_routes):
        add_routes(app, hub)
    return record


def add_repository_routes(app: FastAPI, hub: HubServer) -> None:
    """Who asks, and new repositories and branches."""

    @app.get("/api/whoami-v2")
    async def whoami(request: Request):
        must_be_user(request)
        return {"type": "user", "name": USER, "orgs": []}

    @app.post("/api/validate-yaml")
    async def validate_yaml(request: Request):
        card = await request.json()
        try:
            data = yaml.safe_load(card["content"].split("---")[1])
            errors = [] if isinstance(data, dict) else ["no metadata"]
            if card["repoType"] == "space" and not errors and "sdk" not in data:
                errors = ['"sdk" is missing']
        except (IndexError, yaml.YAMLError) as problem:
            errors = [str(problem)]
        content = {"errors": [{"message": message} for message in errors], "warnings": []}
        return JSONResponse(content, 400 if errors else 200)

    @app.post("/api/repos/create")
    async def create(request: Request):
        must_be_user(request)
        asked = await request.json()
        kind, name = f"{asked.get('type', 'model')}s", f"{asked['organization'] or USER}/{asked['name']}"
        url = {"url": f"{hub.url}/{KINDS[kind]}{name}", "name": name}
        if (kind, name) in hub.repositories:
            return JSONResponse({"error": "You already created this repo", **url}, 409)
        # huggingface_hub before 1 asks for the second.
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        hub.repositories[kind, name] = Repository(kind, name, private)
        hub.repositories[kind, name].commit("main", {}, "initial commit")
        return url

    @app.post("/api/{kind}/{user}/{name}/branch/{branch:path}")
    async def create_branch(request: Request, kind: str, user: str, name: str, branch: str):
        must_be_user(request)
        repository, sha = hub.find(request, kind, f"{user}/{name}")
        if branch in repository.branches:
            return JSONResponse({"error": f"branch {branch} exists"}, 409)
        repository.branches[branch] = sha
        return None


def add_reading_routes(app: FastAPI, hub: HubServer) -> None:
    """What a repository holds."""

    @app.get("/api/{kind}/{user}/{name}")
    @app.get("/api/{kind}/{user}/{name}/revision/{revision:path}")
    async def info(request: Request, kind: str, user: str, name: str, revision: str = "main"):
        repository, sha = hub.find(request, kind, f"{user}/{name}", revision)
        files = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        return {"id": repository.name, "sha": sha, "private": repository.private, "siblings": files}

    @app.get("/api/{kind}/{user}/{name}/tree/{revision}")
    @app.get("/api/{kind}/{user}/{name}/tree/{revision}/{folder:path}")
    async def tree(request: Request, kind: str, user: str, name: str, revision: str, folder: str = ""):
        repository, sha = hub.find(request, kind, f"{user}/{name}", revision)
        files = repository.commits[sha]
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in files if path.startswith(prefix)]
        if folder and not inside:
            raise error(404, "EntryNotFound", f"no folder {folder}")
        if request.query_params.get("recursive", "").lower() == "true":
            return [hub.entry(path, files[path]) for path in inside]
        direct = [path for path in inside if "/" not in path[len(prefix) :]]
        folders = {prefix + path[len(prefix) :].split("/")[0] for path in inside if path not in direct}
        listed = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        return listed + [hub.entry(path, files[path]) for path in direct]

    @app.api_route("/{kind}/{user}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    @app.api_route("/{user}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    async def resolve(request: Request, user: str, name: str, revision: str, path: str, kind: str = "models"):
        repository, sha = hub.find(request, kind, f"{user}/{name}", revision)
        oid = repository.commits[sha].get(path)
        if oid is None:
            raise error(404, "EntryNotFound", f"no file {path}", {"X-Repo-Commit": sha})
        return FileResponse(hub.folder / oid, headers={"ETag": f'"{oid}"', "X-Repo-Commit": sha})


def add_large_file_routes(app: FastAPI, hub: HubServer) -> None:
    """Git LFS: large files arrive before the commit that names them."""

    @app.post("/{kind}/{user}/{name}.git/info/lfs/objects/batch")
    @app.post("/{user}/{name}.git/info/lfs/objects/batch")
    async def lfs_batch(request: Request):
        must_be_user(request)
        objects = (await request.json())["objects"]
        for wanted in objects:
            href = f"{hub.url}/lfs/{wanted['oid']}"
            if not (hub.folder / wanted["oid"]).is_file():
                wanted["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        return {"transfer": "basic", "objects": objects}

    @app.put("/lfs/{oid}")
    async def lfs_upload(request: Request, oid: str):
        content = await hub.body(request)
        if hashlib.sha256(content).hexdigest() != oid:
            raise HTTPException(400, "the content has another sha256")
        hub.store(content, oid)

    @app.post("/lfs/{oid}/verify")
    async def lfs_verify(request: Request, oid: str):
        must_be_user(request)
        if (hub.folder / oid).stat().st_size != (await request.json())["size"]:
            raise HTTPException(400, "the content has another size")


def add_commit_routes(app: FastAPI, hub: HubServer) -> None:
    """A commit, and the question before it: which of its files are large."""

    @app.post("/api/{kind}/{user}/{name}/preupload/{revision:path}")
    async def preupload(request: Request, kind: str, user: str, name: str, revision: str):
        must_be_user(request)
        repository, sha = hub.find(request, kind, f"{user}/{name}", revision)
        files = (await request.json())["files"]
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if b"\0" in base64.b64decode(file["sample"]) else "regular",
                    "shouldIgnore": False,
                    "oid": repository.commits[sha].get(file["path"]),
                }
                for file in files
            ]
        }

    @app.post("/api/{kind}/{user}/{name}/commit/{branch:path}")
    async def commit(request: Request, kind: str, user: str, name: str, branch: str):
        must_be_user(request)
        lines = [json.loads(line) for line in (await hub.body(request)).splitlines()]
        # From here on nothing is awaited: commits come one after the other.
        repository, parent = hub.find(request, kind, f"{user}/{name}", branch)
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, parent):
            raise HTTPException(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[parent])
        for operation in lines[1:]:
            apply_operation(hub, files, operation)
        sha = repository.commit(branch, files, header["summary"])
        return {"commitOid": sha, "commitUrl": f"{hub.url}/{KINDS[kind]}{user}/{name}/commit/{sha}"}


def apply_operation(hub: HubServer, files: dict[str, str], operation: dict[str, Any]) -> None:
    """Change `files`, path -> object ID, by one line of a commit."""
    value = operation["value"]
    path = value["path"]
    if operation["key"] == "file":
        content = base64.b64decode(value["content"])
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        files[path] = hub.store(content, oid)
    elif operation["key"] == "lfsFile":
        if not (hub.folder / value["oid"]).is_file():
            raise HTTPException(422, f"{path} points to a large file that was not uploaded")
        files[path] = value["oid"]
    elif files.pop(path, None) is None:
        raise error(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")


@contextmanager
def run_hub(folder: Path) -> Iterator[HubServer]:
    """Serve a stand-in that keeps its files in `folder`, on a free port of 127.0.0.1, from a thread."""
    hub = HubServer(folder)
    server = uvicorn.Server(uvicorn.Config(make_app(hub), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        threading.Event().wait(0.01)
    hub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.should_exit = True
        thread.join()
