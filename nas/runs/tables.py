"""Tables of architectures: CSV with a header, read completely or refused with the wrong lines, written completely."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from typing import TypeAlias

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from nas.base import files
from nas.base import plugins
from nas.base.reading import check_commas
from nas.base.reading import existing
from nas.base.reading import parse_json
from nas.base.reading import unreadable
from nas.pricing import report
from nas.pricing.limits import misfits
from nas.pricing.price import screen
from nas.runs.architectures import parse_architecture
from nas.spaces import find_named
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Shape

Cells: TypeAlias = Mapping[str, str]

EXPECTED = "a CSV file of architectures"
NAMED_PROBLEMS = 5
NOTE = "note"
EXTRAPOLATED = "extrapolated"
SHAPE, CLASSES = "input_shape", "classes"


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

    The column `architecture` holds JSON of parameters, the name of a network, or the space's own text form (a cell of
    NAS-Bench-201). Parameters left out are the reference's. A column `space` names each row's space, `input_shape`
    (such as 3x32x32) the shape of the records that it is for, and `classes` their number of classes. Other columns are
    kept as text.

    What `nas pick` wrote says its shape and classes itself; else the columns do, else the arguments, else a network's
    name, else the task that the space is usually for, where it is for one. There is no other default: costs of another
    shape are other costs.

    Args:
        path: The file, UTF-8.
        space: Space of rows that name none.
        input_shape: Shape of one record, for rows that do not say.
        classes: Number of classes, for rows that do not say.

    Raises:
        ValueError: If the file is not such a table, or shape or classes of a row are not known; the message names all
            wrong rows by their lines.
    """
    given = Task(input_shape, classes)
    rows: list[TableRow] = []
    problems = []
    for line, cells in _read(existing(path, EXPECTED), optional_space=space is not None):
        name, text = cells.get("space", "").strip() or space or "", cells["architecture"].strip()
        if not (name and text):
            problems.append(f"line {line}: no value in the column {'architecture' if name else 'space'!r}")
            continue
        try:
            plugins.check_allowed("the column 'space'", name)
            task = _task_of(text, name, cells, given)
            rows.append(TableRow(line, parse_architecture(text, name, *task), cells))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        raise bad_rows(path, problems)
    if not rows:
        raise ValueError(f"expected one architecture or more in {path}; got none")
    return rows


def tasks_of(rows: Sequence[TableRow]) -> str:
    """Return what the networks of a table are for: space, shape of the records and classes, with the number of rows.

    What a row did not say itself is among them, so that nobody relies on a default without knowing it.
    """
    found = Counter(
        f"{row.architecture.space} for {'x'.join(map(str, row.architecture.input_shape))}, "
        f"{row.architecture.num_classes} classes"
        for row in rows
    )
    return "; ".join(f"{count} {'row' if count == 1 else 'rows'} of {task}" for task, count in found.items())


def bad_rows(path: Path, problems: Sequence[str]) -> ValueError:
    """Return the error for a table with wrong rows; it names the first few, rows of one problem together.

    >>> str(bad_rows(Path("a.csv"), ["line 2: no value in the column 'space'"]))
    "1 row of a.csv is wrong: line 2: no value in the column 'space'"
    >>> str(bad_rows(Path("a.csv"), ["line 2: no value", "line 3: no cube", "line 4: no value"]))
    '3 rows of a.csv are wrong: lines 2, 4: no value; line 3: no cube'
    """
    lines: dict[str, list[str]] = {}
    for problem in problems:
        line, _, reason = problem.partition(": ")
        lines.setdefault(reason, []).append(line.removeprefix("line "))
    told = [f"{_lines(numbers)}: {reason}" for reason, numbers in lines.items()]
    rest = sum(len(numbers) for numbers in list(lines.values())[NAMED_PROBLEMS:])
    more = f"; and {rest} more" if rest else ""
    are = "1 row of {} is wrong" if len(problems) == 1 else f"{len(problems)} rows of {{}} are wrong"
    return ValueError(f"{are.format(path)}: {'; '.join(told[:NAMED_PROBLEMS])}{more}")


def _lines(numbers: Sequence[str]) -> str:
    """Name lines of a table, the first few."""
    rest = len(numbers) - NAMED_PROBLEMS
    more = f" and {rest} more" if rest > 0 else ""
    return f"line{'' if len(numbers) == 1 else 's'} {', '.join(numbers[:NAMED_PROBLEMS])}{more}"


def price_table(rows: Sequence[TableRow], device: Device, path: Path) -> list[dict[str, object]]:
    """Add the costs of each row's network on a device, with `NAME_low` and `NAME_high` where there is an interval.

    The column `extrapolated` names the costs that lie outside what was measured, divided by spaces. A column `note` is
    added if the device cannot run a network, if its latency is extrapolated, or if it exceeds the
    device's memory.

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
            estimates = screen(row.architecture, device)
        except CannotRun as error:
            refused.append(f"line {row.line}: {device.name} cannot run it: {error}")
            costs = {NOTE: refused[-1].partition(": ")[2]}
        else:
            costs = report.costs_row(estimates)
            costs[EXTRAPOLATED] = " ".join(costs[EXTRAPOLATED])
            notes = [report.beyond(estimates["latency_ms"], device, row.architecture), *misfits(estimates, device)]
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


class Task(NamedTuple):
    """What a network is for; None where it is not said."""

    input_shape: Shape | None
    classes: int | None


def _task_of(text: str, space: str, cells: Cells, given: Task) -> Task:
    """Return what a row's network is for, by its columns, else as given, else as its name or its space says."""
    if _says_its_task(text):
        return Task(None, None)
    own = Task(_shape(cells.get(SHAPE, "")), _count(cells.get(CLASSES, "")))
    named = find_named(text, space)
    if named is not None:
        usual = Task(named.network.input_shape, named.network.num_classes)
    else:
        usual = Task(*(plugins.find("search_spaces", space, "USUAL_TASK") or (None, None)))
    ways = (own, given, usual)
    found = Task(
        next((way.input_shape for way in ways if way.input_shape is not None), None),
        next((way.classes for way in ways if way.classes is not None), None),
    )
    missing = [name for name, value in zip((SHAPE, CLASSES), found, strict=True) if value is None]
    if missing:
        flags = " ".join(f"--{name.replace('_', '-')}" for name in missing)
        columns = " and ".join(repr(name) for name in missing)
        raise ValueError(
            f"expected {'a column' if len(missing) == 1 else 'columns'} {columns}, or {flags}: a network of the space "
            f"{space!r} costs what its records and classes ask for"
        )
    return found


def _says_its_task(text: str) -> bool:
    """Tell whether an architecture is what `nas pick` writes; what is no JSON is refused where it is read."""
    if not text.startswith("{"):
        return False
    with suppress(ValueError):
        found = parse_json(text, "JSON")
        return isinstance(found, dict) and "params" in found
    return True


def _shape(text: str) -> Shape | None:
    """Read the shape of a record, 3x32x32 or 3,32,32 or [3, 32, 32]; None where the cell is empty."""
    parts = text.strip().strip("[]()").replace("x", ",").rstrip(",")
    try:
        return tuple(int(part) for part in parts.split(",")) if parts else None
    except ValueError:
        raise ValueError(f"expected whole numbers as {SHAPE}, like 3x32x32; got {text!r}") from None


def _count(text: str) -> int | None:
    try:
        return int(text) if text.strip() else None
    except ValueError:
        raise ValueError(f"expected a whole number as {CLASSES}; got {text!r}") from None


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
