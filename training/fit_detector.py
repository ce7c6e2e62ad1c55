"""After training: run the network over the normal clips once more and fit the detector that decides."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel, ClipOutputs

from .alterations import ALTERATIONS, alterations
from .log_mel_bank import LogMelBank
from .waveform_bank import WaveformBank, to_waveforms


# Held-out clips that are altered to choose the back end by, six forward passes each.
ALTERED_CLIPS = 48


@torch.no_grad()
def network_outputs(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank | LogMelBank,
    batch_size: int,
    progress: bool = True,
) -> ClipOutputs:
    """The network's outputs for every clip of the bank."""
    model.eval()
    batches = []
    for start in tqdm(range(0, len(bank), batch_size), desc="Embedding", unit="batch", disable=not progress):
        samples, _ = bank.__getitems__(range(start, min(start + batch_size, len(bank))))
        output = model(**bank.inputs(samples.to(model.device), feature_extractor))
        batches.append(ClipOutputs.of(output))
    return ClipOutputs.concatenate(batches)


def fit_detector(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank | LogMelBank,
    machines: Sequence[str],
    held_out_indices: Sequence[int],
    batch_size: int,
    seed: int,
    progress: bool = True,
) -> tuple[AnomalyDetector, dict[str, float]]:
    """The detector of `machines`, the names of the bank's clips: fitted on the clips that the network was trained on,
    calibrated on the held-out ones.

    Its back end is the one that best tells held-out clips from altered ones (`training/alterations.py`); the AUC of each,
    the mean over machine IDs, is returned as well. Log-mels cannot be altered so: their detector has the default.
    """
    outputs = network_outputs(model, feature_extractor, bank, batch_size, progress)
    held_out = np.zeros(len(bank), dtype=bool)
    held_out[np.asarray(held_out_indices, dtype=np.int64)] = True
    detector = AnomalyDetector.fit(model.config, outputs, machines, held_out, seed=seed)
    heard = {}
    if isinstance(bank, WaveformBank) and held_out.any():
        heard = altered_clips_auc(
            detector, model, feature_extractor, bank, np.asarray(machines), outputs, held_out, seed, progress
        )
        detector = detector.with_backend(max(heard, key=heard.get))
    return detector, heard


@torch.no_grad()
def altered_clips_auc(
    detector: AnomalyDetector,
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank,
    machines: np.ndarray,
    outputs: ClipOutputs,
    held_out: np.ndarray,
    seed: int,
    progress: bool,
) -> dict[str, float]:
    """AUC of every back end, held-out normal clips against the same altered, the mean over machine IDs."""
    # In turn from every machine ID, so that none is left out where there are more clips than needed.
    indices = np.flatnonzero(held_out)
    owners = machines[indices]
    turn = np.array([np.count_nonzero(owners[:place] == owner) for place, owner in enumerate(owners)])
    chosen = np.sort(indices[np.argsort(turn, kind="stable")[:ALTERED_CLIPS]])
    altered = []
    for index in tqdm(chosen.tolist(), desc="Choosing the back end", unit="clip", disable=not progress):
        samples, _ = bank.__getitems__([index])
        versions = alterations(to_waveforms(samples)[0].numpy(), seed, index)
        waveforms = torch.from_numpy(np.stack(list(versions.values()))).to(model.device)
        output = model(input_values=waveforms, input_features=feature_extractor.log_mel(waveforms))
        altered.append(ClipOutputs.of(output))
    altered = ClipOutputs.concatenate(altered)
    areas = {backend: [] for backend in detector.backends}
    for machine in np.unique(machines[chosen]).tolist():
        normal = outputs[held_out & (machines == machine)]
        faulty = altered[np.repeat(machines[chosen] == machine, len(ALTERATIONS))]
        is_altered = np.repeat([0, 1], [len(normal), len(faulty)])
        for backend in detector.backends:
            scores = [detector.scores(clips, machine, backend) for clips in (normal, faulty)]
            areas[backend].append(roc_auc_score(is_altered, torch.cat(scores).numpy()))
    return {backend: round(float(np.mean(of_ids)), 4) for backend, of_ids in areas.items()}
