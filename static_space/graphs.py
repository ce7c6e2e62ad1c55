"""Writes the graphs that the page runs: resampling, the network, statistics of a short window, and the decision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engines.graph import NetworkGraph
from engines.table import FittedModel
from modeling.conditions_attention_asd import MIN_SECONDS
from modeling.modeling_attention_asd import spectral_statistics

from .decision import INPUTS, DecisionGraph
from .resampling import Resampling


NETWORK, STATISTICS, DECISION = "network.onnx", "statistics.onnx", "decision.onnx"


class Statistics(nn.Module):
    """The statistics `(1, 6, num_mel_bins)` of a log-mel `(1, num_mel_bins, frames)`."""

    def forward(self, log_mel: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"spectra": spectral_statistics(log_mel)}


class Resampled(nn.Module):
    """A [`Resampling`] whose output has a name."""

    def __init__(self, resampling: Resampling):
        super().__init__()
        self.resampling = resampling

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"resampled": self.resampling(samples)}


def rate_file(rate: int) -> str:
    return f"resample_{rate}.onnx"


@torch.no_grad()
def write_graphs(fitted: FittedModel, folder: Path, rates: Sequence[int]) -> list[Path]:
    """Write every graph into a folder, and return the files.

    Args:
        fitted: the model.
        folder: where the graphs are written.
        rates: sampling rates in Hz that recordings may have besides the model's own.

    Raises:
        ValueError: the model's log-mel or its detector cannot be part of a graph.
    """
    extractor = fitted.feature_extractor
    files = [folder / NETWORK, folder / STATISTICS, folder / DECISION]
    clip = torch.zeros(1, extractor.clip_length)
    write(NetworkGraph(fitted.model, extractor), {"input_values": clip}, {}, files[0])
    log_mel = torch.zeros(1, extractor.num_mel_bins, 100)
    write(Statistics(), {"log_mel": log_mel}, {"log_mel": {2: torch.export.Dim("frames", min=10)}}, files[1])
    write_decision(fitted, files[2])
    for rate in rates:
        if rate != extractor.sampling_rate:
            files.append(folder / rate_file(rate))
            samples = {0: torch.export.Dim("samples", min=1)}
            resampled = Resampled(Resampling(extractor, rate))
            write(resampled, {"samples": torch.zeros(rate)}, {"samples": samples}, files[-1])
    return files


def shortest_seconds(fitted: FittedModel) -> float:
    """The length of a sound below which nothing is judged, as `conditions_attention_asd.py: listen` has it."""
    extractor = fitted.feature_extractor
    return min(MIN_SECONDS, extractor.clip_length / extractor.sampling_rate)


def write_decision(fitted: FittedModel, path: Path) -> None:
    """Write the graph of the decision."""
    config, extractor, windows = fitted.model.config, fitted.feature_extractor, 2
    # Two windows, because of one the exporter takes the number for a constant.
    example = (
        torch.zeros(windows, config.embedding_size),
        torch.zeros(windows, len(config.id2label)),
        torch.zeros(windows, 6, extractor.num_mel_bins),
        torch.tensor(600.0, dtype=torch.float64),
        torch.tensor(-1),
        torch.tensor(0.01, dtype=torch.float64),
        torch.zeros(4, dtype=torch.float64),
    )
    free = {0: torch.export.Dim("windows")}
    graph = DecisionGraph(fitted.detector, extractor.mel_frequencies, shortest_seconds(fitted))
    shapes: dict[str, Any] = dict.fromkeys(INPUTS[:3], free)
    write(graph, dict(zip(INPUTS, example, strict=True)), shapes, path)


def write(graph: nn.Module, inputs: dict[str, torch.Tensor], shapes: dict[str, Any], path: Path) -> None:
    """Write a graph that returns tensors by name.

    Args:
        graph: the graph.
        inputs: an example of each input, in their order.
        shapes: the dimensions that are free, by input.
        path: of the file.
    """
    example, dynamic = tuple(inputs.values()), tuple(shapes.get(name) for name in inputs)
    names = list(graph.eval()(*example))
    program = torch.export.export(graph, example, dynamic_shapes=dynamic, strict=True)
    torch.onnx.export(program, f=path, input_names=list(inputs), output_names=names, external_data=False, verbose=False)


__all__ = ["DECISION", "NETWORK", "STATISTICS", "rate_file", "shortest_seconds", "write_graphs"]
