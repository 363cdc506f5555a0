"""Online RMIA with augmented queries: the ratio of probabilities averaged over a record and moved copies of it.

Zarifzadeh et al., 2024, "Low-Cost High-Power Membership Inference Attacks" (ICML). `rmia_online` scores the record, its
mirror image and its translations by one pixel, each against the references' answers about the same copy. The score is
the mean of log LR. The authors take a majority vote over the copies, which ranks by the median instead.

When to use: as `lira_augmented`, which asks the same questions: an audit asks them once for both. Where copies say less
than the records do, the score is that of `rmia_online`.

What is *not* done: the majority vote, other copies, and what `rmia_online` leaves out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.augmented import COPIES
from estimators.leakage.shared.augmented import over_copies
from estimators.leakage.shared.online_scores import log_relative_probability

NEEDS = ("bank", "queries", "images")
EFFORT = "standard"
QUERIES = COPIES
"""Copies asked about for each record."""


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the mean of log LR; higher means member.

    Raises:
        ValueError: If the evidence has no bank, no images, or no oracles; or no reference was trained on some record.
    """
    return over_copies(evidence, log_relative_probability, "rmia_augmented")
