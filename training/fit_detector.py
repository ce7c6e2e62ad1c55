"""After training: run the network over the normal clips once more and fit the detector that decides."""

import torch
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel, ClipOutputs
from modeling.conditions_attention_asd import of_true_frames
from modeling.modeling_attention_asd import spectral_statistics

from .clips import Bank, TrainingClips
from .waveform_bank import WaveformBank


# Clips of noise, of which the white ones tell the mean spectrum, and their root mean square.
NOISE_CLIPS, NOISE_LEVEL = 8, 0.1


def fit_detector(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    clips: TrainingClips,
    *,
    batch_size: int,
    seed: int,
    progress: bool = True,
) -> AnomalyDetector:
    """Fit the detector on all normal clips; the held-out ones calibrate the back ends that need the network.

    Args:
        model: the trained network.
        feature_extractor: computes the log-mel.
        clips: the normal clips, as they were split for the training, those of a machine in the order of their recording.
        batch_size: clips per forward pass.
        seed: key of the mixtures and of the noise.
        progress: whether to show progress bars.
    """
    outputs = network_outputs(model, feature_extractor, clips.bank, batch_size, progress)
    # Of log-mels alone nobody knows how they were made.
    noise = noise_spectrum(feature_extractor, seed) if isinstance(clips.bank, WaveformBank) else None
    return AnomalyDetector.fit(
        model.config,
        outputs,
        clips.machines.tolist(),
        clips.is_held_out,
        recordings=clips.recordings,
        noise=noise,
        seed=seed,
    )


def noise_spectrum(feature_extractor: AttentionAsdFeatureExtractor, seed: int) -> torch.Tensor:
    """Return the spectra of clips of white and of brown noise, `(2, clips, 6, num_mel_bins)` in dB."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(NOISE_CLIPS, feature_extractor.clip_length, generator=generator)
    brown = white.cumsum(1)
    brown = (brown - brown.mean(1, keepdim=True)) / brown.std(1, keepdim=True)
    noises = (NOISE_LEVEL * white, NOISE_LEVEL * brown)
    return torch.stack([spectral_statistics(feature_extractor.log_mel(noise)) for noise in noises])


@torch.no_grad()
def network_outputs(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: Bank,
    batch_size: int,
    progress: bool = True,
) -> ClipOutputs:
    """Return the network's outputs for every clip of the bank, with the statistics of what was recorded."""
    model.eval()
    batches = []
    for start in tqdm(range(0, len(bank), batch_size), desc="Embedding", unit="batch", disable=not progress):
        samples, _ = bank.fetch(range(start, min(start + batch_size, len(bank))))
        inputs = bank.inputs(samples.to(model.device), feature_extractor)
        outputs = ClipOutputs.of(model(**inputs))
        if isinstance(bank, WaveformBank):
            lengths = bank.lengths[start : start + batch_size].tolist()
            windows = [clip[:length] for clip, length in zip(inputs["input_values"].cpu(), lengths, strict=True)]
            outputs = of_true_frames(outputs, windows, feature_extractor)
        batches.append(outputs)
    return ClipOutputs.concatenate(batches)
