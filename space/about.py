"""The About page. Its figures come from the model's own files."""

import json
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file


PAPER = "https://doi.org/10.1109/LSENS.2024.3480450"

TEXT = """
## How it works

1. Ten seconds of sound, or as much as the model was trained on, become a **log-mel** (level by time and frequency) and a
   **Wavegram**, which the network learned from the waveform itself.
2. An **attention map** weighs both. It says where the network looks. It does not say what is wrong.
3. A small convolutional network turns the result into an **embedding**. The network was trained to tell machines apart by
   the sound of their normal operation. It has never received a fault.
4. The **anomaly score** is the distance from this machine's normal recordings, measured between spectra: the level of
   every frequency, and how fast that level changes.
5. Normal recordings, each left out in turn, turn the score into a **p-value**: how often normal operation sounds as unusual
   as this. The verdict is *anomalous* where the p-value does not exceed the share of false alarms that you chose.
6. The **reason** is searched for in the sound itself. Bands and moments are put back to this machine's normal level, and
   those that lower the score are described.

The network is that of M. Neri and M. Carli, [Low-complexity Attention-based Unsupervised Anomalous Sound Detection
exploiting Separable Convolutions and Angular Loss]({paper}), IEEE Sensors Letters 2024.

## This model

{model}

{figures}

## What an alarm means, and what it does not

- An alarm says that the sound is unusual **for this machine**. A door, a voice or a new microphone is unusual, too.
- A missing alarm does not prove that the machine is fine: a fault that makes no sound cannot be found.
- With *1 in 100*, one normal recording in a hundred raises an alarm by chance, if new recordings are made as the normal
  ones were: same machine, same place, same microphone, same load.
- *Cannot tell* is an answer: silence, a sound like none of the machines, or too few normal recordings.
- The detector is no safety device. It must not be the only thing that stops a machine.

## What happens to your recordings

The server of this app reads them, and only for the answer. Uploaded files are deleted after half an hour, an
enrolled detector an hour after it was made. Your browser keeps a copy of the detector until you tell it to forget.
Nothing is trained on your recordings, and nothing is sent elsewhere. Verdicts are kept by your browser, unless the owner
of this app has named a folder for them: the tab *History* says which.

## Use it from a program

`detect`, `enroll` and `machines` are endpoints for `gradio_client` and tools of the MCP server at `/gradio_api/mcp/`;
*Use via API* at the foot of the page shows how. The answer of `detect` is that of the pipeline, unchanged.

## License and citation

{license}

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


def about_text(model_id: str) -> str:
    """Return the page as Markdown. Its table of figures has only what a run of this model measured."""
    results = read_json(model_id, "all_results.json")
    return TEXT.format(
        paper=PAPER,
        model=describe_model(read_json(model_id, "config.json"), results),
        figures=figures(results),
        license=license_text(results),
    )


def license_text(results: dict[str, Any]) -> str:
    """Return the license of code and model, with the attribution that the model's data ask for."""
    if "attribution" in results:
        return f"Code and examples: Apache 2.0. Model: {results['license'].upper()}. {results['attribution']}"
    text = "Code and model: Apache 2.0."
    if is_synthetic(results):
        return f"{text} The sounds of the demonstration are synthetic and come with the code."
    return f"{text} The license of the recordings that a model was trained on is in its card."


def notice(model_id: str) -> str | None:
    """Return what a visitor must know of a model that is no visitor's own; `None` of any other."""
    results = read_json(model_id, "all_results.json")
    if is_synthetic(results):
        return (
            "This model was trained on synthetic machines, written by formula. It shows how the app works; it knows nothing "
            "about real machines."
        )
    if any(name.startswith("synthetic_") for name in results.get("enrolled_machines", [])):
        return (
            f"This model was trained on {results['train_clips']:,} recordings of {results['machine_ids']} real machines. The "
            "examples are synthetic machines, enrolled beside them. It does not know your machine before you enroll it."
        )
    return None


def is_synthetic(results: dict[str, Any]) -> bool:
    """Tell whether a model was trained on synthetic machines."""
    return "synthetic" in results.get("data", "")


def read_json(model_id: str, name: str) -> dict[str, Any]:
    """Return a file of the model, or nothing where the model does not have the file."""
    path = cached_file(model_id, name, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def describe_model(config: dict[str, Any], results: dict[str, Any]) -> str:
    """Return a paragraph: the machines, the windows, and what the model was trained on."""
    machine_types = ", ".join(sorted({name.rpartition("_id_")[0] for name in config["id2label"].values()}))
    clip_s, rate_khz = config["clip_length"] / config["sampling_rate"], config["sampling_rate"] / 1000
    text = f"{len(config['id2label'])} machines ({machine_types}), windows of {clip_s:g} s at {rate_khz:g} kHz."
    if results:
        text += (
            f" Trained on {results['train_clips']:,} normal clips of {results['data']} for {results['epochs']} epochs; "
            f"{results['parameters']:,} parameters."
        )
    return text


def figures(results: dict[str, Any]) -> str:
    """Return the table of AUC and pAUC with its caption, or why there is none."""
    test = results.get("test")
    if not test:
        return "No measured figures lie beside this model."
    decisions = test.get("decisions")
    if not decisions and "auc" not in test:
        return (
            f"Nothing could be measured: none of the test clips of {results['data']} is labelled normal or anomalous."
        )
    # The figures of the score that decides, where they were measured.
    measured = decisions["back_ends"][decisions["default"]] if decisions else test
    auc, pauc = measured["auc"], measured["pauc"]
    # By hand: a Space stands alone, without the project's own writer of tables.
    lines = [
        f"Measured on {test['labelled_clips']:,} test clips of {results['data']}, which training has not seen: "
        f"{'the score that decides' if decisions else 'the score of the paper'}, mean over machine IDs in per cent, with the "
        "95 % confidence interval. 50 is chance.",
        "",
        "| Machine type | AUC | pAUC | worst machine's AUC |",
        "|---|---|---|---|",
        *(
            f"| {machine_type} | {with_interval(found)} | {with_interval(pauc['per_type'][machine_type])} "
            f"| {percent(found['worst_id'])} |"
            for machine_type, found in auc["per_type"].items()
        ),
        f"| **mean** | **{with_interval(auc['mean'])}** | **{with_interval(pauc['mean'])}** "
        f"| {percent(auc['mean']['worst_id'])} |",
        *(["", alarms(decisions), "", the_papers_score(test)] if decisions else []),
    ]
    return "\n".join(lines)


def alarms(decisions: dict[str, Any]) -> str:
    """Return what the detector's alarms were worth at each rate that was tested."""
    parts = [
        f"{100 * row['requested']:g} %: {percent(row['false_alarms']['share'])} % of "
        f"{row['false_alarms']['clips']} normal clips and {percent(row['detected']['share'])} % of "
        f"{row['detected']['clips']} faults"
        for row in decisions["alarms"][decisions["default"]]
    ]
    return f"Alarms, by the share of false ones asked for: {'; '.join(parts)}."


def the_papers_score(test: dict[str, Any]) -> str:
    """Return the figure of the paper's own score, which does not decide; nothing where it was not measured."""
    if "auc" not in test:
        return ""
    return f"The paper's score, by the network alone, has a mean AUC of {with_interval(test['auc']['mean'])}."


def with_interval(figure: dict[str, Any]) -> str:
    interval = figure["official_ci95"]
    limits = f" ({100 * interval[0]:.0f}–{100 * interval[1]:.0f})" if interval else ""
    return percent(figure["official"]) + limits


def percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.1f}"


__all__ = ["about_text", "notice"]
