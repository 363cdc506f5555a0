"""Depthwise-separable networks for keyword spotting (DS-CNN; Zhang, Suda, Lai and Chandra, 2017) and other small maps.

- Records are spectrograms `(1, frames, coefficients)`, or any image; sides may be odd.
- The stem is a convolution of `stem_kernel`, written frames x coefficients, that cuts time into longer steps than
  frequency. Each of the one to six blocks is a depthwise convolution and a 1x1 one, both with batch norm and ReLU, all
  of `width` channels. Each channel's average goes to the classifier.
- The first `strided_blocks` blocks have a stride of 2. It halves each axis that has at least 4 positions.
- Windows keep the length, divided by the stride and rounded up, as the published network's do in TensorFlow. There, of
  an odd number of zeros the larger half stands behind the map; a graph has equal halves. So the published stem of 10
  frames and stride 2 begins 5 frames before the first, not 4: shapes and counts are the published ones, and weights do
  not carry over. A window of even length with stride 1 makes the axis one longer.
- A signal is an image of height 1: its windows are 1 high and as long as the first number says.
- The stem and the classifier have a precision of their own, 8 bits at least.

A parameter of a block beyond `blocks` is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.blocks import Layer
from search_spaces.graph.blocks import conv_layer
from search_spaces.graph.blocks import depthwise_layer
from search_spaces.graph.blocks import vector
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.space import Choices
from search_spaces.space import NamedNetwork
from search_spaces.space import SearchSpace
from search_spaces.space import image_space
from search_spaces.space import numbered

USUAL_TASK = ((1, 49, 10), 12)
MAX_BLOCKS = 6
STEM_KERNELS: Mapping[str, Pair] = {"3x3": (3, 3), "5x3": (5, 3), "8x4": (8, 4), "10x4": (10, 4)}
BLOCK_CHOICES: Choices = {"weight_bits": WEIGHTS, "activation_bits": TENSORS}
CHOICES: Choices = {
    "blocks": range(1, MAX_BLOCKS + 1),
    "stem_kernel": tuple(STEM_KERNELS),
    "stem_stride": (1, 2),
    "width": (16, 32, 64, 96),
    "kernel": (3, 5),
    "strided_blocks": (0, 1, 2),
    "range": ("tracked", "learned"),
    "first_bits": (32, 8),
    "last_bits": (32, 8),
    **numbered("block", MAX_BLOCKS, BLOCK_CHOICES),
}
REFERENCE: Params = {
    "blocks": 2,
    "stem_kernel": "3x3",
    "stem_stride": 2,
    "width": 16,
    "kernel": 3,
    "strided_blocks": 0,
    "range": "tracked",
    "first_bits": 32,
    "last_bits": 32,
    **numbered("block", MAX_BLOCKS, {"weight_bits": 32, "activation_bits": 32}),
}

NETWORKS: Mapping[str, NamedNetwork] = MappingProxyType(
    {
        "mlperf-ds-cnn": NamedNetwork(
            {"blocks": 4, "stem_kernel": "10x4", "width": 64},
            *USUAL_TASK,
            "Banbury et al. (2021), MLPerf Tiny Benchmark: keyword spotting, 2,656,768 MACs, after Zhang et al. 2017.",
        ),
    }
)


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of depthwise-separable networks.

    Args:
        input_shape: `(channels, height, width)`; of a spectrogram `(1, frames, coefficients)`, of a signal
            `(channels, 1, time)`.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is not that of an image or there are fewer than two classes.

    >>> space = make_space((1, 49, 10), num_classes=12)
    >>> network = space.decode({**space.reference, **NETWORKS["mlperf-ds-cnn"].params})
    >>> sum(kernel.macs for kernel in network.kernels), network.ops[1].shape
    (2656768, (64, 25, 5))
    """
    return image_space(
        "ds_cnn",
        input_shape,
        num_classes,
        choices=CHOICES,
        describe=_describe,
        reference=REFERENCE,
    )


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    point: Mapping[str, Any] = params
    graph = GraphBuilder(input_shape, bits=point["first_bits"])
    stem = Layer(point["first_bits"], point["first_bits"], point["range"])
    sides = STEM_KERNELS[point["stem_kernel"]]
    x = conv_layer(graph, 0, point["width"], stem, sides=sides, stride=point["stem_stride"])
    sides = (point["kernel"], point["kernel"])
    for number in range(1, point["blocks"] + 1):
        block = f"block{number}"
        layer = Layer(point[f"{block}_weight_bits"], point[f"{block}_activation_bits"], point["range"])
        x = depthwise_layer(graph, x, layer, sides=sides, stride=2 if number <= point["strided_blocks"] else 1)
        x = conv_layer(graph, x, point["width"], layer)
    graph.linear(vector(graph, x, "avg"), num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture("ds_cnn", params)
