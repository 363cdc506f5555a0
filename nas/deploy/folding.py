"""Weights as an engine computes with them: the norm behind a layer folded in, whole levels and their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nas.deploy.scales import Scale
from search_spaces.graph.precision import HALF
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.layers.quantize import QuantLinear
from search_spaces.layers.quantize import half
from search_spaces.layers.quantize import quantized

Floats: TypeAlias = NDArray[np.float64]

WEIGHT_LIMIT, BIAS_LIMIT = 127, 2**30


@dataclass(frozen=True, eq=False)
class Folded:
    """The weights of a layer and of the norm behind it, in double precision.

    Attributes:
        weight: `(channels, ...)`.
        bias: `(channels,)`; None where nothing is added.
        steps: `(channels,)`, the value of one level in int8.
        repeats: How many int8 levels make one level of a few-bit weight; 1 where there are none.
        signs: `(channels,)`, -1 where the norm turns the levels of few-bit weights round, else 1.
    """

    weight: Floats
    bias: Floats | None
    steps: Floats
    repeats: int
    signs: Floats


@dataclass(frozen=True, eq=False)
class Whole:
    """A layer in whole numbers.

    Attributes:
        levels: Of the weight's shape, int8.
        steps: `(channels,)`, the value of one level, float32.
        accumulator: `(channels,)`, the value of one unit of the sums, float32; None where the input is in float.
        bias: `(channels,)`, counted in these units, int32; None without a bias, or where the input is in float.
    """

    levels: NDArray[np.int8]
    steps: NDArray[np.float32]
    accumulator: NDArray[np.float32] | None
    bias: NDArray[np.int32] | None


def folded(module: nn.Module, norm: nn.Module | None) -> Folded:
    """Fold a norm into the layer that it follows.

    Args:
        module: A layer with weights.
        norm: The batch norm behind it, in eval mode; None: there is none.
    """
    weight = array(module.weight)
    bias = None if module.bias is None else array(module.bias)
    unit, repeats = None, 1
    if isinstance(module, QuantConv2d | QuantLinear) and module.weight_bits == HALF:
        weight = array(half(module.weight, module.weight_format))
    elif isinstance(module, QuantConv2d | QuantLinear) and module.weight_bits < HALF:
        levels, scale = (array(part) for part in quantized(module))
        weight, unit = levels.astype(np.float64) * scale, scale.reshape(-1).astype(np.float64)
        # Levels far apart in int8 give the bias, which counts in the same unit, a finer grid.
        repeats = WEIGHT_LIMIT // max(int(np.abs(levels).max()), 1)
        unit /= repeats
    weight = weight.astype(np.float64)
    bias = None if bias is None else bias.astype(np.float64)
    gain = np.ones(len(weight))
    if norm is not None:
        gain, shift = gain_and_shift(norm)
        bias = shift + (0.0 if bias is None else bias * gain)
    weight = weight * per_channel(gain, weight)
    if unit is None:
        steps = np.abs(weight).reshape(len(weight), -1).max(1) / WEIGHT_LIMIT
        return Folded(weight, bias, steps, repeats, np.ones(len(weight)))
    return Folded(weight, bias, unit * np.abs(gain), repeats, np.where(gain < 0, -1.0, 1.0))


def in_whole_numbers(layer: Folded, source: Scale | None, *, downwards: bool) -> Whole:
    """Write a layer's weights as int8 levels, and its bias as int32 on the accumulator's scale.

    Where the layer reads a tensor in float, it computes in float: there is no accumulator, and the bias is a float.

    Args:
        layer: The layer.
        source: How its input is stored; None in float.
        downwards: Whether only the sign of the sum is asked for: that of sum + bias, the sum a whole number, is that of
            sum + floor(bias).
    """
    steps = layer.steps
    # A channel of next to no weight would need a bias beyond 32 bits.
    if layer.bias is not None and source is not None:
        steps = np.maximum(steps, np.abs(layer.bias) / (source.step * BIAS_LIMIT))
    steps = np.where(steps > 0, steps, 1.0).astype(np.float32).astype(np.float64)
    rounded = np.rint(layer.weight / per_channel(steps, layer.weight))
    levels = rounded.clip(-WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
    single = steps.astype(np.float32)
    if source is None:
        return Whole(levels, single, None, None)
    accumulator = np.float32(source.step) * single
    if layer.bias is None:
        return Whole(levels, single, accumulator, None)
    towards = np.floor if downwards else np.rint
    return Whole(levels, single, accumulator, towards(layer.bias / accumulator.astype(np.float64)).astype(np.int32))


def gain_and_shift(norm: Any) -> tuple[Floats, Floats]:
    """Return what a batch norm multiplies each channel by, and adds to it, `(channels,)` each."""
    gamma, beta, mean, variance = (
        array(value).astype(np.float64) for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    gain = gamma / np.sqrt(variance + norm.eps)
    return gain, beta - mean * gain


def per_channel(values: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Return values `(channels,)` so that they multiply a weight `(channels, ...)`."""
    return values.reshape((-1,) + (1,) * (weight.ndim - 1))


def array(tensor: Any) -> NDArray[Any]:
    """Return a tensor, of any layout and on any device, as an array."""
    return np.asarray(tensor.detach().cpu().contiguous().numpy())
