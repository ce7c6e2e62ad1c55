"""The feature extractor: log-mel, clips and windows, files and arrays, and their errors."""

import io

import numpy as np
import pytest
import soundfile
import torch

from feature_extraction import AttentionAsdFeatureExtractor, AudioReadError


RATE = 16_000


@pytest.fixture
def extractor():
    return AttentionAsdFeatureExtractor()


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_a_clip_becomes_waveform_and_log_mel_of_the_documented_shapes(extractor, noise):
    inputs = extractor(noise(1, 160_000)[0], sampling_rate=RATE)
    assert inputs["input_values"].shape == (1, 160_000)
    assert inputs["input_features"].shape == (1, 128, 313)
    assert inputs["input_features"].dtype == torch.float32


def test_the_log_mel_is_ten_log10_of_a_slaney_normed_htk_mel_power(extractor, noise):
    """Computed a second time in float64 from the definition."""
    waveform = noise(1, 160_000)[0].double().numpy()
    padded = np.pad(waveform, 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::512]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 130) / 2595) - 1)
    hertz = np.linspace(0, 8000, 513)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    expected = 10 * np.log10(power @ filters + 1e-8).T
    computed = extractor.log_mel(torch.from_numpy(waveform).float())
    assert np.abs(computed.numpy() - expected).max() < 0.01


def test_a_tone_is_loudest_at_its_own_mel_frequency(extractor):
    log_mel = extractor(tone(1000, 10), sampling_rate=RATE)["input_features"][0]
    assert extractor.mel_frequencies[int(log_mel.mean(1).argmax())] == pytest.approx(1000, rel=0.03)


def test_silence_is_at_the_floor(extractor):
    inputs = extractor(np.zeros(160_000, np.float32), sampling_rate=RATE)
    assert torch.allclose(inputs["input_features"], torch.tensor(-80.0))


def test_batches_equal_single_clips_whatever_form_they_come_in(extractor, noise):
    clips = noise(3, 160_000)
    single = [extractor(clip, sampling_rate=RATE)["input_features"][0] for clip in clips]
    as_tensors = extractor(list(clips), sampling_rate=RATE)["input_features"]
    as_arrays = extractor([clip.numpy() for clip in clips], sampling_rate=RATE)["input_features"]
    as_lists = extractor(clips[0, :2000].tolist(), sampling_rate=RATE)["input_features"]
    torch.testing.assert_close(as_tensors, torch.stack(single))
    torch.testing.assert_close(as_arrays, as_tensors)
    torch.testing.assert_close(as_lists[0], extractor(clips[0, :2000], sampling_rate=RATE)["input_features"][0])


@pytest.mark.parametrize(("dtype", "full_scale"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integers_are_scaled_by_their_full_scale(extractor, dtype, full_scale):
    samples = (tone(300, 10).astype(np.float64) * full_scale).astype(dtype)
    values = extractor(samples, sampling_rate=RATE)["input_values"]
    torch.testing.assert_close(values[0].numpy(), tone(300, 10), atol=1e-4, rtol=0)


def test_a_short_clip_is_repeated_or_filled_with_zeros():
    clip = tone(440, 0.2)
    repeated = AttentionAsdFeatureExtractor()(clip, sampling_rate=RATE)["input_values"][0]
    filled = AttentionAsdFeatureExtractor(short_clips="zeros")(clip, sampling_rate=RATE)["input_values"][0]
    assert torch.equal(repeated[:3200], repeated[3200:6400]) and repeated.shape == (160_000,)
    assert torch.equal(filled[:3200], repeated[:3200]) and not filled[3200:].any()


def test_a_long_recording_is_cut_or_split_into_windows_that_cover_it(extractor, noise):
    recording = noise(1, 25 * RATE)[0]
    cut = extractor(recording, sampling_rate=RATE)
    assert torch.equal(cut["input_values"][0], recording[:160_000])
    split = extractor([recording, recording[:8000]], sampling_rate=RATE, split=True)
    assert split["start_seconds"].tolist() == [0.0, 10.0, 15.0, 0.0]
    assert split["clip_index"].tolist() == [0, 0, 0, 1]
    assert torch.equal(split["input_values"][2], recording[-160_000:])


@pytest.mark.parametrize("samples", [1, 999, 1000, 1001, 1999, 2000, 2001, 4300])
@pytest.mark.parametrize("block", [1, 300, 1000, 5000])
def test_windows_of_a_stream_follow_each_other_and_the_last_ends_with_it(samples, block):
    extractor = AttentionAsdFeatureExtractor(clip_length=1000)
    signal = np.arange(samples, dtype=np.float32)
    windows = list(extractor.cut_windows(signal[i : i + block] for i in range(0, samples, block)))
    last = max(samples - 1000, 0)
    assert [start for start, _ in windows] == [*range(0, last, 1000), last]
    for start, window in windows:
        np.testing.assert_array_equal(window, signal[start : start + 1000])


def test_eight_channels_give_the_first_or_their_mean(noise):
    channels = noise(8, 160_000)
    first = AttentionAsdFeatureExtractor()(channels, sampling_rate=RATE)["input_values"]
    transposed = AttentionAsdFeatureExtractor()(channels.T.numpy(), sampling_rate=RATE)["input_values"]
    mean = AttentionAsdFeatureExtractor(channels="mean")(channels, sampling_rate=RATE)["input_values"]
    assert torch.equal(first[0], channels[0]) and torch.equal(transposed[0], channels[0])
    torch.testing.assert_close(mean[0], channels.mean(0))


@pytest.mark.parametrize(
    ("audio", "rate", "complaint"),
    [
        (np.zeros(160_000, np.float32), 44_100, "sampling_rate=44100"),
        (np.zeros(0, np.float32), RATE, "empty"),
        (np.zeros((0, 0), np.float32), RATE, "empty"),
        ([], RATE, "empty list"),
        (np.array([0.0, np.nan, np.inf], np.float32), RATE, "2 samples of 3"),
        (np.zeros((2, 2, 100), np.float32), RATE, "3 dimensions"),
        (np.zeros(100, np.int64), RATE, "int64"),
        ("machine.wav", RATE, "read_audio"),
        (None, RATE, "NoneType"),
        (np.zeros((100, 200), np.float32), RATE, "100 channels"),
    ],
    ids=[
        "rate",
        "no samples",
        "no channels",
        "no clips",
        "not finite",
        "three dimensions",
        "int64",
        "a path",
        "None",
        "a batch as array",
    ],
)
def test_bad_input_is_refused_with_its_value(extractor, audio, rate, complaint):
    with pytest.raises(ValueError, match=complaint):
        extractor(audio, sampling_rate=rate)


def test_a_file_of_any_rate_and_channels_is_read_at_the_models_rate(extractor, tmp_path):
    stereo = np.stack([tone(1000, 3, 44_100), np.zeros(3 * 44_100, np.float32)], 1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 44_100)
    waveform = extractor.read_audio(tmp_path / "stereo.wav")
    assert waveform.dtype == np.float32 and abs(len(waveform) - 3 * RATE) <= 1
    assert np.abs(waveform[2000:40_000] - tone(1000, 3)[2000:40_000]).max() < 0.01
    assert np.array_equal(extractor.read_audio((tmp_path / "stereo.wav").read_bytes()), waveform)
    with open(tmp_path / "stereo.wav", "rb") as file:
        assert np.array_equal(extractor.read_audio(file), waveform)


@pytest.mark.parametrize(("suffix", "options"), [("flac", {}), ("ogg", {}), ("mp3", {})])
def test_compressed_files_are_read_without_ffmpeg(extractor, tmp_path, suffix, options):
    soundfile.write(tmp_path / f"clip.{suffix}", tone(500, 2), RATE, **options)
    waveform = extractor.read_audio(tmp_path / f"clip.{suffix}")
    spectrum = np.abs(np.fft.rfft(waveform[:RATE]))
    assert spectrum.argmax() == 500


def test_streaming_gives_the_same_samples_as_reading(extractor, tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(440, 7, 22_050), 22_050)
    blocks = list(extractor.stream_audio(tmp_path / "long.wav", block_seconds=1.0))
    assert len(blocks) > 5
    whole = extractor.read_audio(tmp_path / "long.wav")
    assert np.allclose(np.concatenate(blocks), whole, atol=1e-6)


def bad_files() -> dict[str, bytes]:
    not_finite = io.BytesIO()
    soundfile.write(not_finite, np.array([0.0, np.nan], np.float32), RATE, format="WAV", subtype="FLOAT")
    no_samples = io.BytesIO()
    soundfile.write(no_samples, np.zeros(0, np.float32), RATE, format="WAV")
    return {
        "empty": b"",
        "text": b"this is no sound\n" * 50,
        "NaN": not_finite.getvalue(),
        "no samples": no_samples.getvalue(),
    }


@pytest.mark.parametrize("kind", ["empty", "text", "NaN", "no samples"])
def test_a_file_that_is_no_sound_is_refused_by_its_name(extractor, tmp_path, kind):
    path = tmp_path / "broken.wav"
    path.write_bytes(bad_files()[kind])
    with pytest.raises(AudioReadError, match=r"broken\.wav"):
        extractor.read_audio(path)


def test_a_missing_file_is_named(extractor, tmp_path):
    with pytest.raises(AudioReadError, match=r"gone\.wav: no such file"):
        extractor.read_audio(tmp_path / "gone.wav")


def test_every_constant_is_saved_and_loaded(tmp_path):
    made = AttentionAsdFeatureExtractor(clip_length=32_000, short_clips="zeros", channels="mean", mel_floor=1e-6)
    made.log_mel(torch.zeros(32_000))
    made.save_pretrained(tmp_path)
    loaded = AttentionAsdFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == made.to_dict()
    assert {
        "clip_length": 32_000,
        "short_clips": "zeros",
        "channels": "mean",
        "mel_floor": 1e-6,
    }.items() <= loaded.to_dict().items()


def test_the_log_mel_exports_with_a_dynamic_batch(noise):
    extractor = AttentionAsdFeatureExtractor(clip_length=16_000)

    class LogMel(torch.nn.Module):
        def forward(self, waveform):
            return extractor.log_mel(waveform)

    batch = torch.export.Dim("batch")
    program = torch.export.export(LogMel(), (noise(2),), dynamic_shapes={"waveform": {0: batch}})
    exported = program.module()
    torch.testing.assert_close(exported(noise(5)), extractor.log_mel(noise(5)))


def test_official_toycar_log_mels_are_reproduced_up_to_their_mel_scale(shared_data, extractor):
    """The official log-mels use librosa's Slaney scale: with it, this function gives the same levels."""
    official = np.load(shared_data / "toycar_log_mel" / "test.npz")
    clips = {path.name: path for path in (shared_data / "machine_clips" / "ToyCar" / "test").glob("*.wav")}
    common = [row for row, name in enumerate(official["filename"]) if str(name) in clips]
    if not common:
        pytest.skip("no clip is in both folders")
    extractor = AttentionAsdFeatureExtractor(mel_scale="slaney", mel_floor=1e-10, clip_length=176_000)
    for row in common:
        waveform = extractor.read_audio(clips[str(official["filename"][row])])
        log_mel = extractor.log_mel(torch.from_numpy(waveform))[:, 50:250].numpy()
        assert np.abs(log_mel - official["log_mel"][row].astype(np.float32)).max() < 0.1
