"""The graph that is left when an engine simplifies it: operators whose result nobody needs do not run.

What an engine removes was read off measured networks: NAS-Bench-201 cells on a Raspberry Pi 4 and a Pixel 3 with
TensorFlow Lite (`benchmarks/latency_nb201.py`). In each pattern of empty edges, regression tells which operators of the
cell cost time:

- zeros are not added;
- what is multiplied by zero is left out, but a convolution's result is not: it still runs, its weights set to zero;
- operators that read nothing but zeros run like any other;
- a network whose output does not depend on its input is a constant, and so is an exit that does not.

The second rule has exceptions that no simple rule explains (cells with both 1-3 and 2-3 empty, 3 % of all).
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import TypeAlias

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import reading
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import FOLDED
from search_spaces.graph.operators import WEIGHTED

_Touched: TypeAlias = frozenset[int]
"""Operators that run although their result is multiplied by zero."""


def prune(architecture: Architecture) -> Architecture:
    """Return what an engine that simplifies graphs runs; the architecture itself where nothing is dead.

    Devices and `search_spaces.graph.features` ask for it, so an architecture keeps it among its forms.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> hidden = graph.add(graph.linear(0, 8), graph.zero(0))
    >>> unused = graph.activation(graph.linear(0, 8))
    >>> logits = graph.linear(hidden, 2)
    >>> [op.kind for op in prune(graph.architecture("example", {})).ops]
    ['input', 'linear', 'linear']
    """
    if not architecture.has_dead_ops:
        return architecture
    pruned = architecture.forms.get(prune)
    if pruned is None:
        running = _Simplified(architecture.ops).needed_by(architecture.outputs)
        pruned = architecture.forms[prune] = architecture.rewired(*running)
    return pruned


def is_constant(architecture: Architecture) -> bool:
    """Tell whether no output depends on a network's input: an engine that simplifies graphs leaves nothing of it."""
    return is_only_zeros(prune(architecture))


def is_only_zeros(pruned: Architecture) -> bool:
    """Tell whether a network that `prune` returned depends on no input: it has left a zero in place of each output."""
    return all(pruned.ops[index].kind in CONSTANT for index in pruned.outputs)


@dataclass
class _Simplified:
    """A graph without its zeros.

    Attributes:
        ops: The operators as listed.
        root: For each operator, the one whose tensor it really is: a sum with zeros is its other addend.
        touched: For operators that absorbed a zero, what runs because of it.
        zero: Operators that are zeros, with what runs because of them.
        constant: Operators that do not depend on the network's input.
    """

    ops: tuple[Op, ...]
    root: list[int] = field(default_factory=list)
    touched: dict[int, _Touched] = field(default_factory=dict)
    zero: dict[int, _Touched] = field(default_factory=dict)
    constant: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        zero, constant = self.zero, self.constant
        for index, (kind, inputs, *_) in enumerate(self.ops):
            self.root.append(index)
            if kind in CONSTANT:
                self._zero(index, inputs[0])
            elif zero and not zero.keys().isdisjoint(inputs):
                if kind == "add":
                    self._add(index, inputs)
                else:
                    self._touch(index, *(zero[source] for source in inputs if source in zero))
            if constant and constant.issuperset(inputs):
                constant.add(index)

    def _zero(self, index: int, source: int) -> None:
        runs = self.zero.get(source)
        if runs is None:
            runs = frozenset({self.root[source]}) if self._is_weighted(self.root[source]) else frozenset()
        self.zero[index] = runs
        self.constant.add(index)

    def _is_weighted(self, index: int) -> bool:
        while self.ops[index].kind in FOLDED:
            index = self.root[self.ops[index].inputs[0]]
        return self.ops[index].kind in WEIGHTED

    def _add(self, index: int, sources: tuple[int, ...]) -> None:
        runs = frozenset().union(*(self.zero[source] for source in sources if source in self.zero))
        rest = [source for source in sources if source not in self.zero]
        if not rest:
            self.zero[index] = runs
        else:
            self.root[index] = self.root[rest[0]]
            self._touch(self.root[index], runs)

    def _touch(self, index: int, *runs: _Touched) -> None:
        self.touched[index] = self.touched.get(index, frozenset()).union(*runs)

    def needed_by(self, outputs: tuple[int, ...]) -> tuple[tuple[Op, ...], tuple[int, ...]]:
        """Return the operators that run, with edges between them, and which of them are the outputs."""
        # Two outputs that are the same tensor are one.
        roots = sorted({self.root[index] for index in outputs})
        ops, root, touched = self.ops, self.root, self.touched
        zero = self.zero.keys() | (self.constant & set(roots))
        needed = {0}
        waiting = list(roots)
        while waiting:
            index = waiting.pop()
            if index not in needed:
                needed.add(index)
                if index not in zero:
                    waiting += [root[source] for source in ops[index].inputs]
                    waiting += touched.get(index, ())
        order = sorted(needed)
        place = {index: position for position, index in enumerate(order)}
        moved = [place.get(index, 0) for index in root]
        running = [
            _constant(ops[index])
            if index in zero
            else reading(ops[index], tuple([moved[it] for it in ops[index].inputs]))
            for index in order
        ]
        return tuple(running), tuple(place[index] for index in roots)


def _constant(op: Op) -> Op:
    """Return zeros in place of an operator: they read nothing, but an operator has to read something."""
    return op._replace(
        kind="zero",
        inputs=(0,),
        weight_bits=32,
        weight_format="",
        bias=False,
        sparsity=0.0,
        pattern="",
        shared_bits=0,
    )
