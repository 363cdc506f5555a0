"""White-box attack on loss, gradient and activations, compared with those of networks trained on the record.

After Nasr, Shokri and Houmansadr, 2019, "Comprehensive Privacy Analysis of Deep Learning" (S&P): whoever owns the
device can read the network, and a classifier trained on networks with known members uses more than their answers. Of
each record it sees here

    s = (log odds of the label, log p of the label softened by 2, log |dL/dW|, log |a|)

with W the last layer's deployed weights and a what that layer reads, and, for each of the four, the means over the
references trained on the record and over those that left it out, as LiRA and RMIA do. The classifier is a logistic
regression on these twelve numbers, their squares and products; its log odds are the score. It learns from the
references themselves, each compared with the others: the attacker knows which records are their members.

References must be of the network's architecture and recipe, as for `lira_online`. On five kinds of networks of up to
128 units, trained on digits or on overlapping classes until they overfit, with 4 to 16 references, it had 1 to 4 points
of AUC more than `lira_online`; on two that learned random labels both had .996 and more. Nearly all of that is the
classifier's: the two signals from inside were worth between .9 of a point and -.6. Two normal distributions of s in its
place lost up to two points to `lira_online`.

Not monotone: a network far more confident than all references need not score higher.

What is *not* done: gradients and activations of all layers, which have as many numbers as the network has weights; the
encoder that learns what to read from them; and an attacker who knows half of the network's own members, which the
evidence does not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.preprocessing import PolynomialFeatures
from sklearn.preprocessing import RobustScaler
from sklearn.preprocessing import StandardScaler

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import Query
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import check_both_sides
from estimators.leakage.scores import log_probabilities
from estimators.leakage.scores import oracle_of
from estimators.leakage.scores import scaled_logit
from estimators.leakage.shared.gradients import log_activation_norm
from estimators.leakage.shared.gradients import log_gradient_norm

NEEDS = ("bank", "activations")
MIN_REFERENCES = 4
"""One is compared with the others, of which at least one was trained on the record, and one was not."""
TEMPERATURE = 2.0
MAX_EXAMPLES = 200_000
"""Ninety numbers each: from here on fewer references teach, two at least, and all still give the means."""


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the log odds of membership; higher means member.

    Whatever depends on the bank and the records alone is learned once, as long as it is the same array of features.

    Raises:
        ValueError: If the evidence has no bank, no oracle that shows activations, or a record has fewer than two
            references trained on it, or than two that left it out.
    """
    bank = bank_of(evidence, "white_box")
    features, oracle = oracle_of(evidence, "white_box")
    if not bank.oracles:
        raise ValueError("attack 'white_box' looks inside the references: expected a bank with oracles; got none")
    own = _signals(evidence.logits, evidence.labels, features, oracle.activations)
    classifier, means = _learned(bank, _Records(features))
    return np.asarray(classifier.decision_function(np.concatenate([own, *means], axis=1)), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Records:
    """Features as a key of a cache: equal if they are the same array, which the key keeps alive."""

    features: Floats

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Records) and self.features is other.features

    def __hash__(self) -> int:
        return id(self.features)


@lru_cache(maxsize=4)
def _learned(bank: Bank, records: _Records) -> tuple[Any, tuple[NDArray[np.float64], ...]]:
    """Return the classifier, and the means `(records, 4)` of networks with the record and without."""
    trained_on = bank.trained_on
    check_both_sides(bank, "white_box")
    networks = zip(bank.logits, bank.oracles, strict=True)
    signals = np.stack([_signals(seen, bank.labels, records.features, oracle.activations) for seen, oracle in networks])
    taught_by = min(len(signals), max(2, MAX_EXAMPLES // len(bank.labels)))
    classifier = make_pipeline(
        # A few extremely confident networks must not set the scale nor dominate the squares.
        RobustScaler(quantile_range=(16, 84)),
        FunctionTransformer(np.arcsinh),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(solver="newton-cholesky", tol=1e-8),
    )
    examples = [_against_the_others(signals, trained_on, number) for number in range(taught_by)]
    classifier.fit(np.concatenate(examples), trained_on[:taught_by].reshape(-1))
    sums = _sums(signals, trained_on)
    return classifier, tuple(_mean(total, count) for total, count in sums)


def _signals(logits: Floats, labels: Labels, features: Floats, activations: Query | None) -> NDArray[np.float64]:
    """Return `(records, 4)`."""
    if activations is None:
        raise ValueError("attack 'white_box' looks inside: expected activations of the network and of every reference")
    read = activations(features)
    columns = [
        scaled_logit(logits, labels),
        log_probabilities(logits, labels, TEMPERATURE),
        log_gradient_norm(logits, labels, read),
        log_activation_norm(read),
    ]
    return np.stack(columns, axis=1)


def _sums(signals: NDArray[np.float64], trained_on: Mask) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Return sums `(records, 4)` and counts `(records, 1)` over references trained on each record, and over others."""
    sides = (trained_on, ~trained_on)
    return [(np.einsum("rns,rn->ns", signals, side), side.sum(axis=0)[:, None]) for side in sides]


def _against_the_others(signals: NDArray[np.float64], trained_on: Mask, number: int) -> NDArray[np.float64]:
    """Return `(records, 12)`: a reference's signals and the means of others, as many of them whichever side it is on.

    It is left out of its own side, and the next reference of the other side out of that. A mean of fewer is a noisier
    mean, and the classifier would learn from the noise who is a member.

    >>> signals = np.array([1.0, 2.0, 4.0, 8.0]).reshape(4, 1, 1)
    >>> _against_the_others(signals, np.array([[True], [False], [True], [False]]), 3).tolist()  # 8, 3 and 1 left out
    [[8.0, 4.0, 2.0]]
    """
    after = np.roll(np.arange(len(signals)), -number - 1)
    opposite = after[(trained_on[after] != trained_on[number]).argmax(axis=0)]
    is_in = trained_on[number][:, None]
    own, other = signals[number], signals[opposite, np.arange(len(opposite))]
    dropped = (np.where(is_in, own, other), np.where(is_in, other, own))
    sums = _sums(signals, trained_on)
    means = [_mean(total - less, count - 1) for (total, count), less in zip(sums, dropped, strict=True)]
    return np.concatenate([own, *means], axis=1)


def _mean(total: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide, and round: of networks with 1-bit activations all norms are one number, and its last bit no signal."""
    return np.round(total / count, 9)
