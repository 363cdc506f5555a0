"""Entropy of the posteriors, with a threshold for each class, because classes differ in difficulty.

Song and Mittal, 2021, "Systematic Evaluation of Privacy Risks of Machine Learning Models" (USENIX Security). A record
counts as a member if the entropy H of its softmax is below the threshold of its class; the score is

    score(x) = log t_y - log H(x)

with t_y the entropy that best separates members from non-members over the references. The logarithms change no
decision. They separate very confident records, for which H minus a threshold would be the same number. Above 0 the
published attack says member. A class with fewer than 50 members or non-members over all references uses the threshold
of all classes.

Like `entropy` it takes a confident mistake for a member, because the label only chooses the threshold.
`modified_entropy_by_class` does not, and is the better choice.

What is *not* done: a threshold from the attacked network's own known members. Evidence names none.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import entropy
from estimators.leakage.shared.learned import class_thresholds

NEEDS = ("bank",)


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by how far below its class's threshold the entropy is, in logarithms; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or its references were trained on none of the records.
    """
    thresholds = _thresholds(bank_of(evidence, "entropy_by_class"))
    return np.asarray(_signal(evidence.logits) - thresholds[evidence.labels])


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _thresholds(bank: Bank) -> NDArray[np.float64]:
    """Return `(classes,)` negative logarithms."""
    return class_thresholds(bank, np.stack([_signal(logits) for logits in bank.logits]))


def _signal(logits: Floats) -> NDArray[np.float64]:
    # An entropy of 0 in float64 is not 0: its logarithm is a number.
    return np.asarray(-np.log(np.maximum(entropy(logits), np.finfo(np.float64).tiny)))
