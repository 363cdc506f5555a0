"""Which networks are the same but for the order in which they were written down."""

from __future__ import annotations

import hashlib

from search_spaces.graph.architecture import ADDED
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.operators import OPERATORS

# As for keys, fields that came later are named where they are not the default.
_FIRST = tuple(name for name in Op._fields if name not in ("inputs", *ADDED))


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
    ops = architecture.ops
    names: list[str] = []
    addends: dict[int, list[str]] = {}
    merged: set[int] = set()
    for index, op in enumerate(ops):
        sources = [names[source] for source in op.inputs]
        if OPERATORS[op.kind].commutes:  # a sum depends neither on the order of its parts nor on that of partial sums
            partial = {source for source in op.inputs if source in addends and ops[source].kind == op.kind}
            parts = [addends[source] if source in partial else [names[source]] for source in op.inputs]
            sources = sorted(name for part in parts for name in part)
            merged |= partial
            if architecture.consumers[index] == 1:
                addends[index] = sources
        own = [str(getattr(op, name)) for name in _FIRST]
        own += [f"{name} {value}" for name in ADDED if (value := getattr(op, name))]
        names.append(_hash([*own, *sources]))
    outputs = [names[index] for index in architecture.outputs]
    return _hash([*outputs, *sorted(name for index, name in enumerate(names) if index not in merged)])


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
