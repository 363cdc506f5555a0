"""What an attack may look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.integer]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Reference networks seen from outside: their logits, and the records each was trained on.

    A reference is trained on a random half of a pool of records; every record is left out by half of the references.
    Two banks are equal only if they are the same object, so what an attack derives from a bank can be cached under
    it. Do not write into its arrays.

    Attributes:
        logits: `(references, records, classes)`, taken as the candidates' logits are: eval mode, no augmentation.
        trained_on: `(references, records)`; true where that reference was trained on that record.
        labels: `(records,)`, true classes.

    Raises:
        ValueError: If shapes or types disagree, a logit is not finite, a label is out of range, or a record was left
            out by no reference.
    """

    logits: Floats
    trained_on: Mask
    labels: Labels

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or self.trained_on.shape != self.logits.shape[:2] or not len(self.logits):
            raise ValueError(
                "expected logits (references, records, classes) and trained_on (references, records); "
                f"got {self.logits.shape} and {self.trained_on.shape}"
            )
        if self.trained_on.dtype != np.bool_:
            # An integer mask would not fail: `~1` is -2, and -2 counts as true.
            raise ValueError(f"expected trained_on as booleans; got {self.trained_on.dtype}")
        # One reference at a time: a mask over all of them is a quarter of the bank again.
        for number, logits in enumerate(self.logits):
            check_logits(logits, self.labels, f"reference {number}")
        everywhere = int(self.trained_on.all(axis=0).sum())
        if everywhere:
            raise ValueError(
                f"expected every record to be left out by at least one reference; {everywhere} of "
                f"{len(self.labels)} were trained on by all {len(self.logits)}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One network's outputs on the records under attack. It does not say who is a member.

    Attributes:
        logits: `(records, classes)`, from the network as deployed, in eval mode, without augmentation.
        labels: `(records,)`, true classes.
        bank: Reference networks on the same records in the same order, for attacks that use them.

    Raises:
        ValueError: If shapes or types disagree, a logit is not finite, a label is out of range, or the bank describes
            other records.
    """

    logits: Floats
    labels: Labels
    bank: Bank | None = None

    def __post_init__(self) -> None:
        check_logits(self.logits, self.labels, "the network")
        if self.bank is None:
            return
        if self.bank.logits.shape[1:] != self.logits.shape:
            raise ValueError(
                "expected the bank's records and classes to be the evidence's; "
                f"got {self.bank.logits.shape[1:]} and {self.logits.shape}"
            )
        if not np.array_equal(self.bank.labels, self.labels):
            raise ValueError("expected the bank's records to be the evidence's records; their labels differ")


def check_logits(logits: Floats, labels: Labels, source: str = "the network") -> None:
    """Refuse logits that no score can be computed from.

    Args:
        logits: `(records, classes)`, of any floating type.
        labels: `(records,)`, integers from 0.
        source: Whose logits they are, for the message.

    Raises:
        ValueError: If shapes or types disagree, there is no record or only one class, a logit is not finite, or a
            label is out of range.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (records, classes) and labels (records,); got {logits.shape}, {labels.shape}"
        )
    if logits.shape[0] < 1 or logits.shape[1] < 2:
        raise ValueError(f"expected at least one record and two classes; got logits {logits.shape}")
    if logits.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise ValueError(f"expected logits as floats and labels as integers; got {logits.dtype} and {labels.dtype}")
    if not np.isfinite(logits).all():
        raise ValueError(f"expected finite logits; {source} gave NaN or infinity: its training diverged")
    if not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(f"expected labels from 0 to {logits.shape[1] - 1}; got {labels.min()} to {labels.max()}")
