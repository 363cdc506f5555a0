"""How each tensor of an integer network is stored: in eight bits with one scale, or not at all.

An engine fuses a convolution with the norm and activation behind it and stores what comes out; what lies between has no
scale. A tensor that the network rounds in training keeps its step; any other gets the range calibration records show.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import nn

from nas.training.loop import outputs_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.integers import stays_float
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import moves_only


@dataclass(frozen=True)
class Scale:
    """How a tensor is stored in uint8: `value = (stored - zero) * step`.

    Attributes:
        step: Value of one level.
        zero: Stored number of the value 0.
        limits: Smallest and largest stored number in use, 0 and 255 for a full 8 bits.
    """

    step: float
    zero: int
    limits: tuple[int, int] = (0, 255)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return (self.limits[0] - self.zero) * self.step, (self.limits[1] - self.zero) * self.step


def scale_of_range(low: float, high: float) -> Scale:
    """Return the 8-bit scale that covers a range and zero.

    >>> scale_of_range(0.0, 51.0), scale_of_range(-64.0, 63.5)
    (Scale(step=0.2, zero=0, limits=(0, 255)), Scale(step=0.5, zero=128, limits=(0, 255)))
    """
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    if step < float(np.finfo(np.float32).tiny):  # all zero
        return Scale(1.0, 0)
    return Scale(step, round(-low / step))


def trained_scales(architecture: Architecture, network: nn.Module) -> dict[int, Scale]:
    """Return the scale of each tensor that the network itself rounds, signs left out."""
    scales = {}
    for index, op in enumerate(architecture.ops):
        quantizer = quantizer_of(network, index)
        if quantizer is None or quantizer.bits == 1:
            continue
        low, high = quantizer.limits
        step = quantizer.log_step.detach().exp() if quantizer.range == "learned" else quantizer.magnitude / high
        size = max(float(step), float(np.finfo(np.float32).tiny))
        if op.function == "relu6":
            high = min(high, round(6 / size))
        zero = 128 if quantizer.signed else 0
        scales[index] = Scale(size, zero, (low + zero, high + zero))
    return scales


def all_scales(
    architecture: Architecture,
    network: nn.Module,
    trained: Mapping[int, Scale],
    ranges: Mapping[int, tuple[float, float]],
) -> dict[int, Scale]:
    """Return the scale of each tensor that an integer engine stores."""
    scales = {**trained, **_signs(architecture, network)}
    in_float = stays_float(architecture)
    for index, op in enumerate(architecture.ops):
        if index in scales or index in in_float:
            continue
        if op.kind in CONSTANT or not moves_only(op.kind, op.function):
            scales[index] = scale_of_range(*ranges[index])
        elif len(op.inputs) == 1:
            scales[index] = scales[op.inputs[0]]
        else:
            scales[index] = _common([scales[source] for source in op.inputs])
    return scales


def moved_scales(architecture: Architecture, network: nn.Module, trained: Mapping[int, Scale]) -> dict[int, Scale]:
    """Return the scale of each tensor that the network rounds, and of those that hold the same numbers in other places.

    What a pooling or a concatenation makes of 8-bit tensors of one scale is stored on that scale: what reads it then
    reads 8 bits.
    """
    scales = {**trained, **_signs(architecture, network)}
    for index, op in enumerate(architecture.ops):
        sources = {scales.get(source) for source in op.inputs}
        moves = op.inputs and op.kind not in CONSTANT and moves_only(op.kind, op.function)
        if moves and index not in scales and len(sources) == 1 and (scale := sources.pop()) is not None:
            scales[index] = scale
    return scales


def _signs(architecture: Architecture, network: nn.Module) -> dict[int, Scale]:
    """Return the scale of each tensor that is a sign."""
    quantizers = ((index, quantizer_of(network, index)) for index in range(len(architecture.ops)))
    return {index: Scale(1.0, 128, (127, 129)) for index, found in quantizers if found is not None and found.bits == 1}


def _common(scales: Sequence[Scale]) -> Scale:
    """Return one scale for several tensors: theirs where they share it."""
    if len({(scale.step, scale.zero) for scale in scales}) == 1:
        return Scale(scales[0].step, scales[0].zero)
    lows, highs = zip(*(scale.range for scale in scales), strict=True)
    return scale_of_range(min(lows), max(highs))


@torch.no_grad()
def ranges_of(architecture: Architecture, network: nn.Module, records: Tensor) -> dict[int, tuple[float, float]]:
    """Return the smallest and largest output of each operator over the records, before any rounding."""
    if not len(records):
        raise ValueError("expected calibration records for int8; got none")
    found: dict[int, tuple[float, float]] = {}

    def watch(index: int) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            low, high = found.get(index, (np.inf, -np.inf))
            found[index] = min(low, float(output.min())), max(high, float(output.max()))

        return look

    hooks = [
        getattr(network, f"op{index}_{op.kind}").register_forward_hook(watch(index))
        for index, op in enumerate(architecture.ops)
    ]
    try:
        outputs_of(network, records)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def becomes_sign(architecture: Architecture, index: int) -> bool:
    """Tell whether the only thing ever asked of an operator's output is its sign."""
    if architecture.ops[index].bits == 1:
        return True
    if index in architecture.outputs:
        return False
    readers = [op for op in architecture.ops if index in op.inputs]
    return len(readers) == 1 and readers[0].kind == "activation" and readers[0].bits == 1


def quantizer_of(network: nn.Module, index: int) -> Any:
    """Return the module that rounds an operator's output, None where nothing does."""
    return getattr(network, f"op{index}_quantizer", None)
