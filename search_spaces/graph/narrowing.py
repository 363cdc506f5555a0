"""The graph with fewer channels: which channels have to go together, and what is left of each operator.

A layer's output channels can be removed if everything that reads them can do without: an addition takes the same
channels out of both its inputs, a depthwise convolution has one filter for each channel it reads, a concatenation puts
channels behind each other, and a flattened map has a feature for each position of a channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive features of a tensor that come from the channels of one group.

    Attributes:
        group: Number of the group of channels that are removed together.
        repeat: Features for each channel: 1, or the positions of a flattened map.
    """

    group: int
    repeat: int = 1


Layout: TypeAlias = tuple[Segment, ...]


@dataclass(frozen=True)
class Channels:
    """Whose channels go together in a network.

    Attributes:
        layouts: For each operator, of what groups its output is made.
        widths: Channels of each group.
        fixed: Groups that keep all channels: records, logits, what grouped convolutions read and write.
    """

    layouts: tuple[Layout, ...]
    widths: tuple[int, ...]
    fixed: frozenset[int]

    def width_of(self, index: int, widths: tuple[int, ...]) -> int:
        """Return the features of an operator's output where the groups have other widths."""
        return sum(widths[segment.group] * segment.repeat for segment in self.layouts[index])


def channels_of(architecture: Architecture) -> Channels:
    """Find the groups of channels that have to be removed together.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((3, 4, 4))
    >>> x = graph.conv(0, 8)
    >>> x = graph.add(x, graph.conv(x, 8))
    >>> logits = graph.linear(graph.flatten(x), 10)
    >>> found = channels_of(graph.architecture("example", {}))
    >>> found.layouts[1] == found.layouts[2], found.layouts[4]
    (True, (Segment(group=1, repeat=16),))
    """
    groups = _Groups()
    layouts: list[Layout] = []
    for op in architecture.ops:
        layouts.append(_layout(op, [layouts[source] for source in op.inputs], architecture, groups))
    for index in architecture.outputs:
        groups.fix(layouts[index])
    numbers = {root: number for number, root in enumerate(dict.fromkeys(map(groups.find, range(len(groups.parents)))))}
    widths = tuple(groups.widths[root] for root in numbers)
    fixed = frozenset(numbers[groups.find(group)] for group in groups.fixed)
    renamed = tuple(
        tuple(Segment(numbers[groups.find(segment.group)], segment.repeat) for segment in layout) for layout in layouts
    )
    return Channels(renamed, widths, fixed)


def narrowed(architecture: Architecture, kept: float) -> Architecture:
    """Return the network with a share of the channels of each layer; operators note how many they had.

    Args:
        architecture: The network in its full width.
        kept: Share of each group's channels that stay, rounded to a whole number, one at least.
    """
    if kept == 1:
        return architecture
    channels = channels_of(architecture)
    widths = tuple(
        width if group in channels.fixed else max(1, round(kept * width)) for group, width in enumerate(channels.widths)
    )
    return architecture.with_ops(
        tuple(_with_channels(op, channels.width_of(index, widths)) for index, op in enumerate(architecture.ops))
    )


def widened(architecture: Architecture) -> Architecture:
    """Return the network with all the channels that were removed."""
    if not any(op.pruned_from for op in architecture.ops):
        return architecture
    return architecture.with_ops(
        tuple(
            op._replace(shape=(op.pruned_from, *op.shape[1:]), pruned_from=0) if op.pruned_from else op
            for op in architecture.ops
        )
    )


def _with_channels(op: Op, count: int) -> Op:
    return op if count == op.shape[0] else op._replace(shape=(count, *op.shape[1:]), pruned_from=op.shape[0])


class _Groups:
    """Groups of channels that are joined as their network is read."""

    def __init__(self) -> None:
        self.parents: list[int] = []
        self.widths: list[int] = []
        self.fixed: set[int] = set()

    def new(self, width: int) -> int:
        self.parents.append(len(self.parents))
        self.widths.append(width)
        return len(self.parents) - 1

    def find(self, group: int) -> int:
        while self.parents[group] != group:
            group = self.parents[group]
        return group

    def join(self, first: Layout, second: Layout) -> None:
        """Have two tensors of equal shape lose the same channels; where they are cut up differently, none."""
        if [(self.widths[self.find(s.group)], s.repeat) for s in first] != [
            (self.widths[self.find(s.group)], s.repeat) for s in second
        ]:
            self.fix(first)
            self.fix(second)
            return
        for one, other in zip(first, second, strict=True):
            roots = sorted({self.find(one.group), self.find(other.group)})
            self.parents[roots[-1]] = roots[0]

    def fix(self, layout: Layout) -> None:
        self.fixed.update(segment.group for segment in layout)


def _layout(op: Op, sources: list[Layout], architecture: Architecture, groups: _Groups) -> Layout:
    if op.kind == "input" or (op.kind == "conv" and op.groups > 1):
        made = (Segment(groups.new(op.shape[0])),)
        for layout in (made, *sources):
            groups.fix(layout)
        return made
    if op.kind in ("conv", "linear"):
        return (Segment(groups.new(op.shape[0])),)
    if op.kind == "concat":
        return tuple(segment for layout in sources for segment in layout)
    if op.kind == "flatten":
        positions = op.size // architecture.ops[op.inputs[0]].shape[0]
        return tuple(Segment(segment.group, segment.repeat * positions) for segment in sources[0])
    for other in sources[1:]:  # an addition, a product
        groups.join(sources[0], other)
    return sources[0]
