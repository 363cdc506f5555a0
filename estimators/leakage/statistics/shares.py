"""Shares of records, compared and averaged, with intervals that keep a width where every record answers alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import check_confidence
from estimators.leakage.statistics.auc_and_rates import proportion_interval

PRECISION = 1e-12
"""To which the ends of an interval are found."""

PRECISION = 1e-12
"""To which the ends of an interval are found."""


def paired_difference(first: Mask, second: Mask, confidence: float = 0.95) -> Estimate:
    """Return the share of records for which the first is true minus that for the second, of the same records.

    The interval is Tango's (1998): all differences that a score test of the discordant records does not reject. At 0
    that test is McNemar's, so the interval lies above 0 exactly where McNemar's test, without a correction, finds more
    records true in the first. Records on which both agree count in the number of records alone; where all agree, the
    interval is as wide as that number says.

    Args:
        first: `(records,)`; such as the errors of an exported file.
        second: `(records,)`, in the same order; such as the errors of the network it was written from.
        confidence: Share of samples whose interval should cover the true difference.

    Raises:
        ValueError: If shapes or types disagree, there is no record, or the confidence is not between 0 and 1.

    >>> difference = paired_difference(np.array([True] * 4 + [False] * 96), np.array([False] * 100))
    >>> difference.value, difference.low > 0
    (0.04, True)
    """
    check_confidence(confidence)
    if first.dtype != np.bool_ or second.dtype != np.bool_:
        raise ValueError(f"expected booleans to compare; got {first.dtype} and {second.dtype}")
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"expected the same records twice, at least one; got {first.shape} and {second.shape}")
    records, gained, lost = len(first), int((first & ~second).sum()), int((~first & second).sum())
    value, limit = (gained - lost) / records, float(scipy.stats.norm.ppf((1 + confidence) / 2))

    def beyond(difference: float, sign: int) -> float:
        return sign * _score(gained, lost, records, difference) - limit

    low = scipy.optimize.brentq(beyond, -1 + PRECISION, value, args=(1,), xtol=PRECISION) if value > -1 else -1.0
    high = scipy.optimize.brentq(beyond, value, 1 - PRECISION, args=(-1,), xtol=PRECISION) if value < 1 else 1.0
    return Estimate(value, min(float(low), value), max(float(high), value))


def mean_share(successes: Sequence[int], trials: Sequence[int], confidence: float = 0.95) -> Estimate:
    """Return the mean of the shares of several groups, each counting the same, such as the error averaged over classes.

    The interval puts the exact intervals of the groups together (Zou and Donner, 2008, as Newcombe did for two): the
    distances of their ends from their shares add up as standard errors do. A group of few records makes it wide, as it
    should, and one without errors does not make it narrow.

    Args:
        successes: For each group, how many of its trials.
        trials: For each group, how many in all; at least one.
        confidence: Share of samples whose interval should cover the true mean.

    Raises:
        ValueError: If there is no group, or as `proportion_interval`.

    >>> mean_share([1, 0], [2, 50]).value
    0.25
    """
    if not len(trials):
        raise ValueError("expected at least one group to average over; got none")
    shares = [proportion_interval(int(k), int(n), confidence) for k, n in zip(successes, trials, strict=True)]
    value = math.fsum(share.value for share in shares) / len(shares)
    down = math.hypot(*(share.value - share.low for share in shares)) / len(shares)
    up = math.hypot(*(share.high - share.value for share in shares)) / len(shares)
    return Estimate(value, max(value - down, 0.0), min(value + up, 1.0))


def _score(gained: int, lost: int, records: int, difference: float) -> float:
    """Return Tango's statistic: how many standard errors the counts are above a difference, were it the true one."""
    above = gained - lost - records * difference
    half = -gained - lost + (2 * records - gained + lost) * difference
    product = -lost * difference * (1 - difference)
    # The share of records that only the second names, as likely as can be under that difference.
    only_second = (math.sqrt(max(half**2 - 8 * records * product, 0.0)) - half) / (4 * records)
    variance = records * (2 * only_second + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, above) if above else 0.0
    return above / math.sqrt(variance)
