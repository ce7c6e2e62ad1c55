"""The command that makes the bundled model, with small synthetic recordings in the place of the real ones."""

import csv
import json
from pathlib import Path

import pytest
from conftest import write_sounds
from huggingface_hub.repocard import metadata_load

from modeling import AnomalyDetector
from scripts.build_space import copy_model, link_code
from scripts.bundle_model import ENROLLED_CLIPS, SYNTHETIC_MACHINES


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Clips of four machines, and a manifest: those of one machine are not free for every use."""
    folder = write_sounds(tmp_path / "sounds" / "clips", seconds=2.0)
    with open(folder.parent / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "dataset"])
        for clip in sorted(folder.rglob("*.wav")):
            is_free = not ("pump" in clip.parts and "id_02" in clip.name)
            writer.writerow([clip.relative_to(folder.parent), "MIMII 1.0, microphone 0" if is_free else "DCASE 2020"])
    return folder


def test_the_bundled_model_is_of_free_recordings_alone_with_the_synthetic_machines_enrolled(
    recordings, run_script, tmp_path
):
    output = tmp_path / "out"
    command = ("scripts/bundle_model.py", "--data_dir", recordings, "--output_dir", output)
    done = run_script(*command, "--num_train_epochs", 1, "--clip_seconds", 2)
    assert done.returncode == 0, done.stderr
    results = json.loads((output / "all_results.json").read_text())
    # 6 training and 6 test clips of each of 3 machines.
    assert (results["data"], results["train_clips"], results["test"]["clips"]) == ("MIMII", 18, 18)
    detector = AnomalyDetector.from_pretrained(output)
    assert detector.machines == ["fan_id_00", "fan_id_02", "pump_id_00", *SYNTHETIC_MACHINES]
    for name in SYNTHETIC_MACHINES:
        assert len(detector.calibration(name).scores) == ENROLLED_CLIPS

    assert (metadata_load(output / "README.md") or {})["license"] == "cc-by-sa-4.0"
    card = (output / "README.md").read_text()
    assert "18 normal recordings" in card and "Purohit" in card and "10.5281/zenodo.3384388" in card
    assert all(name in card for name in SYNTHETIC_MACHINES) and "koizumi2020dcase" not in card

    bundled = tmp_path / "bundled"
    copy_model(output, bundled)
    link_code(bundled)
    assert {file.suffix for file in bundled.iterdir()} == {".json", ".md", ".py", ".safetensors"}


@pytest.mark.parametrize("lack", ["manifest", "free clips"])
def test_recordings_of_unknown_or_other_license_are_refused(recordings, run_script, tmp_path, lack):
    manifest = recordings.parent / "manifest.csv"
    if lack == "manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text().replace("MIMII", "DCASE"))
    done = run_script("scripts/bundle_model.py", "--data_dir", recordings, "--output_dir", tmp_path / "out")
    assert done.returncode == 2 and str(manifest) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
