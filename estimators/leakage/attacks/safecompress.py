"""The simulated attacker of SafeCompress: a wide network on posteriors and the label.

Zhu, Wang and Han, 2022, "Safety and Performance, Why Not Both? Bi-Objective Optimized Model Compression toward AI
Software Deployment" (ASE). The network is described in `estimators.leakage.shared.simulated_attacker`. The authors
train it on half of the attacked network's own members; here it learns from the references, whose members are known, and
the records it judges are others than those it learned from: see `estimators.leakage.shared.learned`. The training that
is named after the paper, `nas.training.safecompress`, has an attacker of its own, as the authors do.

When to use: to compare with figures that use this attacker. It does not calibrate single records, and takes thirty
times as long as `shokri` for about the same result. It learns from half of the records what it judges the other half
by. Prefer `forest`, which learns from all of them and finds more in a tenth of the time, where networks fit their
members closely.

What is *not* done, beside what that module leaves out: 100 epochs, of which about 6 are trained on 4,000 records and 8
references.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.scores import bank_of
from estimators.leakage.shared.learned import cross_fit
from estimators.leakage.shared.simulated_attacker import attacker_features
from estimators.leakage.shared.simulated_attacker import learner

NEEDS = ("bank",)
EFFORT = "full"
STEPS = 800


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the attacker's log odds of membership; higher means member.

    Whatever depends on the bank alone is learned once per bank.

    Raises:
        ValueError: If the evidence has no bank, or all its records are the same one.
    """
    judge = _learned(bank_of(evidence, "safecompress"))
    return judge(attacker_features(evidence.logits, evidence.labels))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _learned(bank: Bank) -> Callable[[Floats], NDArray[np.float64]]:
    """Learn from all references."""
    features = np.stack([attacker_features(logits, bank.labels) for logits in bank.logits])
    return cross_fit(bank, features, learner(STEPS))
