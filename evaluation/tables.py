"""Results of an evaluation as Markdown tables, for the terminal and the model card."""

from typing import Any

from modeling.self_test_attention_asd import SelfTest, mean

from .markdown import markdown_table


Results = dict[str, Any]


def summary_table(results: Results) -> str:
    """Return the figures of merit as a table, one row a machine type, with the control's beside them."""
    systems = {"model": results, **({"control": results["control"]} if "control" in results else {})}
    columns = ("AUC official", "AUC pooled [95 %]", "AUC worst ID", "pAUC official")
    header = ["machine type", "clips", *(f"{system}: {column}" for system in systems for column in columns)]
    clips = clips_by_type(results)
    rows = [
        [name, clips[name], *(cell for system in systems.values() for cell in merit_cells(system, name))]
        for name in clips
    ]
    return markdown_table(header, rows)


def merit_cells(system: Results, machine_type: str) -> list[str]:
    auc, pauc = (by_type(system[metric])[machine_type] for metric in ("auc", "pauc"))
    return [percent(auc["official"]), with_interval(auc, "pooled"), percent(auc["worst_id"]), percent(pauc["official"])]


def merit_table(results: Results) -> str:
    """Return the figures of merit with their intervals, one row a machine type, with the control's beside them."""
    header = ["machine type", "normal + anomalous clips", "AUC", "pAUC", "AUC pooled", "AUC worst ID"]
    if "control" in results:
        header += ["control: AUC", "control: pAUC"]
    rows = []
    for name, clips in clips_by_type(results).items():
        auc, pauc = (by_type(results[metric])[name] for metric in ("auc", "pauc"))
        row = [name, clips, with_interval(auc, "official"), with_interval(pauc, "official")]
        row += [with_interval(auc, "pooled"), percent(auc["worst_id"])]
        if "control" in results:
            row += [with_interval(by_type(results["control"][metric])[name], "official") for metric in ("auc", "pauc")]
        rows.append(row)
    return markdown_table(header, rows)


def decisions_tables(decisions: Results) -> str:
    """Return two tables: a row for each back end, then the alarms of the default back end."""
    back_ends = []
    for backend, merit in decisions["back_ends"].items():
        name = f"**{backend}**" if backend == decisions["default"] else backend
        auc, pauc = merit["auc"]["mean"], merit["pauc"]["mean"]
        cells = [with_interval(auc, "official"), with_interval(auc, "pooled"), percent(auc["worst_id"])]
        back_ends.append([name, *cells, with_interval(pauc, "official")])
    alarms = [
        [f"{100 * alarm['requested']:g} %", share_cell(alarm["false_alarms"]), share_cell(alarm["detected"])]
        for alarm in decisions["alarms"][decisions["default"]]
    ]
    header = ["back end", "AUC official [95 %]", "AUC pooled [95 %]", "AUC worst ID", "pAUC official [95 %]"]
    alarm_header = ["false alarms asked for", "false alarms [95 %]", "detected [95 %]"]
    return "\n\n".join([markdown_table(header, back_ends), markdown_table(alarm_header, alarms)])


def by_type(figures: Results) -> dict[str, Results]:
    """Return the figures of every machine type, and after them their means."""
    return {**figures["per_type"], "mean over types": figures["mean"]}


def clips_by_type(results: Results) -> dict[str, str]:
    """Return the numbers of normal and anomalous clips of every machine type, and after them of all types."""
    counts = results["counts"]["per_type"]
    totals = {kind: sum(of_type[kind] for of_type in counts.values()) for kind in ("normal", "anomalous")}
    return {
        name: f"{counts.get(name, totals)['normal']} + {counts.get(name, totals)['anomalous']}"
        for name in by_type(results["auc"])
    }


def self_tests_table(tests: dict[str, SelfTest], rate: float = 0.05) -> str | None:
    """Return what the recordings of each machine are worth, one row a machine; `None` where no machine was tested."""
    rows = []
    for name, tested in tests.items():
        found = tested.at_rate(rate)
        altered = mean(found.altered)
        alarms = "unknown" if found.false_alarms is None else f"{found.false_alarms} of {tested.recordings}"
        shares = ["unknown" if share is None else f"{100 * share:.0f} %" for share in (found.others, altered)]
        heard = "cannot be told" if found.heard is None else f"about {round(10 * found.heard)}"
        rows.append([name, tested.recordings, alarms, *shares, heard])
    header = ["machine", "recordings", "false alarms", "other machines", "altered sounds", "faults heard, of 10"]
    return markdown_table(header, rows) if rows else None


def share_cell(share: Results | None) -> str:
    if share is None:
        return "no such clips"
    return f"{percent(share['share'])} [{', '.join(map(percent, share['ci95']))}]"


def with_interval(merit: Results, name: str) -> str:
    """Return a figure in per cent, with its interval in brackets where there is one."""
    interval = merit[f"{name}_ci95"]
    return percent(merit[name]) + (f" [{percent(interval[0])}, {percent(interval[1])}]" if interval else "")


def percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"
