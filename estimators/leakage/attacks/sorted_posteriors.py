"""One attack network that learns the posteriors of members in descending order, whatever their classes.

Salem et al., 2019, "ML-Leaks: Model and Data Independent Membership Inference Attacks and Defenses on Machine Learning
Models" (NDSS), the first adversary. The references are the shadows. The posterior vector of a record is sorted, so that
the network reads how sure an answer is and how its rest is spread, and not which classes it names,

    score(x) = log odds of "member" by the attack network, from p_(1)(x) >= p_(2)(x) >= ...

The network has one hidden layer of 64 units. Records are judged by a network that learned from other records: see
`estimators.leakage.shared.learned`.

When to use: beside `shokri`, which reads the same posteriors in the order of the classes and knows the label. A defence
may beat one of the two and not the other: Xu et al. ("NeuGuard", ACSAC 2022) report 51.4 % for an attacker of that kind
and 62.7 % for one of this kind against MemGuard on CIFAR-10. So a comparison of defences needs both. It reads no label
and takes a sure mistake for a member; `forest` and the likelihood ratios find more. They read log odds, in which
confidences that a defence has pressed together lie as far apart as before; here they do not.

What is *not* done: the paper keeps the three largest posteriors, here all are read, as Xu et al. read them; its shadow
records are of another sample than the attacked network's, here they are of the same pool, which is the stronger
attacker.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.scores import bank_of
from estimators.leakage.shared.learned import cross_fit
from estimators.leakage.shared.posterior_networks import learner

NEEDS = ("bank",)
READS_LABELS = False
# Of the one network for all classes.
STEPS = 400


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the attack network's log odds of membership; higher means member.

    Whatever depends on the bank alone is learned once per bank.

    Raises:
        ValueError: If the evidence has no bank, or all its records are the same one.
    """
    return _learned(bank_of(evidence, "sorted_posteriors"))(_posteriors(evidence.logits))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _learned(bank: Bank) -> Callable[[Floats], NDArray[np.float64]]:
    """Learn from all references."""
    return cross_fit(bank, np.stack([_posteriors(logits) for logits in bank.logits]), learner(STEPS))


def _posteriors(logits: Floats) -> NDArray[np.float64]:
    """Return `(records, classes)` posteriors, the largest first."""
    return np.asarray(np.sort(softmax(logits.astype(np.float64), axis=1), axis=1)[:, ::-1])
