"""The graph that is left when an engine computes only once what is written down twice.

ONNX Runtime does so (common subexpression elimination, first level of its optimisations): of two poolings of one
tensor, two sums of the same tensors, or two zeros of one tensor, one runs and both readers read it. Operators with
weights of their own are never the same.
"""

from __future__ import annotations

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import reading
from search_spaces.graph.operators import SCALED
from search_spaces.graph.operators import WEIGHTED

_OWN_WEIGHTS = WEIGHTED | SCALED | {"input"}


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
        here = reading(op, tuple([place[source] for source in op.inputs]))
        index = len(kept) if here.kind in _OWN_WEIGHTS else first.setdefault(here, len(kept))
        place.append(index)
        if index == len(kept):
            kept.append(here)
    if len(kept) == len(architecture.ops):
        return architecture
    # Two outputs that are the same are one tensor.
    return architecture.rewired(tuple(kept), tuple(sorted({place[index] for index in architecture.outputs})))
