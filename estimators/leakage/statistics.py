"""How well scores tell members from non-members, and how far that number can be trusted.

Scores are `(records,)`, higher means member; `is_member` is `(records,)` booleans. Scores may be infinite (only their
order is read) but not NaN.
"""

from __future__ import annotations

import math
from typing import Literal
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.special import logit
from scipy.stats import binomtest
from scipy.stats import norm

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask

Scores: TypeAlias = NDArray[np.float64]


def auc(scores: Scores, is_member: Mask) -> float:
    """Return the probability that a member scores above a non-member, ties counting half; 0.5 means no leak.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.

    Raises:
        ValueError: If shapes disagree, a score is NaN, or there is no member or no non-member.

    >>> auc(np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False]))
    0.875
    """
    members, others = _groups(scores, is_member)
    return float(_count_below(members, others).sum() / (len(members) * len(others)))


def auc_interval(scores: Scores, is_member: Mask, confidence: float = 0.95) -> Estimate:
    """Return the AUC with DeLong's interval.

    The variance is that of DeLong et al. (1988), by sorting as Sun and Xu (2014) showed, not by pairs. The interval is
    symmetric in log odds, so it stays between 0 and 1 and keeps its coverage near the ends; at 0.5 it is the plain one.

    Where the variance is 0 or undefined (perfect separation, all scores equal, one record in a group), the records are
    thought of as disjoint pairs of a member and a non-member, as many as the smaller group has. Each pair is one fair
    trial of the AUC, so Clopper and Pearson's interval for that many trials holds; it is wider than it need be.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        confidence: Share of samples whose interval should cover the true AUC.

    Raises:
        ValueError: As `auc`, or if the confidence is not between 0 and 1.

    >>> interval = auc_interval(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False]))
    >>> interval.value, round(interval.low, 3), interval.high
    (1.0, 0.158, 1.0)
    """
    _check_confidence(confidence)
    members, others = _groups(scores, is_member)
    below, above = _count_below(members, others), len(members) - _count_below(others, members)
    value = float(below.sum() / (len(members) * len(others)))
    if min(len(members), len(others)) > 1:
        of_members, of_others = below / len(others), above / len(members)
        variance = of_members.var(ddof=1) / len(members) + of_others.var(ddof=1) / len(others)
        # Rounding leaves 1e-34 where all placements are equal; one pair the other way round gives far more.
        if variance > 1e-30 and 0 < value < 1:
            half = norm.ppf((1 + confidence) / 2) * math.sqrt(variance) / (value * (1 - value))
            return Estimate(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))
    pairs = min(len(members), len(others))
    low = proportion_interval(math.floor(value * pairs), pairs, confidence).low
    return Estimate(value, low, proportion_interval(math.ceil(value * pairs), pairs, confidence).high)


def tpr_at_fpr(scores: Scores, is_member: Mask, fpr: float = 0.01) -> float:
    """Return the share of members found at a false positive rate that is never exceeded; higher means more leak.

    The threshold is the lowest observed one whose false positives stay within `floor(fpr * non-members)`; a record is
    called a member if it scores strictly above. Records that tie with the threshold are called non-members on both
    sides. With fewer than `1 / fpr` non-members no false positive is allowed at all.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        fpr: Largest share of non-members that may be called members.

    Raises:
        ValueError: As `auc`, or if `fpr` is not between 0 and 1.

    >>> scores, is_member = np.array([5.0, 3.0, 2.0, 4.0, 2.0, 1.0]), np.array([True] * 3 + [False] * 3)
    >>> [round(tpr_at_fpr(scores, is_member, fpr), 2) for fpr in (0.0, 0.34, 0.67)]
    [0.33, 0.67, 1.0]
    """
    members, others = _groups(scores, is_member)
    allowed = _false_positives(fpr, len(others))
    if allowed == len(others):
        return 1.0
    return float((members > np.sort(others)[-allowed - 1]).mean())


def tpr_at_fpr_interval(
    scores: Scores,
    is_member: Mask,
    fpr: float = 0.01,
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """Return `tpr_at_fpr` with a stratified bootstrap interval that feels the threshold's own noise.

    Members and non-members are resampled separately and the threshold is found anew each time. No resample is built:
    the threshold of one is an order statistic of uniform indices, hence a Beta draw, and the members above it are a
    Binomial draw. That *is* the bootstrap's distribution, at the cost of two random numbers a resample.

    One thing is added to it: an imaginary non-member above all others. No resample has a higher threshold than the
    sample's highest score, but the population may, and without the addition the lower end is too high while few false
    positives are allowed: at 200 + 200 records and 1 % the interval covers 90 %, with it 99 %; from 2,000 non-members
    on the two agree. The percentile interval is widened to hold Clopper and Pearson's at the observed threshold, so
    that it has a width where no resample differs.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        fpr: Largest share of non-members that may be called members.
        seed: Of the resampling.
        resamples: How many.
        confidence: Share of samples whose interval should cover the true rate.

    Raises:
        ValueError: As `tpr_at_fpr`, or if the confidence is not between 0 and 1 or `resamples` below 1.
    """
    _check_confidence(confidence)
    if resamples < 1:
        raise ValueError(f"expected at least one resample; got {resamples}")
    members, others = _groups(scores, is_member)
    allowed = _false_positives(fpr, len(others))
    found = round(tpr_at_fpr(scores, is_member, fpr) * len(members))
    exact = proportion_interval(found, len(members), confidence)
    if allowed == len(others):
        return exact
    rng = np.random.default_rng(seed)
    # The (allowed + 1)-th largest of n resampled indices: n times that order statistic of n uniforms, rounded down.
    position = rng.beta(len(others) - allowed, allowed + 1, size=resamples)
    candidates = np.append(np.sort(others), np.inf)
    thresholds = candidates[np.minimum((position * len(candidates)).astype(np.int64), len(others))]
    above = len(members) - np.searchsorted(np.sort(members), thresholds, side="right")
    rates = rng.binomial(len(members), above / len(members)) / len(members)
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(exact.value, min(exact.low, float(low)), max(exact.high, float(high)))


def accuracy_gap(is_correct: Mask, is_member: Mask, confidence: float = 0.95) -> Estimate:
    """Return the accuracy on members minus that on non-members; 0 means no overfit, 1 is the largest gap.

    The interval is Newcombe's hybrid of two Wilson intervals (Newcombe, 1998, method 10). A gap ranks overfit networks;
    it is a baseline, not a measure of leakage.

    Args:
        is_correct: `(records,)`; true where the network's prediction is the label.
        is_member: `(records,)`.
        confidence: Share of samples whose interval should cover the true gap.

    Raises:
        ValueError: If shapes or types disagree, or there is no member or no non-member.

    >>> gap = accuracy_gap(np.array([True, True, True, False]), np.array([True, True, False, False]))
    >>> gap.value
    0.5
    """
    _check_confidence(confidence)
    if is_correct.dtype != np.bool_:
        raise ValueError(f"expected is_correct as booleans; got {is_correct.dtype}")
    members, others = _groups(is_correct.astype(np.float64), is_member)
    inside = _proportion(int(members.sum()), len(members), confidence, "wilson")
    outside = _proportion(int(others.sum()), len(others), confidence, "wilson")
    gap = inside.value - outside.value
    down = math.hypot(inside.value - inside.low, outside.high - outside.value)
    up = math.hypot(inside.high - inside.value, outside.value - outside.low)
    return Estimate(gap, max(gap - down, -1.0), min(gap + up, 1.0))


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Return a share with Clopper and Pearson's exact interval (1934), which covers at least as often as it says.

    Args:
        successes: How many of the trials.
        trials: How many in all.
        confidence: Share of samples whose interval should cover the true share.

    Raises:
        ValueError: If there is no trial, successes are not between 0 and trials, or the confidence is not between 0
            and 1.

    >>> interval = proportion_interval(0, 10)
    >>> interval.value, interval.low, round(interval.high, 4)
    (0.0, 0.0, 0.3085)
    """
    _check_confidence(confidence)
    return _proportion(successes, trials, confidence, "exact")


def _proportion(successes: int, trials: int, confidence: float, method: Literal["exact", "wilson"]) -> Estimate:
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"expected successes from 0 to trials and at least one trial; got {successes} of {trials}")
    value = successes / trials
    interval = binomtest(successes, trials).proportion_ci(confidence, method)
    # Wilson's end can miss a share of 0 or 1 by one rounding.
    return Estimate(value, min(float(interval.low), value), max(float(interval.high), value))


def _groups(scores: Scores, is_member: Mask) -> tuple[Scores, Scores]:
    """Check scores and split them into members and non-members."""
    if scores.ndim != 1 or is_member.shape != scores.shape:
        raise ValueError(f"expected scores (records,) and is_member (records,); got {scores.shape}, {is_member.shape}")
    if is_member.dtype != np.bool_:
        # Integers would pick records 0 and 1 over and over, and not fail.
        raise ValueError(f"expected is_member as booleans; got {is_member.dtype}")
    if np.isnan(scores).any():
        raise ValueError(f"expected scores without NaN; got {int(np.isnan(scores).sum())} of {len(scores)}")
    members, others = scores[is_member], scores[~is_member]
    if not (len(members) and len(others)):
        raise ValueError(f"expected members and non-members; got {len(members)} and {len(others)}")
    return members, others


def _count_below(values: Scores, others: Scores) -> Scores:
    """Count for each value, in ascending order, the others below it; a tie counts half."""
    # Sorted on both sides: three times as fast as with scattered look-ups, and twice as fast as scipy's rankdata.
    values, others = np.sort(values), np.sort(others)
    return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / 2


def _false_positives(fpr: float, others: int) -> int:
    """Return how many non-members may be called members."""
    if not 0 <= fpr <= 1:
        raise ValueError(f"expected a false positive rate from 0 to 1; got {fpr}")
    # 0.29 * 100 is 28.999999999999996.
    return math.floor(fpr * others + 1e-9)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1; got {confidence}")
