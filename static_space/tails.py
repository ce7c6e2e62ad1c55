"""P-values and thresholds as parts of a graph, which works out the machine: `Calibration` in calibration_attention_asd.py."""

import math

import torch
from torch import nn

from modeling import AnomalyDetector
from modeling.calibration_attention_asd import SHORT_RISE, SHORT_SPREAD, StudentT, predict, to_tail_scale
from modeling.student_attention_asd import log_constant, tail_integral


# Nothing else is known of a machine without a prior: with this location nothing is rare.
UNKNOWN = StudentT(1.0, 1e30, 1.0)
# Steps of each of three searches for a threshold, in ever smaller parts of the range of log(t).
SEARCH, LOWEST_LOG_T, HIGHEST_LOG_T = 257, -12.0, 12.0


def row(table: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """The row of a table at a place that the graph works out."""
    return table.index_select(0, place.reshape(1))[0]


class Tail(nn.Module):
    """The p-values and thresholds of one of the machines, in float32: ONNX Runtime has no arc tangent of doubles."""

    location: torch.Tensor
    scale: torch.Tensor
    shape: torch.Tensor
    log_constant: torch.Tensor
    lowest_rate: torch.Tensor
    is_known: torch.Tensor

    def __init__(self, detector: AnomalyDetector):
        super().__init__()
        self.backend = detector.backend
        predicted, shapes, lowest, is_known = [], [], [], []
        for calibration in map(detector.calibration, detector.machines):
            prior = calibration.prior
            is_known.append(prior is not None)
            lowest.append(calibration.lowest_rate)
            if prior is None:
                predicted.append((0.0, 1.0))
                shapes.append(UNKNOWN)
                continue
            own = to_tail_scale(self.backend, torch.from_numpy(calibration.scores)).numpy()
            location, scale, degrees = predict(own, prior)
            predicted.append((location, scale))
            shapes.append(prior.tail or StudentT(degrees, 0.0, 1.0))
        location, scale = torch.tensor(predicted, dtype=torch.float64).T
        shape = torch.tensor(shapes, dtype=torch.float64)
        self.register_buffer("location", location)
        self.register_buffer("scale", scale)
        self.register_buffer("shape", shape)
        self.register_buffer("log_constant", log_constant(shape[:, 0]).float())
        self.register_buffer("lowest_rate", torch.tensor(lowest, dtype=torch.float64))
        self.register_buffer("is_known", torch.tensor(is_known))

    def of(self, machine: torch.Tensor, shortening: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Location and scale of a machine's next normal score, for clips that are so many times shorter."""
        rise = shortening.log() if self.backend == "spectrum" else torch.zeros_like(shortening)
        location = row(self.location, machine) + SHORT_RISE * rise
        scale = (row(self.scale, machine).square() + SHORT_SPREAD**2 * rise).sqrt()
        _, shape_location, shape_scale = row(self.shape, machine)
        return location + scale * shape_location, scale * shape_scale

    def tail(self, t: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        return tail_integral(t.float(), row(self.shape, machine)[0].float(), row(self.log_constant, machine))

    def p_values(self, scores: torch.Tensor, machine: torch.Tensor, shortening: torch.Tensor) -> torch.Tensor:
        """Of the scores of a recording's windows, adjusted for their number (Benjamini and Hochberg 1995)."""
        location, scale = self.of(machine, shortening)
        tails = self.tail((to_tail_scale(self.backend, scores) - location) / scale, machine).double()
        ranks = (tails.unsqueeze(0) <= tails.unsqueeze(1)).double().sum(1)
        each = tails * len(tails) / ranks
        # The least of those that are as large or larger.
        adjusted = torch.where(tails.unsqueeze(0) >= tails.unsqueeze(1), each.unsqueeze(0), 1.0).amin(1).clamp_max(1.0)
        return torch.maximum(adjusted, row(self.lowest_rate, machine))

    def threshold(
        self, rate: torch.Tensor, share: torch.Tensor, machine: torch.Tensor, shortening: torch.Tensor
    ) -> torch.Tensor:
        """The score whose tail is this share of the rate; NaN where no score has such a p-value."""
        location, scale = self.of(machine, shortening)
        low, high = torch.tensor(LOWEST_LOG_T), torch.tensor(HIGHEST_LOG_T)
        steps = torch.linspace(0.0, 1.0, SEARCH)
        for _ in range(3):
            logs = low + (high - low) * steps
            above = (self.tail(logs.exp(), machine) > rate * share).float().sum().clamp(1.0, SEARCH - 1.0)
            width = (high - low) / (SEARCH - 1)
            low, high = low + width * (above - 1.0), low + width * above
        t = torch.where(rate * share >= 0.5, 0.0, ((low + high) / 2.0).exp().double())
        value = location + scale * t
        # The softplus, as `from_tail_scale` has it.
        threshold = torch.logaddexp(value, torch.zeros_like(value)) if self.backend == "arcface" else value.exp()
        return torch.where(row(self.is_known, machine) & (rate >= row(self.lowest_rate, machine)), threshold, math.nan)


__all__ = ["Tail", "row"]
