"""Cells of NAS-Bench-201 (Dong and Yang, 2020): 15,625 networks whose latency and accuracy others have measured.

A cell has four nodes; each of its six edges is one of five operators, and a node is the sum of its edges. Fifteen cells
stand in three stages of 16, 32 and 64 channels, with a residual block of stride 2 between stages. Networks are float.
The usual text of a cell names a cell here too, in every command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from optuna.distributions import CategoricalDistribution

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.builder import GraphBuilder
from search_spaces.space import NamedNetwork
from search_spaces.space import SearchSpace

OPERATORS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NAMES = tuple(f"edge_{source}_{target}" for source, target in EDGES)
CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5
USUAL_TASK = ((3, 32, 32), 10)
CELL = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of NAS-Bench-201 cells.

    Args:
        input_shape: `(channels, height, width)`; the benchmark's own is `(3, 32, 32)`.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is not an image's with sides divisible by 4, or there are fewer than two classes.

    >>> space = make_space((3, 32, 32), num_classes=10)
    >>> cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    >>> sum(kernel.macs for kernel in space.decode(space.parse(cell)).kernels)
    43172480
    """
    if len(input_shape) != 3 or min(input_shape) < 1 or any(side % 4 for side in input_shape[1:]):
        raise ValueError(
            "expected images (channels, height, width), sides divisible by 4, for the space 'nb201'; "
            f"got shape {input_shape}"
        )
    if num_classes < 2:
        raise ValueError(f"expected two classes or more; got {num_classes}")
    return SearchSpace(
        name="nb201",
        input_shape=input_shape,
        num_classes=num_classes,
        distributions=dict.fromkeys(NAMES, CategoricalDistribution(OPERATORS)),
        describe=partial(_describe, input_shape, num_classes),
        reference=dict.fromkeys(NAMES, "skip_connect") | {"edge_0_1": "nor_conv_1x1"},
        parse=parse,
    )


def parse(cell: str) -> Params:
    """Read the benchmark's text of a cell.

    Raises:
        ValueError: If it is none.

    >>> parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")["edge_0_3"]
    'skip_connect'
    """
    found = CELL.fullmatch(cell.strip())
    if found is None or not set(found.groups()) <= set(OPERATORS):
        form = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
        raise ValueError(f"expected a cell like {form} of {list(OPERATORS)}; got {cell!r}")
    return dict(zip(NAMES, found.groups(), strict=True))


def _cell_number(index: int, cell: str) -> NamedNetwork:
    shape, classes = USUAL_TASK
    return NamedNetwork(parse(cell), shape, classes, f"Dong and Yang, NAS-Bench-201, 2020: cell {index}, CIFAR-10")


NETWORKS: Mapping[str, NamedNetwork] = {
    "nb201-0": _cell_number(
        0, "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    ),
    "nb201-1": _cell_number(
        1, "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    ),
}


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    graph = GraphBuilder(input_shape)
    x = graph.norm(graph.conv(0, CHANNELS[0], kernel=(3, 3), padding=(1, 1)))
    for stage, channels in enumerate(CHANNELS):
        if stage:
            x = _reduction(graph, x, channels)
        before, first = x, len(graph.ops)
        x = _cell(graph, x, channels, params)
        for _ in range(CELLS_PER_STAGE - 1):
            last, x = x, graph.again(first, before)
            before, first = last, last + 1
    x = graph.activation(graph.norm(x))
    side = graph.ops[x].shape[1:]
    x = graph.flatten(graph.pool(x, "avg", kernel=(side[0], side[1]), stride=(side[0], side[1])))
    graph.linear(x, num_classes, bias=True)
    return graph.architecture("nb201", params)


def _cell(graph: GraphBuilder, x: int, channels: int, params: Params) -> int:
    nodes = [x]
    for target in (1, 2, 3):
        edges = [(source, name) for (source, end), name in zip(EDGES, NAMES, strict=True) if end == target]
        sums = [_edge(graph, nodes[source], channels, str(params[name])) for source, name in edges]
        node = sums[0]
        for other in sums[1:]:
            node = graph.add(node, other)
        nodes.append(node)
    return nodes[-1]


def _edge(graph: GraphBuilder, x: int, channels: int, operator: str) -> int:
    if operator == "none":
        return graph.zero(x)
    if operator == "skip_connect":
        return x
    if operator == "avg_pool_3x3":
        return graph.pool(x, "avg", kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    return _conv(graph, x, channels, 3 if operator == "nor_conv_3x3" else 1)


def _conv(graph: GraphBuilder, x: int, channels: int, side: int, stride: int = 1) -> int:
    x = graph.conv(
        graph.activation(x), channels, kernel=(side, side), stride=(stride, stride), padding=(side // 2, side // 2)
    )
    return graph.norm(x)


def _reduction(graph: GraphBuilder, x: int, channels: int) -> int:
    main = _conv(graph, _conv(graph, x, channels, 3, stride=2), channels, 3)
    shortcut = graph.conv(graph.pool(x, "avg", kernel=(2, 2), stride=(2, 2)), channels)
    return graph.add(shortcut, main)
