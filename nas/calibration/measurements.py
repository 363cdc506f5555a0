"""Read a table of measured networks: its usable rows, its unit, its noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from estimators.devices.device import Device
from estimators.devices.files import load_device
from estimators.models.counts import Floats
from nas.base import plugins
from nas.runs.tables import TableRow
from nas.runs.tables import tasks_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.pruning import is_constant
from search_spaces.graph.structure import structure_of

MIN_NETWORKS = 8
GOOD_NETWORKS = 30
# No engine is known outside this range: servers' vector units reach 30, reference kernels on microcontrollers 0.02.
MACS_PER_CYCLE = (4e-3, 100.0)
UNKNOWN_CLOCK_MHZ = 1000.0
UNKNOWN_ENGINE = "unknown engine"
ENOUGH_REPEATED = 20
"""Rows that repeat a network from which on their noise is told."""
NAMED_LINES = 8
OUTLIER = 5.0
"""A row that differs by this factor, in time from the prediction of a fit without it or in power from the median, is
taken for a mistake, not noise."""
UNITS_MS = {"ms": 1.0, "s": 1e3, "us": 1e-3}


@dataclass(frozen=True)
class About:
    """Facts about the device that the rows do not contain.

    Attributes:
        name: Name of the device file.
        core: Processor core.
        clock_mhz: Clock that the cycles are counted at; None: unknown, taken as 1,000.
        engine: Engine and version of the measurements; None: that of the rows' own column, or unknown.
        precision: `float32` or `int8`; float networks are converted to it.
        like: A known device that shares bit-widths, memory rules and limits; None: whole bytes, no limits.
        latency_unit: Unit of the latencies; None: milliseconds, refused if no chip could be that fast or slow.
        source: Where the rows come from.
        description: One line for people; None: made from the other fields.
        written_by: The command that the file names as its origin.
    """

    name: str
    core: str = "unknown core"
    clock_mhz: float | None = None
    engine: str | None = None
    precision: str = "float32"
    like: str | None = None
    latency_unit: str | None = None
    source: str = "own measurements"
    description: str | None = None
    written_by: str = "nas calibrate"


@dataclass(frozen=True)
class Measured:
    """One network and its measurements; None where the table has none.

    Attributes:
        line: Its line in the table.
        architecture: The network as described.
        latency_ms: Time of one inference.
        energy_mj: Energy of one inference.
        ram_kib: Memory in use, the engine's included.
        flash_kib: Flash occupied, the engine's included.
    """

    line: int
    architecture: Architecture
    latency_ms: float
    energy_mj: float | None = None
    ram_kib: float | None = None
    flash_kib: float | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """The rows of a table, prepared for a fit on one device.

    Attributes:
        rows: The rows.
        device: The device without its coefficients.
        structures: The structure of each row's network as it runs on the device.
        counts: `(rows, columns)` of the cycle model.
        cycles: `(rows,)` measured.
    """

    rows: Sequence[Measured]
    device: Device
    structures: tuple[str, ...]
    counts: Floats
    cycles: Floats

    @property
    def groups(self) -> NDArray[np.int_]:
        """`(rows,)`, equal for rows of one network."""
        return np.unique(self.structures, return_inverse=True)[1]

    def having(self, column: str) -> int:
        """Count the different networks that have a number in a column."""
        named = zip(self.rows, self.structures, strict=True)
        return len({structure for row, structure in named if getattr(row, column) is not None})

    def without(self, out: NDArray[np.bool_]) -> Prepared:
        """Return the table without some of its rows."""
        kept = [int(index) for index in np.flatnonzero(~out)]
        rows, structures = [self.rows[i] for i in kept], tuple(self.structures[i] for i in kept)
        return replace(self, rows=rows, structures=structures, counts=self.counts[kept], cycles=self.cycles[kept])


@dataclass(frozen=True)
class Opinion:
    """What the engine may run of a network, and how well the rows are predicted by it.

    Attributes:
        prunes: Whether it removes operators whose result is not used.
        merges: Whether it computes repeated operators once.
        close: Share of left-out rows predicted within 10 %, without trees.
        error_mean: Mean relative error of left-out rows, without trees.
        worse: Whether it predicts worse than the one that was chosen, by more than chance.
    """

    prunes: bool
    merges: bool
    close: float
    error_mean: float
    worse: bool


@dataclass(frozen=True)
class EnergyReport:
    """How well the energy of left-out rows is predicted.

    Attributes:
        rows: Rows with an energy.
        networks: Different networks among them.
        outliers: Lines whose energy is left out because their power is far from the median, with their power over it.
        power_mw: Median power.
        power_interval: Relative half-width of the power's 90 % interval.
        by_counts: Whether the energy has nanojoules of its own by type of operator. Otherwise it is power times time.
        close: Share of left-out rows whose energy is predicted within 10 %.
        close_low: At least this share of other networks is, with 90 % confidence.
        error_mean: Mean relative error of left-out rows.
        error_median: Median of these errors.
        error_max: Largest of them.
        interval: Relative half-width of the energy's 90 % interval.
        close_otherwise: Share within 10 % by the way that was not chosen.
        error_mean_otherwise: Mean relative error by the way that was not chosen.
    """

    rows: int
    networks: int
    outliers: tuple[tuple[int, float], ...]
    power_mw: float
    power_interval: float
    by_counts: bool
    close: float
    close_low: float
    error_mean: float
    error_median: float
    error_max: float
    interval: float
    close_otherwise: float
    error_mean_otherwise: float


@dataclass(frozen=True)
class TooFew:
    """A column beside the latency that too few networks have a number in: the device file says nothing of it.

    Attributes:
        column: Its name.
        networks: Different networks that have a number in it.
        outliers: Lines whose energy was left out because their power is far from the median, with their power over it.
    """

    column: str
    networks: int
    outliers: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class CalibrationReport:
    """How well a calibration fits its table.

    Attributes:
        rows: Rows used.
        networks: Different networks among them.
        tasks: What the networks are for: space, shape of the records and classes, with the number of rows.
        missing: Lines without a usable latency.
        constant: Lines of networks whose output does not depend on the input: engines skip them.
        duplicates: Lines that are identical to another one.
        outliers: Lines left out because they are far from the prediction, with measured over predicted latency.
        close: Share of left-out rows predicted within 10 %.
        close_low: At least this share of other networks is, with 90 % confidence.
        error_mean: Mean relative error of left-out rows.
        error_median: Median of these errors.
        error_max: Largest of them.
        interval: Relative half-width of the 90 % interval.
        fastest_ms: Time of the fastest network.
        slowest_ms: Time of the slowest.
        ceiling: Share of repeated networks within 10 % of their other measurements, which no model can exceed; None if
            no network was measured twice.
        repeated: Rows whose network was measured more than once.
        relative: The known device whose proportions are used where the rows do not determine the model.
        unpriced: Types of operators that no row has, and no other stands in for; networks with one are refused.
        trees: Number of trees of the learned correction; 0 if it does not improve predictions.
        prunes: Whether the engine removes operators whose result is not used; None if the rows are the same either way.
        merges: Whether it computes repeated operators once; None if the rows are the same either way.
        opinions: What it may run, each with its errors, the likeliest before measuring first; see *Opinion*.
        energy: How well the energy is predicted; see *Energy of a calibration*. None if too few networks have one.
        too_few: Columns beside the latency with too few networks for the device file; see *Too few networks*.
        next_to_measure: The most informative networks to measure next, as texts for a table of measurements.
    """

    rows: int
    networks: int
    tasks: str
    missing: tuple[int, ...]
    constant: tuple[int, ...]
    duplicates: tuple[int, ...]
    outliers: tuple[tuple[int, float], ...]
    close: float
    close_low: float
    error_mean: float
    error_median: float
    error_max: float
    interval: float
    fastest_ms: float
    slowest_ms: float
    ceiling: float | None
    repeated: int
    relative: str
    unpriced: tuple[str, ...]
    trees: int
    prunes: bool | None
    merges: bool | None
    opinions: tuple[Opinion, ...]
    energy: EnergyReport | None
    too_few: tuple[TooFew, ...]
    next_to_measure: tuple[str, ...]


@dataclass(frozen=True)
class SortedRows:
    """A table's rows, sorted by what they are good for.

    Attributes:
        rows: The rows to fit.
        missing: Lines without a usable latency.
        constant: Lines of networks whose output does not depend on the input: engines skip them.
        duplicates: Lines that are identical to another one.
    """

    rows: list[Measured]
    missing: tuple[int, ...]
    constant: tuple[int, ...]
    duplicates: tuple[int, ...]


def usable(rows: Sequence[TableRow], about: About) -> SortedRows:
    """Sort the rows of a table by what they are good for.

    Raises:
        ValueError: If there is no column of latencies, or a text in it is no number.
    """
    if rows and "latency_ms" not in rows[0].cells:
        raise ValueError(f"expected a column 'latency_ms'; got {sorted(rows[0].cells)}")
    if about.latency_unit is not None and about.latency_unit not in UNITS_MS:
        raise ValueError(f"expected as latency unit one of {list(UNITS_MS)}; got {about.latency_unit!r}")
    scale = UNITS_MS[about.latency_unit or "ms"]
    found: list[Measured] = []
    missing, constant, duplicates = [], [], []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        numbers = {name: _number(row, name) for name in ("latency_ms", "energy_mj", "ram_kib", "flash_kib")}
        same = (row.architecture.key, *map(str, numbers.values()))
        if numbers["latency_ms"] is None:
            missing.append(row.line)
        elif is_constant(row.architecture):
            constant.append(row.line)
        elif same in seen:
            duplicates.append(row.line)
        else:
            found.append(
                Measured(
                    row.line,
                    row.architecture,
                    numbers["latency_ms"] * scale,
                    numbers["energy_mj"],
                    numbers["ram_kib"],
                    numbers["flash_kib"],
                )
            )
        seen.add(same)
    return SortedRows(found, tuple(missing), tuple(constant), tuple(duplicates))


def engine_of(rows: Sequence[TableRow], asked: str | None) -> str:
    """Return the engine of all rows.

    Raises:
        ValueError: If there are several, or another one is given: latencies of two engines cannot be mixed.
    """
    engines = sorted({row.cells["engine"].strip() for row in rows if row.cells.get("engine", "").strip()})
    if len(engines) > 1:
        raise ValueError(f"expected the measurements of one engine; got {engines}: calibrate a device for each")
    if engines and asked is not None and asked != engines[0]:
        raise ValueError(f"expected measurements of {asked!r}; the rows are of {engines[0]!r}")
    return engines[0] if engines else asked or UNKNOWN_ENGINE


def _number(row: TableRow, name: str) -> float | None:
    """Read a measurement. None if it is empty, NaN, infinite or not above 0 (a failed run)."""
    text = row.cells.get(name, "").strip()
    try:
        number = float(text) if text else math.nan
    except ValueError:
        raise ValueError(f"line {row.line}: expected a number as {name}; got {text!r}") from None
    return number if math.isfinite(number) and number > 0 else None


def left_out(found: SortedRows | CalibrationReport) -> list[str]:
    """Say which lines were left out before the fit, and why.

    >>> left_out(SortedRows([], (3,), (), (5, 6)))
    ['left out (no usable latency): line 3', 'left out (repeated rows): lines 5, 6']
    """
    reasons = {
        "no usable latency": found.missing,
        "the output does not depend on the input": found.constant,
        "repeated rows": found.duplicates,
    }
    return [f"left out ({why}): {named_lines(list(map(str, lines)))}" for why, lines in reasons.items() if lines]


def named_lines(texts: Sequence[str]) -> str:
    """Name lines of a table, the first few."""
    rest = len(texts) - NAMED_LINES
    more = f" and {rest} more" if rest > 0 else ""
    return f"line{'s' if len(texts) > 1 else ''} {', '.join(texts[:NAMED_LINES])}{more}"


def check_count(networks: int, usable: int, rows: int, why: str = "") -> None:
    """Refuse to fit a device to too few different networks.

    Args:
        networks: Different networks.
        usable: Rows that describe them.
        rows: Rows of the table.
        why: Why not all rows are usable, or describe networks of their own.

    Raises:
        ValueError: With how many are needed, and the reasons.
    """
    if networks < MIN_NETWORKS:
        raise ValueError(
            f"expected at least {MIN_NETWORKS} different networks ({GOOD_NETWORKS} or more are good); "
            f"got {networks} in {usable} usable rows of {rows}{': ' if why else ''}{why}"
        )


def reasons(found: SortedRows, rows: Sequence[TableRow]) -> str:
    """Say why a table has fewer different networks than rows: what it is for, what was left out, what is the same."""
    lines: dict[str, list[str]] = {}
    for row in found.rows:
        lines.setdefault(structure_of(row.architecture), []).append(str(row.line))
    same = [f"one network: {named_lines(of_one)}" for of_one in lines.values() if len(of_one) > 1]
    return "; ".join([tasks_of(rows), *left_out(found), *same])


def check_unit(found: Sequence[Measured], about: About) -> None:
    """Refuse latencies that no chip reaches; most likely they are in another unit."""
    if about.latency_unit is not None:
        return
    clock_mhz = about.clock_mhz or UNKNOWN_CLOCK_MHZ
    macs, template = plugins.load("estimators.cost", "macs", "estimate"), load_device("stm32h747")
    rates = [macs(row.architecture, template).value / (row.latency_ms * clock_mhz * 1e3) for row in found]
    rate, (least, most) = float(np.median(rates)), MACS_PER_CYCLE
    if least <= rate <= most:
        return
    unit, name = ("s", "seconds") if rate > most else ("us", "microseconds")
    raise ValueError(
        f"expected latency_ms in milliseconds; got {rate:.3g} MACs per cycle at {clock_mhz:g} MHz, where engines reach "
        f"{least:g} to {most:g}: they look like {name} (add --latency-unit {unit}, or --latency-unit ms to keep them)"
    )


def noise_ceiling(latency_ms: Floats, groups: NDArray[np.int_]) -> tuple[float | None, int]:
    """Return the share of repeated networks within 10 % of the median of their other measurements, and how many rows.

    Args:
        latency_ms: `(rows,)`.
        groups: `(rows,)`, equal for rows of one network.
    """
    close: list[bool] = []
    for group in np.unique(groups):
        times = latency_ms[groups == group]
        others = [np.median(np.delete(times, index)) for index in range(len(times)) if len(times) > 1]
        close += [bool(abs(other / time - 1) <= 0.1) for other, time in zip(others, times, strict=False)]
    return (float(np.mean(close)) if close else None), len(close)
