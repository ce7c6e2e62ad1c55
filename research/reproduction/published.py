"""Figures that others published, quoted. Nothing in this file was measured by this project.

Table 1 of Neri and Carli 2024 gives AUC and pAUC in per cent on the DCASE 2020 Task 2 development test set. The paper's
own row is pooled over the machine IDs of a type. OS-SCL (ICASSP 2025) came after it.
"""

from dataclasses import dataclass, field
from statistics import fmean


# (AUC, pAUC) in per cent.
Pair = tuple[float, float]

MACHINE_TYPES = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")


@dataclass(frozen=True)
class PublishedSystem:
    """A row of Table 1. `mean` is what was printed; `mean_of_row` is computed from the six types."""

    title: str
    parameters: str
    mean: Pair
    per_type: dict[str, Pair] = field(default_factory=dict)

    @property
    def mean_of_row(self) -> Pair | None:
        if not self.per_type:
            return None
        auc, pauc = zip(*self.per_type.values(), strict=True)
        return fmean(auc), fmean(pauc)


def _row(title: str, parameters: str, mean: Pair, *pairs: Pair) -> PublishedSystem:
    return PublishedSystem(title, parameters, mean, dict(zip(MACHINE_TYPES, pairs, strict=False)))


# Keys are those of `research.baselines.BASELINES` and of `systems`.
TABLE_1 = {
    "autoencoder": _row(
        "DCASE baseline autoencoder", "270 k", (73.7, 59.0),
        (65.2, 52.6), (72.6, 60.0), (85.0, 66.9), (66.5, 50.6), (80.1, 67.2), (72.7, 60.7),
    ),
    "idnn": _row(
        "IDNN", "46 k", (76.96, 62.57),
        (67.71, 52.90), (73.76, 61.07), (86.45, 67.58), (84.09, 64.94), (78.69, 69.22), (71.07, 59.70),
    ),
    "mobilenet_v2": _row(
        "MobileNetV2", "1.1 M", (84.34, 77.74),
        (80.19, 74.40), (82.53, 76.50), (95.27, 85.22), (88.65, 87.98), (87.66, 85.92), (69.71, 56.43),
    ),
    "glow_aff": _row(
        "Glow-Aff", "30 M", (85.20, 73.90),
        (74.90, 65.30), (83.40, 73.80), (94.60, 82.80), (91.40, 75.00), (92.20, 84.10), (71.50, 59.00),
    ),
    "gmm_arcface": _row(
        "GMM + ArcFace", "1 M", (89.86, 82.68),
        (87.97, 80.66), (95.63, 85.74), (99.22, 97.55), (91.26, 84.00), (95.28, 86.91), (69.80, 61.21),
    ),
    "stgram_mfn": _row(
        "STgram-MFN", "1.1 M", (92.36, 86.34),
        (94.04, 88.97), (91.94, 81.75), (99.55, 97.61), (99.64, 98.44), (94.44, 87.68), (74.57, 63.60),
    ),
    "sw_wavenet": _row(
        "SW-WaveNet", "27 M", (93.25, 87.41),
        (97.53, 91.54), (87.27, 82.68), (98.96, 94.58), (99.01, 97.26), (95.49, 90.20), (81.20, 68.20),
    ),
    "noisy_arcmix": _row(
        "Noisy-ArcMix (TASTgram-MFN)", "1.1 M", (94.65, 89.31),
        (98.32, 95.34), (95.44, 85.99), (99.53, 97.50), (99.95, 99.74), (96.76, 90.11), (77.90, 67.15),
    ),
    "os_scl": _row("OS-SCL", "", (95.71, 90.23)),
    "attention_asd": _row(
        "Neri and Carli 2024", "884 k", (94.65, 87.86),
        (95.10, 87.25), (91.97, 80.00), (99.24, 96.10), (99.99, 99.96), (96.99, 90.30), (84.59, 73.55),
    ),
}  # fmt: skip

# What Table 2 prints for the paper's own system, beside the means of its peers' rows.
TABLE_2_OWN: Pair = (93.44, 85.71)

# Keys are those of `systems.NETWORKS`. The full network's row is 0.01 below Table 2's AUC in the paper, too.
TABLE_3: dict[str, Pair] = {
    "log_mel": (92.26, 84.55),
    "wavegram": (63.48, 54.12),
    "embedding_64": (91.94, 85.00),
    "embedding_256": (90.87, 83.94),
    "attention_asd": (93.43, 85.71),
}
TABLE_4: dict[str, Pair] = {
    "plain_without_attention": (90.50, 83.62),
    "plain": (92.25, 84.82),
    "without_attention": (91.72, 84.52),
    "attention_asd": (93.43, 85.71),
}
