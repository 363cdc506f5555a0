"""What counts at many thresholds rule out together: the private trainings under which they would be too unlikely.

A guarantee of privacy bounds every attack's true positive rate by a function of its false positive rate. The bounds of
`epsilon` and of `gaussian_epsilon` differ in that function alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from estimators.leakage.statistics.auc_and_rates import Scores

Highest: TypeAlias = Callable[[Scores, float], Scores]
"""The highest true positive rates that a guarantee allows, of false positive rates and of its parameter."""
TOLERANCE = 1e-6
# Steps over which the distribution of a false positive rate is summed, from -STEP_RANGE to STEP_RANGE deviations.
STEPS, STEP_RANGE = 120, 6.0


def ruled_out(
    members: Scores, others: Scores, highest: Highest, *, most: float, confidence: float, thresholds: int
) -> float:
    """Return the largest parameter of a guarantee that the scores rule out; 0 if they rule out none.

    The thresholds are ranks of the non-members, so that they do not depend on the scores, from the highest to the
    lowest, spaced evenly in deviations of a normal distribution. At a rank two counts are random. How many of *all*
    non-members lie above it is a Beta variable, whatever their distribution is; how many members do is then a binomial
    one, whose rate the guarantee bounds. Their joint distribution is summed in steps, each taken at its upper end. A
    parameter is ruled out if so many members have, at some rank, less than that rank's share of the error (Bonferroni).
    So the result is exact and no approximation for many records; where scores tie it is on the safe side. Testing both
    counts at once costs less than a bound for each of the two rates.

    Args:
        members: `(members,)`; higher means member. Independent of each other and of the others.
        others: `(non-members,)`.
        highest: What the guarantee allows; it rises with both of its arguments.
        most: The largest parameter to try.
        confidence: Share of samples in which a training that keeps the guarantee is not ruled out.
        thresholds: At most how many; fixed before the scores were seen.

    Raises:
        ValueError: If there is no threshold to try.
    """
    ranks = _ranks(len(others), thresholds)
    error, shares = (1 - confidence) / len(ranks), _shares()
    hits = len(members) - np.searchsorted(np.sort(members), np.sort(others)[::-1][ranks], side="right")
    rates, hits = _false_positive_rates(len(others), thresholds)[hits > 0], hits[hits > 0, None]

    def rules_out(parameter: float) -> NDArray[np.bool_]:
        chances = scipy.special.betainc(hits, len(members) - hits + 1, highest(rates, parameter))
        return np.asarray(chances @ shares <= error)

    low, high, doubling = 0.0, 0.0, True
    while doubling or high - low > TOLERANCE:
        tried = high if doubling else (low + high) / 2
        by = rules_out(tried)
        if by.any():
            # A rank that does not rule this out rules out nothing larger.
            low, rates, hits = tried, rates[by], hits[by]
            if tried >= most:
                return most
            high = min(max(2 * high, 1.0), most) if doubling else high
        else:
            high, doubling = tried, False
    return low


def largest(above: Callable[[float], float], most: float) -> float:
    """Return the largest number that is ruled out, less a tolerance; 0 if there is none.

    Args:
        above: Rises with its argument; below 0 for numbers that are ruled out.
        most: No larger number is tried.
    """
    if above(0.0) >= 0:
        return 0.0
    high = 1.0
    while above(high) < 0:
        if high >= most:
            return most
        high = min(2 * high, most)
    return max(float(scipy.optimize.brentq(above, 0.0, high, xtol=TOLERANCE)) - 2 * TOLERANCE, 0.0)


def _ranks(records: int, count: int) -> NDArray[np.int64]:
    """Space ranks from 0 to the last, evenly in deviations of a normal distribution."""
    if count < 1:
        raise ValueError(f"expected at least one threshold; got {count}")
    end = -float(scipy.special.ndtri(0.5 / records)) if records > 1 else 0.0
    places = scipy.special.ndtr(np.linspace(-end, end, count)) * records
    return np.unique(np.minimum(places.astype(np.int64), records - 1))


@lru_cache(maxsize=8)
def _false_positive_rates(records: int, count: int) -> Scores:
    """Return `(ranks, steps)`: the false positive rate at each rank, at the upper end of each step."""
    places = _ranks(records, count)[:, None] + 1
    return np.asarray(scipy.special.betaincinv(places, records - places + 1, scipy.special.ndtr(_ends())))


def _shares() -> Scores:
    """Return `(steps,)`: the probability of each step."""
    return np.diff(scipy.special.ndtr(_ends()), prepend=0.0)


def _ends() -> Scores:
    return np.append(np.linspace(-STEP_RANGE, STEP_RANGE, STEPS), np.inf)
