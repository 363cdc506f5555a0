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
from typing import Any

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.blocks import Layer
from search_spaces.graph.blocks import conv_layer
from search_spaces.graph.blocks import convolution
from search_spaces.graph.blocks import depthwise_layer
from search_spaces.graph.blocks import finished
from search_spaces.graph.blocks import summand
from search_spaces.graph.blocks import vector
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.graph.precision import Precision
from search_spaces.space import Choices
from search_spaces.space import SearchSpace
from search_spaces.space import image_space
from search_spaces.space import numbered

MAX_DEPTH = 4
WIDTHS = (8, 16, 24, 32, 48)
BLOCK_CHOICES: Choices = {
    "kind": ("plain", "separable", "inverted"),
    "width": WIDTHS,
    "kernel": (3, 5),
    "stride": (1, 2),
    "residual": (False, True),
    "weight_bits": WEIGHTS,
    "activation_bits": TENSORS,
}
CHOICES: Choices = {
    "depth": range(1, MAX_DEPTH + 1),
    "stem_width": (8, 16, 32),
    "stem_stride": (1, 2),
    "expansion": (2, 4),
    "range": ("tracked", "learned"),
    "head": ("avg", "max", "flatten"),
    "first_bits": (32, 8),
    "last_bits": (32, 8),
    **numbered("block", MAX_DEPTH, BLOCK_CHOICES),
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
REFERENCE: Params = {
    "depth": 2,
    "stem_width": 16,
    "stem_stride": 1,
    "expansion": 2,
    "range": "tracked",
    "head": "avg",
    "first_bits": 32,
    "last_bits": 32,
    **numbered("block", MAX_DEPTH, REFERENCE_BLOCK),
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
    return image_space(
        "conv",
        input_shape,
        num_classes,
        choices=CHOICES,
        describe=_describe,
        reference=REFERENCE,
    )


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    point: Mapping[str, Any] = params
    graph = GraphBuilder(input_shape, bits=point["first_bits"])
    x = _stem(graph, point)
    for number in range(1, point["depth"] + 1):
        choices = {name: point[f"block{number}_{name}"] for name in BLOCK_CHOICES}
        x = _block(graph, x, Block(**choices, expansion=point["expansion"], range=point["range"]))
    x = vector(graph, x, point["head"])
    graph.linear(x, num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture("conv", params)


def _stem(graph: GraphBuilder, point: Mapping[str, Any]) -> int:
    layer = Layer(point["first_bits"], point["first_bits"], point["range"])
    return conv_layer(graph, 0, point["stem_width"], layer, sides=(3, 3), stride=point["stem_stride"])


def _block(graph: GraphBuilder, source: int, block: Block) -> int:
    layer = Layer(block.weight_bits, block.activation_bits, block.range)
    function = "relu"
    if block.kind == "plain":
        x = convolution(graph, source, block.width, layer, sides=(block.kernel, block.kernel), stride=block.stride)
    elif block.kind == "separable":
        x = _separable(graph, source, block, layer)
    else:
        hidden = block.expansion * graph.ops[source].shape[0]
        x = _separable(graph, conv_layer(graph, source, hidden, layer), block, layer)
        function = "identity"
    if not block.residual:
        return finished(graph, x, layer, function)
    x = summand(graph, x, layer)
    x = graph.add(x, _shortcut(graph, source, graph.ops[x].shape, block.stride, layer))
    return graph.activation(x, function, bits=layer.bits, range=layer.range)


def _separable(graph: GraphBuilder, source: int, block: Block, layer: Layer) -> int:
    x = depthwise_layer(graph, source, layer, sides=(block.kernel, block.kernel), stride=block.stride)
    return convolution(graph, x, block.width, layer)


def _shortcut(graph: GraphBuilder, source: int, shape: Shape, stride: int, layer: Layer) -> int:
    """Return the input itself where it fits, as few bits as it has, else a 1x1 projection of it."""
    if graph.ops[source].shape == shape:
        return source
    return summand(graph, convolution(graph, source, shape[0], layer, stride=stride), layer)
