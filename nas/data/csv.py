"""Any CSV with a header, numeric columns and a column with the class; if need be a column with the group."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from nas.base.labels import classes_of
from nas.base.reading import FLOAT32_MAX
from nas.base.reading import check_commas
from nas.base.reading import existing
from nas.base.reading import unreadable
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True


def load(source: Source) -> Records:
    """Load a CSV: features `(records, columns)`, every column but the label and the group.

    The label may be text; the classes are those that occur (`nas.base.labels`). Text and missing values in other
    columns are refused: what they should count as is not for a loader to guess.

    Raises:
        ValueError: If the file is missing or no CSV, has no such column, its labels are no classes, or a value is no
            finite number; the message names the column, the row (the first record is row 1) and the value.
    """
    path = existing(source.path, "a CSV file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            features, labels, groups = _read(stream, source, path)
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, "a CSV file", error) from None
    if not labels or not features.shape[1]:
        raise ValueError(f"expected records with numeric columns in {path}; got {features.shape}")
    try:
        numbered, classes = classes_of(labels, "labels")
        return Records(
            features=features.astype(np.float32),
            labels=numbered,
            classes=classes,
            groups=_numbered(groups, sorted(set(groups))) if source.group_column is not None else None,
        )
    except ValueError as error:
        raise ValueError(f"{error} (column {source.label_column!r} of {path})") from None


def _read(stream: TextIO, source: Source, path: Path) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Read the numbers `(records, columns)`, the labels and the groups."""
    reader = csv.reader(stream, strict=True)
    header = next(reader, [])
    check_commas(header, path)
    label = _position(header, source.label_column, path)
    group = label if source.group_column is None else _position(header, source.group_column, path)
    columns = [name for place, name in enumerate(header) if place not in (label, group)]
    values, labels, groups = array("d"), list[str](), list[str]()
    for row in filter(None, reader):
        where = f"in row {len(labels) + 1} (line {reader.line_num}) of {path}"
        if len(row) != len(header):
            raise ValueError(f"expected {len(header)} values {where}; got {len(row)}")
        labels.append(_text(row[label], header[label], where))
        groups.append(_text(row[group], header[group], where))
        for place in sorted({label, group}, reverse=True):
            del row[place]
        values.extend(_numbers(row, columns, where))
    return np.array(values).reshape(len(labels), len(columns)), labels, groups


def _position(header: Sequence[str], column: str, path: Path) -> int:
    if header.count(column) != 1:
        found = "there are several" if column in header else f"there are {list(header)[:20]}"
        raise ValueError(f"expected one column {column!r} in {path}; {found}")
    return header.index(column)


def _text(value: str, column: str, where: str) -> str:
    value = value.strip()
    if not value:
        raise ValueError(f"expected a value in column {column!r} {where}; it is missing")
    return value


def _numbers(row: Sequence[str], columns: Sequence[str], where: str) -> list[float]:
    try:
        numbers = list(map(float, row))
        # NaN and infinity carry through a sum: one comparison for the row.
        if abs(sum(numbers)) <= FLOAT32_MAX:
            return numbers
    except ValueError:
        pass
    return [_number(value, column, where) for value, column in zip(row, columns, strict=True)]


def _number(value: str, column: str, where: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not abs(number) <= FLOAT32_MAX:
        got = repr(value[:40]) if value.strip() else "a missing value"
        raise ValueError(f"expected a finite number in column {column!r} {where}; got {got}")
    return number


def _numbered(values: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[value] for value in values], dtype=np.int64)
