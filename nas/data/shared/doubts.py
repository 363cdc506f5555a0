"""Ask of every column whether it belongs into a network: copies of the label, numbers of records, marks of absence."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.data.shared.names import drop
from nas.preprocessing.columns import listed

Ints: TypeAlias = NDArray[np.int64]
SAMPLE = 2000
"""Records by which most columns are told to be none of a suspicious kind."""
FEWEST = 10
"""Records from which on it is no accident that a column numbers them."""
NEARLY_ALL = 0.95
"""A column that names records may lack a few names, or hold some twice."""
SURE = math.log(1e5)
"""A column that says the class of all records would do so by chance less than once in a hundred thousand."""
POSITIVE = frozenset({"1", "1.0", "true", "yes", "t", "y"})
SENTINELS = re.compile(r"-?9{2,}|-1|-9")
UNNAMED = re.compile(r"Unnamed: 0|__index_level_\d+__|index|level_0")
"""How pandas calls a column of row numbers that it wrote itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """One column, whatever its kind, as numbers to compare by.

    Attributes:
        numbers: `(records,)`: its numbers, or the place of its text among those that occur; NaN where it is missing.
        ordered: Whether it is greater or less, not only different.
        is_time: Whether it is a date.
    """

    numbers: NDArray[np.float64]
    ordered: bool
    is_time: bool = False


@dataclass(frozen=True, slots=True)
class Doubts:
    """What was found.

    Attributes:
        left_out: Columns that are never features: numbers of records, copies of the label.
        telling: Columns that are kept but tell records apart, such as an id or a time: two records that differ in
            nothing else are one written twice.
        notes: A sentence each.
    """

    left_out: tuple[str, ...]
    telling: tuple[str, ...]
    notes: tuple[str, ...]


def doubts(columns: Mapping[str, Values], labels: Ints, classes: Sequence[str], label_column: str) -> Doubts:
    """Ask of every column whether it belongs into a network.

    Args:
        columns: The columns in the order of the file, of the records in that order.
        labels: `(records,)`.
        classes: Name of each class.
        label_column: Name of the column with the class.
    """
    notes = list[str]()
    counting = [name for name, values in columns.items() if _counts(name, values)]
    rest = {name: values for name, values in columns.items() if name not in counting}
    copies = [name for name, values in rest.items() if _is_copy(values.numbers, labels)]
    whole_set, single = _one_hot(
        {name: rest[name] for name in rest if name not in copies}, labels, classes, label_column
    )
    copies += whole_set
    rest = {name: values for name, values in rest.items() if name not in copies}
    determining = [name for name, values in rest.items() if name in single or _determines(values, labels)]
    unique = [name for name, values in rest.items() if _is_unique(values)]
    monotone = [name for name, values in rest.items() if name not in unique and _is_monotone(values)]
    blocks = [name for name, values in rest.items() if name not in monotone and _is_in_blocks(values)]
    if counting:
        notes.append(f"left out as numbers of the records: {listed(counting)}")
    if copies:
        notes.append(f"left out as other forms of the label {label_column!r}: {listed(copies)}")
    if determining:
        notes.append(
            f"warning: of every record the label {label_column!r} can be told by one of {listed(determining)} alone: "
            f"if that is known only with the label, {drop(determining)}"
        )
    if unique:
        notes.append(
            f"another value in nearly every record: {listed(unique)}; if that is a name or a time, {drop(unique)}"
        )
    if monotone:
        notes.append(f"rising or falling with the rows: {listed(monotone)}; if that only says when, {drop(monotone)}")
    if blocks:
        notes.append(
            f"each value in rows that follow each other: {listed(blocks)}; if one says whom a record is of, give "
            f"--group-column {shlex.quote(blocks[0])}"
        )
    notes += [
        f"column {name!r} holds {value:.0f} in {count} records, which looks like a mark for a missing value: leave "
        f"such cells empty, or {drop([name])}"
        for name, values in rest.items()
        for value, count in _sentinels(values)
    ]
    return Doubts((*counting, *copies), (*unique, *monotone), tuple(notes))


def _counts(name: str, values: Values) -> bool:
    """Tell whether a column is 0, 1, 2, ... or 1, 2, 3, ... or row numbers that pandas wrote in another order."""
    found = values.numbers
    if not values.ordered or found.size < FEWEST:
        return False
    if found[0] in (0, 1) and np.array_equal(found, found[0] + np.arange(found.size)):
        return True
    return UNNAMED.fullmatch(name) is not None and _is_whole(found)


def _is_whole(found: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(found).all() and (found == np.floor(found)).all())


def _is_unique(values: Values) -> bool:
    """Tell whether (nearly) every record has another whole number, or another time."""
    for found in (values.numbers[:SAMPLE], values.numbers):
        known = found[~np.isnan(found)]
        if not values.ordered or known.size < NEARLY_ALL * found.size or not (values.is_time or _is_whole(known)):
            return False
        if np.unique(known).size < NEARLY_ALL * known.size:
            return False
    return True


def _is_monotone(values: Values) -> bool:
    steps = np.diff(values.numbers)
    if not values.ordered or not ((steps >= 0).all() or (steps <= 0).all()):
        return False
    return int(np.count_nonzero(steps)) >= values.numbers.size / 2


def _is_in_blocks(values: Values) -> bool:
    """Tell whether equal values stand together, as the records of a person do."""
    found = np.where(np.isnan(values.numbers), -np.inf, values.numbers)
    distinct = int(np.count_nonzero(found[1:] != found[:-1])) + 1
    return FEWEST <= distinct <= found.size / 2 and np.unique(found).size == distinct


def _pairs(found: NDArray[np.float64], labels: Ints) -> tuple[int, int, int, int]:
    """Count the records with a value, their different values, classes, and pairs of both."""
    known = ~np.isnan(found)
    values, codes = np.unique(found[known], return_inverse=True)
    pairs = np.unique(codes * (int(labels.max()) + 1) + labels[known]).size
    return int(known.sum()), values.size, np.unique(labels[known]).size, pairs


def _is_copy(found: NDArray[np.float64], labels: Ints) -> bool:
    """Tell whether each value has one class and each class one value, in most records."""
    for rows in (slice(0, SAMPLE), slice(None)):
        known, values, classes, pairs = _pairs(found[rows], labels[rows])
        if not values == classes == pairs:
            return False
    return (
        known >= found.size / 2
        and classes == np.unique(labels).size
        and _surprise(found, labels, known - values) > SURE
    )


def _determines(values: Values, labels: Ints) -> bool:
    """Tell whether each value, or each range of values, has one class, and not by chance."""
    found = values.numbers
    missing = np.isnan(found).astype(np.float64)
    if _is_copy(missing, labels):  # it is there for one class alone
        return True
    for rows in (slice(0, SAMPLE), slice(None)):
        known, count, classes, pairs = _pairs(found[rows], labels[rows])
        if pairs > count or classes < 2:
            return False
    if _surprise(found, labels, known - count) > SURE and count <= known / 2:
        return True
    if not values.ordered:
        return False
    kept = ~np.isnan(found)
    order = np.argsort(found[kept], kind="stable")
    changes = int(np.count_nonzero(np.diff(labels[kept][order])))
    return changes == classes - 1 and _surprise(found, labels, known) > SURE


def _surprise(found: NDArray[np.float64], labels: Ints, agreeing: int) -> float:
    """Return how unlikely it is that so many records by chance have the class of another: minus its logarithm."""
    known = labels[~np.isnan(found)]
    return -agreeing * math.log(float(((np.bincount(known) / known.size) ** 2).sum()))


def _one_hot(
    columns: Mapping[str, Values], labels: Ints, classes: Sequence[str], label_column: str
) -> tuple[list[str], list[str]]:
    """List the columns that together say the class, and those that tell one class from all others.

    Such a column has two values, in whatever coding: 0 and 1, 1 and 0, 0 and 100, x and nothing.
    """
    binary = {name: halves for name, values in columns.items() if (halves := _halves(values.numbers)) is not None}
    present = np.flatnonzero(np.bincount(labels))
    of_class = {}
    for name, ones in binary.items():
        for half in (ones, ~ones):
            label = labels[int(np.argmax(half))]
            if np.array_equal(half, labels == label):
                of_class[name] = int(label)
    if len(present) > 2:
        complete = len(set(of_class.values())) >= len(present) - 1
        return (list(of_class), []) if complete else ([], list(of_class))
    positive = [index for index, name in enumerate(classes) if name.lower() in POSITIVE]
    if len(present) != 2 or len(positive) != 1:
        return [], []
    rest = labels != positive[0]
    marked = {name: columns[name].numbers == 1 for name in binary}
    disjoint = {name: ones for name, ones in marked.items() if ones.any() and not (ones & ~rest).any()}
    stem = re.split(r"[^0-9A-Za-z]+(?=[0-9A-Za-z]+$)", label_column)[0]
    same_stem = {name: ones for name, ones in disjoint.items() if name.startswith(stem) and stem != label_column}
    for family in (same_stem, disjoint):
        if len(family) > 1 and np.array_equal(np.sum(list(family.values()), axis=0), rest.astype(int)):
            return list(family), []
    return [], []


def _halves(found: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Return where a column has the one of its two values, of which one may be "missing"; None if it has not two."""
    for rows in (found[:SAMPLE], found):
        missing = np.isnan(rows)
        known = np.unique(rows[~missing])
        if known.size + missing.any() != 2:
            return None
    return np.asarray(found == known[-1])


def _sentinels(values: Values) -> list[tuple[float, int]]:
    """Return values at an end of a column that look like marks of absence, and how often each occurs."""
    known = values.numbers[~np.isnan(values.numbers)]
    if not values.ordered or known.size < 3:
        return []
    found = []
    for end, others in ((known.min(), known[known > known.min()]), (known.max(), known[known < known.max()])):
        count = known.size - others.size
        if not others.size or count < 2 or not SENTINELS.fullmatch(f"{end:.0f}") or end % 1:
            continue
        apart = others.min() >= 0 or (end <= -99 and others.min() > end / 2)
        negative = end < 0 and apart and np.unique(others[:SAMPLE]).size > 2
        far = end > 0 and end >= 99 and end > 2 * others.max() and np.unique(others[:SAMPLE]).size > 2
        if negative or far:
            found.append((float(end), int(count)))
    return found
