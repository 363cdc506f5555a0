"""Networks of fire modules (SqueezeNet; Iandola et al., 2016): a 3x3 stem, one to eight modules, an average.

- A fire module squeezes its input with a 1x1 convolution and expands it with 1x1 and 3x3 ones side by side, whose
  outputs are concatenated. The first two modules have `base_width` output channels; with `growth` each further pair has
  as many more. `squeeze_divisor` is the number of output channels for each squeezed one, of which there are 8 at least;
  `percent_3x3` is the share of the 3x3 windows.
- Poolings of stride 2, each over 3x3, stand after the modules whose numbers `pools_after` lists, as long as another
  module follows; 0 is the stem. They halve axes of at least 4 positions.
- `padded` keeps lengths at the stem and at the poolings (divided by 2, rounded up). Without it they have no zeros, as
  published, where 2 positions are left.
- With `bypass` a module adds its input where the numbers of channels are equal. Its ReLU then follows the sum; in the
  paper the modules' ReLUs stand before it.
- The head is `maps`: a 1x1 convolution that gives a map for each class, then the average of each map, as published; or
  `linear`: the average of each channel, then a classifier, which costs fewer operations. Neither has the ReLU that the
  published network ends in: it would keep logits from being negative.
- `norm` puts a batch norm after each convolution; the published networks have none. Layers of fewer than 8 bits have
  one in any case, because they do not train without it.
- The stem and the classifier have a precision of their own, 8 bits at least. Modules have one for each pair. What feeds
  an addition keeps 8 bits, except the input itself.

A signal is an image of height 1: its windows are 1 high. A parameter of a pair beyond `modules` is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.blocks import Layer
from search_spaces.graph.blocks import class_maps
from search_spaces.graph.blocks import conv_layer
from search_spaces.graph.blocks import convolution
from search_spaces.graph.blocks import finished
from search_spaces.graph.blocks import halved
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
MAX_MODULES = 8
POOLS: Mapping[str, tuple[int, ...]] = {"0-2-4": (0, 2, 4), "0-3-7": (0, 3, 7), "1-3-5": (1, 3, 5), "2-4": (2, 4)}
LEAST_SQUEEZED = 8
PAIR_CHOICES: Choices = {"weight_bits": WEIGHTS, "activation_bits": TENSORS}
CHOICES: Choices = {
    "modules": range(1, MAX_MODULES + 1),
    "stem_width": (16, 32, 64),
    "stem_stride": (1, 2),
    "base_width": (32, 64, 128),
    "growth": (False, True),
    "squeeze_divisor": (2, 4, 8),
    "percent_3x3": (25, 50, 75),
    "pools_after": tuple(POOLS),
    "padded": (False, True),
    "bypass": (False, True),
    "norm": (False, True),
    "head": ("linear", "maps"),
    "range": ("tracked", "learned"),
    "first_bits": (32, 8),
    "last_bits": (32, 8),
    **numbered("pair", MAX_MODULES // 2, PAIR_CHOICES),
}
REFERENCE: Params = {
    "modules": 2,
    "stem_width": 16,
    "stem_stride": 1,
    "base_width": 32,
    "growth": True,
    "squeeze_divisor": 4,
    "percent_3x3": 50,
    "pools_after": "0-2-4",
    "padded": True,
    "bypass": False,
    "norm": True,
    "head": "linear",
    "range": "tracked",
    "first_bits": 32,
    "last_bits": 32,
    **numbered("pair", MAX_MODULES // 2, {"weight_bits": 32, "activation_bits": 32}),
}

NETWORKS: Mapping[str, NamedNetwork] = MappingProxyType(
    {
        "squeezenet-1.1": NamedNetwork(
            {
                "modules": 8,
                "stem_width": 64,
                "stem_stride": 2,
                "base_width": 128,
                "squeeze_divisor": 8,
                "padded": False,
                "norm": False,
                "head": "maps",
            },
            (3, 224, 224),
            1000,
            "Iandola et al. (2016), SqueezeNet, version 1.1 of the authors' repository: 1,235,496 parameters.",
        ),
        "squeezenet-cifar": NamedNetwork(
            {"modules": 6, "stem_width": 32, "base_width": 64, "head": "maps"},
            *USUAL_TASK,
            "Gecko NAS: a network of fire modules (Iandola et al., 2016) sized for 32x32 images, defined here.",
        ),
    }
)


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of networks of fire modules.

    Args:
        input_shape: `(channels, height, width)`; of a signal `(channels, 1, time)`.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is not that of an image or there are fewer than two classes.

    >>> space = make_space((3, 32, 32), num_classes=10)
    >>> [kernel.kind for kernel in space.decode(space.reference).kernels[2:6]]
    ['pointwise', 'pointwise', 'conv', 'concat']
    """
    return image_space(
        "squeeze",
        input_shape,
        num_classes,
        choices=CHOICES,
        describe=_describe,
        reference=REFERENCE,
    )


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    point: Mapping[str, Any] = params
    graph = GraphBuilder(input_shape, bits=point["first_bits"])
    x = _features(graph, point)
    if point["head"] == "maps":
        class_maps(graph, x, num_classes, point["last_bits"])
    else:
        graph.linear(vector(graph, x, "avg"), num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture("squeeze", params)


def _features(graph: GraphBuilder, point: Mapping[str, Any]) -> int:
    stem = Layer(point["first_bits"], point["first_bits"], point["range"], point["norm"])
    x = conv_layer(
        graph, 0, point["stem_width"], stem, sides=(3, 3), stride=point["stem_stride"], padded=point["padded"]
    )
    pools = POOLS[point["pools_after"]]
    for number in range(1, point["modules"] + 1):
        if number - 1 in pools:
            x = halved(graph, x, "max", 3, padded=point["padded"])
        x = _fire(graph, x, number, point)
    return x


def _fire(graph: GraphBuilder, source: int, number: int, point: Mapping[str, Any]) -> int:
    pair = (number + 1) // 2
    weight_bits, bits = point[f"pair{pair}_weight_bits"], point[f"pair{pair}_activation_bits"]
    layer = Layer(weight_bits, bits, point["range"], point["norm"]).normed_if_few_bits()
    width = point["base_width"] * (pair if point["growth"] else 1)
    squeezed = conv_layer(graph, source, max(width // point["squeeze_divisor"], LEAST_SQUEEZED), layer)
    bypassed = point["bypass"] and graph.ops[source].shape[0] == width
    end = summand if bypassed else finished
    by_3x3 = width * point["percent_3x3"] // 100
    x = graph.concat(
        end(graph, convolution(graph, squeezed, width - by_3x3, layer), layer),
        end(graph, convolution(graph, squeezed, by_3x3, layer, sides=(3, 3)), layer),
        range=layer.range,
    )
    return graph.activation(graph.add(x, source), bits=layer.bits, range=layer.range) if bypassed else x
