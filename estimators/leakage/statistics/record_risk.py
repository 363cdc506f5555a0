"""How much a network depends on each record, and the rank correlation of two such risks."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import softmax
from scipy.stats import kendalltau
from scipy.stats import norm
from scipy.stats import spearmanr

from estimators.estimate import Estimate
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import check_logits
from estimators.leakage.statistics.auc_and_rates import check_confidence

Risk: TypeAlias = NDArray[np.float64]

# Distances held at once: 2 MiB an array, about a dozen arrays.
CHUNK = 2**18


def shapr(logits: Floats, labels: Labels, test_logits: Floats, test_labels: Labels) -> Risk:
    """Compute SHAPr: how much each training record helps to classify test records, by the network's outputs alone.

    Duddu, Szyller and Asokan (2021, arXiv 2112.02230): the Shapley value of a training record where a coalition's worth
    is the accuracy of its nearest neighbour classifier in the space of softmax outputs. The values are exact, by the
    recursion of Jia et al. (2019, "Efficient task-specific data valuation for nearest neighbor algorithms"), and scaled
    by the number of training records. The authors take a record above 0 to be at risk.

    Records at the same distance share their ranks: each gets its mean over all their orders, so that equal records get
    equal values, in whatever order they come. Confident networks give many such ties.

    Two warnings. The *mean* over records is not a measure of leakage: it equals the nearest neighbour accuracy, that
    is, utility, and a network that leaks more does not raise it. And a mislabelled record has a negative value, for it
    harms its neighbours, though it is among those that attacks find first. Compare with LiRA by `kendall_tau`.

    Args:
        logits: `(records, classes)` of the training records.
        labels: `(records,)`, their classes.
        test_logits: `(test records, classes)` of records that were not trained on.
        test_labels: `(test records,)`, their classes.

    Returns:
        `(records,)`; higher means the network leans more on the record.

    Raises:
        ValueError: If shapes or types disagree, a logit is not finite, or a label is out of range.

    >>> logits, labels = np.array([[9.0, 0.0], [0.0, 9.0], [1.0, 8.0]]), np.array([0, 1, 0])
    >>> shapr(logits, labels, logits[:2], labels[:2]).round(2).tolist()
    [0.75, 1.5, 0.75]
    """
    check_logits(logits, labels, "the network on training records")
    check_logits(test_logits, test_labels, "the network on test records")
    if logits.shape[1] != test_logits.shape[1]:
        raise ValueError(f"expected as many classes in both; got {logits.shape[1]} and {test_logits.shape[1]}")
    outputs = softmax(logits.astype(np.float64), axis=1)
    test_outputs = softmax(test_logits.astype(np.float64), axis=1)
    total = np.zeros(len(labels))
    rows = max(CHUNK // len(labels), 1)
    for start in range(0, len(test_labels), rows):
        chunk = slice(start, start + rows)
        # By pairs, not by a matrix product, whose rounding would tell equal records apart.
        distances = cdist(test_outputs[chunk], outputs, "sqeuclidean")
        total += _neighbour_values(distances, test_labels[chunk, None] == labels)
    return total * (len(labels) / len(test_labels))


def kendall_tau(risk: Risk, other: Risk, confidence: float = 0.95) -> Estimate:
    """Return Kendall's tau-b between two risks of the same records, with an interval; 1 means the same order.

    The interval is symmetric in Fisher's z, with the variance 0.437 / (records - 4) of Fieller, Hartley and Pearson
    (1957): good for |tau| up to about 0.8 and few ties.

    Args:
        risk: `(records,)`.
        other: `(records,)`, of the same records in the same order.
        confidence: Share of samples whose interval should cover the true value.

    Raises:
        ValueError: If shapes disagree, there are fewer than five records, a risk is NaN or all are equal, or the
            confidence is not between 0 and 1.

    >>> kendall_tau(np.arange(8.0), np.array([0.0, 1, 3, 2, 4, 5, 6, 7])).value.__round__(3)
    0.929
    """
    _check_risks(risk, other, confidence)
    records = len(risk)
    # Adjacent orders differ by one discordant pair.
    step = 4 / (records * (records - 1))
    return _fisher(float(kendalltau(risk, other).statistic), 0.437 / (records - 4), step, confidence)


def spearman_rho(risk: Risk, other: Risk, confidence: float = 0.95) -> Estimate:
    """Return Spearman's rho between two risks of the same records, with an interval; 1 means the same order.

    The interval is symmetric in Fisher's z, with the variance (1 + rho^2 / 2) / (records - 3) of Bonett and Wright
    (2000).

    Args:
        risk: `(records,)`.
        other: `(records,)`, of the same records in the same order.
        confidence: Share of samples whose interval should cover the true value.

    Raises:
        ValueError: As `kendall_tau`.
    """
    _check_risks(risk, other, confidence)
    records, value = len(risk), float(spearmanr(risk, other).statistic)
    step = 12 / (records * (records**2 - 1))
    return _fisher(value, (1 + value**2 / 2) / (records - 3), step, confidence)


def _neighbour_values(distances: Risk, is_same: Mask) -> Risk:
    """Sum over test records the Shapley values `(records,)` of nearest neighbour classification.

    In ranks r = 1 ... n from the nearest, with right(r) whether the class is the test record's, the recursion of Jia et
    al. sums to right(r) / r - sum over t > r of right(t) / (t (t - 1)). Within a tie at ranks a to b that holds k right
    ones, the mean over the orders needs the mean of 1 / r alone.
    """
    records = distances.shape[1]
    order = np.argsort(distances, axis=1)
    right = np.take_along_axis(is_same, order, axis=1)
    first, last = _tie_ends(np.take_along_axis(distances, order, axis=1))
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, records + 1)))
    counted = np.pad(np.cumsum(right, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    tied = last - first + 1
    in_tie = np.take_along_axis(counted, last, axis=1) - np.take_along_axis(counted, first - 1, axis=1)
    inverse_rank = (harmonic[last] - harmonic[first - 1]) / tied
    others_right = (in_tie - right) / np.maximum(tied - 1, 1)
    rank = np.arange(1, records + 1)
    # What a right record at rank t takes from all nearer ones; no record is nearer than rank 1.
    taken = in_tie / tied / np.maximum(rank * (rank - 1), 1)
    beyond = np.pad(np.cumsum(taken[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1)))
    later = np.take_along_axis(beyond, last, axis=1)
    values = right * inverse_rank - others_right * (inverse_rank - 1 / last) - later
    return np.bincount(order.ravel(), weights=values.ravel(), minlength=records).astype(np.float64)


def _tie_ends(ascending: Risk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find, for each place of sorted rows, the first and the last rank (from 1) of the tie it is in."""
    records = ascending.shape[1]
    differs = ascending[:, 1:] != ascending[:, :-1]
    rank = np.arange(1, records + 1)
    starts = np.where(np.pad(differs, ((0, 0), (1, 0)), constant_values=True), rank, 1)
    ends = np.where(np.pad(differs, ((0, 0), (0, 1)), constant_values=True), rank, records)
    return np.maximum.accumulate(starts, axis=1), np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]


def _check_risks(risk: Risk, other: Risk, confidence: float) -> None:
    check_confidence(confidence)
    if risk.ndim != 1 or other.shape != risk.shape or len(risk) < 5:
        raise ValueError(f"expected two risks (records,) of at least 5 records; got {risk.shape} and {other.shape}")
    for values in (risk, other):
        if np.isnan(values).any() or values.min() == values.max():
            raise ValueError("expected risks without NaN that differ between records; got NaN or all equal")


def _fisher(value: float, variance: float, step: float, confidence: float) -> Estimate:
    # A perfect order is not certainty: its interval is that of the next best order.
    inside = math.copysign(min(abs(value), 1 - step), value)
    half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(variance)
    low, high = math.tanh(math.atanh(inside) - half), math.tanh(math.atanh(inside) + half)
    return Estimate(value, min(low, value), max(high, value))
