"""How one figure is written into a Markdown cell or into columns of a CSV file."""

from .merit import Estimate
from .published import Pair


def signed(change: Estimate) -> str:
    """Return a difference with its interval, such as `+1.2 [-0.3, +2.7]`."""
    return f"{change.mean:+.1f} [{change.low:+.1f}, {change.high:+.1f}]"


def pair_text(pair: Pair | None) -> str:
    """Return published AUC and pAUC as `93.44/85.71`, and nothing for `None`."""
    return "" if pair is None else f"{pair[0]:.2f}/{pair[1]:.2f}"


def columns(name: str, figure: Estimate | None) -> dict[str, float | None]:
    """Return a figure's four columns of the CSV file: mean, standard deviation and both ends of the interval."""
    if figure is None:
        return {f"{name}{part}": None for part in ("", "_sd", "_low", "_high")}
    return {name: figure.mean, f"{name}_sd": figure.deviation, f"{name}_low": figure.low, f"{name}_high": figure.high}


def pair_columns(pair: Pair | None) -> dict[str, float | None]:
    """Return published AUC and pAUC in the columns of measured ones, without deviation and interval."""
    auc, pauc = (None, None) if pair is None else (Estimate(value, None, None, None) for value in pair)
    return columns("auc", auc) | columns("pauc", pauc)


def published_columns(pair: Pair | None) -> dict[str, float | None]:
    """Return published AUC and pAUC in columns that say where they come from."""
    auc, pauc = pair or (None, None)
    return {"published_auc_dcase2020": auc, "published_pauc_dcase2020": pauc}
