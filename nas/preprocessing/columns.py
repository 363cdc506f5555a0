"""Columns of a table: how the cells of each become numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic import TypeAdapter
from pydantic import ValidationError

from nas.base.reading import FLOAT32_MAX
from nas.preprocessing.cells import DATE_FORMATS
from nas.preprocessing.cells import as_text
from nas.preprocessing.cells import dates
from nas.preprocessing.cells import numbers
from nas.preprocessing.cells import texts
from nas.preprocessing.cells import truths
from nas.preprocessing.transforms import TRANSFORMS
from nas.preprocessing.transforms import Transform
from nas.preprocessing.transforms import fit_transform
from nas.preprocessing.transforms import skewness

KINDS = ("number", "boolean", "date", "category")
MISSING_LEVEL = "missing"
OTHER_LEVEL = "other"
STRONGLY_SKEWED = 2.0
"""Skewness of an exponential distribution."""
MANY = 4
"""One column in so many that is strongly skewed is worth a word."""


def _row(row: int) -> str:
    return f"row {row + 1}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, and the features that it becomes.

    Attributes:
        name: Its name in the file.
        kind: One of `KINDS`. A number is one feature, and so is a boolean (0 or 1) and a date (days since 1970). A
            category has one feature of 0 or 1 for each level.
        levels: Of a category: its levels, in the order of their features. `MISSING_LEVEL` is that of missing cells, and
            `OTHER_LEVEL` that of all that have none of their own.
        date_format: Of a date: how it is written, one of `DATE_FORMATS`.
        origin: Of a number or date: what is subtracted before anything else, so that a large offset costs no digits.
        fill: What a missing cell counts as, on the scale of the feature; None while the members that decide it are not
            chosen, and where no cell may be missing.
        indicator: Whether one more feature tells, by 1, that the cell is missing. With neither it nor `fill` none may.
        transform: Of a number: what bends its scale, after the origin is subtracted.

    Raises:
        ValueError: If the kind, the levels or the form of the date is none that there is, or a number is not finite.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    kind: str = "number"
    levels: tuple[str, ...] = ()
    date_format: str = ""
    origin: float = 0.0
    fill: float | None = None
    indicator: bool = False
    transform: Transform | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a kind of column out of {list(KINDS)}; got {self.kind!r}")
        if len(set(self.levels)) < len(self.levels) or bool(self.levels) != (self.kind == "category"):
            raise ValueError(f"expected different levels of a category and of nothing else; got {self}")
        if (self.kind == "date") != (self.date_format in DATE_FORMATS):
            raise ValueError(f"expected a form of a date out of {list(DATE_FORMATS)}; got {self.date_format!r}")

    @property
    def features(self) -> tuple[str, ...]:
        """Name of each feature.

        >>> Column("colour", "category", ("blue", "red")).features, Column("age", indicator=True).features
        (('colour=blue', 'colour=red'), ('age', 'age is missing'))
        """
        own = tuple(f"{self.name}={level}" for level in self.levels) if self.kind == "category" else (self.name,)
        return (*own, f"{self.name} is missing") if self.indicator else own


def encoded(
    columns: Sequence[Column], cells: Mapping[str, Any], place: Callable[[int], str] = _row
) -> NDArray[np.float64]:
    """Return the features of records, `(records, features)`, from the cells of a user's table.

    A cell is a text or a number. Missing ones are None, NaN or one of `cells.NO_VALUE`. A missing number is NaN where
    the column has no `fill` yet, otherwise its `fill`. A level that the column does not know becomes `OTHER_LEVEL`, and
    where there is none all its features are 0: see `unknown_levels`. Columns that are not asked for do not matter, nor
    does the order of the columns.

    Args:
        columns: How each column is read, in the order of the features.
        cells: Cells of each column, by its name, all equally many.
        place: Says where the record of an index, from 0, is to be found.

    Raises:
        ValueError: If a column is not there, or a cell is not what its column expects; the message names the column,
            the row and the value.

    >>> columns = Column("age", fill=40.0, indicator=True), Column("colour", "category", ("blue", "red"))
    >>> encoded(columns, {"colour": ["red", "green"], "age": ["31", "NA"]}).tolist()
    [[31.0, 0.0, 0.0, 1.0], [40.0, 1.0, 0.0, 0.0]]
    """
    absent = [column.name for column in columns if column.name not in cells]
    if absent:
        raise ValueError(f"expected columns {absent[:5]}; there are {list(cells)[:20]}")
    count = len(cells[columns[0].name]) if columns else 0
    features = np.empty((count, sum(len(column.features) for column in columns)))
    start = 0
    for column in columns:
        end = start + len(column.features)
        features[:, start:end] = _encoded(column, cells[column.name], place)
        start = end
    return features


def unknown_levels(columns: Sequence[Column], cells: Mapping[str, Any]) -> tuple[str, ...]:
    """Say, a sentence for each column, which levels of new cells are none that the network was trained with."""
    said = []
    for column in columns:
        if column.kind != "category":
            continue
        codes, values = texts(cells[column.name])
        named = [MISSING_LEVEL if value is None else value for value in values]
        strange = [index for index, value in enumerate(named) if value not in column.levels]
        if strange:
            count = int(np.isin(codes, strange).sum())
            means = f"counts as {OTHER_LEVEL!r}" if OTHER_LEVEL in column.levels else "counts as none of its levels"
            shown = ", ".join(repr(named[index][:40]) for index in strange[:3])
            more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
            said.append(f"column {column.name!r}: {shown}{more} in {count} records {means}")
    return tuple(said)


def transformed(columns: Sequence[Column], features: NDArray[Any]) -> NDArray[np.float64]:
    """Return a copy of features with each number bent by the transform of its column.

    Args:
        columns: The columns.
        features: `(records, features)`, without any transform.
    """
    bent = np.array(features, dtype=np.float64)
    for column, place in zip(columns, _places(columns), strict=True):
        if column.transform is not None:
            bent[:, place] = column.transform.apply(bent[:, place])
    return bent


def fitted(columns: Sequence[Column], members: NDArray[Any], transform: str) -> tuple[Column, ...]:
    """Return the columns, each number with a transform that suits the members.

    Args:
        columns: The columns, without transforms.
        members: `(members, features)`, NaN where a number is missing.
        transform: One of `TRANSFORMS`.

    Raises:
        ValueError: If there is no such transform.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f"no transform {transform!r}; there are {list(TRANSFORMS)}")
    return tuple(
        replace(column, transform=fit_transform(members[:, place], transform)) if _bends(column) else column
        for column, place in zip(columns, _places(columns), strict=True)
    )


def advice(columns: Sequence[Column], members: NDArray[Any]) -> tuple[str, ...]:
    """Say, in one sentence or none, that many numbers are so skewed that a transform would help.

    Args:
        columns: The columns, without transforms.
        members: `(members, features)`, NaN where a number is missing.
    """
    bendable = [(column, place) for column, place in zip(columns, _places(columns), strict=True) if _bends(column)]
    skewed = [column.name for column, place in bendable if abs(skewness(members[:, place])) > STRONGLY_SKEWED]
    if len(skewed) < max(1, len(bendable) / MANY):
        return ()
    said = f"{len(skewed)} of {len(bendable)} columns of numbers are strongly skewed ({listed(skewed)})"
    return (f"{said}: try --transform log or --transform quantile",)


def listed(names: Sequence[str], most: int = 5) -> str:
    """List the first names in one line.

    >>> listed(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name[:40]) for name in names[:most]) + more


def filled(columns: Sequence[Column], means: NDArray[np.floating]) -> tuple[Column, ...]:
    """Return the columns with what their missing cells count as: the mean of the members.

    Columns of which no cell was missing have it too: in new records one may be.

    Args:
        columns: The columns.
        means: `(features,)`, on the scale of the features.
    """
    return tuple(
        replace(column, fill=float(means[place])) if column.kind != "category" else column
        for column, place in zip(columns, _places(columns), strict=True)
    )


def to_plain(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return columns as plain data for JSON."""
    plain: list[dict[str, Any]] = json.loads(json.dumps([asdict(column) for column in columns]))
    return plain


def from_plain(data: object) -> tuple[Column, ...]:
    """Return the columns that `to_plain` made data of.

    >>> from_plain(to_plain([Column("age", origin=3.0)]))[0].origin
    3.0

    Raises:
        ValueError: If the data are not that.
    """
    try:
        return _COLUMNS.validate_json(json.dumps(data))
    except (ValidationError, TypeError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, reason["loc"]))
        raise ValueError(f"expected columns of a table; got something else at {where!r}: {reason['msg']}") from None


def _encoded(column: Column, cells: Any, place: Callable[[int], str]) -> NDArray[np.float64]:
    if column.kind == "category":
        return _one_hot(column, cells)
    values, strange = _values(column, cells)
    if strange.any():
        _refuse(column, cells, int(np.argmax(strange)), place)
    missing = np.isnan(values)
    beyond = np.abs(values) > FLOAT32_MAX
    if beyond.any() or (missing.any() and not column.indicator and column.fill is None):
        _refuse(column, cells, int(np.argmax(beyond if beyond.any() else missing)), place)
    values = values - column.origin
    if column.transform is not None:
        values = column.transform.apply(values)
    if column.fill is not None:
        values[missing] = column.fill
    return np.column_stack([values, missing] if column.indicator else [values])


def _values(column: Column, cells: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if column.kind == "date":
        return dates(cells, column.date_format)
    if column.kind == "number":
        return numbers(cells)
    return truths(cells)


def _one_hot(column: Column, cells: Any) -> NDArray[np.float64]:
    codes, names = texts(cells)
    level = {name: index for index, name in enumerate(column.levels)}
    others = level.get(OTHER_LEVEL, -1)
    chosen = np.array([level.get(MISSING_LEVEL if name is None else name, others) for name in names], dtype=np.intp)
    features = np.zeros((len(codes), len(column.levels) + 1))  # the last column is of those without a level
    features[np.arange(len(codes)), chosen[codes]] = 1
    return features[:, :-1]


def _refuse(column: Column, cells: Any, row: int, place: Callable[[int], str]) -> None:
    expected = {"number": "a finite number", "boolean": "yes or no, true or false"}.get(
        column.kind, f"a date as {column.date_format}"
    )
    import pandas as pd  # noqa: PLC0415 - as in `nas.preprocessing.cells`

    value = as_text(pd.Series(cells).iloc[row])
    got = "a missing value" if value is None else repr(value[:40])
    raise ValueError(f"expected {expected} in column {column.name!r} in {place(row)}; got {got}")


def _bends(column: Column) -> bool:
    return column.kind == "number"


def _places(columns: Sequence[Column]) -> list[int]:
    """Return the place of each column's first feature."""
    ends = np.cumsum([len(column.features) for column in columns], dtype=int)
    return [0, *ends[:-1].tolist()] if columns else []


_COLUMNS: TypeAdapter[tuple[Column, ...]] = TypeAdapter(tuple[Column, ...])
