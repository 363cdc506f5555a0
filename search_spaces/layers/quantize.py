"""Fake-quantised layers: few-bit numbers held in float32, trained with straight-through gradients.

Weights have one scale per output channel, activations one step per tensor. A layer computes with integer-valued levels
and multiplies by the scale afterwards, `convolution(x, levels) * scale`, because that is what integer hardware does:
sums of small integers are exact in float32, so a layer of 1-bit weights and 1-bit inputs equals its XNOR-popcount
reference (`tests/xnor_popcount.py`) bit for bit. This holds on a CPU; a GPU library may choose a Winograd or FFT
convolution, whose intermediate numbers are not whole.

The straight-through estimator (Bengio et al., 2013) is written out here: torch's own fake-quantise kernels take
ten times as long on a CPU (1.7 against 0.15 ms, forward and backward, for a tensor of (64, 32, 8, 8)).
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.autograd import Function
from torch.nn import functional

from search_spaces.graph.architecture import BIT_WIDTHS
from search_spaces.graph.architecture import RANGES
from search_spaces.graph.architecture import Pair

EMA_MOMENTUM = 0.1
TERNARY_THRESHOLD = 0.7


class _StraightThrough(Function):
    """Give `value` forwards; pass the gradient to `source` as if nothing had happened."""

    @staticmethod
    def forward(_ctx: Any, _source: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Sign(Function):
    """Give +1 where the input is 0 or more, else -1; pass the gradient where the input lies within (-1, 1)."""

    @staticmethod
    def forward(ctx: Any, source: Tensor) -> Tensor:
        ctx.save_for_backward(source)
        return (source >= 0).to(source.dtype).mul_(2).sub_(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (source,) = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.hardtanh_backward(gradients[0], source, -1.0, 1.0)
        return passed


class _Levels(Function):
    """Round to multiples of a step, within `limits` (counted in steps).

    The input's gradient passes inside the range only. The step's gradient is that of Esser et al. (2020): the rounding
    error in steps inside the range, the level itself outside, times `gradient_scale`.
    """

    @staticmethod
    def forward(ctx: Any, source: Tensor, step: Tensor, limits: Pair, gradient_scale: float) -> Tensor:
        size = float(step)
        levels = (source / size).clamp_(*limits).round_().mul_(size)
        ctx.save_for_backward(source, levels)
        ctx.range = (size * limits[0], size * limits[1])
        ctx.step_factor = gradient_scale / size
        return levels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        gradient = gradients[0]
        source, levels = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, source, *ctx.range)
        step_gradient = None
        if ctx.needs_input_grad[1]:
            # The sum of level/step everywhere, less source/step inside the range.
            step_gradient = ((gradient * levels).sum() - (passed * source).sum()) * ctx.step_factor
        return passed, step_gradient, None, None


# torch leaves `Function.apply` untyped; these names give it the type it has.
_straight_through: Callable[[Tensor, Tensor], Tensor] = _StraightThrough.apply
_sign: Callable[[Tensor], Tensor] = _Sign.apply
_levels: Callable[[Tensor, Tensor, Pair, float], Tensor] = _Levels.apply


def sign(values: Tensor) -> Tensor:
    """Binarise `values`, any shape, to exactly +1 (0 and above) and -1; straight-through gradient within (-1, 1).

    >>> sign(torch.tensor([-0.3, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """
    return _sign(values)


def quantize_weight(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Split a weight into integer levels and one scale per output channel; their product approximates it.

    - 8 and 4 bits: symmetric, levels from -(2^(bits-1) - 1) to its opposite, the scale maps the largest weight of the
      channel to the last level.
    - 2 bits: levels -1, 0, +1. Scaled by the maximum, nearly every weight of a bell-shaped channel would round to zero;
      instead weights beyond 0.7 mean|w| become +-1 and the scale is their mean magnitude, close to the least-squares
      choice (Li, Zhang and Liu, 2016, Ternary Weight Networks).
    - 1 bit: levels -1, +1 (zero counts as +1) and the scale mean|w|, the least-squares choice (Rastegari et al., 2016,
      XNOR-Net).

    Gradients pass straight through the levels. At 1 bit they also flow into the mean: the gradient of weight i of n is
    `sign(w_i) / n * sum_j(g_j sign(w_j)) + scale g_i [|w_i| < 1]` with g the gradient of the binarised weight. This
    is the exact chain rule; the paper's own formula keeps only j = i of the sum.

    Args:
        weight: `(out_channels, ...)`.
        bits: 8, 4, 2 or 1.

    Returns:
        Levels of the weight's shape, whole numbers in float; scale `(out_channels, 1, ...)`. A channel of zeros has
        levels and scale whose product is zero.

    Raises:
        ValueError: If `bits` is another number.

    >>> levels, scale = quantize_weight(torch.tensor([[0.4, -1.0, 0.1, 0.0]]), bits=4)
    >>> levels.tolist(), round(scale.item(), 4)
    ([[3.0, -7.0, 1.0, 0.0]], 0.1429)
    """
    # One contiguous row per channel: sums then do not depend on the memory format, nor does the network's output.
    magnitudes = weight.abs().flatten(1)
    per_channel = (-1,) + (1,) * (weight.dim() - 1)
    if bits == 1:
        return sign(weight), magnitudes.mean(1).view(per_channel)
    values, magnitudes = weight.detach(), magnitudes.detach()
    if bits == 2:
        threshold, scale = (one.view(per_channel) for one in _ternary(magnitudes))
        levels = values.sign() * (values.abs() > threshold)
    elif bits in (4, 8):
        scale = _nonzero(magnitudes.amax(1).view(per_channel) / (2 ** (bits - 1) - 1))
        levels = (values / scale).round_()
    else:
        raise ValueError(f"expected 8, 4, 2 or 1 bits for a quantised weight; got {bits}")
    return _straight_through(weight / scale, levels), scale


def _ternary(magnitudes: Tensor) -> tuple[Tensor, Tensor]:
    """Return threshold and scale `(channels,)` for magnitudes `(channels, weights)`."""
    threshold = TERNARY_THRESHOLD * magnitudes.mean(1)
    kept = magnitudes > threshold.unsqueeze(1)
    return threshold, _nonzero((magnitudes * kept).sum(1) / kept.sum(1).clamp_(min=1))


def _nonzero(scale: Tensor) -> Tensor:
    """Replace the scale of an empty channel by 1: its levels are zero whatever the scale, and nothing divides by 0."""
    return torch.where(scale > 0, scale, 1.0)


def skips_positions(kernel: Pair, stride: Pair) -> bool:
    """Tell whether a window that moves by its stride leaves positions unread, as a 1x1 kernel with stride 2 does.

    >>> skips_positions((1, 1), (2, 2)), skips_positions((3, 3), (2, 2)), skips_positions((3, 1), (1, 2))
    (True, False, True)
    """
    return any(side < step for side, step in zip(kernel, stride, strict=True))


class QuantConv2d(nn.Conv2d):
    """Convolution `(records, in_channels, height, width)` to `(records, channels, height, width)` with few-bit weights.

    Master weights stay in float; `quantize_weight` is applied in each forward pass, at 32 bits not. A bias stays in
    float.

    A kernel that is smaller than its step (the 1x1 convolution of stride 2 in a residual block) computes on tensors
    that lie channel by channel, whatever the layout of its input and its weights: on CPUs with AVX-512, PyTorch 2.13's
    backward pass of such a layer writes beyond its memory when either of them is `channels_last`, and the process dies
    (of SIGSEGV, or of SIGABRT when the heap is found damaged). Here, and not where the layout of a network is chosen,
    because a batch that was mirrored or shifted can be `channels_last` though the network is not.

    Raises:
        ValueError: If `weight_bits` is not one of 32, 8, 4, 2, 1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Pair,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        bias: bool = False,
        weight_bits: int = 8,
    ) -> None:
        _check_bits(weight_bits)
        super().__init__(in_channels, channels, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
        self.weight_bits = weight_bits
        self._skips_positions = skips_positions(kernel, stride)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve with integer levels, then scale each channel."""
        if self.weight_bits == 32:
            return self._convolved(input, self.weight, self.bias)
        levels, scale = quantize_weight(self.weight, self.weight_bits)
        sums = self._convolved(input, levels, None)
        output = sums * scale.view(1, -1, 1, 1)
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1)

    def _convolved(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        source = input
        if self._skips_positions:
            # A copy, not `contiguous()`, which takes a 1x1 kernel for laid out both ways and leaves it as it is.
            source, weight = (part.clone(memory_format=torch.contiguous_format) for part in (input, weight))
        convolved: Tensor = self._conv_forward(source, weight, bias)
        return convolved

    def extra_repr(self) -> str:
        """Name shapes and bit-width."""
        shape = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, stride={self.stride}"
        return f"{shape}, padding={self.padding}, groups={self.groups}, weight_bits={self.weight_bits}"


class QuantLinear(nn.Linear):
    """Fully connected layer `(records, in_features)` to `(records, features)` with few-bit weights.

    Raises:
        ValueError: If `weight_bits` is not one of 32, 8, 4, 2, 1.
    """

    def __init__(self, in_features: int, features: int, *, bias: bool = False, weight_bits: int = 8) -> None:
        _check_bits(weight_bits)
        super().__init__(in_features, features, bias=bias)
        self.weight_bits = weight_bits

    def forward(self, input: Tensor) -> Tensor:
        """Multiply by integer levels, then scale each output."""
        if self.weight_bits == 32:
            return super().forward(input)
        levels, scale = quantize_weight(self.weight, self.weight_bits)
        output = functional.linear(input, levels) * scale.view(1, -1)
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        """Name shapes and bit-width."""
        return f"{self.in_features}, {self.out_features}, weight_bits={self.weight_bits}"


class ActivationQuantizer(nn.Module):
    """Round a tensor of any shape to at most 2^bits levels, one step for the whole tensor.

    Levels run from 0 to 2^bits - 1 steps when unsigned, from -2^(bits-1) to 2^(bits-1) - 1 steps when signed. One bit
    is the sign function, without a step. Gradients pass inside the range and stop outside.

    - `tracked`: the step follows a running average of each batch's largest magnitude (Jacob et al., 2018), updated in
      training mode only; the first batch sets it.
    - `learned`: the step is a parameter (Esser et al., 2020, Learned Step Size Quantization), set by the first training
      batch to 2 mean|x| / sqrt(last level). Its logarithm is stored, as Jain et al. (2020) do for thresholds: Adam
      moves every parameter by about the learning rate whatever its size, and would throw a step of 0.01 across zero.

    Until a batch was seen in training mode the range is 1.

    Args:
        bits: 8, 4, 2 or 1.
        signed: Whether the tensor has negative values.
        range: `tracked` or `learned`.

    Raises:
        ValueError: If `bits` or `range` is none of those.
    """

    magnitude: Tensor
    log_step: Tensor
    seen: Tensor

    def __init__(self, bits: int, *, signed: bool, range: str = "tracked") -> None:
        super().__init__()
        _check_bits(bits)
        if bits == 32:
            raise ValueError("expected 8, 4, 2 or 1 bits for a quantised activation; got 32: leave the tensor as it is")
        if range not in RANGES:
            raise ValueError(f"no range {range!r}; there are {list(RANGES)}")
        self.bits, self.signed, self.range = bits, signed, range
        self.limits = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        if bits == 1:
            return
        self.register_buffer("seen", torch.tensor(False))
        if range == "learned":
            self.log_step = nn.Parameter(torch.tensor(1 / self.limits[1]).log())
        else:
            self.register_buffer("magnitude", torch.tensor(1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` rounded; in training mode the tracked range learns from them first."""
        if self.bits == 1:
            return sign(values)
        if self.training and values.numel():
            self._observe(values.detach())
        tiny = torch.finfo(values.dtype).tiny
        if self.range == "learned":
            step, scale = self.log_step.exp(), 1 / sqrt(values[0].numel() * self.limits[1])
        else:
            step, scale = self.magnitude / self.limits[1], 1.0
        return _levels(values, step.clamp(min=tiny), self.limits, scale)

    def _observe(self, values: Tensor) -> None:
        first = not self.seen
        if self.range == "tracked":
            self.magnitude.lerp_(values.abs().amax(), 1.0 if first else EMA_MOMENTUM)
        elif first:
            step = 2 * values.abs().mean() / sqrt(self.limits[1])
            with torch.no_grad():
                self.log_step.copy_(step.clamp(min=1e-6).log())
        self.seen.fill_(True)

    def extra_repr(self) -> str:
        """Name bits, sign and range."""
        return f"{self.bits}, signed={self.signed}, range={self.range!r}"


def _check_bits(bits: int) -> None:
    if bits not in BIT_WIDTHS:
        raise ValueError(f"expected a bit-width of {list(BIT_WIDTHS)}; got {bits}")
