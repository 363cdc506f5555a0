"""What the C code computes, in NumPy: the same operations in the same order and in the same types, for many records.

Sums of whole numbers are exact in any order. Sums of floats are added one by one, as the C code does.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from math import prod
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nas.deploy.c99.program import Program
from nas.deploy.c99.program import Stage
from nas.deploy.c99.program import Step
from nas.deploy.c99.program import Tensor
from search_spaces.graph.architecture import groups_of
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT

Singles: TypeAlias = NDArray[np.float32]
Stored: TypeAlias = NDArray[Any]

MOST_AT_ONCE, VALUES_AT_ONCE = 100, 2**23
"""Records, and numbers that the windows of a layer read of them."""


def answers(program: Program, records: NDArray[Any]) -> Singles:
    """Return what the C code answers to records as a user has them.

    Args:
        program: The network.
        records: `(records, *shape)`, as `Preprocessing.as_given` gives them.

    Returns:
        `(records, classes)`, bit for bit.
    """
    read = (prod(step.op.shape[1:]) * step.weights.values[0].size for step in program.steps if step.weights is not None)
    at_once = max(1, min(MOST_AT_ONCE, VALUES_AT_ONCE // max(read, default=1)))
    parts = [_answers(program, records[start : start + at_once]) for start in range(0, len(records), at_once)]
    return np.concatenate(parts)


def _answers(program: Program, records: NDArray[Any]) -> Singles:
    behind, tensors = program.behind, program.tensors
    read = behind.standardised(behind.arrangement.apply(records)).reshape(len(records), *tensors[0].shape)
    held = {0: _stored(_staged(read, program.reading), tensors[0])}
    for step in program.steps:
        inputs = [_Input(held[tensors[number].holder], tensors[number]) for number in step.inputs]
        values = _computed(step, inputs, tensors[step.output].shape, len(records))
        held[step.output] = _stored(_staged(values, step.stages), tensors[step.output])
    logits = [
        _Input(held[tensors[number].holder], tensors[number]).values().reshape(len(records), -1)
        for number in program.outputs
    ]
    found = logits[-1]
    for early in reversed(logits[:-1]):
        found = np.where(_is_sure(early, program.architecture.exit_threshold)[:, None], early, found)
    return found


def _is_sure(logits: Singles, threshold: float) -> NDArray[np.bool_]:
    """Tell for which records an exit answers: the largest share of its softmax reaches the threshold."""
    precise = logits.astype(np.float64)
    sums = np.exp(precise - precise.max(1, keepdims=True)).sum(1)
    return np.asarray((1 / sums).astype(np.float32) >= np.float32(threshold))


class _Input:
    """A tensor of several records, `(records, channels, height, width)`, as a kernel reads it."""

    def __init__(self, stored: Stored, tensor: Tensor) -> None:
        self.stored, self.scale = stored.reshape(len(stored), *tensor.shape), tensor.scale

    def levels(self) -> NDArray[np.int64]:
        """Return the whole numbers, zero at 0."""
        assert self.scale is not None
        return self.stored.astype(np.int64) - self.scale.zero

    def values(self) -> Singles:
        """Return the numbers."""
        if self.scale is None:
            return self.stored
        return self.levels().astype(np.float32) * np.float32(self.scale.step)


def _computed(step: Step, inputs: Sequence[_Input], shape: tuple[int, int, int], count: int) -> Singles:
    op = step.op
    if op.kind in WEIGHTED:
        return _layer(step, inputs[0])
    if op.kind == "pool":
        return (_largest if op.function == "max" else _mean)(step, inputs[0])
    if op.kind == "zero":
        return np.zeros((count, *shape), np.float32)
    values = [one.values() for one in inputs]
    if op.kind == "add":
        return values[0] + values[1]
    if op.kind == "scale":
        return values[0] * values[1]
    return np.concatenate(values, 1)


def _layer(step: Step, source: _Input) -> Singles:
    weights = step.weights
    assert weights is not None
    if weights.bits == FLOAT or source.scale is None:
        sums = _float_sums(step, source.values(), weights.values.astype(np.float32))
        sums = sums if weights.multiplier is None else sums * _of_channels(weights.multiplier)
        return np.asarray(sums if weights.bias is None else sums + _of_channels(weights.bias))
    whole = _whole_sums(step, source.levels(), weights.values) * weights.repeats
    if weights.whole_bias is not None:
        whole += _of_channels(weights.whole_bias)
    assert weights.multiplier is not None
    return np.asarray(whole.astype(np.float32) * _of_channels(weights.multiplier))


def _whole_sums(step: Step, levels: NDArray[np.int64], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """Add up products of whole numbers, which double precision holds exactly, in the order of the fastest library."""
    windows = _grouped(_windows(step.op, levels.astype(np.float64), 0.0), step)
    kernels = weights.astype(np.float64).reshape(windows.shape[1], -1, *weights.shape[1:])
    if kernels.shape[1:3] == (1, 1):
        sums = np.einsum("ngyxkl,gkl->ngyx", windows[:, :, 0], kernels[:, 0, 0])
    else:
        parts = [
            np.tensordot(windows[:, group], kernels[group], axes=((1, 4, 5), (1, 2, 3)))
            for group in range(len(kernels))
        ]
        sums = np.moveaxis(np.concatenate(parts, -1), -1, 1)
    return np.asarray(np.rint(sums), np.int64)


def _float_sums(step: Step, values: Singles, weights: Singles) -> Singles:
    """Add up one product after the other, as C does: another order gives other sums."""
    windows = _grouped(_windows(step.op, values, np.float32(0)), step)
    kernels = weights.reshape(groups_of(step.op), -1, *weights.shape[1:])
    count, groups, read, height, width, rows, columns = windows.shape
    sums = np.zeros((count, groups, kernels.shape[1], height, width), np.float32)
    for channel in range(read):
        for row in range(rows):
            for column in range(columns):
                factors = kernels[None, :, :, channel, row, column, None, None]
                sums += windows[:, :, None, channel, :, :, row, column] * factors
    return np.asarray(sums.reshape(count, -1, height, width))


def _grouped(windows: NDArray[Any], step: Step) -> NDArray[Any]:
    count, channels, *rest = windows.shape
    groups = groups_of(step.op)
    return windows.reshape(count, groups, channels // groups, *rest)


def _largest(step: Step, source: _Input) -> Singles:
    windows = _windows(step.op, source.values(), np.float32(-np.inf))
    return np.asarray(windows.max((-2, -1)))


def _mean(step: Step, source: _Input) -> Singles:
    """Return the mean of what is there: padding does not count."""
    there = _windows(step.op, np.ones((1, 1, *source.stored.shape[2:]), np.float32), np.float32(0)).sum((-2, -1))
    if source.scale is not None:
        sums = _windows(step.op, source.levels(), 0).sum((-2, -1)).astype(np.float32) * np.float32(source.scale.step)
        return np.asarray(sums / there)
    windows = _windows(step.op, source.values(), np.float32(0))
    sums = np.zeros(windows.shape[:-2], np.float32)
    for row in range(windows.shape[-2]):
        for column in range(windows.shape[-1]):
            sums += windows[..., row, column]
    return np.asarray(sums / there)


def _windows(op: Any, values: NDArray[Any], padding: Any) -> NDArray[Any]:
    """Return `(records, channels, height, width, rows, columns)`."""
    ends = [(0, 0), (0, 0), *((side, side) for side in op.padding)]
    padded = np.pad(values, ends, constant_values=padding)
    return sliding_window_view(padded, op.kernel, (2, 3))[:, :, :: op.stride[0], :: op.stride[1]]


def _staged(values: Singles, stages: Sequence[Stage]) -> Singles:
    for stage in stages:
        values = _STAGES.get(stage.function, _plain)(values, stage)
        assert values.dtype == np.float32
    return values


def _stored(values: Singles, tensor: Tensor) -> Stored:
    scale = tensor.scale
    if scale is None:
        return values
    return _rounded(values / np.float32(scale.step), (0, 255), scale.zero).astype(np.uint8)


def _rounded(steps: Singles, limits: tuple[int, int], zero: int) -> NDArray[np.int32]:
    low, high = (np.float32(limit - zero) for limit in limits)
    return np.rint(np.clip(steps, low, high)).astype(np.int32) + zero


def _to_levels(values: Singles, stage: Stage) -> Singles:
    scale = stage.scale
    assert scale is not None
    stored = _rounded(values / np.float32(stage.divisor), scale.limits, scale.zero)
    return (stored - scale.zero).astype(np.float32) * np.float32(scale.step)


def _affine(values: Singles, stage: Stage) -> Singles:
    assert stage.gain is not None
    assert stage.shift is not None
    return np.asarray(values * _of_channels(stage.gain) + _of_channels(stage.shift))


def _plain(values: Singles, stage: Stage) -> Singles:
    return _FUNCTIONS[stage.function](values)


def _hard_sigmoid(values: Singles) -> Singles:
    sixths = values * np.float32(1 / 6)
    return np.asarray(np.clip(sixths + np.float32(0.5), np.float32(0), np.float32(1)))


def _bf16(values: Singles) -> Singles:
    largest = np.uint32(0x7F7F0000).view(np.float32)
    bits = np.clip(values, -largest, largest).view(np.uint32)
    bits = (bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def _fp16(values: Singles) -> Singles:
    return np.clip(values, np.float32(-65504), np.float32(65504)).astype(np.float16).astype(np.float32)


def _of_channels(values: NDArray[Any]) -> NDArray[Any]:
    return values[None, :, None, None]


_STAGES: Mapping[str, Callable[[Singles, Stage], Singles]] = {"levels": _to_levels, "affine": _affine}
_FUNCTIONS: Mapping[str, Callable[[Singles], Singles]] = {
    "relu": lambda values: np.maximum(values, np.float32(0)),
    "relu6": lambda values: np.clip(values, np.float32(0), np.float32(6)),
    "hardswish": lambda values: values * _hard_sigmoid(values),
    "hardsigmoid": _hard_sigmoid,
    "tanh": lambda values: np.tanh(values.astype(np.float64)).astype(np.float32),
    "sign": lambda values: np.where(values >= 0, np.float32(1), np.float32(-1)),
    "bf16": _bf16,
    "fp16": _fp16,
}
