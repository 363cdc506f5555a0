"""Modified entropy: spread is suspect if it is right, and a sure mistake is no member.

Song and Mittal, 2021, "Systematic Evaluation of Privacy Risks of Machine Learning Models" (USENIX Security):

    Mentr(x) = -(1 - p_y) log p_y - sum over c != y of p_c log(1 - p_c)

It is 0 for a network sure of the true label and grows without bound for one sure of another; the score is -Mentr. It
falls whenever the true label gains, so it ranks nearly as the loss does.

What is *not* done: their threshold for each class, found on a shadow network. Scores of all classes are ranked together
here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_odds

NEEDS = ()


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the negative modified entropy; higher means member.

    >>> attack(Evidence(np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]), np.array([0, 0, 0]))).round(3).tolist()
    [-0.693, -0.0, -17.998]
    """
    rows = np.arange(len(evidence.labels))
    # Odds against what is right: with q = 1 - p_y for the true label and q = p_c for others, each term is q log(1 - q).
    against = log_odds(evidence.logits)
    against[rows, evidence.labels] *= -1
    return np.asarray(-(expit(against) * np.logaddexp(0.0, against)).sum(axis=1))
