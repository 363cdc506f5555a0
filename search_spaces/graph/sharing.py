"""Tensors that networks of one space have in common: under which name, and how large each network needs them.

Layers of two networks that stand at the same place have one name (`layer_names` of a space's file). A network takes the
first channels of a shared tensor and the middle of its windows, so one that is as large as the largest network needs it
serves all of them (Cai et al., 2020, "Once-for-All"; Yu et al., 2020, "BigNAS").
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Shape
from search_spaces.graph.operators import WEIGHTED

LayerNames: TypeAlias = Callable[[Architecture], tuple[str, ...]]
"""Names the operators with weights of a network, in their order: equal names in two networks share their tensors."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a network takes of a shared tensor.

    Attributes:
        name: Name of the shared tensor.
        shape: Of the part: the first channels, the middle of the window.
    """

    name: str
    shape: Shape


def shares_of(architecture: Architecture, layer_names: LayerNames) -> dict[str, Share]:
    """Return what a network takes, by the names of its own tensors (`search_spaces.network.Network`).

    These are weights and biases of its layers, and of the norms behind them.

    Args:
        architecture: The network.
        layer_names: Names its layers.

    Raises:
        ValueError: If there is not one name for each layer with weights.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((4,))
    >>> logits = graph.linear(0, 3)
    >>> shares_of(graph.architecture("example", {}), lambda network: ("classifier",))
    {'op1_linear.weight': Share(name='classifier.weight', shape=(3, 4))}
    """
    ops = architecture.ops
    weighted = [index for index, op in enumerate(ops) if op.kind in WEIGHTED]
    names = dict(zip(weighted, layer_names(architecture), strict=True))
    found = {}
    for index, op in enumerate(ops):
        if index in names:
            source = ops[op.inputs[0]].shape[0]
            read = 1 if op.kind == "depthwise" else source // op.groups
            window = () if op.kind == "linear" else op.kernel
            found[f"op{index}_{op.kind}.weight"] = Share(f"{names[index]}.weight", (op.shape[0], read, *window))
            if op.bias:
                found[f"op{index}_{op.kind}.bias"] = Share(f"{names[index]}.bias", (op.shape[0],))
        elif op.kind == "norm":
            for part in ("weight", "bias"):
                found[f"op{index}_norm.{part}"] = Share(f"{names[op.inputs[0]]}.norm.{part}", (op.shape[0],))
    return found


def together(networks: Iterable[Mapping[str, Share]]) -> dict[str, Shape]:
    """Return the shared tensors that serve all of some networks: each as large as the largest part of it.

    >>> together([{"a": Share("one", (8, 3))}, {"b": Share("one", (4, 5)), "c": Share("two", (2,))}])
    {'one': (8, 5), 'two': (2,)}
    """
    found: dict[str, Shape] = {}
    for shares in networks:
        for share in shares.values():
            before = found.get(share.name, share.shape)
            found[share.name] = tuple(map(max, before, share.shape))
    return found


def is_covered(shares: Mapping[str, Share], shapes: Mapping[str, Shape]) -> bool:
    """Tell whether shared tensors of some shapes, by name, hold all that a network takes."""
    return all(share.name in shapes and _fits(share.shape, shapes[share.name]) for share in shares.values())


def part_of(whole: Shape, part: Shape) -> tuple[slice, ...]:
    """Return where a part lies in a shared tensor: the first of two axes of channels, the middle of a window.

    Args:
        whole: Shape of the shared tensor.
        part: Shape of the part, no larger.

    >>> part_of((8, 4, 5, 5), (6, 4, 3, 5))
    (slice(0, 6, None), slice(0, 4, None), slice(1, 4, None), slice(0, 5, None))
    """
    starts = [0 if axis < 2 else (whole[axis] - part[axis]) // 2 for axis in range(len(whole))]
    return tuple(slice(start, start + length) for start, length in zip(starts, part, strict=True))


def _fits(part: Sequence[int], whole: Sequence[int]) -> bool:
    return len(part) == len(whole) and all(one <= other for one, other in zip(part, whole, strict=True))
