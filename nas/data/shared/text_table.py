"""Read a table out of a text file: how its characters are coded, what divides its columns, whether it has a header."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from array import array
from collections.abc import Callable
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from nas.base import sizes
from nas.base.reading import existing
from nas.base.reading import read_bytes
from nas.base.reading import unreadable
from nas.data.shared.table import Table
from nas.data.shared.table import unique_names
from nas.preprocessing.cells import NO_VALUE
from nas.preprocessing.cells import as_number
from nas.preprocessing.cells import texts

EXPECTED = "a CSV file"
SEPARATORS = (",", "|", "\t", ";")  # of equals the last is taken: commas may be of decimals
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Bytes with which a text says how it is coded."""
OTHERS = {b"PAR1": "Parquet: --dataset parquet", b"PK\x03\x04": "a zip or a spreadsheet: save it as CSV"}
"""Bytes with which files of other kinds begin."""
SAMPLE = 50
"""Lines by which the separator and the header are told."""
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?")
MOST_GROWTH = 8
"""Bytes that a byte of a file may take while it is read: a number of two characters takes eight, beside its text."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where the rows of a text stand.

    Attributes:
        first: The first row.
        begin: Character at which it begins.
        end: Character behind it.
        lines: Line of each row's end, the first row's too.
    """

    first: list[str]
    begin: int
    end: int
    lines: array[int]


def read_text_table(path: Path | None, wanted: Collection[str], text: Collection[str]) -> Table:
    """Read a CSV file, whatever divides its columns, packed by gzip or not.

    Args:
        path: The file.
        wanted: Names that its header should have.
        text: Names of the columns that are texts even where they look like numbers.

    Raises:
        ValueError: If it cannot be read, or a row is longer or shorter than the first.
    """
    path = existing(path, EXPECTED)
    data = read_bytes(path, EXPECTED)
    content, notes = _decoded(data, path)
    sizes.check_memory(MOST_GROWTH * len(data), str(path))
    try:
        separator = _separator(content, wanted)
        rows = _rows(content, separator, path)
        if rows.first and rows.first[0].startswith("#"):
            rows.first[0] = rows.first[0].lstrip("# ")
        header = has_header(rows.first, wanted)
        names, twice = (
            unique_names(rows.first)
            if header
            else ([str(place + 1) for place in range(len(rows.first))], frozenset[str]())
        )
        frame = pd.DataFrame(columns=names)
        if len(rows.lines) > header:
            frame = _frame(
                content, rows.end if header else rows.begin, separator, names, [name for name in names if name in text]
            )
    except (csv.Error, OSError, pd.errors.ParserError, pd.errors.EmptyDataError, OverflowError) as error:
        raise unreadable(path, EXPECTED, error) from None
    if not header:
        notes += (f"{path.name} has no header: its columns are called '1' to '{len(names)}'",)
    if separator != ",":
        frame = _without_decimal_commas(frame, text)
    return Table(path, frame, _place(rows.lines[header:], path), twice, header, notes)


def has_header(first: list[str], wanted: Collection[str]) -> bool:
    """Tell whether the first row of a file names its columns.

    It does if it has a name that is wanted, and if it holds no number and no name twice. Numbers may be names only
    where they count the columns from 0 or 1.

    >>> has_header(["5.1", "3.5", "Iris-setosa"], ["label"]), has_header(["0", "1", "2", "y"], ["label"])
    (False, True)
    """
    given = [name.strip() for name in first]
    if any(name in given and as_number(name) is None for name in wanted):
        return True
    found = [number for name in given if (number := as_number(name.replace(",", "."))) is not None or name == "?"]
    if not found:
        return len(set(given)) == len(given)
    counted = [found[0] + place if found[0] is not None else None for place in range(len(found))]
    return len(found) > 2 and found[0] in (0, 1) and found == counted


def _decoded(data: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    for start, kind in OTHERS.items():
        if data.startswith(start):
            raise ValueError(f"expected {EXPECTED} at {path}; it is {kind}")
    coding = next((coding for mark, coding in MARKS.items() if data.startswith(mark)), "utf-8")
    if coding != "utf-16" and b"\0" in data:
        raise ValueError(f"expected {EXPECTED} at {path}; it holds a zero byte, so it is no text")
    try:
        return data.decode(coding), ()
    except UnicodeDecodeError as error:
        if coding != "utf-8":
            raise unreadable(path, EXPECTED, error) from None
    return data.decode("latin-1"), (f"{path.name} is not UTF-8: it is read as Latin-1",)


def _reader(stream: io.StringIO, separator: str) -> Any:
    return csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)


def _separator(content: str, wanted: Collection[str]) -> str:
    """Return what divides the columns: what finds a wanted name, gives the first rows equal lengths, the longest."""
    found = []
    for place, separator in enumerate(SEPARATORS):
        rows: list[list[str]] = []
        with contextlib.suppress(csv.Error):  # a text that is cut may end in the middle of a cell
            rows.extend(islice(filter(None, _reader(io.StringIO(content[:100_000], newline=""), separator)), SAMPLE))
        widths = [len(row) for row in rows[:-1] or rows]  # the last row may be cut
        names = {name.strip() for name in rows[0]} if rows else set[str]()
        width = max(widths, default=0)
        even = widths.count(widths[-1]) / len(widths) if width > 1 else 0.0
        found.append((width > 1 and any(name in names for name in wanted), even, width, place))
    return SEPARATORS[max(found)[-1]]


def _rows(content: str, separator: str, path: Path) -> _Rows:
    """Find the first row, refuse rows of another length, and note where each row stands.

    A comment in front of the first row is passed over, and so is the sign that NumPy sets before a header.
    """
    stream = io.StringIO(content, newline="")
    reader = _reader(stream, separator)
    found, before = _Rows([], 0, 0, array("q")), 0
    for row in reader:
        comment = not found.first or (len(found.lines) == 1 and found.first[0].startswith(("#", "|")))
        if row and comment and len(row) != len(found.first):
            found = _Rows(row, before, stream.tell(), array("q", [reader.line_num]))
        elif row and len(row) != len(found.first):
            where = f"in row {len(found.lines)} (line {reader.line_num}) of {path}"
            raise ValueError(f"expected {len(found.first)} values {where}; got {len(row)}")
        elif row:
            found.lines.append(reader.line_num)
        before = stream.tell()
    return found


def _frame(content: str, start: int, separator: str, names: list[str], text: list[str]) -> pd.DataFrame:
    stream = io.StringIO(content)
    stream.seek(start)
    return pd.read_csv(
        stream,
        sep=separator,
        header=None,
        names=names,
        index_col=False,
        dtype=dict.fromkeys(text, str),
        na_values={name: [""] if name in text else sorted(NO_VALUE) for name in names},
        keep_default_na=False,
        skipinitialspace=True,
        low_memory=False,
    )


def _without_decimal_commas(frame: pd.DataFrame, text: Collection[str]) -> pd.DataFrame:
    """Return the table with the numbers that are written 1.234,5."""
    for name in frame.columns:
        if name in text or not pd.api.types.is_string_dtype(frame[name].dtype):
            continue
        codes, found = texts(frame[name])
        known = [one for one in found if one is not None]
        if any("," in one for one in known) and all(DECIMAL_COMMA.fullmatch(one) for one in known):
            values = [float("nan") if one is None else float(one.replace(".", "").replace(",", ".")) for one in found]
            frame[name] = pd.Series(values).to_numpy()[codes]
    return frame


def _place(lines: array[int], path: Path) -> Callable[[int], str]:
    return lambda row: f"row {row + 1} (line {lines[row]}) of {path}"
