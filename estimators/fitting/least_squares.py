"""Fit non-negative coefficients to measured networks, and evaluate them on networks left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import beta
from scipy.stats import t as student_t

from estimators.models.counts import Floats

STRENGTHS = (0.0, 1e-3, 1e-2, 1e-1, 1.0)
CLOSE = 0.1
CONFIDENCE = 0.9
"""Of the share that is claimed for other networks."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A cycle model, and its errors on networks that it was not fitted to.

    Attributes:
        coefficients: `(columns,)`, cycles for one unit of each column.
        ratios: `(networks,)`, measured over predicted; each network predicted by a fit without it.
        strength: How strongly the coefficients were pulled to the prior.
    """

    coefficients: Floats
    ratios: Floats
    strength: float

    @property
    def errors(self) -> Floats:
        """`(networks,)`, predicted over measured, minus 1."""
        return 1 / self.ratios - 1

    @property
    def interval(self) -> float:
        """Relative half-width, around a prediction, that holds the measurement in 90 % of cases."""
        return interval_of(self.ratios)


def interval_of(ratios: Floats) -> float:
    """Return the relative half-width, around a prediction, that holds the measurement in 90 % of cases.

    The conformal quantile of the left-out errors where there are enough of them, Student's t around an unbiased
    prediction where there are not.

    Args:
        ratios: `(networks,)`, measured over predicted, each network left out of the fit that predicts it.
    """
    deviations = np.abs(ratios - 1)
    count = len(deviations)
    rank = int(np.ceil(0.9 * (count + 1)))
    if rank <= count:
        return float(np.sort(deviations)[rank - 1])
    return float(student_t.ppf(0.95, count) * np.sqrt(np.mean(deviations**2)))


def close_of(ratios: Floats) -> float:
    """Return the share of networks predicted within 10 % of the measurement (1 best).

    Args:
        ratios: `(networks,)`, measured over predicted, each network left out of the fit that predicts it.

    >>> close_of(np.array([1.0, 1 / 1.09, 1 / 0.91, 1 / 0.89]))  # predictions 0, 9, -9 and -11 % off
    0.75
    """
    return float(np.mean(np.abs(1 / ratios - 1) <= CLOSE))


def close_at_least(ratios: Floats, groups: NDArray[np.int_]) -> float:
    """Return the share of other networks that is predicted within 10 %, at least, with 90 % confidence (1 best).

    The one-sided bound of Clopper and Pearson (1934) for half as many networks as there are. Errors of cross-validation
    are not independent, because any two share most of the rows that they are fitted to, and bounds that ignore it are
    too high (Bates, Hastie and Tibshirani, 2024). Half is what a single split into rows that fit and rows that judge
    would leave. `benchmarks/calibration_claims.py` counts how often the bound holds. Rows of one network count as one
    network, because what is wrong with one of them is wrong with all.

    Args:
        ratios: `(rows,)`, measured over predicted, each network left out of the fit that predicts it.
        groups: `(rows,)`, equal for rows of one network.

    >>> close_at_least(np.ones(10), np.arange(10)), close_at_least(2 * np.ones(10), np.arange(10))
    (0.6309573444801932, 0.0)
    """
    share, judging = close_of(ratios), len(np.unique(groups)) / 2
    return float(beta.ppf(1 - CONFIDENCE, share * judging, (1 - share) * judging + 1)) if share > 0 else 0.0


def fit_cycles(counts: Floats, cycles: Floats, prior: Floats | None = None, *, folds: int | None = None) -> Fit:
    """Fit non-negative cycles per unit to measured networks, by least squares on the relative error.

    Relative, because a millisecond too much matters on a network of two and not on one of two hundred. With few
    networks the coefficients are pulled to those of a relative (the same engine on another core), scaled by one factor
    to these measurements; how strongly is chosen by cross-validation, so the errors left out are slightly flattering.

    Args:
        counts: `(networks, columns)`, MACs, elements or kernels of each type.
        cycles: `(networks,)`, measured.
        prior: `(columns,)`, cycles of each column on the relative; only their ratios matter. None: no regularisation.
        folds: Groups of networks left out together; None leaves out one at a time.

    Raises:
        ValueError: If there are fewer than three networks, shapes disagree, or a measurement is not above 0.
    """
    if len(cycles) < 3 or counts.shape[:1] != cycles.shape:
        raise ValueError(f"expected counts (networks, columns) of at least 3; got {counts.shape} and {cycles.shape}")
    if not (np.isfinite(cycles).all() and (cycles > 0).all() and np.isfinite(counts).all()):
        raise ValueError("expected finite counts and measurements above 0")
    group = np.arange(len(cycles)) % (folds or len(cycles))
    strengths = (0.0,) if prior is None else STRENGTHS
    prior = np.ones(counts.shape[1]) if prior is None else prior
    ratios = {strength: _left_out(counts, cycles, prior, strength, group) for strength in strengths}
    strength = min(strengths, key=lambda strength: float(np.mean((ratios[strength] - 1) ** 2)))
    return Fit(solve(counts, cycles, prior, strength), ratios[strength], strength)


def _left_out(counts: Floats, cycles: Floats, prior: Floats, strength: float, group: NDArray[np.int_]) -> Floats:
    ratios = np.empty(len(cycles))
    for fold in range(group.max() + 1):
        out = group == fold
        predicted = counts[out] @ solve(counts[~out], cycles[~out], prior, strength)
        # A type that only the network left out has may make its prediction 0: a large error, but a finite one.
        ratios[out] = cycles[out] / np.maximum(predicted, 1e-3 * cycles[out])
    return ratios


def solve(counts: Floats, cycles: Floats, prior: Floats, strength: float, weights: Floats | None = None) -> Floats:
    """Return `(columns,)` non-negative cycles per unit that are nearest to the measurements and to a scaled prior.

    Args:
        counts: `(networks, columns)`.
        cycles: `(networks,)`, measured.
        prior: `(columns,)`; a column of 0 stays 0.
        strength: Weight of the prior against one network's relative error.
        weights: `(networks,)`; None: all 1.
    """
    roots = np.sqrt(np.ones(len(cycles)) if weights is None else weights)
    shares = counts * prior / cycles[:, None] * roots[:, None]
    total = shares.sum(axis=1)
    scale = (roots @ total) / (total @ total)
    # In units of the scaled prior a column weighs as much as its share of the time, whatever it counts.
    pull = np.sqrt(strength) * np.eye(len(prior))
    factors, _ = nnls(np.vstack([shares * scale, pull]), np.concatenate([roots, np.diag(pull)]))
    return np.asarray(factors * scale * prior, dtype=np.float64)
