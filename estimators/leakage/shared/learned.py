"""Attack classifiers trained on the references, and never on the records that they then score.

It is known which records a reference was trained on (`Bank.trained_on`), so each reference gives one example for each
record: its output, and whether it was trained on the record. The attacked network gives the same outputs without that.

The records are halved by their content: what is learned from the references' outputs on one half judges the attacked
network's outputs on the other. No record is learned from and judged by the same classifier (Shokri et al., 2017, keep
the two apart likewise), so no classifier can memorise a record that it scores. The halves, and the order in which a
classifier sees its examples, follow from the bank alone and not from the order of the records: a permutation of the
records permutes their scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.thresholds import best_threshold

Judge: TypeAlias = Callable[[Floats, Labels], NDArray[np.float64]]
"""Features `(rows, ...)` and true classes `(rows,)` to `(rows,)` scores; higher means member."""
Learner: TypeAlias = Callable[[Floats, Labels, Mask], Judge]
"""Features, true classes and membership of the rows to learn from, to what judges other rows."""

FEWEST_ROWS = 50
"""Of either kind, members and others: with fewer a class has no classifier, or threshold, of its own."""


def cross_fit(bank: Bank, features: Floats, fit: Learner) -> Callable[[Floats], NDArray[np.float64]]:
    """Learn twice, from either half of the records, and return what judges each record by the other half.

    Args:
        bank: Who was trained on what.
        features: `(references, records, ...)`, what the attack sees of each reference; the first of the bank's
            references where there are fewer than in the bank.
        fit: Learns from rows, one for each reference and record.

    Returns:
        A function of the attacked network's features `(records, ...)`, in the bank's order, to `(records,)` scores.

    Raises:
        ValueError: If there are more references than the bank has, other records, or too few records for two halves.

    >>> bank = Bank(np.arange(12.0).reshape(2, 3, 2), np.zeros((2, 3), bool), np.zeros(3, int))
    >>> count = cross_fit(bank, bank.logits, lambda rows, *_: lambda judged, _: np.full(len(judged), len(rows)))
    >>> sorted(count(bank.logits[0]).tolist())  # two references on two records judge the third; on the third, the two
    [2.0, 2.0, 4.0]
    """
    if len(features) > len(bank.logits) or features.shape[1:2] != bank.labels.shape:
        raise ValueError(
            f"expected features of at most {len(bank.logits)} references on {len(bank.labels)} records; "
            f"got {features.shape}"
        )
    halves = split(bank)
    if not all(len(half) for half in halves):
        raise ValueError(f"expected two different records or more to learn from; got {len(bank.labels)}")
    judges = [fit(*_rows(bank, features, half)) for half in halves]

    def judge(attacked: Floats) -> NDArray[np.float64]:
        scores = np.empty(len(bank.labels))
        for records, by_others in zip(halves, judges[::-1], strict=True):
            scores[records] = by_others(attacked[records], bank.labels[records])
        return scores

    return judge


def split(bank: Bank) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Halve the records by content: two index arrays in an order that does not depend on how the bank is sorted.

    Each class is dealt out in turn, in the order of a hash of the references' logits. Records that agree in label and
    logits are one, and go to the same half.

    Args:
        bank: Whose records.

    >>> first, second = split(Bank(np.zeros((1, 4, 2)), np.zeros((1, 4), bool), np.array([0, 0, 1, 0])))
    >>> sorted(first.tolist()), sorted(second.tolist())  # equal records stay together
    ([0, 1, 3], [2])
    """
    logits = np.ascontiguousarray(np.moveaxis(bank.logits, 1, 0), dtype=np.float64) + 0.0  # no negative zero
    digests = [int.from_bytes(hashlib.blake2b(record, digest_size=7).digest()) for record in logits]
    keys = np.stack([bank.labels.astype(np.int64), np.array(digests)], axis=1)
    numbers = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(numbers, kind="stable")
    is_first = numbers[order] % 2 == 0
    return order[is_first], order[~is_first]


def by_class(fit: Learner, fewest: int = FEWEST_ROWS) -> Learner:
    """Learn each class apart, and a class with too few rows from the rows of all classes.

    Args:
        fit: Learns from the rows of one class, or of all.
        fewest: Members, and as many others, that a class of its own takes.

    Returns:
        What learns from rows of all classes.
    """

    def fit_classes(features: Floats, labels: Labels, is_member: Mask) -> Judge:
        large = large_classes(labels, is_member, fewest)
        judges = {c: fit(features[labels == c], labels[labels == c], is_member[labels == c]) for c in large}
        pooled: list[Judge] = []  # learned when a class asks for it

        def judge(attacked: Floats, classes: Labels) -> NDArray[np.float64]:
            scores = np.empty(len(classes))
            for c in np.unique(classes).tolist():
                if c not in judges and not pooled:
                    pooled.append(fit(features, labels, is_member))
                rows = classes == c
                scores[rows] = judges.get(c, *pooled)(attacked[rows], classes[rows])
            return scores

        return judge

    return fit_classes


def class_thresholds(bank: Bank, signals: NDArray[np.float64], fewest: int = FEWEST_ROWS) -> NDArray[np.float64]:
    """Find `(classes,)` thresholds above which most references' members lie, and fewest others.

    Each is the threshold of the largest TPR minus FPR over all references and records of the class (Song and Mittal,
    2021), or over all classes where the class has too few. All records count: one number cannot memorise any.

    Args:
        bank: Who was trained on what.
        signals: `(references, records)`; higher means member.
        fewest: Members, and as many others, that a class takes for a threshold of its own.

    Raises:
        ValueError: If no reference was trained on any record.

    >>> bank = Bank(np.zeros((2, 2, 2)), np.array([[True, False], [False, True]]), np.array([0, 1]))
    >>> class_thresholds(bank, np.array([[5.0, 2.0], [1.0, 7.0]]), fewest=1).tolist()
    [1.0, 2.0]
    """
    labels = np.broadcast_to(bank.labels, signals.shape)
    thresholds = np.full(bank.logits.shape[2], best_threshold(signals.ravel(), bank.trained_on.ravel()))
    for c in large_classes(labels, bank.trained_on, fewest):
        thresholds[c] = best_threshold(signals[labels == c], bank.trained_on[labels == c])
    return thresholds


def large_classes(labels: Labels, is_member: Mask, fewest: int) -> list[int]:
    """List the classes with at least so many members, and at least so many others.

    >>> large_classes(np.array([0, 0, 1, 1]), np.array([True, False, True, True]), 1)
    [0]
    """
    members = np.bincount(labels[is_member], minlength=1)
    others = np.bincount(labels[~is_member], minlength=len(members))
    shorter = min(len(members), len(others))
    return [c for c in range(shorter) if min(members[c], others[c]) >= fewest]


def _rows(bank: Bank, features: Floats, records: NDArray[np.intp]) -> tuple[Floats, Labels, Mask]:
    """Return one row for each reference and each of some records, and who was trained on it, reference by reference."""
    seen = features[:, records]
    labels = np.broadcast_to(bank.labels[records], seen.shape[:2])
    trained_on = bank.trained_on[: len(features), records]
    return seen.reshape(-1, *seen.shape[2:]), labels.ravel(), trained_on.ravel()
