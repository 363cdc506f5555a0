"""Small convolutional networks for images and signals: a stem, one to four blocks, a head; bits chosen block by block.

- The stem is a 3x3 convolution. A block is `plain` (one convolution), `separable` (depthwise, then 1x1) or `inverted`
  (1x1 to `expansion` times the channels, depthwise, linear 1x1; Sandler et al., 2018).
- A residual block adds its input, through a strided 1x1 convolution where the shapes differ (He et al., 2016).
- A block's stride of 2 halves each axis that has at least 4 positions, so no axis is ever halved below 2.
- A signal is an image of height 1: its windows are 1 high, since all rows above and below would read padding.
- The head is a global average, a global maximum, or `flatten`: the map max-pooled to at most 4x4, every position kept.
- The first and last layer have a bit-width of their own, 8 at least: they hold few of the operations and cost the most
  accuracy when binarised (Rastegari et al., 2016). With 8-bit first weights the records enter as 8-bit numbers too.
- A block's tensors have its `activation_bits`, 1 meaning the sign function. What feeds an addition keeps 8 bits: a sum
  of two few-bit numbers on different scales would be lost in their rounding. The activation after it has few again.

A parameter of a block beyond `depth`, or an `expansion` that no block uses, is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import Shape
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.graph.precision import Precision
from search_spaces.graph.precision import at_least
from search_spaces.space import SearchSpace

MAX_DEPTH = 4
WIDTHS = (8, 16, 24, 32, 48)
BLOCK_CHOICES: Mapping[str, tuple[ParamValue, ...]] = {
    "kind": ("plain", "separable", "inverted"),
    "width": WIDTHS,
    "kernel": (3, 5),
    "stride": (1, 2),
    "residual": (False, True),
    "weight_bits": WEIGHTS,
    "activation_bits": TENSORS,
}
REFERENCE_BLOCK: Params = {
    "kind": "plain",
    "width": 16,
    "kernel": 3,
    "stride": 2,
    "residual": False,
    "weight_bits": 32,
    "activation_bits": 32,
}


@dataclass(frozen=True, slots=True)
class Block:
    """The choices of one block, with the two that all blocks share.

    Attributes:
        kind: `plain`, `separable` or `inverted`.
        width: Output channels.
        kernel: Side of the window; of a signal its length.
        stride: Step of the window.
        residual: Whether the input is added to the output.
        weight_bits: Precision of weights.
        activation_bits: Precision of tensors.
        expansion: Hidden channels of an inverted block for each input channel.
        range: How activation quantisers find their range.
    """

    kind: str
    width: int
    kernel: int
    stride: int
    residual: bool
    weight_bits: Precision
    activation_bits: Precision
    expansion: int
    range: str


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of small convolutional networks for images and signals.

    Args:
        input_shape: `(channels, height, width)`; of a signal `(channels, 1, time)`.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is not that of an image or there are fewer than two classes.

    >>> space = make_space((1, 8, 8), num_classes=10)
    >>> [kernel.kind for kernel in space.decode(space.reference).kernels]
    ['conv', 'conv', 'conv', 'pool', 'flatten', 'linear']
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"expected images (channels, height, width) for the space 'conv'; got shape {input_shape}")
    if num_classes < 2:
        raise ValueError(f"expected two classes or more; got {num_classes}")
    shape = tuple(int(length) for length in input_shape)
    return SearchSpace(
        name="conv",
        input_shape=shape,
        num_classes=num_classes,
        distributions=_distributions(),
        describe=partial(_describe, shape, num_classes),
        reference=_reference(),
    )


def _distributions() -> dict[str, BaseDistribution]:
    distributions: dict[str, BaseDistribution] = {
        "depth": IntDistribution(1, MAX_DEPTH),
        "stem_width": CategoricalDistribution([8, 16, 32]),
        "stem_stride": CategoricalDistribution([1, 2]),
        "expansion": CategoricalDistribution([2, 4]),
        "range": CategoricalDistribution(["tracked", "learned"]),
        "head": CategoricalDistribution(["avg", "max", "flatten"]),
        "first_bits": CategoricalDistribution([32, 8]),
        "last_bits": CategoricalDistribution([32, 8]),
    }
    for block in range(1, MAX_DEPTH + 1):
        for name, choices in BLOCK_CHOICES.items():
            distributions[f"block{block}_{name}"] = CategoricalDistribution(choices)
    return distributions


def _reference() -> Params:
    point: dict[str, ParamValue] = {
        "depth": 2,
        "stem_width": 16,
        "stem_stride": 1,
        "expansion": 2,
        "range": "tracked",
        "head": "avg",
        "first_bits": 32,
        "last_bits": 32,
    }
    for block in range(1, MAX_DEPTH + 1):
        for name, value in REFERENCE_BLOCK.items():
            point[f"block{block}_{name}"] = value
    return point


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    point: Mapping[str, Any] = params
    graph = GraphBuilder(input_shape, bits=point["first_bits"])
    x = _stem(graph, point)
    for number in range(1, point["depth"] + 1):
        choices = {name: point[f"block{number}_{name}"] for name in BLOCK_CHOICES}
        x = _block(graph, x, Block(**choices, expansion=point["expansion"], range=point["range"]))
    x = _head(graph, x, point["head"])
    graph.linear(x, num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture("conv", params)


def _stem(graph: GraphBuilder, point: Mapping[str, Any]) -> int:
    bits = point["first_bits"]
    stride = _stride(graph, 0, point["stem_stride"])
    kernel, padding = _window(graph, 0, 3)
    x = graph.conv(0, point["stem_width"], kernel=kernel, stride=stride, padding=padding, weight_bits=bits)
    return graph.activation(graph.norm(x), bits=bits, range=point["range"])


def _block(graph: GraphBuilder, source: int, block: Block) -> int:
    if block.kind == "plain":
        x, function = _plain(graph, source, block), "relu"
    elif block.kind == "separable":
        x, function = _separable(graph, source, block), "relu"
    else:
        x, function = _inverted(graph, source, block), "identity"
    if block.residual:
        wide = at_least(block.activation_bits, 8)
        x = graph.norm(x, bits=wide, range=block.range)
        x = graph.add(x, _shortcut(graph, source, graph.ops[x].shape, block))
    else:
        x = graph.norm(x)
    return graph.activation(x, function, bits=block.activation_bits, range=block.range)


def _plain(graph: GraphBuilder, source: int, block: Block) -> int:
    kernel, padding = _window(graph, source, block.kernel)
    stride = _stride(graph, source, block.stride)
    return graph.conv(source, block.width, kernel=kernel, stride=stride, padding=padding, weight_bits=block.weight_bits)


def _separable(graph: GraphBuilder, source: int, block: Block) -> int:
    kernel, padding = _window(graph, source, block.kernel)
    stride = _stride(graph, source, block.stride)
    x = graph.depthwise(source, kernel=kernel, stride=stride, padding=padding, weight_bits=block.weight_bits)
    x = graph.activation(graph.norm(x), bits=block.activation_bits, range=block.range)
    return graph.conv(x, block.width, weight_bits=block.weight_bits)


def _inverted(graph: GraphBuilder, source: int, block: Block) -> int:
    hidden = block.expansion * graph.ops[source].shape[0]
    x = graph.conv(source, hidden, weight_bits=block.weight_bits)
    x = graph.activation(graph.norm(x), bits=block.activation_bits, range=block.range)
    return _separable(graph, x, block)


def _shortcut(graph: GraphBuilder, source: int, shape: Shape, block: Block) -> int:
    """Return the input itself where it fits, as few bits as it has, else a 1x1 projection of it."""
    if graph.ops[source].shape == shape:
        return source
    stride = _stride(graph, source, block.stride)
    x = graph.conv(source, shape[0], stride=stride, weight_bits=block.weight_bits)
    return graph.norm(x, bits=at_least(block.activation_bits, 8), range=block.range)


def _head(graph: GraphBuilder, source: int, head: str) -> int:
    _, height, width = graph.ops[source].shape
    window = (-(-height // 4), -(-width // 4)) if head == "flatten" else (height, width)
    if window != (1, 1):
        source = graph.pool(source, "avg" if head == "avg" else "max", kernel=window, stride=window)
    return graph.flatten(source)


def _window(graph: GraphBuilder, source: int, side: int) -> tuple[Pair, Pair]:
    """Return kernel and padding that keep the shape: a square, or along time alone for a signal."""
    _, height, _ = graph.ops[source].shape
    return ((1, side), (0, side // 2)) if height == 1 else ((side, side), (side // 2, side // 2))


def _stride(graph: GraphBuilder, source: int, stride: int) -> Pair:
    """Keep the stride on each axis that stays at 2 positions or more."""
    _, height, width = graph.ops[source].shape
    return (stride if height >= 4 else 1, stride if width >= 4 else 1)
