"""What a 1-bit layer computes on integer hardware: XNOR, popcount, one scale per output channel.

A NumPy reference, packed 8 weights to the byte, that shares no code with the trainable layer. `QuantConv2d` and
`QuantLinear` with 1-bit weights on 1-bit inputs give the same float32 numbers, bit for bit (Rastegari et al., 2016).
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from search_spaces.graph.architecture import Pair

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def xnor_popcount_linear(inputs: Floats, weights: Floats, scales: Floats, bias: Floats | None = None) -> Floats:
    """Multiply sign vectors by a sign matrix: `scale * (2 * popcount(xnor) - n)`, plus a bias.

    Args:
        inputs: `(records, features)`, each exactly +1 or -1.
        weights: `(outputs, features)`, each exactly +1 or -1.
        scales: `(outputs,)`, the mean magnitude of each output's real weights.
        bias: `(outputs,)`, or none.

    Returns:
        `(records, outputs)`.

    Raises:
        ValueError: If an input or weight is neither +1 nor -1.

    >>> plus, minus = np.float32(1), np.float32(-1)
    >>> xnor_popcount_linear(np.array([[plus, minus, plus]]), np.array([[plus, plus, plus]]), np.array([plus / 2]))
    array([[0.5]], dtype=float32)
    """
    packed, kernels = _pack(inputs), _pack(weights)
    valid = np.packbits(np.ones(inputs.shape[1], np.uint8))
    sums = _xnor_popcount(packed[:, None], kernels[None], valid)
    return _scaled(sums, scales, bias)


def xnor_popcount_conv2d(
    inputs: Floats,
    weights: Floats,
    scales: Floats,
    bias: Floats | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> Floats:
    """Convolve sign images with sign kernels: `scale * (2 * popcount(xnor) - n)`, plus a bias.

    `n` counts the window's positions inside the image. A padded position holds zero, which one bit cannot say, so it is
    masked out of the popcount and adds nothing.

    Args:
        inputs: `(records, in_channels, height, width)`, each exactly +1 or -1.
        weights: `(channels, in_channels / groups, kernel height, kernel width)`, each exactly +1 or -1.
        scales: `(channels,)`, the mean magnitude of each channel's real weights.
        bias: `(channels,)`, or none.
        stride: Vertical and horizontal step.
        padding: Positions added on each side, vertical and horizontal.
        groups: Channel groups; as many as channels for a depthwise convolution.

    Returns:
        `(records, channels, height, width)`.

    Raises:
        ValueError: If an input or weight is neither +1 nor -1.
    """
    _check_signs(inputs)
    _check_signs(weights)
    bits = _windows((inputs > 0).astype(np.uint8), weights.shape[2:], stride, padding)
    inside = _windows(np.ones_like(inputs, np.uint8), weights.shape[2:], stride, padding)
    parts = []
    for group, kernels in enumerate(np.split(weights, groups)):
        channels = slice(group * weights.shape[1], (group + 1) * weights.shape[1])
        packed = np.packbits(_rows(bits[..., channels, :, :]), axis=-1)
        valid = np.packbits(_rows(inside[..., channels, :, :]), axis=-1)
        flat = _pack(kernels.reshape(len(kernels), -1))
        parts.append(_xnor_popcount(packed[..., None, :], flat, valid[..., None, :]))
    return np.moveaxis(_scaled(np.concatenate(parts, axis=-1), scales, bias), -1, 1)


def _pack(signs: Floats) -> Bytes:
    _check_signs(signs)
    return np.packbits(signs > 0, axis=-1)


def _check_signs(signs: Floats) -> None:
    if not np.isin(signs, (-1, 1)).all():
        raise ValueError("expected inputs and weights of exactly +1 and -1; got other numbers")


def _windows(image: Bytes, kernel: tuple[int, ...], stride: Pair, padding: Pair) -> Bytes:
    """Cut `(records, channels, height, width)` into `(records, rows, columns, channels, *kernel)`, zeros outside."""
    around = ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1]))
    windows = sliding_window_view(np.pad(image, around), kernel, axis=(2, 3))
    return np.moveaxis(windows[:, :, :: stride[0], :: stride[1]], 1, 3)


def _rows(windows: Bytes) -> Bytes:
    return windows.reshape(*windows.shape[:3], -1)


def _xnor_popcount(inputs: Bytes, weights: Bytes, valid: Bytes) -> NDArray[np.int64]:
    agreeing = np.bitwise_count(~(inputs ^ weights) & valid).sum(axis=-1, dtype=np.int64)
    positions = np.bitwise_count(valid).sum(axis=-1, dtype=np.int64)
    sums: NDArray[np.int64] = 2 * agreeing - positions
    return sums


def _scaled(sums: NDArray[np.int64], scales: Floats, bias: Floats | None) -> Floats:
    """Scale and shift over the last axis in float32, in the order the trainable layer does."""
    scaled = sums.astype(np.float32) * scales.astype(np.float32)
    return scaled if bias is None else scaled + bias.astype(np.float32)
