"""The Space, used as people use it: in a real Chromium, from a copy of `space/` alone."""

import base64
import copy
import csv
import functools
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_detector import RATE, machine_sound, small_pipeline
from space_app import MEASURED, until
from space_browser import (
    TABS,
    answer,
    choose_machine,
    colors,
    give,
    in_both_themes,
    is_dark,
    open_tab,
    panel,
    serious_faults,
    verdict,
)
from space_server import SPACE


pytest_plugins = ["space_app", "space_browser"]
pytest.importorskip("gradio", reason="needs gradio: pip install -e .[space]")


# Listen


def test_a_dropped_sound_gets_the_pipelines_verdict_its_reason_and_pictures(visit, sounds, detect):
    page = visit()
    choose_machine(page)
    give(page, sounds / "faulty.wav")
    panel(page).locator(".asd-verdict").wait_for()
    expected = detect(str(sounds / "faulty.wav"), machine="fan_id_00")
    assert expected["verdict"] == "anomalous" and verdict(page) == "Anomalous"
    assert answer(page) == json.loads(json.dumps(expected))
    card = panel(page).locator(".asd-card").inner_text()
    assert panel(page).inner_text().count(expected["reason"]) == 1 and "fan_id_00" in card and "1 in 100" in card
    picture = panel(page).locator(".asd-row").first.bounding_box()
    assert page.evaluate("scrollY") == 0 and picture["y"] + picture["height"] <= 900  # the first screen has a picture
    assert panel(page).locator(".asd-regions li").count() == len(expected["regions"])
    titles = panel(page).locator(".asd-row strong")
    assert titles.all_text_contents() == [
        *("Difference from normal", "Log-mel", "Waveform", "Wavegram"),
        *("Attention on the log-mel", "Attention on the Wavegram"),
    ]
    assert not titles.nth(4).is_visible()  # one click away
    panel(page).get_by_text("For researchers").click()
    until(lambda: all(colors(page, index) > 30 for index in (0, 1, 3, 4, 5)))


def test_hovering_reads_time_frequency_and_level_off_the_log_mel(visit, sounds, detect):
    page = visit()
    give(page, sounds / "normal.wav")
    log_mel = panel(page).locator(".asd-over").nth(1)
    log_mel.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = log_mel.bounding_box()
    left, right = 58, 12  # the picture's margins
    place = {"x": box["x"] + left + 0.5 * (box["width"] - left - right), "y": box["y"] + 0.5 * box["height"]}
    page.mouse.move(place["x"], place["y"])
    panel(page).locator(".asd-tip span").first.wait_for()
    time_read, frequency, level, _ = panel(page).locator(".asd-tip span").all_inner_texts()
    assert time_read == "0.50 s"
    centers = detect.feature_extractor.mel_frequencies
    hertz = float(frequency.split()[0]) * (1000 if "kHz" in frequency else 1)
    index = int(np.abs(centers - hertz).argmin())
    assert 61 <= index <= 66  # half-way up
    waveform = detect.feature_extractor.read_audio(sounds / "normal.wav")
    log_mels = detect.feature_extractor(waveform, sampling_rate=RATE)["input_features"][0]
    nearby = log_mels[index - 2 : index + 3, 14:19]
    assert nearby.min() - 2 <= float(level.removesuffix(" dB")) <= nearby.max() + 2


def test_pictures_are_told_in_words_and_read_with_the_arrow_keys(visit, sounds):
    page = visit()
    choose_machine(page)
    give(page, sounds / "faulty.wav")
    panel(page).locator(".asd-verdict").wait_for()
    told = panel(page).locator(".asd-plot canvas[role=img]").first.get_attribute("aria-label")
    assert re.search(r"highest with \d+ dB at [\d.]+ k?Hz", told) and "Region 1:" in told
    picture = panel(page).locator(".asd-over").nth(1)
    picture.focus()
    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    read = panel(page).locator(".asd-tip span").all_inner_texts()
    assert read[0] == "0.11 s" and "Hz" in read[1] and read[2].endswith("dB")
    page.keyboard.press("Escape")
    assert not panel(page).locator(".asd-tip").is_visible()
    page.get_by_role("tab", name="Listen").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("tab", name="Live", selected=True).wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("tab", name="Listen", selected=True).wait_for()


def test_what_alarmed_is_played_in_its_band_and_one_sound_at_a_time(visit, sounds):
    page = visit()
    choose_machine(page)
    give(page, sounds / "faulty.wav")
    panel(page).locator(".asd-regions li").first.wait_for()
    # What is heard: the sum of what the page sends to the loudspeaker, by a spectrum analyzer in its place.
    page.evaluate("""() => {
      const connect = GainNode.prototype.connect;
      GainNode.prototype.connect = function (to) {
        if (to === this.context.destination) {
          window.heard = new AnalyserNode(this.context, { fftSize: 4096, smoothingTimeConstant: 0.9 });
          connect.call(this, window.heard);
        }
        return connect.call(this, to);
      };
      const start = AudioBufferSourceNode.prototype.start;
      window.started = [];
      AudioBufferSourceNode.prototype.start = function (...when) {
        started.push([this.loop, this.playbackRate.value]);
        start.apply(this, when);
      };
    }""")
    region = answer(page)["regions"][0]
    play = panel(page).locator(".asd-regions li").first.get_by_role("button", name="Play")
    play.click()
    page.wait_for_timeout(800)
    levels, rate = page.evaluate("""() => {
      const levels = new Float32Array(heard.frequencyBinCount);
      heard.getFloatFrequencyData(levels);
      return [[...levels], heard.context.sampleRate];
    }""")
    hertz = np.arange(len(levels)) * rate / 4096
    inside = (hertz >= region["low_hz"]) & (hertz <= region["high_hz"])
    far = (hertz > 20) & ((hertz < region["low_hz"] / 4) | (hertz > region["high_hz"] * 4)) & (hertz < 8000)
    assert np.max(np.array(levels)[inside]) > -80
    assert not far.any() or np.mean(np.array(levels)[inside]) > np.mean(np.array(levels)[far]) + 10
    panel(page).locator(".asd-regions li").first.get_by_role("button", name="At its normal level").click()
    assert [text for text in panel(page).locator(".asd-regions button").all_inner_texts() if "Stop" in text] == [
        "■ Stop"
    ]
    panel(page).get_by_label("At half speed").check()
    assert panel(page).get_by_text("Stop").count() == 0
    play.click()
    assert page.evaluate("started") == [[True, 1], [True, 1], [True, 0.5]]


def test_boxes_of_regions_never_hide_their_numbers_and_a_click_on_one_plays_it(visit):
    page = visit()
    region = {"low_hz": 500.0, "high_hz": 2000.0, "level_db": 9.0, "intervals_s": []}
    regions = [{**region, "start_s": 0.2, "end_s": 0.6}, {**region, "start_s": 0.215, "end_s": 0.9}]
    layer = {"rows": 64, "frames": 32, "low": 0, "high": 1, "unit": "dB", "axis": "hertz"}
    layer["cells"] = base64.b64encode(bytes([255]) * 64 * 32).decode()
    samples = base64.b64encode(np.zeros(RATE, "<i2").tobytes()).decode()
    view = {"start_s": 0.0, "rate": RATE, "hop_s": 1 / 31, "samples": samples, "peak": 1, "layers": {"log_mel": layer}}
    view |= {"mel_hz": np.geomspace(50, 8000, 64).tolist(), "normal_db": None}
    result = {"verdict": "anomalous", "score": 2.0, "threshold": 1.0, "p_value": 7.8e-11, "false_alarm_rate": 0.01}
    result |= {"machine": "fan", "predicted_machine": "fan", "backend": "nearest", "note": None, "reason": None}
    result |= {"duration_s": 1.0, "windows": [], "regions": regions, "similarity": 1.0, "method": None}
    payload = {"name": "two.wav", "typical": 0.5, "chosen": 0, "result": result, "view": view}
    # Every point of the ring of radius 7.5 around the first number is black, though the second box goes through there.
    page.evaluate("""() => {
      const arc = CanvasRenderingContext2D.prototype.arc;
      window.badges = [];
      CanvasRenderingContext2D.prototype.arc = function (x, y, ...rest) { badges.push([x, y]); arc.call(this, x, y, ...rest); };
    }""")
    page.evaluate("payload => asd.show(document.querySelector('[role=tabpanel] .asd'), 'listen', payload)", payload)
    card = panel(page).locator(".asd-card").inner_text()
    assert "Fewer than 1 in 10,000 normal recordings" in card and "(p < 0.0001)" in card and "e-11" not in card
    picture = panel(page).locator(".asd-plot canvas:not(.asd-over)").first
    until(lambda: page.evaluate("badges.length") >= 2)
    around = picture.evaluate("""canvas => [...Array(24).keys()].map(i => {
      const [x, y] = badges[0], ratio = canvas.width / canvas.clientWidth, angle = i / 24 * 2 * Math.PI;
      const at = [x + 7.5 * Math.cos(angle), y + 7.5 * Math.sin(angle)].map(place => Math.round(place * ratio));
      return Math.max(...canvas.getContext('2d').getImageData(...at, 1, 1).data.slice(0, 3));
    })""")
    assert max(around) < 60, around
    box = panel(page).locator(".asd-over").first.bounding_box()
    for share, expected in ((0.8, ["▶ Play", "■ Stop"]), (0.3, ["■ Stop", "▶ Play"]), (0.3, ["▶ Play", "▶ Play"])):
        page.mouse.click(box["x"] + 58 + share * (box["width"] - 70), box["y"] + 0.4 * box["height"])
        assert panel(page).locator(".asd-regions li button:first-of-type").all_inner_texts() == expected


def test_silence_has_no_figures(visit, sounds):
    page = visit()
    give(page, sounds / "silent.wav")
    panel(page).get_by_text("silent.wav: it is silent.").wait_for()
    said = panel(page).inner_text()
    assert "highest score" not in said and "first window" in said and "p =" not in said and "p <" not in said


def test_every_field_takes_what_the_model_reads_and_what_phones_and_browsers_record(
    visit, sounds, detect, monkeypatch, tmp_path
):
    av = pytest.importorskip("av", reason="needs PyAV: pip install -e .[space]")
    monkeypatch.syspath_prepend(SPACE)
    from reading import suffixes  # pyright: ignore[reportMissingImports]  # in space/, whose path was just added

    expected = set(suffixes(detect.feature_extractor))
    assert {".wav", ".flac", ".mp3"} <= expected
    page = visit()
    for tab in ("Compare", "Files", "Timeline", "Enroll", "Listen"):
        open_tab(page, tab)
        accepted = panel(page).locator("input[type=file]").first.get_attribute("accept")
        assert {ending.strip() for ending in accepted.split(",")} == expected
    samples = soundfile.read(sounds / "faulty.wav", dtype="int16")[0]
    for name, codec in (("phone.m4a", "aac"), ("browser.webm", "libopus")):
        with av.open(str(tmp_path / name), "w") as file:
            stream = file.add_stream(codec, rate=48_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate = RATE
            for resampled in [*av.AudioResampler(stream.format, "mono", 48_000).resample(frame), None]:
                file.mux(stream.encode(resampled))
        give(page, tmp_path / name)
        panel(page).locator(".asd-card").get_by_text(name).wait_for()
        assert answer(page) == json.loads(json.dumps(detect(str(tmp_path / name))))
        panel(page).get_by_label("Clear").click()


def test_the_play_head_moves_with_the_sound(visit, sounds):
    page = visit()
    give(page, sounds / "normal.wav")
    panel(page).locator(".asd-player").get_by_role("button", name="Play").click()
    head = panel(page).get_by_label("Play head, seconds")
    page.wait_for_function("node => Number(node.value) > 0.2", arg=head.element_handle())
    until(lambda: panel(page).locator(".asd-clock").first.inner_text() != "0.00 s")


def test_machine_and_false_alarms_can_be_chosen(visit, sounds, detect):
    page = visit()
    give(page, sounds / "normal.wav")
    panel(page).locator(".asd-verdict").wait_for()
    panel(page).get_by_role("combobox", name="Machine").click()
    page.get_by_role("option", name="pump_id_00").click()
    panel(page).get_by_text("pump_id_00 (closest: fan_id_00)").wait_for()
    panel(page).get_by_label("1 in 10", exact=True).click()
    panel(page).get_by_text("the alarm is set to 1 in 10.").wait_for()
    expected = detect(str(sounds / "normal.wav"), machine="pump_id_00", false_alarm_rate=0.1)
    assert answer(page) == json.loads(json.dumps(expected))


def test_the_microphone_is_listened_to(visit):
    page = visit()
    panel(page).get_by_text("Record with the microphone").click()
    panel(page).locator("button.record-button").click()
    page.wait_for_timeout(1500)
    panel(page).locator("button.stop-button").click()
    panel(page).locator(".asd-verdict").wait_for()
    assert "The recording" in panel(page).locator(".asd-card").inner_text()
    assert 0.5 < answer(page)["duration_s"] < 10
    # As it is: browsers take the loudness and steady noise away, which is what a machine makes.
    settings = page.evaluate(
        "navigator.mediaDevices.getUserMedia({ audio: true }).then(stream => stream.getTracks()[0].getSettings())"
    )
    assert not any(settings[name] for name in ("autoGainControl", "echoCancellation", "noiseSuppression"))


# Live


def test_the_live_microphone_gets_a_verdict_on_every_window_and_a_log_of_its_alarms(visit, space):
    page = visit()
    open_tab(page, "Live")
    choose_machine(page)
    files = space.files()
    panel(page).get_by_role("button", name="Start listening").click()
    rows = panel(page).locator(".asd-table tbody tr")
    until(lambda: rows.count() >= 3)  # the microphone of the test repeats a faulty sound
    assert verdict(page) == "Anomalous" and "fan_id_00" in panel(page).locator(".asd-card").inner_text()
    times = panel(page).locator(".asd-table tbody td:nth-child(2)").all_inner_texts()
    assert [float(text.split()[0]) for text in times] == sorted(
        {float(text.split()[0]) for text in times}, reverse=True
    )
    until(lambda: colors(page, 0) > 30)
    panel(page).get_by_role("button", name="Stop listening").click()
    page.wait_for_timeout(1500)
    heard = panel(page).locator(".asd-answer .asd-hint").first.inner_text()
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Save JSON").click()
    alarms = json.loads(Path(saved.value.path()).read_text())
    assert len(alarms) == rows.count() and all(alarm["p_value"] <= 0.01 for alarm in alarms)
    assert space.files() == files  # what is heard live is written nowhere
    page.wait_for_timeout(1500)
    assert panel(page).locator(".asd-answer .asd-hint").first.inner_text() == heard


def test_live_goes_on_when_an_answer_does_not_come(visit):
    page = visit()
    open_tab(page, "Live")
    choose_machine(page)
    page.evaluate("asd.Microphone.patienceMs = 1500")
    # The page's words: they stay only until the next answer.
    panel(page).locator(".asd-player [role=alert]").evaluate("""words => {
      window.said = [];
      new MutationObserver(() => said.push(words.textContent)).observe(words, { childList: true });
    }""")
    sent: list[dict[str, Any]] = []

    def lose_the_first(route):
        given = route.request.post_data_json.get("event_data") or {}
        sent.extend([given] if "samples" in given else [])
        if sent != [given]:
            route.continue_()

    page.route("**/queue/join*", lose_the_first)
    panel(page).get_by_role("button", name="Start listening").click()
    panel(page).locator(".asd-verdict").wait_for()
    while len(sent) < 3:
        page.wait_for_timeout(50)
    said = [text for text in page.evaluate("said") if text]
    assert said == ["The app has not answered for a minute. The page tries again."]
    lost = len(base64.b64decode(sent[0]["samples"])) // 2
    assert [(one["begins"], one["lost"]) for one in sent[:3]] == [(True, 0), (True, lost), (False, 0)]
    clock = panel(page).locator(".asd-answer .asd-hint").first.inner_text()
    assert re.match(r"Listening for [3-9] s;", clock), clock


def test_hours_of_live_sound_take_no_more_memory_than_minutes(detect, monkeypatch):
    monkeypatch.syspath_prepend(SPACE)
    from live import Live  # pyright: ignore[reportMissingImports]  # in space/, whose path was just added

    live, sizes = Live(detect.feature_extractor, RATE), []
    result = {
        "verdict": "anomalous",
        "duration_s": 1.0,
        "machine": "fan",
        "score": 1.0,
        "threshold": 0.5,
        "p_value": 0.0,
    }
    sound = machine_sound(220.0, 1, seconds=0.7)
    for step in range(20_000):
        for start_s, window in live.hear(sound, RATE):
            assert len(window) == RATE and start_s == live.counts.total()
            live.note(start_s, {**result, "reason": "louder"})
        if step in (999, 19_999):
            sizes.append(len(pickle.dumps((live.recent, live.pending, live.alarms, live.counts))))
    assert live.counts["anomalous"] == 14_000 and sizes[1] < 1.1 * sizes[0] < 10**6
    # Chunks of another rate join without a seam: the window is resampled whole.
    other, windows = Live(detect.feature_extractor, 48_000), []
    tone = np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000).astype(np.float32)
    for chunk in np.array_split(tone, 7):
        windows += other.hear(chunk, 48_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    assert [start_s for start_s, _ in windows] == [0.0, 1.0]
    for start_s, window in windows:
        inner = slice(200, RATE - 200)  # away from the ends of the recording
        np.testing.assert_allclose(window[inner], expected[int(start_s) * RATE :][:RATE][inner], atol=1e-3)


def test_an_example_is_one_click_away(visit):
    page = visit()
    panel(page).get_by_role("button", name="Fan", exact=True).click()
    panel(page).locator(".asd-verdict").wait_for()
    assert "fan_normal.flac" in panel(page).locator(".asd-card").inner_text()


def test_a_broken_file_is_named_and_the_next_one_is_answered(visit, sounds, space):
    page = visit()
    give(page, sounds / "broken.wav")
    message = panel(page).get_by_role("alert").inner_text()
    assert "broken.wav: cannot be read as audio" in message and str(space.temporary) not in message
    panel(page).get_by_label("Clear").click()
    give(page, sounds / "normal.wav")
    panel(page).get_by_text("sounds as fan_id_00 does").wait_for()


def test_the_saved_report_opens_alone_and_draws_the_same(visit, sounds, tmp_path):
    page = visit()
    choose_machine(page)
    give(page, sounds / "faulty.wav")
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Save report").click()
    report = tmp_path / saved.value.suggested_filename
    saved.value.save_as(report)
    expected = answer(page)
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Save JSON").click()
    assert json.loads(Path(saved.value.path()).read_text()) == expected
    alone = page.context.new_page()
    requests = []
    alone.on("request", lambda request: requests.append(request.url))
    alone.goto(report.as_uri())
    assert alone.locator(".asd-verdict").inner_text() == "Anomalous"
    assert alone.locator(".asd-plot canvas:not(.asd-over)").count() == 6
    head = alone.locator(".asd-report-head").inner_text()
    assert "faulty.wav" in head and "fan_id_00" in head and "UTC" in head and "1 in 100" in head
    assert re.search(r"Version\s+[0-9a-f]{12}", head)
    assert requests == [report.as_uri()]
    assert alone.pdf().startswith(b"%PDF")


# The other tabs


def test_two_sounds_are_compared_on_the_same_scales(visit, sounds):
    page = visit()
    open_tab(page, "Compare")
    give(page, sounds / "normal.wav")
    give(page, sounds / "faulty.wav")
    panel(page).locator(".asd-sides").wait_for()
    assert panel(page).locator(".asd-verdict").all_inner_texts() == ["Normal", "Anomalous"]
    scales = panel(page).locator(".asd-key").all_inner_texts()  # log-mel and attention of the first, of the second, ...
    assert scales[:2] == scales[2:4] and "dB" in scales[0]
    assert panel(page).locator("strong", has_text="Difference").count() == 1
    both = answer(page)
    assert set(both) == {"first", "second"}
    # No machine was chosen: both are judged as the one that the first sounds like.
    assert both["first"]["machine"] == both["second"]["machine"] == "fan_id_00"


def test_many_files_make_a_table_that_sorts_downloads_and_opens_maps(visit, sounds, detect):
    page = visit()
    open_tab(page, "Files")
    choose_machine(page)
    names = ["normal.wav", "faulty.wav", "broken.wav", "long.wav"]
    give(page, [sounds / name for name in names])
    panel(page).get_by_text("4 judged: 2 anomalous, 1 normal, 1 unreadable.").wait_for()
    files = panel(page).locator(".asd-table tbody td:nth-child(2)")
    assert files.all_inner_texts() == names
    panel(page).get_by_role("button", name="Verdict").click()
    assert files.all_inner_texts() == ["faulty.wav", "long.wav", "broken.wav", "normal.wav"]
    expected = {
        name: json.loads(json.dumps(detect(str(sounds / name), machine="fan_id_00")))
        for name in names
        if name != names[2]
    }
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Save JSON").first.click()
    found = {row.pop("file"): row for row in json.loads(Path(saved.value.path()).read_text())}
    assert "cannot be read as audio" in found.pop("broken.wav")["error"] and found == expected
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Save CSV").click()
    rows = {row["file"]: row for row in csv.DictReader(Path(saved.value.path()).read_text().splitlines())}
    assert float(rows["faulty.wav"]["p_value"]) == expected["faulty.wav"]["p_value"]
    assert rows["faulty.wav"]["reason"] == expected["faulty.wav"]["reason"] and rows["broken.wav"]["error"]
    panel(page).get_by_label("Which rows").select_option("Normal")
    assert files.all_inner_texts() == ["normal.wav"]
    panel(page).get_by_role("button", name="normal.wav", exact=True).click()
    panel(page).get_by_text("normal.wav sounds as fan_id_00 does").wait_for()
    until(lambda: colors(page, 0) > 30)


def test_files_are_told_apart_by_their_names_and_an_opened_row_comes_into_view(visit, sounds, tmp_path):
    long_names = [tmp_path / f"2026-11-03_14-05-00_hall_2_north_pump_{number}.wav" for number in range(6)]
    for path in long_names:
        path.write_bytes((sounds / "normal.wav").read_bytes())
    page = visit(height=400)
    open_tab(page, "Files")
    give(page, long_names)
    panel(page).get_by_text("6 judged").wait_for()
    assert panel(page).locator(".file-preview .stem").count() == 6
    cut = "names => names.flatMap(name => [name, name.parentElement]).filter(one => one.scrollWidth > one.clientWidth).length"
    assert panel(page).locator(".file-preview .stem").evaluate_all(cut) == 0
    panel(page).get_by_role("button", name=long_names[0].name, exact=True).click()
    panel(page).locator(".asd-verdict").wait_for()
    until(lambda: 0 <= panel(page).locator(".asd-verdict").bounding_box()["y"] < 200)


def test_a_window_of_a_long_recording_shows_its_own_maps(visit, sounds, detect, tmp_path):
    page = visit()
    open_tab(page, "Timeline")
    choose_machine(page)
    give(page, sounds / "long.wav")
    timeline = panel(page).locator(".asd-timeline canvas")
    timeline.wait_for()
    expected = detect(str(sounds / "long.wav"), machine="fan_id_00")
    alarms = [i for i, window in enumerate(expected["windows"]) if window["verdict"] == "anomalous"]
    assert {3, 4} <= set(alarms) and 0 not in alarms
    assert f"{len(alarms)} of 8 windows raised an alarm" in panel(page).inner_text()
    assert answer(page) == json.loads(json.dumps(expected))
    box = timeline.bounding_box()
    timeline.click(position={"x": 58 + (box["width"] - 70) * 0.5 / 8, "y": 100})
    panel(page).get_by_text("long.wav, from 0.0 to 1.0 s: normal").wait_for()
    panel(page).locator(".asd-alarms button").first.click()
    start = alarms[0]
    shown = f"long.wav, from {start}.0 to {start + 1}.0 s: anomalous, score {expected['windows'][start]['score']:.3g}"
    panel(page).locator(".asd-strip", has_text=shown).wait_for()
    assert panel(page).locator(".asd-card").count() == 1
    panel(page).get_by_text("Values of the windows").click()
    assert panel(page).locator(".asd-table tbody tr").count() == 8
    panel(page).get_by_role("button", name="Play all: long.wav").click()
    panel(page).get_by_text("■ Stop").click()
    # The report holds all windows and alarms, and the maps of the window that is on the page.
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Save report").click()
    saved.value.save_as(tmp_path / "report.html")
    alone = page.context.new_page()
    alone.goto((tmp_path / "report.html").as_uri())
    assert shown in alone.locator(".asd-strip").inner_text()
    assert alone.locator(".asd-table tbody tr").filter(visible=True).count() == 8
    assert (
        alone.get_by_text("Difference from normal").count() == 1
        and "choose one" not in alone.locator("body").inner_text()
    )

    # A browser may send anything for the number of a window.
    def spoil(route):
        body = route.request.post_data_json
        if body.get("event_data"):
            body["event_data"]["index"] = "the third"
        route.continue_(post_data=json.dumps(body))

    page.route("**/queue/join*", spoil)
    panel(page).locator(".asd-alarms button").first.click()
    panel(page).get_by_text("window 'the third': expected a whole number from 0 to 7.").wait_for()


def test_a_score_of_zero_has_its_place_in_the_pictures(visit):
    page = visit()
    windows = [
        {"start_s": 0, "end_s": 1, "score": 0.0, "p_value": 1.0, "verdict": "normal"},
        {"start_s": 1, "end_s": 2, "score": 2.0, "p_value": 0.01, "verdict": "anomalous"},
    ]
    shared = {"threshold": 1.0, "false_alarm_rate": 0.01, "machine": "fan", "backend": "nearest", "note": None}
    result = {**windows[1], **shared, "duration_s": 2.0, "windows": windows, "reason": None, "regions": []}
    payload = {"name": "two.wav", "typical": 0.5, "chosen": 1, "result": result}
    page.evaluate("payload => asd.show(document.querySelector('[role=tabpanel] .asd'), 'timeline', payload)", payload)
    until(lambda: panel(page).locator(".asd-timeline canvas").evaluate(
        "c => { const x = (58 + (c.clientWidth - 70) * 0.9) * c.width / c.clientWidth, y = 100 * c.width / c.clientWidth;"
        " const at = place => c.getContext('2d').getImageData(place, y, 1, 1).data[3];"
        " return at(x) > 0 && at(x * 0.3) === 0 }"
    ))  # fmt: skip
    result["score"], result["threshold"] = 0.0, 0.0
    page.evaluate("payload => asd.show(document.querySelector('[role=tabpanel] .asd'), 'timeline', payload)", payload)
    places = panel(page).locator(".asd-mark").evaluate_all("marks => marks.map(mark => mark.style.left)")
    assert len(places) >= 2 and all(place.endswith("%") and "NaN" not in place for place in places)


def enroll_on_page(page, name: str, files: list[Path]) -> None:
    for count, file in enumerate(files, start=1):
        give(page, file)
        until(lambda count=count: panel(page).locator(".asd-table tbody tr").count() == count)
    panel(page).get_by_label("Name of the machine").fill(name)
    panel(page).get_by_role("button", name="Enroll", exact=True).click()
    panel(page).get_by_text(f"{name.strip()} is enrolled").wait_for()


def machines_offered(page) -> list[str]:
    panel(page).get_by_role("combobox", name="Machine").click()
    page.get_by_role("option", name="pump_id_00").wait_for()
    found = [text.removeprefix("✓").strip() for text in page.get_by_role("option").all_inner_texts()]
    page.locator("h1").first.click()
    page.wait_for_timeout(500)  # the list fades away
    return found


def test_enrolling_teaches_which_recording_is_unlike_the_others(visit, sounds):
    page = visit()
    open_tab(page, "Enroll")
    give(page, [sounds / f"mine_{i}.wav" for i in range(5)])
    panel(page).get_by_text("None of the 5 would have raised a false alarm.").wait_for()
    give(page, sounds / "mine_faulty.wav")
    panel(page).get_by_text("mine_faulty.wav.").wait_for()
    row = panel(page).locator("tr", has_text="mine_faulty.wav")
    assert "like the others" not in row.inner_text().replace("unlike the others", "")
    row.get_by_role("button", name="Remove").click()
    panel(page).get_by_text("None of the 5 would have raised a false alarm.").wait_for()


def test_recordings_that_are_still_on_their_way_are_enrolled_too(visit, sounds):
    page = visit()
    open_tab(page, "Enroll")
    held: list[Any] = []
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    give(page, [sounds / f"mine_{i}.wav" for i in range(3)])
    while not held:
        page.wait_for_timeout(50)  # what adds them is asked for, and not answered
    panel(page).get_by_label("Name of the machine").fill("press_3")
    panel(page).get_by_role("button", name="Enroll", exact=True).click()
    panel(page).get_by_text("press_3 is enrolled").wait_for()
    assert "Made from 3 recordings" in panel(page).inner_text()
    held[0].continue_()


@pytest.mark.slow
def test_machines_of_a_session_add_up_and_outlive_a_reload(visit, sounds, tmp_path):
    page = visit()
    choose_machine(page)
    give(page, sounds / "mine_faulty.wav")
    panel(page).locator(".asd-verdict").wait_for()
    open_tab(page, "Enroll")
    enroll_on_page(page, "press_3", [sounds / f"mine_{i}.wav" for i in range(3)])
    offered = panel(page).locator("a[download='scoring.safetensors']").get_attribute("href")
    wait_until_kept(page)
    open_tab(page, "Listen")
    # What is shown is judged anew: the sound's closest machine is the new one. The choice stays.
    panel(page).get_by_text("fan_id_00 (closest: press_3)").wait_for()
    assert machines_offered(page)[-1] == "press_3"
    choose_machine(page, "press_3")
    panel(page).get_by_text("mine_faulty.wav does not sound as press_3 does").wait_for()
    # An alarm that was none is learned.
    panel(page).get_by_role("button", name="It was a false alarm: add it to press_3").click()
    until(lambda: answer(page)["calibration_clips"] == 4)
    assert answer(page)["verdict"] != "anomalous"
    before = answer(page)
    open_tab(page, "Enroll")
    assert panel(page).locator("a[download='scoring.safetensors']").get_attribute("href") != offered
    for left in (2, 1, 0):
        panel(page).get_by_role("button", name="Remove").first.click()
        until(lambda left=left: panel(page).locator(".asd-table tbody tr").count() == left)
    wait_until_kept(page)
    visit_again(page, visit)
    wait_until_kept(page)
    open_tab(page, "Enroll")
    panel(page).get_by_text("press_3 is back").wait_for()
    enroll_on_page(page, "press_4", [sounds / "normal.wav"])
    wait_until_kept(page)
    assert "In this session there are also: press_3." in panel(page).inner_text()
    for name in ("scoring.safetensors", "scoring_config.json"):
        with page.expect_download() as saved:
            panel(page).locator(f"a[download='{name}']").first.click()
        saved.value.save_as(tmp_path / name)
    open_tab(page, "Listen")
    assert machines_offered(page)[-2:] == ["press_3", "press_4"]
    visit_again(page, visit, "?machine=press_3")  # a link knows a machine that this browser kept
    until(lambda: panel(page).get_by_role("combobox", name="Machine").input_value() == "press_3")
    assert machines_offered(page)[-2:] == ["press_3", "press_4"]
    give(page, sounds / "mine_faulty.wav")
    until(lambda: answer(page)["machine"] == "press_3")
    assert answer(page) == before
    # Another browser knows nothing of them, and gets them from the files.
    other = visit()
    assert "press_3" not in machines_offered(other)
    open_tab(other, "Enroll")
    panel(other).get_by_text("Bring a detector back").click()
    given = panel(other).locator("input[type=file]").nth(1)
    given.set_input_files([tmp_path / "scoring_config.json", tmp_path / "scoring.safetensors"])
    panel(other).get_by_text("press_3, press_4 are back").wait_for()
    wait_until_kept(other)
    open_tab(other, "Listen")
    choose_machine(other, "press_3")
    give(other, sounds / "mine_faulty.wav")
    until(lambda: answer(other)["machine"] == "press_3")
    assert answer(other) == before
    visit_again(other, visit)
    until(lambda: "press_3" in machines_offered(other))
    forget_machines(other)
    until(lambda: other.evaluate("asd.kept()") == "")
    open_tab(other, "Listen")
    assert "press_3" not in machines_offered(other)
    visit_again(other, visit)
    other.wait_for_timeout(2000)
    assert "press_3" not in machines_offered(other)


def visit_again(page, visit, query: str = "") -> None:
    """Leave the page and come back."""
    # Gradio reports an answer that is on its way when a page is left as an error.
    visit.provoked += ["AbortError: signal is aborted", "Unexpected error Connection errored out"]
    page.wait_for_timeout(2000)
    page.goto(f"{visit.url}/{query}")
    page.get_by_role("tab", name="Listen").wait_for()


def wait_until_kept(page) -> None:
    """Wait until the browser keeps another detector than when this was called last on the page."""
    is_new = "asd.kept().then(text => text !== (window.keptBefore ?? '') && (window.keptBefore = text) !== '')"
    until(lambda: page.evaluate(is_new))


def forget_machines(page) -> None:
    open_tab(page, "Enroll")
    panel(page).get_by_text("Bring a detector back").click()
    panel(page).get_by_role("button", name="Forget").click()
    panel(page).get_by_text("Your machines are forgotten").wait_for()


def test_a_machine_that_is_forgotten_while_the_browser_fetches_it_stays_forgotten(visit, sounds):
    page = visit()
    open_tab(page, "Enroll")
    held: list[Any] = []
    page.route(re.compile(r"file=.*scoring"), lambda route: held.append(route))
    enroll_on_page(page, "press_3", [sounds / "mine_0.wav"])
    until(lambda: page.wait_for_timeout(50) or len(held) == 2)
    forget_machines(page)
    for request in held:
        request.continue_()
    page.wait_for_timeout(1000)
    assert page.evaluate("asd.kept()") == ""


def test_a_browser_that_cannot_fetch_the_detector_says_so(visit, sounds):
    page = visit()
    visit.provoked.append("Failed to load resource")
    open_tab(page, "Enroll")
    page.route(re.compile(r"file=.*scoring"), lambda route: route.abort())
    enroll_on_page(page, "press_3", [sounds / "mine_0.wav"])
    panel(page).get_by_text("This browser could not keep the detector").wait_for()


@pytest.mark.slow
def test_an_enrolled_machine_is_tested_at_once_and_taken_home(visit, sounds, detect, warm_python, tmp_path):
    page = visit()
    open_tab(page, "Enroll")
    enroll_on_page(page, " press_3 ", [sounds / f"mine_{i}.wav" for i in range(6)])
    panel(page).get_by_label("Name of the machine").fill("not enrolled")  # what is tested is what was enrolled
    panel(page).locator("input[type=file]:not([multiple])").last.set_input_files(sounds / "mine_faulty.wav")
    panel(page).get_by_text("mine_faulty.wav does not sound as press_3 does").wait_for()
    in_the_app = answer(page)
    home = tmp_path / "my_detector"
    home.mkdir()
    for name in ("scoring.safetensors", "scoring_config.json"):
        with page.expect_download() as saved:
            panel(page).locator(f"a[download='{name}']").first.click()
        saved.value.save_as(home / name)
    # The program as it is shown, in a process of its own, on as many threads as the app: sums are split by threads, and
    # rounded accordingly.
    threads = f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
    program = "\n".join(panel(page).locator(".cm-line").all_inner_texts())
    (tmp_path / "recording.wav").write_bytes((sounds / "mine_faulty.wav").read_bytes())
    told = "\nimport json; print(json.dumps(result))\n"
    process = warm_python.start(["-c", threads + program + told], tmp_path)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert json.loads(stdout.splitlines()[-1]) == in_the_app


def test_about_tells_the_measured_figures_and_that_the_data_are_synthetic(visit):
    page = visit()
    assert "trained on synthetic machines" in page.locator(".asd-notice").inner_text()
    open_tab(page, "About")
    text = panel(page).inner_text()
    assert "73.1 (60–80)" in text and "machine_room (synthetic)" in text and "10.1109/LSENS.2024.3480450" in text


def test_about_has_the_figures_of_the_score_that_decides(monkeypatch):
    monkeypatch.syspath_prepend(SPACE)
    from about import about_text  # pyright: ignore[reportMissingImports]  # in space/, whose path was just added
    from texts import say  # pyright: ignore[reportMissingImports]

    in_english = functools.partial(say, "en")
    decisions = json.loads((SPACE / "demo_model" / "all_results.json").read_text())["test"]["decisions"]
    official = decisions["back_ends"][decisions["default"]]["auc"]["mean"]["official"]
    text = about_text(str(SPACE / "demo_model"), in_english)
    assert f"| **mean** | **{100 * official:.1f} (" in text and "The paper's score, by the network alone" in text
    assert "asked for: 1 %: " in text


@pytest.mark.parametrize("lack", ["labels", "figures"])
def test_about_is_shown_where_a_figure_could_not_be_measured(lack, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SPACE)
    from about import about_text  # pyright: ignore[reportMissingImports]  # in space/, whose path was just added
    from texts import say  # pyright: ignore[reportMissingImports]

    in_english = functools.partial(say, "en")
    small_pipeline().save_pretrained(tmp_path)
    measured = copy.deepcopy(MEASURED)
    if lack == "labels":
        measured["test"] = {"clips": 48, "labelled_clips": 0}
    else:  # a machine type without anomalous clips
        measured["test"]["auc"]["per_type"]["pump"] = {"official": None, "official_ci95": None, "worst_id": None}
        measured["test"]["pauc"]["per_type"]["pump"] = measured["test"]["auc"]["per_type"]["pump"]
    (tmp_path / "all_results.json").write_text(json.dumps(measured))
    expected = {
        "labels": "none of the test clips of machine_room (synthetic) is labelled",
        "figures": "| pump | undefined | undefined | undefined |",
    }
    assert expected[lack] in about_text(str(tmp_path), in_english)


# Phones, themes and people who see or point in other ways


def use(page, tab: str, sounds: Path) -> None:
    """Open a tab, give it sounds, and wait for its answer."""
    files = {"Listen": ["faulty.wav"], "Compare": ["normal.wav", "faulty.wav"], "Timeline": ["long.wav"]}
    open_tab(page, tab)
    if tab == "Files":
        give(page, [sounds / "normal.wav", sounds / "faulty.wav", sounds / "broken.wav"])
        panel(page).get_by_text("3 judged:").wait_for()
    if tab == "Live":
        choose_machine(page)  # without a name nothing is an alarm, and there is no table of alarms
        panel(page).get_by_role("button", name="Start listening").click()
        panel(page).locator(".asd-table").wait_for()
        panel(page).get_by_role("button", name="Stop listening").click()
    if tab == "Enroll":
        give(page, [sounds / f"mine_{i}.wav" for i in range(3)])
        panel(page).get_by_label("Name of the machine").fill("press_3")
        panel(page).get_by_role("button", name="Enroll", exact=True).click()
        panel(page).get_by_text("press_3 is enrolled").wait_for()
    for name in files.get(tab, []):
        give(page, sounds / name)
    if tab in files:
        panel(page).locator(".asd-plot canvas").first.wait_for()
        until(lambda: colors(page, 0) > 1)


def open_details(page) -> None:
    """Open what is one click away: values, attention maps, JSON."""
    for summary in panel(page).locator("summary").filter(visible=True).all():
        summary.click()
    page.wait_for_timeout(300)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_begins_in_the_theme_that_a_person_prefers(visit, scheme):
    page = visit(scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) > 384) == (scheme == "light")
    assert is_dark(page) == (scheme == "dark")


@pytest.mark.slow
def test_a_phone_shows_every_tab_without_scrolling_sideways_and_without_a_serious_fault(visit, sounds):
    page = visit(390, 844)
    page.emulate_media(reduced_motion="reduce")
    for tab in TABS:
        use(page, tab, sounds)
        if tab == "Listen":
            # The answer comes into view by itself.
            until(lambda: 0 <= panel(page).locator(".asd-card").bounding_box()["y"] < 600)
        open_details(page)
        for theme in in_both_themes(page):
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
            page.wait_for_timeout(500)  # Gradio fades in what it shows: half-way, its contrast is too low
            assert serious_faults(page) == [], (tab, theme)


@pytest.mark.slow
def test_axe_finds_no_serious_fault_in_any_tab(visit, sounds):
    page = visit()
    page.emulate_media(reduced_motion="reduce")
    for tab in TABS:
        use(page, tab, sounds)
        open_details(page)
        for theme in in_both_themes(page):
            page.wait_for_timeout(500)  # Gradio fades in what it shows: half-way, its contrast is too low
            assert serious_faults(page) == [], (tab, theme)
