"""Sound files as recorders, phones and strangers leave them: read as far as they are whole, or refused by name."""

import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from feature_extraction import (
    AUDIO_SUFFIXES,
    AttentionAsdFeatureExtractor,
    AudioReadError,
    feature_extraction_attention_asd,
    sounds_attention_asd,
)


RATE = 16_000
EXTRACTOR = AttentionAsdFeatureExtractor(clip_length=RATE)
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)


def sound_file(samples=TONE, kind: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytearray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return bytearray(buffer.getvalue())


def with_wav_sizes(wav: bytearray, riff: int, data: int) -> bytes:
    wav[4:8], wav[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    return bytes(wav)


def with_flac_total(flac: bytearray, total: int) -> bytes:
    """Write the 36 bits that say how many samples a FLAC file has; an encoder that writes to a pipe leaves zeros."""
    flac[21] = (flac[21] & 0xF0) | total >> 32
    flac[22:26] = struct.pack(">I", total & 0xFFFF_FFFF)
    return bytes(flac)


def read(source) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return np.concatenate(list(EXTRACTOR.stream_audio(source, notes=notes))), notes


# Files that were never finished


@pytest.mark.parametrize("riff", [0, 36, 2**31], ids=["RIFF size 0", "RIFF size of no samples", "RIFF size too large"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_wav_of_a_recorder_that_lost_power_gives_its_samples_and_a_note(tmp_path, riff, subtype):
    whole = sound_file(subtype=subtype)
    expected = EXTRACTOR.read_audio(bytes(whole))
    unfinished = with_wav_sizes(whole, riff, 0)
    (tmp_path / "recorder.wav").write_bytes(unfinished)
    for source in (unfinished, tmp_path / "recorder.wav"):
        samples, notes = read(source)
        np.testing.assert_array_equal(samples, expected)
        assert notes == ["the header says 0 samples; 2.0 s were found"]


@pytest.mark.parametrize(
    "behind", [b"", b"LIST" + struct.pack("<I", 5) + b"words\0"], ids=["nothing", "a list of words"]
)
def test_a_wav_without_samples_is_empty_whatever_else_it_holds(behind):
    with pytest.raises(AudioReadError, match="holds no samples"):
        EXTRACTOR.read_audio(with_wav_sizes(sound_file()[:44], 36 + len(behind), 0) + behind)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_flac_from_a_pipe_gives_the_samples_that_are_whole_and_a_note(share):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)
    flac = with_flac_total(sound_file(samples, "FLAC"), 0)
    found, notes = read(flac[: int(share * len(flac))])
    assert share * 0.75 * len(samples) < len(found) <= share * len(samples)
    np.testing.assert_allclose(found, samples[: len(found)], atol=1e-4)
    assert notes == [f"the header says 0 samples; {len(found) / RATE:.1f} s were found"]


def test_a_file_that_is_shorter_than_its_header_says_gets_a_note_and_a_whole_one_none():
    assert read(bytes(sound_file()[:20_044])) == (
        pytest.approx(TONE[:10_000], abs=1e-4),
        ["the header says 2.0 s; 0.6 s were found"],
    )
    for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU"):
        assert read(bytes(sound_file(kind=kind)))[1] == []
    streamed = with_wav_sizes(sound_file(), 0xFFFF_FFFF, 0xFFFF_FFFF)  # FFmpeg's, to a pipe
    assert read(streamed)[1] == []


# Names, pipes and errors


def test_what_a_file_is_says_its_contents_and_not_its_name(tmp_path):
    (tmp_path / "sound.raw").write_bytes(sound_file())
    np.testing.assert_array_equal(read(tmp_path / "sound.raw")[0], read(bytes(sound_file()))[0])
    (tmp_path / "samples.raw").write_bytes(sound_file()[44:])
    with pytest.raises(AudioReadError, match=r"samples\.raw: cannot be read as audio"):
        read(tmp_path / "samples.raw")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_in_latin_1_is_read_and_can_be_printed_in_an_error(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    Path(path).write_bytes(sound_file())
    assert len(read(path)[0]) == len(TONE)
    with pytest.raises(AudioReadError) as error:
        read(path + "x")
    assert str(error.value).encode().endswith(rb"/caf\xe9.wavx: no such file.")


def test_an_open_file_is_read_from_its_start_and_a_pipe_to_its_end(tmp_path):
    expected, (from_pipe, to_pipe) = read(bytes(sound_file()))[0], os.pipe()
    (tmp_path / "sound.wav").write_bytes(sound_file())
    with open(tmp_path / "sound.wav", "rb") as file:
        file.read(100)
        np.testing.assert_array_equal(read(file)[0], expected)
    with open(to_pipe, "wb") as writer, open(from_pipe, "rb") as reader:
        writer.write(sound_file()[:60_000])  # a pipe holds 64 kB
        writer.close()
        np.testing.assert_array_equal(read(reader)[0], expected[: len(read(bytes(sound_file()[:60_000]))[0])])


class _Failing(io.BytesIO):
    """A file whose reading fails, as on a broken disk or with no memory left."""

    def __init__(self, error: Exception):
        super().__init__(sound_file())
        self.error = error
        self.name = "disk/failing.wav"

    def read(self, *_):
        raise self.error


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyError("x"), OSError(5, "I/O error"), RecursionError("deep")], ids=repr
)
def test_whatever_fails_in_a_reader_is_an_error_that_names_the_file(error):
    with pytest.raises(AudioReadError, match=r"disk/failing\.wav: cannot be read as audio"):
        read(_Failing(error))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a page of HTML or XML, not a sound"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "Format not recognised"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "Format not recognised"),
        (io.StringIO("sound"), 'opened as text; open it with mode "rb"'),
        (3.5, "type float, expected a path, bytes or a binary file"),
        (Path("."), "directory"),
    ],
    ids=["a web page", "a playlist", "a list of files", "a text file", "a number", "a folder"],
)
def test_what_is_no_sound_is_refused_in_a_sentence(source, said):
    with pytest.raises(AudioReadError, match=f"cannot be read as audio .*{said}") as error:
        read(source)
    assert "object at 0x" not in str(error.value)


# Limits


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused_in_a_file_as_in_an_array(rate):
    wav = sound_file()
    wav[24:28] = struct.pack("<I", rate)
    with pytest.raises(AudioReadError, match=f"sampling_rate={rate}: expected 1,000 to 1,000,000 Hz"):
        read(bytes(wav))
    with pytest.raises(ValueError, match=f"sampling_rate={rate}: expected 1,000 to 1,000,000 Hz"):
        list(EXTRACTOR.resample([TONE], rate))


def test_a_sound_that_is_too_long_is_refused_by_its_header_or_where_it_goes_beyond(monkeypatch):
    years = with_flac_total(sound_file(kind="FLAC"), 2**36 - 1)
    with pytest.raises(AudioReadError, match="it is too long: 1193.0 hours or more of 1 channels at 16000 Hz"):
        next(EXTRACTOR.stream_audio(years))
    unknown = with_flac_total(sound_file(kind="FLAC"), 0)
    monkeypatch.setattr(sounds_attention_asd, "MAX_SECONDS", 1)
    with pytest.raises(AudioReadError, match="it is too long"):
        read(unknown)
    monkeypatch.undo()
    monkeypatch.setattr(sounds_attention_asd, "MAX_SAMPLES", 3 * RATE)  # over all channels
    assert len(read(unknown)[0]) == len(TONE)
    with pytest.raises(AudioReadError, match="it is too long: 0.0 hours or more of 2 channels"):
        read(bytes(sound_file(np.stack([TONE, TONE], 1))))


def test_a_long_recording_is_refused_at_once_and_read_block_by_block(monkeypatch):
    monkeypatch.setattr(feature_extraction_attention_asd, "MAX_SECONDS_AT_ONCE", 60)
    long = bytes(sound_file(np.zeros(90 * RATE, np.float32), "FLAC"))
    for read_whole in (EXTRACTOR.read_audio, EXTRACTOR.read_clip):
        with pytest.raises(
            AudioReadError, match="audio data: longer than .* Cut the recording, or read it block by block"
        ):
            read_whole(long)
    assert len(read(long)[0]) == 90 * RATE


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.full(1000, 3e38, np.float32), "up to 3e.38"),
        (20_000 * TONE, r"up to 1e\+04.* 16-bit units.* divide by 32768"),
        (np.full(1000, np.inf, np.float32), "1000 samples of 1000 that|1000 samples of 1000 are not finite"),
    ],
    ids=["near the largest float", "16-bit units", "infinite"],
)
def test_float_samples_that_are_no_sound_are_refused_before_they_are_resampled(samples, said, rate):
    with pytest.raises(AudioReadError, match=said):
        read(bytes(sound_file(samples, rate=rate, subtype="FLOAT")))
    with pytest.raises(ValueError, match=said):
        EXTRACTOR(samples)


def test_white_noise_and_overdriven_floats_are_taken():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert EXTRACTOR(noise)["input_values"].abs().max() > 3
    assert np.abs(read(bytes(sound_file(noise, subtype="FLOAT")))[0]).max() == 1.0


# Phones and browsers

SUFFIXES = {"m4a": "aac", "mp4": "aac", "aac": "aac", "webm": "libopus", "mka": "aac", "wma": "wmav2", "3gp": "aac"}
SUFFIXES["amr"] = "libopencore_amrnb"


def phone_file(folder: Path, suffix: str) -> Path:
    """Let PyAV write the tone; FFmpeg knows the format by the suffix."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    codec, path = SUFFIXES[suffix], folder / f"phone.{suffix}"
    rate = {"libopus": 48_000, "libopencore_amrnb": 8_000}.get(codec, 44_100)
    samples = (16_000 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)).astype(np.int16)
    options = {"format": {"aac": "adts", "wma": "asf", "mka": "matroska", "m4a": "ipod"}.get(suffix, suffix)}
    with av.open(path, "w", **options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if suffix == "wma":  # the others have a default
            stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_phones_and_browsers_record_is_read_as_the_sound_that_it_is(tmp_path, suffix):
    path = phone_file(tmp_path, suffix)
    samples, notes = read(path)
    assert abs(len(samples) / RATE - 2) < 0.15 and notes == []
    middle = samples[RATE // 2 : RATE // 2 + RATE]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    assert middle.std() == pytest.approx(16_000 / 2**15 / 2**0.5, rel=0.2)
    np.testing.assert_array_equal(read(path.read_bytes())[0], samples)
    assert path.suffix in AUDIO_SUFFIXES


@pytest.mark.parametrize("suffix", ["m4a", "webm", "wma"])
def test_a_phones_file_that_was_cut_off_is_refused_or_has_a_note(tmp_path, suffix):
    path = phone_file(tmp_path, suffix)
    data = path.read_bytes()
    try:
        _, notes = read(data[: len(data) // 2])
    except AudioReadError:
        return
    assert len(notes) == 1 and notes[0].startswith("the header says 2.")


@pytest.mark.parametrize(("suffix", "codec", "layout"), [("m4a", "aac", "7.1"), ("mka", "pcm_s32le", "hexadecagonal")])
def test_a_file_of_many_channels_is_read_or_refused_and_ends_no_process(tmp_path, suffix, codec, layout):
    """FFmpeg has planes for eight channels, and PyAV looked for a ninth."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    path, channels = tmp_path / f"many.{suffix}", av.AudioLayout(layout).nb_channels
    with av.open(path, "w", format={"m4a": "ipod", "mka": "matroska"}[suffix]) as container:
        stream = container.add_stream(codec, rate=48_000, layout=layout)
        samples = (16_000 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(samples, channels)[None], format="s16", layout=layout)
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    if channels > 8:
        with pytest.raises(AudioReadError, match=r"many\.mka: .*it has 16 channels; .* up to 8 can be read"):
            read(path)
        return
    samples, notes = read(path)
    assert samples[RATE // 4 : RATE // 2].std() == pytest.approx(16_000 / 2**15 / 2**0.5, rel=0.2) and notes == []


def test_without_pyav_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioReadError, match=r"audio data: AAC, M4A, .* pip install 'attention-asd\[audio\]'"):
        read(b"\0\0\0\x1cftypM4A \0\0\2\0")


def test_a_video_without_sound_is_refused(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    with av.open(tmp_path / "silent.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with pytest.raises(AudioReadError, match=r"silent\.mp4: .*there is no sound in it"):
        read(tmp_path / "silent.mp4")
