"""What the model's code needs of transformers, under one name from 4.57 to 5.x.

The code runs in its reader's environment, whose transformers may be older than this project's. When transformers 4 is no
longer in use, at the end of 2027 at the latest, this file may go: its names are then imported from transformers.
"""

import dataclasses
import inspect
import os
from typing import Any

import transformers


if tuple(int(part) for part in transformers.__version__.split(".")[:2]) < (4, 57):
    raise ImportError(
        f"transformers {transformers.__version__} is too old for this model: it needs 4.57 or newer. Install one with "
        "pip install --upgrade 'transformers>=4.57'."
    )

try:
    from transformers import PreTrainedConfig
    from transformers import initialization as init
except ImportError:  # transformers 4
    from torch.nn import init
    from transformers import PretrainedConfig as PreTrainedConfig


def with_fields(base: Any) -> Any:
    """A configuration class whose fields `__post_init__` completes and checks, as in newer transformers."""

    class PreTrainedConfig(base):
        def __init__(self, **kwargs: Any) -> None:
            for name in ("id2label", "label2id", *inspect.get_annotations(type(self))):
                setattr(self, name, kwargs.pop(name, getattr(type(self), name, None)))
            self.__post_init__(**kwargs)

        def __post_init__(self, **kwargs: Any) -> None:
            super().__init__(id2label=self.id2label, label2id=self.label2id, **kwargs)

    return PreTrainedConfig


if not dataclasses.is_dataclass(PreTrainedConfig):  # before 5.4
    PreTrainedConfig = with_fields(PreTrainedConfig)

try:
    from transformers.utils.hub import resolve_revision
except ImportError:  # before 5.18

    def resolve_revision(
        path_or_repo_id: str | os.PathLike | None,
        revision: str | None = None,
        *,
        repo_type: str | None = None,
        token: bool | str | None = None,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike | None = None,
    ) -> str | None:
        """Return the revision as it is: this transformers cannot tell which commit it points to."""
        return revision


__all__ = ["PreTrainedConfig", "init", "resolve_revision"]
