"""Layers whose gradients PyTorch computes slowly on a CPU. Their forward passes are PyTorch's own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class PReLUOnCpu(torch.autograd.Function):
    """PReLU with a vectorized backward pass.

    PyTorch's own backward pass took 28 % of a training step on a CPU. This one takes a third of that time in float32 and
    a sixth in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, hidden_states: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden_states, slopes)
        return F.prelu(hidden_states, slopes)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_states, slopes = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(grad, hidden_states, 0)
        below = grad - above
        return torch.addcmul(above, below, slopes.view(1, -1, 1, 1)), below.mul_(hidden_states).sum((0, 2, 3))


class AttentionAsdPReLU(nn.PReLU):
    """PReLU with one slope per channel. On a CPU with gradients it is computed by [`PReLUOnCpu`]."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and hidden_states.device.type == "cpu":
            return PReLUOnCpu.apply(hidden_states, self.weight.to(hidden_states.dtype))
        return super().forward(hidden_states)


class HalvingDepthwiseOnCpu(torch.autograd.Function):
    """Depthwise 3x3 convolution with stride 2 and padding 1, whose gradient of the input is one with stride 1.

    PyTorch's own gradient of the input took 8 to 19 times as long in bfloat16 with stride 2 as with stride 1. A convolution
    with stride 2 is every second row and column of one with stride 1. So its gradient is that of stride 1, with zeros for
    the rows and columns that were left out.
    """

    @staticmethod
    def forward(ctx: Any, hidden_states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden_states, weight)
        return F.conv2d(hidden_states, weight, stride=2, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_states, weight = ctx.saved_tensors

        def gradients(grad: torch.Tensor, stride: int, wanted: list[bool]) -> tuple[torch.Tensor, ...]:
            return torch.ops.aten.convolution_backward(
                grad, hidden_states, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], len(weight), wanted
            )

        # `zeros_like` keeps the memory format, channels-last in training.
        spread = torch.zeros_like(hidden_states)
        spread[:, :, ::2, ::2] = grad
        return gradients(spread, 1, [True, False, False])[0], gradients(grad, 2, [False, True, False])[1]


class AttentionAsdConv2d(nn.Conv2d):
    """A convolution of MobileFaceNet.

    The class tells `_init_weights` how to initialize its weights. In bfloat16 training on a CPU, a depthwise convolution
    with stride 2 is computed by [`HalvingDepthwiseOnCpu`].
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.training and torch.is_grad_enabled() and self._is_slow_backward(hidden_states):
            return HalvingDepthwiseOnCpu.apply(hidden_states, self.weight.to(torch.bfloat16))
        return super().forward(hidden_states)

    def _is_slow_backward(self, hidden_states: torch.Tensor) -> bool:
        is_halving_depthwise = self.groups > 1 and self.stride == (2, 2)
        return is_halving_depthwise and hidden_states.device.type == "cpu" and hidden_states.dtype == torch.bfloat16


__all__ = ["AttentionAsdConv2d", "AttentionAsdPReLU"]
