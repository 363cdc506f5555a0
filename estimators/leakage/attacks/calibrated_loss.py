"""Calibrated loss: the mean loss of reference networks that left the record out, minus the network's loss.

Watson et al., 2022, "On the Importance of Difficulty Calibration in Membership Inference Attacks" (ICLR):

    score(x) = log p(x) - mean over references that left x out of log p_k(x)

where p is the probability of the true label. A record that every network classifies correctly no longer counts as a
member. If it is one, it is not found, because no loss is below 0.

It **fails across architectures**: a candidate much more or less confident than the references shifts all losses at
once, and the difference with them, so candidates are ranked by their size. Location-30, multilayer perceptrons against
a bank of eight references of one architecture (64 units; 16; 3 x 256), Spearman's correlation of this attack's AUC with
that of online LiRA with twelve references of each candidate's own architecture; one run of ours, which no benchmark
repeats yet:

    candidates                                         this attack       offline RMIA
    30 architectures, float32                       .27   .12   .30     .93   .94   .95
    89 at 3 bits or more that err below 1/2         .09  -.16  -.01     .91   .91   .92
    54 trainings: epochs, dropout, decay, width     .96   .96   .97     .99   .98   .98

Use `lira_fitted` to rank candidates; use this one where the references have the candidate's own architecture and
recipe.

What is *not* done: the authors' forgetting-based reference, a copy of the attacked network trained on.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import log_probabilities

NEEDS = ("bank",)


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the references' mean loss minus the network's own; higher means member.

    Raises:
        ValueError: If the evidence has no bank.
    """
    expected = _mean_out(bank_of(evidence, "calibrated_loss"))
    return np.asarray(log_probabilities(evidence.logits, evidence.labels) - expected)


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _mean_out(bank: Bank) -> NDArray[np.float64]:
    """Return `(records,)` mean log p over references that left the record out."""
    log_p = np.stack([log_probabilities(logits, bank.labels) for logits in bank.logits])
    return np.asarray(log_p.mean(axis=0, where=~bank.trained_on))
