"""
The detector: from the network's outputs to a decision, fitted on recordings of normal operation alone.

Back ends give a clip an anomaly score; held-out normal clips give the score a p-value; the p-value and the false-alarm
rate that the user chose give the verdict.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils.hub import cached_file, resolve_revision

from .backends_attention_asd import checked_backend, usable_backends
from .calibration_attention_asd import Calibration, checked_rate
from .configuration_attention_asd import AttentionAsdConfig
from .decision_attention_asd import Decision, decide_recording
from .detector_files_attention_asd import CONFIG_FILE, TENSORS_FILE, read_detector, write_detector
from .fitting_attention_asd import NormalClips, enroll_machine, fit_machines
from .machines_attention_asd import Closest, KnownMachines
from .outputs_attention_asd import AttentionAsdOutput, ClipOutputs


class AnomalyDetector:
    """
    Decides whether clips sound like a machine in normal operation.

    It is made by [`AnomalyDetector.fit`] and saved as `scoring.safetensors` and `scoring_config.json`.
    Wherever a method takes `outputs`, they are the network's [`AttentionAsdOutput`] for a batch of clips, or the
    [`ClipOutputs`] of any number of clips.

    Args:
        machines ([`KnownMachines`]):
            What was fitted: the machines, and what they share.
        backend (`str`):
            The default back end, one of `BACKENDS`.
        false_alarm_rate (`float`):
            The default share of normal recordings that may be called anomalous.

    Example:

    ```python
    >>> detector = AnomalyDetector.from_pretrained("my-model")
    >>> outputs = model(**feature_extractor(waveform, sampling_rate=16_000))
    >>> detector.decide(outputs, "fan_id_00")[0].verdict
    'normal'
    ```
    """

    def __init__(self, *, machines: KnownMachines, backend: str, false_alarm_rate: float):
        self._known = machines
        self.backend = checked_backend(backend)
        self.false_alarm_rate = checked_rate(false_alarm_rate)

    @property
    def machines(self) -> list[str]:
        """Names of the machines that a clip can be judged as, fitted and enrolled ones."""
        return list(self._known.by_name)

    @property
    def backends(self) -> tuple[str, ...]:
        """The back ends that can be used: `spectrum` and `combined` need a detector that was fitted with spectra."""
        return usable_backends(self._known.shared.whitening)

    def with_backend(self, backend: str) -> "AnomalyDetector":
        """A detector with the same machines and another default back end.

        Raises:
            ValueError: for a back end that does not exist.
        """
        return AnomalyDetector(machines=self._known, backend=backend, false_alarm_rate=self.false_alarm_rate)

    # Fitting

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        config: AttentionAsdConfig,
        outputs: AttentionAsdOutput | ClipOutputs,
        machines: Sequence[str],
        held_out: Sequence[bool] | np.ndarray,
        *,
        backend: str | None = None,
        false_alarm_rate: float = 0.01,
        seed: int = 0,
    ) -> "AnomalyDetector":
        """Fit a detector to normal clips.

        Args:
            config: the network's; gives the machine IDs that the outputs' `cosines` are about, s and m.
            outputs: of normal clips only. Without `spectra` there are no reasons, and no back ends `spectrum` and
                `combined`.
            machines: the name of each clip's machine, such as `fan_id_00`.
            held_out: `(clips,)`, true for the clips that the network was not trained on. They calibrate; the others are
                fitted on.
            backend: the default back end, one of `BACKENDS`; if not given, `spectrum`, and `knn` without spectra.
            false_alarm_rate: the default share of normal recordings that may be called anomalous.
            seed: key of the mixtures' starting points.

        Raises:
            ValueError: for arrays that do not match, values that are not finite, or a machine without a clip to fit on.
        """
        clips = NormalClips.checked(config, ClipOutputs.of(outputs), machines, held_out)
        if backend is None:
            backend = "knn" if clips.outputs.spectra is None else "spectrum"
        known = fit_machines(config, clips, seed)
        return cls(machines=known, backend=backend, false_alarm_rate=false_alarm_rate)

    @torch.no_grad()
    def enroll(self, name: str, outputs: AttentionAsdOutput | ClipOutputs) -> None:
        """Add a machine from the outputs of its normal clips; one is enough to begin with.

        The network stays as it is. Each clip is scored against the others to calibrate with. How far such scores vary
        is learned from the other machines as well. With a single clip, everything about the variation comes from the
        other machines, as if each were enrolled from one of its clips; then only the `spectrum` back end can tell. A
        machine enrolled before under this name is replaced.

        Raises:
            ValueError: for a name that is empty, too long or that of a fitted machine, or clips that are not finite.
        """
        machine = enroll_machine(name, ClipOutputs.of(outputs), self._known)
        self._known = self._known.with_machine(machine)

    # Scores, p-values and thresholds

    def scores(
        self, outputs: AttentionAsdOutput | ClipOutputs, machine: str, backend: str | None = None
    ) -> torch.Tensor:
        """Anomaly scores `(clips,)`, float64, of clips that are claimed to be of `machine`.

        They have a gradient where the outputs have one.

        Raises:
            ValueError: for a machine that is not known, or a back end that does not exist or lacks its spectra.
        """
        clips = self._known.vectors(ClipOutputs.of(outputs))
        return self._known.scores(clips, machine, self._backend(backend))

    def p_value(
        self,
        scores: torch.Tensor | np.ndarray,
        machine: str,
        false_alarm_rate: float | None = None,
        backend: str | None = None,
    ) -> torch.Tensor:
        """How often a normal clip of `machine` scores as high or higher, `(clips,)`; NaN where nothing is known.

        By ranks among its calibration clips, see [`Ranks`], where these suffice to reach `false_alarm_rate`. Else by
        the tail of a distribution fitted to them, see [`fit_calibration`].

        Raises:
            ValueError: for a machine that is not known, a back end that does not exist or an impossible rate.
        """
        scores = torch.as_tensor(scores).detach().cpu().double().numpy()
        p_values = self._calibration(machine, backend).p_value(scores, self._rate(false_alarm_rate))
        return torch.from_numpy(p_values)

    def threshold(
        self, machine: str, false_alarm_rate: float | None = None, backend: str | None = None
    ) -> float | None:
        """The score above which a clip of `machine` is anomalous; `None` where nothing is known.

        Raises:
            ValueError: for a machine that is not known, a back end that does not exist or an impossible rate.
        """
        return self._calibration(machine, backend).threshold(self._rate(false_alarm_rate))

    def normal_level(self, machine: str) -> tuple[np.ndarray, np.ndarray] | None:
        """This machine's normal log-mel: mean and standard deviation over clips and frames, `(bins,)` in dB each.

        `None` where the clips' spectra were not known.

        Raises:
            ValueError: for a machine that is not known.
        """
        level = self._known[machine].reference.level
        return None if level is None else (level[0].numpy(), level[1].numpy())

    @torch.no_grad()
    def closest(self, outputs: AttentionAsdOutput | ClipOutputs) -> Closest:
        """The machine whose normal clips a recording's windows are closest to.

        With it come its similarity, see [`Decision`], and whether that is enough to be this machine at all. By the
        spectra where they are known: of 54 normal test clips of 16 real machine IDs they named all, the embeddings of a
        network trained on 188 clips 30.
        """
        return self._known.closest(self._known.vectors(ClipOutputs.of(outputs)))

    # Decisions

    def decide(
        self,
        outputs: AttentionAsdOutput | ClipOutputs,
        machine: str | None = None,
        false_alarm_rate: float | None = None,
        backend: str | None = None,
    ) -> list[Decision]:
        """A decision for each clip, judged by itself.

        Args:
            outputs: of the clips.
            machine: the machine that the clips are claimed to be of; without it, the closest one of each.
            false_alarm_rate: the share of normal clips that may be called anomalous; by default the detector's.
            backend: by default the detector's.

        Raises:
            ValueError: for a machine that is not known, a back end that does not exist or an impossible rate.
        """
        outputs = ClipOutputs.of(outputs)
        clips = [outputs] if len(outputs) == 1 else [outputs[place] for place in range(len(outputs))]
        return [self.decide_recording(clip, machine, false_alarm_rate, backend)[0] for clip in clips]

    @torch.inference_mode()
    def decide_recording(
        self,
        outputs: AttentionAsdOutput | ClipOutputs,
        machine: str | None = None,
        false_alarm_rate: float | None = None,
        backend: str | None = None,
        silent: Sequence[bool] | np.ndarray | torch.Tensor | None = None,
    ) -> tuple[Decision, list[Decision]]:
        """The decision about a recording, and those about its windows.

        The windows' p-values are adjusted for their number (Benjamini and Hochberg 1995, sound for conformal p-values
        by Bates et al. 2023), and the recording's is the smallest of them: of normal recordings, whatever their length,
        no more than `false_alarm_rate` are called anomalous.

        Args:
            outputs: of the windows, in their order.
            machine: the machine that the recording is claimed to be of; without it, the closest one.
            false_alarm_rate: the share of normal recordings that may be called anomalous; by default the detector's.
            backend: by default the detector's.
            silent: `(windows,)`, true for windows that hold no sound and are not judged.

        Raises:
            ValueError: for a machine that is not known, a back end that does not exist or an impossible rate.
        """
        return decide_recording(
            self._known,
            ClipOutputs.of(outputs),
            machine=machine,
            false_alarm_rate=self._rate(false_alarm_rate),
            backend=self._backend(backend),
            silent=silent,
        )

    # Files

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write `scoring.safetensors` and `scoring_config.json` into a directory, beside the model's files."""
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_detector(directory, self._known, self.backend, self.false_alarm_rate)

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
        source: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        # Both files of one commit, whoever pushes in between.
        source["revision"] = resolve_revision(pretrained_model_name_or_path, revision, **source)
        config_file, tensors_file = (
            str(cached_file(pretrained_model_name_or_path, name, subfolder=subfolder, **source))
            for name in (CONFIG_FILE, TENSORS_FILE)
        )
        return cls(**read_detector(config_file, tensors_file, str(pretrained_model_name_or_path)))

    # What is asked for, or the detector's own

    def _calibration(self, machine: str, backend: str | None) -> Calibration:
        return self._known[machine].calibrations[self._backend(backend)]

    def _backend(self, backend: str | None) -> str:
        return checked_backend(backend or self.backend)

    def _rate(self, false_alarm_rate: float | None) -> float:
        return self.false_alarm_rate if false_alarm_rate is None else checked_rate(false_alarm_rate)


__all__ = ["AnomalyDetector"]
