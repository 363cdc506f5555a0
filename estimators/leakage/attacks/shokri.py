"""Attack networks, one for each class, that learn the posteriors of members from shadow models.

Shokri et al., 2017, "Membership Inference Attacks Against Machine Learning Models" (S&P). The references are the
shadows: their posterior vectors on records that each was, or was not, trained on teach one attack network for each
class. Its answer about the candidate's posterior vector is the score,

    score(x) = log odds of "member" by the attack network of class y

The attack network has one hidden layer of 64 units. A class with fewer than 50 members, or others, among the rows to
learn from asks a network of all classes; the posterior of the true label comes first in every vector, so that this
network knows it too. Records are judged by networks that learned from other records: see
`estimators.leakage.shared.learned`.

When to use: as the classical baseline. It does not calibrate single records, and learns from members of the references,
so those should be of the candidate's architecture and recipe; `modified_entropy_by_class` is as strong and learns less.
It learns from half of the records what it judges the other half by. Prefer `forest`, which learns from all of them,
where networks fit their members closely; where they fit them loosely, neither is ahead.

What is *not* done: shadow records made up by hill climbing or from marginals. The bank's references were trained on
real records of the attacked network's own pool, which makes the attacker stronger than the published one.
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
from estimators.leakage.evidence import Labels
from estimators.leakage.scores import bank_of
from estimators.leakage.shared.learned import by_class
from estimators.leakage.shared.learned import cross_fit
from estimators.leakage.shared.posterior_networks import learner

NEEDS = ("bank",)
# Of each network, whatever the size of its class. Few: with 400 it memorises the references' members.
STEPS = 100


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the attack networks' log odds of membership; higher means member.

    Whatever depends on the bank alone is learned once per bank.

    Raises:
        ValueError: If the evidence has no bank, or all its records are the same one.
    """
    judge = _learned(bank_of(evidence, "shokri"))
    return judge(_posteriors(evidence.logits, evidence.labels))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _learned(bank: Bank) -> Callable[[Floats], NDArray[np.float64]]:
    """Learn from all references."""
    features = np.stack([_posteriors(logits, bank.labels) for logits in bank.logits])
    return cross_fit(bank, features, by_class(learner(STEPS)))


def _posteriors(logits: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return `(records, classes)` posteriors, the true label's first and the next classes' after it."""
    classes = logits.shape[1]
    turned = (labels[:, None] + np.arange(classes)) % classes
    return np.asarray(np.take_along_axis(softmax(logits.astype(np.float64), axis=1), turned, axis=1))
