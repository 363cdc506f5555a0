"""Networks to calibrate a processor with: chains of every operator, and random points of every search space.

Chains (two or three operators of one kind between a cheap head and the input) cover sizes that random points of a
space meet rarely; points show operators beside the neighbours they have in real networks, with what the engine fuses.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping

import numpy as np

from nas.base import plugins
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Shape
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.operators import FUNCTIONS
from search_spaces.space import SearchSpace

SHAPES: Mapping[Shape, int] = {(1, 8, 8): 10, (1, 28, 28): 10, (3, 32, 32): 10, (446,): 30}
"""Shapes of the records of the data sets that the product knows, with their numbers of classes."""
CHANNELS = (3, 8, 16, 24, 32, 48, 64, 96, 128, 192)
SIDES = (2, 4, 7, 8, 14, 16, 28, 32)
FEATURES = (16, 32, 64, 128, 256, 446, 512, 784, 1024)
MOST_MACS = 3e7
SPACE = "operators"


def spaces() -> list[SearchSpace]:
    """Return every search space at every shape of records that it accepts."""
    found = []
    for name in plugins.available("search_spaces", "make_space"):
        make = plugins.load("search_spaces", name, "make_space")
        for shape, classes in SHAPES.items():
            try:
                found.append(make(shape, classes))
            except ValueError:  # images where it takes vectors, or vectors where it takes images
                continue
    return found


def random_operators(count: int, seed: int) -> list[Architecture]:
    """Draw chains of operators; as many of each kind as of any other."""
    generator = np.random.default_rng(seed)
    kinds = list(_CHAINS)
    found: dict[str, Architecture] = {}
    while len(found) < count:
        network = _chain(kinds[len(found) % len(kinds)], generator)
        if sum(kernel.macs for kernel in network.kernels) <= MOST_MACS:
            found.setdefault(network.key, network)
    return list(found.values())


def _chain(kind: str, generator: np.random.Generator) -> Architecture:
    image = kind != "linear"
    channels, side = int(generator.choice(CHANNELS)), int(generator.choice(SIDES))
    graph = GraphBuilder((channels, side, side) if image else (int(generator.choice(FEATURES)),))
    x = 0
    for _ in range(int(generator.integers(1, 4))):
        x = _CHAINS[kind](graph, x, generator)
    if image:
        x = _head(graph, x, generator)
    graph.linear(x, 10, bias=True)
    return graph.architecture(SPACE, {})


def _head(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    _, height, width = graph.ops[x].shape
    if (height, width) != (1, 1):
        function = str(generator.choice(FUNCTIONS["pool"]))
        x = graph.pool(x, function, kernel=(height, width), stride=(height, width))
    return graph.flatten(x)


def _finished(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    """Append the norm and activation that usually follow, or one of them, or nothing."""
    if generator.random() < 0.8:
        x = graph.norm(x)
    return _activation(graph, x, generator) if generator.random() < 0.8 else x


def _activation(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    functions = ("relu", "relu", "relu", "relu6", "hardswish", "tanh")
    return graph.activation(x, str(generator.choice(functions)))


def _conv(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    side = int(generator.choice((3, 3, 5)))
    stride = _stride(graph, x, generator)
    channels = int(generator.choice(CHANNELS[1:]))
    x = graph.conv(x, channels, kernel=(side, side), stride=stride, padding=(side // 2, side // 2))
    return _finished(graph, x, generator)


def _pointwise(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    x = graph.conv(x, int(generator.choice(CHANNELS[1:])), stride=_stride(graph, x, generator))
    return _finished(graph, x, generator)


def _depthwise(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    side = int(generator.choice((3, 5)))
    x = graph.depthwise(x, kernel=(side, side), stride=_stride(graph, x, generator), padding=(side // 2, side // 2))
    return _finished(graph, x, generator)


def _separable(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    return _pointwise(graph, _depthwise(graph, x, generator), generator)


def _linear(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    return _finished(graph, graph.linear(x, int(generator.choice(FEATURES)), bias=True), generator)


def _pool(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    function = str(generator.choice(FUNCTIONS["pool"]))
    if min(graph.ops[x].shape[1:]) < 2:
        return _pointwise(graph, x, generator)
    if generator.random() < 0.5:
        x = graph.pool(x, function, kernel=(2, 2), stride=(2, 2))
    else:
        x = graph.pool(x, function, kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    return _pointwise(graph, x, generator) if generator.random() < 0.3 else x


def _add(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    other = _activation(graph, x, generator) if generator.random() < 0.5 else x
    branch = graph.conv(other, graph.ops[x].shape[0])
    x = graph.add(graph.norm(branch), x)
    return graph.activation(x) if generator.random() < 0.6 else x


def _norm(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    # A second reader keeps a norm or an activation from being folded into what stands before it.
    alone = graph.norm(x) if generator.random() < 0.6 else _activation(graph, x, generator)
    return graph.add(alone, x)


def _concat(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    if graph.ops[x].shape[0] > 96:
        return _pointwise(graph, x, generator)
    branch = graph.conv(x, int(generator.choice(CHANNELS[1:])))
    return graph.concat(x, _finished(graph, branch, generator))


def _scale(graph: GraphBuilder, x: int, generator: np.random.Generator) -> int:
    channels, height, width = graph.ops[x].shape
    factors = x if (height, width) == (1, 1) else graph.pool(x, "avg", kernel=(height, width), stride=(height, width))
    if generator.random() < 0.5:
        factors = graph.activation(graph.conv(factors, max(8, channels // 4), bias=True))
    return graph.scale(x, graph.activation(graph.conv(factors, channels, bias=True), "hardsigmoid"))


def _zero(graph: GraphBuilder, x: int, _generator: np.random.Generator) -> int:
    return graph.add(graph.zero(x), x)


def _stride(graph: GraphBuilder, x: int, generator: np.random.Generator) -> tuple[int, int]:
    stride = 2 if min(graph.ops[x].shape[1:]) >= 4 and generator.random() < 0.3 else 1
    return stride, stride


_CHAINS: Mapping[str, Callable[[GraphBuilder, int, np.random.Generator], int]] = {
    "conv": _conv,
    "pointwise": _pointwise,
    "depthwise": _depthwise,
    "separable": _separable,
    "linear": _linear,
    "pool": _pool,
    "add": _add,
    "norm": _norm,
    "concat": _concat,
    "zero": _zero,
    "scale": _scale,
}
