"""Two graphs of one space: which layers of a network could start from the weights of which layers of another one.

Operators of the two are matched in their order, as many and as like as possible: of the same kind and function, with a
window that is no smaller, whatever their widths and bits. What is left over in the child was put in between. A layer
takes the weights of its match if it reads and writes channels that stand for those of the match, at least as many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import weights_of
from search_spaces.graph.narrowing import Channels
from search_spaces.graph.narrowing import Layout
from search_spaces.graph.narrowing import channels_of
from search_spaces.graph.operators import SCALED
from search_spaces.graph.operators import WEIGHTED

LEFT_ALONE: Mapping[str, tuple[str, ...]] = {
    "relu": ("relu", "relu6", "hardsigmoid"),
    "relu6": ("relu6", "hardsigmoid"),
}
"""For activations, those whose outputs they leave as they are."""

TORN = 100
"""What it costs to match a part of a block whose ways are joined, and have the joint in between: several matches."""


@dataclass(frozen=True, eq=False)
class Descent:
    """How one network stands to another.

    Attributes:
        child: The network that is to be trained.
        parent: The one that was.
        matched: For operators of the child, the parent's operator in their place.
        origins: For each operator of the child, the parent's operator whose tensor its own stands for; None: none.
        channels: Whose channels go together: in the child, in the parent.
        groups: For groups of the child's channels, the parent's group that they stand for, which is no wider.
        taken: Operators with weights or norms that take those of their match.
        passing: Others that can pass their input on.
        silent: Others that can begin at zero, because their output is added to what they were made from.
    """

    child: Architecture
    parent: Architecture
    matched: Mapping[int, int]
    origins: tuple[int | None, ...]
    channels: tuple[Channels, Channels]
    groups: Mapping[int, int]
    taken: frozenset[int] = frozenset()
    passing: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()

    @property
    def share(self) -> float:
        """Which share of the child's weights belongs to layers that take those of the parent."""
        ops = self.child.ops
        counts = {
            index: weights_of(op, ops[op.inputs[0]].shape[0]) for index, op in enumerate(ops) if op.kind in WEIGHTED
        }
        return sum(count for index, count in counts.items() if index in self.taken) / max(1, sum(counts.values()))


def descent_of(child: Architecture, parent: Architecture) -> Descent:
    """Find out which layers of a network could start from the weights of which layers of another one.

    Args:
        child: What is to be trained.
        parent: What was trained.

    Raises:
        ValueError: If the two are not of one space, one shape of records and one number of classes.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> def network(width):
    ...     graph = GraphBuilder((4,))
    ...     logits = graph.linear(graph.linear(0, width), 3)
    ...     return graph.architecture("example", {})
    >>> descent_of(network(8), network(6)).share, descent_of(network(6), network(8)).share
    (1.0, 0.0)
    """
    ours, theirs = ((one.space, one.input_shape, one.num_classes) for one in (child, parent))
    if ours != theirs:
        raise ValueError(f"expected two networks of one space, input shape and number of classes; got {ours}, {theirs}")
    child, parent = child.as_float(), parent.as_float()
    matched = _matched(child, parent)
    origins = _origins(child, matched)
    channels = channels_of(child), channels_of(parent)
    plain = Descent(child, parent, matched, origins, channels, _groups(origins, channels))
    taken = frozenset(index for index, origin in matched.items() if _takes(plain, index, origin))
    passing, silent = _further(plain)
    return Descent(child, parent, matched, origins, channels, plain.groups, taken, passing, silent)


def pairs(ours: Layout, theirs: Layout) -> list[tuple[int, int]]:
    """Pair the groups of two tensors that are made of as many segments of the same kinds; else none."""
    if [segment.repeat for segment in ours] != [segment.repeat for segment in theirs]:
        return []
    return [(one.group, other.group) for one, other in zip(ours, theirs, strict=True)]


def _matched(child: Architecture, parent: Architecture) -> dict[int, int]:
    """Match operators in their order, as many and as like as possible; of several ways, take the earliest matches."""
    alike, ends = _alike(child, parent), _ends_of_blocks(child)
    # best[i, j]: the most that can be had from operator i of the child and j of the parent on.
    best = np.zeros((len(child.ops) + 1, len(parent.ops) + 1), dtype=np.int64)
    for index in range(len(child.ops) - 1, -1, -1):
        best[index] = np.max([best[end] - cost for end, cost in ends[index]], axis=0)
        matching = np.where(alike[index] > 0, best[index + 1, 1:] + alike[index], best[index, :-1])
        best[index, :-1] = np.maximum(best[index, :-1], matching)
        best[index] = np.maximum.accumulate(best[index, ::-1])[::-1]
    found, index, other = {}, 0, 0
    while index < len(child.ops) and other < len(parent.ops):
        likeness, most = alike[index, other], best[index, other]
        end = next((end for end, cost in ends[index] if best[end, other] - cost == most), None)
        if likeness and most == best[index + 1, other + 1] + likeness:
            found[index] = other
            index, other = index + 1, other + 1
        elif end is not None:
            index = end
        else:
            other += 1
    return found


def _ends_of_blocks(child: Architecture) -> list[list[tuple[int, int]]]:
    """List for each operator what comes after blocks that start with it and may be in between, and what they cost.

    One operator may be in between if it reads one tensor. One that joins several costs as much as it is worth to have
    the whole block in between instead: from what all of it is made to where it is joined.
    """
    found: list[list[tuple[int, int]]] = []
    for index, op in enumerate(child.ops):
        found.append([(index + 1, TORN if len(op.inputs) > 1 else 0)])
    for end, op in enumerate(child.ops):
        read: set[int] = set()
        for start in range(end, 0, -1) if len(op.inputs) > 1 else ():
            read = {source for source in read | set(child.ops[start].inputs) if source < start}
            if len(read) == 1 and not _is_read_outside(child, start, end):
                found[start].append((end + 1, 0))
                break
    return found


def _is_read_outside(child: Architecture, start: int, end: int) -> bool:
    inside = range(start, end)
    return any(source in inside for op in child.ops[end + 1 :] for source in op.inputs) or any(
        index in inside for index in child.outputs
    )


def _alike(child: Architecture, parent: Architecture) -> NDArray[np.int64]:
    """Tell for each operator of the child and each of the parent how alike they are; 0 where no match is possible."""
    known: dict[tuple[object, ...], tuple[int, Op]] = {}
    numbers = []
    for network in (child, parent):
        for index, op in enumerate(network.ops):
            place = "last" if index == network.outputs[-1] else "exit" if index in network.outputs else "inside"
            back = tuple(index - source for source in op.inputs)
            what = (place, back, op.kind, op.function, op.bias, op.groups, op.kernel, op.stride, op.shape)
            numbers.append(known.setdefault(what, (len(known), op))[0])
    kinds = [(what[0], what[1], op) for what, (_, op) in known.items()]
    table = np.array([[_likeness(one, other) for other in kinds] for one in kinds])
    return np.asarray(table[np.ix_(numbers[: len(child.ops)], numbers[len(child.ops) :])])


def _likeness(one: tuple[object, object, Op], other: tuple[object, object, Op]) -> int:
    """Return 0 where one operator cannot take the place of the other, else 1 and how much more they have in common.

    Args:
        one: Where it stands, how far back it reads, and the operator.
        other: The same.
    """
    (here, back, op), (there, also_back, match) = one, other
    if (here, op.kind, op.function, len(op.shape)) != (there, match.kind, match.function, len(match.shape)):
        return 0
    if op.kind in WEIGHTED:
        larger = [side - theirs for side, theirs in zip(op.kernel, match.kernel, strict=True)]
        if (op.bias, op.groups) != (match.bias, match.groups) or any(more < 0 or more % 2 for more in larger):
            return 0
    same_places = (op.stride, op.shape[1:]) == (match.stride, match.shape[1:])
    return 1 + same_places + (op.shape[0] >= match.shape[0]) + (back == also_back)


def _origins(child: Architecture, matched: Mapping[int, int]) -> tuple[int | None, ...]:
    """Return what each tensor stands for; one of an operator in between stands for what all its inputs stand for."""
    origins: list[int | None] = []
    for index, op in enumerate(child.ops):
        before = {origins[source] for source in op.inputs}
        origins.append(matched.get(index, before.pop() if len(before) == 1 else None))
    return tuple(origins)


def _groups(origins: tuple[int | None, ...], channels: tuple[Channels, Channels]) -> dict[int, int]:
    ours, theirs = channels
    met: dict[int, set[int]] = {}
    for index, origin in enumerate(origins):
        for one, other in () if origin is None else pairs(ours.layouts[index], theirs.layouts[origin]):
            met.setdefault(one, set()).add(other)
    single = {one: next(iter(others)) for one, others in met.items() if len(others) == 1}
    return {one: other for one, other in single.items() if ours.widths[one] >= theirs.widths[other]}


def _stands(descent: Descent, index: int, origin: int | None) -> bool:
    """Tell whether each feature of an operator stands for one of a parent's operator."""
    ours, theirs = descent.channels
    found = [] if origin is None else pairs(ours.layouts[index], theirs.layouts[origin])
    return bool(found) and all(descent.groups.get(one) == other for one, other in found)


def _takes(descent: Descent, index: int, origin: int) -> bool:
    """Tell whether a matched operator has weights, and reads and writes what its match does."""
    op, other = descent.child.ops[index], descent.parent.ops[origin]
    if op.kind not in WEIGHTED | SCALED or tuple(descent.origins[source] for source in op.inputs) != other.inputs:
        return False
    source, other_source = descent.child.ops[op.inputs[0]], descent.parent.ops[other.inputs[0]]
    if op.groups > 1 and (op.shape[0], source.shape[0]) != (other.shape[0], other_source.shape[0]):
        return False  # which channels make a group would be lost where some are repeated
    return _stands(descent, index, origin) and _stands(descent, op.inputs[0], other.inputs[0])


def _further(descent: Descent) -> tuple[frozenset[int], frozenset[int]]:
    """Find the operators in between that can pass on what they read, and those that can begin at zero.

    Returns:
        The two, of those with weights or norms.
    """
    ops = descent.child.ops
    exact: list[bool] = []  # whether a tensor can be what it stands for
    passing: set[int] = set()
    silent: set[int] = set()
    for index, op in enumerate(ops):
        if index in descent.matched:
            exact.append(True)
            continue
        is_exact = all(exact[source] for source in op.inputs)
        if op.kind == "add":
            end = _end_to_silence(descent, op, exact)
            silent |= set() if end is None else {end}
            is_exact = end is not None
        elif op.kind == "activation":
            is_exact &= op.function == "identity" or _is_left_alone(descent, index)
        elif op.kind in WEIGHTED | SCALED:
            is_exact &= _can_pass_on(descent, index)
            passing |= {index} if is_exact else set()
        else:
            is_exact = False
        exact.append(is_exact)
    return frozenset(passing - silent), frozenset(silent)


def _can_pass_on(descent: Descent, index: int) -> bool:
    ops = descent.child.ops
    op, source = ops[index], ops[index].inputs[0]
    is_plain = op.stride == (1, 1) and op.groups == 1 and all(side % 2 for side in op.kernel)
    stays = op.shape[1:] == ops[source].shape[1:]
    origin = descent.origins[index]
    return is_plain and stays and _stands(descent, index, origin) and _stands(descent, source, origin)


def _is_left_alone(descent: Descent, index: int) -> bool:
    """Tell whether an activation leaves alone what the parent computes there."""
    origin, function = descent.origins[index], descent.child.ops[index].function
    while origin is not None and descent.parent.ops[origin].kind in ("pool", "flatten"):
        origin = descent.parent.ops[origin].inputs[0]
    return origin is not None and descent.parent.ops[origin].function in LEFT_ALONE.get(function, ())


def _end_to_silence(descent: Descent, op: Op, exact: list[bool]) -> int | None:
    """Return the last layer or norm on one way to an addition, where the other way brings what went in."""
    child = descent.child
    for start, other in (op.inputs, op.inputs[::-1]):
        end = start
        while child.ops[end].kind == "activation" and _is_between(descent, end):
            end = child.ops[end].inputs[0]
        if exact[other] and child.ops[end].kind in WEIGHTED | SCALED and _is_between(descent, end):
            return end
    return None


def _is_between(descent: Descent, index: int) -> bool:
    """Tell whether an operator is in between, and has one reader."""
    return index not in descent.matched and descent.child.consumers[index] == 1
