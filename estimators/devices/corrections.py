"""Learned corrections of a cycle model: trees kept as data, for whole networks or kernel by kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from functools import partial
from typing import Annotated
from typing import Any

from annotated_types import MinLen
from pydantic import AfterValidator
from pydantic import PlainValidator
from pydantic.dataclasses import dataclass

from estimators.devices.fields import STRICT
from estimators.devices.fields import only
from estimators.devices.kernel_features import FEATURES
from estimators.devices.trees import Tree
from estimators.devices.trees import check_trees
from estimators.devices.trees import read_tree
from estimators.devices.trees import sum_of
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.operators import MAC_KINDS

_COLUMNS = frozenset(f"cycles_per_mac.{kind}" for kind in MAC_KINDS) | frozenset(
    f"{table}.{kind}" for table in ("cycles_per_element", "cycles_per_kernel") for kind in KERNEL_KINDS
)

FACTORS_KEPT = 50_000
"""Kernels whose factor is kept, half a KiB each: a long search meets more."""


@dataclass(frozen=True, config=STRICT)
class Residual:
    """What the sum over kernels misses: a network's time is multiplied by `exp` of the sum of the trees.

    Attributes:
        columns: The counts that the trees look at, by the table and type whose coefficient each is multiplied by:
            `cycles_per_mac.conv` is MACs of convolutions, `cycles_per_kernel.add` the number of additions.
        trees: Each a number, or `[column, threshold, tree if at most, tree if above]`, columns counted from 0.

    Raises:
        ValueError: If a tree looks at a column there is none of.
    """

    columns: Annotated[tuple[str, ...], MinLen(1), AfterValidator(partial(only, known=_COLUMNS))]
    trees: Annotated[tuple[Annotated[Any, PlainValidator(read_tree)], ...], MinLen(1)]

    def __post_init__(self) -> None:
        check_trees(self.trees, len(self.columns))


@dataclass(frozen=True, config=STRICT)
class KernelTrees:
    """What counts miss of a single kernel: its cycles are multiplied by `exp` of the sum of the trees of its type.

    Attributes:
        features: What the trees look at, out of `estimators.devices.kernel_features.FEATURES`.
        trees: By type: each a number, or `[feature, threshold, tree if at most, tree if above]`, counted from 0.

    Raises:
        ValueError: If a tree looks at a feature there is none of.
    """

    features: Annotated[tuple[str, ...], MinLen(1), AfterValidator(partial(only, known=frozenset(FEATURES)))]
    trees: Annotated[
        Mapping[str, tuple[Annotated[Any, PlainValidator(read_tree)], ...]],
        AfterValidator(partial(only, known=KERNEL_KINDS)),
    ]

    def __post_init__(self) -> None:
        for trees in self.trees.values():
            check_trees(trees, len(self.features))

    @cached_property
    def _columns(self) -> tuple[int, ...]:
        return tuple(FEATURES.index(name) for name in self.features)

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[float, ...]], float]:
        return {}

    def factor(self, kind: str, features: tuple[float, ...]) -> float:
        """Return the factor of a kernel with these `FEATURES`; a type without trees keeps its cycles."""
        # A search meets the same kernels over and over.
        factor = self._known.get((kind, features))
        if factor is None:
            values = [features[column] for column in self._columns]
            trees: tuple[Tree, ...] = self.trees.get(kind, ())
            if len(self._known) >= FACTORS_KEPT:
                self._known.clear()
            factor = self._known[kind, features] = math.exp(sum_of(trees, values))
        return factor
