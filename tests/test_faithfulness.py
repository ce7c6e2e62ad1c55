"""research/benchmarks/faithfulness: the study of relevance maps on clips with known faults."""

import csv

import numpy as np
import torch

from dcase2020_task2 import label_name
from feature_extraction import AttentionAsdFeatureExtractor
from machine_room import generate_machine_room
from modeling import AnomalyDetector
from research.benchmarks.faithfulness.__main__ import main as faithfulness_main
from research.benchmarks.faithfulness.report import MAP_MEASURES


def test_the_study_writes_its_tables_and_its_picture(tmp_path, small_model, capsys):
    small_extractor = AttentionAsdFeatureExtractor(clip_length=32_000)
    room = generate_machine_room(
        tmp_path / "room", clip_seconds=2.0, machine_types=["fan", "pump"], ids_per_type=1, train_clips=12,
        test_normal_clips=0, test_anomalous_clips=8, num_workers=1, progress=False,
    )  # fmt: skip
    names = ["fan_id_00", "pump_id_00"]
    model = small_model(clip_length=32_000, id2label=dict(enumerate(names)))
    clips = sorted(room.glob("*/train/*.wav"))
    waveforms = torch.stack([small_extractor.read_clip(path) for path in clips])
    log_mels = small_extractor.log_mel(waveforms)
    with torch.no_grad():
        outputs = model(waveforms, log_mels)
    machines = [label_name(path.parts[-3], "00") for path in clips]
    detector = AnomalyDetector.fit(model.config, outputs, machines, np.arange(len(clips)) % 3 == 0)
    for part in (model, small_extractor, detector):
        part.save_pretrained(tmp_path / "model")
    output_dir = tmp_path / "results"
    arguments = ["--model", tmp_path / "model", "--data_dir", room, "--output_dir", output_dir, "--clips", 1]
    faithfulness_main(list(map(str, arguments)))
    with (output_dir / "faithfulness.csv").open() as file:
        rows = list(csv.DictReader(file))
    maps = {row["map"] for row in rows}
    assert {"random", "attention map (paper)", "level difference", "integrated gradients"} <= maps
    assert all(0 <= float(row[measure]) <= 1 for row in rows for measure in MAP_MEASURES)
    assert "| random |" in (output_dir / "faithfulness.md").read_text() and "| random |" in capsys.readouterr().out
    assert (output_dir / "reasons.png").read_bytes().startswith(b"\x89PNG")
