"""The published archives of DCASE 2020 Challenge Task 2: where they are, and their md5."""

from dataclasses import dataclass

from .clips import MACHINE_TYPES


ZENODO = "https://zenodo.org"
EVALUATION_LABELS_RECORD = 3951620
EVALUATION_LABELS_COUNT = 7103
# The 6,459 clips of 11 s in ToyCar's development set, the largest, are 2.3 GB before they are compressed.
MAX_ARCHIVE_BYTES = 4 * 2**30
# A line for each clip.
MAX_LABELS_BYTES = 4 * 2**20


class ArchiveError(RuntimeError):
    """An archive could not be downloaded, is not the published one, or cannot be extracted safely."""


@dataclass(frozen=True)
class Archive:
    """One published archive.

    Attributes:
        part: the part of the data set: "development", "additional_training" or "evaluation".
        machine_type: the machine type, such as "fan".
        record: the Zenodo record.
        name: the file name.
        md5: the published md5, in hexadecimal digits.
    """

    part: str
    machine_type: str
    record: int
    name: str
    md5: str


def _archives(part: str, record: int, prefix: str, md5: dict[str, str]) -> tuple[Archive, ...]:
    return tuple(Archive(part, kind, record, f"{prefix}_{kind}.zip", md5[kind]) for kind in MACHINE_TYPES)


# The md5 are those that the three Zenodo records state.
ARCHIVES = (
    *_archives(
        "development",
        3678171,
        "dev_data",
        {
            "fan": "649bdfc06263ae7a838963f43b6641e6",
            "pump": "90e7091ef722b7238a7f1009365779cd",
            "slider": "da24a757719f0d94d5aa2d646bbfdc86",
            "valve": "34d2672f55bb041589ef79c10dc89934",
            "ToyCar": "4dec75ca8d9f666aa9e4c1894a740501",
            "ToyConveyor": "03b6aa1bfd09a39d53af0ba39f71fa91",
        },
    ),
    *_archives(
        "additional_training",
        3727685,
        "eval_data_train",
        {
            "fan": "567798854130c8019df8b664c095ed1e",
            "pump": "4e33ae9c0db5cc88437675f5e317caee",
            "slider": "f84f186f4295fc23754abcdd1b0580a7",
            "valve": "057cdd560caffb8305449541afd28c6d",
            "ToyCar": "a5d4ccd498af70b04dd74b644b820006",
            "ToyConveyor": "0e808ac0b761e9fb13d5e0c65caff00d",
        },
    ),
    *_archives(
        "evaluation",
        3841772,
        "eval_data_test",
        {
            "fan": "1eb9356a768cadfd0f2e59a5c57e578b",
            "pump": "23a8f8f924be218c69df67fe07360348",
            "slider": "0193c769073840332ce3aad84b1ccaa2",
            "valve": "f69c551d2088691050d20cccca9d631c",
            "ToyCar": "bea2bdd612f616be8f2b8eb087b32c7c",
            "ToyConveyor": "ccfcc9847c7d3404d7ee9d6d9e0b2ba2",
        },
    ),
)

# The parts of each published selection.
SELECTIONS = {
    "development": ("development",),
    "additional_training": ("additional_training",),
    "evaluation": ("evaluation",),
    "all": ("development", "additional_training"),
}
