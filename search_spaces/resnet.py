"""Residual networks of basic blocks (He, Zhang, Ren and Sun, 2016): a 3x3 stem, one to four stages, an average.

- A basic block is two 3x3 convolutions with batch norm; its input is added before the second ReLU.
- The first block of a stage has the stage's stride, and from the second stage on `widening` times the channels, up to
  128.
- Where shapes differ, `shortcut` says how the input gets to the sum: `projection` is a strided 1x1 convolution with
  batch norm (the paper's option B), `bare_projection` one with a bias and no norm (the ResNet-8 of MLPerf Tiny).
  `identity` has no weights (option A): every stride-th position of the input is added to as many channels as the input
  has. The paper adds zeros to the other channels; here these are a convolution of their own, with as many weights and
  the same result, because device files have no price for channels of zeros.
- A stride of 2 halves each axis that has at least 4 positions. Windows of a signal, an image of height 1, are 1 high.
- The stem and the classifier have a precision of their own, 8 bits at least. With 8-bit first weights the records enter
  as 8-bit numbers too.
- A stage's tensors have its `activation_bits`; what feeds an addition keeps 8 bits, except the input itself.

A parameter of a stage beyond `stages` is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.blocks import Layer
from search_spaces.graph.blocks import conv_layer
from search_spaces.graph.blocks import convolution
from search_spaces.graph.blocks import stride_of
from search_spaces.graph.blocks import summand
from search_spaces.graph.blocks import vector
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.space import Choices
from search_spaces.space import NamedNetwork
from search_spaces.space import SearchSpace
from search_spaces.space import image_space
from search_spaces.space import numbered

USUAL_TASK = ((3, 32, 32), 10)
MAX_STAGES = 4
MOST_CHANNELS = 128
WINDOW = (3, 3)
STAGE_CHOICES: Choices = {
    "blocks": (1, 2, 3),
    "stride": (1, 2),
    "weight_bits": WEIGHTS,
    "activation_bits": TENSORS,
}
CHOICES: Choices = {
    "stages": range(1, MAX_STAGES + 1),
    "stem_width": (8, 16, 24, 32),
    "stem_stride": (1, 2),
    "widening": (1, 2),
    "shortcut": ("projection", "bare_projection", "identity"),
    "range": ("tracked", "learned"),
    "first_bits": (32, 8),
    "last_bits": (32, 8),
    **numbered("stage", MAX_STAGES, STAGE_CHOICES),
}
REFERENCE: Params = {
    "stages": 2,
    "stem_width": 8,
    "stem_stride": 1,
    "widening": 2,
    "shortcut": "projection",
    "range": "tracked",
    "first_bits": 32,
    "last_bits": 32,
    **numbered("stage", MAX_STAGES, {"blocks": 1, "stride": 2, "weight_bits": 32, "activation_bits": 32}),
}
THREE_STAGES: Params = {"stages": 3, "stem_width": 16, "stage1_stride": 1}

NETWORKS: Mapping[str, NamedNetwork] = MappingProxyType(
    {
        "mlperf-resnet8": NamedNetwork(
            {**THREE_STAGES, "shortcut": "bare_projection"},
            *USUAL_TASK,
            "Banbury et al. (2021), MLPerf Tiny Benchmark: image classification, 12,501,632 MACs.",
        ),
        "resnet20": NamedNetwork(
            {**THREE_STAGES, "shortcut": "identity", **numbered("stage", 3, {"blocks": 3})},
            *USUAL_TASK,
            "He, Zhang, Ren and Sun (2016), Deep Residual Learning for Image Recognition: 20 layers for CIFAR-10, "
            "option A, 0.27 million parameters.",
        ),
    }
)


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of small residual networks.

    Args:
        input_shape: `(channels, height, width)`; of a signal `(channels, 1, time)`.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is not that of an image or there are fewer than two classes.

    >>> space = make_space((3, 32, 32), num_classes=10)
    >>> network = space.decode({**space.reference, **NETWORKS["mlperf-resnet8"].params})
    >>> sum(kernel.macs for kernel in network.kernels)
    12501632
    """
    return image_space(
        "resnet",
        input_shape,
        num_classes,
        choices=CHOICES,
        describe=_describe,
        reference=REFERENCE,
    )


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    point: Mapping[str, Any] = params
    graph = GraphBuilder(input_shape, bits=point["first_bits"])
    width = point["stem_width"]
    stem = Layer(point["first_bits"], point["first_bits"], point["range"])
    x = conv_layer(graph, 0, width, stem, sides=WINDOW, stride=point["stem_stride"])
    for number in range(1, point["stages"] + 1):
        stage = f"stage{number}"
        width = width if number == 1 else min(width * point["widening"], MOST_CHANNELS)
        layer = Layer(point[f"{stage}_weight_bits"], point[f"{stage}_activation_bits"], point["range"])
        for block in range(point[f"{stage}_blocks"]):
            stride = 1 if block else point[f"{stage}_stride"]
            x = _block(graph, x, width, layer, stride=stride, shortcut=point["shortcut"])
    graph.linear(vector(graph, x, "avg"), num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture("resnet", params)


def _block(graph: GraphBuilder, source: int, width: int, layer: Layer, *, stride: int, shortcut: str) -> int:
    x = conv_layer(graph, source, width, layer, sides=WINDOW, stride=stride)
    if graph.ops[source].shape == graph.ops[x].shape:
        return _sum(graph, x, source, layer)
    if shortcut == "identity":
        return _widened(graph, x, width, _positions(graph, source, stride), layer)
    projection = replace(layer, norm=shortcut == "projection")
    return _sum(
        graph, x, summand(graph, convolution(graph, source, width, projection, stride=stride), projection), layer
    )


def _sum(graph: GraphBuilder, hidden: int, shortcut: int, layer: Layer) -> int:
    """Append a block's second convolution, to as many channels as the shortcut has, and add the shortcut."""
    channels = graph.ops[shortcut].shape[0]
    x = graph.add(summand(graph, convolution(graph, hidden, channels, layer, sides=WINDOW), layer), shortcut)
    return graph.activation(x, bits=layer.bits, range=layer.range)


def _widened(graph: GraphBuilder, hidden: int, width: int, shortcut: int, layer: Layer) -> int:
    more = width - graph.ops[shortcut].shape[0]
    x = _sum(graph, hidden, shortcut, layer)
    return graph.concat(x, conv_layer(graph, hidden, more, layer, sides=WINDOW), range=layer.range) if more else x


def _positions(graph: GraphBuilder, source: int, stride: int) -> int:
    """Keep every stride-th position; a window of one position moves numbers and computes nothing."""
    steps = stride_of(graph, source, stride)
    return source if steps == (1, 1) else graph.pool(source, "max", kernel=(1, 1), stride=steps)
