"""Offline RMIA: the probability of the true label, relative to that of networks not trained on the record.

Zarifzadeh et al., 2024, "Low-Cost High-Power Membership Inference Attacks" (ICML). A record x scores

    LR(x) = p(x) / Pr(x)        Pr(x) = ((1 + a) P_out(x) + (1 - a)) / 2

where p(x) is the candidate's probability of the true label, softened by temperature 2, and P_out(x) the mean of the
same over the references that left x out. Pr(x) is the mean over networks with and without x; offline there are none
with x, and P_in = a P_out + (1 - a) stands in for them.

Published RMIA then counts the population records z with LR(x) > gamma LR(z). With one query per record that count
grows with LR(x) and with nothing else, so AUC and TPR are those of LR(x), up to ties that a finite population makes;
the logarithm of LR(x) is the score here. The population would add thresholds known in advance; a ranking needs none.

In an audit, whose references have the network's own recipe, `rmia_tuned` chooses the constant on them.

What is *not* done: the Taylor softmax and the trimmed mean over references of the authors' code, and augmented queries.
The online form is `rmia_online`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import log_mean
from estimators.leakage.scores import log_mixture
from estimators.leakage.scores import log_probabilities

NEEDS = ("bank",)
TEMPERATURE = 2.0
# Zarifzadeh et al. on CIFAR-10. Tuned on the bank instead, it follows how far the references overfit, and candidates
# overfit differently: benchmarks/rmia_slope.py has the rank correlations.
SLOPE = 0.3


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by log LR, against the bank's references; higher means member.

    Whatever depends on the bank alone is computed once per bank: the second candidate costs one log-softmax.

    Raises:
        ValueError: If the evidence has no bank.
    """
    expected = _log_expected(bank_of(evidence, "rmia"))
    return np.asarray(log_probabilities(evidence.logits, evidence.labels, TEMPERATURE) - expected)


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _log_expected(bank: Bank) -> NDArray[np.float64]:
    """Return `(records,)` log Pr(x)."""
    log_p = np.stack([log_probabilities(logits, bank.labels, TEMPERATURE) for logits in bank.logits])
    return log_mixture(log_mean(log_p, ~bank.trained_on), SLOPE)
