"""Rows of a new table, for a network that was trained on another one: they need no label."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.shared.doubts import UNNAMED
from nas.data.shared.table import Table
from nas.data.shared.tables import named
from nas.data.shared.tables import numbers_of
from nas.preprocessing.cells import numbers
from nas.preprocessing.columns import Column
from nas.preprocessing.columns import encoded
from nas.preprocessing.columns import unknown_levels
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import NewRecords
from nas.records import Source


def new_rows(source: Source, behind: Preprocessing, table: Table) -> NewRecords:
    """Return the rows of a table as the features that a network was trained on.

    Args:
        source: What was asked for; its label column and its group column are no features.
        behind: What the network was trained behind.
        table: The file.

    Raises:
        ValueError: If a column is missing, or a cell is not what its column holds.
    """
    cells = {name: table.frame[name] for name in table.frame.columns}
    labels, notes = _labels(cells, source.label_column, behind)
    if behind.columns:
        features: NDArray[Any] = encoded(behind.columns, cells, table.place)
        notes += [*unknown_levels(behind.columns, cells), *_newly_missing(behind.columns, cells)]
    else:
        features = _arranged(source, behind, table)
    places = tuple(str(row + 1) for row in range(len(table.frame)))
    return NewRecords(features, places, labels, (*table.notes, *notes))


def _newly_missing(columns: Sequence[Column], cells: Mapping[str, Any]) -> list[str]:
    """Say which numbers are missing though none was when the network was trained: it has no feature that tells."""
    said = []
    for column in columns:
        if column.kind == "number" and not column.indicator:
            missing = int(np.isnan(numbers(cells[column.name])[0]).sum())
            said += [f"{missing} cells of column {column.name!r} are missing and count as the mean"] if missing else []
    return said


def _labels(cells: Mapping[str, Any], column: str, behind: Preprocessing) -> tuple[tuple[str, ...] | None, list[str]]:
    """Return each row's class as training reads it, or say why there is none."""
    if column not in cells:
        others = [name for name in cells if name not in {one.name for one in behind.columns}]
        likely = [name for name in others if set(named(cells[name])[1]) <= set(behind.classes)]
        return None, [
            f"column {name!r} holds the network's classes: --label-column {name} counts errors" for name in likely
        ]
    codes, names = named(cells[column])
    labels = tuple(names[code] for code in codes)
    if missing := labels.count(""):
        return None, [f"{missing} of {len(labels)} records have no value in column {column!r}: no error is counted"]
    return labels, []


def _arranged(source: Source, behind: Preprocessing, table: Table) -> NDArray[Any]:
    """Return rows of numbers as the images or signals that the network was trained on."""
    arrangement = behind.arrangement
    names = [name for name in table.frame.columns if name not in (source.label_column, source.group_column)]
    count = int(np.prod(arrangement.shape))
    if len(names) == count + 1 and UNNAMED.fullmatch(names[0]):
        names = names[1:]
    if len(names) != count:
        raise ValueError(
            f"expected {count} columns of numbers in {table.path}, beside {source.label_column!r}, for records of "
            f"shape {arrangement.input_shape}; got {len(names)}"
        )
    features, are_pixels = numbers_of(table.frame, names, table.place)
    if behind.pixels and not are_pixels:
        raise ValueError(f"expected pixels, whole numbers from 0 to 255, in {table.path}; got other numbers")
    records = features.astype(np.uint8) if behind.pixels else features
    return arrangement.apply(records.reshape(len(records), *arrangement.shape))
