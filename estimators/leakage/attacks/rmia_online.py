"""Online RMIA: the probability of the true label, relative to that of networks half of which saw the record.

Zarifzadeh et al., 2024, "Low-Cost High-Power Membership Inference Attacks" (ICML):

    LR(x) = p(x) / Pr(x)        Pr(x) = (P_in(x) + P_out(x)) / 2

p is the probability of the true label at temperature 2, P_in its mean over the references trained on x, P_out over
those that left it out. `rmia` puts a P_out + (1 - a) in the place of P_in; here it is measured, and no constant is
left. Each side counts half, however many references it has. The score is log LR(x), which ranks as the published count
over a population does, up to ties.

P_in must be that of the candidate's architecture and recipe. A bank of another one is more or less confident of
its members than the candidate would be; to rank candidates against one bank, use `lira_fitted`.

What is *not* done: the Taylor softmax and the trimmed mean over references of the authors' code, and augmented queries.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import log_mean
from estimators.leakage.scores import log_probabilities

NEEDS = ("bank",)
TEMPERATURE = 2.0


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by log LR, against the bank's references; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or no reference was trained on some record.
    """
    expected = _log_expected(bank_of(evidence, "rmia_online"))
    return np.asarray(log_probabilities(evidence.logits, evidence.labels, TEMPERATURE) - expected)


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _log_expected(bank: Bank) -> NDArray[np.float64]:
    """Return `(records,)` log Pr(x)."""
    nowhere = int((~bank.trained_on.any(axis=0)).sum())
    if nowhere:
        raise ValueError(
            "attack 'rmia_online' expected every record to have a reference trained on it; "
            f"{nowhere} of {len(bank.labels)} have none (attack 'rmia' needs none)"
        )
    log_p = np.stack([log_probabilities(logits, bank.labels, TEMPERATURE) for logits in bank.logits])
    log_in, log_out = log_mean(log_p, bank.trained_on), log_mean(log_p, ~bank.trained_on)
    return np.asarray(np.logaddexp(log_in, log_out) - math.log(2))
