"""The About page. Its figures come from the model's own files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from texts import told
from transformers.utils.hub import cached_file


PAPER = "https://doi.org/10.1109/LSENS.2024.3480450"

CITATION = """```bibtex
@article{neri2024attention,
  author  = {Neri, Michael and Carli, Marco},
  title   = {Low-complexity Attention-based Unsupervised Anomalous Sound
             Detection exploiting Separable Convolutions and Angular Loss},
  journal = {IEEE Sensors Letters},
  year    = {2024},
  doi     = {10.1109/LSENS.2024.3480450}
}
```"""
# Says a text of the page: its name and its values.
Say = Callable[..., str]


def about_text(model_id: str, write: Say) -> str:
    """Return the page as Markdown. Its table of figures has only what a run of this model measured."""
    results = read_json(model_id, "all_results.json")
    return write(
        "about.text",
        paper=PAPER,
        model=describe_model(read_json(model_id, "config.json"), results, write),
        figures=figures(results, write),
        license=license_text(results, write),
        citation=CITATION,
    )


def license_text(results: dict[str, Any], write: Say) -> str:
    """Return the license of code and model, with the attribution that the model's data ask for."""
    if "attribution" in results:
        attribution = results["attribution"]
        return write("about.license_attributed", license=results["license"].upper(), attribution=attribution)
    of_data = "about.license_synthetic" if is_synthetic(results) else "about.license_of_data"
    return f"{write('about.license')} {write(of_data)}"


def notice(model_id: str) -> list[Any] | None:
    """Return what a visitor must know of a model that is no visitor's own; `None` of any other."""
    results = read_json(model_id, "all_results.json")
    if is_synthetic(results):
        return told("notice.synthetic")
    if any(name.startswith("synthetic_") for name in results.get("enrolled_machines", [])):
        return told("notice.real", clips=f"{results['train_clips']:,}", machines=results["machine_ids"])
    return None


def is_synthetic(results: dict[str, Any]) -> bool:
    """Tell whether a model was trained on synthetic machines."""
    return "synthetic" in results.get("data", "")


def read_json(model_id: str, name: str) -> dict[str, Any]:
    """Return a file of the model, or nothing where the model does not have the file."""
    path = cached_file(model_id, name, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def describe_model(config: dict[str, Any], results: dict[str, Any], write: Say) -> str:
    """Return a paragraph: the machines, the windows, and what the model was trained on."""
    machine_types = ", ".join(sorted({name.rpartition("_id_")[0] for name in config["id2label"].values()}))
    clip_s, rate_khz = config["clip_length"] / config["sampling_rate"], config["sampling_rate"] / 1000
    count = len(config["id2label"])
    text = write("about.machines", machines=count, types=machine_types, seconds=f"{clip_s:g}", rate=f"{rate_khz:g}")
    if results:
        clips, parameters = f"{results['train_clips']:,}", f"{results['parameters']:,}"
        run = {"data": results["data"], "epochs": results["epochs"]}
        text += " " + write("about.trained", clips=clips, parameters=parameters, **run)
    return text


def figures(results: dict[str, Any], write: Say) -> str:
    """Return the table of AUC and pAUC with its caption, or why there is none."""
    test = results.get("test")
    if not test:
        return write("about.no_figures")
    decisions = test.get("decisions")
    if not decisions and "auc" not in test:
        return write("about.no_labels", data=results["data"])
    # The figures of the score that decides, where they were measured.
    measured = decisions["back_ends"][decisions["default"]] if decisions else test
    auc, pauc = measured["auc"], measured["pauc"]
    score = write("about.score_that_decides" if decisions else "about.score_of_paper")
    clips = f"{test['labelled_clips']:,}"
    # By hand: a Space stands alone, without the project's own writer of tables.
    lines = [
        write("about.measured", clips=clips, data=results["data"], score=score),
        "",
        write("about.columns"),
        "|---|---|---|---|",
        *(
            f"| {machine_type} | {with_interval(found, write)} | {with_interval(pauc['per_type'][machine_type], write)} "
            f"| {percent(found['worst_id'], write)} |"
            for machine_type, found in auc["per_type"].items()
        ),
        f"| **{write('about.mean')}** | **{with_interval(auc['mean'], write)}** | **{with_interval(pauc['mean'], write)}** "
        f"| **{percent(auc['mean']['worst_id'], write)}** |",
        *(["", alarms(decisions, write), "", the_papers_score(test, write)] if decisions else []),
    ]
    return "\n".join(lines)


def alarms(decisions: dict[str, Any], write: Say) -> str:
    """Return what the detector's alarms were worth at each rate that was tested."""
    parts = [
        write(
            "about.alarms_at",
            asked=f"{100 * row['requested']:g}".replace(".", write("page.decimal")),
            false=percent(row["false_alarms"]["share"], write),
            normal=row["false_alarms"]["clips"],
            found=percent(row["detected"]["share"], write),
            faulty=row["detected"]["clips"],
        )
        for row in decisions["alarms"][decisions["default"]]
    ]
    return write("about.alarms", rates="; ".join(parts))


def the_papers_score(test: dict[str, Any], write: Say) -> str:
    """Return the figure of the paper's own score, which does not decide; nothing where it was not measured."""
    if "auc" not in test:
        return ""
    return write("about.paper", auc=with_interval(test["auc"]["mean"], write))


def with_interval(figure: dict[str, Any], write: Say) -> str:
    interval = figure["official_ci95"]
    limits = f" ({100 * interval[0]:.0f}–{100 * interval[1]:.0f})" if interval else ""
    return percent(figure["official"], write) + limits


def percent(value: float | None, write: Say) -> str:
    return write("about.undefined") if value is None else f"{100 * value:.1f}".replace(".", write("page.decimal"))


__all__ = ["about_text", "notice"]
