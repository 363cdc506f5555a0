"""What several spaces are written with: windows and strides that fit any input, layers with their precision, heads.

Shapes are `(channels, height, width)`. A signal is an image of height 1, with its time along the width.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from functools import lru_cache

from search_spaces.graph.architecture import Pair
from search_spaces.graph.architecture import Shape
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.precision import Precision
from search_spaces.graph.precision import at_least
from search_spaces.graph.precision import bits_and_format


@dataclass(frozen=True, slots=True)
class Layer:
    """How a layer holds its numbers.

    Attributes:
        weight_bits: Precision of the weights.
        bits: Precision of the output; one bit means the sign function.
        range: How quantisers of the output find their range.
        norm: Whether a batch norm follows; without one the layer has a bias.
    """

    weight_bits: Precision
    bits: Precision
    range: str = "tracked"
    norm: bool = True

    def normed_if_few_bits(self) -> Layer:
        """Return the layer, with a norm if its weights or output have fewer than 8 bits: these do not train without."""
        few = min(bits_and_format(self.weight_bits)[0], bits_and_format(self.bits)[0]) < 8
        return replace(self, norm=True) if few else self


def conv_layer(
    graph: GraphBuilder,
    source: int,
    channels: int,
    layer: Layer,
    *,
    sides: Pair = (1, 1),
    stride: int = 1,
    padded: bool = True,
) -> int:
    """Append a convolution, the norm if it has one, and a ReLU.

    Args:
        graph: The graph to write into.
        source: The operator that it reads.
        channels: Output channels.
        layer: Its precision.
        sides: Rows and columns of the window; see `window`.
        stride: Step of the window; see `stride_of`.
        padded: Whether it keeps the shape; see `window`.
    """
    x = convolution(graph, source, channels, layer, sides=sides, stride=stride, padded=padded)
    return finished(graph, x, layer)


def convolution(
    graph: GraphBuilder,
    source: int,
    channels: int,
    layer: Layer,
    *,
    sides: Pair = (1, 1),
    stride: int = 1,
    padded: bool = True,
) -> int:
    """Append a convolution as `conv_layer` does, without what follows it."""
    steps = stride_of(graph, source, stride)
    kernel, padding = window(graph, source, sides, steps, padded=padded)
    return graph.conv(
        source,
        channels,
        kernel=kernel,
        stride=steps,
        padding=padding,
        bias=not layer.norm,
        weight_bits=layer.weight_bits,
    )


def depthwise_layer(graph: GraphBuilder, source: int, layer: Layer, *, sides: Pair, stride: int = 1) -> int:
    """Append a depthwise convolution, the norm if it has one, and a ReLU; windows as in `conv_layer`."""
    steps = stride_of(graph, source, stride)
    kernel, padding = window(graph, source, sides, steps)
    x = graph.depthwise(
        source, kernel=kernel, stride=steps, padding=padding, bias=not layer.norm, weight_bits=layer.weight_bits
    )
    return finished(graph, x, layer)


def finished(graph: GraphBuilder, source: int, layer: Layer, function: str = "relu") -> int:
    """Append what follows a convolution: the norm if the layer has one, and the activation."""
    x = graph.norm(source) if layer.norm else source
    return graph.activation(x, function, bits=layer.bits, range=layer.range)


def summand(graph: GraphBuilder, source: int, layer: Layer) -> int:
    """Append what stands between a convolution and a sum: the norm if the layer has one, rounded to 8 bits at least.

    A sum of two few-bit numbers on different scales would be lost in their rounding.
    """
    bits = at_least(layer.bits, 8)
    if layer.norm:
        return graph.norm(source, bits=bits, range=layer.range)
    return graph.activation(source, "identity", bits=bits, range=layer.range)


def stride_of(graph: GraphBuilder, source: int, stride: int) -> Pair:
    """Keep a stride on each axis that has 4 positions or more, so that 2 are always left.

    >>> stride_of(GraphBuilder((3, 1, 24)), 0, 2)
    (1, 2)
    """
    _, height, width = graph.ops[source].shape
    return (stride if height >= 4 else 1, stride if width >= 4 else 1)


def window(
    graph: GraphBuilder, source: int, sides: Pair, stride: Pair = (1, 1), *, padded: bool = True
) -> tuple[Pair, Pair]:
    """Return kernel and padding of a window.

    Padded, an axis keeps its length divided by the stride, rounded up, as TensorFlow's `same` does. A graph has equal
    padding on both sides, so an odd number of zeros becomes one more: a window of even length lies one position to the
    left of TensorFlow's, and with stride 1 an axis grows by one. Unpadded, an axis has zeros only where fewer than two
    positions would be left.

    Args:
        graph: The graph.
        source: The operator that the window reads.
        sides: Rows and columns. A signal's window is one row high and has the first side as its length, since all rows
            above and below would read padding.
        stride: Vertical and horizontal step.
        padded: Whether the length is kept.

    >>> window(GraphBuilder((1, 49, 10)), 0, (10, 4), (2, 2))
    ((10, 4), (5, 1))
    >>> window(GraphBuilder((9, 1, 128)), 0, (5, 5))
    ((1, 5), (0, 2))
    """
    return _window(graph.ops[source].shape, sides, stride, padded)


@lru_cache(maxsize=10_000)
def _window(shape: Shape, sides: Pair, stride: Pair, padded: bool) -> tuple[Pair, Pair]:
    _, height, width = shape
    kernel = (1, sides[0]) if height == 1 else sides
    vertical, horizontal = (
        _padding(length, side, step, padded=padded)
        for length, side, step in zip((height, width), kernel, stride, strict=True)
    )
    return kernel, (vertical, horizontal)


def _padding(length: int, side: int, step: int, *, padded: bool) -> int:
    if not padded and (length - side) // step + 1 >= 2:
        return 0
    missing = (-(-length // step) - 1) * step + side - length
    return max(0, -(-missing // 2))


def halved(graph: GraphBuilder, source: int, function: str, side: int, *, padded: bool = True) -> int:
    """Append a pooling of stride 2 over each axis that has 4 positions or more.

    Args:
        graph: The graph.
        source: The operator that it reads.
        function: `max` or `avg`.
        side: Side of the window, along the axes that are halved.
        padded: Whether lengths are rounded up; see `window`.

    Returns:
        The pooling, or the source where no axis is that long.
    """
    stride = stride_of(graph, source, 2)
    if stride == (1, 1):
        return source
    _, padding = window(graph, source, (side, side), stride, padded=padded)
    kernel = (side if stride[0] == 2 else 1, side if stride[1] == 2 else 1)
    padding = (padding[0] if stride[0] == 2 else 0, padding[1] if stride[1] == 2 else 0)
    return graph.pool(source, function, kernel=kernel, stride=stride, padding=padding)


def vector(graph: GraphBuilder, source: int, head: str, side: int = 4) -> int:
    """Append what makes a vector of a map.

    Args:
        graph: The graph.
        source: The map.
        head: `avg` or `max` of each channel, or `flatten`: every position of the map kept.
        side: A longer map is max-pooled to about this side before it is flattened.
    """
    _, height, width = graph.ops[source].shape
    kernel = (-(-height // side), -(-width // side)) if head == "flatten" else (height, width)
    if kernel != (1, 1):
        source = graph.pool(source, "avg" if head == "avg" else "max", kernel=kernel, stride=kernel)
    return graph.flatten(source)


def class_maps(graph: GraphBuilder, source: int, num_classes: int, bits: Precision) -> int:
    """Append a map for each class, a 1x1 convolution, and its average (Lin, Chen and Yan, 2014).

    No ReLU follows the maps, unlike in the published networks: it would keep logits from being negative.
    """
    x = graph.conv(source, num_classes, bias=True, weight_bits=bits)
    return vector(graph, graph.activation(x, "identity", bits=bits), "avg")
