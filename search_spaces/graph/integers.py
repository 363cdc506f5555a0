"""The graph of a network as an engine in integers runs it: which of its tensors are stored, and in which width."""

from __future__ import annotations

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import in_width
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT

SATURATING = ("relu", "relu6", "identity")
"""Activations that the end of an integer range does by itself, or that do nothing."""
# What may hand a float to an operator that engines compute in float anyway. A convolution may not: without 8 bits
# behind it an engine runs it in float.
FLOAT_OUTPUT = ("linear", "add", "norm", "input")


def in_integers(architecture: Architecture, bits: int) -> Architecture:
    """Return the network with all in float that an engine in integers would store at another width.

    What has fewer bits already keeps them. An engine fuses a layer with the norm and the activation behind it and
    stores what comes out, so what lies between is rounded no more than the logits are. The device's converter makes the
    same network of this one as of the one in float: it costs the same.

    Args:
        architecture: The network.
        bits: The width of what is in float, for weights and tensors.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((2, 4, 4))
    >>> x = graph.activation(graph.norm(graph.conv(0, 3)))
    >>> logits = graph.linear(graph.flatten(x), 2)
    >>> [(op.kind, op.bits) for op in in_integers(graph.architecture("example", {}), 8).ops[:4]]
    [('input', 8), ('conv', 32), ('norm', 32), ('activation', 8)]
    """
    in_float = stays_float(architecture)
    ops = tuple(
        in_width(op, bits, weights=op.kind in WEIGHTED, output=index not in in_float)
        for index, op in enumerate(architecture.ops)
    )
    return architecture if ops == architecture.ops else architecture.with_ops(ops)


def stays_float(architecture: Architecture) -> frozenset[int]:
    """Return the operators whose output an integer engine hands on without storing it."""
    ops, folded = architecture.ops, folded_norms(architecture)
    anchors = {norm: source for source, norm in folded.items()}
    readers: list[list[Op]] = [[] for _ in ops]
    for op in ops:
        for source in set(op.inputs):
            readers[source].append(op)

    def is_handed_on(index: int) -> bool:
        if index in folded:
            return True
        if index in architecture.outputs:
            return not readers[index]
        if len(readers[index]) != 1:
            return False
        reader = readers[index][0]
        if reader.kind == "activation" and (reader.function in SATURATING or reader.bits == 1):
            return True
        return reader.kind in ("activation", "norm") and ops[anchors.get(index, index)].kind in FLOAT_OUTPUT

    return frozenset(filter(is_handed_on, range(len(ops))))


def folded_norms(architecture: Architecture) -> dict[int, int]:
    """Map each operator with weights to the norm that is folded into it."""
    return {
        op.inputs[0]: index
        for index, op in enumerate(architecture.ops)
        if op.kind == "norm"
        and architecture.ops[op.inputs[0]].kind in WEIGHTED
        and architecture.ops[op.inputs[0]].bits == FLOAT
        and architecture.consumers[op.inputs[0]] == 1
    }
