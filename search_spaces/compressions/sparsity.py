"""Set weights to zero: any, or some of each group of neighbours.

- `unstructured`: the smallest magnitudes of a layer, wherever they lie (Han et al., 2015).
- `2:4`, `1:4`: of four neighbours along the input channels, two or one stay (Mishra et al., 2021). A layer whose input
  channels are no multiple of four stays dense. `share` then only tells whether there is a sparsity at all.

How zeros are spread over the layers, where any may be zero: `uniform` gives each layer the same share; `erk`
(Erdos-Renyi-Kernel; Evci et al., 2020) leaves small layers denser. Depthwise layers, which have few weights, and
layers of one-bit weights, which have no zero, stay dense. When weights become zero is the recipe's `pruning`.

A device is charged for zeros unless its file says what its engine does with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import weights_of
from search_spaces.graph.operators import WEIGHTED

PARAMETERS: Mapping[str, tuple[ParamValue, ...]] = {
    "share": (0.0, 0.3, 0.5, 0.7, 0.9, 0.95),
    "pattern": ("unstructured", "2:4", "1:4"),
    "layout": ("uniform", "erk"),
}


def compress(architecture: Architecture, share: float, pattern: str, layout: str) -> Architecture:
    """Return the network with so many of its weights zero.

    Args:
        architecture: The dense network.
        share: Share of the weights that are zero, of the layers that are not left dense; 0 leaves the network as it is.
        pattern: `unstructured`, or how many of how many neighbours stay.
        layout: `uniform` or `erk`, where any weight may be zero.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> x = graph.linear(graph.linear(0, 4), 10)
    >>> network = graph.architecture("example", {})
    >>> [op.sparsity for op in compress(network, 0.5, "unstructured", "uniform").ops]
    [0.0, 0.5, 0.5]
    >>> [op.sparsity for op in compress(network, 0.9, "2:4", "erk").ops]
    [0.0, 0.5, 0.5]
    """
    if not share:
        return architecture
    ops = list(architecture.ops)
    layers = {index: op for index, op in enumerate(ops) if _may_be_sparse(op)}
    if pattern == "unstructured":
        sizes = {index: _shape(architecture, op) for index, op in layers.items()}
        densities = erk(sizes, 1 - share) if layout == "erk" else dict.fromkeys(sizes, 1 - share)
        for index, density in densities.items():
            weights = prod(sizes[index])
            zeros = min(round((1 - density) * weights), weights - 1)
            ops[index] = ops[index]._replace(sparsity=zeros / weights)
    else:
        kept, group = (int(number) for number in pattern.split(":"))
        for index, op in layers.items():
            if _shape(architecture, op)[1] % group == 0:
                ops[index] = op._replace(sparsity=1 - kept / group, pattern=pattern)
    return architecture.with_ops(tuple(ops))


def erk(shapes: Mapping[int, tuple[int, ...]], density: float) -> dict[int, float]:
    """Spread a density over layers in proportion to the sum of a layer's lengths over their product.

    Args:
        shapes: Of each layer's weight: output channels, input channels, height, width.
        density: Share of all weights together that is not zero.

    Returns:
        The density of each layer, 1 where the rule would give more; what these do not take the others share.

    >>> {layer: round(share, 3) for layer, share in erk({0: (4, 4), 1: (64, 64)}, 0.25).items()}
    {0: 1.0, 1: 0.247}
    """
    raw = {index: sum(shape) / prod(shape) for index, shape in shapes.items()}
    dense: set[int] = set()
    while True:
        left = {index: prod(shape) for index, shape in shapes.items() if index not in dense}
        wanted = density * sum(map(prod, shapes.values())) - sum(prod(shapes[index]) for index in dense)
        scale = wanted / sum(raw[index] * size for index, size in left.items()) if left else 0.0
        more = {index for index in left if scale * raw[index] > 1}
        if not more:
            return {index: 1.0 if index in dense else scale * raw[index] for index in shapes}
        dense |= more


def _may_be_sparse(op: Op) -> bool:
    return op.kind in WEIGHTED and op.kind != "depthwise" and op.weight_bits > 1


def _shape(architecture: Architecture, op: Op) -> tuple[int, ...]:
    """Return the shape of a layer's weight; of a linear one output and input features."""
    weights = weights_of(op, architecture.ops[op.inputs[0]].shape[0])
    window = op.kernel if op.kind == "conv" else ()
    return (op.shape[0], weights // op.shape[0] // prod(window), *window)
