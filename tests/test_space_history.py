"""The tab History of the Space: verdicts of a machine over days, in the browser's storage or in a folder."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from space_app import until
from space_browser import colors, open_tab, panel

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
    panel(page).get_by_text("imported.").wait_for()


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
    since = re.search(r"since (.*): higher scores", reported).group(1)
    assert f"The score has drifted since {Path(since).name}" in card.replace("recordings/", "")
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
