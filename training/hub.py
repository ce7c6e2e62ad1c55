"""The Hub: which files a model has there, and the one way that files are pushed."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]  # the client's own

import feature_extraction
import modeling
from engines.engine_attention_asd import RUNTIMES
from modeling.saving_attention_asd import CODE_PATTERN

from .repository_files import repository_files


MODEL_SUFFIXES = {".json", ".safetensors", ".py", ".md", ".png"}
# What scripts/export.py adds. By name: other files that end in .bin are pickles.
EXPORTED_FILES = {name for runtime in RUNTIMES.values() for name in runtime.files}
# The Hub's answers where another commit is in progress, and where another commit came first.
CONFLICTS, MAX_CONFLICTS = (409, 412), 10
# What git writes in place of a link where it may make none, as on many Windows computers: the link's target, as text.
LINK_AS_TEXT = re.compile(rb"\.\./\S+\.py\s*")


# The files of a model


def code_files() -> dict[str, Path]:
    """Return the code that every saved model has: a file's name in the model directory -> the file in this project."""
    rooms = [Path(str(room.__file__)).parent for room in (modeling, feature_extraction)]
    return {file.name: file for room in rooms for file in sorted(room.glob(CODE_PATTERN))}


def files_in(folder: Path) -> dict[str, Path]:
    """Return all files in a folder: path relative to the folder -> file.

    Raises:
        ValueError: a link leads nowhere, or is a text file, so that a file would be missing on the Hub.
    """
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink() and not path.exists():
            raise ValueError(
                f"{path}: is a link to {path.readlink()}, where there is no file. "
                "scripts/build_space.py makes the links of the demonstration model anew."
            )
        if path.suffix == ".py" and path.stat().st_size < 200 and LINK_AS_TEXT.fullmatch(path.read_bytes()):
            raise ValueError(
                f"{path}: holds the name of a file instead of code, because git may make no links here. "
                "Run python scripts/build_space.py, which copies the code."
            )
    return {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}


def belongs_to_model(path: str, subfolder: str = "") -> bool:
    """Tell whether a file is part of the model in `subfolder`: of a known kind, or in the model's `evaluation/`.

    Checkpoints, generated sounds, trackers' logs and caches lie in other folders and are not pushed.
    """
    file = PurePosixPath(path)
    if not file.is_relative_to(subfolder):
        return False
    parts = file.relative_to(subfolder).parts
    is_known = file.suffix in MODEL_SUFFIXES or file.name in EXPORTED_FILES
    return parts[0] == "evaluation" or (len(parts) == 1 and is_known)


def model_files(model_dir: Path, subfolder: str = "", card: str | None = None) -> dict[str, Path | bytes]:
    """Return what is pushed of a directory that train.py wrote: path in the repository -> file, or contents.

    Args:
        model_dir: the model directory.
        subfolder: folder of the repository for the model. The code stays at the root: transformers looks only there.
        card: text of the model card, instead of the directory's own, which may name another repository.

    Raises:
        ValueError: the directory holds no model.
    """
    for name in ("config.json", "model.safetensors"):
        if not (model_dir / name).is_file():
            raise ValueError(f"{model_dir}: has no {name}. Expected a directory with a model that train.py wrote.")
    paths: dict[str, Path | bytes] = {**files_in(model_dir)}
    if card is not None:
        paths["README.md"] = card.encode()
    return {
        path if path.endswith(".py") else (PurePosixPath(subfolder) / path).as_posix(): file
        for path, file in paths.items()
        if belongs_to_model(path)
    }


def pushed_files(
    model_dir: Path, repository: str, subfolder: str = "", card: str | None = None
) -> dict[str, Path | bytes]:
    """Return all that a push sends: the model, and at the root what belongs beside it.

    Args:
        model_dir: the model directory.
        repository: the repository's name.
        subfolder: folder of the repository for the model. A server and a notebook are of the model at the root alone.
        card: see [`model_files`].

    Raises:
        ValueError: the directory holds no model.
    """
    files = model_files(model_dir, subfolder, card)
    return files if subfolder else {**repository_files(model_dir, repository), **files}


# Pushing


def check_token() -> None:
    """Check the access token before the work that ends with a push.

    Raises:
        ValueError: there is no token, or the Hub does not know the token.
    """
    how = "Run `hf auth login`, or set HF_TOKEN to a token that may write."
    if not get_token():
        raise ValueError(f"pushing to the Hub needs an access token, and there is none. {how}")
    try:
        HfApi().whoami()
    except HTTPError as error:  # huggingface_hub before 1 raises the plain one here
        if getattr(getattr(error, "response", None), "status_code", None) != 401:
            raise
        raise ValueError(f"{HfApi().endpoint} does not accept the access token. {how}") from None


@dataclass(frozen=True)
class HubRepository:
    """A repository on the Hub to push to.

    Attributes:
        repo_id: `user/name`, or `name` for a repository of the token's user.
        repo_type: `"model"`, `"dataset"` or `"space"`.
        private: whether the repository must be private. `False` leaves a repository that exists as it is.
        revision: the branch, by default `main`.
        space_sdk: what runs a Space, such as `"gradio"`.
    """

    repo_id: str
    repo_type: str = "model"
    private: bool = False
    revision: str | None = None
    space_sdk: str | None = None

    def create(self) -> "HubRepository":
        """Create the repository and the branch where they are missing, and return the repository under its full name.

        Raises:
            ValueError: as `check_token`, or a private repository is asked for and the repository is public already.
            HfHubHTTPError: the Hub refuses.
        """
        check_token()
        api = HfApi()
        name = api.create_repo(
            self.repo_id,
            repo_type=self.repo_type,
            private=self.private or None,
            space_sdk=self.space_sdk,
            exist_ok=True,
        ).repo_id
        if self.private and not api.repo_info(name, repo_type=self.repo_type).private:
            raise ValueError(
                f"{name}: is public already, and no push changes that. Make it private in its settings, "
                "push to another repository, or do not ask for a private one."
            )
        if self.revision is not None:
            api.create_branch(name, repo_type=self.repo_type, branch=self.revision, exist_ok=True)
        return replace(self, repo_id=name)

    def push(
        self,
        files: Mapping[str, Path | bytes],
        commit_message: str,
        is_replaced: Callable[[str], bool] = lambda path: True,
    ) -> str:
        """Push files in one commit, and return the commit's URL.

        An interrupted push leaves the repository as it was; the next push sends what has not arrived yet. Of two pushes
        at once, the later one starts over from the commit of the earlier one. Links are followed: the Hub gets files.

        Args:
            files: path in the repository -> file, or contents.
            commit_message: title of the commit.
            is_replaced: whether a file of the repository that is not among `files` is deleted in the same commit.

        Raises:
            ValueError: as `create`, or others kept pushing to the same repository.
            HfHubHTTPError: the Hub refuses.
        """
        api, name = HfApi(), self.create().repo_id
        for attempt in range(1, MAX_CONFLICTS + 1):
            parent = api.repo_info(name, repo_type=self.repo_type, revision=self.revision).sha
            present = set(api.list_repo_files(name, repo_type=self.repo_type, revision=parent))
            stale = sorted(path for path in present - {*files, ".gitattributes"} if is_replaced(path))
            operations = [CommitOperationAdd(path, contents) for path, contents in files.items()]
            operations += [CommitOperationDelete(path) for path in stale]
            try:
                commit = api.create_commit(
                    name,
                    operations,
                    commit_message=commit_message,
                    repo_type=self.repo_type,
                    revision=self.revision,
                    parent_commit=parent,
                )
                return commit.commit_url
            except HfHubHTTPError as error:
                if error.response.status_code not in CONFLICTS:
                    raise
                time.sleep(0.2 * attempt)
        raise ValueError(f"{name}: {MAX_CONFLICTS} times another commit came first. Push again when nobody else does.")


def push_model(
    model_dir: Path,
    repository: HubRepository,
    commit_message: str = "Upload model",
    subfolder: str = "",
    card: str | None = None,
) -> str:
    """Push a directory that train.py wrote in one commit, and return the commit's URL.

    Model files of an earlier push that the directory no longer has are deleted, so that no threshold stays beside other
    weights than its own. A card stays.

    Raises:
        ValueError: the directory holds no model, or as `HubRepository.push`.
    """

    def is_replaced(path: str) -> bool:
        return belongs_to_model(path, subfolder) and PurePosixPath(path).name != "README.md"

    files = pushed_files(model_dir, repository.repo_id, subfolder, card)
    return repository.push(files, commit_message, is_replaced)
