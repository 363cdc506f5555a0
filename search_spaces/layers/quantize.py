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
from typing import TypeAlias

import torch
from torch import Tensor
from torch import nn
from torch.autograd import Function
from torch.nn import functional

from search_spaces.graph.architecture import RANGES
from search_spaces.graph.architecture import Pair
from search_spaces.graph.precision import BIT_WIDTHS
from search_spaces.graph.precision import HALF
from search_spaces.graph.precision import INTEGER_WIDTHS
from search_spaces.graph.precision import TERNARY
from search_spaces.graph.precision import WEIGHTS

EMA_MOMENTUM = 0.1
TERNARY_THRESHOLD = 0.7
LEARNED_WEIGHTS = (3, 2)
"""Widths in which weights have a learned step: their largest value would leave most of the few levels unused."""
CLIPPED_TENSORS = (4, 3, 2)
"""Widths in which a tracked range is that of least squared error, not that of the largest value."""
# A tracked range is found on this many of a tensor's values: on all of them it would cost as much as the layer.
SAMPLED = 2048
# Of the largest magnitude, the shares that are tried as a range: down to a thirty-second.
SHARES = tuple(2 ** (-exponent / 4) for exponent in range(21))


# These functions are written so that `torch.func` can map them over records, as per-example gradients need
# (`nas.training.private`): a forward pass apart from what it saves, and no operation in place on a mapped tensor that
# has no rule for it.
class _StraightThrough(Function):
    """Give `value` forwards; pass the gradient to `source` as if nothing had happened."""

    generate_vmap_rule = True

    @staticmethod
    def forward(_source: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Save nothing: the gradient depends on no value."""

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Sign(Function):
    """Give +1 where the input is 0 or more, else -1; pass the gradient where the input lies within (-1, 1)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(source: Tensor) -> Tensor:
        return (source >= 0).to(source.dtype).mul_(2).sub_(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004 - torch names them
        ctx.save_for_backward(*inputs)

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

    generate_vmap_rule = True

    @staticmethod
    def forward(source: Tensor, step: Tensor, limits: Pair, _gradient_scale: float) -> Tensor:
        size = float(step)
        return (source / size).clamp(*limits).round_().mul_(size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Pair, float], output: Tensor) -> None:
        source, step, limits, gradient_scale = inputs
        size = float(step)
        ctx.save_for_backward(source, output)
        ctx.range = (size * limits[0], size * limits[1])
        ctx.step_factor = gradient_scale / size

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


def quantize_weight(weight: Tensor, bits: int, format: str = "", step: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Split a weight into integer levels and one scale per output channel; their product approximates it.

    - 8 and 4 bits: symmetric, levels from -(2^(bits-1) - 1) to its opposite, the scale maps the largest weight of the
      channel to the last level.
    - 3 and 2 bits: two's complement, levels from -2^(bits-1) to 2^(bits-1) - 1. The scale is `step`, which a layer
      learns (Esser et al., 2020); without one it is that of least squared error (`least_error_step`).
    - 2 bits, `ternary`: levels -1, 0, +1. Weights beyond 0.7 mean|w| become +-1 and the scale is their mean magnitude,
      close to the least-squares choice (Li, Zhang and Liu, 2016, Ternary Weight Networks).
    - 1 bit: levels -1, +1 (zero counts as +1) and the scale mean|w|, the least-squares choice (Rastegari et al., 2016,
      XNOR-Net).

    What was quantised is left as it is when it is quantised again. Gradients pass straight through the levels. At 1
    bit they also flow into the mean: the gradient of weight i of n is `sign(w_i) / n * sum_j(g_j sign(w_j)) +
    scale g_i [|w_i| < 1]` with g the gradient of the binarised weight. This is the exact chain rule; the paper's own
    formula keeps only j = i of the sum. A learned step gets the gradient of Esser et al.: the rounding error in steps
    inside the range, the level itself outside, and weights outside get none.

    Args:
        weight: `(out_channels, ...)`.
        bits: 8, 4, 3, 2 or 1.
        format: `ternary`, or "" for whole numbers.
        step: `(out_channels, 1, ...)`, positive: the scale of 3- and 2-bit levels.

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
    if bits in LEARNED_WEIGHTS and format != TERNARY:
        step = least_error_step(weight, bits) if step is None else step
        inside = (weight / step).clamp(*signed_limits(bits))
        return _straight_through(inside, inside.detach().round()), step
    values, magnitudes = weight.detach(), magnitudes.detach()
    if format == TERNARY:
        threshold, scale = (one.view(per_channel) for one in _ternary(magnitudes))
        levels = values.sign() * (values.abs() > threshold)
    elif bits in (4, 8):
        scale = _nonzero(magnitudes.amax(1).view(per_channel) / (2 ** (bits - 1) - 1))
        levels = (values / scale).round_()
    else:
        raise ValueError(f"expected one of {list(INTEGER_WIDTHS)} bits for a quantised weight; got {bits}")
    return _straight_through(weight / scale, levels), scale


def signed_limits(bits: int) -> Pair:
    """Return the smallest and largest whole number in two's complement.

    >>> signed_limits(2), signed_limits(8)
    ((-2, 1), (-128, 127))
    """
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


@torch.no_grad()
def least_error_step(weight: Tensor, bits: int) -> Tensor:
    """Return for each output channel the step whose levels come closest to the weights, in squared error.

    Tried are steps with the largest magnitude on each of the levels, so that what lies on levels already is left as it
    is, and smaller ones that clip it.

    Args:
        weight: `(out_channels, ...)`.
        bits: 2 or more.

    Returns:
        `(out_channels, 1, ...)`, positive.

    >>> least_error_step(torch.tensor([[-0.6, 0.3, 0.0, 0.3]]), bits=2)
    tensor([[0.3000]])
    """
    rows = weight.flatten(1)
    low, high = signed_limits(bits)
    largest = _nonzero(rows.abs().amax(1))
    divisors = [*map(float, range(1, -low + 1)), *(-low / share for share in SHARES)]
    errors = []
    for divisor in divisors:
        step = (largest / divisor).unsqueeze(1)
        errors.append((rows - (rows / step).round().clamp(low, high) * step).square().sum(1))
    best = torch.tensor(divisors, dtype=weight.dtype, device=weight.device)[torch.stack(errors).argmin(0)]
    return (largest / best).view((-1,) + (1,) * (weight.dim() - 1))


def half(values: Tensor, format: str) -> Tensor:
    """Round values, any shape, to a 16-bit format and keep them in float32; the gradient passes straight through.

    Magnitudes beyond the largest number of `fp16`, 65,504, become that number.

    Args:
        values: In float32.
        format: `bf16` or `fp16`.

    >>> half(torch.tensor([1.001, 70000.0]), "fp16"), half(torch.tensor([1.001]), "bf16")
    (tensor([1.0010e+00, 6.5504e+04]), tensor([1.]))
    """
    kind = torch.bfloat16 if format == "bf16" else torch.float16
    largest = torch.finfo(kind).max
    return _straight_through(values, values.detach().clamp(-largest, largest).to(kind).to(values.dtype))


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

    Master weights stay in float; `quantize_weight` is applied in each forward pass, at 16 bits `half`, at 32 nothing.
    A bias stays in float. Weights of 3 and 2 bits have a step for each channel that is learned with them.

    A kernel that is smaller than its step (the 1x1 convolution of stride 2 in a residual block) computes on tensors
    that lie channel by channel, whatever the layout of its input and its weights: on CPUs with AVX-512, PyTorch 2.13's
    backward pass of such a layer writes beyond its memory when either of them is `channels_last`, and the process dies
    (of SIGSEGV, or of SIGABRT when the heap is found damaged). Here, and not where the layout of a network is chosen,
    because a batch that was mirrored or shifted can be `channels_last` though the network is not.

    Raises:
        ValueError: If `weight_bits` is not one of `search_spaces.graph.precision.BIT_WIDTHS`.
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
        weight_format: str = "",
    ) -> None:
        _check_bits(weight_bits, weight_format)
        super().__init__(in_channels, channels, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
        self.weight_bits, self.weight_format = weight_bits, weight_format
        self.log_step = _learned_step(self.weight, weight_bits, weight_format)
        self._skips_positions = skips_positions(kernel, stride)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve with integer levels, then scale each channel."""
        if self.weight_bits >= HALF:
            return self._convolved(input, _in_float(self), self.bias)
        levels, scale = quantized(self)
        sums = self._convolved(input, levels, None)
        output = sums * scale.view(1, -1, 1, 1)
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1)

    def _convolved(self, records: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        if self._skips_positions:
            # A copy, not `contiguous()`, which takes a 1x1 kernel for laid out both ways and leaves it as it is.
            records = records.clone(memory_format=torch.contiguous_format)
            kernel = kernel.clone(memory_format=torch.contiguous_format)
        sums: Tensor = self._conv_forward(records, kernel, bias)
        return sums

    def extra_repr(self) -> str:
        """Name shapes and precision."""
        shape = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, stride={self.stride}"
        return f"{shape}, padding={self.padding}, groups={self.groups}, {_precision(self)}"


class QuantLinear(nn.Linear):
    """Fully connected layer `(records, in_features)` to `(records, features)` with few-bit weights.

    Raises:
        ValueError: If `weight_bits` is not one of `search_spaces.graph.precision.BIT_WIDTHS`.
    """

    def __init__(
        self, in_features: int, features: int, *, bias: bool = False, weight_bits: int = 8, weight_format: str = ""
    ) -> None:
        _check_bits(weight_bits, weight_format)
        super().__init__(in_features, features, bias=bias)
        self.weight_bits, self.weight_format = weight_bits, weight_format
        self.log_step = _learned_step(self.weight, weight_bits, weight_format)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply by integer levels, then scale each output."""
        if self.weight_bits >= HALF:
            return functional.linear(input, _in_float(self), self.bias)
        levels, scale = quantized(self)
        output = functional.linear(input, levels) * scale.view(1, -1)
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        """Name shapes and precision."""
        return f"{self.in_features}, {self.out_features}, {_precision(self)}"


QuantLayer: TypeAlias = QuantConv2d | QuantLinear


def quantized(layer: QuantLayer) -> tuple[Tensor, Tensor]:
    """Return a layer's weights as `quantize_weight` does, with the step that the layer has learned.

    Args:
        layer: With weights of 8 or fewer bits.
    """
    step = None
    if layer.log_step is not None:
        # Esser et al. (2020) scale a step's gradient by the number of weights that it is the sum over.
        gradient_scale = 1 / sqrt(layer.weight[0].numel() * signed_limits(layer.weight_bits)[1])
        log_step = layer.log_step.detach() + (layer.log_step - layer.log_step.detach()) * gradient_scale
        step = log_step.exp().view((-1,) + (1,) * (layer.weight.dim() - 1))
    return quantize_weight(layer.weight, layer.weight_bits, layer.weight_format, step)


@torch.no_grad()
def fit_step(layer: QuantLayer) -> None:
    """Set the step that a layer learns to that of least squared error for the weights it has."""
    if layer.log_step is not None:
        layer.log_step.copy_(least_error_step(layer.weight, layer.weight_bits).flatten().log())


def _learned_step(weight: Tensor, bits: int, format: str) -> nn.Parameter | None:
    """Return the logarithm of each channel's step, `(channels,)`, in layers that learn it (`ActivationQuantizer`)."""
    if bits not in LEARNED_WEIGHTS or format == TERNARY:
        return None
    return nn.Parameter(least_error_step(weight, bits).flatten().log())


def _in_float(layer: QuantLayer) -> Tensor:
    return layer.weight if layer.weight_bits > HALF else half(layer.weight, layer.weight_format)


def _precision(layer: QuantLayer) -> str:
    return f"weight_bits={layer.weight_bits}" + (f", {layer.weight_format}" if layer.weight_format else "")


class HalfRounding(nn.Module):
    """Round a tensor of any shape to a 16-bit float format; see `half`."""

    def __init__(self, format: str) -> None:
        super().__init__()
        _check_bits(HALF, format)
        self.format = format

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` rounded."""
        return half(values, self.format)

    def extra_repr(self) -> str:
        """Name the format."""
        return self.format


class ActivationQuantizer(nn.Module):
    """Round a tensor of any shape to at most 2^bits levels, one step for the whole tensor.

    Levels run from 0 to 2^bits - 1 steps when unsigned, from -2^(bits-1) to 2^(bits-1) - 1 steps when signed. One bit
    is the sign function, without a step. Gradients pass inside the range and stop outside.

    - `tracked`: the step follows a running average of each batch's range, updated in training mode only; the first
      batch sets it. At 8 bits the range is the largest magnitude (Jacob et al., 2018). At 4 and fewer it is the one of
      least squared error on a sample of the batch: a few large values would leave most of the few levels unused.
    - `learned`: the step is a parameter (Esser et al., 2020, Learned Step Size Quantization), set by the first training
      batch to 2 mean|x| / sqrt(last level). Its logarithm is stored, as Jain et al. (2020) do for thresholds: Adam
      moves every parameter by about the learning rate whatever its size, and would throw a step of 0.01 across zero.

    Until a batch was seen in training mode the range is 1.

    Args:
        bits: 8, 4, 3, 2 or 1.
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
        if bits not in INTEGER_WIDTHS:
            raise ValueError(f"expected one of {list(INTEGER_WIDTHS)} bits for a quantised activation; got {bits}")
        if range not in RANGES:
            raise ValueError(f"no range {range!r}; there are {list(RANGES)}")
        self.bits, self.signed, self.range = bits, signed, range
        self.limits = signed_limits(bits) if signed else (0, 2**bits - 1)
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
            reached = values.abs().amax()
            if self.bits in CLIPPED_TENSORS:
                reached = _least_error_range(values, reached, self.limits)
            self.magnitude.lerp_(reached, 1.0 if first else EMA_MOMENTUM)
        elif first:
            step = 2 * values.abs().mean() / sqrt(self.limits[1])
            with torch.no_grad():
                self.log_step.copy_(step.clamp(min=1e-6).log())
        self.seen.fill_(True)

    def extra_repr(self) -> str:
        """Name bits, sign and range."""
        return f"{self.bits}, signed={self.signed}, range={self.range!r}"


def _least_error_range(values: Tensor, largest: Tensor, limits: Pair) -> Tensor:
    """Return the value of the last level whose levels come closest to a sample of the values, in squared error."""
    sample = values.flatten()[:: max(1, values.numel() // SAMPLED)].unsqueeze(1)
    ranges = largest * torch.tensor(SHARES, dtype=values.dtype, device=values.device)
    step = (ranges / limits[1]).clamp(min=torch.finfo(values.dtype).tiny)
    errors = ((sample / step).round_().clamp_(*limits).mul_(step) - sample).square_().sum(0)
    return ranges[errors.argmin()]


def _check_bits(bits: int, format: str) -> None:
    if bits not in BIT_WIDTHS or (bits == HALF and not format):
        raise ValueError(f"expected a precision of {list(WEIGHTS)}; got {bits}")
