"""Balanced accuracy and advantage of an attack, at a threshold chosen on other records.

The best threshold on the very records that are then counted is an oracle's: at 200 records it finds an advantage of
0.09 where there is none. Here one half of the records chooses and the other half counts.
"""

from __future__ import annotations

import numpy as np

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Scores
from estimators.leakage.statistics.auc_and_rates import by_membership
from estimators.leakage.statistics.auc_and_rates import check_confidence
from estimators.leakage.statistics.auc_and_rates import share_difference


def advantage(scores: Scores, is_member: Mask, *, seed: int, confidence: float = 0.95) -> Estimate:
    """Return TPR minus FPR (Yeom et al., 2018) with a threshold from one half of the records; 0 means no leak.

    The interval is Newcombe's (1998, method 10), for the threshold found, on the half that had no say in it. It can
    lie below 0: a threshold that misled is a finding about the attack.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        seed: Of the split; members and non-members are halved apart.
        confidence: Share of samples whose interval should cover the true advantage of the threshold.

    Raises:
        ValueError: If shapes disagree, a score is NaN, there are fewer than two members or two non-members, or the
            confidence is not between 0 and 1.

    >>> is_member = np.arange(40) < 20
    >>> estimate = advantage(is_member.astype(float), is_member, seed=0)
    >>> estimate.value, round(estimate.low, 2), estimate.high
    (1.0, 0.61, 1.0)
    """
    check_confidence(confidence)
    by_membership(scores, is_member)
    first = calibration_half(is_member, seed)
    is_called = scores[~first] > best_threshold(scores[first], is_member[first])
    return share_difference(is_called, is_member[~first], confidence)


def balanced_accuracy(scores: Scores, is_member: Mask, *, seed: int, confidence: float = 0.95) -> Estimate:
    """Return the mean of TPR and TNR with a threshold from one half of the records; 0.5 means no leak.

    It is `(1 + advantage) / 2`, the interval's ends too.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        seed: Of the split; members and non-members are halved apart.
        confidence: Share of samples whose interval should cover the true balanced accuracy of the threshold.

    Raises:
        ValueError: As `advantage`.
    """
    gain = advantage(scores, is_member, seed=seed, confidence=confidence)
    return Estimate((1 + gain.value) / 2, (1 + gain.low) / 2, (1 + gain.high) / 2)


def best_threshold(scores: Scores, is_member: Mask) -> float:
    """Find the score strictly above which TPR minus FPR is largest; the lowest of several.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.

    Raises:
        ValueError: If shapes disagree, a score is NaN, or there is no member or no non-member.

    >>> best_threshold(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False]))
    0.0
    """
    members, others = by_membership(scores, is_member)
    thresholds = np.unique(scores)
    found = np.searchsorted(np.sort(members), thresholds, side="right") / len(members)
    passed = np.searchsorted(np.sort(others), thresholds, side="right") / len(others)
    return float(thresholds[np.argmax(passed - found)])


def calibration_half(is_member: Mask, seed: int) -> Mask:
    """Draw the half of the records on which a threshold is chosen, members and non-members apart.

    Args:
        is_member: `(records,)`.
        seed: Of the draw.

    Returns:
        `(records,)`; true for the records that choose, at most half of either group.

    Raises:
        ValueError: If there are fewer than two members or two non-members.
    """
    groups = [np.flatnonzero(is_member), np.flatnonzero(~is_member)]
    if min(len(group) for group in groups) < 2:
        raise ValueError(f"expected two members and two non-members to split; got {len(groups[0])}, {len(groups[1])}")
    rng = np.random.default_rng(seed)
    is_first = np.zeros(len(is_member), dtype=np.bool_)
    for group in groups:
        is_first[rng.permutation(group)[: len(group) // 2]] = True
    return is_first
