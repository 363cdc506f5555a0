"""Fit a device to a table of measured networks, and report how well the table determines it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.devices.files import load_device
from estimators.fitting.cycle_model import CycleModel
from estimators.fitting.cycle_model import fit_cycle_model
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.cycle_model import is_better
from estimators.fitting.cycle_model import relative_of
from estimators.fitting.cycle_model import with_overhead
from estimators.fitting.least_squares import close_at_least
from estimators.fitting.least_squares import close_of
from estimators.models.counts import COLUMNS
from estimators.models.counts import Floats
from estimators.models.counts import counts_of
from nas import spaces
from nas.calibration.device_file import device_text
from nas.calibration.device_file import template_of
from nas.calibration.energy import energy_report
from nas.calibration.energy import fit_energy
from nas.calibration.energy import with_energy
from nas.calibration.measurements import MIN_NETWORKS
from nas.calibration.measurements import OUTLIER
from nas.calibration.measurements import About
from nas.calibration.measurements import CalibrationReport
from nas.calibration.measurements import Measured
from nas.calibration.measurements import Opinion
from nas.calibration.measurements import Prepared
from nas.calibration.measurements import TooFew
from nas.calibration.measurements import check_count
from nas.calibration.measurements import check_unit
from nas.calibration.measurements import engine_of
from nas.calibration.measurements import named_lines
from nas.calibration.measurements import noise_ceiling
from nas.calibration.measurements import reasons
from nas.calibration.measurements import usable
from nas.runs.tables import TableRow
from nas.runs.tables import tasks_of
from nas.spaces import sample
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.operators import STANDS_IN
from search_spaces.graph.structure import structure_of
from search_spaces.space import SearchSpace

CANDIDATES = 100
NEXT = 5
Tables: TypeAlias = tuple[tuple[Prepared, ...], ...]
"""The rows by whether dead operators run, and within that by whether repeated ones do, the likeliest first."""


def calibrate(rows: Sequence[TableRow], about: About) -> tuple[str, CalibrationReport]:
    """Fit a device to measured networks.

    Args:
        rows: Networks with the columns `latency_ms` and, optionally, `energy_mj`, `ram_kib`, `flash_kib`.
        about: Facts about the device that the rows do not contain.

    Returns:
        The text of the device file, and a report on the fit.

    Raises:
        ValueError: If a column is missing or has a text that is not a number, the unit is implausible, or there are too
            few networks.
    """
    about = replace(about, engine=engine_of(rows, about.engine))
    table_rows = usable(rows, about)
    found = table_rows.rows
    template = template_of(about)
    structures = {structure_of(row.architecture) for row in found}
    check_count(len(structures), len(found), len(rows), reasons(table_rows, rows))
    check_unit(found, about)
    relatives = _relatives(about.like)
    tables, model, outliers = _fit(_tables(found, template), relatives)
    table = _at(tables, model)
    energy = fit_energy(table, model, relatives)
    errors = np.abs(1 / model.ratios - 1)
    ceiling, repeated = noise_ceiling(table.cycles, table.groups)
    findings = CalibrationReport(
        rows=len(table.rows),
        networks=len(np.unique(table.groups)),
        tasks=tasks_of(rows),
        missing=table_rows.missing,
        constant=table_rows.constant,
        duplicates=table_rows.duplicates,
        outliers=outliers,
        close=model.close,
        close_low=close_at_least(model.ratios, table.groups),
        error_mean=float(errors.mean()),
        error_median=float(np.median(errors)),
        error_max=float(errors.max()),
        interval=model.interval,
        fastest_ms=min(row.latency_ms for row in table.rows),
        slowest_ms=max(row.latency_ms for row in table.rows),
        ceiling=ceiling,
        repeated=repeated,
        relative=model.relative,
        unpriced=_unpriced(table),
        trees=len(model.trees),
        prunes=table.device.prune_dead_ops if len(tables) > 1 else None,
        merges=table.device.merge_repeated_ops if len(tables[model.counting[0]]) > 1 else None,
        opinions=_opinions(tables, model),
        energy=None if energy is None else energy_report(energy),
        too_few=_too_few(rows, table),
        next_to_measure=_next_to_measure(table, model),
    )
    return device_text(table, model, energy, about, findings), findings


def _relatives(like: str | None) -> dict[str, Floats]:
    relatives = {"generic": generic_relative()}
    if like is not None:
        relatives[like] = relative_of(load_device(like))
    return relatives


def _tables(found: Sequence[Measured], template: Device) -> Tables:
    """Prepare the rows for each opinion of what the engine runs, as far as they tell them apart.

    Engines that remove dead operators are as common as those that run them. Few compute repeated operators once, so
    that stands second, unless the template says it.
    """
    tables: list[tuple[Prepared, ...]] = []
    for prunes in (template.prune_dead_ops, not template.prune_dead_ops):
        likely = [
            _prepared(found, replace(template, prune_dead_ops=prunes, merge_repeated_ops=merges))
            for merges in (template.merge_repeated_ops, not template.merge_repeated_ops)
        ]
        tables.append(tuple(likely if _differ(*likely) else likely[:1]))
    return tuple(tables if _differ(tables[0][0], tables[1][0]) else tables[:1])


def _differ(table: Prepared, other: Prepared) -> bool:
    return not np.array_equal(table.counts, other.counts)


def _fit(tables: Tables, relatives: Mapping[str, Floats]) -> tuple[Tables, CycleModel, tuple[tuple[int, float], ...]]:
    """Fit, remove the rows that are far off, and fit again until there are none."""
    outliers: list[tuple[int, float]] = []
    while True:
        first = tables[0][0]
        # All opinions are judged on the same folds: networks stay together that are the same by any of them.
        groups = min((table.groups for likely in tables for table in likely), key=lambda groups: int(groups.max()))
        offered = [[table.counts for table in likely] for likely in tables]
        model = fit_cycle_model(offered, first.cycles, groups, relatives)
        off = np.abs(np.log(model.ratios)) > math.log(OUTLIER)
        if not off.any():
            return tables, model, tuple(sorted(outliers))
        named = zip(first.rows, model.ratios, off, strict=True)
        outliers += [(row.line, float(ratio)) for row, ratio, is_off in named if is_off]
        tables = tuple(tuple(table.without(off) for table in likely) for likely in tables)
        left = _at(tables, model)
        far_off = named_lines([str(line) for line, _ in sorted(outliers)])
        why = f"left out (far from the prediction): {far_off}"
        check_count(len(np.unique(left.groups)), len(left.rows), len(first.rows), why)


def _at(tables: Tables, model: CycleModel) -> Prepared:
    one, other = model.counting
    return tables[one][other]


def _opinions(tables: Tables, model: CycleModel) -> tuple[Opinion, ...]:
    return tuple(
        Opinion(
            prunes=tables[one][other].device.prune_dead_ops,
            merges=tables[one][other].device.merge_repeated_ops,
            close=close_of(ratios),
            error_mean=float(np.mean(np.abs(1 / ratios - 1))),
            worse=is_better(model.rivals[model.counting], ratios),
        )
        for (one, other), ratios in model.rivals.items()
    )


def _prepared(found: Sequence[Measured], device: Device) -> Prepared:
    running = [deployed(row.architecture, device) for row in found]
    structures = tuple(structure_of(network) for network in running)
    cycles = np.array([row.latency_ms for row in found]) * device.clock_mhz * 1e3
    return Prepared(found, device, structures, _counts(running, device), cycles)


def _counts(running: Iterable[Architecture], device: Device) -> Floats:
    relative = device.latency.relative_by_bits
    return with_overhead(np.array([counts_of(network, relative) for network in running]))


def _too_few(rows: Sequence[TableRow], table: Prepared) -> tuple[TooFew, ...]:
    """Return the columns that somebody filled in, for fewer networks than a device file needs."""
    seen, outliers = with_energy(table)
    found = [
        TooFew("energy_mj", table.without(~seen).having("energy_mj"), outliers),
        *(TooFew(column, table.having(column), ()) for column in ("ram_kib", "flash_kib")),
    ]
    filled_in = {few.column for few in found if any(row.cells.get(few.column, "").strip() for row in rows)}
    return tuple(few for few in found if few.networks < MIN_NETWORKS and few.column in filled_in)


def _unpriced(table: Prepared) -> tuple[str, ...]:
    seen = {kind for (_, kind), count in zip(COLUMNS, table.counts.sum(axis=0), strict=False) if count > 0}
    stood_in = {kind for kind, other in STANDS_IN.items() if other in seen}
    return tuple(sorted(KERNEL_KINDS - seen - stood_in - (CONSTANT if table.device.prune_dead_ops else set())))


def _next_to_measure(table: Prepared, model: CycleModel) -> tuple[str, ...]:
    """Choose the networks whose prediction has the largest variance, one after the other."""
    space_name = Counter(row.architecture.space for row in table.rows).most_common(1)[0][0]
    known = next(row.architecture for row in table.rows if row.architecture.space == space_name)
    space = spaces.space_named(space_name, known.input_shape, known.num_classes)
    drawn = _random_points(space, table.device)
    candidates = [network for structure, network in drawn.items() if structure not in set(table.structures)]
    shares = _shares(table.counts, model)
    offered = _shares(_counts(candidates, table.device), model)
    precision = shares.T @ shares + 1e-3 * np.eye(shares.shape[1])
    chosen = []
    for _ in range(min(NEXT, len(candidates))):
        best = int(np.argmax(np.einsum("ij,jk,ik->i", offered, np.linalg.inv(precision), offered)))
        precision += np.outer(offered[best], offered[best])
        offered[best] = 0.0
        chosen.append(json.dumps(dict(candidates[best].params)))
    return tuple(chosen)


def _random_points(space: SearchSpace, device: Device) -> dict[str, Architecture]:
    """Draw networks as they run on a device, by their structure. A network without MACs is left out."""
    rng = np.random.default_rng(0)
    points = (sample(space.distributions, rng) for _ in range(CANDIDATES))
    drawn = (deployed(space.decode(point), device) for point in points)
    return {structure_of(network): network for network in drawn if any(kernel.macs for kernel in network.kernels)}


def _shares(counts: Floats, model: CycleModel) -> Floats:
    """Return `(rows, columns)` shares of the predicted time. A column without cost gets a small share."""
    scale = np.where(model.coefficients > 0, model.coefficients, 0.1 * generic_relative())
    return counts * scale / np.maximum(counts @ model.coefficients, 1.0)[:, None]
