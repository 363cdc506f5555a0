"""The graph of a network with early exits: where exits may stand, and what is computed until one of them answers."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import VIEW_KINDS
from search_spaces.graph.operators import WEIGHTED


def up_to(architecture: Architecture, exit: int) -> Architecture:
    """Return what is computed for a record that leaves at an exit: this one, all before it, and what they read.

    Args:
        architecture: The network.
        exit: Number of the exit, from 0; for the last one the network itself is returned.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> x = graph.linear(0, 4)
    >>> early, late = graph.linear(x, 2), graph.linear(graph.activation(x), 2)
    >>> network = graph.architecture("example", {}, outputs=(early, late))
    >>> [[op.kind for op in up_to(network, exit).ops] for exit in (0, 1)]
    [['input', 'linear', 'linear'], ['input', 'linear', 'linear', 'activation', 'linear']]
    """
    if exit == len(architecture.outputs) - 1:
        return architecture
    return _with_outputs(architecture, architecture.outputs[: exit + 1])


def without_exits(architecture: Architecture) -> Architecture:
    """Return the network with its last output alone."""
    return _with_outputs(architecture, architecture.outputs[-1:]) if len(architecture.outputs) > 1 else architecture


def classifier(architecture: Architecture, output: int) -> int | None:
    """Return the last operator with weights that an output depends on; None where there is none."""
    needed = {output}
    for index in range(output, 0, -1):
        if index in needed and architecture.ops[index].kind in WEIGHTED:
            return index
        if index in needed:
            needed.update(architecture.ops[index].inputs)
    return None


def places(architecture: Architecture) -> list[int]:
    """Return the operators whose tensors an exit may read, ascending.

    Such a tensor is one that an engine stores and on which every later output depends: it lies on the main path, not in
    a branch. There are layers with weights before it, and behind it at least one beside the last. Of several tensors
    without such a layer between them the last one counts, which is the smallest where a map is pooled.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((1, 8, 8))
    >>> stem = graph.conv(0, 4)
    >>> block = graph.add(stem, graph.conv(stem, 4))
    >>> pooled = graph.pool(block, "max", kernel=(2, 2), stride=(2, 2))
    >>> logits = graph.linear(graph.flatten(graph.conv(pooled, 4)), 10)
    >>> places(graph.architecture("example", {})), (stem, pooled)
    ([1, 4], (1, 4))
    """
    stored = {kernel.output for kernel in architecture.kernels if kernel.kind not in VIEW_KINDS}
    found: dict[int, int] = {}
    first = 0
    for output in architecture.outputs:
        # Up to this output, it and all behind it are later ones.
        later = sorted(_ancestors(architecture, [end for end in architecture.outputs if end >= output]))
        for index, (before, behind) in _bottlenecks(architecture, later).items():
            if first < index < output and index in stored and before and behind > 1:
                found[before] = index
        first = output
    return sorted(found.values())


def _bottlenecks(architecture: Architecture, needed: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Return the operators that all others pass by, with the layers up to each and behind it.

    Args:
        architecture: The network.
        needed: The operators that count, ascending.
    """
    ops = architecture.ops
    last_reader = {source: index for index in needed for source in ops[index].inputs}
    layers = sum(ops[index].kind in WEIGHTED for index in needed)
    found = {}
    read_until = before = 0
    for index in needed:
        before += ops[index].kind in WEIGHTED
        if read_until <= index:  # nothing that was made before is read behind it
            found[index] = (before, layers - before)
        read_until = max(read_until, last_reader.get(index, 0))
    return found


def _ancestors(architecture: Architecture, outputs: Collection[int]) -> set[int]:
    """Return the operators that outputs depend on, themselves included, and the input."""
    needed = {0, *outputs}
    for index in range(max(outputs, default=0), 0, -1):
        if index in needed:
            needed.update(architecture.ops[index].inputs)
    return needed


def _with_outputs(architecture: Architecture, outputs: Iterable[int]) -> Architecture:
    outputs = tuple(outputs)
    kept = sorted(_ancestors(architecture, outputs))
    place = {index: position for position, index in enumerate(kept)}
    ops = (architecture.ops[index] for index in kept)
    return architecture.with_ops(
        tuple(op._replace(inputs=tuple(place[source] for source in op.inputs)) for op in ops),
        tuple(place[index] for index in outputs),
    )
