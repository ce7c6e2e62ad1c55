"""WAV files whose header was never finished, as a recorder leaves them that lost power: read all the same."""

import contextlib
import io
import struct
from typing import Any


# libsndfile reads the samples to the file's end where the RIFF size has this value, which it takes for "not closed".
UNCLOSED_RIFF_SIZE = struct.pack("<I", 8)
RIFF_SIZE_AT = 4
MAX_CHUNKS = 1000


class NamelessFile:
    """A binary file as soundfile and PyAV need it: nothing but reading.

    A name would make soundfile take a file called `.raw` for raw samples.

    Args:
        file: the file.
        is_unclosed_wav: whether the size in the header is to read as "not closed".
    """

    def __init__(self, file: Any, is_unclosed_wav: bool = False):
        self.file = file
        self.is_unclosed_wav = is_unclosed_wav

    def read(self, size: int = -1) -> bytes:
        start = self.file.tell() if self.is_unclosed_wav else RIFF_SIZE_AT + 4
        data = self.file.read(size)
        if start >= RIFF_SIZE_AT + 4:
            return data
        changed = bytearray(data)
        for place, byte in enumerate(UNCLOSED_RIFF_SIZE, RIFF_SIZE_AT - start):
            if 0 <= place < len(changed):
                changed[place] = byte
        return bytes(changed)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # A damaged header sends a library before the start or beyond any file. An error here would pass through its C code,
        # where Python can only print it; a library sees by the place that nothing was found there.
        with contextlib.suppress(ValueError, OSError, OverflowError):
            self.file.seek(offset, whence)
        return self.file.tell()

    def tell(self) -> int:
        return self.file.tell()


def declared_wav_bytes(file: Any) -> int | None:
    """Return the bytes of samples that a WAV file's header says there are, and leave the file at its start.

    Returns:
        The number; 0 only where the header was not finished, so that bytes behind it are samples; `None` for another
        format, and for a file that has no samples indeed.
    """
    file.seek(0)
    head = file.read(12)
    declared = None
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        end = file.seek(0, io.SEEK_END)
        declared, start = find_chunk(file, b"data", 12, end)
        if declared == 0 and find_chunk(file, None, start, end)[1] == end:
            declared = None  # whole chunks up to the end, or nothing: there are no samples
    file.seek(0)
    return declared


def find_chunk(file: Any, wanted: bytes | None, start: int, end: int) -> tuple[int | None, int]:
    """Walk over the chunks of a RIFF file from `start`.

    Returns:
        The size of the first chunk with the wanted name, `None` without any, and the place where its contents begin, or
        where no chunk follows any more.
    """
    for _ in range(MAX_CHUNKS):
        if start + 8 > end:
            break
        file.seek(start)
        name, size = struct.unpack("<4sI", file.read(8))
        if name == wanted:
            return size, start + 8
        if not name.strip().isalnum() or start + 8 + size > end:
            break
        start = min(start + 8 + size + size % 2, end)
    return None, start
