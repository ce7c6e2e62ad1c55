"""A `datasets` builder for DCASE 2020 Challenge Task 2 and for any folder in its layout.

Rows are paths and labels; no clip is opened. The archives are fetched by `download.py` and not by the
download manager of `datasets`, which neither compares their md5 nor resumes them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import datasets

from .clips import ADDITIONAL_IDS, DEVELOPMENT_IDS, LABELS, MACHINE_TYPES
from .download import ARCHIVES, SELECTIONS, ZENODO, Archive, fetch
from .folder import SPLITS, ClipFolder, list_clips


# A split is cut into at most so many shards, the unit of `num_proc` and of shuffling a stream.
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
        parts: the published parts the configuration is made of; none for `local`, which reads `data_dir`.
        machine_types: the machine types to keep of them.
        with_audio: add the column `audio` (`datasets.Audio`, which needs the extra `audio`).
        download_dir: where the archives are extracted, in the DCASE layout; by default in the cache of
            `datasets`.
        base_url: the server the archives come from, with Zenodo's paths.
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
        """The clips of `data_dir`, listed once: the cache key, the classes and the rows must not disagree."""
        if self.data_dir is None:
            raise ValueError("The configuration 'local' reads a folder: pass data_dir=, a folder in the DCASE layout.")
        return list_clips(self.data_dir)

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        # The cache key of `datasets` holds the arguments alone: the same for another folder of the same
        # relative name, and for a folder whose contents have changed.
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
    and `local` with `data_dir=`. Pass `config_name=`; the first positional argument is the cache folder.

    Columns: `path` (absolute), `machine_type`, `machine_id` ("00"), `label` (`fan_id_00`; all 41 classes, or
    those found in a local folder), `is_anomaly` (None where not known), `split`, and with `with_audio=True`
    `audio`. Rows are sorted by machine type and file name.

    Raises:
        ArchiveError: on preparing; an archive cannot be fetched, or is not the published one.
        FileNotFoundError, ValueError: at once; the local folder is not as `list_clips` expects it.
        ImportError: at once; `with_audio` without the extra `audio`.

    Example:
        >>> builder = Dcase2020Task2(config_name="fan")
        >>> builder.download_and_prepare()
        >>> train = builder.as_dataset(split="train")
    """

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

    def download_and_prepare(self, *args, **kwargs) -> None:
        # Also where the table is in the cache already: it holds paths, and clips may have been removed since.
        self.fetch()
        super().download_and_prepare(*args, **kwargs)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
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
        """Download and extract what the configuration needs and is not there yet. Nothing for `local`."""
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
    """The published part a clip belongs to: the machine IDs of development and evaluation are disjoint."""
    if row["machine_id"] in DEVELOPMENT_IDS.get(row["machine_type"], ()):
        return "development"
    if row["machine_id"] in ADDITIONAL_IDS.get(row["machine_type"], ()):
        return "additional_training" if row["split"] == "train" else "evaluation"
    return None


def _audio_feature() -> datasets.Audio:
    try:
        import torchcodec  # noqa: F401  (RuntimeError: it is there, and finds no FFmpeg)
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            "with_audio=True needs torchcodec and FFmpeg: install the extra `audio` "
            "(`pip install -e '.[audio]'`) and FFmpeg, or leave with_audio out and read the column `path` "
            "with soundfile."
        ) from error
    return datasets.Audio()
