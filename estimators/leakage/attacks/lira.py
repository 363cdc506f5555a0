"""Offline LiRA: how improbable the confidence is for a network that was not trained on the record.

Carlini et al., 2022, "Membership Inference Attacks From First Principles" (S&P). With phi = log(p / (1 - p)) of the
true label, and mean and standard deviation of phi over the references that left x out,

    z(x) = (phi(x) - mean_out(x)) / deviation_out(x)        Pr(member) = Phi(z)

One-sided: a network *less* confident than the references is no evidence of membership. The two-sided -log density that
some published code scores by can fall below the loss threshold (lira-pytorch's figures, CIFAR-10, ResNet18, 16
networks: AUC .525 against .595). The score is z itself, of which Phi is a rising function; AUC and TPR are the same,
and members beyond 8 deviations do not tie at 1.

Below 64 references the deviation is one for all records, and z ranks as phi(x) - mean_out(x) does: the difference of
`calibrated_loss`, in log odds in the place of losses. From 64 on each record has its own. It needs references that are
as confident as the candidate, so of its architecture and recipe; to rank different candidates, `lira_fitted` is more
robust to a mismatch.

What is *not* done: augmented queries. The online form is `lira_online`, and that with such queries `lira_augmented`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import reference_normal
from estimators.leakage.scores import scaled_logit

NEEDS = ("bank",)


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by z, in deviations above the references that left the record out; higher means member.

    Raises:
        ValueError: If the evidence has no bank.
    """
    mean, deviation = _without(bank_of(evidence, "lira"))
    return np.asarray((scaled_logit(evidence.logits, evidence.labels) - mean) / deviation)


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _without(bank: Bank) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit phi of networks that left the record out."""
    phi = np.stack([scaled_logit(logits, bank.labels) for logits in bank.logits])
    return reference_normal(phi, ~bank.trained_on)
