"""Label-only attack by augmentation: how many shifted and mirrored copies of a record are classified correctly.

Choquette-Choo et al., 2021, "Label-Only Membership Inference Attacks" (ICML). A network that memorised a record
classifies changed copies of it correctly more often than copies of a record it was not trained on. Only the predicted
class is read: rounding, a temperature, or a defence that keeps the class and hides the confidences change no score.

    images    the image, its mirror image, and 4 translations by each of 1 and 2 pixels (4d + 1 with d of 1 and of 2)
    signals   images of height 1: the signal, it backwards, and translations along time by 1 to 4 steps
    columns   the record, and 9 copies with a tenth of the columns changed: bits flipped, other values with noise

What each copy's answer says is learnt from the references: a logistic regression on which copies a reference gets
right, with whether it was trained on the record as the target; the score is its log odds. It has 11 numbers to learn
from thousands of records, so that records need not be kept apart from those scored. Where no reference answers queries,
or none was trained on a record, the score is the number of copies that are right, which may rank worse than `gap` does:
a memorised record with a wrong label is often misclassified after a shift by one pixel.

When to use: where confidences are hidden, or to see whether hiding them is all that a defence does. There are at most
2^10 distinct scores, and TPR at a low false positive rate is coarse. Queries: 9 for each record of the network, the
answer for the record itself being known, and 9 of each of the first 4 references.

What is *not* done: rotations, an attack network for each class, and copies as in the network's own training, which
change what is a natural copy (Kaya and Dumitras, 2021).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import Oracle
from estimators.leakage.scores import oracle_of
from estimators.leakage.shared.copies import bit_columns
from estimators.leakage.shared.copies import is_right
from estimators.leakage.shared.copies import moved
from estimators.leakage.shared.copies import perturb

NEEDS = ("queries",)
LABEL_ONLY = True
QUERIES = 9
"""Copies asked about for each record."""

DISTANCES = (1, 2)
"""Pixels of the translations."""
CHANGED = 0.1
DEVIATION = 1.0
# Four times 4,000 records are 16,000 examples of 10 bits; more references would ask for more and teach nothing.
REFERENCES = 4


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the log odds of membership, or by the number of right answers; higher means member.

    Raises:
        ValueError: If the evidence has no features or no oracle.
    """
    features, oracle = oracle_of(evidence, "label_augment")
    right = _answers(oracle, features, evidence.labels, evidence.logits)
    bank = evidence.bank
    if bank is None or not bank.oracles or not bank.trained_on[:REFERENCES].any():
        return np.asarray(right.sum(axis=1, dtype=np.float64))
    return _log_odds(right, *_examples(bank, features))


def _answers(oracle: Oracle, features: Floats, labels: Labels, logits: Floats) -> Mask:
    """Return `(records, 10)`: whether the record and each of its copies is classified correctly."""
    copies = moved(features, DISTANCES) if features.ndim == 4 else _changed(features)
    return np.stack([logits.argmax(axis=1) == labels, *(is_right(oracle, copy, labels) for copy in copies)], axis=1)


def _changed(features: Floats) -> Iterator[Floats]:
    bits, generator = bit_columns(features), np.random.default_rng(0)
    for _ in range(QUERIES):
        yield perturb(features, DEVIATION, CHANGED, bits, generator)


def _examples(bank: Bank, features: Floats) -> tuple[Mask, Mask]:
    """Return the references' answers `(examples, 10)`, and whether that reference was trained on that record."""
    asked = zip(bank.oracles[:REFERENCES], bank.logits, strict=False)
    answers = [_answers(oracle, features, bank.labels, logits) for oracle, logits in asked]
    return np.concatenate(answers), bank.trained_on[:REFERENCES].ravel()


def _log_odds(right: Mask, examples: Mask, trained_on: Mask) -> NDArray[np.float64]:
    """Fit to the examples, equal ones counted together: their order then cannot matter, and 16,000 become hundreds."""
    patterns, which = np.unique(examples, axis=0, return_inverse=True)
    counts = [np.bincount(which, weights=among, minlength=len(patterns)) for among in (trained_on, ~trained_on)]
    targets = np.repeat([1, 0], len(patterns))
    model = LogisticRegression(max_iter=1000, tol=1e-7)
    model.fit(np.concatenate([patterns, patterns]), targets, sample_weight=np.concatenate(counts))
    # Summed copy by copy: a product of matrices may round equal answers differently by where they stand.
    return np.asarray((right * model.coef_[0]).sum(axis=1) + model.intercept_[0])
