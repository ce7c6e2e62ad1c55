"""The About page, from what the model's own files say was measured."""

import json
from pathlib import Path
from typing import Any

from transformers.utils import cached_file


PAPER = "https://doi.org/10.1109/LSENS.2024.3480450"

TEXT = """
## How it works

1. Ten seconds of sound, or whatever the model was trained on, become a **log-mel** (level by time and frequency) and a
   **Wavegram**, which the network learned from the waveform itself.
2. An **attention map** weighs both: it says where the network looks. It does not say what is wrong.
3. A small convolutional network turns the result into an **embedding**. It was trained to tell machines apart by the
   sound of their normal operation, and has never heard a fault.
4. The distance from this machine's normal recordings is the **anomaly score**: that of the embedding, or of how loud every
   frequency is and how much that changes, or of both, whichever heard altered recordings best after training. Normal
   recordings that were held out turn the score into a **p-value**: how often normal operation sounds as unusual as this. Where
   it does not exceed the share of false alarms that you chose, the verdict is *anomalous*.
5. The **reason** is looked for in the sound itself: bands and moments are put back to this machine's normal level, and
   those that bring the score down are described.

The network is that of M. Neri and M. Carli, [Low-complexity Attention-based Unsupervised Anomalous Sound Detection
exploiting Separable Convolutions and Angular Loss]({paper}), IEEE Sensors Letters 2024.

## This model

{model}

{figures}

## What an alarm means, and what it does not

- An alarm says that the sound is unusual **for this machine**. A door, a voice or a new microphone is unusual, too.
- No alarm does not prove that nothing is wrong: a fault that cannot be heard in the recording cannot be found.
- With *1 in 100*, one normal recording in a hundred raises an alarm by chance, if new recordings are made as the normal
  ones were: same machine, same place, same microphone, same load.
- *Cannot tell* is an answer: silence, a sound like none of the machines, or too few normal recordings.
- It is no safety device, and must not be the only thing that stops a machine.

## What happens to your recordings

They are read on the machine that runs this app, for the answer alone. Uploaded files are deleted after half an hour, an
enrolled detector an hour after it was made. Nothing is trained on them, and nothing is sent elsewhere.

## Use it from a program

`detect`, `enroll` and `machines` are endpoints for `gradio_client` and tools of the MCP server at `/gradio_api/mcp/`;
*Use via API* at the foot of the page shows how. The answer of `detect` is that of the pipeline, unchanged.

## Licence and citation

Code and model: Apache 2.0. {data_licence}

```bibtex
@article{{neri2024attention,
  author  = {{Neri, Michael and Carli, Marco}},
  title   = {{Low-complexity Attention-based Unsupervised Anomalous Sound
             Detection exploiting Separable Convolutions and Angular Loss}},
  journal = {{IEEE Sensors Letters}},
  year    = {{2024}},
  doi     = {{10.1109/LSENS.2024.3480450}}
}}
```
"""


def model_file(model_id: str, name: str) -> dict[str, Any] | None:
    path = cached_file(model_id, name, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else None


def is_synthetic(model_id: str) -> bool:
    return "synthetic" in (model_file(model_id, "all_results.json") or {}).get("data", "")


def about_text(model_id: str) -> str:
    """The page as Markdown. Only what a run of this model measured is in the table of figures."""
    results, config = model_file(model_id, "all_results.json"), model_file(model_id, "config.json")
    machines = ", ".join(sorted({name.rpartition("_id_")[0] for name in config["id2label"].values()}))
    clip = config["clip_length"] / config["sampling_rate"]
    model = f"{len(config['id2label'])} machines ({machines}), windows of {clip:g} s at {config['sampling_rate'] / 1000:g} kHz."
    if results:
        model += (
            f" Trained on {results['train_clips']:,} normal clips of {results['data']} for {results['epochs']} epochs; "
            f"{results['parameters']:,} parameters."
        )
    licence = (
        "The sounds of the demonstration are synthetic and come with the code."
        if is_synthetic(model_id)
        else "The licence of the recordings that a model was trained on is in its card."
    )
    return TEXT.format(paper=PAPER, model=model, figures=figures(results), data_licence=licence)


def figures(results: dict[str, Any] | None) -> str:
    test = (results or {}).get("test")
    if not test:
        return "No measured figures lie beside this model."
    if "auc" not in test:
        return (
            f"Nothing could be measured: none of the test clips of {results['data']} is labelled normal or anomalous."
        )
    lines = [
        f"Measured on {test['labelled_clips']:,} test clips of {results['data']}, which training has not seen: mean over "
        "machine IDs in per cent, with the 95 % confidence interval. 50 is chance.",
        "",
        "| Machine type | AUC | pAUC | worst machine's AUC |",
        "|---|---|---|---|",
    ]

    def percent(value: float | None) -> str:
        return "undefined" if value is None else f"{100 * value:.1f}"

    def cell(part: dict[str, Any]) -> str:
        interval = part["official_ci95"]
        return percent(part["official"]) + (f" ({100 * interval[0]:.0f}–{100 * interval[1]:.0f})" if interval else "")

    for machine_type, auc in test["auc"]["per_type"].items():
        pauc = test["pauc"]["per_type"][machine_type]
        lines.append(f"| {machine_type} | {cell(auc)} | {cell(pauc)} | {percent(auc['worst_id'])} |")
    auc, pauc = test["auc"]["mean"], test["pauc"]["mean"]
    lines.append(f"| **mean** | **{cell(auc)}** | **{cell(pauc)}** | {percent(auc['worst_id'])} |")
    return "\n".join(lines)


__all__ = ["about_text", "is_synthetic"]
