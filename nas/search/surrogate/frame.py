"""Features of candidates as rows of numbers that a process can measure distances between."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from nas.search.surrogate.known import Known
from nas.search.surrogate.known import columns_of

Numbers = NDArray[np.float64]
ROWS_KEPT = 12_000
"""Candidates whose features are kept as a row of numbers, some 700 bytes each; then all are made anew."""


@dataclass(frozen=True, eq=False)
class Frame:
    """How features become columns of numbers of one spread.

    Attributes:
        columns: Group and name of each.
        groups: `(columns,)`: the number of the group of each.
        centre: `(columns,)`: means over the pool.
        spread: `(columns,)`: standard deviations over the pool, times the root of the group's size.
        made: Rows that were made before, by the identity of what they are of, which is kept with them.
    """

    columns: list[tuple[str, str]]
    groups: NDArray[np.intp]
    centre: Numbers
    spread: Numbers
    made: dict[int, tuple[Known, Numbers]] = field(default_factory=dict)

    def rows(self, known: Sequence[Known]) -> Numbers:
        """Return `(candidates, columns)`."""
        if missing := [one for one in known if id(one) not in self.made]:
            if len(self.made) > ROWS_KEPT:
                self.made.clear()
                missing = list(known)
            rows = (_rows(self.columns, missing) - self.centre) / self.spread
            self.made.update((id(one), (one, row)) for one, row in zip(missing, rows, strict=True))
        return np.array([self.made[id(one)][1] for one in known]).reshape(len(known), len(self.columns))


def frame_of(known: Sequence[Known]) -> Frame:
    """Return the frame of a pool: the features that vary in it, centred and scaled."""
    columns = columns_of(known)
    rows = _rows(columns, known)
    varied = np.flatnonzero(rows.std(axis=0) > 1e-9)
    columns, rows = [columns[index] for index in varied], rows[:, varied]
    _, groups, sizes = np.unique([group for group, _ in columns], return_inverse=True, return_counts=True)
    return Frame(columns, groups, rows.mean(axis=0), rows.std(axis=0) * np.sqrt(sizes[groups]))


def _rows(columns: Sequence[tuple[str, str]], known: Sequence[Known]) -> Numbers:
    none: Mapping[str, float] = {}
    values = [[one.groups.get(group, none).get(name, 0.0) for group, name in columns] for one in known]
    return np.array(values, dtype=float).reshape(len(known), len(columns))
