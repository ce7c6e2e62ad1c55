"""
From the network's outputs to a decision, fitted on recordings of normal operation alone.

Back ends give a clip an anomaly score; held-out normal clips give the score a p-value; the p-value and the false-alarm
rate that the user chose give the verdict. [`AnomalyDetector.decide_recording`] is the one place where a verdict is
made.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import cached_file
from transformers.utils.hub import resolve_revision

from .backends_attention_asd import (
    BACKENDS,
    SCORERS,
    Array,
    Clips,
    NormalMachine,
    all_scores,
    checked_backend,
    describe_machine,
    fit_whitening,
    level_statistics,
)
from .calibration_attention_asd import (
    ROUNDING,
    benjamini_hochberg,
    checked_rate,
    embedding_unknown_below,
    fit_priors,
    fit_tails,
    method_name,
    own_and_stranger_closeness,
    ranks_suffice,
    tail_means,
    tail_probability,
    tail_quantile,
)
from .configuration_attention_asd import AttentionAsdConfig


TENSORS_FILE = "scoring.safetensors"
CONFIG_FILE = "scoring_config.json"
FORMAT_VERSION = 2

NORMAL, ANOMALOUS, CANNOT_TELL = "normal", "anomalous", "cannot tell"

# Clips that a machine's enrolment scores against the others, one share after the other; all of them up to this number.
FOLDS = 10
MAX_NAME_LENGTH = 200


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
            Cosine between the clip and the mean of the closest machine's normal clips, in [-1, 1]: of their spectra,
            whitened and seen from the mean of all machines, or of their embeddings where there are no spectra.
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
        return dict(vars(self))


class AnomalyDetector:
    """
    Decides whether a clip's embedding is that of a machine in normal operation. Made by [`AnomalyDetector.fit`], saved
    beside the model as `scoring.safetensors` and `scoring_config.json`.

    Example:

    ```python
    >>> detector = AnomalyDetector.from_pretrained("my-model")
    >>> outputs = model(**feature_extractor(waveform, sampling_rate=16_000))
    >>> detector.decide(outputs.embeddings, outputs.cosines, "fan_id_00", spectra=outputs.spectra)[0].verdict
    'normal'
    ```
    """

    def __init__(
        self,
        machines: list[NormalMachine],
        whitening: torch.Tensor,
        spectrum_whitening: torch.Tensor,
        priors: torch.Tensor,
        own_closeness: float,
        strangers: float,
        arcface: dict[str, float],
        backend: str,
        false_alarm_rate: float,
    ):
        self._machines = {machine.name: machine for machine in machines}
        # Worked out when they are first needed: with ten thousand machines that takes seconds, too long for every clip.
        self._stacked_centres: torch.Tensor | None = None
        self._origin: torch.Tensor | None = None
        self._means_alone: dict[str, torch.Tensor] = {}
        # In the scores' precision: converting them for every clip took a tenth of a decision.
        self.whitening = whitening.double()
        self.spectrum_whitening = spectrum_whitening.double()
        self.priors = priors
        self.own_closeness = own_closeness
        self.strangers = strangers
        self.arcface = arcface
        self.backend = checked_backend(backend)
        self.false_alarm_rate = checked_rate(false_alarm_rate)

    @property
    def machines(self) -> list[str]:
        """Names of the machines that a clip can be judged as, trained and enrolled ones."""
        return list(self._machines)

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        config: AttentionAsdConfig,
        embeddings: Array,
        cosines: Array,
        machines: Sequence[str],
        held_out: Sequence[bool] | Array,
        *,
        spectra: Array | None = None,
        backend: str | None = None,
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
            spectra: `(clips, 3, bins)`, as the network gives them. Without them there are no reasons, and no back ends
                `spectrum` and `combined`.
            backend: the default back end, one of `BACKENDS`; if not given, `spectrum`, and `knn` without spectra.
            false_alarm_rate: the default share of normal recordings that may be called anomalous.
            seed: key of the mixtures' starting points.

        Raises:
            ValueError: for arrays that do not match, values that are not finite, or a machine without a clip to fit on.
        """
        clips = checked_clips(embeddings, cosines, spectra)
        names, held_out = np.asarray(machines), np.asarray(held_out, dtype=bool)
        if names.shape != (len(clips),) or held_out.shape != (len(clips),):
            raise ValueError(
                f"machines has shape {names.shape} and held_out {held_out.shape}: expected one value for each of the "
                f"{len(clips)} clips."
            )
        if clips.cosines.shape[1] != config.num_labels:
            raise ValueError(
                f"cosines are about {clips.cosines.shape[1]} machine IDs, the configuration about {config.num_labels}."
            )
        if not finite(clips).all():
            raise ValueError("embeddings, cosines or spectra are not finite (NaN or infinite): leave those clips out.")
        fitted = {str(name): clips.take((names == name) & ~held_out) for name in np.unique(names)}
        empty = [name for name, own in fitted.items() if not len(own)]
        if empty:
            raise ValueError(f"no clip of {empty} is left to fit on: hold out fewer, or leave the machine out.")

        has_spectra = clips.spectra is not None
        detector = cls(
            machines=[],
            whitening=fit_whitening([own.unit for own in fitted.values()]),
            spectrum_whitening=fit_whitening([own.spectra for own in fitted.values()])
            if has_spectra
            else torch.zeros(0),
            priors=torch.ones(len(BACKENDS), 2, dtype=torch.float64),
            own_closeness=-1.0,
            strangers=-1.0,
            arcface={"scale": config.scale, "margin": config.margin},
            backend=backend or ("spectrum" if has_spectra else "knn"),
            false_alarm_rate=false_alarm_rate,
        )
        for name, own in fitted.items():
            machine = describe_machine(detector, name, own, config.label2id.get(name), seed)
            if has_spectra:
                # Nobody trains on the levels: those of the held-out clips count as well.
                machine.level = level_statistics(clips.spectra[names == name])
            detector._machines[name] = machine

        # Twice, because the combined score is made of the others by what they vary.
        for _ in range(2):
            for name, machine in detector._machines.items():
                scores = all_scores(detector, machine, clips.take((names == name) & held_out))
                machine.calibration = scores.sort(dim=1).values
            detector.priors = fit_priors(detector._machines.values())
        is_own = torch.from_numpy(names[held_out, None] == np.asarray(detector.machines))
        closeness = detector._directions(clips.take(held_out)) @ detector._centres().T
        detector.own_closeness, detector.strangers = own_and_stranger_closeness(closeness, is_own)
        calibrated = [machine.calibration for machine in detector._machines.values() if machine.calibration.shape[1]]
        others = tail_means(calibrated)
        for machine in detector._machines.values():
            detector._calibrate(machine, machine.calibration.shape[1], others)
        return detector

    # Scores, p-values and thresholds

    def scores(
        self,
        embeddings: Array,
        cosines: Array,
        machine: str,
        backend: str | None = None,
        spectra: Array | None = None,
    ) -> torch.Tensor:
        """Anomaly scores `(batch,)`, float64, of clips that are claimed to be of `machine`; they have a gradient where
        the arguments have one.

        Raises:
            ValueError: for a machine that is not enrolled, or a back end that does not exist or lacks its `spectra`.
        """
        clips = checked_clips(embeddings, cosines, spectra)
        return self._scores(clips, self._machine(machine), checked_backend(backend or self.backend))

    def p_value(
        self, scores: Array, machine: str, false_alarm_rate: float | None = None, backend: str | None = None
    ) -> torch.Tensor:
        """How often a normal clip of `machine` scores as high or higher, `(batch,)`; NaN where nothing is known.

        Ranks among the n calibration clips where these suffice to reach `false_alarm_rate`: p = (1 + #{calibration >=
        s}) / (n + 1), which is at most a with probability a at most, whatever the scores' distribution, for normal
        clips that could have been drawn with the calibration clips (Vovk et al. 2005). Else the tail of a distribution
        fitted to them, see [`fit_tails`].
        """
        normal, rate = self._machine(machine), self._rate(false_alarm_rate)
        scores = torch.as_tensor(scores).detach().cpu().double().numpy()
        return torch.from_numpy(tail_probability(normal, scores, backend or self.backend, ranks_suffice(normal, rate)))

    def threshold(
        self, machine: str, false_alarm_rate: float | None = None, backend: str | None = None
    ) -> float | None:
        """The score above which a clip of `machine` is anomalous; `None` where nothing is known."""
        normal, rate = self._machine(machine), self._rate(false_alarm_rate)
        return tail_quantile(normal, rate, backend or self.backend, ranks_suffice(normal, rate))

    def normal_level(self, machine: str) -> tuple[np.ndarray, np.ndarray] | None:
        """This machine's normal log-mel, mean and standard deviation over clips and frames, `(bins,)` in dB each."""
        level = self._machine(machine).level
        return (level[0].numpy(), level[1].numpy()) if level.numel() else None

    @torch.no_grad()
    def closest(self, embeddings: Array, cosines: Array, spectra: Array | None = None) -> tuple[str, float, bool]:
        """The machine whose normal clips a recording's windows are closest to, its closeness, see [`Decision`], and
        whether that is close enough to be this machine at all.

        By the spectra where they are known: of 54 normal test clips of 16 real machine IDs they named all, the
        embeddings of a network trained on 188 clips 30.
        """
        return self._closest(checked_clips(embeddings, cosines, spectra))

    def _closest(self, clips: Clips) -> tuple[str, float, bool]:
        closeness = (self._directions(clips) @ self._centres().T).mean(0)
        value, best = (found.item() for found in closeness.max(0))
        machine = next(islice(self._machines.values(), best, None))
        return machine.name, value, value >= machine.unknown_below

    # Decisions

    def decide(
        self,
        embeddings: Array,
        cosines: Array,
        machine: str | None = None,
        false_alarm_rate: float | None = None,
        backend: str | None = None,
        spectra: Array | None = None,
    ) -> list[Decision]:
        """A decision for each clip, judged by itself.

        Args:
            embeddings, cosines, spectra: `(batch, h)`, `(batch, num_labels)` and `(batch, 3, bins)`, as the network gives
                them.
            machine: the machine that the clips are claimed to be of; without it, the closest one of each.
            false_alarm_rate: the share of normal clips that may be called anomalous; by default the detector's.
            backend: by default the detector's.

        Raises:
            ValueError: for a machine that is not enrolled, a back end that does not exist or an impossible rate.
        """
        if len(embeddings) == 1:
            return [self.decide_recording(embeddings, cosines, machine, false_alarm_rate, backend, spectra)[0]]
        return [
            self.decide_recording(
                embeddings[clip : clip + 1],
                cosines[clip : clip + 1],
                machine,
                false_alarm_rate,
                backend,
                None if spectra is None else spectra[clip : clip + 1],
            )[0]
            for clip in range(len(embeddings))
        ]

    @torch.inference_mode()
    def decide_recording(
        self,
        embeddings: Array,
        cosines: Array,
        machine: str | None = None,
        false_alarm_rate: float | None = None,
        backend: str | None = None,
        spectra: Array | None = None,
        silent: Sequence[bool] | Array | None = None,
    ) -> tuple[Decision, list[Decision]]:
        """The decision about a recording and those about its windows, `(windows, h)`, `(windows, num_labels)` and
        `(windows, 3, bins)`.

        The windows' p-values are adjusted for their number (Benjamini and Hochberg 1995, sound for conformal p-values
        by Bates et al. 2023), and the recording's is the smallest of them: of normal recordings, whatever their length,
        no more than `false_alarm_rate` are called anomalous. Windows that are `silent` are not judged.
        """
        rate, backend = self._rate(false_alarm_rate), checked_backend(backend or self.backend)
        if machine is not None:
            self._machine(machine)
        clips = checked_clips(embeddings, cosines, spectra)
        is_silent = [False] * len(clips) if silent is None else torch.as_tensor(silent).tolist()
        judged = [known and not quiet for known, quiet in zip(finite(clips).tolist(), is_silent, strict=True)]
        undecided = Decision(CANNOT_TELL, None, None, None, rate, machine, None, None, None, 0, backend)

        def refuse(**because) -> tuple[Decision, list[Decision]]:
            recording = Decision(**{**undecided.to_dict(), **because})
            return recording, [Decision(**recording.to_dict()) for _ in range(len(clips))]

        if not any(judged):
            return refuse(note="it is silent" if any(is_silent) else "the network's output is not finite")
        heard = clips if all(judged) else clips.take(torch.tensor(judged))
        closest, closeness, is_close = self._closest(heard)
        undecided.predicted_machine, undecided.closeness = closest if is_close else None, closeness
        if machine is None:
            # A faulty machine sounds less like itself. Not to miss it, it is judged as long as it is closer to itself
            # than other machines are; by the spectra, which a fault moves further, as long as it is more like itself than
            # like the mean of all machines.
            refused_below = 0.0 if self._tells_by_spectra() else self.strangers
            if not is_close and closeness < refused_below:
                return refuse(note=f"it sounds like none of the enrolled machines (the closest is {closest})")
            machine = closest
            undecided.note = None if is_close else "it may be none of the enrolled machines: tell which one it is"

        undecided.machine, normal = machine, self._machine(machine)
        undecided.calibration_clips = normal.calibration.shape[1]
        count = len(heard)
        by_ranks = ranks_suffice(normal, rate / count)
        scores = self._scores(heard, normal, backend).numpy()
        p_values = benjamini_hochberg(tail_probability(normal, scores, backend, by_ranks)).tolist()
        if any(map(math.isnan, p_values)):
            return refuse(note=f"too few normal clips to calibrate {machine} with: enroll it again with more")
        is_anomalous = [p_value <= rate * (1.0 + ROUNDING) for p_value in p_values]
        undecided.method = method_name(normal, by_ranks)
        # The step of Benjamini and Hochberg's procedure at which it stopped.
        undecided.threshold = tail_quantile(normal, rate * max(sum(is_anomalous), 1) / count, backend, by_ranks)

        verdicts = zip(scores.tolist(), p_values, is_anomalous, strict=True)
        windows = []
        for silent_window, is_judged in zip(is_silent, judged, strict=True):
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

    @torch.no_grad()
    def enroll(
        self,
        name: str,
        embeddings: Array,
        cosines: Array,
        spectra: Array | None = None,
    ) -> None:
        """Add a machine from its normal clips, `(clips, h)`, `(clips, num_labels)` and `(clips, 3, bins)`; one is enough to
        begin with.

        The network stays as it is. Each clip is scored against the others to calibrate with; how far such scores vary is
        learned from the other machines as well. With a single clip everything about the variation comes from the other
        machines, each enrolled from one of its clips for the purpose, and only the `spectrum` back end can tell. A
        machine enrolled before under this name is replaced.

        Raises:
            ValueError: for a name that is empty, too long or that of a trained machine, or clips that are not finite.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise ValueError(f"name={name!r}: expected a printable name of 1 to {MAX_NAME_LENGTH} characters.")
        if name in self._machines and not self._machines[name].is_enrolled:
            raise ValueError(
                f"{name} was fitted with the detector: enroll under another name, such as {name + '_new'!r}."
            )
        clips = checked_clips(embeddings, cosines, spectra)
        if not len(clips) or not finite(clips).all():
            raise ValueError(
                f"{name}: {len(clips)} clips, some not finite or none at all: expected one normal clip or more."
            )

        if self.spectrum_whitening.numel() and clips.spectra is None:
            raise ValueError(f"{name}: this detector was fitted with spectra: give those of its clips as well.")
        machine = describe_machine(self, name, clips, None)
        machine.is_enrolled, machine.spectra = True, torch.zeros(0)
        others = tail_means([])
        if len(clips) > 1:
            fold = torch.arange(len(clips)) % FOLDS
            scores = [
                all_scores(self, describe_machine(self, name, clips.take(fold != k), None), clips.take(fold == k))
                for k in fold.unique()
            ]
            machine.calibration = torch.cat(scores, dim=1).sort(dim=1).values
        else:
            others = self._known_from_one_clip()
        # Two clips give one distance, however often it is counted.
        self._calibrate(machine, len(clips) - 1, others)
        self._machines[name], self._stacked_centres = machine, None
        self._means_alone.pop(name, None)

    # Files

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write `scoring.safetensors` and `scoring_config.json` into a directory, beside the model's files."""
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {
            "whitening": self.whitening.float(),
            "spectrum_whitening": self.spectrum_whitening.float(),
            "priors": self.priors,
        }
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
            "own_closeness": self.own_closeness,
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
                tensors["spectrum_whitening"],
                tensors["priors"],
                content["own_closeness"],
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

    def _directions(self, clips: Clips) -> torch.Tensor:
        """What machines are recognised by, `(clips, ...)` of unit length: the spectra seen from the mean of the fitted
        machines, whitened, or the embeddings."""
        if not self._tells_by_spectra():
            return clips.unit
        if clips.spectra is None:
            raise ValueError("this detector was fitted with spectra: give spectra=, as the network gives them.")
        if self._origin is None:
            fitted = [machine.spectrum for machine in self._machines.values() if not machine.is_enrolled]
            self._origin = torch.stack(fitted).double().mean(0) @ self.spectrum_whitening.T
        seen = clips.whitened_spectra(self.spectrum_whitening) - self._origin
        return seen / torch.linalg.vector_norm(seen, dim=1, keepdim=True).clamp_min(1e-12)

    def _tells_by_spectra(self) -> bool:
        # One machine is its own mean: there is no direction from there to it.
        fitted = (machine for machine in self._machines.values() if not machine.is_enrolled)
        return self.spectrum_whitening.numel() > 0 and len(list(islice(fitted, 2))) > 1

    def _centres(self) -> torch.Tensor:
        """Directions of the machines' means, `(machines, ...)`, kept until a machine is enrolled."""
        if self._stacked_centres is None:
            machines = self._machines.values()
            units = F.normalize(torch.stack([machine.mean for machine in machines]).double(), dim=1)
            spectra = [machine.spectrum for machine in machines]
            means = Clips(units, units, torch.stack(spectra).double() if self._tells_by_spectra() else None)
            self._stacked_centres = self._directions(means)
        return self._stacked_centres

    def _known_from_one_clip(self) -> torch.Tensor:
        """The [`tail_means`] of every machine that has more clips than one, had it been enrolled from the first.

        By the spectra alone: the network has pulled the embeddings of a machine's training clips together, and those of a
        machine that it was not trained on would all be far apart by that measure. On real clips all of its normal
        ones were then called anomalous.
        """
        for name in self._machines.keys() - self._means_alone.keys():
            machine = self._machines[name]
            groups = []
            if len(machine.spectra) > 1:
                unknown = torch.zeros(len(machine.spectra) - 1, 0)
                others = Clips(unknown, unknown, machine.spectra[1:].double())
                group = torch.full((len(BACKENDS), len(others)), torch.nan, dtype=torch.float64)
                alone = replace(machine, spectrum=machine.spectra[0])
                group[BACKENDS.index("spectrum")] = self._scores(others, alone, "spectrum")
                groups.append(group)
            self._means_alone[name] = tail_means(groups)
        return torch.cat([self._means_alone[name] for name in self._machines], dim=1)

    def _calibrate(self, machine: NormalMachine, clips: int, others: torch.Tensor) -> None:
        fit_tails(machine, self.priors, clips, others)
        if self._tells_by_spectra():
            machine.unknown_below = (self.own_closeness + self.strangers) / 2.0
        else:
            machine.unknown_below = embedding_unknown_below(machine, self.strangers)

    def _scores(self, clips: Clips, machine: NormalMachine, backend: str) -> torch.Tensor:
        if backend in ("spectrum", "combined"):
            if clips.spectra is None:
                raise ValueError(f"backend={backend!r} needs spectra=, as the network gives them.")
            if not machine.spectrum.numel():
                raise ValueError(
                    f"backend={backend!r}: {machine.name} was fitted or enrolled without spectra. Give them, or take "
                    "another back end."
                )
        return SCORERS[backend](self, machine, clips)

    def _machine(self, name: str) -> NormalMachine:
        if name not in self._machines:
            raise ValueError(
                f"machine={name!r} is not known: expected one of {', '.join(self.machines)}; or enroll it first."
            )
        return self._machines[name]

    def _rate(self, false_alarm_rate: float | None) -> float:
        return self.false_alarm_rate if false_alarm_rate is None else checked_rate(false_alarm_rate)


def checked_clips(embeddings: Array, cosines: Array, spectra: Array | None = None) -> Clips:
    """What the back ends see, whatever device it comes from."""
    arrays = [None if array is None else torch.as_tensor(array).cpu() for array in (embeddings, cosines, spectra)]
    embeddings, cosines, spectra = arrays
    is_paired = embeddings.ndim == cosines.ndim == 2 and len(embeddings) == len(cosines)
    if is_paired and spectra is not None:
        is_paired = spectra.ndim == 3 and spectra.shape[:2] == (len(embeddings), 3)
    if not is_paired:
        shapes = ", ".join("none" if array is None else str(tuple(array.shape)) for array in arrays)
        raise ValueError(
            f"embeddings, cosines and spectra have the shapes {shapes}: expected (clips, embedding_size), (clips, "
            "num_labels) and (clips, 3, num_mel_bins), as the network gives them."
        )
    return Clips(embeddings, cosines, None if spectra is None else spectra.flatten(1).double())


def finite(clips: Clips) -> torch.Tensor:
    """Which clips are finite, `(clips,)`."""
    arrays = [clips.embeddings, clips.cosines] + ([] if clips.spectra is None else [clips.spectra])
    return torch.cat(arrays, dim=1).isfinite().all(1)


__all__ = ["BACKENDS", "AnomalyDetector", "Decision"]
