"""What arrives on standard input, told by its first bytes: a sound file, or raw samples."""

from feature_extraction.libav_attention_asd import libav_format


# First bytes of FLAC, Ogg, AIFF, CAF, AU and MP3 with a tag.
FILE_MARKS = (b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"ID3")
# As many bytes as two frames of MP3 take at most, or of AAC in stereo.
HEAD_BYTES = 3200
# Of MPEG's layer III (ISO 11172-3 and 13818-3): kbit/s by the header's index, for version 1 and for later ones.
MP3_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MP3_RATES = (44_100, 48_000, 32_000)
# What the rates of version 1 are divided by, by the two bits of the version; the second is reserved.
MP3_VERSIONS = (4, None, 2, 1)


def is_sound_file(head: bytes) -> bool:
    """Whether a sound file begins with these bytes, WAV aside.

    MP3 and AAC without a tag have a mark of eleven bits, which raw samples may begin with, too: there a second frame has to
    follow where the first one ends.
    """
    if head.startswith(FILE_MARKS):
        return True
    kind = libav_format(head)
    if kind not in (None, "aac"):
        return True
    length = mp3_frame(head) or aac_frame(head)
    return bool(length and (mp3_frame(head[length:]) or aac_frame(head[length:])))


def mp3_frame(head: bytes) -> int | None:
    """Return the length in bytes of a frame of MP3 that begins here; `None` where none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    divisor, bitrate, rate = MP3_VERSIONS[head[1] >> 3 & 3], head[2] >> 4, head[2] >> 2 & 3
    if divisor is None or bitrate in (0, 15) or rate == 3:
        return None
    bits = 1000 * MP3_KBITS[divisor > 1][bitrate]
    return (144 if divisor == 1 else 72) * bits // (MP3_RATES[rate] // divisor) + (head[2] >> 1 & 1)


def aac_frame(head: bytes) -> int | None:
    """Return the length in bytes of a frame of AAC (ADTS) that begins here; `None` where none does."""
    if libav_format(head) != "aac" or len(head) < 7:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else None


__all__ = ["HEAD_BYTES", "is_sound_file"]
