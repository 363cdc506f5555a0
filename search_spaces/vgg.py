"""Plain stacks of convolutions, the kind that Gecko compares: like AlexNet, Network in Network, VGG, sized for a CPU.

- One to four stages of one to three convolutions, then a max pooling of stride 2 if the stage has one. The first
  convolution has its own window and stride, all others are 3x3 (VGG; Simonyan and Zisserman, 2015).
- `mlpconv` is the number of 1x1 convolutions after each of them (Network in Network; Lin, Chen and Yan, 2014).
- `pool_side` is the side of a pooling's window: 2, or 3 with an overlap (AlexNet; Krizhevsky, Sutskever and Hinton,
  2012).
- `padded` keeps lengths, divided by the stride and rounded up. Without it windows have no zeros where 2 positions are
  left. Strides and poolings halve axes of at least 4 positions.
- The head is `avg`, the average of each channel; `flatten`, every position of a map whose sides are pooled to about
  `head_side`; both followed by up to two fully connected layers and the classifier. Or it is `maps`: a 1x1 convolution
  that gives a map for each class, then the average of each map, without the ReLU between them that Network in Network
  has.
- `norm` puts a batch norm after each layer but the classifier. Layers of fewer than 8 bits have one in any case: they
  do not train without it.
- The weights of the first and the last layer have a precision of their own, 8 bits at least. With 8-bit first weights
  the records enter as 8-bit numbers too.

A signal is an image of height 1: its windows are 1 high. A parameter of a stage beyond `stages`, or of fully connected
layers where there are none, is ignored.
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
from search_spaces.graph.blocks import class_maps
from search_spaces.graph.blocks import conv_layer
from search_spaces.graph.blocks import finished
from search_spaces.graph.blocks import halved
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
STAGE_CHOICES: Choices = {
    "convs": (1, 2, 3),
    "width": (8, 16, 32, 48, 64),
    "pool": (False, True),
    "weight_bits": WEIGHTS,
    "activation_bits": TENSORS,
}
CHOICES: Choices = {
    "stages": range(1, MAX_STAGES + 1),
    "first_kernel": (3, 5, 7),
    "first_stride": (1, 2),
    "mlpconv": (0, 1, 2),
    "padded": (False, True),
    "pool_side": (2, 3),
    "norm": (False, True),
    "head": ("avg", "flatten", "maps"),
    "head_side": (2, 12),
    "hidden_layers": (0, 1, 2),
    "hidden_width": (64, 128, 256),
    "hidden_weight_bits": WEIGHTS,
    "hidden_activation_bits": TENSORS,
    "range": ("tracked", "learned"),
    "first_bits": (32, 8),
    "last_bits": (32, 8),
    **numbered("stage", MAX_STAGES, STAGE_CHOICES),
}
REFERENCE_STAGE: Params = {"convs": 1, "width": 16, "pool": True, "weight_bits": 32, "activation_bits": 32}
REFERENCE: Params = {
    "stages": 2,
    "first_kernel": 3,
    "first_stride": 1,
    "mlpconv": 0,
    "padded": True,
    "pool_side": 2,
    "norm": True,
    "head": "avg",
    "head_side": 2,
    "hidden_layers": 0,
    "hidden_width": 64,
    "hidden_weight_bits": 32,
    "hidden_activation_bits": 32,
    "range": "tracked",
    "first_bits": 32,
    "last_bits": 32,
    **numbered("stage", MAX_STAGES, REFERENCE_STAGE),
}

NETWORKS: Mapping[str, NamedNetwork] = MappingProxyType(
    {
        "gecko-a1": NamedNetwork(
            {
                "padded": False,
                "norm": False,
                "head": "flatten",
                "head_side": 12,
                "hidden_layers": 1,
                "hidden_width": 128,
                "stage1_width": 32,
                "stage1_pool": False,
                "stage2_width": 64,
            },
            (1, 28, 28),
            10,
            "Duddu, Boutet and Shejwalkar (2020), Gecko: architecture 1 for FashionMNIST, 1,199,882 parameters.",
        ),
        "vgg-cifar": NamedNetwork(
            {
                "stages": 3,
                "head": "flatten",
                "head_side": 12,
                "hidden_layers": 1,
                "hidden_width": 128,
                "stage2_width": 32,
                "stage2_convs": 2,
                "stage3_width": 64,
                "stage3_convs": 2,
            },
            *USUAL_TASK,
            "Gecko NAS: a stack like VGG (Simonyan and Zisserman, 2015) sized for 32x32 images, defined here.",
        ),
        "nin-cifar": NamedNetwork(
            {
                "stages": 3,
                "first_kernel": 5,
                "mlpconv": 2,
                "pool_side": 3,
                "head": "maps",
                "stage2_width": 32,
                "stage3_width": 48,
                "stage3_pool": False,
            },
            *USUAL_TASK,
            "Gecko NAS: a Network in Network (Lin, Chen and Yan, 2014) sized for 32x32 images, defined here.",
        ),
        "alexnet-cifar": NamedNetwork(
            {
                "stages": 3,
                "first_kernel": 5,
                "pool_side": 3,
                "norm": False,
                "head": "flatten",
                "head_side": 12,
                "hidden_layers": 2,
                "hidden_width": 256,
                "stage2_width": 48,
                "stage3_width": 64,
                "stage3_convs": 3,
            },
            *USUAL_TASK,
            "Gecko NAS: a stack like AlexNet (Krizhevsky et al., 2012) sized for 32x32 images, defined here.",
        ),
    }
)


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of plain stacks of convolutions.

    Args:
        input_shape: `(channels, height, width)`; of a signal `(channels, 1, time)`.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is not that of an image or there are fewer than two classes.

    >>> space = make_space((1, 28, 28), num_classes=10)
    >>> network = space.decode({**space.reference, **NETWORKS["gecko-a1"].params})
    >>> [(kernel.kind, kernel.weights) for kernel in network.kernels if kernel.weights]
    [('conv', 288), ('conv', 18432), ('linear', 1179648), ('linear', 1280)]
    """
    return image_space(
        "vgg",
        input_shape,
        num_classes,
        choices=CHOICES,
        describe=_describe,
        reference=REFERENCE,
    )


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    point: Mapping[str, Any] = params
    graph = GraphBuilder(input_shape, bits=point["first_bits"])
    x = 0
    for number in range(1, point["stages"] + 1):
        x = _stage(graph, x, number, point)
    if point["head"] == "maps":
        class_maps(graph, x, num_classes, point["last_bits"])
    else:
        x = _hidden_layers(graph, vector(graph, x, point["head"], point["head_side"]), point)
        graph.linear(x, num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture("vgg", params)


def _stage(graph: GraphBuilder, x: int, number: int, point: Mapping[str, Any]) -> int:
    choices = {name: point[f"stage{number}_{name}"] for name in STAGE_CHOICES}
    layer = Layer(
        choices["weight_bits"], choices["activation_bits"], point["range"], point["norm"]
    ).normed_if_few_bits()
    for _ in range(choices["convs"]):
        first = x == 0  # the network's input
        side = point["first_kernel"] if first else 3
        x = conv_layer(
            graph,
            x,
            choices["width"],
            replace(layer, weight_bits=point["first_bits"]) if first else layer,
            sides=(side, side),
            stride=point["first_stride"] if first else 1,
            padded=point["padded"],
        )
        for _ in range(point["mlpconv"]):
            x = conv_layer(graph, x, choices["width"], layer)
    return halved(graph, x, "max", point["pool_side"], padded=point["padded"]) if choices["pool"] else x


def _hidden_layers(graph: GraphBuilder, x: int, point: Mapping[str, Any]) -> int:
    layer = Layer(
        point["hidden_weight_bits"], point["hidden_activation_bits"], point["range"], point["norm"]
    ).normed_if_few_bits()
    for _ in range(point["hidden_layers"]):
        width = point["hidden_width"]
        x = finished(graph, graph.linear(x, width, bias=not layer.norm, weight_bits=layer.weight_bits), layer)
    return x
