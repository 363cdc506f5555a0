"""Orders of execution and the memory that tensors take: the best order of a graph, and what each of its steps holds."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple
from typing import TypeAlias

from estimators.devices.device import WIDEST_INTEGER
from estimators.devices.device import Device
from estimators.devices.device import stored_width
from estimators.devices.fields import no_rule
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.operators import VIEW_KINDS

BYTES_PER_KIB = 1024
MOST_SETS = 5_000
"""A second or so."""

_State: TypeAlias = tuple[int, int, tuple[int, ...]]
"""The set of kernels that have run, the bytes then in use, and the order they ran in."""


class Moment(NamedTuple):
    """One step of a schedule.

    Attributes:
        kernel: Index into `architecture.kernels`.
        live: Bytes of all tensors in memory while it runs, the engine's own left out.
        kept: Bytes still in use once it has run.
    """

    kernel: int
    live: int
    kept: int


def best_order(architecture: Architecture, device: Device) -> tuple[tuple[int, ...], int]:
    """Find an order of `architecture.kernels` with the smallest peak, exactly.

    The graph is cut wherever one tensor alone is live, beside logits of early exits. Within a piece the order is a
    shortest path, in the bottleneck sense, over the sets of kernels that may have run (the sets that Liberis and Lane,
    2019, search backwards). A piece that stays below the largest single kernel, as it was written, is not searched. The
    search of a piece ends with the first order that stays below the pieces before, and a piece that repeats an earlier
    one, such as the cells of a network, takes its order. The worst case, many branches side by side, is exponential in
    their number. Where the device computes a type in place, an output takes the place of the largest input that this
    kernel is the last to need: of the two, the larger counts.

    A result that no kernel reads, such as the logits of an early exit, may be computed later than where it branches
    off, to be held for less long. That is searched over the whole graph, up to `MOST_SETS` sets: beyond, the peak may
    be too large by the bytes of such results.

    Returns:
        Indices into `architecture.kernels`, and the peak in bytes, without the engine's own memory.

    Raises:
        ValueError: If an operator has no rule, or the device stores no width wide enough.
    """
    memory = _memory_of(architecture, device)
    order, peak = _by_pieces(memory)
    if peak == memory.least or not _unread(memory):
        return order, peak
    # A result that no kernel reads may be computed in any piece. Leaving its kernels out needs no more memory: where
    # that needs as much, the pieces were right.
    without = _without_unread(architecture)
    if len(without.ops) < len(architecture.ops) and peak == best_order(without, device)[1]:
        return order, peak
    whole = _Piece(0, len(memory.kernels), memory.sizes[0], peak)
    return _Search.over(whole, memory).run(MOST_SETS) or (order, peak)


def _by_pieces(memory: _Memory) -> tuple[tuple[int, ...], int]:
    peak = memory.least
    order = list(range(len(memory.kernels)))
    searched: dict[_Search, tuple[tuple[int, ...], int]] = {}  # a network may repeat its cells
    for piece in memory.pieces:
        if piece.peak <= peak:
            continue
        best = piece.peak
        if not _is_forced(piece, memory):
            search = _Search.over(piece, memory)
            if search not in searched:
                searched[search] = search.run(enough=peak) or (tuple(range(piece.stop - piece.start)), best)
            steps, best = searched[search]
            order[piece.start : piece.stop] = [piece.start + step for step in steps]
        peak = max(peak, best)
    return tuple(order), peak


def _unread(memory: _Memory) -> bool:
    """Tell whether there is a result, beside the last output, that no kernel reads."""
    _, writes, last_read, _, last_output = memory.lives
    return any(last_read[tensor] == index and tensor != last_output for index, tensor in enumerate(writes))


def _without_unread(architecture: Architecture) -> Architecture:
    """Return the graph without what its last output does not depend on."""
    needed = {0, architecture.outputs[-1]}
    for index in range(len(architecture.ops) - 1, 0, -1):
        if index in needed:
            needed.update(architecture.ops[index].inputs)
    kept = sorted(needed)
    place = {index: position for position, index in enumerate(kept)}
    ops = [architecture.ops[index] for index in kept]
    ops = [op._replace(inputs=tuple(place[source] for source in op.inputs)) for op in ops]
    return architecture.with_ops(tuple(ops), tuple(place[index] for index in architecture.outputs if index in needed))


def schedule(architecture: Architecture, device: Device, order: Sequence[int] | None = None) -> tuple[Moment, ...]:
    """List what is in memory at each step of an order, by default the best one.

    Raises:
        ValueError: If the order is not one of the graph's, an operator has no rule, or the device stores no width wide
            enough.

    >>> from estimators.devices.files import load_device
    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((2, 10, 10), bits=8)
    >>> x = graph.conv(0, 3, weight_bits=8)
    >>> x = graph.linear(graph.flatten(graph.activation(x, bits=8)), 10, weight_bits=8)
    >>> schedule(graph.architecture("example", {}), load_device("stm32h747"))
    (Moment(kernel=0, live=500, kept=300), Moment(kernel=1, live=300, kept=300), Moment(kernel=2, live=340, kept=40))
    """
    memory = _memory_of(architecture, device)
    order = best_order(architecture, device)[0] if order is None else order
    steps = len(memory.kernels)
    if sorted(order) != list(range(steps)):
        raise ValueError(f"expected each of {steps} kernels once; got {list(order)}")
    if not steps:
        return ()
    search = _Search.over(_Piece(0, steps, memory.sizes[0], 0), memory)
    done, live, moments = 0, memory.sizes[0], []
    for step in order:
        if search.after[step] & ~done:
            raise ValueError(f"expected an order of the graph; got {list(order)}: kernel {step} comes too early")
        done |= 1 << step
        during, live = search.after_running(step, done, live)
        moments.append(Moment(step, during, live))
    return tuple(moments)


def tensor_bytes(elements: int, bits: int, device: Device) -> int:
    """Return the bytes of a tensor, at the narrowest width that the device stores and that holds it."""
    return (elements * stored_width(bits, device.activation_bits) + 7) // 8


def engine_kib(architecture: Architecture, peak: int, device: Device) -> float:
    """Return the memory that the engine needs beside a network's tensors, in KiB.

    Args:
        architecture: The network as it runs (`estimators.devices.device.deployed`).
        peak: Bytes of its tensors at the worst moment.
        device: The device.
    """
    memory = device.memory
    scratch = min(memory.scratch_kib, memory.scratch_per_tensor * peak / BYTES_PER_KIB)
    if scratch and all(kernel.input_bits > WIDEST_INTEGER for kernel in architecture.kernels if kernel.macs):
        scratch = 0.0
    return device.engine_ram_kib + memory.ram_kib_per_kernel * len(architecture.kernels) + scratch


class _Piece(NamedTuple):
    """Steps between two moments at which kernels wait for one tensor; `live` bytes before, `peak` bytes as listed."""

    start: int
    stop: int
    live: int
    peak: int


class _Lives(NamedTuple):
    """How long tensors live: a step is a kernel, a tensor is called by the operator that makes it.

    Attributes:
        reads: For each step, the tensors it reads, each once.
        writes: For each step, the tensor that holds its output; a view writes the one it looks at.
        last_read: The last step that reads or writes each tensor.
        last_use: The last step that needs each tensor. An output outlives all steps, that of an early exit too: engines
            keep every output until the inference ends (TensorFlow Lite Micro plans it so), and a caller reads it then.
        last_output: The tensor of the network's last output.
    """

    reads: list[tuple[int, ...]]
    writes: list[int]
    last_read: dict[int, int]
    last_use: dict[int, int]
    last_output: int


class _Memory(NamedTuple):
    """A network as an allocator sees it.

    Attributes:
        kernels: What runs in each step, as listed.
        lives: How long tensors live.
        takes: For each step, the bytes it newly takes, 0 for a view.
        in_place: Types of kernel whose output may lie where an input lay that nothing else needs.
        sizes: Bytes of each tensor.
        least: What one kernel reads and writes is live in any order: no peak is below this.
        pieces: The steps, cut wherever one tensor alone is live.
    """

    kernels: tuple[Kernel, ...]
    lives: _Lives
    takes: list[int]
    in_place: Collection[str]
    sizes: dict[int, int]
    least: int
    pieces: list[_Piece]


def _lives_of(architecture: Architecture, device: Device) -> _Lives:
    # Written for speed, as `_memory_of` is: pricing a network spends a third of its time in these two.
    constant = CONSTANT if device.prune_dead_ops else frozenset()
    looks_at: dict[int, int] = {}
    last_read = {0: 0}
    reads: list[tuple[int, ...]] = []
    writes: list[int] = []
    for index, kernel in enumerate(architecture.kernels):
        kind, inputs, written = kernel.kind, kernel.inputs, kernel.ops[-1]
        read: tuple[int, ...]
        if kind in constant:
            read = ()  # what pruning leaves of a zero is a constant: it waits in flash and reads nothing
        elif len(inputs) == 1:
            read = (looks_at.get(inputs[0], inputs[0]),)
        else:
            read = tuple({looks_at.get(source, source) for source in inputs})
        if kind in VIEW_KINDS:
            looks_at[written] = read[0]
            written = read[0]
        for tensor in read:
            last_read[tensor] = index
        last_read[written] = index
        reads.append(read)
        writes.append(written)
    results = [looks_at.get(output, output) for output in architecture.outputs]
    return _Lives(reads, writes, last_read, last_read | dict.fromkeys(results, len(reads)), results[-1])


def _taken(architecture: Architecture, lives: _Lives, device: Device) -> list[int]:
    """Return the bytes that each step newly takes."""
    takes = []
    widths: dict[int, int] = {}
    for kernel, read in zip(architecture.kernels, lives.reads, strict=True):
        kind = kernel.kind
        if not read or kind in VIEW_KINDS:
            takes.append(0)
        elif kind in KERNEL_KINDS:
            bits = kernel.output_bits
            width = widths.get(bits) or widths.setdefault(bits, stored_width(bits, device.activation_bits))
            takes.append((kernel.output_size * width + 7) // 8)
        else:
            raise no_rule(kind, "peak_ram_kib")
    return takes


def _memory_of(architecture: Architecture, device: Device) -> _Memory:
    first, kernels, in_place = architecture.ops[0], architecture.kernels, device.memory.in_place
    lives = _lives_of(architecture, device)
    takes, last_read, last_use = _taken(architecture, lives, device), lives.last_read, lives.last_use
    live = before = peak = least = tensor_bytes(first.size, first.bits, device)
    sizes, pieces, start, alive = {0: live}, [], 0, 1
    for index, (read, written, taken) in enumerate(zip(lives.reads, lives.writes, takes, strict=True)):
        during = live = live + taken
        held, largest, replaced = taken, 0, 0
        alive += taken > 0
        for tensor in read:
            size = sizes[tensor]
            held += size
            largest = size if size > largest else largest  # noqa: FURB136 - a call takes longer than all this
            if last_read[tensor] == index:
                alive -= size > 0
                if last_use[tensor] == index:  # no output, which stays although no kernel waits for it
                    live -= size
                    if size > replaced and tensor != written:
                        replaced = size
        if written not in sizes:
            sizes[written] = taken
            if last_read[written] == index:  # nobody reads it
                alive -= taken > 0
                live -= taken if last_use[written] == index else 0
        if kernels[index].kind in in_place:
            held -= min(taken, largest)
            during -= min(taken, replaced)
        least, peak = max(least, held), max(peak, during)
        if alive <= 1 or index == len(takes) - 1:
            pieces.append(_Piece(start, index + 1, before, peak))
            start, before, peak = index + 1, live, live
    return _Memory(kernels, lives, takes, in_place, sizes, least, pieces)


def _follows(step: int, makers: Mapping[int, int], memory: _Memory) -> set[int]:
    """Return the steps whose results a step reads, of those in `makers`: steps by the last operator of each."""
    return {makers[op] for op in memory.kernels[step].inputs if op in makers} if memory.lives.reads[step] else set()


def _is_forced(piece: _Piece, memory: _Memory) -> bool:
    """Tell whether each step reads the result of the one before: then there is one order, shortcuts or not."""
    kernels, reads = memory.kernels, memory.lives.reads
    steps = range(piece.start + 1, piece.stop)
    return all(kernels[index - 1].ops[-1] in kernels[index].inputs and reads[index] for index in steps)


@dataclass(frozen=True, slots=True)
class _Search:
    """The orders of a piece's steps; a set of steps is the bits of an integer, the piece's first step the lowest.

    Steps and tensors are counted from the piece's first, so that equal pieces of a network are equal here.

    Attributes:
        live: Bytes in use before it.
        after: For each step, the set of those whose results it reads.
        takes: For each step, the bytes it newly takes.
        writes: For each step, the tensor that holds its output.
        in_place: For each step, whether its output may lie where an input lay that nothing else needs.
        touched: For each step, the tensors that may become free when it has run.
        readers: For each of these tensors, the set of steps that must have run before it is free.
        sizes: Bytes of each tensor.
    """

    live: int
    after: tuple[int, ...]
    takes: tuple[int, ...]
    writes: tuple[int, ...]
    in_place: tuple[bool, ...]
    touched: tuple[frozenset[int], ...]
    readers: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def over(cls, piece: _Piece, memory: _Memory) -> _Search:
        steps = range(piece.start, piece.stop)
        reads, writes, _, last_use, _ = memory.lives
        touched = [(*reads[step], writes[step]) for step in steps]
        readers: dict[int, int] = {}
        for index, tensors in enumerate(touched):
            for tensor in tensors:
                readers[tensor] = readers.get(tensor, 0) | 1 << index
        for tensor in readers:
            if last_use[tensor] >= piece.stop:  # read after the piece: no set of its steps sets it free
                readers[tensor] |= 1 << len(steps)
        # What ran before the piece is done already.
        makers = {memory.kernels[step].ops[-1]: index for index, step in enumerate(steps)}
        place = {tensor: position for position, tensor in enumerate(readers)}
        return cls(
            live=piece.live,
            after=tuple([sum([1 << made for made in _follows(step, makers, memory)]) for step in steps]),
            takes=tuple(memory.takes[piece.start : piece.stop]),
            writes=tuple([place[writes[step]] for step in steps]),
            in_place=tuple([memory.kernels[step].kind in memory.in_place for step in steps]),
            touched=tuple([frozenset([place[tensor] for tensor in tensors]) for tensors in touched]),
            readers=tuple(readers.values()),
            sizes=tuple([memory.sizes[tensor] for tensor in readers]),
        )

    def run(self, most: int | None = None, enough: int = 0) -> tuple[tuple[int, ...], int] | None:
        """Return the best order of the steps, counted from the piece's first, and its peak in bytes.

        Args:
            most: Sets of steps to look at; None is returned if the order is not among them. Left out, all of them.
            enough: A peak that the network has anyway: the first order within it is taken.
        """
        complete = (1 << len(self.after)) - 1
        ties = count()
        expanded: set[int] = set()
        # Lowest peak first; among equals the set that is nearest to complete. The tie keeps states from being compared.
        queue: list[tuple[int, int, int, _State]] = [(max(self.live, enough), 0, next(ties), (0, self.live, ()))]
        while queue:
            peak, _, _, state = heapq.heappop(queue)
            done, live, order = self._run_free(state, peak)
            if done == complete:
                return order, peak
            if done in expanded:
                continue
            if len(expanded) == most:
                return None
            expanded.add(done)
            for step in self._ready(done):
                then = done | 1 << step
                during, kept = self.after_running(step, then, live)
                heapq.heappush(queue, (max(peak, during), -len(order), next(ties), (then, kept, (*order, step))))
        raise AssertionError("an acyclic graph has an order")

    def _run_free(self, state: _State, peak: int) -> _State:
        """Run every step that raises neither the peak nor the memory in use.

        That loses nothing: run later, it would free no less, and every step in between would have had more in use and
        fewer inputs to take the place of.
        """
        done, live, order = state
        found = True
        while found:
            found = False
            for step in self._ready(done):
                then = done | 1 << step
                during, kept = self.after_running(step, then, live)
                if kept <= live and during <= peak:
                    done, live, order, found = then, kept, (*order, step), True
        return done, live, order

    def _ready(self, done: int) -> Iterator[int]:
        for step, after in enumerate(self.after):
            if not done >> step & 1 and after & done == after:
                yield step

    def after_running(self, step: int, done: int, live: int) -> tuple[int, int]:
        """Bytes in use while `step`, the last of `done`, runs, and once it has run; `live` were before it."""
        takes, writes = self.takes[step], self.writes[step]
        freed = largest = 0
        for tensor in self.touched[step]:
            if not self.readers[tensor] & ~done:
                size = self.sizes[tensor]
                freed += size
                if size > largest and tensor != writes:
                    largest = size
        during = live + takes
        return during - min(takes, largest) if self.in_place[step] else during, during - freed
