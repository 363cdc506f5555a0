"""Label-only attack by distance: the distance of a record from the decision boundary, found by queries.

Choquette-Choo et al., 2021, "Label-Only Membership Inference Attacks" (ICML). Training moves the boundary away from the
records it sees:

    score(x) = L2 distance from x to the nearest point found of another predicted class; 0 where x itself has another

by HopSkipJump (Chen, Jordan and Wainwright, 2020), with at most 1,000 queries for each record. Only the
predicted class is read: rounding, a temperature, or a defence that keeps the class and hides the confidences
change no score.

When to use: on the networks that a search ends with, not on its candidates; 128 noisy copies cost an eighth. Distances
are in the features' units, one standard deviation of a column. A record of which no other class was found scores twice
the largest distance.

What is *not* done: the authors' 2,500 queries and more, with which distances of images come closer to the true ones; a
threshold from a network of the attacker's own; steps in bits, for binary columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import oracle_of
from estimators.leakage.shared.hop_skip_jump import distances

NEEDS = ("queries",)
LABEL_ONLY = True
EFFORT = "full"


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the distance to the decision boundary; higher means member.

    Raises:
        ValueError: If the evidence has no features or no oracle.
    """
    features, oracle = oracle_of(evidence, "label_boundary")
    found = distances(oracle.query, features, evidence.labels).distances
    known = np.isfinite(found)
    return np.where(known, found, 2 * found.max(where=known, initial=0.5))
