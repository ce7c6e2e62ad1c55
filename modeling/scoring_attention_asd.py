"""
From the network's embedding to a decision, fitted on recordings of normal operation alone.

Back ends give a clip an anomaly score; held-out normal clips give the score a p-value; the p-value and the false-alarm
rate that the user chose give the verdict. [`AnomalyDetector.decide_recording`] is the one place where a verdict is
made.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import cached_file
from transformers.utils.hub import resolve_revision

from .configuration_attention_asd import AttentionAsdConfig
from .modeling_attention_asd import AttentionAsdArcFace


TENSORS_FILE = "scoring.safetensors"
CONFIG_FILE = "scoring_config.json"
FORMAT_VERSION = 1

NORMAL, ANOMALOUS, CANNOT_TELL = "normal", "anomalous", "cannot tell"

# Nearest normal clips that a clip is compared with, and clips that it takes to tell one more mode of operation apart.
NEIGHBOURS = 4
CLIPS_PER_COMPONENT = 25
MAX_COMPONENTS = 4
# A mixture's variances are drawn towards those of all machines together as if those had been seen on so many clips.
PRIOR_CLIPS = 10

# Clips that a machine's enrolment scores against the others, one share after the other; all of them up to this number.
FOLDS = 10
MAX_NAME_LENGTH = 200
# Below these a tail says nothing, and machines whose scores are all the same would count as known exactly.
MIN_DEGREES = 2.0
MIN_VARIANCE = 1e-12
MIN_CLIPS_FOR_OUTLIERS = 10
# A rate that is reached exactly counts as reached.
ROUNDING = 1e-9

Array = torch.Tensor | np.ndarray


@dataclass
class Decision:
    """
    What the detector says about a recording or about one of its windows.

    Args:
        verdict (`str`):
            `"normal"`, `"anomalous"` or `"cannot tell"`.
        score (`float`, *optional*):
            Anomaly score of the back end, the highest of a recording's windows; the higher, the more anomalous.
        threshold (`float`, *optional*):
            The score above which the verdict is anomalous.
        p_value (`float`, *optional*):
            How often a normal recording of this machine would look as anomalous as this one or more so. Adjusted for
            the number of windows: anomalous where it does not exceed `false_alarm_rate`.
        false_alarm_rate (`float`):
            The share of normal recordings that may be called anomalous.
        machine (`str`, *optional*):
            The machine that the recording was judged as: the claimed one, else the closest one, or `None`.
        predicted_machine (`str`, *optional*):
            The closest enrolled machine, or `None` where the sound may well be none of them.
        closeness (`float`, *optional*):
            Cosine between the embedding and the mean direction of the closest machine's normal clips, in [-1, 1].
        method (`str`, *optional*):
            What the p-value rests on: `"conformal"` (ranks among held-out clips, a guarantee), `"cross-conformal"`
            (ranks among an enrolled machine's own clips, each left out in turn), `"fitted tail"` (a distribution fitted
            to too few clips for ranks) or `"other machines"` (no clip of this machine was left to calibrate with).
        calibration_clips (`int`):
            The number of normal clips of this machine that the p-value rests on.
        backend (`str`):
            The back end that gave the score.
        note (`str`, *optional*):
            Why the detector cannot tell, or what makes its verdict doubtful.
    """

    verdict: str
    score: float | None
    threshold: float | None
    p_value: float | None
    false_alarm_rate: float
    machine: str | None
    predicted_machine: str | None
    closeness: float | None
    method: str | None
    calibration_clips: int
    backend: str
    note: str | None = None

    def to_dict(self) -> dict[str, str | float | int | None]:
        return asdict(self)


@dataclass
class NormalMachine:
    """What is known of one machine in normal operation. h is the embedding's size, B the number of back ends.

    `embeddings` (clips, h) of unit length and their `mean` (h,); a mixture of k Gaussians in the whitened space;
    `calibration` (B, clips), sorted scores of clips that were not fitted on; `tails` (B, 3), the distribution fitted to
    them as location, scale and degrees of freedom; `level` (2, bins), mean and standard deviation of the log-mel in dB.
    `label` is its place among the network's machine IDs, if it has one. A sound whose closeness lies below
    `unknown_below` is not taken to be this machine.
    """

    name: str
    label: int | None
    is_enrolled: bool
    unknown_below: float
    embeddings: torch.Tensor
    mean: torch.Tensor
    mixture_weights: torch.Tensor
    mixture_means: torch.Tensor
    mixture_variances: torch.Tensor
    calibration: torch.Tensor
    tails: torch.Tensor
    level: torch.Tensor

    @classmethod
    def tensor_names(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.type is torch.Tensor]


# The back ends: the higher the score of a clip, the less it is like the machine's normal clips. All of them see the
# embedding's direction alone, since the angular loss leaves its length free.


def arcface_scores(
    detector: "AnomalyDetector", machine: NormalMachine, unit: torch.Tensor, cosines: torch.Tensor
) -> torch.Tensor:
    """The paper's score (Section II.D): cross-entropy of the claimed machine ID, margin included.

    An enrolled machine has no centre in the network: the mean direction of its clips is added as one more.
    """
    label = machine.label
    if label is None:
        own = 1.0 - centre_scores(detector, machine, unit, cosines)
        cosines, label = torch.cat([cosines, own.unsqueeze(1)], dim=1), cosines.shape[1]
    labels = torch.full((len(cosines),), label)
    logits = AttentionAsdArcFace.logits(SimpleNamespace(**detector.arcface), cosines, labels)
    target = logits[:, label].clone()
    logits[:, label] = -torch.inf
    # softplus(gap) is the cross-entropy, and exact where a confident network's would round to zero.
    return F.softplus(logits.logsumexp(dim=1) - target)


def centre_scores(
    detector: "AnomalyDetector", machine: NormalMachine, unit: torch.Tensor, cosines: torch.Tensor
) -> torch.Tensor:
    """Cosine distance to the mean direction of the machine's normal clips."""
    return (1.0 - unit @ F.normalize(machine.mean.double(), dim=0)).clamp_min(0.0)


def knn_scores(
    detector: "AnomalyDetector", machine: NormalMachine, unit: torch.Tensor, cosines: torch.Tensor
) -> torch.Tensor:
    """Mean cosine distance to the nearest normal clips of the machine."""
    distances = (1.0 - unit @ machine.embeddings.double().T).clamp_min(0.0)
    return distances.topk(min(NEIGHBOURS, distances.shape[1]), dim=1, largest=False).values.mean(1)


def mahalanobis_scores(
    detector: "AnomalyDetector", machine: NormalMachine, unit: torch.Tensor, cosines: torch.Tensor
) -> torch.Tensor:
    """Squared Mahalanobis distance to the machine's mean, with one shrunk covariance for all machines."""
    return ((unit - machine.mean.double()) @ detector.whitening.double().T).square().sum(1)


def gmm_scores(
    detector: "AnomalyDetector", machine: NormalMachine, unit: torch.Tensor, cosines: torch.Tensor
) -> torch.Tensor:
    """Negative log-likelihood under the machine's Gaussian mixture, less the value that it cannot fall below."""
    whitened = unit @ detector.whitening.double().T
    variances = machine.mixture_variances.double()
    distances = ((whitened.unsqueeze(1) - machine.mixture_means.double()).square() / variances).sum(2)
    peaks = machine.mixture_weights.double().log() - 0.5 * variances.log().sum(1)
    return (peaks.logsumexp(0) - (peaks - 0.5 * distances).logsumexp(1)).clamp_min(0.0)


def combined_scores(
    detector: "AnomalyDetector", machine: NormalMachine, unit: torch.Tensor, cosines: torch.Tensor
) -> torch.Tensor:
    """Far from the machine as a whole and far from its nearest clips: two cosine distances, added."""
    arguments = (detector, machine, unit, cosines)
    return centre_scores(*arguments) + knn_scores(*arguments)


SCORERS: dict[str, Callable[..., torch.Tensor]] = {
    "arcface": arcface_scores,
    "centre": centre_scores,
    "knn": knn_scores,
    "mahalanobis": mahalanobis_scores,
    "gmm": gmm_scores,
    "combined": combined_scores,
}
BACKENDS = tuple(SCORERS)


class AnomalyDetector:
    """
    Decides whether a clip's embedding is that of a machine in normal operation. Made by [`AnomalyDetector.fit`], saved
    beside the model as `scoring.safetensors` and `scoring_config.json`.

    Example:

    ```python
    >>> detector = AnomalyDetector.from_pretrained("my-model")
    >>> outputs = model(**feature_extractor(waveform, sampling_rate=16_000))
    >>> detector.decide(outputs.embeddings, outputs.cosines, machine="fan_id_00")[0].verdict
    'normal'
    ```
    """

    def __init__(
        self,
        machines: list[NormalMachine],
        whitening: torch.Tensor,
        priors: torch.Tensor,
        strangers: float,
        arcface: dict[str, float],
        backend: str,
        false_alarm_rate: float,
    ):
        self._machines = {machine.name: machine for machine in machines}
        self.whitening = whitening
        self.priors = priors
        self.strangers = strangers
        self.arcface = arcface
        self.backend = checked_backend(backend)
        self.false_alarm_rate = checked_rate(false_alarm_rate)

    @property
    def machines(self) -> list[str]:
        """Names of the machines that a clip can be judged as, trained and enrolled ones."""
        return list(self._machines)

    @classmethod
    def fit(
        cls,
        config: AttentionAsdConfig,
        embeddings: Array,
        cosines: Array,
        machines: Sequence[str],
        held_out: Sequence[bool] | Array,
        *,
        log_mel_mean: Array | None = None,
        log_mel_std: Array | None = None,
        backend: str = "knn",
        false_alarm_rate: float = 0.01,
        seed: int = 0,
    ) -> "AnomalyDetector":
        """
        Args:
            config: the network's; gives the machine IDs that `cosines` are about, s and m.
            embeddings: `(clips, h)`, of normal clips only, as the network gives them.
            cosines: `(clips, num_labels)`, as the network gives them.
            machines: the name of each clip's machine, such as `fan_id_00`.
            held_out: `(clips,)`, true for the clips that the network was not trained on. They calibrate; the others are
                fitted on.
            log_mel_mean, log_mel_std: `(clips, bins)` in dB, over each clip's frames; kept for the reasons.
            backend: the default back end, one of `BACKENDS`.
            false_alarm_rate: the default share of normal recordings that may be called anomalous.
            seed: key of the mixtures' starting points.

        Raises:
            ValueError: for arrays that do not match, values that are not finite, or a machine without a clip to fit on.
        """
        unit, cosines = checked_clips(embeddings, cosines)
        names, held_out = np.asarray(machines), np.asarray(held_out, dtype=bool)
        if names.shape != (len(unit),) or held_out.shape != (len(unit),):
            raise ValueError(
                f"machines has shape {names.shape} and held_out {held_out.shape}: expected one value for each of the "
                f"{len(unit)} clips."
            )
        if cosines.shape[1] != config.num_labels:
            raise ValueError(
                f"cosines are about {cosines.shape[1]} machine IDs, the configuration about {config.num_labels}."
            )
        if not torch.isfinite(unit).all() or not torch.isfinite(cosines).all():
            raise ValueError("embeddings or cosines are not finite (NaN or infinite): leave those clips out.")
        fitted = {str(name): unit[(names == name) & ~held_out] for name in np.unique(names)}
        empty = [name for name, own in fitted.items() if not len(own)]
        if empty:
            raise ValueError(f"no clip of {empty} is left to fit on: hold out fewer, or leave the machine out.")

        detector = cls(
            machines=[],
            whitening=fit_whitening(list(fitted.values())),
            priors=torch.zeros(len(BACKENDS), 2, dtype=torch.float64),
            strangers=-1.0,
            arcface={"scale": config.scale, "margin": config.margin},
            backend=backend,
            false_alarm_rate=false_alarm_rate,
        )
        for name, own in fitted.items():
            machine = detector._describe(name, own, config.label2id.get(name), seed)
            machine.level = level_statistics(log_mel_mean, log_mel_std, names == name)
            detector._machines[name] = machine

        calibrating = {name: np.flatnonzero((names == name) & held_out) for name in fitted}
        for name, clips in calibrating.items():
            scores = detector._all_scores(detector._machines[name], unit[clips], cosines[clips])
            detector._machines[name].calibration = scores.sort(dim=1).values
        detector._fit_priors()
        detector.strangers = detector._stranger_closeness(unit[held_out], names[held_out])
        calibrated = [machine.calibration for machine in detector._machines.values() if machine.calibration.shape[1]]
        for machine in detector._machines.values():
            detector._fit_tails(machine, machine.calibration.shape[1], calibrated)
        return detector

    # Scores, p-values and thresholds

    def scores(self, embeddings: Array, cosines: Array, machine: str, backend: str | None = None) -> torch.Tensor:
        """Anomaly scores `(batch,)`, float64, of clips that are claimed to be of `machine`."""
        unit, cosines = checked_clips(embeddings, cosines, keep_gradient=True)
        return SCORERS[checked_backend(backend or self.backend)](self, self._machine(machine), unit, cosines)

    def p_value(
        self, scores: Array, machine: str, false_alarm_rate: float | None = None, backend: str | None = None
    ) -> torch.Tensor:
        """How often a normal clip of `machine` scores as high or higher, `(batch,)`; NaN where nothing is known.

        Ranks among the n calibration clips where these suffice to reach `false_alarm_rate`: p = (1 + #{calibration >=
        s}) / (n + 1), which is at most a with probability a at most, whatever the scores' distribution, for normal
        clips that could have been drawn with the calibration clips (Vovk et al. 2005). Else the tail of a distribution
        fitted to them, see [`_fit_tails`].
        """
        normal, rate = self._machine(machine), self._rate(false_alarm_rate)
        return self._tail_probability(normal, scores, backend or self.backend, ranks_suffice(normal, rate))

    def threshold(
        self, machine: str, false_alarm_rate: float | None = None, backend: str | None = None
    ) -> float | None:
        """The score above which a clip of `machine` is anomalous; `None` where nothing is known."""
        normal, rate = self._machine(machine), self._rate(false_alarm_rate)
        return self._tail_quantile(normal, rate, backend or self.backend, ranks_suffice(normal, rate))

    def normal_level(self, machine: str) -> tuple[np.ndarray, np.ndarray] | None:
        """This machine's normal log-mel, mean and standard deviation over clips and frames, `(bins,)` in dB each."""
        level = self._machine(machine).level
        return (level[0].numpy(), level[1].numpy()) if level.numel() else None

    def closest(self, embeddings: Array) -> tuple[str, float, bool]:
        """The machine whose normal clips a recording's windows `(windows, h)` are closest to, its closeness (cosine to
        their mean direction), and whether that is close enough to be this machine at all."""
        unit = F.normalize(torch.as_tensor(embeddings).detach().cpu().double(), dim=1)
        centres = torch.stack([machine.mean for machine in self._machines.values()]).double()
        closeness = (unit @ F.normalize(centres, dim=1).T).mean(0)
        best = int(closeness.argmax())
        machine, value = self._machines[self.machines[best]], closeness[best].item()
        return machine.name, value, value >= machine.unknown_below

    # Decisions

    def decide(
        self,
        embeddings: Array,
        cosines: Array,
        machine: str | None = None,
        false_alarm_rate: float | None = None,
        backend: str | None = None,
    ) -> list[Decision]:
        """A decision for each clip `(batch, h)` and `(batch, num_labels)`, each judged by itself.

        Args:
            machine: the machine that the clips are claimed to be of; without it, the closest one of each.
            false_alarm_rate: the share of normal clips that may be called anomalous; by default the detector's.
            backend: by default the detector's.

        Raises:
            ValueError: for a machine that is not enrolled, a back end that does not exist or an impossible rate.
        """
        return [
            self.decide_recording(
                embeddings[clip : clip + 1], cosines[clip : clip + 1], machine, false_alarm_rate, backend
            )[0]
            for clip in range(len(embeddings))
        ]

    def decide_recording(
        self,
        embeddings: Array,
        cosines: Array,
        machine: str | None = None,
        false_alarm_rate: float | None = None,
        backend: str | None = None,
        silent: Sequence[bool] | Array | None = None,
    ) -> tuple[Decision, list[Decision]]:
        """The decision about a recording and those about its windows, `(windows, h)` and `(windows, num_labels)`.

        The windows' p-values are adjusted for their number (Benjamini and Hochberg 1995, sound for conformal p-values
        by Bates et al. 2023), and the recording's is the smallest of them: of normal recordings, whatever their length,
        no more than `false_alarm_rate` are called anomalous. Windows that are `silent` are not judged.
        """
        rate, backend = self._rate(false_alarm_rate), checked_backend(backend or self.backend)
        if machine is not None:
            self._machine(machine)
        unit, cosines = checked_clips(embeddings, cosines)
        is_silent = torch.zeros(len(unit), dtype=torch.bool) if silent is None else torch.as_tensor(silent).cpu()
        is_finite = torch.isfinite(unit).all(1) & torch.isfinite(cosines).all(1)
        judged = is_finite & ~is_silent
        undecided = Decision(CANNOT_TELL, None, None, None, rate, machine, None, None, None, 0, backend)

        def refuse(**because) -> tuple[Decision, list[Decision]]:
            recording = Decision(**{**undecided.to_dict(), **because})
            return recording, [Decision(**recording.to_dict()) for _ in unit]

        if not judged.any():
            return refuse(note="it is silent" if is_silent.any() else "the network's output is not finite")
        closest, closeness, is_close = self.closest(unit[judged])
        undecided.predicted_machine, undecided.closeness = closest if is_close else None, closeness
        if machine is None:
            # A faulty machine sounds less like itself. Not to miss it, it is judged as long as it is closer to itself
            # than other machines are.
            if not is_close and closeness < self.strangers:
                return refuse(note=f"it sounds like none of the enrolled machines (the closest is {closest})")
            machine = closest
            undecided.note = None if is_close else "it may be none of the enrolled machines: tell which one it is"

        undecided.machine, normal = machine, self._machine(machine)
        undecided.calibration_clips = normal.calibration.shape[1]
        count = int(judged.sum())
        by_ranks = ranks_suffice(normal, rate / count)
        scores = self.scores(unit[judged], cosines[judged], machine, backend)
        p_values = benjamini_hochberg(self._tail_probability(normal, scores, backend, by_ranks))
        if p_values.isnan().any():
            return refuse(note=f"too few normal clips to calibrate {machine} with: enroll it again with more")
        is_anomalous = p_values <= rate * (1.0 + ROUNDING)
        undecided.method = method_name(normal, by_ranks)
        # The step of Benjamini and Hochberg's procedure at which it stopped.
        undecided.threshold = self._tail_quantile(
            normal, rate * max(int(is_anomalous.sum()), 1) / count, backend, by_ranks
        )

        verdicts = zip(scores.tolist(), p_values.tolist(), is_anomalous.tolist(), strict=True)
        windows = []
        for silent_window, is_judged in zip(is_silent.tolist(), judged.tolist(), strict=True):
            decision = undecided.to_dict()
            if is_judged:
                score, p_value, anomalous = next(verdicts)
                decision |= {"verdict": ANOMALOUS if anomalous else NORMAL, "score": score, "p_value": p_value}
            else:
                decision |= {"note": "it is silent" if silent_window else "the network's output is not finite"}
            windows.append(Decision(**decision))
        worst = max((window for window in windows if window.score is not None), key=lambda window: window.score)
        return Decision(**worst.to_dict()), windows

    # Enrolment

    def enroll(
        self,
        name: str,
        embeddings: Array,
        cosines: Array,
        *,
        log_mel_mean: Array | None = None,
        log_mel_std: Array | None = None,
    ) -> None:
        """Add a machine from its normal clips, `(clips, h)` and `(clips, num_labels)`; one is enough to begin with.

        The network stays as it is. Each clip is scored against the others to calibrate with; how far such scores vary
        is learned from the other machines as well. With a single clip everything about the variation comes from the
        other machines, each enrolled from one of its clips for the purpose. A machine enrolled before under this name
        is replaced.

        Raises:
            ValueError: for a name that is empty, too long or that of a trained machine, or clips that are not finite.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise ValueError(f"name={name!r}: expected a printable name of 1 to {MAX_NAME_LENGTH} characters.")
        if name in self._machines and not self._machines[name].is_enrolled:
            raise ValueError(
                f"{name} was fitted with the detector: enroll under another name, such as {name + '_new'!r}."
            )
        unit, cosines = checked_clips(embeddings, cosines)
        if not len(unit) or not torch.isfinite(unit).all() or not torch.isfinite(cosines).all():
            raise ValueError(
                f"{name}: {len(unit)} clips, some not finite or none at all: expected one normal clip or more."
            )

        machine = self._describe(name, unit, None)
        machine.is_enrolled = True
        machine.level = level_statistics(log_mel_mean, log_mel_std, slice(None))
        others = []
        if len(unit) > 1:
            fold = torch.arange(len(unit)) % FOLDS
            scores = [
                self._all_scores(self._describe(name, unit[fold != k], None), unit[fold == k], cosines[fold == k])
                for k in fold.unique()
            ]
            machine.calibration = torch.cat(scores, dim=1).sort(dim=1).values
        else:
            for other in self._machines.values():
                alone, rest = self._describe(name, other.embeddings[:1], None), other.embeddings[1:].double()
                # The cosines of those clips to the network's centres are not kept: ArcFace's score remains unknown.
                unknown = torch.full((len(rest), cosines.shape[1]), torch.nan, dtype=torch.float64)
                if len(rest):
                    others.append(self._all_scores(alone, rest, unknown))
        # Two clips give one distance, however often it is counted.
        self._fit_tails(machine, len(unit) - 1, others)
        self._machines[name] = machine

    # Files

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write `scoring.safetensors` and `scoring_config.json` into a directory, beside the model's files."""
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {"whitening": self.whitening, "priors": self.priors}
        records = []
        # Machines are numbered in the file: their names come from users and stay out of anything but the text.
        for index, machine in enumerate(self._machines.values()):
            names = machine.tensor_names()
            tensors |= {f"machines.{index}.{name}": getattr(machine, name).contiguous() for name in names}
            records.append({f.name: getattr(machine, f.name) for f in fields(machine) if f.name not in names})
        content = {
            "format_version": FORMAT_VERSION,
            "backend": self.backend,
            "false_alarm_rate": self.false_alarm_rate,
            "backends": list(BACKENDS),
            "arcface": self.arcface,
            "strangers": self.strangers,
            "machines": records,
        }
        save_file(tensors, directory / TENSORS_FILE, metadata={"format": "pt"})
        (directory / CONFIG_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        revision: str | None = None,
        subfolder: str = "",
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> "AnomalyDetector":
        """Load what [`save_pretrained`] wrote, from a directory or a repository on the Hub.

        Raises:
            OSError: where the files are missing.
            ValueError: where they cannot be read or are of another version.
        """
        source = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        # Both files of one commit, whoever pushes in between.
        source["revision"] = resolve_revision(pretrained_model_name_or_path, revision, **source)
        files = [
            cached_file(pretrained_model_name_or_path, name, subfolder=subfolder, **source)
            for name in (CONFIG_FILE, TENSORS_FILE)
        ]
        try:
            content = json.loads(Path(files[0]).read_text(encoding="utf-8"))
            if content["format_version"] != FORMAT_VERSION or content["backends"] != list(BACKENDS):
                raise ValueError("it was written by another version of this code")
            tensors = load_file(files[1])
            machines = [
                NormalMachine(
                    **record, **{name: tensors[f"machines.{i}.{name}"] for name in NormalMachine.tensor_names()}
                )
                for i, record in enumerate(content["machines"])
            ]
            return cls(
                machines,
                tensors["whitening"],
                tensors["priors"],
                content["strangers"],
                content["arcface"],
                content["backend"],
                content["false_alarm_rate"],
            )
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(
                f"{pretrained_model_name_or_path}: {CONFIG_FILE} and {TENSORS_FILE} cannot be read ({error}). "
                "Write them again with AnomalyDetector.fit and save_pretrained."
            ) from error

    # What fitting is made of

    def _describe(self, name: str, unit: torch.Tensor, label: int | None, seed: int = 0) -> NormalMachine:
        weights, means, variances = fit_mixture(unit.double() @ self.whitening.double().T, seed)
        return NormalMachine(
            name=name,
            label=label,
            is_enrolled=False,
            unknown_below=-1.0,
            embeddings=unit.float(),
            mean=unit.mean(0).float(),
            mixture_weights=weights.float(),
            mixture_means=means.float(),
            mixture_variances=variances.float(),
            calibration=torch.zeros(len(BACKENDS), 0, dtype=torch.float64),
            tails=torch.full((len(BACKENDS), 3), torch.nan, dtype=torch.float64),
            level=torch.zeros(2, 0),
        )

    def _all_scores(self, machine: NormalMachine, unit: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
        return torch.stack([scorer(self, machine, unit, cosines) for scorer in SCORERS.values()])

    def _fit_priors(self) -> None:
        """For each back end, how calibration scores vary within a machine, from all machines: `(B, 2)`."""
        groups = [m.calibration for m in self._machines.values() if m.calibration.shape[1] > 1]
        for row, backend in enumerate(BACKENDS):
            values = [without_low_outliers(to_tail_scale(backend, group[row])) for group in groups]
            self.priors[row] = torch.tensor(
                variance_prior([v.var().item() for v in values], [len(v) - 1 for v in values])
            )

    def _fit_tails(self, machine: NormalMachine, clips: int, others: Sequence[torch.Tensor]) -> None:
        """Fit the tail of the machine's normal scores, `clips` of them independent, and what follows from it.

        On the tail's scale normal scores are close to Gaussian, so that the next one follows Student's t around their
        mean: few clips give a wide tail, as they should. The variance is the machine's own and that of the other
        machines, weighed by how much machines differ in it (Smyth 2004). With no clip to calibrate with, the mean too
        is taken from `others`, the scores (B, clips) of other machines' normal clips.

        A distance's logarithm rather than the cube root that makes a gamma distribution Gaussian (Wilson and Hilferty
        1931; the DCASE baselines fit a gamma): for nearest-neighbour distances in simulation the latter raised 1.5 %
        false alarms where 1 % were asked for, the former 1.0 %, and 0.5 % for scores that do follow a gamma
        distribution.
        """
        for row, backend in enumerate(BACKENDS):
            variance, degrees = self.priors[row].tolist()
            if clips:
                values = without_low_outliers(to_tail_scale(backend, machine.calibration[row]))
                location = values.mean().item()
                own = values.var().item() if clips > 1 else 0.0
                variance = (degrees * variance + (clips - 1) * own) / max(degrees + clips - 1, 1.0)
                variance, degrees = variance * (1.0 + 1.0 / clips), degrees + clips - 1
            else:
                means = torch.tensor([to_tail_scale(backend, other[row]).mean() for other in others])
                location = means.mean().item()
                variance += means.var().item() * (1.0 + 1.0 / len(means)) if len(means) > 1 else 0.0
                degrees = min(degrees, len(means) - 1)
            if degrees >= MIN_DEGREES and math.isfinite(location):
                tail = (location, math.sqrt(max(variance, MIN_VARIANCE)), degrees)
                machine.tails[row] = torch.tensor(tail, dtype=torch.float64)
        machine.unknown_below = self._unknown_below(machine)

    def _tail_probability(self, machine: NormalMachine, scores: Array, backend: str, by_ranks: bool) -> torch.Tensor:
        row, scores = BACKENDS.index(checked_backend(backend)), torch.as_tensor(scores).double()
        if by_ranks:
            calibration = machine.calibration[row].contiguous()
            at_least = len(calibration) - torch.searchsorted(calibration, scores.contiguous(), side="left")
            return (1.0 + at_least) / (len(calibration) + 1.0)
        location, scale, degrees = machine.tails[row].tolist()
        return student_tail((to_tail_scale(backend, scores) - location) / scale, degrees)

    def _tail_quantile(self, machine: NormalMachine, rate: float, backend: str, by_ranks: bool) -> float | None:
        row = BACKENDS.index(checked_backend(backend))
        if by_ranks:
            calibration = machine.calibration[row]
            return calibration[len(calibration) - math.floor(rate * (len(calibration) + 1) + ROUNDING)].item()
        location, scale, degrees = machine.tails[row].tolist()
        if math.isnan(degrees):
            return None
        return from_tail_scale(backend, location + scale * student_quantile(rate, degrees))

    def _stranger_closeness(self, unit: torch.Tensor, names: np.ndarray) -> float:
        """What 95 % of the clips `(clips, h)` do not exceed in closeness to machines that are not theirs, or -1."""
        if len(self._machines) < 2 or not len(unit):
            return -1.0
        centres = F.normalize(torch.stack([machine.mean for machine in self._machines.values()]).double(), dim=1)
        is_own = torch.from_numpy(names[:, None] == np.asarray(self.machines)[None, :])
        return (unit @ centres.T).masked_fill(is_own, -torch.inf).amax(1).quantile(0.95).item()

    def _unknown_below(self, machine: NormalMachine) -> float:
        """Half-way between the closeness that 99 % of this machine's normal clips keep and the one that clips of other
        machines reach; never more than the former."""
        farthest = self._tail_quantile(machine, 0.01, "centre", ranks_suffice(machine, 0.01))
        if farthest is None or self.strangers <= -1.0:
            return self.strangers
        own = 1.0 - farthest
        return own - max(own - self.strangers, 0.0) / 2.0

    def _machine(self, name: str) -> NormalMachine:
        if name not in self._machines:
            raise ValueError(
                f"machine={name!r} is not known: expected one of {', '.join(self.machines)}; or enroll it first."
            )
        return self._machines[name]

    def _rate(self, false_alarm_rate: float | None) -> float:
        return self.false_alarm_rate if false_alarm_rate is None else checked_rate(false_alarm_rate)


# Statistics


def ranks_suffice(machine: NormalMachine, rate: float) -> bool:
    """Whether the machine has calibration clips enough for a rank among them to be as rare as `rate`."""
    return rate * (machine.calibration.shape[1] + 1) >= 1.0 - ROUNDING


def method_name(machine: NormalMachine, by_ranks: bool) -> str:
    if by_ranks:
        return "cross-conformal" if machine.is_enrolled else "conformal"
    return "fitted tail" if machine.calibration.shape[1] else "other machines"


def to_tail_scale(backend: str, scores: torch.Tensor) -> torch.Tensor:
    """Scores -> a scale on which those of normal clips are close to Gaussian: a distance's logarithm, and for a
    cross-entropy the logits' distance that it is the softplus of."""
    if backend == "arcface":
        scores = scores.clamp_min(1e-300)
        return scores + torch.log(-torch.expm1(-scores))
    return scores.clamp_min(1e-12).log()


def from_tail_scale(backend: str, value: float) -> float:
    return float(np.logaddexp(value, 0.0) if backend == "arcface" else np.exp(value))


def without_low_outliers(values: torch.Tensor) -> torch.Tensor:
    """The same with nothing three times farther below the median than the highest is above it: a clip that is all but a
    copy of a fitted one has a logarithm far below the others', and says nothing about the tail above."""
    if len(values) < MIN_CLIPS_FOR_OUTLIERS:
        return values
    return values.clamp_min(4.0 * values.median() - 3.0 * values.max())


def student_tail(t: torch.Tensor, degrees: float) -> torch.Tensor:
    """P(T > t) of Student's t, from Wallace's (1959) Gaussian approximation; it errs on the large side: by 0.1 % of the
    value at 10 degrees of freedom and a probability of 0.01, by 15 % at 2."""
    z = torch.sqrt(degrees * torch.log1p(t.square() / degrees)) * ((8.0 * degrees + 1.0) / (8.0 * degrees + 3.0))
    return 0.5 * torch.erfc(torch.sign(t) * z / math.sqrt(2.0))


def student_quantile(rate: float, degrees: float) -> float:
    """The t for which [`student_tail`] is `rate`."""
    z = -NormalDist().inv_cdf(rate)
    widened = z * (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0)
    return math.copysign(math.sqrt(degrees * math.expm1(widened**2 / degrees)), z)


def variance_prior(variances: Sequence[float], degrees: Sequence[float]) -> tuple[float, float]:
    """Of groups' variances with their degrees of freedom: the common variance, and how many degrees of freedom it is
    worth beside a group's own (Smyth 2004, Section 6.2). The more the groups differ, the fewer."""
    if not variances:
        return 0.0, 0.0
    if len(variances) == 1:
        return variances[0], 0.0
    half = torch.tensor(degrees, dtype=torch.float64) / 2.0
    logs = torch.tensor(variances, dtype=torch.float64).clamp_min(MIN_VARIANCE).log() - torch.digamma(half) + half.log()
    excess = (logs.var() - torch.special.polygamma(1, half).mean()).item()
    if excess <= 0.0:
        return math.exp(logs.mean()), float(sum(degrees))
    y = torch.tensor(0.5 + 1.0 / excess, dtype=torch.float64)
    for _ in range(20):  # Newton's method for trigamma(y) = excess, from Smyth's appendix
        trigamma = torch.special.polygamma(1, y)
        y = y + trigamma * (1.0 - trigamma / excess) / torch.special.polygamma(2, y)
    return math.exp(logs.mean() + torch.digamma(y) - y.log()), min(2.0 * y.item(), float(sum(degrees)))


def benjamini_hochberg(p_values: torch.Tensor) -> torch.Tensor:
    """Adjusted p-values: at a, the procedure of Benjamini and Hochberg (1995) rejects those that do not exceed a."""
    count = len(p_values)
    order = p_values.argsort(descending=True)
    ranks = torch.arange(count, 0, -1, dtype=p_values.dtype)
    adjusted = (p_values[order] * (count / ranks)).cummin(0).values.clamp_max(1.0)
    return torch.empty_like(p_values).scatter_(0, order, adjusted)


# Fitting


def fit_whitening(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(h, h)` that makes the covariance of clips around their machine's mean, shrunk (Ledoit and Wolf 2004), unity."""
    try:
        from sklearn.covariance import LedoitWolf
    except ImportError:
        raise ImportError("Fitting an AnomalyDetector needs scikit-learn: pip install scikit-learn") from None
    centred = torch.cat([group - group.mean(0) for group in groups])
    covariance = LedoitWolf(assume_centered=True).fit(centred.numpy()).covariance_
    variances, directions = torch.linalg.eigh(torch.from_numpy(covariance))
    return ((directions / variances.clamp_min(MIN_VARIANCE).sqrt()) @ directions.T).float()


def fit_mixture(whitened: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights (k,), means and diagonal variances (k, h) of a Gaussian mixture, more than one component where there are
    clips enough."""
    components = min(max(len(whitened) // CLIPS_PER_COMPONENT, 1), MAX_COMPONENTS)
    weights, means = torch.ones(1, dtype=torch.float64), whitened.mean(0, keepdim=True)
    variances = whitened.var(0, correction=0, keepdim=True)
    if components > 1:
        try:
            from sklearn.mixture import GaussianMixture
        except ImportError:
            raise ImportError("Fitting to so many clips needs scikit-learn: pip install scikit-learn") from None
        mixture = GaussianMixture(components, covariance_type="diag", reg_covar=1e-3, random_state=seed)
        mixture.fit(whitened.numpy())
        weights, means, variances = map(torch.from_numpy, (mixture.weights_, mixture.means_, mixture.covariances_))
    seen = (weights * len(whitened)).unsqueeze(1)
    return weights, means, (seen * variances + PRIOR_CLIPS) / (seen + PRIOR_CLIPS)


def level_statistics(mean: Array | None, std: Array | None, clips) -> torch.Tensor:
    """`(2, bins)`: mean and standard deviation over clips and frames, from those of each clip, `(clips, bins)`."""
    if mean is None or std is None:
        return torch.zeros(2, 0)
    mean, std = torch.as_tensor(mean).cpu().double()[clips], torch.as_tensor(std).cpu().double()[clips]
    variance = std.square().mean(0) + mean.var(0, correction=0)
    return torch.stack([mean.mean(0), variance.sqrt()]).float()


# Checks


def checked_clips(embeddings: Array, cosines: Array, keep_gradient: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of unit length and cosines, in float64 on the CPU, whatever precision and device they come in."""
    embeddings, cosines = (torch.as_tensor(array).cpu().double() for array in (embeddings, cosines))
    if not keep_gradient:
        embeddings, cosines = embeddings.detach(), cosines.detach()
    if embeddings.ndim != 2 or cosines.ndim != 2 or len(embeddings) != len(cosines):
        raise ValueError(
            f"embeddings have shape {tuple(embeddings.shape)} and cosines {tuple(cosines.shape)}: expected (clips, "
            "embedding_size) and (clips, num_labels), as the network gives them."
        )
    return F.normalize(embeddings, dim=1), cosines


def checked_backend(backend: str) -> str:
    if backend not in SCORERS:
        raise ValueError(f"backend={backend!r}: expected one of {', '.join(BACKENDS)}.")
    return backend


def checked_rate(rate: float) -> float:
    if not 0.0 < rate <= 0.5:
        raise ValueError(
            f"false_alarm_rate={rate}: expected more than 0 and at most 0.5, such as 0.01 for 1 clip in 100."
        )
    return float(rate)


__all__ = ["BACKENDS", "AnomalyDetector", "Decision"]
