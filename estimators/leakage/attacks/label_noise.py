"""Label-only attack by noise: the share of noisy copies of a record that are classified correctly.

Choquette-Choo et al., 2021, "Label-Only Membership Inference Attacks" (ICML). Training moves the decision boundary away
from the records it sees, so noisy copies of members are classified correctly more often:

    score(x) = share of right predictions over 64 copies, 16 at each of four levels of noise

Images and continuous columns get normal noise; in columns with at most two values, a share of the values is flipped.
The levels are fixed, in standard deviations of the features, which are standardised: the paper tunes one on a network
of the attacker's own, and four in a row hold one that fits most networks, and tell more records apart. Every record
gets the same noise. Only the predicted class is read: rounding, a temperature, or a defence that keeps the class and
hides the confidences change no score.

When to use: as `label_augment`, where no references answer queries, or records are no images. 65 distinct scores at
most. Queries: 64 for each record; memory: one more copy of the records.

What is *not* done: a level for each data set, and thousands of copies, with which the share approximates the distance
to the boundary; `label_boundary` looks for it directly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import oracle_of
from estimators.leakage.shared.copies import bit_columns
from estimators.leakage.shared.copies import is_right
from estimators.leakage.shared.copies import perturb

NEEDS = ("queries",)
LABEL_ONLY = True
EFFORT = "standard"
# Standard deviation of the noise, and share of the bits turned over.
LEVELS = ((0.05, 0.005), (0.1, 0.01), (0.2, 0.02), (0.4, 0.05))
COPIES = 16
QUERIES = COPIES * len(LEVELS)
"""Copies asked about for each record."""


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the share of noisy copies classified correctly, 0 to 1; higher means member.

    Raises:
        ValueError: If the evidence has no features or no oracle.
    """
    features, oracle = oracle_of(evidence, "label_noise")
    bits, generator = bit_columns(features), np.random.default_rng(0)
    right = np.zeros(len(features))
    for deviation, turned in LEVELS:
        share = np.where(bits, turned, 1.0)
        for _ in range(COPIES):
            right += is_right(oracle, perturb(features, deviation, share, bits, generator), evidence.labels)
    return right / QUERIES
