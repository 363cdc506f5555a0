"""AUC and rates of membership scores, with confidence intervals.

Scores are `(records,)`, higher means member; `is_member` is `(records,)` booleans. Scores may be infinite (only their
order is read) but not NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask

Scores: TypeAlias = NDArray[np.float64]

# With k false positives allowed, the FPR reached scatters by 1 / sqrt(k): at ten it is within half and twice.
FALSE_POSITIVES_NEEDED = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two numbers of the same records are apart.

    Attributes:
        estimate: The first minus the second.
        p_value: How likely so large a difference is, either way, where there is none.
    """

    estimate: Estimate
    p_value: float


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
    members, others = by_membership(scores, is_member)
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
    check_confidence(confidence)
    members, others = by_membership(scores, is_member)
    below, above = _count_below(members, others), len(members) - _count_below(others, members)
    value = float(below.sum() / (len(members) * len(others)))
    if min(len(members), len(others)) > 1:
        of_members, of_others = below / len(others), above / len(members)
        variance = of_members.var(ddof=1) / len(members) + of_others.var(ddof=1) / len(others)
        # Rounding leaves 1e-34 where all placements are equal; one pair the other way round gives far more.
        if variance > 1e-30 and 0 < value < 1:
            half = scipy.stats.norm.ppf((1 + confidence) / 2) * math.sqrt(variance) / (value * (1 - value))
            return Estimate(
                value,
                float(scipy.special.expit(scipy.special.logit(value) - half)),
                float(scipy.special.expit(scipy.special.logit(value) + half)),
            )
    pairs = min(len(members), len(others))
    low = proportion_interval(math.floor(value * pairs), pairs, confidence).low
    return Estimate(value, low, proportion_interval(math.ceil(value * pairs), pairs, confidence).high)


def auc_difference(first: Scores, second: Scores, is_member: Mask, confidence: float = 0.95) -> Difference:
    """Return the AUC of the first scores minus that of the second, on the same records, by the paired DeLong test.

    DeLong et al. (1988): each record's placements are subtracted before their variance is taken, so what makes a record
    easy for both cancels out. Two intervals of `auc_interval` that overlap say nothing of the kind.

    Where the variance is 0 (both attacks right on all pairs, or equal), interval and p-value are Hoeffding's (1963) for
    as many disjoint pairs as the smaller group has; they are wider than they need be.

    Args:
        first: `(records,)`; higher means member.
        second: `(records,)`, of the same records in the same order: another attack, or another network.
        is_member: `(records,)`.
        confidence: Share of samples whose interval should cover the true difference.

    Raises:
        ValueError: As `auc_interval`.

    >>> is_member = np.array([True, True, True, False, False, False])
    >>> first, second = np.array([5.0, 4, 1, 3, 0, 2]), np.array([2.0, 1, 4, 3, 0, 5])
    >>> difference = auc_difference(first, second, is_member)
    >>> round(difference.estimate.value, 3), round(difference.p_value, 2)
    (0.333, 0.39)
    """
    check_confidence(confidence)
    (of_members, of_others), (from_members, from_others) = placements(first, is_member), placements(second, is_member)
    members, others = of_members - from_members, of_others - from_others
    value, pairs = float(members.mean()), min(len(members), len(others))
    variance = members.var(ddof=1) / len(members) + others.var(ddof=1) / len(others) if pairs > 1 else 0.0
    if variance > 1e-30:
        spread = math.sqrt(variance)
        half, p_value = (
            float(scipy.stats.norm.ppf((1 + confidence) / 2)) * spread,
            2 * scipy.stats.norm.sf(abs(value) / spread),
        )
    else:
        half, p_value = math.sqrt(2 * math.log(2 / (1 - confidence)) / pairs), 2 * math.exp(-pairs * value**2 / 2)
    return Difference(Estimate(value, max(value - half, -1.0), min(value + half, 1.0)), min(float(p_value), 1.0))


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
    members, others = by_membership(scores, is_member)
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
    check_confidence(confidence)
    if resamples < 1:
        raise ValueError(f"expected at least one resample; got {resamples}")
    members, others = by_membership(scores, is_member)
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


def check_tpr_records(is_member: Mask, fpr: float) -> None:
    """Refuse to report TPR at an FPR that too few non-members can show.

    The FPR that a threshold really has is known to a factor of two only where it lets ten false positives through:
    1,000 non-members for 1 %, 10,000 for 0.1 %. With fewer, and with none allowed at all, TPR at that FPR is a number
    about the threshold's luck.

    Args:
        is_member: `(records,)`.
        fpr: The false positive rate to report at, above 0.

    Raises:
        ValueError: If there are too few non-members, saying how many it takes, or `fpr` is not above 0 and at most 1.

    >>> check_tpr_records(np.arange(4000) < 2000, 0.001)
    Traceback (most recent call last):
    ValueError: expected at least 10,000 non-members to report TPR at 0.1 % FPR; got 2,000
    """
    if not 0 < fpr <= 1:
        raise ValueError(f"expected a false positive rate above 0 and at most 1; got {fpr}")
    needed, others = math.ceil(FALSE_POSITIVES_NEEDED / fpr - 1e-9), int((~is_member).sum())
    if others < needed:
        raise ValueError(
            f"expected at least {needed:,} non-members to report TPR at {100 * fpr:g} % FPR; got {others:,}"
        )


def accuracy_gap(is_correct: Mask, is_member: Mask, confidence: float = 0.95) -> Estimate:
    """Return the accuracy on members minus that on non-members; 0 means no overfit, 1 is the largest gap.

    A gap ranks overfit networks; it is a baseline, not a measure of leakage. The interval is that of
    `share_difference`.

    Args:
        is_correct: `(records,)`; true where the network's prediction is the label.
        is_member: `(records,)`.
        confidence: Share of samples whose interval should cover the true gap.

    Raises:
        ValueError: As `share_difference`.

    >>> gap = accuracy_gap(np.array([True, True, True, False]), np.array([True, True, False, False]))
    >>> gap.value
    0.5
    """
    return share_difference(is_correct, is_member, confidence)


def share_difference(is_true: Mask, is_member: Mask, confidence: float = 0.95) -> Estimate:
    """Return the share of members for whom something is true minus that of non-members.

    The interval is Newcombe's hybrid of two Wilson intervals (Newcombe, 1998, method 10).

    Args:
        is_true: `(records,)`; what is counted, such as a right prediction, or an attack's calling it a member.
        is_member: `(records,)`.
        confidence: Share of samples whose interval should cover the true difference.

    Raises:
        ValueError: If shapes or types disagree, there is no member or no non-member, or the confidence is not between
            0 and 1.

    >>> share_difference(np.array([True, False, True, True]), np.array([True, True, False, False])).value
    -0.5
    """
    check_confidence(confidence)
    if is_true.dtype != np.bool_:
        raise ValueError(f"expected booleans to count; got {is_true.dtype}")
    members, others = by_membership(is_true.astype(np.float64), is_member)
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
    check_confidence(confidence)
    return _proportion(successes, trials, confidence, "exact")


def placements(scores: Scores, is_member: Mask) -> tuple[Scores, Scores]:
    """Compute for each member, in order, the share of non-members below, and for each non-member that of members above.

    Both have the AUC as their mean, and DeLong's variance is that of their means.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.

    Raises:
        ValueError: As `auc`.

    >>> placements(np.array([3.0, 1.0, 2.0]), np.array([True, True, False]))
    (array([1., 0.]), array([0.5]))
    """
    members, others = by_membership(scores, is_member)
    below, above = np.empty(len(members)), np.empty(len(others))
    below[np.argsort(members)] = _count_below(members, others) / len(others)
    above[np.argsort(others)] = 1 - _count_below(others, members) / len(members)
    return below, above


def by_membership(scores: Scores, is_member: Mask) -> tuple[Scores, Scores]:
    """Check scores and split them into members' and non-members'.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.

    Raises:
        ValueError: If shapes or types disagree, a score is NaN, or there is no member or no non-member.
    """
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


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is no share, such as 95 for 0.95.

    Args:
        confidence: Of an interval or a bound.

    Raises:
        ValueError: If it is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1; got {confidence}")


def _proportion(successes: int, trials: int, confidence: float, method: Literal["exact", "wilson"]) -> Estimate:
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"expected successes from 0 to trials and at least one trial; got {successes} of {trials}")
    value = successes / trials
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method)
    # Wilson's end can miss a share of 0 or 1 by one rounding.
    return Estimate(value, min(float(interval.low), value), max(float(interval.high), value))


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
