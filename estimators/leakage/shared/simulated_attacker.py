"""The simulated attacker of SafeCompress: a wide network on posteriors and the label.

Zhu, Wang and Han, 2022, "Safety and Performance, Why Not Both? Bi-Objective Optimized Model Compression toward AI
Software Deployment" (ASE), with their code, MIA-SafeCompress. One network for all classes, with three branches:

    softmax outputs -> 1024 -> 512 -> 64        label, -1 and +1 -> 512 -> 64        both -> 256 -> 64 -> log odds

trained by Adam with a rate of 1e-3 on the binary cross-entropy. It attacks networks (`attacks.safecompress`), and it
tests them while they are trained (`nas.training.safecompress`).

What is *not* done: initial weights from N(0, 0.01), which let nothing through all these layers and leave them as they
were for thousands of steps; the choice of the best epoch on the evaluated records, which an attacker cannot make; the
white-box branches for loss and gradient; raw logits in the place of softmax outputs, which the code passes.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor
from torch import nn

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.shared.attack_networks import fit_network
from estimators.leakage.shared.learned import Learner

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


def learner(steps: int) -> Learner:
    """Return what trains an attacker for so many batches of 128 rows of `attacker_features`."""
    return fit_network(Attacker, lambda weights: torch.optim.Adam(weights, RATE), steps)


def attacker_features(logits: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return what the attacker reads, `(records, 2 * classes)`: softmax outputs, and the label as -1 and +1.

    Args:
        logits: `(records, classes)`.
        labels: `(records,)`.

    >>> attacker_features(np.log([[0.25, 0.75]]), np.array([1])).round(2).tolist()
    [[0.25, 0.75, -1.0, 1.0]]
    """
    posteriors = softmax(logits.astype(np.float64), axis=1)
    return np.concatenate([posteriors, 2 * np.eye(logits.shape[1])[labels] - 1], axis=1)


def _mlp(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())))
