"""Fit a device to a table of measured networks, and report how well the table determines it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.devices.files import load_device
from estimators.fitting.cycle_model import CycleModel
from estimators.fitting.cycle_model import far
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.cycle_model import relative_of
from estimators.fitting.cycle_model import with_overhead
from estimators.models.counts import COLUMNS
from estimators.models.counts import Floats
from estimators.models.counts import counts_of
from nas import spaces
from nas.calibration.device_file import device_text
from nas.calibration.device_file import template_of
from nas.calibration.measurements import About
from nas.calibration.measurements import CalibrationReport
from nas.calibration.measurements import Measured
from nas.calibration.measurements import Prepared
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
from search_spaces.graph.structure import structure_of
from search_spaces.space import SearchSpace

OUTLIER = 5.0
"""A row that differs by this factor from the prediction of a fit without it is taken for a mistake, not noise."""
CANDIDATES = 100
NEXT = 5


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
    table, prunes = _pruning(found, template)
    table, model, outliers = _fit(table, about.like)
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
        prunes=prunes,
        next_to_measure=_next_to_measure(table, model),
    )
    return device_text(table, model, about, findings), findings


def _pruning(found: Sequence[Measured], template: Device) -> tuple[Prepared, bool | None]:
    """Decide whether the engine removes operators whose result is not used: the assumption that predicts better."""
    table = _prepared(found, template)
    if not any(row.architecture.has_dead_ops for row in found):
        return table, None
    other = _prepared(found, replace(template, prune_dead_ops=False))
    generic = {"generic": generic_relative()}
    pruned, whole = table.fit(generic), other.fit(generic)
    # The share of close rows decides. With few rows it is coarse, so the errors of the other rows count too.
    prunes = pruned.close - far(pruned.ratios) >= whole.close - far(whole.ratios)
    return (table if prunes else other), prunes


def _fit(table: Prepared, like: str | None) -> tuple[Prepared, CycleModel, tuple[tuple[int, float], ...]]:
    """Fit, remove the rows that are far off, and fit again until there are none."""
    relatives = {"generic": generic_relative()}
    if like is not None:
        relatives[like] = relative_of(load_device(like))
    outliers: list[tuple[int, float]] = []
    while True:
        model = table.fit(relatives)
        off = np.abs(np.log(model.ratios)) > math.log(OUTLIER)
        if not off.any():
            return table, model, tuple(sorted(outliers))
        named = zip(table.rows, model.ratios, off, strict=True)
        outliers += [(row.line, float(ratio)) for row, ratio, is_off in named if is_off]
        rows, table = len(table.rows), table.without(off)
        far_off = named_lines([str(line) for line, _ in sorted(outliers)])
        why = f"left out (far from the prediction): {far_off}"
        check_count(len(np.unique(table.groups)), len(table.rows), rows, why)


def _prepared(found: Sequence[Measured], device: Device) -> Prepared:
    running = [deployed(row.architecture, device) for row in found]
    structures = tuple(structure_of(network) for network in running)
    cycles = np.array([row.latency_ms for row in found]) * device.clock_mhz * 1e3
    return Prepared(found, device, structures, _counts(running, device), cycles)


def _counts(running: Iterable[Architecture], device: Device) -> Floats:
    relative = device.latency.relative_by_bits
    return with_overhead(np.array([counts_of(network, relative) for network in running]))


def _unpriced(table: Prepared) -> tuple[str, ...]:
    seen = {kind for (_, kind), count in zip(COLUMNS, table.counts.sum(axis=0), strict=False) if count > 0}
    return tuple(sorted(KERNEL_KINDS - seen - (CONSTANT if table.device.prune_dead_ops else set())))


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
