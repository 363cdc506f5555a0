"""A space of convolutional networks with two exits: what no shipped space has, for the conformance suites.

A stem, an exit after it, a block that may be residual, a second exit. The second exit may read the first one's logits
(`cascade`), so that an output is a tensor that goes on; its logits may be the view of a pooled map (`head`).
"""

from __future__ import annotations

from functools import partial

from optuna.distributions import CategoricalDistribution

from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.graph.precision import at_least
from search_spaces.space import SearchSpace

NAME = "tests.two_exits"
CHOICES = {
    "activation_bits": TENSORS,
    "cascade": (False, True),
    "early_bits": WEIGHTS,
    "head": ("linear", "pooled"),
    "last_bits": (32, 8),
    "residual": (False, True),
    "stem_bits": TENSORS,
    "stem_width": (4, 8),
    "weight_bits": WEIGHTS,
    "width": (4, 8),
}
REFERENCE = {
    "activation_bits": 32,
    "cascade": False,
    "early_bits": 32,
    "head": "pooled",
    "last_bits": 32,
    "residual": False,
    "stem_bits": 32,
    "stem_width": 4,
    "weight_bits": 32,
    "width": 4,
}


def make_space(input_shape, num_classes):
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"expected images (channels, height, width) for the space {NAME!r}; got shape {input_shape}")
    if num_classes < 2:
        raise ValueError(f"expected two classes or more; got {num_classes}")
    return SearchSpace(
        name=NAME,
        input_shape=input_shape,
        num_classes=num_classes,
        distributions={name: CategoricalDistribution(values) for name, values in CHOICES.items()},
        describe=partial(describe, input_shape, num_classes),
        reference=REFERENCE,
    )


def describe(input_shape, num_classes, point):
    graph = GraphBuilder(input_shape, bits=point["last_bits"])
    bits, weights = {"bits": point["activation_bits"]}, {"weight_bits": point["weight_bits"]}
    wide = {"bits": at_least(point["activation_bits"], 8)}
    x = graph.conv(0, point["stem_width"], kernel=(3, 3), padding=(1, 1), weight_bits=point["last_bits"])
    x = graph.activation(graph.norm(x), bits=point["stem_bits"])
    early = graph.flatten(pooled(graph, x))
    early = graph.linear(early, num_classes, bias=True, weight_bits=point["early_bits"])
    y = graph.norm(graph.conv(x, point["width"], kernel=(3, 3), padding=(1, 1), **weights), **wide)
    if point["residual"]:
        y = graph.add(y, graph.norm(graph.conv(x, point["width"], **weights), **wide))
    y = graph.activation(y, **bits)
    if point["head"] == "pooled":
        y = graph.conv(y, num_classes, bias=True, weight_bits=point["last_bits"])
        late = graph.flatten(pooled(graph, y))
        if point["cascade"]:
            late = graph.add(early, late)
    else:
        y = graph.flatten(pooled(graph, y))
        y = graph.concat(y, early) if point["cascade"] else y
        late = graph.linear(y, num_classes, bias=True, weight_bits=point["last_bits"])
    return graph.architecture(NAME, point, outputs=(early, late))


def pooled(graph, x):
    _, height, width = graph.ops[x].shape
    return graph.pool(x, "avg", kernel=(height, width), stride=(height, width))
