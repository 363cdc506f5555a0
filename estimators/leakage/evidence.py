"""What an attack may look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Reference networks seen from outside: their logits, and the records each was trained on.

    A reference is trained on a random half of a pool of records; every record is left out by half of the references.

    Attributes:
        logits: `(references, records, classes)`.
        trained_on: `(references, records)`; true where that reference was trained on that record.
        labels: `(records,)`.

    Raises:
        ValueError: If shapes disagree, a logit is not finite, or a record was left out by no reference.
    """

    logits: Floats
    trained_on: Mask
    labels: Labels

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or self.trained_on.shape != self.logits.shape[:2]:
            raise ValueError(
                "expected logits (references, records, classes) and trained_on (references, records); "
                f"got {self.logits.shape} and {self.trained_on.shape}"
            )
        check_logits(self.logits[0], self.labels)
        if not np.isfinite(self.logits).all():
            raise ValueError("expected finite logits in the reference bank; got NaN or infinity")
        if self.trained_on.all(axis=0).any():
            raise ValueError("expected every record to be left out by at least one reference")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One network's outputs on the records under attack. It does not say who is a member.

    Attributes:
        logits: `(records, classes)`, from the network as deployed, in eval mode, without augmentation.
        labels: `(records,)`, true classes.
        bank: Reference networks on the same records in the same order, for attacks that use them.

    Raises:
        ValueError: If shapes disagree, a logit is not finite, or a label is out of range.
    """

    logits: Floats
    labels: Labels
    bank: Bank | None = None

    def __post_init__(self) -> None:
        check_logits(self.logits, self.labels)
        if self.bank is not None and not np.array_equal(self.bank.labels, self.labels):
            raise ValueError("expected the bank's records to be the evidence's records; their labels differ")


def check_logits(logits: Floats, labels: Labels) -> None:
    """Refuse logits that no score can be computed from.

    Raises:
        ValueError: If shapes disagree, a logit is not finite, or a label is out of range.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (records, classes) and labels (records,); got {logits.shape}, {labels.shape}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("expected finite logits; got NaN or infinity: the network's training diverged")
    if labels.size and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(f"expected labels from 0 to {logits.shape[1] - 1}; got {labels.min()} to {labels.max()}")
