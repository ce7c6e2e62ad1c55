"""Write a tiny model as this version saves it: what the next version has to load, or to refuse by name.

    PYTHONPATH=. python tests/saved_models/make.py

Run it once after a new format, and commit the folder that it writes. Folders of earlier formats stay as they are.
"""

import json
from pathlib import Path

import numpy as np
import torch

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalousSoundDetectionPipeline, AnomalyDetector, AttentionAsdConfig, AttentionAsdModel
from modeling.detector_files_attention_asd import FORMAT_VERSION


MACHINES = {"fan_id_00": 300.0, "pump_id_02": 1100.0}
CLIPS = 16
SIZES = {"clip_length": 8_000, "hop_length": 256, "num_mel_bins": 16}


def sound(hertz: float, key: int, hiss: float = 0.02) -> np.ndarray:
    """A tone in noise, `(clip_length,)`."""
    times = np.arange(SIZES["clip_length"]) / 16_000
    noise = np.random.default_rng([int(hertz), key]).standard_normal(len(times))
    return (0.2 * np.sin(2 * np.pi * hertz * times) + hiss * noise).astype(np.float32)


def answers(detect: AnomalousSoundDetectionPipeline) -> list[dict[str, object]]:
    """What a pipeline says of sounds that it has not been fitted on."""
    results = []
    for name, hertz in MACHINES.items():
        for hiss in (0.02, 0.5):
            result = detect(sound(hertz, 99, hiss), machine=name, false_alarm_rate=0.1)
            results.append({key: result[key] for key in ("machine", "verdict", "score")})
    return results


def main() -> None:
    torch.manual_seed(0)
    config = AttentionAsdConfig(
        **SIZES,
        wavegram_kernel_size=512,
        stem_channels=4,
        bottlenecks=[[1, 8, 1, 2]],
        head_channels=8,
        attention_channels=[2, 4],
        embedding_size=8,
        id2label=dict(enumerate(MACHINES)),
    )
    model = AttentionAsdModel(config).eval()
    extractor = AttentionAsdFeatureExtractor(**SIZES, n_fft=512)
    names = [name for name in MACHINES for _ in range(CLIPS)]
    with torch.no_grad():
        outputs = model(**extractor([sound(MACHINES[name], i) for i, name in enumerate(names)], sampling_rate=16_000))
    detector = AnomalyDetector.fit(config, outputs, names, np.arange(len(names)) % 2 == 1)
    detect = AnomalousSoundDetectionPipeline(model=model, feature_extractor=extractor, detector=detector, device="cpu")
    folder = Path(__file__).parent / f"format_{FORMAT_VERSION}"
    detect.save_pretrained(folder)
    for code in folder.glob("*.py"):
        code.unlink()
    (folder / "answers.json").write_text(json.dumps(answers(detect), indent=2) + "\n")


if __name__ == "__main__":
    main()
