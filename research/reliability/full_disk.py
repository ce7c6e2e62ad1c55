"""Operations on a disk that fills up: old files stay whole, one line says so, and with space made all is as undisturbed."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .damage import generator_of
from .operations import OPERATIONS, Operations


# Room for what every operation makes, twice: two checkpoints of the paper's network are 21 MB.
DISK_MIB = 160
SAYS_SO = ("disk is full", "No space left on device")


class FullDisk:
    """Each operation on a small file system in memory, which has less room than the operation needs.

    Args:
        seed: part of the key of how much room there is.
        folder: an empty folder to work in.
        kinds: names of operations, by default all.

    Raises:
        ImportError: this user may not mount a file system.
    """

    title = "Operations on a disk that fills up"
    cpu_seconds, seconds, starts_processes = 600.0, 600.0, True

    def __init__(self, seed: int, folder: Path, kinds: tuple[str, ...] = OPERATIONS):
        with small_disk(folder / "disk"):
            pass
        self.seed, self.folder, self.kinds = seed, folder, kinds
        self.operations = Operations(folder, kinds)

    def check(self, case: int) -> list[tuple[str, str]]:
        """Begin an operation on a disk that is nearly full, look at what is left, make space, and begin it again."""
        kind, generator = self.kinds[case % len(self.kinds)], generator_of(self.seed, case)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch, small_disk(Path(scratch) / "disk") as disk:
            directory = disk / kind
            self.operations.prepare_directory(kind, directory)
            filler = fill(disk, left=int(generator.uniform(0, self.operations.bytes_written[kind])))
            process = self.operations.start(kind, directory)
            is_refused = process.wait() not in (0, 1)
            if is_refused:
                check_message(process.output, disk)
            self.operations.check_left(kind, directory)
            filler.unlink()
            again = self.operations.start(kind, directory)
            assert again.wait() in (0, 1) and "Traceback" not in again.output, again.output
            self.operations.check_end(kind, directory)
        return [(kind, "refused, then ended as if undisturbed" if is_refused else "the room sufficed")]


def check_message(output: str, disk: Path) -> None:
    """Assert that an operation has said in one line that the disk is full, and which file it was writing."""
    errors = [line for line in re.split(r"[\r\n]+", output) if line.startswith("error: ")]
    assert len(errors) == 1 and str(disk) in errors[0] and "Traceback" not in output, output
    assert any(words in errors[0] for words in SAYS_SO), output


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system, which is in memory, on a new folder.

    Raises:
        ImportError: this user may not.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise ImportError("needs the right to mount a file system, as root has") from None
    try:
        yield folder
    finally:
        # Lazily: a process that is just ending may still have a file of a model mapped.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path, left: int) -> Path:
    """Write a file that leaves so many bytes free."""
    status = os.statvfs(disk)
    path = disk / "filler"
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(status.f_bavail * status.f_frsize - left, 1))
    return path
