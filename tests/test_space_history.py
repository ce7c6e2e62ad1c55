"""The tab History of the Space: verdicts of a machine over days, in the browser's storage or in a folder."""

import csv
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_detector import RATE, machine_sound
from space_app import until
from space_browser import Visits, choose_machine, colors, give, open_tab, panel
from space_server import SPACE, SpaceServer, copy_space

from research.space.engineer import Day, machine_clips, verdict_row
from scoring.drift import DriftWatch
from scoring.rows import HEADERS, as_csv, as_json


pytest_plugins = ["space_app", "space_browser"]
pytest.importorskip("gradio", reason="needs gradio: pip install -e .[space]")


def watched_rows(machine: str = "pump_id_02", count: int = 60, louder_from: int = 30) -> list[dict]:
    """Rows as `score.py --watch --output` writes them: one every six hours, with higher scores from `louder_from` on."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(count):
        is_late = index >= louder_from
        p_value = float(generator.uniform(0.12, 1) * (0.1 if is_late else 1))
        at = datetime(2026, 11, 2, 6, tzinfo=UTC) + timedelta(hours=6 * index)
        verdict = "anomalous" if p_value <= 0.01 else "normal"
        row = {
            "file": f"recordings/{machine}, {index:03}.wav",
            "verdict": verdict,
            "score": 1 / p_value,
            "threshold": 100.0,
        }
        row |= {"p_value": p_value, "false_alarm_rate": 0.01, "machine": machine, "duration_s": 10.0, "level_db": -40.0}
        row |= {"reason": "louder" if verdict == "anomalous" else None, "note": None, "windows": [], "regions": []}
        rows.append({**row, "file_size": 320_044, "file_time": at.isoformat(), "model_digest": "0123456789abcdef"})
    return rows


def rows_shown(page) -> list[str]:
    return panel(page).get_by_role("region", name="Verdicts on").locator("tbody tr").all_inner_texts()


def import_files(page, *paths: Path) -> None:
    panel(page).locator("input[type=file]").set_input_files(paths)
    panel(page).get_by_text(re.compile("verdicts? imported")).first.wait_for()


def test_results_of_a_watch_are_one_picture_with_the_drift_that_score_py_reports(visit, tmp_path):
    rows = watched_rows()
    watch = DriftWatch()
    (reported,) = filter(None, [watch.take(row) for row in rows])
    lines = [as_json(row) for row in rows]
    # A file that could not be read is no verdict, and a recording that was judged again counts once.
    broken = json.dumps({"file": "broken.wav", "error": "broken.wav: no sound"})
    (tmp_path / "watch.jsonl").write_text("\n".join([*lines, broken, lines[0], ""]))
    (tmp_path / "watch.csv").write_text("\n".join([HEADERS["csv"], *map(as_csv, watched_rows("fan_id_00", 8)), ""]))
    page = visit()
    open_tab(page, "History")
    import_files(page, tmp_path / "watch.jsonl", tmp_path / "watch.csv")
    panel(page).get_by_text("68 verdicts of 2 machines").wait_for()
    assert "61 verdicts imported. 1 line is left out" in panel(page).inner_text()
    panel(page).get_by_role("button", name="pump_id_02", exact=True).click()
    card = panel(page).locator(".asd-card").inner_text()
    since = reported.removeprefix("pump_id_02: score has drifted since ").removesuffix(": higher scores")
    assert f"The score has drifted since {Path(since).name} (9 Nov): higher scores." in card
    assert "60 recordings, 2 Nov to " in card and "by chance about 0.6 would be expected" in card
    told = panel(page).locator("canvas[role=img]").first.get_attribute("aria-label")
    assert "60 recordings" in told and "The lowest is" in told
    until(lambda: colors(page, 0) > 10)
    assert len(rows_shown(page)) == 60
    slider = panel(page).get_by_label("Recording to read")
    slider.focus()
    page.keyboard.press("Home")
    assert "pump_id_02, 000.wav: normal, p =" in slider.get_attribute("aria-valuetext")
    panel(page).get_by_role("button", name="fan_id_00").click()
    assert "8 recordings: too few to see a lasting change" in panel(page).locator(".asd-card").inner_text()


def test_verdicts_outlive_a_reload_and_a_recording_that_is_judged_twice_counts_once(visit, sounds, detect, tmp_path):
    # Recorders write the time into the name; what has none was made when its file was.
    dated = tmp_path / "20261103_140500.wav"
    dated.write_bytes((sounds / "faulty.wav").read_bytes())
    plain = tmp_path / "plain.wav"
    plain.write_bytes((sounds / "normal.wav").read_bytes())
    os.utime(plain, times=(0, datetime(2026, 11, 5, 12, tzinfo=UTC).timestamp()))
    page = visit()
    open_tab(page, "Files")
    choose_machine(page)
    give(page, [dated, plain])
    panel(page).get_by_text("2 judged:").wait_for()
    open_tab(page, "Listen")
    choose_machine(page)
    give(page, sounds / "faulty.wav")  # the same sound under another name
    panel(page).locator(".asd-verdict").wait_for()
    page.reload()
    page.get_by_role("tab", name="Listen").wait_for()
    open_tab(page, "History")
    panel(page).get_by_text("2 verdicts of 1 machine.").wait_for()
    late, early = rows_shown(page)
    assert early.startswith("3 Nov 2026, 14:05") and "faulty.wav" in early and "Anomalous" in early
    assert early.startswith("3 Nov 2026, 14:05") and "faulty.wav" in early and "Anomalous" in early
    assert "plain.wav" in late and "Normal" in late and "5 Nov 2026" in late
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Save CSV").click()
    (tmp_path / "history.csv").write_bytes(Path(saved.value.path()).read_bytes())
    with open(tmp_path / "history.csv", newline="") as file:
        row = next(row for row in csv.DictReader(file) if "plain" in row["file"])
    expected = detect(str(plain), machine="fan_id_00")
    assert float(row["p_value"]) == expected["p_value"] and float(row["score"]) == expected["score"]
    # Another browser has none of them, and gets them from the file.
    other = visit()
    open_tab(other, "History")
    panel(other).get_by_text("Results of score.py can be imported").wait_for()
    import_files(other, tmp_path / "history.csv")
    until(lambda: rows_shown(other) == [late, early])
    other.on("dialog", lambda dialog: dialog.accept())
    panel(other).get_by_role("button", name="Delete plain.wav").click()
    until(lambda: rows_shown(other) == [early])
    panel(other).get_by_role("button", name="Delete fan_id_00's verdicts").click()
    panel(other).get_by_text("Results of score.py can be imported").wait_for()
    import_files(other, tmp_path / "history.csv")
    assert len(rows_shown(page)) == 2


@pytest.mark.slow
def test_a_folder_that_the_owner_names_keeps_the_verdicts_of_all(chromium, model, sounds, tmp_path):
    folder = tmp_path / "history"
    folder.mkdir()
    (folder / "watch.jsonl").write_text("\n".join([*map(as_json, watched_rows(count=5)), ""]))
    (folder / "verdicts.jsonl").write_text(as_json(watched_rows("fan_id_00", 1)[0]) + "\n" + '{"file": "cut o')
    server = SpaceServer(tmp_path, copy_space(tmp_path / "space"), MODEL_ID=str(model), HISTORY_DIR=str(folder))
    visit = Visits(chromium, server.url)
    try:
        page = visit()
        choose_machine(page)
        give(page, sounds / "faulty.wav")
        panel(page).locator(".asd-verdict").wait_for()
        # Somebody else, whose browser has kept nothing.
        other = visit()
        open_tab(other, "History")
        panel(other).get_by_text("7 verdicts of 2 machines. The owner of this app keeps them in a folder").wait_for()
        assert "Anomalous" in rows_shown(other)[0] and "Delete" not in rows_shown(other)[0]
        row = json.loads((folder / "verdicts.jsonl").read_text().splitlines()[-1])
        assert row["file"] == "faulty.wav" and row["verdict"] == "anomalous" and row["heard_by"] == "listen"
    finally:
        server.stop()
    assert visit.complaints == [] and visit.foreign == []


def test_rows_of_several_processes_are_whole_in_the_folder(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SPACE)
    from history_folder import Folder  # pyright: ignore[reportMissingImports]  # in space/, whose path was just added

    folders = [Folder(str(tmp_path)) for _ in range(4)]
    with ThreadPoolExecutor(4) as writers:
        list(
            writers.map(lambda index: folders[index % 4].add([{"file": f"{index}.wav", "note": "x" * 5000}]), range(80))
        )
    rows = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert sorted(row["file"] for row in rows) == sorted(f"{index}.wav" for index in range(80))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ValueError, match="HISTORY_DIR=.*file: cannot be written"):
        Folder(str(tmp_path / "file"))


@pytest.mark.slow
def test_an_engineers_day_ends_with_the_same_verdicts_in_another_browser(space, chromium, tmp_path):
    for split, name, count, hiss in (("train", "normal", 8, 0), ("test", "normal", 2, 0), ("test", "anomaly", 2, 0.3)):
        (tmp_path / "press" / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            path = tmp_path / "press" / split / f"{name}_id_03_{i:08}.wav"
            soundfile.write(path, machine_sound(900.0, 2000 + i + 10 * (split == "test"), hiss=hiss), RATE)
    day = Day(space.url, "press_id_03", machine_clips(tmp_path, "press_id_03"), tmp_path / "downloaded").play(chromium)
    assert day["is_same"] and len(day["rows"]) == 4 and len(day["steps"]) == 9
    assert verdict_row(day)["faulty recordings"] == "2 anomalous"


def test_the_same_stretch_of_a_normal_recording_is_heard_beside_what_alarmed(visit, sounds):
    page = visit()
    open_tab(page, "Enroll")
    give(page, [sounds / f"mine_{i}.wav" for i in range(6)])
    panel(page).get_by_text("None of the 6 would").wait_for()
    panel(page).get_by_label("Name of the machine").fill("press_3")
    panel(page).get_by_role("button", name="Enroll", exact=True).click()
    panel(page).get_by_text("press_3 is enrolled").wait_for()
    open_tab(page, "Listen")
    choose_machine(page, "press_3")
    give(page, sounds / "mine_faulty.wav")
    region = panel(page).locator(".asd-regions li").first
    region.wait_for()
    assert "the same stretch and band of mine_0.wav" in panel(page).locator(".asd-heard").inner_text()
    # What reaches the loudspeaker: its level by an analyzer in its place, and the gain.
    page.evaluate("""() => {
      const connect = GainNode.prototype.connect;
      GainNode.prototype.connect = function (to) {
        if (to === this.context.destination) {
          window.heard = new AnalyserNode(this.context, { fftSize: 32768 });
          window.loudness = this.gain.value;
          connect.call(this, window.heard);
        }
        return connect.call(this, to);
      };
    }""")
    played = {}
    for name in ("Play", "Normal"):
        region.get_by_role("button", name=f"{name}:").click()
        page.wait_for_timeout(1000)
        played[name] = page.evaluate("""() => {
          const samples = new Float32Array(heard.fftSize);
          heard.getFloatTimeDomainData(samples);
          return [Math.sqrt(samples.reduce((sum, sample) => sum + sample ** 2, 0) / samples.length), loudness];
        }""")
    assert played["Play"][1] == played["Normal"][1]
    assert 0 < played["Normal"][0] < played["Play"][0] / 2  # hiss was added to the faulty one
    assert panel(page).get_by_text("■ Stop").count() == 1
    # The model has statistics of its own machines, and no sound.
    choose_machine(page, "fan_id_00")
    panel(page).get_by_text("Enroll fan_id_00 here from recordings of your own").wait_for()
    assert region.get_by_role("button", name="Normal:").count() == 0
