"""
The detector: from the network's outputs to a decision, fitted on recordings of normal operation alone.

Back ends give a clip an anomaly score; the scores of normal clips give it a p-value; the p-value and the false-alarm rate
that the user chose give the verdict.
"""

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers.utils.hub import cached_file

from .backends_attention_asd import SCORERS, checked_backend, usable_backends
from .calibration_attention_asd import Calibration, checked_rate
from .compatibility_attention_asd import resolve_revision
from .conditions_attention_asd import Conditions
from .configuration_attention_asd import AttentionAsdConfig
from .decision_attention_asd import Decision, decide_recording
from .detector_files_attention_asd import CONFIG_FILE, TENSORS_FILE, check_weights, read_detector, write_detector
from .digests_attention_asd import weights_digest
from .enrolling_attention_asd import enroll_machine
from .fitting_attention_asd import fit_machines
from .hearing_attention_asd import together
from .machines_attention_asd import Closest, KnownMachines
from .normal_clips_attention_asd import NormalClips
from .outputs_attention_asd import AttentionAsdOutput, ClipOutputs
from .saving_attention_asd import replacing_files
from .self_test_attention_asd import SelfTest


class AnomalyDetector:
    """
    Decides whether clips sound like a machine in normal operation.

    It is made by [`AnomalyDetector.fit`], and saved beside the model as `scoring.safetensors` and `scoring_config.json`.
    Wherever a method takes `outputs`, they are the network's [`AttentionAsdOutput`] for a batch of clips, or the
    [`ClipOutputs`] of any number of clips.

    Args:
        machines ([`KnownMachines`]):
            What was fitted: the machines, and what they share.
        backend (`str`):
            The default back end, one of `BACKENDS`.
        false_alarm_rate (`float`):
            The default share of normal recordings that may be called anomalous.
        weights (`str`, *optional*):
            The digest of the network's weights that the statistics were made with, see [`weights_digest`]; `None` where
            the detector was not loaded from files.

    Example:

    ```python
    >>> detector = AnomalyDetector.from_pretrained("my-model")
    >>> outputs = model(**feature_extractor(waveform, sampling_rate=16_000))
    >>> detector.decide(outputs, "fan_id_00")[0].verdict
    'normal'
    ```
    """

    def __init__(self, *, machines: KnownMachines, backend: str, false_alarm_rate: float, weights: str | None = None):
        self._known = machines
        self.backend = checked_backend(backend)
        self.false_alarm_rate = checked_rate(false_alarm_rate)
        self.weights = weights

    @property
    def known(self) -> KnownMachines:
        """What is known of the machines, one by one and all together."""
        return self._known

    @property
    def machines(self) -> list[str]:
        """Names of the machines that a clip can be judged as, fitted and enrolled ones."""
        return list(self._known.by_name)

    @property
    def backends(self) -> tuple[str, ...]:
        """The back ends that can be used: `spectrum` needs a detector that was fitted with spectra."""
        return usable_backends(self._known.shared)

    def with_backend(self, backend: str) -> "AnomalyDetector":
        """A detector with the same machines and another default back end.

        Raises:
            ValueError: for a back end that does not exist.
        """
        return AnomalyDetector(
            machines=self._known, backend=backend, false_alarm_rate=self.false_alarm_rate, weights=self.weights
        )

    def with_names(self, names: Mapping[str, str]) -> "AnomalyDetector":
        """A detector of some of the machines, under other names.

        Args:
            names: the name of each machine that is kept, and its new name.

        Raises:
            ValueError: for a machine that is not known.
        """
        machines = [replace(self._known[name], name=new) for name, new in names.items()]
        known = KnownMachines.of(self._known.shared, machines)
        return AnomalyDetector(
            machines=known, backend=self.backend, false_alarm_rate=self.false_alarm_rate, weights=self.weights
        )

    # Fitting

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        config: AttentionAsdConfig,
        outputs: AttentionAsdOutput | ClipOutputs,
        machines: Sequence[str],
        held_out: Sequence[bool] | np.ndarray | None = None,
        *,
        recordings: Sequence[Hashable] | np.ndarray | None = None,
        noise: torch.Tensor | np.ndarray | None = None,
        backend: str | None = None,
        false_alarm_rate: float = 0.01,
        seed: int = 0,
    ) -> "AnomalyDetector":
        """Fit a detector to normal clips.

        By spectra every clip describes its machine and calibrates: clips are left out in turn, run by run of recordings
        that follow one another. The back ends that need the network are fitted on the clips that it was trained on, and
        calibrated by `held_out`.

        Args:
            config: the network's; gives the machine IDs that the outputs' `cosines` are about, s and m.
            outputs: of normal clips only, those of a machine in the order in which they were recorded. Without `spectra`
                there are no reasons, no refusal of unknown sounds, and no back end `spectrum`.
            machines: the name of each clip's machine, such as `fan_id_00`.
            held_out: `(clips,)`, true for the clips that the network was not trained on. Without them the back ends that
                need the network have scores and no p-values.
            recordings: `(clips,)`, the recording of each clip, by name or number; by default each clip is one. Windows of
                one recording are not independent, and are left out together.
            noise: spectra of clips of white and of brown noise, `(2, noise clips, 6, num_mel_bins)`. With them the detector
                refuses noise, and a self-test tries it.
            backend: the default back end, one of `BACKENDS`; if not given, `spectrum`, and `arcface` without spectra.
            false_alarm_rate: the default share of normal recordings that may be called anomalous.
            seed: key of the mixtures' starting points.

        Raises:
            ValueError: for arrays that do not match, values that are not finite, a machine without a clip to fit on, or
                too few recordings to know how much normal ones vary.
        """
        clips = NormalClips.checked(config, ClipOutputs.of(outputs), machines, held_out, recordings)
        if backend is None:
            backend = "arcface" if clips.outputs.spectra is None else "spectrum"
        known = fit_machines(
            config,
            clips,
            noise=None if noise is None else torch.as_tensor(noise).cpu().double(),
            seed=seed,
            backend=checked_backend(backend),
            false_alarm_rate=checked_rate(false_alarm_rate),
        )
        return cls(machines=known, backend=backend, false_alarm_rate=false_alarm_rate)

    @torch.no_grad()
    def enroll(
        self,
        name: str,
        outputs: AttentionAsdOutput | ClipOutputs,
        recordings: Sequence[Hashable] | np.ndarray | None = None,
        remarks: Sequence[str] = (),
    ) -> SelfTest:
        """Add a machine from the outputs of its normal clips; one is enough to begin with.

        The network stays as it is. What all machines share is a prior, which the machine's own clips outweigh as they come
        in. They calibrate as well, left out in turn. With a single clip everything about the variation comes from the
        other machines, and only the `spectrum` back end can tell. A machine enrolled before under this name is replaced.
        Clips that the detector was fitted on make a copy of the fitted machine, and the self-test says so: the shared
        covariance has seen them.

        Args:
            name: the machine's name.
            outputs: of its normal clips, in the order in which they were recorded.
            recordings: `(clips,)`, the recording of each clip, by name or number; by default each clip is one.
            remarks: what was seen of the recordings, a sentence each, for the self-test.

        Returns:
            The machine's self-test: what the recordings are worth.

        Raises:
            ValueError: for a name that is empty, too long or that of a fitted machine, or clips that are not finite.
        """
        machine = enroll_machine(
            name,
            ClipOutputs.of(outputs),
            recordings,
            self._known,
            backend=self.backend,
            false_alarm_rate=self.false_alarm_rate,
            remarks=remarks,
        )
        self._known = self._known.with_machine(machine)
        return self.self_test(name)

    def self_test(self, machine: str) -> SelfTest:
        """What a machine's normal recordings are worth, as it was found when the machine was fitted or enrolled.

        Raises:
            ValueError: for a machine that is not known, or one that was never tested.
        """
        tested = self._known[machine].self_test
        if tested is None:
            raise ValueError(f"{machine} has no self-test: fit the detector anew, or enroll the machine again.")
        return tested

    def adopt(self, other: "AnomalyDetector") -> list[str]:
        """Add the machines that were enrolled in another detector of the same model, such as one that was saved.

        Returns:
            Their names. A machine enrolled before under one of them is replaced.

        Raises:
            ValueError: for a detector of another model, or fitted to other clips: its scores would mean something else.
        """
        if not self._known.has_basis_of(other._known):
            raise ValueError(
                "This detector was made with another model or another version of this one: expected one enrolled with "
                "this model. Enroll the machine anew from its recordings."
            )
        enrolled = [machine for machine in other._known.by_name.values() if machine.is_enrolled]
        for machine in enrolled:
            self._known = self._known.with_machine(machine)
        return [machine.name for machine in enrolled]

    # Scores, p-values and thresholds

    def scores(
        self, outputs: AttentionAsdOutput | ClipOutputs, machine: str, backend: str | None = None
    ) -> torch.Tensor:
        """Anomaly scores `(clips,)`, float64, of clips that are claimed to be of `machine`.

        They have a gradient where the outputs have one.

        Raises:
            ValueError: for a machine that is not known, or a back end that does not exist or lacks its spectra.
        """
        known, backend = self._known, self._backend(backend)
        return SCORERS[backend](known.shared.vectors(ClipOutputs.of(outputs)), known[machine], known.shared)

    def p_value(self, scores: torch.Tensor | np.ndarray, machine: str, backend: str | None = None) -> torch.Tensor:
        """How often a normal clip of `machine` scores as high or higher, `(clips,)`; NaN where nothing is known.

        Raises:
            ValueError: for a machine that is not known or a back end that does not exist.
        """
        return self.calibration(machine, backend).p_value(torch.as_tensor(scores).cpu())

    def threshold(
        self, machine: str, false_alarm_rate: float | None = None, backend: str | None = None
    ) -> float | None:
        """The score from which on the p-value of a clip of `machine` does not exceed the rate; `None` where none is so low.

        Raises:
            ValueError: for a machine that is not known, a back end that does not exist or an impossible rate.
        """
        return self.calibration(machine, backend).threshold(self._rate(false_alarm_rate))

    def calibration(self, machine: str, backend: str | None = None) -> Calibration:
        """What the p-values of a machine rest on.

        Raises:
            ValueError: for a machine that is not known or a back end that does not exist.
        """
        return self._known[machine].calibration(self._backend(backend))

    def lowest_rate(self, machine: str, backend: str | None = None) -> float:
        """The lowest false-alarm rate that the normal clips support, 1 / (clips + 1); 1 where nothing is known.

        Raises:
            ValueError: for a machine that is not known or a back end that does not exist.
        """
        return self.calibration(machine, backend).lowest_rate

    def normal_level(self, machine: str) -> tuple[np.ndarray, np.ndarray] | None:
        """This machine's normal log-mel: mean and standard deviation over clips and frames, `(bins,)` in dB each.

        `None` where the clips' spectra were not known.

        Raises:
            ValueError: for a machine that is not known.
        """
        level = self._known[machine].level
        return None if level is None else (level.bins[0].numpy(), level.bins[1].numpy())

    @torch.no_grad()
    def closest(self, outputs: AttentionAsdOutput | ClipOutputs) -> Closest:
        """The machine that a recording, given by its windows, is nearest to.

        With it come its similarity, see [`Decision`], and whether that is near enough to be this machine at all. By the
        spectra where they are known: of 54 normal test clips of 16 real machine IDs they named all, the embeddings of a
        network trained on 188 clips 30.
        """
        return self._known.closest(self._known.shared.vectors(together(ClipOutputs.of(outputs))))

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
            machine: the machine that the clips are claimed to be of; without it, the nearest one of each.
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
        conditions: Conditions | None = None,
    ) -> tuple[Decision, list[Decision]]:
        """The decision about a recording, and those about its windows.

        What the sound is, all windows say together. Their p-values are adjusted for their number, and the recording's is
        the smallest of them: of normal recordings, whatever their length, no more than `false_alarm_rate` are called
        anomalous.

        Args:
            outputs: of the windows, in their order.
            machine: the machine that the recording is claimed to be of; without it, the nearest one, and no alarm.
            false_alarm_rate: the share of normal recordings that may be called anomalous; by default the detector's.
            backend: by default the detector's.
            silent: `(windows,)`, true for windows that hold no sound and are not judged.
            conditions: how it was recorded, where that is known.

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
            conditions=conditions,
        )

    # Files

    def save_pretrained(self, save_directory: str | os.PathLike, weights: str | None = None) -> None:
        """Write `scoring.safetensors` and `scoring_config.json` into a directory, beside the model's files.

        Args:
            save_directory: the directory.
            weights: the digest of the network's weights that the detector belongs to. By default it is that of the weights
                that the detector was loaded with, else that of the weights in the directory.
        """
        with replacing_files(save_directory) as scratch:
            weights = weights or self.weights or weights_digest(save_directory)
            write_detector(scratch, self._known, self.backend, self.false_alarm_rate, weights)

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
            ValueError: where they cannot be read, are of another version, or belong to other weights than those beside.
        """
        source: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        # Both files of one commit, whoever pushes in between.
        source["revision"] = resolve_revision(pretrained_model_name_or_path, revision, **source)
        config_file, tensors_file = (
            str(cached_file(pretrained_model_name_or_path, name, subfolder=subfolder, **source))
            for name in (CONFIG_FILE, TENSORS_FILE)
        )
        name = str(pretrained_model_name_or_path)
        detector = cls(**read_detector(config_file, tensors_file, name))
        check_weights(name, detector.weights, weights_digest(name, subfolder=subfolder, **source))
        return detector

    # What is asked for, or the detector's own

    def _backend(self, backend: str | None) -> str:
        return checked_backend(backend or self.backend)

    def _rate(self, false_alarm_rate: float | None) -> float:
        return self.false_alarm_rate if false_alarm_rate is None else checked_rate(false_alarm_rate)


__all__ = ["AnomalyDetector"]
