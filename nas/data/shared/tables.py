"""Make records of the tables of one or two files: labels, groups, features, and what is said about them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.base import sizes
from nas.base.labels import classes_of
from nas.base.labels import groups_of
from nas.base.reading import FLOAT32_MAX
from nas.data.shared.doubts import UNNAMED
from nas.data.shared.doubts import Values
from nas.data.shared.doubts import doubts
from nas.data.shared.kinds import Findings
from nas.data.shared.kinds import column_of
from nas.data.shared.kinds import sentences
from nas.data.shared.layouts import refuse_options
from nas.data.shared.table import Table
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.cells import NO_VALUE
from nas.preprocessing.cells import as_text
from nas.preprocessing.cells import dates
from nas.preprocessing.cells import numbers
from nas.preprocessing.cells import texts
from nas.preprocessing.columns import Column
from nas.preprocessing.columns import encoded
from nas.preprocessing.columns import listed
from nas.preprocessing.preprocessing import PIXEL
from nas.records import LAYOUTS
from nas.records import Records
from nas.records import Source

PIXELS = re.compile(r"(pixel|px|p)?_?\d+([x_]\d+)?", re.IGNORECASE)
"""How columns with the pixels of an image are called."""
IMAGES = {64: "1,8,8", 256: "1,16,16", 784: "1,28,28", 1024: "1,32,32", 3072: "3,32,32", 2352: "3,28,28"}
"""Shapes of usual images, by how many numbers they have."""
WHOLE = re.compile(r"-?\d+\.0+")
"""A whole number with a point."""
FEW = 5
"""Where less than one record in so many is different, columns are too few to tell which records were written twice."""

Read = Callable[[Path | None], Table]


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of one file, or of two under each other.

    Attributes:
        frame: Their cells.
        names: Columns to learn from.
        held_out: `(records,)`, whether a row is of the second file.
        place: Says where the record of an index is to be found.
        source: What was asked for.
    """

    frame: pd.DataFrame
    names: tuple[str, ...]
    held_out: NDArray[np.bool_]
    place: Callable[[int], str]
    source: Source


def load_tables(source: Source, read: Read) -> Records:
    """Load records out of a table, and if need be out of a second one with the official test part.

    Args:
        source: What to read.
        read: Reads one file.

    Raises:
        ValueError: If a file cannot be read, lacks a column, or a cell is not what its column holds.
    """
    refuse_options(source, "image_size", *(["layout"] if source.record_shape is None else []))
    tables = [read(source.path), *([read(source.test_path)] if source.test_path is not None else [])]
    rows = _joined(tables, source)
    labels, classes, dotted = _labels(rows)
    notes = [note for table in tables for note in table.notes] + dotted
    counts = [len(table.frame) for table in tables]
    common: dict[str, Any] = {
        "labels": labels,
        "classes": classes,
        "groups": None if source.group_column is None else _groups(rows, source.group_column),
        "held_out": rows.held_out if len(tables) > 1 else None,
        "rows": np.concatenate([np.arange(1, count + 1) for count in counts]),
        "names": np.repeat([table.path.name for table in tables], counts) if len(tables) > 1 else None,
    }
    if source.record_shape is not None:
        features, arrangement = _reshaped(rows)
        common |= {"features": features, "arrangement": arrangement}
    else:
        columns, telling, said = _columns(rows, labels, classes)
        features = encoded(columns, rows.frame, rows.place)
        copies, more = _copies(columns, features, telling)
        notes += [*said, *more]
        common |= {"features": features, "columns": columns, "copies": copies}
    try:
        return Records(**common, notes=tuple(notes))
    except ValueError as error:
        raise ValueError(f"{error} (column {source.label_column!r} of {source.path})") from None


def _joined(tables: Sequence[Table], source: Source) -> _Rows:
    first = tables[0]
    for table in tables:
        table.check_column(source.label_column, "--label-column")
        if source.group_column is not None:
            table.check_column(source.group_column)
    for name in source.drop_columns:
        first.check_column(name)
    other = {source.label_column, source.group_column, *source.drop_columns}
    names = tuple(name for name in first.frame.columns if name not in other)
    for table, name in product(tables[1:], names):
        table.check_column(name)
    if not len(first.frame) or not names:
        raise ValueError(
            f"expected records with columns beside the label in {first.path}; got {len(first.frame)} records and "
            f"{len(names)} such columns"
        )
    kept = [*names, *dict.fromkeys(name for name in (source.label_column, source.group_column) if name is not None)]
    frames = [table.frame[kept] for table in tables]
    frame = pd.concat(frames, ignore_index=True) if len(tables) > 1 else frames[0]
    held_out = np.arange(len(frame)) >= len(first.frame)
    return _Rows(frame, names, held_out, lambda row: _place(tables, row), source)


def _place(tables: Sequence[Table], row: int) -> str:
    for table in tables[:-1]:
        if row < len(table.frame):
            return table.place(row)
        row -= len(table.frame)
    return tables[-1].place(row)


def named(cells: pd.Series[Any]) -> tuple[NDArray[np.intp], list[str]]:
    """Return the cells of a label or a group as texts: `(records,)` indices into those that occur, and those.

    A missing cell, or one of `NO_VALUE`, is an empty text; but a class may be called `None`. Whole numbers are written
    without a point, so that 1 and 1.0 are one class.
    """
    codes, values = pd.factorize(cells, use_na_sentinel=False)
    found = ["" if pd.isna(value) else _name(value) for value in values]
    found = ["" if text in NO_VALUE and text != "None" else text for text in found]
    return codes, [text.partition(".")[0] if WHOLE.fullmatch(text) else text for text in found]


def _known(rows: _Rows, name: str) -> NDArray[np.str_]:
    """Return the texts of a column of which no cell may be missing, the label or the group."""
    codes, found = named(rows.frame[name])
    if "" in found:
        empty = np.flatnonzero([value == "" for value in found])
        row = int(np.argmax(np.isin(codes, empty)))
        raise ValueError(f"expected a value in column {name!r} in {rows.place(row)}; it is missing")
    return np.asarray(np.array(found)[codes])


def _name(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _labels(rows: _Rows) -> tuple[NDArray[np.int64], tuple[str, ...], list[str]]:
    """Return the labels, the classes, and what was done to them."""
    name, notes = rows.source.label_column, []
    values = _known(rows, name)
    dotted = {f"{value}." for value in np.unique(values[~rows.held_out]).tolist()}
    if rows.held_out.any() and set(np.unique(values[rows.held_out]).tolist()) <= dotted:  # as UCI ships adult.test
        values[rows.held_out] = np.char.rstrip(values[rows.held_out], ".")
        notes.append("the labels of the test part end in a dot, which is taken off")
    labels, classes = classes_of(values, f"column {name!r} of {rows.source.path}")
    if len(classes) < 2:
        raise ValueError(
            f"expected records of at least two classes; all {len(labels)} are of class {classes[0]!r} "
            f"(column {name!r} of {rows.source.path})"
        )
    return labels, classes, notes


def _groups(rows: _Rows, name: str) -> NDArray[np.int64]:
    return groups_of(_known(rows, name), f"column {name!r}")


def _columns(
    rows: _Rows, labels: NDArray[np.int64], classes: Sequence[str]
) -> tuple[tuple[Column, ...], tuple[str, ...], list[str]]:
    """Decide which columns there are to learn from; return them, those that tell records apart, and what was found."""
    findings, frame = Findings(), rows.frame
    found = [
        column for name in rows.names if (column := column_of(name, frame[name], rows.place, findings)) is not None
    ]
    asked = ~rows.held_out
    values = {column.name: _values(column, frame[column.name][asked]) for column in found}
    asking = doubts(values, labels[asked], classes, rows.source.label_column)
    columns = tuple(column for column in found if column.name not in asking.left_out)
    notes = [*sentences(findings, len(frame), asking.left_out), *asking.notes, *_image(rows)]
    if not columns:
        raise ValueError(f"expected a column to learn from in {rows.source.path}: {'; '.join(notes)}")
    width = sum(len(column.features) for column in columns)
    if width > sizes.MOST_INPUTS:
        raise ValueError(f"expected at most {sizes.MOST_INPUTS:,} features of {rows.source.path}; got {width:,}")
    sizes.check_memory(len(frame) * width * 8, f"{rows.source.path} with {width} features")
    return columns, asking.telling, notes


def _values(column: Column, cells: pd.Series[Any]) -> Values:
    if column.kind == "number":
        return Values(numbers(cells)[0], ordered=True)
    if column.kind == "date":
        return Values(dates(cells, column.date_format)[0], ordered=True, is_time=True)
    if column.kind == "boolean":
        return Values(encoded([column], {column.name: cells})[:, 0], ordered=False)
    codes, found = texts(cells)
    return Values(
        np.array([np.nan if text is None else place for place, text in enumerate(found)])[codes], ordered=False
    )


def _copies(
    columns: Sequence[Column], features: NDArray[np.float64], telling: Sequence[str]
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Number records that differ in nothing but the columns that tell records apart, and say how many are copies."""
    kept = np.repeat([column.name not in telling for column in columns], [len(one.features) for one in columns])
    if kept.all() or not kept.any():
        return None, []
    first: dict[bytes, int] = {}
    rows = (hashlib.blake2b((row[kept] + 0).tobytes(), digest_size=16).digest() for row in features)
    copies = np.array([first.setdefault(digest, row) for row, digest in enumerate(rows)])
    if len(first) * FEW < len(features):  # too little is left to tell records apart by
        return None, []
    more = len(features) - len(first)
    said = f"{more} records equal an earlier one but for {listed(telling)}: such stay together in one set"
    return copies, [said] if more else []


def _image(rows: _Rows) -> list[str]:
    """Suggest to read the columns as an image, where they are called like pixels."""
    shape = IMAGES.get(len(rows.names))
    if shape is None or not all(PIXELS.fullmatch(name) for name in rows.names):
        return []
    return [f"the {len(rows.names)} columns are called like pixels: --record-shape {shape} reads them as images"]


def _reshaped(rows: _Rows) -> tuple[NDArray[Any], Arrangement]:
    """Return the numbers of each row as an image or a signal, and how they lie in the row."""
    source, names, shape = rows.source, rows.names, rows.source.record_shape or ()
    if len(names) == prod(shape) + 1 and UNNAMED.fullmatch(names[0]):
        names = names[1:]
    count = len(names)
    if len(shape) not in (2, 3):
        raise ValueError(f"expected --record-shape CHANNELS,HEIGHT,WIDTH or CHANNELS,TIME; got {shape}")
    if prod(shape) != count:
        raise ValueError(f"expected {prod(shape)} columns for records of shape {shape} in {source.path}; got {count}")
    features, are_pixels = numbers_of(rows.frame, names, rows.place)
    whole = are_pixels and len(shape) == 3
    network = shape if len(shape) == 3 else (shape[0], 1, shape[1])
    arrangement = Arrangement((count,), (0,), network)
    if source.layout == LAYOUTS[1]:  # channels stand behind the positions
        arrangement = Arrangement((*shape[1:], shape[0]), (len(shape) - 1, *range(len(shape) - 1)), network)
    records = features.astype(np.uint8) if whole else features
    return arrangement.apply(records.reshape(len(records), *arrangement.shape)), arrangement


def numbers_of(
    frame: pd.DataFrame, names: Sequence[str], place: Callable[[int], str]
) -> tuple[NDArray[np.float32], bool]:
    """Return columns of numbers, `(records, columns)`, and whether all are pixels, whole numbers from 0 to 255.

    Args:
        frame: The cells.
        names: The columns.
        place: Says where the record of an index is to be found.

    Raises:
        ValueError: If a cell is no finite number, or they do not fit into memory.
    """
    sizes.check_memory(len(frame) * len(names) * 4, "the table")
    are_pixels, features = True, np.empty((len(frame), len(names)), np.float32)
    for index, name in enumerate(names):
        values, _ = numbers(frame[name])
        strange = ~(np.abs(values) <= FLOAT32_MAX)
        if strange.any():
            row = int(np.argmax(strange))
            got = as_text(frame[name].iloc[row])
            shown = "a missing value" if got is None else repr(got[:40])
            raise ValueError(f"expected a finite number in column {name!r} in {place(row)}; got {shown}")
        are_pixels = are_pixels and bool(((values >= 0) & (values <= PIXEL) & (values == np.floor(values))).all())
        features[:, index] = values
    return features, are_pixels
