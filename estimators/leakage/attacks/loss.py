"""Loss: a record with a low loss is probably a member.

Yeom et al., 2018, "Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting". The cheapest attack, and
the baseline of every other. It cannot tell a member from a record that any network would predict well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_probabilities

NEEDS = ()


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the negative cross-entropy loss; higher means member.

    >>> sure_and_unsure = np.array([[4.0, 0.0], [1.0, 0.0]])
    >>> attack(Evidence(sure_and_unsure, np.array([0, 0]))).round(3).tolist()
    [-0.018, -0.313]
    """
    return log_probabilities(evidence.logits, evidence.labels)
