"""The simulated attacker of SafeCompress: a wide network on posteriors and the label.

Zhu, Wang and Han, 2022, "Safety and Performance, Why Not Both? Bi-Objective Optimized Model Compression toward AI
Software Deployment" (ASE), with their code, MIA-SafeCompress. One network for all classes, with three branches:

    softmax outputs -> 1024 -> 512 -> 64        label, -1 and +1 -> 512 -> 64        both -> 256 -> 64 -> log odds

trained by Adam with a rate of 1e-3 on the binary cross-entropy. The authors train it on half of the attacked network's
own members; here it learns from the references, whose members are known, and the records it judges are others than
those it learned from: see `estimators.leakage.shared.learned`.

When to use: to compare with figures that use this attacker. It does not calibrate single records, and takes thirty
times as long as `shokri` for about the same result. It learns from half of the records what it judges the other half
by. Prefer `forest`, which learns from all of them and finds more in a tenth of the time, where networks fit their
members closely.

What is *not* done: initial weights from N(0, 0.01), which let nothing through all these layers and leave them as they
were for thousands of steps; 100 epochs, of which about 6 are trained on 4,000 records and 8 references; the choice of
the best epoch on the evaluated records, which an attacker cannot make; the white-box branches for loss and gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor
from torch import nn

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.scores import bank_of
from estimators.leakage.shared.attack_networks import fit_network
from estimators.leakage.shared.learned import cross_fit

NEEDS = ("bank",)
EFFORT = "full"
STEPS = 800
RATE = 1e-3


class Attacker(nn.Module):
    """Turns `(rows, 2 * classes)`, softmax outputs and label, into `(rows,)` log odds of membership."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.outputs = _mlp(columns // 2, 1024, 512, 64)
        self.label = _mlp(columns // 2, 512, 64)
        self.head = nn.Sequential(_mlp(128, 256, 64), nn.Linear(64, 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Return `(rows,)` log odds."""
        outputs, label = rows.chunk(2, dim=1)
        odds: Tensor = self.head(torch.cat([self.outputs(outputs), self.label(label)], dim=1))
        return odds[:, 0]


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the attacker's log odds of membership; higher means member.

    Whatever depends on the bank alone is learned once per bank.

    Raises:
        ValueError: If the evidence has no bank, or all its records are the same one.
    """
    judge = _learned(bank_of(evidence, "safecompress"))
    return judge(_features(evidence.logits, evidence.labels))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _learned(bank: Bank) -> Callable[[Floats], NDArray[np.float64]]:
    """Learn from all references."""
    features = np.stack([_features(logits, bank.labels) for logits in bank.logits])
    return cross_fit(bank, features, fit_network(Attacker, lambda weights: torch.optim.Adam(weights, RATE), STEPS))


def _features(logits: Floats, labels: Labels) -> NDArray[np.float64]:
    posteriors = softmax(logits.astype(np.float64), axis=1)
    return np.concatenate([posteriors, 2 * np.eye(logits.shape[1])[labels] - 1], axis=1)


def _mlp(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())))
