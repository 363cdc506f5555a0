"""Modified entropy, with a threshold for each class: the strongest attack on outputs that does not calibrate records.

Song and Mittal, 2021, "Systematic Evaluation of Privacy Risks of Machine Learning Models" (USENIX Security). A record
counts as a member if its modified entropy (see `modified_entropy`) is below the threshold of its class; the score is

    score(x) = log t_y - log Mentr(x)

with t_y the one that best separates members from non-members over the references. The logarithms change no decision.
They separate very confident records, for which Mentr minus a threshold would be the same number. Above 0 the
published attack says member. A class with fewer than 50 members or non-members over all references uses the threshold
of all classes.

What is *not* done: a threshold from the attacked network's own known members. Evidence names none.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import modified_entropy
from estimators.leakage.shared.learned import class_thresholds

NEEDS = ("bank",)


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by how far below its class's threshold Mentr is, in logarithms; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or its references were trained on none of the records.
    """
    thresholds = _thresholds(bank_of(evidence, "modified_entropy_by_class"))
    return np.asarray(_signal(evidence.logits, evidence.labels) - thresholds[evidence.labels])


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _thresholds(bank: Bank) -> NDArray[np.float64]:
    """Return `(classes,)` negative logarithms."""
    return class_thresholds(bank, np.stack([_signal(logits, bank.labels) for logits in bank.logits]))


def _signal(logits: Floats, labels: Labels) -> NDArray[np.float64]:
    # A modified entropy of 0 in float64 is not 0: its logarithm is a number.
    return np.asarray(-np.log(np.maximum(modified_entropy(logits, labels), np.finfo(np.float64).tiny)))
