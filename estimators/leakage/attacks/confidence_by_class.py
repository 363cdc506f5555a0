"""Confidence in the true label, with a threshold for each class, because classes differ in difficulty.

Song and Mittal, 2021, "Systematic Evaluation of Privacy Risks of Machine Learning Models" (USENIX Security), after
Yeom et al. (2018) and Salem et al. (2019). A record counts as a member if p_y, the posterior of its true label, is
above the threshold of its class,

    score(x) = log(p_y / (1 - p_y)) - t_y

with t_y in the same log odds: the one that best separates members from non-members over the references, whose members
are known. Above 0 the published attack says member. A class with fewer than 50 members or non-members over all
references uses the threshold of all classes.

Use it if classes differ much in difficulty and the bank is too small to calibrate each record. The
references should be as overfitted as the candidate: a threshold of all classes alike changes no ranking, but the
differences between them do.

What is *not* done: a threshold from the attacked network's own known members. Evidence names none.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import scaled_logit
from estimators.leakage.shared.learned import class_thresholds

NEEDS = ("bank",)


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the log odds of the true label, less the threshold of its class; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or its references were trained on none of the records.
    """
    thresholds = _thresholds(bank_of(evidence, "confidence_by_class"))
    return np.asarray(scaled_logit(evidence.logits, evidence.labels) - thresholds[evidence.labels])


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _thresholds(bank: Bank) -> NDArray[np.float64]:
    """Return `(classes,)` log odds."""
    return class_thresholds(bank, np.stack([scaled_logit(logits, bank.labels) for logits in bank.logits]))
