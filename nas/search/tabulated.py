"""Networks whose figures stand in a table: a search looks them up and trains nothing.

Tabular benchmarks such as NAS-Bench-201 (Dong and Yang, 2020) list every network of a space with what others measured
of it. A search over such a table takes seconds, so samplers can be compared over many seeds.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from estimators.estimate import Estimate
from nas.base.reading import existing
from nas.base.reading import read_bytes
from nas.base.reading import unreadable
from nas.training.measures import MAY_BE_NEGATIVE
from nas.training.measures import MEASURED
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import SearchSpace
from search_spaces.space import contains
from search_spaces.space import describe_distribution

NETWORK = "network"
"""The column with each network's text, as the space reads it; without it, a column for each parameter."""
SHARES = frozenset(MEASURED) - {"trainings"}
"""Measures of at most 1: a table that holds them in percent is refused."""
EXPECTED = "a table of networks and their figures, as CSV with a header"


@dataclass(frozen=True, eq=False)
class Tabulated:
    """The figures of networks of one space.

    Attributes:
        parameters: Parameters of the space, in its order.
        columns: Names of the figures, such as `error`; lower is better.
        rows: For each network, by its values of the parameters, its figures in the order of `columns`.
        fingerprint: Names the content of the file.
    """

    parameters: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Mapping[tuple[ParamValue, ...], Sequence[float]]
    fingerprint: str

    def figures(self, params: Params) -> dict[str, float]:
        """Return the figures of a network by name.

        Args:
            params: A point of the space; names of other things are passed over.

        Raises:
            CannotRun: If the table has no such network.
        """
        found = self.rows.get(tuple(params[name] for name in self.parameters))
        if found is None:
            raise CannotRun("the table has no row for it")
        return dict(zip(self.columns, found, strict=True))

    def cost(self, column: str, architecture: Architecture, _device: Device) -> Estimate:
        """Return one figure as a cost metric does.

        Raises:
            CannotRun: If the table has no such network.
        """
        return Estimate.exact(self.figures(architecture.params)[column])


def read_tabulated(path: Path | None, space: SearchSpace) -> Tabulated:
    """Read the figures of a space's networks.

    Args:
        path: A CSV file with a header, packed by gzip or not. Its networks stand in a column `network`, as texts that
            the space reads, or in a column for each parameter of the space. All other columns are figures.
        space: The space.

    Raises:
        ValueError: If the file cannot be read, a network is none of the space or stands there twice, a figure is no
            finite number, or a share is not between 0 and 1.
    """
    path = existing(path, EXPECTED)
    content = read_bytes(path, EXPECTED)
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, pd.errors.ParserError, OverflowError) as error:
        raise unreadable(path, EXPECTED, error) from None
    named = [NETWORK] if NETWORK in table else list(space.distributions)
    if missing := [name for name in named if name not in table]:
        raise ValueError(
            f"expected a column {NETWORK!r} in {path}, or one for each parameter of {space.name!r}; missing: "
            f"{missing}, there are {[column[:40] for column in table][:20]}"
        )
    points = _parsed(table, space, path) if named == [NETWORK] else _spelled_out(table, space, path)
    if doubles := [row for row, is_double in enumerate(pd.Series(points).duplicated()) if is_double]:
        raise ValueError(f"expected each network once; that of {_place(path, doubles[0])} is there twice")
    columns = tuple(name for name in table if name not in named)
    if not points or not columns:
        raise ValueError(
            f"expected {EXPECTED}, at {path}; got {len(points)} networks and {len(columns)} figures of each"
        )
    figures = zip(*(_figures(table, name, path) for name in columns), strict=True)
    rows = dict(zip(points, figures, strict=True))
    return Tabulated(tuple(space.distributions), columns, rows, hashlib.sha256(content).hexdigest())


def _place(path: Path, row: int) -> str:
    return f"row {row + 1} of {path}"


def _parsed(table: pd.DataFrame, space: SearchSpace, path: Path) -> list[tuple[ParamValue, ...]]:
    """Read the networks' texts."""
    if space.parse is None:
        raise ValueError(
            f"expected a column for each parameter of {space.name!r}, which reads no texts of networks: "
            f"{list(space.distributions)}; got a column {NETWORK!r} in {path}"
        )
    points = []
    for row, text in enumerate(table[NETWORK]):
        try:
            params = space.parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, in {_place(path, row)}") from None
        points.append(tuple(params[name] for name in space.distributions))
    return points


def _spelled_out(table: pd.DataFrame, space: SearchSpace, path: Path) -> list[tuple[ParamValue, ...]]:
    """Read a column for each parameter."""
    columns: list[list[ParamValue]] = []
    for name, distribution in space.distributions.items():
        values: dict[str, ParamValue] = {}
        for text in table[name].unique():  # a column has few different texts
            value = _value(text, distribution)
            if value is None:
                expected, row = describe_distribution(distribution), int((table[name] == text).argmax())
                raise ValueError(f"expected {name!r} to be {expected}, in {_place(path, row)}; got {text!r}")
            values[text] = value
        columns.append([values[text] for text in table[name]])
    return list(zip(*columns, strict=True))


def _value(text: str, distribution: BaseDistribution) -> ParamValue | None:
    """Return a parameter's value as a sampler draws it, None if it would draw none like it."""
    if isinstance(distribution, CategoricalDistribution):
        choice: ParamValue | None = {str(choice): choice for choice in distribution.choices}.get(text)
        return choice
    number = _number(text)
    if isinstance(distribution, IntDistribution) and number.is_integer():
        number = int(number)
    return number if contains(distribution, number) else None


def _number(text: str) -> float:
    """Return a cell's number, NaN if it has none; Python's own 1_000 is none."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _figures(table: pd.DataFrame, name: str, path: Path) -> list[float]:
    numbers = [_number(text) for text in table[name]]
    lowest = -1.0 if name in MAY_BE_NEGATIVE else 0.0
    for row, number in enumerate(numbers):
        if not math.isfinite(number):
            raise ValueError(f"expected a finite number as {name!r}, in {_place(path, row)}; got {table[name][row]!r}")
        if name in SHARES and not lowest <= number <= 1:
            raise ValueError(
                f"expected {name!r} as a share, from {lowest:g} to 1, in {_place(path, row)}; got {table[name][row]!r}"
            )
    return numbers
