"""Online LiRA with augmented queries: the likelihood ratio averaged over a record and moved copies of it.

Carlini et al., 2022, "Membership Inference Attacks From First Principles" (S&P). `lira_online` scores the record, its
mirror image and its translations by one pixel, each against the references' answers about the same copy, and the score
is the mean of these log likelihood ratios. A network that was trained with such copies has learned them as well, and
the noise of a single answer averages out.

When to use: for images and signals where the recipe augments (`benchmarks/augmented_queries.py`). Four references are
asked first; where their copies say less than the records do, the score is that of `lira_online`. Queries: 5 for each
record, of the network and of each reference. References must be of the network's architecture and recipe.

What is *not* done: the normal distribution of several dimensions that the paper fits to all answers about a record from
64 references on, and other copies than these.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.augmented import COPIES
from estimators.leakage.shared.augmented import over_copies
from estimators.leakage.shared.online_scores import log_likelihood_ratio

NEEDS = ("bank", "queries", "images")
MIN_REFERENCES = 4
EFFORT = "standard"
QUERIES = COPIES
"""Copies asked about for each record."""


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the mean log likelihood ratio; higher means member.

    Raises:
        ValueError: If the evidence has no bank, no images, or no oracles; or a record has fewer than two references
            trained on it, or than two that left it out.
    """
    return over_copies(evidence, log_likelihood_ratio, "lira_augmented")
