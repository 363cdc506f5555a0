"""Fit a device's energy to measured rows: a constant power times the time, or nanojoules by type of operator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.fitting.cycle_model import CycleModel
from estimators.fitting.cycle_model import fit_cycle_model
from estimators.fitting.cycle_model import folds_of
from estimators.fitting.cycle_model import is_better
from estimators.fitting.least_squares import close_at_least
from estimators.fitting.least_squares import close_of
from estimators.fitting.least_squares import interval_of
from estimators.models.counts import Floats
from estimators.models.energy import NANOJOULES_PER_MILLIJOULE
from nas.calibration.measurements import MIN_NETWORKS
from nas.calibration.measurements import OUTLIER
from nas.calibration.measurements import EnergyReport
from nas.calibration.measurements import Prepared


@dataclass(frozen=True, eq=False)
class EnergyModel:
    """What rows with an energy say of a device.

    Attributes:
        table: These rows, without the outliers.
        outliers: Lines whose power is far from the median, with their power over it: a wrong unit, a wrong digit.
        power_mw: Their median power.
        power_interval: Relative half-width of the power's 90 % interval.
        nanojoules: The energy's own coefficients, in nanojoules for cycles; None where power times time is as good.
        ratios: `(rows,)`, measured over predicted energy, each row left out of both power and time.
        otherwise: The same by the way that was not chosen.
    """

    table: Prepared
    outliers: tuple[tuple[int, float], ...]
    power_mw: float
    power_interval: float
    nanojoules: CycleModel | None
    ratios: Floats
    otherwise: Floats


def fit_energy(table: Prepared, model: CycleModel, relatives: Mapping[str, Floats]) -> EnergyModel | None:
    """Fit the energy, and choose by cross-validation between power times time and coefficients of its own.

    A constant power is the likelier way, so coefficients are taken only if they predict better by more than chance.

    Args:
        table: The rows of the device.
        model: The device's cycle model, with the ratios of each row left out.
        relatives: `(columns,)` cycles of known devices, by name, whose proportions nanojoules are pulled to.

    Returns:
        None where fewer than `MIN_NETWORKS` different networks have an energy.
    """
    seen, outliers = with_energy(table)
    part = table.without(~seen)
    if part.having("energy_mj") < MIN_NETWORKS:
        return None
    energy_mj, latency_ms = np.array([(row.energy_mj or 0.0, row.latency_ms) for row in part.rows]).T
    power_mw = energy_mj / latency_ms * 1e3
    by_power = np.empty(len(power_mw))
    for out in folds_of(part.groups):
        by_power[out] = power_mw[out] / np.median(power_mw[~out]) * model.ratios[seen][out]
    nanojoules = fit_cycle_model([[part.counts]], energy_mj * NANOJOULES_PER_MILLIJOULE, part.groups, relatives)
    differs = is_better(nanojoules.ratios, by_power)
    median_mw = float(np.median(power_mw))
    return EnergyModel(
        table=part,
        outliers=outliers,
        power_mw=median_mw,
        power_interval=interval_of(power_mw / median_mw),
        nanojoules=nanojoules if differs else None,
        ratios=nanojoules.ratios if differs else by_power,
        otherwise=by_power if differs else nanojoules.ratios,
    )


def with_energy(table: Prepared) -> tuple[NDArray[np.bool_], tuple[tuple[int, float], ...]]:
    """Return `(rows,)` which rows have an energy that is taken, and the outliers, as in `EnergyModel`."""
    power = np.array([(row.energy_mj or math.nan) / row.latency_ms * 1e3 for row in table.rows])
    relative = power / np.nanmedian(power) if np.isfinite(power).any() else power
    seen = np.abs(np.log(relative)) <= math.log(OUTLIER)
    off = zip(table.rows, relative, np.isfinite(power) & ~seen, strict=True)
    return seen, tuple((row.line, float(ratio)) for row, ratio, is_off in off if is_off)


def energy_report(model: EnergyModel) -> EnergyReport:
    """Say how well the energy of left-out rows is predicted."""
    errors, others = (np.abs(1 / ratios - 1) for ratios in (model.ratios, model.otherwise))
    return EnergyReport(
        rows=len(model.ratios),
        networks=len(np.unique(model.table.groups)),
        outliers=model.outliers,
        power_mw=model.power_mw,
        power_interval=model.power_interval,
        by_counts=model.nanojoules is not None,
        close=close_of(model.ratios),
        close_low=close_at_least(model.ratios, model.table.groups),
        error_mean=float(errors.mean()),
        error_median=float(np.median(errors)),
        error_max=float(errors.max()),
        interval=interval_of(model.ratios),
        close_otherwise=close_of(model.otherwise),
        error_mean_otherwise=float(others.mean()),
    )
