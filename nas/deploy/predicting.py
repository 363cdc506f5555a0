"""From a user's raw file to the classes that a trained network names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.base import plugins
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import NewRecords
from nas.records import Source
from nas.records import load_records

Answer: TypeAlias = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Returns logits `(records, classes)` about records as an exported network takes them."""

KINDS = {".csv": "csv", ".tsv": "csv", ".data": "csv", ".npz": "npz", ".parquet": "parquet"}
"""Data sets by the end of a file's name; a folder is one of images."""
FAR = 6.0
"""Deviations from the mean of the members; most values of new records beyond it are in another unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a network says of records.

    Attributes:
        records: The records.
        classes: Names of the classes.
        chosen: `(records,)`, the class with the highest probability.
        probabilities: `(records,)`, that class's.
    """

    records: NewRecords
    classes: tuple[str, ...]
    chosen: NDArray[np.intp]
    probabilities: NDArray[np.float64]

    @property
    def wrong(self) -> NDArray[np.bool_] | None:
        """Whether each record got another class than the file says; None where it says none."""
        if self.records.labels is None:
            return None
        return np.asarray(np.array(self.classes)[self.chosen] != np.array(self.records.labels))

    @property
    def error(self) -> Estimate | None:
        """Share of records with another class than the file says, with its exact binomial 95 % interval."""
        return None if self.wrong is None else proportion_interval(int(self.wrong.sum()), len(self.wrong))

    @property
    def errors_by_class(self) -> dict[str, tuple[int, Estimate]]:
        """For each class that the file says: how many records there are, and the share that got another one."""
        if self.wrong is None or self.records.labels is None:
            return {}
        labels = np.array(self.records.labels)
        found = {}
        for name in dict.fromkeys((*self.classes, *self.records.labels)):
            of_class = self.wrong[labels == name]
            if of_class.size:
                found[name] = (int(of_class.size), proportion_interval(int(of_class.sum()), int(of_class.size)))
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each record: what it is called, its class, the probability, and the file's own class."""
        labels = self.records.labels or (None,) * len(self.chosen)
        return [
            {"record": place, "class": self.classes[chosen], "probability": float(probability)}
            | ({} if label is None else {"label": label})
            for place, chosen, probability, label in zip(
                self.records.places, self.chosen.tolist(), self.probabilities, labels, strict=True
            )
        ]


def predict(records: NewRecords, behind: Preprocessing, answer: Answer) -> Predictions:
    """Ask a network about records.

    Args:
        records: The records.
        behind: What the network was trained behind.
        answer: The network.

    Raises:
        ValueError: If the network gives other classes than it was trained for, or no finite answers.
    """
    logits = answer(behind.as_given(records.features))
    if logits.shape != (len(records.places), len(behind.classes)):
        raise ValueError(
            f"expected answers ({len(records.places)}, {len(behind.classes)}), for the classes {behind.classes[:8]}; "
            f"got {logits.shape}"
        )
    chosen = logits.argmax(1)
    return Predictions(records, behind.classes, chosen, np.exp(log_probabilities(logits, chosen)).astype(np.float64))


def read_records(source: Source, behind: Preprocessing) -> NewRecords:
    """Read records that a network is to be asked about, from a file or folder as it was trained on.

    Raises:
        ValueError: If they cannot be read, or lie otherwise than those that it was trained on.
    """
    read = plugins.find("nas.data", source.name, "new_records") or _of_data_set
    records = read(source, behind)
    if records.features.shape[1:] != behind.arrangement.input_shape:
        raise ValueError(
            f"expected records {behind.arrangement.input_shape}, as the network was trained on; "
            f"got {records.features.shape[1:]}"
        )
    return NewRecords(records.features, records.places, records.labels, (*records.notes, *_doubts(records, behind)))


def kind_of(path: Path | None) -> str:
    """Name the data set that reads a file, by the end of its name.

    Raises:
        ValueError: If no data set does.
    """
    if path is not None and path.is_dir():
        return "images"
    if path is None or path.suffix.lower() not in KINDS:
        raise ValueError(f"expected --dataset, or a folder or a file that ends in {sorted(KINDS)}; got {path}")
    return KINDS[path.suffix.lower()]


def _of_data_set(source: Source, behind: Preprocessing) -> NewRecords:
    """Read records through a data set that reads nothing but what it can train on."""
    records = load_records(source)
    given = records.arrangement.shape if records.arrangement is not None else records.input_shape
    if (records.input_shape, given) != (behind.arrangement.input_shape, behind.arrangement.shape):
        raise ValueError(
            f"expected records {behind.arrangement.shape}, as the network was trained on; {source.name!r} has {given}"
        )
    labels = tuple(records.classes[label] for label in records.labels)
    places = records.rows if records.names is None else records.names
    return NewRecords(records.features, tuple(map(str, () if places is None else places)), labels, records.notes)


def _doubts(records: NewRecords, behind: Preprocessing) -> list[str]:
    """Say that records look as if they were in another unit, or of other classes."""
    notes = []
    if not len(records.places):
        raise ValueError("expected one record or more; got none")
    far = float(np.mean(np.abs(behind.standardised(records.features)) > FAR))
    if far > 1 / 2:
        notes.append(
            f"{far:.0%} of the values lie more than {FAR:.0f} deviations from what the network was trained on: they "
            "are in another unit, standardised already, or of another kind"
        )
    if records.labels is not None and (strange := sorted(set(records.labels) - set(behind.classes))):
        count = sum(label in strange for label in records.labels)
        notes.append(
            f"{count} records are of classes that the network does not know, {strange[:5]}, and count as errors; it "
            f"knows {list(behind.classes)[:8]}"
        )
    return notes
