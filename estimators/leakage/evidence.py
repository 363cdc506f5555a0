"""What an attack may look at."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.integer]
Mask: TypeAlias = NDArray[np.bool_]
Query: TypeAlias = Callable[[Floats], Floats]
Rows: TypeAlias = NDArray[np.integer] | Mask | Sequence[int] | slice
"""Which rows of an array are taken: indices, a mask or a slice."""
ALL = slice(None)

NEEDS = ("bank", "queries", "images", "activations", "population", "exits")
"""What an attack may need beyond logits and labels; `Evidence.holds` says which of them there are. Signals along time
are images of height 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Oracle:
    """A network that answers for any records it is given, in eval mode and as deployed.

    Attributes:
        query: Features `(records, ...)` to logits `(records, classes)`: all that a black box shows.
        activations: Features `(records, ...)` to what the last linear layer reads, `(records, units)`; None for a
            black box. With the logits and the label it gives the gradient of the loss by the last layer's
            deployed weights: the outer product of softmax less one-hot label, and this.
        exits: Features `(records, ...)` to the exit that answers, `(records,)` from 0, as far as the time of the answer
            tells it; None for a network with one.
    """

    query: Query
    activations: Query | None = None
    exits: Callable[[Floats], Labels] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Records that no network was trained on, neither the attacked one nor a reference.

    Attributes:
        features: `(records, ...)`.
        labels: `(records,)`, true classes.
        logits: `(records, classes)`, the attacked network's.

    Raises:
        ValueError: If shapes or types disagree, a logit is not finite, or a label is out of range.
    """

    features: Floats
    labels: Labels
    logits: Floats

    def __post_init__(self) -> None:
        check_logits(self.logits, self.labels, "the network, on the population,")
        _check_features(self.features, len(self.labels))


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
        oracles: The references themselves, one each; empty where only their logits are known.
        exits: `(references, records)`, the exit that answered, from 0; None for networks with a single one.

    Raises:
        ValueError: If shapes or types disagree, a logit is not finite, a label is out of range, or a record was left
            out by no reference.
    """

    logits: Floats
    trained_on: Mask
    labels: Labels
    oracles: tuple[Oracle, ...] = ()
    exits: Labels | None = None

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
        if len(self.oracles) not in (0, len(self.logits)):
            raise ValueError(f"expected an oracle for each of {len(self.logits)} references; got {len(self.oracles)}")
        if self.exits is not None:
            _check_exits(self.exits, self.trained_on.shape)

    def part(self, references: Rows = ALL, records: Rows = ALL) -> Bank:
        """Return some of the references on some of the records.

        Args:
            references: Which are kept.
            records: Which are kept.

        Raises:
            ValueError: If a record that is left was trained on by all references that are left, or none is left.
        """
        kept = np.arange(len(self.logits))[references]
        return Bank(
            self.logits[kept][:, records],
            self.trained_on[kept][:, records],
            self.labels[records],
            tuple(self.oracles[reference] for reference in kept) if self.oracles else (),
            None if self.exits is None else self.exits[kept][:, records],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One network's outputs on the records under attack. It does not say who is a member.

    Attributes:
        logits: `(records, classes)`, from the network as deployed, in eval mode, without augmentation.
        labels: `(records,)`, true classes.
        bank: Reference networks on the same records in the same order, for attacks that use them.
        features: `(records, ...)`, the records themselves, for attacks that query changed copies.
        oracle: The network itself, for the same attacks; it takes features as they stand here.
        population: Records known to be non-members of every network.
        exits: `(records,)`, the exit that answered, from 0, as far as the latency of a network with early exits reveals
            it.

    Raises:
        ValueError: If shapes or types disagree, a logit is not finite, a label is out of range, or the bank describes
            other records.
    """

    logits: Floats
    labels: Labels
    bank: Bank | None = None
    features: Floats | None = None
    oracle: Oracle | None = None
    population: Population | None = None
    exits: Labels | None = None

    def __post_init__(self) -> None:
        check_logits(self.logits, self.labels, "the network")
        if self.features is not None:
            _check_features(self.features, len(self.labels))
        if self.exits is not None:
            _check_exits(self.exits, self.labels.shape)
        if self.bank is None:
            return
        if self.bank.logits.shape[1:] != self.logits.shape:
            raise ValueError(
                "expected the bank's records and classes to be the evidence's; "
                f"got {self.bank.logits.shape[1:]} and {self.logits.shape}"
            )
        if not np.array_equal(self.bank.labels, self.labels):
            raise ValueError("expected the bank's records to be the evidence's records; their labels differ")

    @property
    def holds(self) -> frozenset[str]:
        """What there is of `NEEDS`; queries, activations and exits only if references, where there are any, have them.

        Images are `(records, channels, height, width)`.

        >>> sorted(Evidence(np.zeros((2, 3)), np.array([0, 1]), exits=np.array([0, 0])).holds)
        ['exits']
        """
        oracles = [self.oracle, *(self.bank.oracles or [None] if self.bank else [])]
        queries = self.features is not None and all(oracle is not None for oracle in oracles)
        found = {
            "bank": self.bank is not None,
            "queries": queries,
            "images": self.features is not None and self.features.ndim == 4,
            "activations": queries and all(oracle is not None and oracle.activations is not None for oracle in oracles),
            "population": self.population is not None,
            "exits": self.exits is not None and (self.bank is None or self.bank.exits is not None),
        }
        return frozenset(name for name, is_there in found.items() if is_there)


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


def _check_features(features: Floats, records: int) -> None:
    if features.ndim < 2 or len(features) != records or features.dtype.kind != "f":
        raise ValueError(
            f"expected features ({records}, ...) of floats, for as many labels; got {features.shape} {features.dtype}"
        )
    if not np.isfinite(features).all():
        raise ValueError("expected finite features; got NaN or infinity")


def _check_exits(exits: Labels, shape: tuple[int, ...]) -> None:
    if exits.shape != shape or exits.dtype.kind not in "iu" or exits.min() < 0:
        raise ValueError(f"expected exits {shape} of integers from 0; got {exits.shape} {exits.dtype}")
