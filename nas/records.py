"""Labelled records and the five disjoint sets that a search keeps apart.

The worst errors in published membership inference come from sets that overlap: attacks calibrated on members, models
chosen on the records they are attacked with. `split` is the one place where records are given a role.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.assignment import LEAST
from nas.assignment import assign
from nas.assignment import clusters_of
from nas.base import plugins
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.arrangement import plain
from nas.preprocessing.columns import Column
from nas.preprocessing.columns import advice
from nas.preprocessing.columns import filled
from nas.preprocessing.columns import fitted
from nas.preprocessing.columns import transformed
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import scaled
from nas.preprocessing.preprocessing import standardised
from nas.split_overview import Overview
from nas.split_overview import overview

Shape: TypeAlias = tuple[int, ...]
Ints: TypeAlias = NDArray[np.int64]

LAYOUTS = ("channels-first", "channels-last")
"""Where the channels of an image or a signal stand: before all positions, or after them."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where records come from.

    Attributes:
        name: Data set, a file of `nas/data` such as `digits`, or a module of your own by its dotted name.
        path: File or folder, for the data sets that need one.
        label_column: Column of a table that holds the class.
        group_column: Column of a table, or array of an npz, that says which records belong together: a person, a
            recording.
        test_path: File or folder of the official test part, where it is apart.
        drop_columns: Columns of a table that are not to be read.
        layout: Order of the axes of an image or a signal, one of `LAYOUTS`; None: found out, or refused if it could be
            several.
        record_shape: Shape of one record, where the file holds it as a row of numbers: `(channels, height, width)`, or
            `(channels, time)`.
        image_size: Height and width that images of a folder are brought to; None: all have one size.
    """

    name: str
    path: Path | None = None
    label_column: str = "label"
    group_column: str | None = None
    test_path: Path | None = None
    drop_columns: tuple[str, ...] = ()
    layout: str | None = None
    record_shape: Shape | None = None
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Labelled records.

    Attributes:
        features: `(records, channels, height, width)`, a signal `(records, channels, 1, time)`, or `(records,
            features)`, float32. A loader may hand images over as uint8, where 0 to 255 stand for 0 to 1, which takes a
            quarter of the memory, and numbers as float64, in which large offsets lose no digits; `split` makes both
            float32. NaN stands for a missing number of a table, and only there.
        labels: `(records,)`, 0 to `num_classes` - 1.
        classes: Name of each class.
        groups: `(records,)`, equal for records that belong together, such as one person's; they stay on one side.
        held_out: `(records,)`, true in a data set's official test part: these become the test set and nothing else.
        copies: `(records,)`, equal for records that differ in nothing but columns that tell records apart, such as an
            id: one person written twice. They stay on one side too.
        rows: `(records,)`: the record's place in its file, the first record is 1. Left out, it is the place here.
        names: `(records,)`: the file that a record comes from, where records come from several files.
        columns: Columns of a table, in the order of their features; empty for everything else.
        arrangement: How a record lies in the user's file; None: as in the features.
        notes: What the loader did to the data or doubts about them, a sentence each, for people.

    Raises:
        ValueError: If shapes or types disagree, a feature is not finite, a label is out of range, or fewer than two
            classes are present.

    >>> records = Records(np.zeros((3, 2), np.float32), np.array([0, 1, 1]), ("cat", "dog"))
    >>> len(records), records.input_shape, records.class_counts.tolist()
    (3, (2,), [1, 2])
    """

    features: NDArray[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    groups: NDArray[Any] | None = None
    held_out: NDArray[np.bool_] | None = None
    copies: Ints | None = None
    rows: Ints | None = None
    names: NDArray[np.str_] | None = None
    columns: tuple[Column, ...] = ()
    arrangement: Arrangement | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_features(self.features, self.columns)
        _check_labels(self.labels, len(self.features), self.classes)
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise ValueError(f"expected groups ({len(self)},); got {self.groups.shape}")
        if self.groups is not None and (self.groups != self.groups).any():  # only NaN differs from itself
            raise ValueError("expected a group for every record; got NaN")
        if self.held_out is not None and (self.held_out.shape != self.labels.shape or self.held_out.dtype != bool):
            raise ValueError(f"expected held_out ({len(self)},) bool; got {self.held_out.shape} {self.held_out.dtype}")
        if self.rows is None:
            object.__setattr__(self, "rows", np.arange(1, len(self) + 1))
        for name, values in (("copies", self.copies), ("rows", self.rows), ("names", self.names)):
            if values is not None and values.shape != self.labels.shape:
                raise ValueError(f"expected {name} ({len(self)},); got {values.shape}")
        if self.arrangement is not None and self.arrangement.input_shape != self.input_shape:
            raise ValueError(f"expected an arrangement to {self.input_shape}; got {self.arrangement.input_shape}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> Shape:
        """Shape of one record."""
        return self.features.shape[1:]

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def class_counts(self) -> Ints:
        """Records of each class, `(classes,)`."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def select(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Records:
        """Return some of the records: those at `rows` in that order, or those where `rows` is true.

        Raises:
            ValueError: If fewer than two classes are left.
        """
        return replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            held_out=None if self.held_out is None else self.held_out[rows],
            copies=None if self.copies is None else self.copies[rows],
            rows=None if self.rows is None else self.rows[rows],
            names=None if self.names is None else self.names[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class NewRecords:
    """Records that a trained network is to be asked about; they need no class.

    Attributes:
        features: `(records, *input_shape)`, in the user's unit and the network's order, encoded as the network's are.
        places: What each record is called: its row in the file, the first is 1, or its own file.
        labels: Name of each record's class, where the file says it.
        notes: What was done to the data or doubts about them, a sentence each, for people.
    """

    features: NDArray[Any]
    places: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Five sets that share no record, no group and no duplicate, all float32 and standardised by the members alone.

    Attributes:
        members: What candidates are trained on.
        non_members: As many others, for the attack to tell apart from the members.
        validation: For the error of a candidate.
        reserve: For the constants of an attack and the ranges of an exported network. A defence that asks for it may
            learn from one part of it (`nas.training.defence.parted`); no network is ever trained on the other.
        test: Opened for the network that was chosen alone: for its error, once, and for its audit.
        fingerprint: SHA-256 in hex of the records as they were loaded, and of the set and the place each was given.
        preprocessing: What makes a user's record one of these.
        overview: How many records became what, and what to doubt.
    """

    members: Records
    non_members: Records
    validation: Records
    reserve: Records
    test: Records
    fingerprint: str
    preprocessing: Preprocessing
    overview: Overview


def groups_of(parts: Sequence[Records]) -> NDArray[Any] | None:
    """Return the groups of several record sets, one after the other; None unless all have groups."""
    groups = [part.groups for part in parts if part.groups is not None]
    return np.concatenate(groups) if len(groups) == len(parts) else None


SETS = ("members", "non_members", "validation", "reserve", "test")


def load_records(source: Source) -> Records:
    """Load a data set.

    Raises:
        ValueError: If there is no such data set, it cannot be read, or it has no groups where a group column is named.
    """
    records: Records = plugins.load("nas.data", source.name, "load")(source)
    if source.group_column is not None and records.groups is None:
        raise ValueError(f"expected groups in column {source.group_column!r}; the data set {source.name!r} has none")
    return records


def split(records: Records, *, seed: int, members: int | None = None, transform: str = "none") -> Splits:
    """Give each record at most one role, by chance, class by class.

    Without `members` all records are used: about 30 % members, 30 % non-members, 10 % validation, 10 % reserve and 20 %
    test. With `members` the two first have exactly that many, validation and reserve half as many but at least 1,000
    each, and test twice that; where fewer are left, the three share them 1 : 1 : 2, and where more are, those have no
    role. An official test part is the test set, whole, and the other four share the rest.

    Records with equal features, whatever their labels, copies, and records of one group form a cluster, as do clusters
    that share a record. A cluster lies in one set. Records that form a cluster with official test records get no role.

    Members and non-members have equal counts in each class, so that a class alone says nothing about membership. Where
    clusters do not divide evenly, the surplus of the larger side gets no role.

    Features are standardised with mean and standard deviation of the members, per channel or column (constant ones are
    only centred), so that no other set leaks into training. The numbers of a table may be bent by a `transform` before,
    one of `nas.preprocessing.transforms.TRANSFORMS`, whose constants are the members' too.

    Raises:
        ValueError: If there are too few records or clusters for five sets, or for that many members, or a transform is
            asked for where there are no columns of a table.
    """
    if transform != "none" and not records.columns:
        raise ValueError(f"expected columns of a table for the transform {transform!r}; these records have none")
    rows, clusters, equal = _placed(records, seed, members)
    fingerprint, notes = _fingerprint(records, rows), records.notes
    if transform != "none":
        columns = fitted(records.columns, records.features[rows[0]], transform)
        records = replace(records, columns=columns, features=transformed(columns, records.features))
    elif records.columns:
        notes += advice(records.columns, records.features[rows[0]])
    told = overview(
        labels=records.labels,
        rows=dict(zip(SETS, rows, strict=True)),
        clusters=clusters,
        equal=equal,
        groups=records.groups,
        classes=records.classes,
        capped=members is not None,
        notes=notes,
    )
    return _standardised(records, rows, fingerprint, told)


def places(records: Records, *, seed: int, members: int | None = None) -> list[Ints]:
    """Return the places in `records` of those that `split` puts into each of `SETS`, in their order there.

    Raises:
        ValueError: As `split`.
    """
    return _placed(records, seed, members)[0]


def _placed(records: Records, seed: int, members: int | None) -> tuple[list[Ints], Ints, Ints]:
    """Return the places of each set, and of each record its cluster and which ones it equals."""
    rng = np.random.default_rng(seed)
    equal = clusters_of(records.features, records.copies)
    clusters = equal if records.groups is None else clusters_of(records.features, records.groups, records.copies)
    official = None if records.held_out is None or not records.held_out.any() else records.held_out
    pool = np.arange(len(records))
    if official is not None:
        pool = np.flatnonzero(~np.isin(clusters, clusters[official]))
    _check_counts(records, pool, sets=5 if official is None else 4)
    parts = assign(clusters[pool], records.labels[pool], members=members, official=official is not None, rng=rng)
    rows = [pool[part] for part in parts]
    if official is not None:
        rows.append(rng.permutation(np.flatnonzero(official)))
    _check_sets(records, rows)
    return rows, clusters, equal


def _check_features(features: NDArray[Any], columns: Sequence[Column]) -> None:
    if features.ndim not in (2, 4) or 0 in features.shape:
        raise ValueError(
            "expected features (records, features) or (records, channels, height, width), none of them 0; "
            f"got {features.shape}"
        )
    if features.dtype not in (np.float32, np.float64, *((np.uint8,) if features.ndim == 4 else ())):
        raise ValueError(f"expected float32, float64, or images in uint8; got {features.dtype} {features.shape}")
    if columns and (count := sum(len(column.features) for column in columns)) != features.shape[1]:
        raise ValueError(f"expected {count} features of {len(columns)} columns; got {features.shape[1]}")
    # Minimum and maximum carry infinity, and NaN where it counts, and need no copy.
    ends = (np.fmin.reduce, np.fmax.reduce) if columns else (np.min, np.max)
    with np.errstate(invalid="ignore"):
        found = [float(end(features, axis=None)) for end in ends]
    if not np.isfinite(found).all():
        raise ValueError("expected finite features; got NaN or infinity")


def _check_labels(labels: Ints, count: int, classes: tuple[str, ...]) -> None:
    if labels.shape != (count,) or labels.dtype != np.int64:
        raise ValueError(f"expected labels ({count},) int64; got {labels.shape} {labels.dtype}")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"expected labels from 0 to {len(classes) - 1}; got {labels.min()} to {labels.max()}")
    if labels.min() == labels.max():
        raise ValueError(f"expected records of at least two classes; all {count} are of class {classes[labels[0]]!r}")


def _check_counts(records: Records, pool: Ints, sets: int) -> None:
    counts = np.bincount(records.labels[pool], minlength=records.num_classes)
    short = np.flatnonzero((records.class_counts > 0) & (counts < LEAST * sets))
    if short.size:
        rarest = short[np.argmin(counts[short])]
        where = "" if sets == len(SETS) else " outside the official test part"
        raise ValueError(
            f"expected at least {LEAST * sets} records of each class{where}, to fill {sets} sets with {LEAST} of each; "
            f"class {records.classes[rarest]!r} has {counts[rarest]}"
        )


def _check_sets(records: Records, rows: Sequence[Ints]) -> None:
    for name, chosen in zip(SETS, rows, strict=True):
        found = np.unique(records.labels[chosen]).size
        if found < 2:
            raise ValueError(
                f"expected records of at least two classes in each of five sets; {name} would get {found}: "
                f"too few groups, or too many equal records"
            )


def _standardised(records: Records, rows: Sequence[Ints], fingerprint: str, told: Overview) -> Splits:
    # Channel by channel: the axis before the positions of an image, or the columns of a table.
    moments = list(starmap(_moments, zip(np.moveaxis(scaled(records.features[rows[0]]), 1, 0), strict=True)))
    mean, deviation = np.array(moments, _precision(records)).T
    sets = {}
    for name, chosen in zip(SETS, rows, strict=True):
        part = standardised(records.features[chosen], mean, deviation)
        groups = None if records.groups is None else records.groups[chosen]
        names = None if records.names is None else records.names[chosen]
        places = None if records.rows is None else records.rows[chosen]
        sets[name] = Records(part, records.labels[chosen], records.classes, groups, rows=places, names=names)
    preprocessing = Preprocessing(
        arrangement=records.arrangement or plain(records.input_shape),
        mean=mean,
        deviation=deviation,
        pixels=records.features.dtype == np.uint8,
        columns=filled(records.columns, mean),
        classes=records.classes,
    )
    return Splits(**sets, fingerprint=fingerprint, preprocessing=preprocessing, overview=told)


def _precision(records: Records) -> type:
    return np.float64 if records.features.dtype == np.float64 else np.float32


def _moments(column: NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation of a column or channel; 1 for the latter where it is constant."""
    missing = np.isnan(column)
    known = column[~missing] if missing.any() else column
    if not known.size:
        return 0.0, 1.0
    if known.min() == known.max():
        return float(known.flat[0]), 1.0
    return float(known.mean(dtype=np.float64)), float(known.std(dtype=np.float64))


def _fingerprint(records: Records, rows: Sequence[Ints]) -> str:
    """Hash what was loaded, not what was standardised: the last bits of a mean differ from one machine to another."""
    digest = hashlib.sha256(json.dumps([records.classes, records.input_shape, str(records.features.dtype)]).encode())
    for name, chosen in zip(SETS, rows, strict=True):
        digest.update(f"{name} {chosen.size}".encode())
        digest.update(np.ascontiguousarray(records.features[chosen]).data)
        digest.update(records.labels[chosen].tobytes())
    return digest.hexdigest()
