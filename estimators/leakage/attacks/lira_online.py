"""Online LiRA: the likelihood ratio of the confidence between networks with the record and networks without it.

Carlini et al., 2022, "Membership Inference Attacks From First Principles" (S&P). With phi = log(p / (1 - p)) of the
true label, and a normal distribution of phi over the references trained on x (in) and over those that left it out,

    score(x) = log N(phi; mean_in, deviation_in) - log N(phi; mean_out, deviation_out)

Below 64 references each side has one deviation for all records, pooled within records; from 64 on each record has its
own. References must be of the candidate's architecture and recipe, because mean_in is the confidence of *such* a
network on its members. It is the standard audit of one network, not the proxy of a search. The evidence does not say
what the references are, so `lira` cannot decide when to use this form, and it is an attack of its own.

Not monotone: where the two deviations differ, the wider side wins at both ends, and a network far more confident than
all references scores low if deviation_out is the wider. This is the published ratio, unchanged.

With augmented queries it is `lira_augmented`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.online_scores import log_likelihood_ratio

NEEDS = ("bank",)
MIN_REFERENCES = 4
"""Two trained on each record, and two not: a bank trains half of its references on it."""


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the log likelihood ratio; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or a record has fewer than two references trained on it, or than two
            that left it out.
    """
    return log_likelihood_ratio(evidence, "lira_online")
