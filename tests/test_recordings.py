"""Recordings in every form: the same samples, in memory that does not grow, and errors that name them."""

import asyncio
import io
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_detector import RATE, machine_sound
from sound_server import sound_server

from feature_extraction import AttentionAsdFeatureExtractor
from modeling.downloads_attention_asd import download
from modeling.recordings_attention_asd import open_recording


EXTRACTOR = AttentionAsdFeatureExtractor(clip_length=RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings")
    soundfile.write(path / "normal.wav", machine_sound(220.0, 1000), RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def server(folder):
    with sound_server(folder) as serving:
        yield serving.url


class Decoder:
    """In the place of torchcodec's `AudioDecoder`, which is what rows of `datasets` hold: it needs FFmpeg installed."""

    def __init__(self, waveform: np.ndarray, sampling_rate: int):
        self.samples = SimpleNamespace(data=torch.from_numpy(waveform)[None], sample_rate=sampling_rate)

    def get_all_samples(self):
        return self.samples


def samples_of(source) -> np.ndarray:
    recording = open_recording(source, EXTRACTOR)
    return np.concatenate([window for _, window in recording.windows()])


def test_every_form_of_a_recording_has_the_same_samples(folder, server):
    waveform = machine_sound(220.0, 1000)
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, format="WAV", subtype="FLOAT")
    for form in (
        folder / "normal.wav",
        str(folder / "normal.wav"),
        f"{server}/normal.wav",
        f"{server}/moved.wav",
        buffer.getvalue(),
        bytearray(buffer.getvalue()),
        waveform,
        waveform.tolist(),
        torch.from_numpy(waveform),
        np.stack([waveform, 0 * waveform]),
        np.stack([waveform, 0 * waveform], axis=1),
        {"raw": waveform, "sampling_rate": RATE},
        {"array": waveform, "sampling_rate": RATE, "path": None},
        {"audio": {"array": waveform, "sampling_rate": RATE}, "label": 3},
        {"path": "normal.wav", "bytes": buffer.getvalue()},
        {"path": str(folder / "normal.wav"), "bytes": None},
        {"path": str(folder / "normal.wav"), "machine_type": "fan", "split": "test"},
        (RATE, waveform),
        buffer,
        (folder / "normal.wav").open("rb"),
        Decoder(waveform, RATE),
        {"audio": Decoder(waveform, RATE)},
        waveform[::-1].copy()[::-1],
        waveform.astype(">f4"),
        np.asfortranarray(np.stack([waveform, 0 * waveform])),
        torch.from_numpy(waveform).requires_grad_(),
        torch.from_numpy(waveform).double(),
    ):
        np.testing.assert_array_equal(samples_of(form), waveform)


def test_half_precision_and_integers_are_the_same_sound_within_their_steps():
    waveform = machine_sound(220.0, 1000)
    for form, step in (
        (waveform.astype(np.float16), 2.0**-11),
        (torch.from_numpy(waveform).bfloat16(), 2.0**-8),
        ((waveform * 2**15).astype(np.int16), 2.0**-15),
        ((waveform * 2.0**31).astype(">i4"), 2.0**-24),
    ):
        np.testing.assert_allclose(samples_of(form), waveform, atol=step)
        np.testing.assert_allclose(EXTRACTOR(form)["input_values"][0], waveform, atol=step)


def test_rows_and_decoders_go_into_the_feature_extractor_at_its_rate_alone():
    waveform = machine_sound(220.0, 1000)
    row = {"array": waveform, "sampling_rate": RATE, "path": "normal.wav"}
    forms: list[Any] = [
        row,
        Decoder(waveform, RATE),
        (RATE, waveform),
        waveform.astype(">f8"),
        waveform[::-1].copy()[::-1],
    ]
    for form in forms:
        assert torch.equal(EXTRACTOR(form)["input_values"][0], torch.from_numpy(waveform))
    assert EXTRACTOR([row, row])["input_values"].shape == (2, RATE)
    others: list[Any] = [{**row, "sampling_rate": 8000}, Decoder(waveform, 8000), (8000, waveform)]
    for form in others:
        with pytest.raises(ValueError, match="a sampling rate of 8000 Hz: expected 16000 Hz. Resample the recording"):
            EXTRACTOR(form)


def test_array_at_another_rate_is_resampled_as_its_file_is(tmp_path):
    times = np.arange(2 * 44_100) / 44_100
    sound = 0.1 * np.sin(2 * np.pi * 220.0 * times).astype(np.float32)
    soundfile.write(tmp_path / "cd.wav", np.stack([sound] * 8, axis=1), 44_100, subtype="FLOAT")
    from_file = samples_of(tmp_path / "cd.wav")
    assert len(from_file) == pytest.approx(2 * RATE, abs=RATE * 0.01)
    np.testing.assert_array_equal(samples_of({"raw": np.stack([sound] * 8), "sampling_rate": 44_100}), from_file)


def test_a_window_can_be_read_again():
    recording = open_recording(machine_sound(220.0, 3, seconds=3.5), EXTRACTOR)
    windows = [window for _, window in recording.windows()]
    assert len(windows) == 4
    np.testing.assert_array_equal(recording.window(2), windows[2])


def test_long_recording_is_read_in_constant_memory(tmp_path):
    """Python's and NumPy's memory: ten times the length may not need twice the peak."""
    peaks = []
    for seconds in (130, 1300):
        with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1, "PCM_16") as file:
            for part in range(seconds // 10):
                file.write(machine_sound(220.0, part, seconds=10.0))
        recording = open_recording(tmp_path / "long.wav", EXTRACTOR)
        tracemalloc.start()
        count = sum(1 for _ in recording.windows())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == seconds
    assert peaks[1] < 1.5 * peaks[0]


def test_many_channels_at_a_high_rate_take_no_more_memory(tmp_path):
    """5 s of 8 channels at the highest rate that FLAC has are 105 MB of float32."""
    rate = 655_350
    with soundfile.SoundFile(tmp_path / "high.flac", "w", rate, 8, "PCM_16") as file:
        for _ in range(5):
            file.write(np.zeros((rate, 8), np.int16))
    tracemalloc.start()
    assert sum(map(len, EXTRACTOR.stream_audio(tmp_path / "high.flac"))) == 5 * RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ("missing.wav", "missing.wav: no such file"),
        (b"", "audio data: cannot be read"),
        (b"not a sound", "audio data: cannot be read"),
        (np.array([]), "empty"),
        (np.full(RATE, np.nan), "not finite"),
        (np.zeros((2, 3, 4)), "3 dimensions"),
        ({"raw": np.zeros(5)}, "'sampling_rate'"),
        ({"raw": np.zeros(5), "sampling_rate": 0}, "1,000 to 1,000,000"),
        ({"raw": [0.1], "sampling_rate": 1_000_000}, "audio array: is empty at the model's sampling rate"),
        (3.5, "type float"),
        ({"path": None, "bytes": None}, "the keys .'bytes', 'path'.: expected 'raw'"),
        ({"path": "row.wav", "bytes": b"no sound"}, "^row.wav: cannot be read"),
        ((0, np.zeros(5)), "1,000 to 1,000,000"),
        (np.array(["a", "b"]), "no array of numbers"),
        (np.full(RATE, 900.0), "up to 900: expected floats in .-1, 1.. If they are in 16-bit units, divide by 32768"),
        ("ftp://127.0.0.1/x.wav", "expected an http or https URL"),
        ("file:///etc/hostname", "expected an http or https URL"),
    ],
)
def test_bad_recording_is_an_error_that_names_it(recording, message):
    with pytest.raises(ValueError, match=message):
        samples_of(recording)


@pytest.mark.parametrize("path", ["/missing.wav", "/to-file", "/to-ftp", "/for-ever"])
def test_what_no_server_should_answer_is_an_error_that_says_what_to_do(server, path):
    with pytest.raises(ValueError, match=rf"{server}{path}: cannot be downloaded \(.+\). Download it yourself"):
        download(server + path)


@pytest.mark.parametrize("url", ["http://", "http://[", "http://127.0.0.1:1/x.wav", "https://127.0.0.1:99999/x.wav"])
def test_an_address_without_a_server_is_an_error_that_names_it(url):
    with pytest.raises(ValueError) as error:
        download(url)
    assert f"{url}: cannot be downloaded (" in str(error.value)


def test_a_page_that_is_no_sound_is_named_by_its_address(server):
    with pytest.raises(ValueError, match=f"{server}/: cannot be read as audio"):
        samples_of(f"{server}/")


def test_a_download_has_a_largest_size_and_a_longest_time(server):
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        download(f"{server}/normal.wav", max_bytes=1000)
    start = time.monotonic()
    with pytest.raises(ValueError, match="/drip.wav: cannot be downloaded .it took longer than 0.5 s"):
        download(f"{server}/drip.wav", max_seconds=0.5)
    with pytest.raises(ValueError, match="/drip-header.wav: cannot be downloaded .it took longer than 0.5 s"):
        download(f"{server}/drip-header.wav", max_seconds=0.5)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("share", [10, 50, 90])
def test_a_download_that_is_cut_off_is_an_error(server, share):
    with pytest.raises(ValueError, match=f"/cut/{share}: cannot be downloaded .*Download it yourself"):
        download(f"{server}/cut/{share}")
    with pytest.raises(
        ValueError, match=f"/cut-without-length/{share}: .*it was cut off: the header says 1.0 s; 0.{share // 10} s"
    ):
        samples_of(f"{server}/cut-without-length/{share}")
    assert len(samples_of(f"{server}/cut-without-length/100")) == RATE


def test_errors_about_an_address_keep_its_signature_secret(server):
    for path in ("/missing.wav", "/normal.wav.txt", "/page", "/for-ever"):
        address = f"{server.replace('//', '//user:secret@')}{path}?signature=secret#secret"
        with pytest.raises(ValueError, match=f"^{server}{path}: ") as error:
            samples_of(address)
        assert "secret" not in str(error.value)


def test_a_page_in_the_place_of_a_sound_is_said_to_be_one(server):
    with pytest.raises(
        ValueError, match=r"/page: cannot be read as audio \(it is a page of HTML or XML, not a sound\)"
    ):
        samples_of(f"{server}/page")


def test_a_download_works_where_an_event_loop_runs_as_in_a_notebook(server, folder):
    async def cell() -> bytes:
        return download(f"{server}/normal.wav")

    assert asyncio.run(cell()) == (folder / "normal.wav").read_bytes()
