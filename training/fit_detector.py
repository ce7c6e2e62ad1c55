"""After training: run the network over the normal clips once more and fit the detector that decides."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel

from .waveform_bank import WaveformBank, to_waveforms


@torch.no_grad()
def fit_detector(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank,
    held_out_indices: Sequence[int],
    batch_size: int,
    seed: int,
    progress: bool = True,
) -> AnomalyDetector:
    """The detector of the bank's machine IDs: fitted on the clips that the network was trained on, calibrated on the
    held-out ones."""
    model.eval()
    embeddings, cosines, means, deviations = [], [], [], []
    for start in tqdm(range(0, len(bank), batch_size), desc="Fitting the detector", unit="batch", disable=not progress):
        samples, _ = bank.__getitems__(range(start, min(start + batch_size, len(bank))))
        waveforms = to_waveforms(samples.to(model.device))
        log_mel = feature_extractor.log_mel(waveforms)
        output = model(input_values=waveforms, input_features=log_mel)
        embeddings.append(output.embeddings.float().cpu())
        cosines.append(output.cosines.cpu())
        means.append(log_mel.mean(-1).cpu())
        deviations.append(log_mel.std(-1).cpu())
    is_held_out = np.zeros(len(bank), dtype=bool)
    is_held_out[np.asarray(held_out_indices, dtype=np.int64)] = True
    return AnomalyDetector.fit(
        model.config,
        torch.cat(embeddings),
        torch.cat(cosines),
        [model.config.id2label[int(label)] for label in bank.labels],
        is_held_out,
        log_mel_mean=torch.cat(means),
        log_mel_std=torch.cat(deviations),
        seed=seed,
    )
