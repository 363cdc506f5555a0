"""Modified entropy: like entropy, but a confident mistake does not count as a member.

Song and Mittal, 2021, "Systematic Evaluation of Privacy Risks of Machine Learning Models" (USENIX Security):

    Mentr(x) = -(1 - p_y) log p_y - sum over c != y of p_c log(1 - p_c)

It is 0 for a network that is certain of the true label and grows without bound for one that is certain of another. The
score is -Mentr. Mentr falls whenever the posterior of the true label rises, so it ranks nearly as the loss does.

What is *not* done: their threshold for each class, found on a shadow network: `modified_entropy_by_class`. Scores of
all classes are ranked together here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage import scores
from estimators.leakage.evidence import Evidence

NEEDS = ()


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the negative modified entropy; higher means member.

    >>> attack(Evidence(np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]), np.array([0, 0, 0]))).round(3).tolist()
    [-0.693, -0.0, -17.998]
    """
    return -scores.modified_entropy(evidence.logits, evidence.labels)
