"""Load a model directory as its reader does, by its own code, and print what one recording gives, as JSON.

    python scripts/check_hub_code.py DIRECTORY_OR_REPOSITORY

The program needs torch, transformers, soundfile and soxr, and nothing of this project. `scripts/matrix.py` runs the
program in environments of many versions; the numbers are rounded to the digits that all of them share.
"""

import json
import platform
import sys
from typing import Any

import torch
import transformers
from transformers import AutoFeatureExtractor, AutoModel, pipeline


def clip_of_a_machine(seconds: float = 10.0, rate: int = 16000) -> torch.Tensor:
    """Two tones, with impacts twice a second: the same samples on every machine and with every version."""
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    tones = (2 * torch.pi * 120 * time).sin() + 0.3 * (2 * torch.pi * 1830 * time).sin()
    impacts = (2 * torch.pi * 2900 * time).sin() * torch.exp(-40 * (time % 0.5))
    return (0.05 * (tones + impacts)).float()


def refusal(configuration: Any) -> str:
    """What the configuration says to a clip of one sample; nothing, if it takes the clip."""
    try:
        configuration(clip_length=1)
    except ValueError as error:
        return str(error)
    return ""


def main(name: str) -> None:
    """Load by the Auto classes and by `pipeline`, judge, print."""
    model = AutoModel.from_pretrained(name, trust_remote_code=True).eval()
    feature_extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=True)
    clip = clip_of_a_machine()
    inputs = feature_extractor(clip.numpy(), sampling_rate=feature_extractor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        anomaly_score = float(model(**inputs).anomaly_scores)
    task: Any = "anomalous-sound-detection"  # transformers lists its own tasks only
    detect: Any = pipeline(task, model=name, trust_remote_code=True)
    result = detect(clip.numpy(), machine=detect.detector.machines[0])
    row = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "anomaly_score": round(anomaly_score, 3),
        "score": round(result["score"], 4),
        "p_value": float(f"{result['p_value']:.3g}"),
        "verdict": result["verdict"],
        "refusal": refusal(type(model.config)),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1])
