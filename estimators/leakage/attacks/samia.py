"""SAMIA: attention over classes, on posteriors and on their sensitivity to noise in the record.

Yuan and Zhang, 2022, "Membership Inference Attacks and Defenses in Neural Network Pruning" (USENIX Security). For each
class c the attack network gets one token of three numbers,

    p_c(x)        mean over 10 noisy copies of |p_c(x + e u) - p_c(x)| / e,  u ~ N(0, 1)        1 if c is the label

normalised over the batch, widened to 64, and passed through a transformer encoder: 3 layers, 4 heads, 128 units,
dropout 0.2, the classes in their order and no code of position. All tokens together give the log odds of membership.
Trained by SGD with momentum 0.9 and weight decay 5e-4, the rate cut to a tenth at a half and at three quarters.

e is 1e-3 as published, in the features' units, one standard deviation of a column. Networks answer in float32, and the
posteriors are computed from their logits in float64, so that the difference outlasts rounding: on a trained network
with 24 columns, none of whose posteriors is 1 in float32, it was within a thousandth of what float64 throughout gives;
on a random linear one, some of whose posteriors are, within a twentieth, and mostly within a thousandth.
Every record, and every network, gets the same 10 noises, so that a record's sensitivity does not depend on where it
stands.

When to use: on networks that a search ends with, pruned ones above all. Queries: 11 for each record of the network, and
of each of the first 5 references. The references should be of the candidate's architecture and recipe. Activations
that are quantised move in steps, which most noise of this size does not cross: there the sensitivities say little.

What is *not* done: 100 epochs with a rate of 1e-3, some 100,000 steps; 400 with a rate of 1e-2 are trained for each
half of the records (see `estimators.leakage.shared.learned`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Oracle
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import oracle_of
from estimators.leakage.shared.attack_networks import fit_network
from estimators.leakage.shared.learned import cross_fit
from estimators.leakage.shared.learned import split

NEEDS = ("bank", "queries")
EFFORT = "full"
COPIES = 10
"""Noisy copies asked about for each record."""

NOISE = 1e-3
REFERENCES = 5
STEPS = 400
RATE = 1e-2
WIDTH = 64


class Attacker(nn.Module):
    """Turns `(rows, 3 * classes)` into `(rows,)` log odds of membership."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(columns)
        self.widen = nn.Sequential(nn.Linear(3, WIDTH), nn.GELU())
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=4, dim_feedforward=128, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(columns // 3 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Return `(rows,)` log odds."""
        tokens = self.normalise(rows).view(len(rows), 3, -1).transpose(1, 2)
        odds: Tensor = self.head(self.encoder(self.widen(tokens)).flatten(1))
        return odds[:, 0]


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the attack network's log odds of membership; higher means member.

    Raises:
        ValueError: If the evidence has no bank, no features or no oracle, the references have no oracles, or all
            records are the same one.
    """
    bank = bank_of(evidence, "samia")
    features, oracle = oracle_of(evidence, "samia")
    if not bank.oracles:
        raise ValueError("attack 'samia' asks the references: expected a bank with oracles; got none")
    seen = [_tokens(bank, features, *network) for network in zip(bank.oracles[:REFERENCES], bank.logits, strict=False)]
    judge = cross_fit(bank, np.stack(seen), fit_network(Attacker, _optimizer, STEPS, _schedule))
    return judge(_tokens(bank, features, oracle, evidence.logits))


def _optimizer(weights: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, RATE, momentum=0.9, weight_decay=5e-4)


def _schedule(optimizer: torch.optim.Optimizer) -> MultiStepLR:
    return MultiStepLR(optimizer, [STEPS // 2, STEPS * 3 // 4])


def _tokens(bank: Bank, features: Floats, oracle: Oracle, logits: Floats) -> NDArray[np.float64]:
    """Return `(records, 3 * classes)`: posteriors, sensitivities, label.

    The network is asked in an order that follows from the bank: the last digits of its answers, of which there are not
    many in a difference, may depend on a record's neighbours in the batch.
    """
    order = np.concatenate(split(bank))
    moved = np.empty(logits.shape)
    moved[order] = sensitivity(oracle, features[order])
    return np.concatenate([_posteriors(logits), moved, np.eye(logits.shape[1])[bank.labels]], axis=1)


def sensitivity(oracle: Oracle, features: Floats) -> NDArray[np.float64]:
    """Return `(records, classes)` mean changes of the posteriors for each unit of noise."""
    generator = np.random.default_rng(0)
    still = _posteriors(oracle.query(features))
    changes = np.zeros_like(still)
    for _ in range(COPIES):
        noise = NOISE * generator.standard_normal(features.shape[1:])
        changes += np.abs(_posteriors(oracle.query((features + noise).astype(features.dtype))) - still)
    return np.asarray(changes / COPIES / NOISE)


def _posteriors(logits: Floats) -> NDArray[np.float64]:
    return np.asarray(softmax(logits.astype(np.float64), axis=1))
