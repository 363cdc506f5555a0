"""What an attack would find had nothing been memorised, from networks that left the records out.

Claimed members that are easier than the non-members score higher by any network, also by one that saw none of them.
Each reference network shows how much: its own records are left aside, the others are split by the *claimed* membership
of the attacked network, and the AUC of that split is the null. It is 0.5 where members and non-members are of the same
kind. Placements are averaged over the references record by record, so that the intervals are those of DeLong et al.
(1988): the records are the sample, and what is hard about a record is the same for all networks.

An AUC is corrected by its null in log odds, `logit(AUC) - logit(null)`. For scores of a normal or a logistic
distribution a leak and a shift add up on that scale, not on that of the AUC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.special import logit
from scipy.stats import norm

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Scores
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import check_confidence
from estimators.leakage.statistics.auc_and_rates import placements

LEAST = 10
"""A reference that left out fewer members or fewer non-members says nothing about a shift."""
SMALLEST = 1e-9
"""Probabilities are kept this far from 0 and 1, where log odds are infinite."""


@dataclass(frozen=True, slots=True, eq=False)
class OnReferences:
    """One attack's scores of reference networks, each attacked in the place of the network.

    Attributes:
        scores: `(references, records)`; higher means member.
        left_out: `(references, records)`: true where that reference was not trained on that record.
    """

    scores: Scores
    left_out: Mask


def null_auc(on: OnReferences, is_member: Mask, confidence: float = 0.95) -> Estimate:
    """Return the mean AUC of references on what they left out, split by the claimed membership; 0.5 without a shift.

    Args:
        on: What the attack scores on each reference.
        is_member: `(records,)`: membership of the attacked network, as claimed.
        confidence: Share of samples whose interval should cover the null.

    Raises:
        ValueError: If shapes disagree, or no reference left out ten members and ten non-members.

    >>> on = OnReferences(np.tile(np.arange(40.0), (2, 1)), np.ones((2, 40), bool))
    >>> round(null_auc(on, np.arange(40) % 2 == 1).value, 3)
    0.525
    """
    check_confidence(confidence)
    of_members, of_others = _averaged(on, is_member)
    value = float(np.nanmean(of_members) + np.nanmean(of_others)) / 2
    spread = math.sqrt(_variance(of_members) + _variance(of_others))
    if not (spread > 1e-15 and 0 < value < 1):
        return _without_spread(value, min(_counted(of_members), _counted(of_others)), confidence)
    return _interval(float(logit(value)), spread / (value * (1 - value)), confidence, value)


def corrected_auc(found: Scores, on: OnReferences, is_member: Mask, confidence: float = 0.95) -> Estimate:
    """Return the AUC of an attack less the shift that the references show, `expit(logit(AUC) - logit(null))`.

    The interval is paired: what is hard about a record is in the attack's placement and in the references', and cancels
    out. It stands for the records, and not for the spread between trainings.

    Args:
        found: `(records,)`, of the attack on the attacked network; higher means member.
        on: What the same attack scores on each reference.
        is_member: `(records,)`: membership of the attacked network, as claimed.
        confidence: Share of samples whose interval should cover the true number.

    Raises:
        ValueError: As `null_auc`.
    """
    plain, null = auc_interval(found, is_member, confidence), null_auc(on, is_member, confidence)
    own, shift = _odds(plain.value), _odds(null.value)
    value = float(expit(own - shift))
    both = zip(placements(found, is_member), _averaged(on, is_member), strict=True)
    apart = [one / _slope(plain.value) - mean / _slope(null.value) for one, mean in both]
    spread = math.sqrt(sum(_variance(part) for part in apart))
    if not (spread > 1e-15 and 0 < plain.value < 1 and 0 < null.value < 1):
        low, high = _odds(plain.low) - _odds(null.high), _odds(plain.high) - _odds(null.low)
        return Estimate(value, float(expit(low)), float(expit(high)))
    return _interval(own - shift, spread, confidence, value)


def _averaged(on: OnReferences, is_member: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average each record's placements over the references that left it out; NaN where none did."""
    scores, left_out = on.scores, on.left_out
    if scores.shape != left_out.shape or scores.shape[1:] != is_member.shape:
        raise ValueError(
            "expected scores and left_out (references, records) and is_member (records,); "
            f"got {scores.shape}, {left_out.shape} and {is_member.shape}"
        )
    total, count = np.zeros(len(is_member)), np.zeros(len(is_member))
    for own, rows in zip(scores, left_out, strict=True):
        claimed = is_member[rows]
        if min(int(claimed.sum()), int((~claimed).sum())) < LEAST:
            continue
        placed = np.empty(len(claimed))
        placed[claimed], placed[~claimed] = placements(own[rows], claimed)
        total[rows] += placed
        count[rows] += 1
    if not count.any():
        raise ValueError(f"expected a reference that left out at least {LEAST} members and {LEAST} non-members")
    with np.errstate(invalid="ignore"):
        mean = total / count
    return mean[is_member], mean[~is_member]


def _variance(values: NDArray[np.float64]) -> float:
    """Return the variance of the mean of the values that are known."""
    return float(np.nanvar(values, ddof=1)) / _counted(values)


def _counted(values: NDArray[np.float64]) -> int:
    return int((~np.isnan(values)).sum())


def _odds(share: float) -> float:
    return float(logit(min(max(share, SMALLEST), 1 - SMALLEST)))


def _slope(share: float) -> float:
    held = min(max(share, SMALLEST), 1 - SMALLEST)
    return held * (1 - held)


def _interval(odds: float, spread: float, confidence: float, value: float) -> Estimate:
    half = float(norm.ppf((1 + confidence) / 2)) * spread
    return Estimate(value, float(expit(odds - half)), float(expit(odds + half)))


def _without_spread(value: float, pairs: int, confidence: float) -> Estimate:
    """Return Hoeffding's interval (1963) for as many pairs as the smaller group has, where no placement differs."""
    half = math.sqrt(math.log(2 / (1 - confidence)) / (2 * pairs))
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0))
