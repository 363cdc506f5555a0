"""Which networks are the same but for the order in which they were written down."""

from __future__ import annotations

import hashlib
from dataclasses import fields

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op

_OWN = tuple(field.name for field in fields(Op) if field.name != "inputs")


def structure_of(architecture: Architecture) -> str:
    """Return sixteen hex digits that isomorphic graphs share: a network measured twice under two descriptions.

    `Architecture.key` tells apart what this does not: two branches listed in another order.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> def network(first, second):
    ...     graph = GraphBuilder((4, 8, 8))
    ...     total = graph.add(graph.conv(0, first), graph.pool(0, second, kernel=(1, 1), stride=(1, 1)))
    ...     other = GraphBuilder((4, 8, 8))
    ...     pooled = other.pool(0, second, kernel=(1, 1), stride=(1, 1))
    ...     other.add(pooled, other.conv(0, first))
    ...     return graph.architecture("example", {}), other.architecture("example", {})
    >>> one, two = network(4, "avg")
    >>> one.key == two.key, structure_of(one) == structure_of(two)
    (False, True)
    """
    names: list[str] = []
    addends: dict[int, list[str]] = {}
    for index, op in enumerate(architecture.ops):
        sources = [names[source] for source in op.inputs]
        if op.kind == "add":  # a sum depends neither on the order of its parts nor on that of its partial sums
            parts = [addends.get(source, [names[source]]) for source in op.inputs]
            sources = sorted(name for part in parts for name in part)
            if architecture.consumers[index] == 1:
                addends[index] = sources
        names.append(_hash([*(str(getattr(op, name)) for name in _OWN), *sources]))
    merged = {s for op in architecture.ops if op.kind == "add" for s in op.inputs if s in addends}
    return _hash([names[-1], *sorted(name for index, name in enumerate(names) if index not in merged)])


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
