"""To the Hub: which files belong there, and the one way that a model, a metric or a Space is pushed."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from engines.engine_attention_asd import RUNTIMES


MODEL_SUFFIXES = {".json", ".safetensors", ".py", ".md", ".png"}
# What scripts/export.py adds. By name: other files that end in .bin are pickles.
EXPORTED_FILES = {name for runtime in RUNTIMES.values() for name in runtime.files}
# What the Hub answers where another commit is in progress, and where one came between.
CONFLICTS, MAX_CONFLICTS = (409, 412), 10


def check_token() -> None:
    """Ask for a token, and the Hub whether it knows it, before the work that a push comes at the end of.

    Raises:
        ValueError: there is no token, or the Hub does not know it.
    """
    how = "Run `hf auth login`, or set HF_TOKEN to a token that may write."
    if not get_token():
        raise ValueError(f"pushing to the Hub needs an access token, and there is none. {how}")
    try:
        HfApi().whoami()
    except HfHubHTTPError as error:
        if error.response.status_code != 401:
            raise
        raise ValueError(f"{HfApi().endpoint} does not accept the access token. {how}") from None


def belongs_to_model(path: str, subfolder: str = "") -> bool:
    """Whether a file is part of the model in `subfolder`: one of a known kind, or in its `evaluation/`.

    Checkpoints, generated sounds, trackers' logs and caches lie in other folders, and stay at home.
    """
    file = PurePosixPath(path)
    if not file.is_relative_to(subfolder):
        return False
    parts = file.relative_to(subfolder).parts
    is_known = file.suffix in MODEL_SUFFIXES or file.name in EXPORTED_FILES
    return parts[0] == "evaluation" or (len(parts) == 1 and is_known)


def model_files(model_dir: Path, subfolder: str = "", card: str | None = None) -> dict[str, Path | bytes]:
    """What is pushed of a directory that train.py wrote: path in the repository -> file, or contents.

    `card` takes the place of the directory's own, which may name another place to load the model from.
    With `subfolder` the model goes there, but for its code: transformers looks for that at the root alone.

    Raises:
        ValueError: the directory holds no model.
    """
    for name in ("config.json", "model.safetensors"):
        if not (model_dir / name).is_file():
            raise ValueError(f"{model_dir}: has no {name}. Expected a directory with a model that train.py wrote.")
    found = [file for file in sorted(model_dir.rglob("*")) if file.is_file()]
    paths: dict[str, Path | bytes] = {file.relative_to(model_dir).as_posix(): file for file in found}
    if card is not None:
        paths["README.md"] = card.encode()
    return {
        path if path.endswith(".py") else (PurePosixPath(subfolder) / path).as_posix(): file
        for path, file in paths.items()
        if belongs_to_model(path)
    }


def push_model(
    model_dir: Path,
    repo_id: str,
    private: bool = False,
    commit_message: str = "Upload model",
    revision: str | None = None,
    subfolder: str = "",
    card: str | None = None,
) -> str:
    """Push a directory that train.py wrote, in one commit. Returns the commit's URL.

    Model files that an earlier push left and the directory no longer has are deleted, so that no threshold
    outlives the weights that it was fitted to. A card stays.

    Raises:
        ValueError: the directory holds no model, or as `push_files`.
    """
    files = model_files(model_dir, subfolder, card)

    def is_replaced(path: str) -> bool:
        return belongs_to_model(path, subfolder) and PurePosixPath(path).name != "README.md"

    return push_files(files, repo_id, "model", private, commit_message, revision, is_replaced=is_replaced)


def create_repository(
    repo_id: str, repo_type: str, private: bool, revision: str | None = None, space_sdk: str | None = None
) -> str:
    """Create the repository and the branch `revision` if there are none. Returns the repository's full name.

    Raises:
        ValueError: as `check_token`, or a private one is asked for and it is public already.
        HfHubHTTPError: the Hub refuses.
    """
    check_token()
    api = HfApi()
    repository = api.create_repo(
        repo_id, repo_type=repo_type, private=private or None, space_sdk=space_sdk, exist_ok=True
    )
    repo_id = repository.repo_id
    if private and not api.repo_info(repo_id, repo_type=repo_type).private:
        raise ValueError(
            f"{repo_id}: is public already, and no push changes that. Make it private in its settings, "
            "push to another repository, or do not ask for a private one."
        )
    if revision is not None:
        api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
    return repo_id


def push_files(
    files: Mapping[str, Path | bytes],
    repo_id: str,
    repo_type: str,
    private: bool,
    commit_message: str,
    revision: str | None = None,
    space_sdk: str | None = None,
    is_replaced: Callable[[str], bool] = lambda path: True,
) -> str:
    """Push files (path in the repository -> file or contents) in one commit. Returns the commit's URL.

    An interrupted push leaves the repository as it was; pushing again sends what has not arrived yet. Of two
    pushes at once, the one that comes second starts over from the first's commit. Files in the repository for
    which `is_replaced` holds and which are not among `files` are deleted in the same commit.

    Raises:
        ValueError: as `create_repository`, or others kept pushing to the same repository.
        HfHubHTTPError: the Hub refuses.
    """
    repo_id = create_repository(repo_id, repo_type, private, revision, space_sdk)
    api = HfApi()
    for attempt in range(1, MAX_CONFLICTS + 1):
        parent = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
        present = set(api.list_repo_files(repo_id, repo_type=repo_type, revision=parent))
        stale = sorted(path for path in present - {*files, ".gitattributes"} if is_replaced(path))
        operations = [CommitOperationAdd(path, contents) for path, contents in files.items()]
        operations += [CommitOperationDelete(path) for path in stale]
        try:
            commit = api.create_commit(
                repo_id,
                operations,
                commit_message=commit_message,
                repo_type=repo_type,
                revision=revision,
                parent_commit=parent,
            )
            return commit.commit_url
        except HfHubHTTPError as error:
            if error.response.status_code not in CONFLICTS:
                raise
            time.sleep(0.2 * attempt)
    raise ValueError(f"{repo_id}: {MAX_CONFLICTS} times another commit came first. Push again when nobody else does.")
