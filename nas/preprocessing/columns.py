"""Columns of a table: how the cells of each become numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

KINDS = ("number", "category")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, and the features that it becomes.

    Attributes:
        name: Its name in the file.
        kind: One of `KINDS`. A number is one feature; a category has one feature of 0 or 1 for each level.
        levels: Of a category: its levels, in the order of their features.
        origin: Of a number: what is subtracted before anything else, so that a large offset costs no digits.
        fill: Of a number: what a missing cell counts as, on the scale of `origin`; None while the members that decide
            it are not chosen, and where no cell may be missing.
        indicator: Whether one more feature tells, by 1, that the cell is missing.
    """

    name: str
    kind: str = "number"
    levels: tuple[str, ...] = ()
    origin: float = 0.0
    fill: float | None = None
    indicator: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Name of each feature.

        >>> Column("colour", "category", ("blue", "red")).features, Column("age", indicator=True).features
        (('colour=blue', 'colour=red'), ('age', 'age is missing'))
        """
        own = (self.name,) if self.kind == "number" else tuple(f"{self.name}={level}" for level in self.levels)
        return (*own, f"{self.name} is missing") if self.indicator else own


def filled(columns: Sequence[Column], means: NDArray[np.floating], missing: NDArray[np.bool_]) -> tuple[Column, ...]:
    """Return the columns with what their missing cells count as: the mean of the members.

    Args:
        columns: The columns.
        means: `(features,)`, on the scale of the columns' origins.
        missing: `(features,)`, whether any record lacks it.
    """
    done, place = [], 0
    for column in columns:
        fill = float(means[place]) if column.kind == "number" and missing[place] else None
        done.append(replace(column, fill=fill))
        place += len(column.features)
    return tuple(done)
