"""The graph of a network with what stands before it: a norm that standardises the records."""

from __future__ import annotations

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import reading
from search_spaces.graph.precision import FLOAT


def standardised(architecture: Architecture) -> Architecture:
    """Return the network with a norm behind its input: what an exported file computes, for counting its cost.

    Records come in float; what the network rounds its input to, it rounds the norm's output to.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((2, 4, 4), bits=8)
    >>> logits = graph.linear(graph.flatten(graph.conv(0, 3)), 2)
    >>> behind = standardised(graph.architecture("example", {}))
    >>> [(op.kind, op.inputs, op.bits) for op in behind.ops[:3]], behind.outputs
    ([('input', (), 32), ('norm', (0,), 8), ('conv', (1,), 32)], (4,))
    """
    records, *others = architecture.ops
    norm = Op("norm", (0,), records.shape, bits=records.bits, range=records.range, format=records.format)
    moved = (reading(op, tuple([source + 1 for source in op.inputs])) for op in others)
    ops = (records._replace(bits=FLOAT, format=""), norm, *moved)
    return architecture.rewired(ops, tuple(index + 1 for index in architecture.outputs))
