"""Small fully connected networks for vectors; images are flattened.

One to four hidden layers, each a linear operator, a batch norm if chosen, and an activation; then the linear
classifier. Bits are chosen layer by layer.

- The first layer's weights are a choice of their own, of all widths: in a network for wide vectors it holds most of the
  weights, so keeping it wide is not the cheap precaution it is for images. Below 32 bits the record enters as 8-bit
  numbers.
- The last layer keeps 8 bits at least; it is small and costs the most accuracy when binarised (Rastegari et al., 2016).
- A layer's output has its `activation_bits`, 1 meaning the sign function whatever the activation chosen.

A parameter of a layer beyond `depth` is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import Shape
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.precision import HALF
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.graph.precision import bits_and_format
from search_spaces.space import SearchSpace

MAX_DEPTH = 4
WIDTHS = (16, 32, 64, 128, 256)


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of small fully connected networks.

    Args:
        input_shape: `(features,)`, or `(channels, height, width)` to be flattened.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is neither a vector's nor an image's or there are fewer than two classes.

    >>> space = make_space((446,), num_classes=30)
    >>> [kernel.weights for kernel in space.decode(space.reference).kernels]
    [28544, 1920]
    """
    if len(input_shape) not in (1, 3) or min(input_shape) < 1:
        raise ValueError(
            "expected vectors (features,) or images (channels, height, width) for the space 'mlp'; "
            f"got shape {input_shape}"
        )
    if num_classes < 2:
        raise ValueError(f"expected two classes or more; got {num_classes}")
    shape = tuple(int(length) for length in input_shape)
    return SearchSpace(
        name="mlp",
        input_shape=shape,
        num_classes=num_classes,
        distributions=_distributions(),
        describe=partial(_describe, shape, num_classes),
        reference=_reference(),
    )


def _distributions() -> dict[str, BaseDistribution]:
    distributions: dict[str, BaseDistribution] = {
        "depth": IntDistribution(1, MAX_DEPTH),
        "activation": CategoricalDistribution(["relu", "tanh", "hardswish"]),
        "norm": CategoricalDistribution([False, True]),
        "range": CategoricalDistribution(["tracked", "learned"]),
        "first_bits": CategoricalDistribution(WEIGHTS),
        "last_bits": CategoricalDistribution([32, 8]),
    }
    for layer in range(1, MAX_DEPTH + 1):
        distributions[f"layer{layer}_width"] = CategoricalDistribution(WIDTHS)
        distributions[f"layer{layer}_activation_bits"] = CategoricalDistribution(TENSORS)
        if layer > 1:
            distributions[f"layer{layer}_weight_bits"] = CategoricalDistribution(WEIGHTS)
    return distributions


def _reference() -> Params:
    point: dict[str, ParamValue] = {
        "depth": 1,
        "activation": "relu",
        "norm": True,
        "range": "tracked",
        "first_bits": 32,
        "last_bits": 32,
    }
    for layer in range(1, MAX_DEPTH + 1):
        point[f"layer{layer}_width"] = 64
        point[f"layer{layer}_activation_bits"] = 32
        if layer > 1:
            point[f"layer{layer}_weight_bits"] = 32
    return point


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    point: Mapping[str, Any] = params
    graph = GraphBuilder(input_shape, bits=32 if bits_and_format(point["first_bits"])[0] >= HALF else 8)
    x = 0 if len(input_shape) == 1 else graph.flatten(0)
    for layer in range(1, point["depth"] + 1):
        weight_bits = point["first_bits"] if layer == 1 else point[f"layer{layer}_weight_bits"]
        x = graph.linear(x, point[f"layer{layer}_width"], bias=not point["norm"], weight_bits=weight_bits)
        if point["norm"]:
            x = graph.norm(x)
        bits = point[f"layer{layer}_activation_bits"]
        x = graph.activation(x, point["activation"], bits=bits, range=point["range"])
    graph.linear(x, num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture("mlp", params)
