"""The faults of the published evaluation, repeated on request so that figures can be compared: `--protocol paper`.

| | honest (the default) | paper |
|---|---|---|
| classes | one per machine ID | the published code's 41: pump id_06 and slider id_00 share one, another is never used |
| epoch | smallest loss on held-out normal clips | largest AUC on the test set |
| a type's AUC | mean over its machine IDs | its clips pooled; pump id_06 counts as slider |
| mean (Table 2) | mean over types | all clips pooled |

Peers know no such classes and choose no epoch: of their figures only the last two lines differ.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from dcase2020_task2 import label_name
from evaluation.evaluate_model import write_scores
from evaluation.loading import best_device, load_network
from evaluation.score_clips import ScoredClips, score_clips
from metrics.asd_auc import asd_auc
from training.checkpoints import list_checkpoints
from training.published_labels import published_labels


PROTOCOLS = ("honest", "paper")


def write_published_labels(path: Path, machines: Iterable[str]) -> Path:
    """Write `published_labels` as the file that `train.py --labels` takes, and return `path`.

    Raises:
        ValueError: a machine that the published code has no class for.
    """
    id2label, label2id = published_labels()
    unknown = sorted(set(machines) - label2id.keys())
    if unknown:
        raise ValueError(
            f"--protocol paper: the published code has no class for {', '.join(unknown)}; its machines are those of DCASE "
            "2020 Task 2. Use --protocol honest."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"id2label": id2label, "label2id": label2id}, indent=1) + "\n", encoding="utf-8")
    return path


def published_type(machine_type: str, machine_id: str) -> str:
    """Return the row of Table 1 that a machine is counted in.

    A class that two machines share is counted in the type whose range begins with the class.
    """
    id2label, label2id = published_labels()
    index = label2id.get(label_name(machine_type, machine_id))
    return machine_type if index is None else id2label[index].rpartition("+")[2].partition("_id_")[0]


def figures_of_merit(rows: Sequence[dict[str, Any]], protocol: str, num_bootstrap: int = 1000) -> dict[str, Any]:
    """Return `metrics.asd_auc` of scored rows, with the machine types as the protocol counts them.

    Args:
        rows: clips with `machine_type`, `machine_id`, `is_anomaly` and `score`.
        protocol: `"honest"` or `"paper"`.
        num_bootstrap: samples behind the intervals.
    """
    types = [row["machine_type"] for row in rows]
    ids = [row["machine_id"] for row in rows]
    if protocol == "paper":
        counted = [published_type(*machine) for machine in zip(types, ids, strict=True)]
        # Two machines may have the same ID in the type that they are counted in.
        ids = [i if new == old else f"{i}-{old}" for i, old, new in zip(ids, types, counted, strict=True)]
        types = counted
    scores = [row["score"] for row in rows]
    return asd_auc(scores, [int(row["is_anomaly"]) for row in rows], types, ids, n_bootstrap=num_bootstrap)


def choose_epoch_on_test(model_dir: Path, rows: Sequence[dict[str, Any]], data_dir: Path) -> None:
    """Repeat the second fault: choose the epoch whose AUC on the test clips is largest, all types pooled.

    The name of the published checkpoint says so (93.44). Writes `model_dir/chosen_on_test/` with scores.csv and
    choice.json, the AUC of each epoch.

    Args:
        model_dir: directory that train.py wrote, with a checkpoint of every epoch.
        rows: test clips.
        data_dir: folder that the clips' paths are written relative to.

    Raises:
        ValueError: there is no checkpoint.
    """
    loaded = load_network(model_dir, best_device())
    auc: dict[str, float] = {}
    best: tuple[str, ScoredClips] | None = None
    for checkpoint in list_checkpoints(model_dir / "checkpoints"):
        loaded.model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        scored = score_clips(loaded.model, loaded.feature_extractor, rows, progress=False)
        figures = figures_of_merit(scored.rows, "paper", num_bootstrap=0)
        auc[checkpoint.name] = figures["auc"]["mean"]["all_clips_pooled"]
        if best is None or auc[checkpoint.name] > auc[best[0]]:
            best = (checkpoint.name, scored)
    if best is None:
        raise ValueError(
            f"{model_dir}/checkpoints: no step_N folder. Train with --save_total_limit, the number of epochs."
        )
    chosen, scored = best
    output_dir = model_dir / "chosen_on_test"
    output_dir.mkdir(exist_ok=True)
    (output_dir / "choice.json").write_text(
        json.dumps({"chosen": chosen, "auc_all_clips_pooled": auc}, indent=1) + "\n",
        encoding="utf-8",
    )
    write_scores(scored, output_dir, data_dir)
