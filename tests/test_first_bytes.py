"""What standard input is taken for: sound files of all kinds are told from raw samples."""

import io

import numpy as np
import pytest

from scoring.first_bytes import HEAD_BYTES, is_sound_file


def encoded(form: str, codec: str, rate: int, layout: str, bit_rate: int, **options: str) -> bytes:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    channels = {"mono": 1, "stereo": 2}[layout]
    samples = np.random.default_rng([3, rate]).integers(-9000, 9000, (1, rate * channels)).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_mp3_and_aac_without_a_tag_are_sound_files(rate, layout):
    for bit_rate in (32_000, 64_000):
        mp3 = encoded("mp3", "libmp3lame", rate, layout, bit_rate, write_id3v2="0", id3v2_version="0")
        assert mp3[0] == 0xFF and is_sound_file(mp3[:HEAD_BYTES])
    assert is_sound_file(encoded("adts", "aac", rate, layout, 64_000)[:HEAD_BYTES])


def test_what_phones_record_is_a_sound_file():
    assert is_sound_file(encoded("webm", "libopus", 48_000, "mono", 64_000)[:HEAD_BYTES])
    assert is_sound_file(encoded("3gp", "aac", 16_000, "mono", 32_000)[:HEAD_BYTES])


def test_raw_samples_that_begin_like_mp3_or_aac_are_raw_samples():
    noise = np.random.default_rng([4]).normal(0, 3000, (200, HEAD_BYTES // 2)).astype("<i2")
    for number, samples in enumerate(noise):
        samples[:2] = np.frombuffer([b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80"][number % 2], "<i2")
        assert not is_sound_file(samples.tobytes())
    assert not is_sound_file(np.full(HEAD_BYTES // 2, -1, "<i2").tobytes())
    assert not is_sound_file(bytes(HEAD_BYTES)) and not is_sound_file(b"")
