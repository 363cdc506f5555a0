"""Online RMIA: the probability of the true label, relative to that of networks half of which saw the record.

Zarifzadeh et al., 2024, "Low-Cost High-Power Membership Inference Attacks" (ICML):

    LR(x) = p(x) / Pr(x)        Pr(x) = (P_in(x) + P_out(x)) / 2

p is the probability of the true label at temperature 2, P_in its mean over the references trained on x, P_out over
those that left it out. `rmia` puts a P_out + (1 - a) in the place of P_in; here it is measured, and no constant is
left. Each side counts half, however many references it has. The score is log LR(x), which ranks as the published count
over a population does, up to ties.

P_in must be that of the candidate's architecture and recipe. A bank of another one is more or less confident of
its members than the candidate would be; to rank candidates against one bank, use `lira_fitted`.

What is *not* done: the Taylor softmax and the trimmed mean over references of the authors' code. With augmented queries
it is `rmia_augmented`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.online_scores import log_relative_probability

NEEDS = ("bank",)


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by log LR, against the bank's references; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or no reference was trained on some record.
    """
    return log_relative_probability(evidence, "rmia_online")
