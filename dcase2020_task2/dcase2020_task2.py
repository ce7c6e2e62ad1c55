"""A `datasets` builder for DCASE 2020 Challenge Task 2 and for any folder in its layout.

Rows are paths and labels; no clip is opened. `download.py` fetches the archives. The download manager of `datasets`
would neither compare their md5 nor resume an interrupted download.
"""

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets

from .archives import ARCHIVES, SELECTIONS, ZENODO, Archive
from .clips import ADDITIONAL_IDS, DEVELOPMENT_IDS, LABELS, MACHINE_TYPES
from .download import fetch
from .folder import SPLITS, ClipFolder, list_clips


# A split has at most so many shards. A shard is the unit of `num_proc` and of shuffling a stream.
MAX_SHARDS = 64

_DESCRIPTION = (
    "Sounds of six machine types, normal for training, normal and anomalous for testing: DCASE 2020 "
    "Challenge Task 2, unsupervised detection of anomalous sounds for machine condition monitoring."
)
_CITATION = """\
@inproceedings{koizumi2020dcase,
  title     = {Description and Discussion on {DCASE2020} Challenge Task2: Unsupervised Anomalous Sound
               Detection for Machine Condition Monitoring},
  author    = {Koizumi, Yuma and Kawaguchi, Yohei and Imoto, Keisuke and Nakamura, Toshiki and
               Nikaido, Yuki and Tanabe, Ryo and Purohit, Harsh and Suefusa, Kaori and Endo, Takashi and
               Yasuda, Masahiro and Harada, Noboru},
  booktitle = {Proceedings of the Detection and Classification of Acoustic Scenes and Events 2020 Workshop},
  pages     = {81--85},
  year      = {2020}
}
"""


@dataclass
class Dcase2020Task2Config(datasets.BuilderConfig):
    """Configuration of `Dcase2020Task2`.

    Args:
        parts: the published parts that make up the configuration. `local` has none, because it reads `data_dir`.
        machine_types: the machine types to keep.
        with_audio: add the column `audio` (`datasets.Audio`, which needs the extra `embedded`).
        download_dir: the folder into which the archives are extracted, in the DCASE layout. The default is a folder in the
            cache of `datasets`.
        base_url: the server of the archives, with Zenodo's paths.
        archives: the table of archives and their md5.
    """

    parts: tuple[str, ...] = ()
    machine_types: tuple[str, ...] = MACHINE_TYPES
    with_audio: bool = False
    download_dir: str | None = None
    base_url: str = ZENODO
    archives: tuple[Archive, ...] = ARCHIVES

    @cached_property
    def folder(self) -> ClipFolder:
        """The clips of `data_dir`. They are listed once, so that cache key, classes and rows agree."""
        if self.data_dir is None:
            raise ValueError("The configuration 'local' reads a folder: pass data_dir=, a folder in the DCASE layout.")
        return list_clips(self.data_dir)

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Make the key of the table in the cache of `datasets`.

        `datasets` makes the key from the arguments alone. That key would not change with the contents of a folder, and two
        folders of the same relative name would share it. Here the key depends on the contents too.
        """
        if not self.parts:
            config_kwargs = {**config_kwargs, "contents": self.folder.digest}
        elif self.data_dir is not None:
            raise ValueError(
                f"The configuration {self.name!r} is a published one and reads no data_dir "
                f"({self.data_dir!r}). Choose 'local' to load that folder, or pass download_dir= to say "
                "where the archives belong."
            )
        elif self.download_dir is not None:
            self.download_dir = os.path.abspath(os.path.expanduser(self.download_dir))
            config_kwargs = {**config_kwargs, "download_dir": self.download_dir}
        return super().create_config_id(config_kwargs, custom_features)


class Dcase2020Task2(datasets.GeneratorBasedBuilder):
    """DCASE 2020 Challenge Task 2, or a folder in its layout, as `datasets`.

    Configurations: `development` (default), `additional_training`, `evaluation` (with its published labels),
    `all` (development and additional training, all 41 machine IDs), each machine type (its development set),
    and `local` with `data_dir=`. Pass `config_name=`: the first positional argument is the cache folder.

    Columns: `path` (absolute), `machine_type`, `machine_id` ("00"), `label` (`fan_id_00`; all 41 classes, or the classes
    of a local folder), `is_anomaly` (None where not known) and `split`. With `with_audio=True`, there is also `audio`.
    Rows are sorted by machine type and file name.

    Raises:
        ArchiveError: when the table is prepared; an archive cannot be fetched, or is not the published one.
        FileNotFoundError: at once; there is no local folder of that name.
        ValueError: at once; `list_clips` refuses the local folder.
        ImportError: at once; `with_audio` without the extra `embedded`.

    Example:
        >>> builder = Dcase2020Task2(config_name="fan")
        >>> builder.download_and_prepare()
        >>> train = builder.as_dataset(split="train")
    """

    config: Dcase2020Task2Config
    BUILDER_CONFIG_CLASS = Dcase2020Task2Config
    BUILDER_CONFIGS = [
        *(Dcase2020Task2Config(name=name, parts=parts) for name, parts in SELECTIONS.items()),
        *(
            Dcase2020Task2Config(name=machine_type, parts=("development",), machine_types=(machine_type,))
            for machine_type in MACHINE_TYPES
        ),
        Dcase2020Task2Config(name="local"),
    ]
    DEFAULT_CONFIG_NAME = "development"

    def _info(self) -> datasets.DatasetInfo:
        labels = LABELS if self.config.parts else sorted({row["label"] for row in self.config.folder.rows})
        features = {
            "path": datasets.Value("string"),
            "machine_type": datasets.Value("string"),
            "machine_id": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(labels)),
            "is_anomaly": datasets.Value("bool"),
            "split": datasets.Value("string"),
        }
        if self.config.with_audio:
            features["audio"] = _audio_feature()
        if not self.config.parts:
            return datasets.DatasetInfo(features=datasets.Features(features))
        return datasets.DatasetInfo(
            description=_DESCRIPTION,
            features=datasets.Features(features),
            homepage="https://dcase.community/challenge2020/task-unsupervised-detection-of-anomalous-sounds",
            license="CC BY-NC-SA 4.0",
            citation=_CITATION,
        )

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Fetch what is missing, then write the table as `datasets` does, with its arguments.

        A table in the cache is no reason not to fetch: it holds paths, and clips may have been removed since.
        """
        self.fetch()
        super().download_and_prepare(*args, **kwargs)

    def _split_generators(
        self, dl_manager: datasets.DownloadManager | datasets.StreamingDownloadManager
    ) -> list[datasets.SplitGenerator]:
        if dl_manager.is_streaming:
            self.fetch()
        rows = self._rows()
        generators = []
        for split in SPLITS:
            of_split = [row for row in rows if row["split"] == split]
            size = max(1, -(-len(of_split) // MAX_SHARDS))
            shards = [of_split[start : start + size] for start in range(0, len(of_split), size)]
            if shards:
                generators.append(datasets.SplitGenerator(name=split, gen_kwargs={"shards": shards}))
        return generators

    def _generate_examples(self, shards: list[list[dict]]) -> Iterator[tuple[str, dict]]:
        for shard in shards:
            for row in shard:
                yield row["path"], {**row, "audio": row["path"]} if self.config.with_audio else row

    def fetch(self) -> None:
        """Download and extract the archives of the configuration that are missing. `local` needs none.

        Raises:
            ArchiveError: an archive cannot be fetched, or is not the published one.
        """
        if self.config.parts:
            fetch(
                self._download_dir,
                self.config.parts,
                self.config.machine_types,
                archives=self.config.archives,
                base_url=self.config.base_url,
            )

    def _rows(self) -> list[dict]:
        """The clips of the configuration. A download folder may hold other parts and machine types too."""
        if not self.config.parts:
            return self.config.folder.rows
        return [
            row
            for row in list_clips(self._download_dir).rows
            if row["machine_type"] in self.config.machine_types and _part(row) in self.config.parts
        ]

    @property
    def _download_dir(self) -> str:
        return self.config.download_dir or f"{self._cache_downloaded_dir}/dcase2020_task2"


def _part(row: dict) -> str | None:
    """The published part of a clip. Machine ID and split tell, because development has IDs of its own."""
    if row["machine_id"] in DEVELOPMENT_IDS.get(row["machine_type"], ()):
        return "development"
    if row["machine_id"] in ADDITIONAL_IDS.get(row["machine_type"], ()):
        return "additional_training" if row["split"] == "train" else "evaluation"
    return None


def _audio_feature() -> datasets.Audio:
    try:
        # An installed torchcodec that finds no FFmpeg raises a RuntimeError.
        importlib.import_module("torchcodec")
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            "with_audio=True needs torchcodec and FFmpeg: install the extra `embedded` "
            "(`pip install -e '.[embedded]'`) and FFmpeg, or leave with_audio out and read the column `path` "
            "with soundfile."
        ) from error
    return datasets.Audio()
