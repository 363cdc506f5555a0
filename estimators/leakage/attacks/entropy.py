"""Entropy: the negative entropy of the posteriors, which is higher for members.

Salem et al., 2019, "ML-Leaks" (NDSS), after Shokri et al., 2017, who saw that members' posteriors are less spread:

    score(x) = sum over c of p_c log p_c

the negative entropy of the softmax. Like `confidence` it reads no label, and takes a confident mistake for a
member; `modified_entropy` does not.

What is *not* done: a threshold for each class (Song and Mittal, 2021), which takes reference networks:
`entropy_by_class`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage import scores
from estimators.leakage.evidence import Evidence

NEEDS = ()
READS_LABELS = False


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the negative entropy, in nats: from -log(classes) to 0; higher means member.

    >>> attack(Evidence(np.array([[0.0, 0.0], [100.0, 0.0]]), np.array([0, 0]))).round(3).tolist()
    [-0.693, -0.0]
    """
    return -scores.entropy(evidence.logits)
