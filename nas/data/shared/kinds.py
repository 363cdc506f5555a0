"""Decide what each column of a table means: a number, a truth, a date, one of a few texts, or nothing to learn from."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import field
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.data.shared.names import drop
from nas.preprocessing.cells import DATE_FORMATS
from nas.preprocessing.cells import as_number
from nas.preprocessing.cells import dates
from nas.preprocessing.cells import numbers
from nas.preprocessing.cells import texts
from nas.preprocessing.columns import MISSING_LEVEL
from nas.preprocessing.columns import OTHER_LEVEL
from nas.preprocessing.columns import Column
from nas.preprocessing.columns import listed

MOST_LEVELS = 100
"""Texts of a column that have a feature of their own; the rarer ones share one."""
FREE_TEXT = 0.5
"""Share of the cells from which on different texts are names or free text."""
MOSTLY_NUMBERS = 0.9
FEW_TEXTS = 5
"""A column is meant as numbers if most of its cells are, or half of them and the others are few different texts."""
FAR = 1000
"""A number so many times farther from 0 than its cells from each other keeps few digits in float32."""
TRUTHS = ({"false", "true"}, {"no", "yes"}, {"f", "t"}, {"n", "y"})
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")


@dataclass
class Findings:
    """What was seen of columns, by what is said about it; each lists names of columns.

    Attributes:
        constant: Hold one value.
        free_text: Hold texts of which most occur once.
        missing: Lack cells, with how many.
        rare: Have more levels than `MOST_LEVELS`, with how many levels share one.
        dates: Are dates, with how they are written.
        names: Are categories of few records each.
    """

    constant: list[str] = field(default_factory=list)
    free_text: list[str] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    rare: dict[str, int] = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)


def column_of(name: str, cells: pd.Series[Any], place: Callable[[int], str], findings: Findings) -> Column | None:
    """Decide what a column is; None if there is nothing to learn from it.

    Args:
        name: Its name.
        cells: Its cells.
        place: Says where the record of an index is to be found.
        findings: Where to note what a user should know.

    Raises:
        ValueError: If a few cells of a column of numbers are none, or cells are lists.
    """
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return _date(name, cells, "year-month-day", findings)
    if pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype):
        return _number(name, cells, findings)
    _check_simple(name, cells, place)
    return _of_texts(name, cells, place, findings)


def _of_texts(name: str, cells: pd.Series[Any], place: Callable[[int], str], findings: Findings) -> Column | None:
    codes, values = texts(cells)
    counts = np.bincount(codes, minlength=len(values))
    known = {value: int(count) for value, count in zip(values, counts, strict=True) if value is not None}
    missing = len(codes) - sum(known.values())
    if len(known) + bool(missing) < 2:
        findings.constant.append(name)
        return None
    if missing:
        findings.missing[name] = missing
    if any({value.lower() for value in known} == pair for pair in TRUTHS):
        return Column(name, "boolean", indicator=missing > 0)
    strange = [value for value in known if as_number(value) is None]
    if not strange:
        return _number(name, cells, findings)
    share = 1 - sum(known[value] for value in strange) / sum(known.values())
    if share >= MOSTLY_NUMBERS or (share >= 1 / 2 and len(strange) <= FEW_TEXTS):
        row = int(np.argmax(codes == values.index(strange[0])))
        raise ValueError(
            f"expected a number in column {name!r} in {place(row)}; got {strange[0][:40]!r} (leave the cell empty if "
            f"it is missing, or {drop([name])})"
        )
    for form in DATE_FORMATS if all(DATE.fullmatch(value) for value in known) else ():
        if not dates(cells, form)[1].any():
            return _date(name, cells, form, findings)
    return _category(name, known, missing, findings)


def _check_simple(name: str, cells: pd.Series[Any], place: Callable[[int], str]) -> None:
    if cells.dtype == object:
        for row, cell in enumerate(cells):
            if isinstance(cell, list | dict | tuple | set | np.ndarray):
                raise ValueError(
                    f"expected a text or a number in column {name!r} in {place(row)}; got several: --drop-column {name}"
                )


def _number(name: str, cells: pd.Series[Any], findings: Findings) -> Column | None:
    values, _ = numbers(cells)
    return _measured(Column(name), values, findings)


def _date(name: str, cells: pd.Series[Any], form: str, findings: Findings) -> Column | None:
    values, _ = dates(cells, form)
    found = _measured(Column(name, "date", date_format=form), values, findings)
    if found is not None:
        findings.dates[name] = form
    return found


def _measured(column: Column, values: NDArray[np.float64], findings: Findings) -> Column | None:
    missing = int(np.isnan(values).sum())
    if missing == len(values) or (not missing and values.min() == values.max()):
        findings.missing.pop(column.name, None)
        findings.constant.append(column.name)
        return None
    if missing:
        findings.missing[column.name] = missing
    origin = _origin(float(np.nanmin(values)), float(np.nanmax(values)))
    return Column(column.name, column.kind, (), column.date_format, origin, indicator=missing > 0)


def _origin(low: float, high: float) -> float:
    """Return a round number near numbers that lie close together far from 0, otherwise 0.

    >>> _origin(1.7e9 + 12.3, 1.7e9 + 14.1), _origin(3.0, 8.0)
    (1700000013.0, 0.0)
    """
    spread = high - low
    if not (0 < spread < max(abs(low), abs(high)) / FAR):
        return 0.0
    step = 10.0 ** math.floor(math.log10(spread))
    return float(round((low + high) / 2 / step) * step)


def _category(name: str, known: dict[str, int], missing: int, findings: Findings) -> Column | None:
    count = sum(known.values())
    if len(known) > max(2, FREE_TEXT * count):
        findings.free_text.append(name)
        findings.missing.pop(name, None)
        return None
    levels = sorted(known)
    if len(known) > MOST_LEVELS:
        levels = sorted(sorted(known, key=lambda level: (-known[level], level))[:MOST_LEVELS])
        findings.rare[name] = len(known) - MOST_LEVELS
        levels.append(OTHER_LEVEL)
    elif count / len(known) < FEW_TEXTS:
        findings.names[name] = len(known)
    if missing:
        levels.append(MISSING_LEVEL)
    return Column(name, "category", tuple(dict.fromkeys(levels)))


def sentences(findings: Findings, records: int, left_out: Collection[str]) -> list[str]:
    """Say what was found, a sentence for each kind of finding.

    Args:
        findings: What was found.
        records: How many records there are.
        left_out: Columns that are left out for another reason: nothing else is said of them.
    """
    said = []
    missing, dated, rare, named = (
        {name: found for name, found in told.items() if name not in left_out}
        for told in (findings.missing, findings.dates, findings.rare, findings.names)
    )
    if findings.constant:
        said.append(f"left out as they hold one value: {listed(findings.constant)}")
    if findings.free_text:
        said.append(f"left out as names or free text, of which most occur once: {listed(findings.free_text)}")
    if missing:
        counts = ", ".join(f"{name!r} {count}" for name, count in islice(missing.items(), 5))
        more = f" and {len(missing) - 5} more columns" if len(missing) > 5 else ""
        said.append(
            f"missing values of {records} records: {counts}{more}; a missing number counts as the members' mean and "
            f"has a feature that tells, a missing text is the level {MISSING_LEVEL!r}"
        )
    said += [f"column {name!r} holds dates, read as {form} and counted in days" for name, form in dated.items()]
    said += [
        f"the {count} rarest texts of column {name!r} share the level {OTHER_LEVEL!r}" for name, count in rare.items()
    ]
    said += [
        f"column {name!r} has {count} texts in {records} records: if it says whom a record is of, give --group-column "
        f"{shlex.quote(name)}, or {drop([name])}"
        for name, count in named.items()
    ]
    return said
