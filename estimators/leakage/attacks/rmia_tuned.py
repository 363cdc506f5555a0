"""Offline RMIA with its constant chosen on the references: for audits, whose references have the network's own recipe.

Zarifzadeh et al., 2024, "Low-Cost High-Power Membership Inference Attacks" (ICML); Privacy Meter chooses the constant
likewise. As in `rmia`, with the probabilities at temperature 2,

    LR(x) = p(x) / Pr(x)        Pr(x) = ((1 + a) P_out(x) + (1 - a)) / 2

where a P_out + (1 - a) stands in for the mean over networks trained on x. How close the two are depends on how far such
networks overfit. A network that knows its members by heart wants a small a, a network that generalises a large one.
Up to four references are each attacked with all others as the bank. Their members are known, and a is the multiple of
.1 with the highest mean AUC. The audited network takes no part in the choice.

When to use: where the references have the network's architecture and recipe. To rank candidates of a search against one
bank, `rmia` is better: the constant would follow how far the references overfit, and candidates overfit differently
(`benchmarks/rmia_slope.py`).

What is *not* done: as in `rmia`. With references that were trained on each record, `rmia_online` needs no constant.
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
from estimators.leakage.statistics.auc_and_rates import auc

NEEDS = ("bank",)
MIN_REFERENCES = 4
"""One is attacked with the others, of which one at least left each record out."""
TEMPERATURE = 2.0
SLOPES = tuple(step / 10 for step in range(11))
ATTACKED = 4
"""References that are attacked to choose the constant; more of them agree with these."""


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by log LR, against the bank's references; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or the bank has a single reference.
    """
    expected = _log_expected(bank_of(evidence, "rmia_tuned"))
    return np.asarray(log_probabilities(evidence.logits, evidence.labels, TEMPERATURE) - expected)


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _log_expected(bank: Bank) -> NDArray[np.float64]:
    """Return `(records,)` log Pr(x), with the constant that betrays the references most."""
    if len(bank.logits) < 2:
        raise ValueError("attack 'rmia_tuned' attacks one reference with the others: expected two or more; got 1")
    log_p = np.stack([log_probabilities(logits, bank.labels, TEMPERATURE) for logits in bank.logits])
    return log_mixture(log_mean(log_p, ~bank.trained_on), _slope(log_p, bank))


def _slope(log_p: NDArray[np.float64], bank: Bank) -> float:
    """Return the constant with the highest mean AUC over the attacked references, the smallest of equal ones."""
    aucs = np.zeros(len(SLOPES))
    for own in range(min(ATTACKED, len(log_p))):
        others = np.arange(len(log_p)) != own
        known = ~bank.trained_on[others].all(axis=0)
        is_member = bank.trained_on[own][known]
        if not 0 < is_member.sum() < len(is_member):
            continue  # a reference whose members are all or none of the records shows nothing
        log_out = log_mean(log_p[others][:, known], ~bank.trained_on[others][:, known])
        aucs += [auc(log_p[own][known] - log_mixture(log_out, slope), is_member) for slope in SLOPES]
    return SLOPES[int(aucs.argmax())]
