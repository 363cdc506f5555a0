"""Exit index: in a network with early exits, members tend to leave at earlier exits than non-members.

Li et al., 2022, "Auditing Membership Leakages of Multi-Exit Networks" (CCS), the hybrid attack. An attack network
reads the network's answer about a record and which exit gave it,

    three largest posteriors, log odds of the true label -> 128 -> 128        exit, one-hot -> 128
    both -> 128 -> 64 -> log odds of membership

and learns from the references, on other records than it judges: see `estimators.leakage.shared.learned`. SGD, a rate of
1e-2 with momentum 0.9 and a cosine schedule, weight decay 5e-4. If the network does not report the exit,
`estimators.leakage.shared.exit_times` infers it from latencies.

When to use: on every network with more than one exit. If the exits reveal nothing, it is an attack on outputs that does
not calibrate single records.

What is *not* done: 100 epochs; the forms that see only the predicted class, or the inside of the network; the authors'
choice of the best epoch on the attacked network's records. They leave the true label out; the other attacks know it,
and so does this one.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import scaled_logit
from estimators.leakage.shared.attack_networks import fit_network
from estimators.leakage.shared.learned import cross_fit

NEEDS = ("bank", "exits")
EFFORT = "standard"
STEPS = 300
RATE = 1e-2
# What the network says: with two classes the third posterior is 0.
TOP = 3
OUTPUTS = TOP + 1


class Attacker(nn.Module):
    """Turns `(rows, 4 + exits)` into `(rows,)` log odds of membership."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(OUTPUTS, affine=False)
        self.outputs = nn.Sequential(nn.Linear(OUTPUTS, 128), nn.ReLU(), nn.Linear(128, 128))
        self.exit = nn.Sequential(nn.Linear(columns - OUTPUTS, 128), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Return `(rows,)` log odds."""
        outputs, exits = rows[:, :OUTPUTS], rows[:, OUTPUTS:]
        odds: Tensor = self.head(torch.cat([self.outputs(self.normalise(outputs)), self.exit(exits)], dim=1))
        return odds[:, 0]


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the attack network's log odds of membership; higher means member.

    Whatever depends on the bank alone is learned once per bank.

    Raises:
        ValueError: If the evidence has no bank, the network or the references have no exits, or all records are the
            same one.
    """
    bank = bank_of(evidence, "exit_index")
    if evidence.exits is None or bank.exits is None:
        raise ValueError(
            "attack 'exit_index' reads which exit answered: expected evidence and a bank with exits; got none"
        )
    exits = int(bank.exits.max()) + 1
    return _learned(bank)(_features(evidence.logits, evidence.labels, evidence.exits, exits))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _learned(bank: Bank) -> Callable[[Floats], NDArray[np.float64]]:
    """Learn from all references."""
    assert bank.exits is not None
    networks, exits = zip(bank.logits, bank.exits, strict=True), int(bank.exits.max()) + 1
    features = np.stack([_features(logits, bank.labels, left, exits) for logits, left in networks])
    return cross_fit(bank, features, fit_network(Attacker, _optimizer, STEPS, _schedule))


def _optimizer(weights: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, RATE, momentum=0.9, weight_decay=5e-4)


def _schedule(optimizer: torch.optim.Optimizer) -> CosineAnnealingLR:
    return CosineAnnealingLR(optimizer, STEPS)


def _features(logits: Floats, labels: Labels, left: Labels, exits: int) -> NDArray[np.float64]:
    """Return `(records, 4 + exits)`; an exit that no reference has used counts as the deepest one that one has."""
    posteriors = np.zeros((len(labels), TOP))
    top = np.sort(softmax(logits.astype(np.float64), axis=1), axis=1)[:, : -TOP - 1 : -1]
    posteriors[:, : top.shape[1]] = top
    one_hot = np.eye(exits)[np.minimum(left, exits - 1)]
    return np.concatenate([posteriors, scaled_logit(logits, labels)[:, None], one_hot], axis=1)
