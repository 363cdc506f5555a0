"""Tables of architectures: CSV with a header, read completely or refused with the wrong lines, written completely."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from estimators.estimate import flat
from nas.base import files
from nas.base import plugins
from nas.base.reading import check_commas
from nas.base.reading import existing
from nas.base.reading import unreadable
from nas.pricing import report
from nas.pricing.limits import misfits
from nas.pricing.price import screen
from nas.runs.networks import parse_architecture
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Shape

Cells: TypeAlias = Mapping[str, str]

EXPECTED = "a CSV file of architectures"
NAMED_PROBLEMS = 5
NOTE = "note"


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        line: Line of the file on which the row ends; the header is line 1.
        architecture: The network.
        cells: The text of every column, by its name.
    """

    line: int
    architecture: Architecture
    cells: Cells


def read_architectures(
    path: Path, space: str | None, input_shape: Shape | None = None, classes: int | None = None
) -> list[TableRow]:
    """Read networks, one in each row, with the other columns of the table.

    The column `architecture` holds JSON of parameters or the space's own text form (a cell of NAS-Bench-201).
    Parameters left out are the reference's. A column `space` names each row's space. Other columns are kept as text.

    Args:
        path: The file, UTF-8.
        space: Space of rows that name none.
        input_shape: Shape of one record; None: each space's usual one.
        classes: Number of classes; None: the usual number.

    Raises:
        ValueError: If the file is not such a table; the message names all wrong rows by their lines.
    """
    rows: list[TableRow] = []
    problems = []
    for line, cells in _read(existing(path, EXPECTED), optional_space=space is not None):
        name, text = cells.get("space", "").strip() or space or "", cells["architecture"].strip()
        if not (name and text):
            problems.append(f"line {line}: no value in the column {'architecture' if name else 'space'!r}")
            continue
        try:
            plugins.check_allowed("the column 'space'", name)
            rows.append(TableRow(line, parse_architecture(text, name, input_shape, classes), cells))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        raise bad_rows(path, problems)
    if not rows:
        raise ValueError(f"expected one architecture or more in {path}; got none")
    return rows


def bad_rows(path: Path, problems: Sequence[str]) -> ValueError:
    """Return the error for a table with wrong rows; it names the first few.

    >>> str(bad_rows(Path("a.csv"), ["line 2: no value in the column 'space'"]))
    "1 row of a.csv is wrong: line 2: no value in the column 'space'"
    """
    rest = len(problems) - NAMED_PROBLEMS
    more = f"; and {rest} more" if rest > 0 else ""
    are = "1 row of {} is wrong" if len(problems) == 1 else f"{len(problems)} rows of {{}} are wrong"
    return ValueError(f"{are.format(path)}: {'; '.join(problems[:NAMED_PROBLEMS])}{more}")


def price_table(rows: Sequence[TableRow], device: Device, path: Path) -> list[dict[str, object]]:
    """Add the costs of each row's network on a device, with `NAME_low` and `NAME_high` where there is an interval.

    A column `note` is added if the device cannot run a network, if its latency lies outside the measured range, or if
    it exceeds the device's memory.

    Args:
        rows: The rows of `read_architectures`.
        device: The device.
        path: The file they came from, for the message.

    Raises:
        ValueError: If the device can run none of the networks, or the table has columns of these names already.
    """
    priced: list[dict[str, object]] = []
    refused = []
    for row in rows:
        try:
            costs: dict[str, object] = {**flat(estimates := screen(row.architecture, device))}
        except CannotRun as error:
            refused.append(f"line {row.line}: {device.name} cannot run it: {error}")
            costs = {NOTE: refused[-1].partition(": ")[2]}
        else:
            notes = [report.beyond(estimates["latency_ms"].value, device), *misfits(estimates, device)]
            note = "; ".join(filter(None, notes))
            costs |= {NOTE: note} if note else {}
        if taken := [name for name in costs if name in row.cells]:
            raise ValueError(f"expected {path} without the columns that are added; it has {taken}: rename them")
        priced.append({**row.cells, **costs})
    if len(refused) == len(rows):
        raise bad_rows(path, refused)
    return priced


def write_table(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, completely or not at all. A row without one of the columns has an empty cell there."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def _read(path: Path, *, optional_space: bool) -> list[tuple[int, Cells]]:
    """Read the rows that are not empty, each with its line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            # Checked before the rows: else the commas in an architecture's JSON would be reported first.
            check_commas(header, path)
            found = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, EXPECTED, error) from None
    _check_header(header, path, optional_space=optional_space)
    if problems := [
        f"line {line}: expected {len(header)} values; got {len(row)}" for line, row in found if len(row) != len(header)
    ]:
        raise bad_rows(path, problems)
    return [(line, dict(zip(header, row, strict=True))) for line, row in found]


def _check_header(header: Sequence[str], path: Path, *, optional_space: bool) -> None:
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"expected each column once in {path}; there are several {twice}")
    if "architecture" not in header:
        raise ValueError(f"expected a column 'architecture' in {path}; there are {list(header)}")
    if "space" not in header and not optional_space:
        raise ValueError(f"expected a column 'space' in {path}, or --space; there are {list(header)}")
