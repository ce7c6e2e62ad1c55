"""After training: run the network over the normal clips once more and fit the detector that decides."""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel, ClipOutputs

from .alterations import ALTERATIONS, alterations
from .clips import Bank, TrainingClips
from .waveform_bank import WaveformBank, to_waveforms


# Held-out clips that are altered to choose the back end by, six forward passes each.
ALTERED_CLIPS = 48


def fit_detector(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    clips: TrainingClips,
    *,
    batch_size: int,
    seed: int,
    progress: bool = True,
) -> tuple[AnomalyDetector, dict[str, float]]:
    """Fit the detector on the clips that the network was trained on, and calibrate it on the held-out ones.

    Args:
        model: the trained network.
        feature_extractor: computes the log-mel.
        clips: the normal clips, as they were split for the training.
        batch_size: clips per forward pass.
        seed: key of the mixtures and the alterations.
        progress: whether to show progress bars.

    Returns:
        The detector, and each back end's AUC of altered against held-out clips. The back end with the largest AUC is the
        detector's default. Log-mels alone cannot be altered: there the AUC is missing and the default is the detector's
        own.
    """
    outputs = network_outputs(model, feature_extractor, clips.bank, batch_size, progress)
    detector = AnomalyDetector.fit(model.config, outputs, clips.machines.tolist(), clips.is_held_out, seed=seed)
    if not isinstance(clips.bank, WaveformBank) or not len(clips.held_out_indices):
        return detector, {}
    chosen = clips_to_alter(clips)
    altered = altered_outputs(model, feature_extractor, clips.bank, chosen, seed, progress)
    altered_auc = altered_clips_auc(detector, clips, outputs, chosen, altered)
    return detector.with_backend(max(altered_auc, key=lambda backend: altered_auc[backend])), altered_auc


@torch.no_grad()
def network_outputs(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: Bank,
    batch_size: int,
    progress: bool = True,
) -> ClipOutputs:
    """Return the network's outputs for every clip of the bank."""
    model.eval()
    batches = []
    for start in tqdm(range(0, len(bank), batch_size), desc="Embedding", unit="batch", disable=not progress):
        samples, _ = bank.fetch(range(start, min(start + batch_size, len(bank))))
        output = model(**bank.inputs(samples.to(model.device), feature_extractor))
        batches.append(ClipOutputs.of(output))
    return ClipOutputs.concatenate(batches)


def clips_to_alter(clips: TrainingClips) -> np.ndarray:
    """Return the indices of at most `ALTERED_CLIPS` held-out clips, taken in turn from every machine ID.

    So no machine ID is left out where there are more clips than needed.
    """
    owners = clips.machines[clips.held_out_indices]
    turn = np.array([np.count_nonzero(owners[:place] == owner) for place, owner in enumerate(owners)])
    return np.sort(clips.held_out_indices[np.argsort(turn, kind="stable")[:ALTERED_CLIPS]])


@torch.no_grad()
def altered_outputs(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank,
    chosen: np.ndarray,
    seed: int,
    progress: bool,
) -> ClipOutputs:
    """Return the network's outputs for every alteration of the chosen clips, clip by clip."""
    batches = []
    for index in tqdm(chosen.tolist(), desc="Choosing the back end", unit="clip", disable=not progress):
        samples, _ = bank.fetch([index])
        versions = alterations(to_waveforms(samples)[0].numpy(), seed, index)
        waveforms = torch.from_numpy(np.stack(list(versions.values()))).to(model.device)
        output = model(input_values=waveforms, input_features=feature_extractor.log_mel(waveforms))
        batches.append(ClipOutputs.of(output))
    return ClipOutputs.concatenate(batches)


def altered_clips_auc(
    detector: AnomalyDetector,
    clips: TrainingClips,
    outputs: ClipOutputs,
    chosen: np.ndarray,
    altered: ClipOutputs,
) -> dict[str, float]:
    """Return each back end's AUC of altered against held-out normal clips, the mean over machine IDs.

    Args:
        detector: the fitted detector.
        clips: the normal clips.
        outputs: the network's outputs for all `clips`.
        chosen: indices of the clips that were altered.
        altered: the network's outputs for the alterations of the chosen clips.
    """
    areas: dict[str, list[float]] = {backend: [] for backend in detector.backends}
    owners = clips.machines[chosen]
    for machine in np.unique(owners).tolist():
        normal = outputs[clips.is_held_out & (clips.machines == machine)]
        faulty = altered[np.repeat(owners == machine, len(ALTERATIONS))]
        is_altered = np.repeat([0, 1], [len(normal), len(faulty)])
        for backend in detector.backends:
            scores = [detector.scores(part, machine, backend) for part in (normal, faulty)]
            areas[backend].append(roc_auc_score(is_altered, torch.cat(scores).numpy()))
    return {backend: round(float(np.mean(of_machines)), 4) for backend, of_machines in areas.items()}
