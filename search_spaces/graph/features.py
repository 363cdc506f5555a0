"""Numbers that tell networks apart: what a model of error or leakage reads before a network is trained.

They are of the graph that an engine runs, dead operators left out. How many layers a signal passes on its way tells
more of a trained network than how many there are: a residual branch is a short path past a long one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import add
from typing import NamedTuple
from typing import TypeAlias

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import Pair
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.pruning import prune

Features: TypeAlias = Mapping[str, Mapping[str, float]]
"""By group, by name. A name that one network has and another has not is 0 there."""
PASSED = ("windows", "products", "pools", "layers")
"""What is counted along paths: layers with a window beyond 1 x 1, other layers with weights, poolings, all layers."""


PASSED_KINDS = WEIGHTED | {"pool"}


def features(architecture: Architecture) -> Features:
    """Describe a network by groups of numbers.

    Args:
        architecture: The network.

    Returns:
        `operators`: logarithms of one more than the kernels of each kind and window. `shortest path`, `longest path`
        and `mean path`: what a signal passes between input and output, the mean over all paths. `paths`: the logarithm
        of their number and the standard deviation of their layers. `sizes`: logarithms of MACs, weights and elements.
        `precision`: shares of the MACs whose weights have so many bits, and of the elements. `rest`: the share of
        zeros, early exits and their threshold.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> hidden = graph.linear(graph.linear(0, 8), 8)
    >>> logits = graph.linear(graph.add(hidden, 0), 2)
    >>> found = features(graph.architecture("example", {}))
    >>> [found[f"{which} path"]["layers"] for which in ("shortest", "mean", "longest")]
    [1.0, 2.0, 3.0]
    """
    network = prune(architecture)
    # Few kinds, windows and widths differ: names are written once for all kernels that share one.
    operators: dict[tuple[str, Pair], int] = {}
    amounts: dict[tuple[int, int], tuple[int, int]] = {}
    macs = weights = elements = 0
    zeros = 0.0
    for kernel in network.kernels:
        what, widths = (kernel.kind, kernel.window), (kernel.weight_bits, kernel.output_bits)
        operators[what] = operators.get(what, 0) + 1
        before = amounts.get(widths, (0, 0))
        amounts[widths] = (before[0] + kernel.macs, before[1] + kernel.output_size)
        macs += kernel.macs
        weights += kernel.weights
        elements += kernel.output_size
        if kernel.sparsity:
            zeros += kernel.weights * kernel.sparsity
    precision: dict[str, float] = {}
    for (weight_bits, output_bits), (of_macs, of_elements) in amounts.items():
        for name, amount in ((f"weights {weight_bits}", of_macs), (str(output_bits), of_elements)):
            precision[name] = precision.get(name, 0.0) + amount
    return {
        "operators": {f"{kind} {rows}x{columns}": math.log1p(n) for (kind, (rows, columns)), n in operators.items()},
        **_paths(network),
        "sizes": {"macs": math.log1p(macs), "weights": math.log1p(weights), "elements": math.log1p(elements)},
        "precision": {
            name: amount / max(macs if name.startswith("weights") else elements, 1.0)
            for name, amount in precision.items()
        },
        "rest": {
            "zeros": zeros / max(weights, 1.0),
            "exits": float(len(network.outputs) - 1),
            "threshold": network.exit_threshold,
        },
    }


class _Paths(NamedTuple):
    """All paths from the input to an operator's output.

    Attributes:
        shortest: For each of `PASSED` the least that a path passes.
        longest: The most.
        mean: The mean over the paths.
        square: The mean square of the layers that a path passes.
        number: How many paths there are.
    """

    shortest: tuple[float, ...]
    longest: tuple[float, ...]
    mean: tuple[float, ...]
    square: float
    number: float


NOTHING = (0.0,) * len(PASSED)


def _paths(network: Architecture) -> Features:
    """Describe the paths from the input to the last output, by one pass in topological order."""
    ending = [_Paths(NOTHING, NOTHING, NOTHING, 0.0, 1.0)]
    for op in network.ops[1:]:
        inputs = op.inputs
        joined = ending[inputs[0]] if len(inputs) == 1 else _joined([ending[index] for index in inputs])
        ending.append(_lengthened(joined, _passed(op)) if op.kind in PASSED_KINDS else joined)
    last = ending[network.outputs[-1]]
    variance = last.square - last.mean[-1] ** 2
    return {
        "shortest path": dict(zip(PASSED, last.shortest, strict=True)),
        "longest path": dict(zip(PASSED, last.longest, strict=True)),
        "mean path": dict(zip(PASSED, last.mean, strict=True)),
        "paths": {"number": math.log(last.number), "spread": math.sqrt(max(variance, 0.0))},
    }


def _joined(branches: list[_Paths]) -> _Paths:
    number = sum([one.number for one in branches])
    shares = [one.number / number for one in branches]
    weighted = [[share * passed for passed in one.mean] for share, one in zip(shares, branches, strict=True)]
    return _Paths(
        tuple(map(min, *[one.shortest for one in branches])),
        tuple(map(max, *[one.longest for one in branches])),
        tuple(map(sum, zip(*weighted, strict=True))),
        sum([share * one.square for share, one in zip(shares, branches, strict=True)]),
        number,
    )


def _lengthened(paths: _Paths, own: tuple[float, ...]) -> _Paths:
    layers = own[-1]
    return _Paths(
        tuple(map(add, paths.shortest, own)),
        tuple(map(add, paths.longest, own)),
        tuple(map(add, paths.mean, own)),
        paths.square + 2 * layers * paths.mean[-1] + layers**2,
        paths.number,
    )


def _passed(op: Op) -> tuple[float, ...]:
    """Return what a path passes at one of `PASSED_KINDS`."""
    if op.kind == "pool":
        return (0.0, 0.0, 1.0, 0.0)
    return (1.0, 0.0, 0.0, 1.0) if op.kernel != (1, 1) else (0.0, 1.0, 0.0, 1.0)
