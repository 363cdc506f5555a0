"""The graph that is left when an engine computes only once what is written down twice.

ONNX Runtime does so (common subexpression elimination, first level of its optimisations): of two poolings of one
tensor, two sums of the same tensors, or two zeros of one tensor, one runs and both readers read it. Operators with
weights of their own are never the same.
"""

from __future__ import annotations

from dataclasses import replace

from search_spaces.graph.architecture import WEIGHTED
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op

_OWN_WEIGHTS = (*WEIGHTED, "norm", "input")


def merge(architecture: Architecture) -> Architecture:
    """Return the network with each operator computed once; the architecture itself where none is repeated.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8, 4, 4))
    >>> twice = [graph.conv(graph.activation(0), 8) for _ in range(2)]
    >>> logits = graph.linear(graph.flatten(graph.add(*twice)), 2)
    >>> [op.kind for op in merge(graph.architecture("example", {})).ops]
    ['input', 'activation', 'conv', 'conv', 'add', 'flatten', 'linear']
    """
    first: dict[Op, int] = {}
    place: list[int] = []
    kept: list[Op] = []
    for op in architecture.ops:
        here = replace(op, inputs=tuple(place[source] for source in op.inputs))
        if here in first and here.kind not in _OWN_WEIGHTS:
            place.append(first[here])
            continue
        first.setdefault(here, len(kept))
        place.append(len(kept))
        kept.append(here)
    # What a repeated last operator would read must stay last: it never is one, logits have weights of their own.
    if len(kept) == len(architecture.ops) or place[-1] != len(kept) - 1:
        return architecture
    return Architecture(architecture.space, architecture.params, tuple(kept))
