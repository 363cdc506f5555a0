"""Offline RMIA: is the network surer of a record than networks that never saw it?

Zarifzadeh et al., 2024, "Low-Cost High-Power Membership Inference Attacks" (ICML). A record x scores

    LR(x) = p(x) / Pr(x)        Pr(x) = ((1 + a) P_out(x) + (1 - a)) / 2

where p(x) is the candidate's probability of the true label, softened by temperature 2, and P_out(x) the mean of the
same over the references that left x out. Pr(x) is the mean over networks with and without x; offline there are none
with x, and P_in = a P_out + (1 - a) stands in for them.

Published RMIA then counts the population records z with LR(x) > gamma LR(z). With one query per record that count
grows with LR(x) and with nothing else, so AUC and TPR are those of LR(x), up to ties that a finite population makes;
the logarithm of LR(x) is the score here. The population would add thresholds known in advance; a ranking needs none.

What is *not* done: the Taylor softmax and the trimmed mean over references of the authors' code, augmented queries, and
the online form.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Mask
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics import auc

NEEDS_BANK = True
TEMPERATURE = 2.0
SLOPES = tuple(step / 10 for step in range(11))
SLOPE_UNTUNED = 0.3  # Zarifzadeh et al. on CIFAR-10; used where the bank is too small to choose


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by log LR, against the bank's references; higher means member.

    Whatever depends on the bank alone is computed once per bank: the second candidate costs one log-softmax.

    Raises:
        ValueError: If the evidence has no bank.
    """
    if evidence.bank is None:
        raise ValueError("attack 'rmia' compares with reference networks: expected evidence with a bank; got none")
    own = log_probabilities(evidence.logits, evidence.labels, TEMPERATURE)
    return np.asarray(own - _log_expected(evidence.bank))


def tune_slope(log_p: NDArray[np.float64], trained_on: Mask) -> float:
    """Choose a of `P_in = a P_out + (1 - a)`: the one of 0, 0.1, ..., 1 by which the references betray each other most.

    Each reference is attacked with all others; its own members are known, so its AUC is too. The candidate plays no
    part: a constant fitted to it would report the leakage of the fit.

    Args:
        log_p: `(references, records)`, log probability of the true label.
        trained_on: `(references, records)`; true where that reference was trained on that record.

    Returns:
        The slope with the highest mean AUC, among equals the one nearest to the published 0.3. That value itself where
        no reference can be attacked: of two that share a pool, no record is left out by both.
    """
    aucs = []
    for own, log_out, is_member in zip(log_p, _log_mean_out_of_others(log_p, trained_on), trained_on, strict=True):
        known = np.isfinite(log_out)
        members = is_member[known]
        if members.any() and not members.all():
            aucs.append([auc(own[known] - _log_mixture(log_out[known], slope), members) for slope in SLOPES])
    if not aucs:
        return SLOPE_UNTUNED
    mean = dict(zip(SLOPES, np.mean(aucs, axis=0), strict=True))
    return max(SLOPES, key=lambda slope: (mean[slope], -abs(slope - SLOPE_UNTUNED)))


@lru_cache(maxsize=4)
def _log_expected(bank: Bank) -> NDArray[np.float64]:
    """Return `(records,)` log Pr(x). Cached by identity, for a few banks, because the key keeps its bank alive."""
    log_p = np.stack([log_probabilities(logits, bank.labels, TEMPERATURE) for logits in bank.logits])
    return _log_mixture(_log_mean_out(log_p, bank.trained_on), tune_slope(log_p, bank.trained_on))


def _log_mixture(log_out: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    constant = math.log1p(-slope) if slope < 1 else -math.inf
    return np.asarray(np.logaddexp(math.log1p(slope) + log_out, constant) - math.log(2))


def _log_mean_out(log_p: NDArray[np.float64], trained_on: Mask) -> NDArray[np.float64]:
    """Return `(records,)` log P_out. In logarithms: a probability of exp(-5000) is 0 in float64."""
    out = np.where(trained_on, -np.inf, log_p)
    return np.asarray(np.logaddexp.reduce(out, axis=0) - np.log((~trained_on).sum(axis=0)))


def _log_mean_out_of_others(log_p: NDArray[np.float64], trained_on: Mask) -> NDArray[np.float64]:
    """Return `(references, records)` log P_out from all references but the row's own; -inf where none is left."""
    out = np.where(trained_on, -np.inf, log_p)
    # Sums of the rows above and below, because sum minus own loses all digits where the own is most of it.
    log_sum = np.full_like(out, -np.inf)
    log_sum[1:] = np.logaddexp.accumulate(out[:-1], axis=0)
    log_sum[:-1] = np.logaddexp(log_sum[:-1], np.logaddexp.accumulate(out[:0:-1], axis=0)[::-1])
    count = (~trained_on).sum(axis=0) - ~trained_on
    return np.asarray(log_sum - np.log(np.maximum(count, 1)))
