"""UCI HAR, 10,299 windows of a phone's motion, 9 signals of 128 steps, 6 activities of 30 people; its folder."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.base import reading
from nas.base.reading import as_float32
from nas.base.reading import existing
from nas.base.reading import find_files
from nas.base.reading import read_bytes
from nas.base.reading import unreadable
from nas.data.shared.layouts import refuse_options
from nas.data.shared.layouts import signals
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True
FOLDERS = (".", "UCI HAR Dataset")
PARTS = ("train", "test")
SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
TIME = 128
ACTIVITY = re.compile(r"\s*(\d+)\s+(\S+)\s*")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The training or the test part.

    Attributes:
        features: `(records, 9, 1, 128)`.
        labels: `(records,)`, from 1.
        people: `(records,)`, a number for each person.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    people: NDArray[np.int64]


def load(source: Source) -> Records:
    """Load UCI HAR: features `(10299, 9, 1, 128)` float32, groups the people, the last 2,947 held out.

    Windows of 2.56 s overlap by half, so that neighbours share samples: people are never divided between sets. The nine
    signals are the body's acceleration, its angular velocity, and the total acceleration, along x, y and z.

    Source: Anguita, Ghio, Oneto, Parra and Reyes-Ortiz, "A Public Domain Dataset for Human Activity Recognition Using
    Smartphones" (ESANN 2013).

    Raises:
        ValueError: If the folder or a file is missing, or files do not fit together.
    """
    refuse_options(source, "test_path", "drop_columns", "layout", "record_shape", "image_size")
    root = existing(source.path, "the folder of UCI HAR")
    names = ["activity_labels.txt", *(name for part in PARTS for name in _names(part))]
    activities, *files = find_files(root, FOLDERS, names, "the files of UCI HAR")
    classes = _classes(activities)
    each = len(files) // len(PARTS)
    parts = [_part(files[:each]), _part(files[each:])]
    counts = [len(part.labels) for part in parts]
    found = np.concatenate([part.labels for part in parts])
    if found.min() < 1 or found.max() > len(classes):
        raise ValueError(
            f"expected labels from 1 to {len(classes)}, those of {activities}; got {found.min()} to {found.max()}"
        )
    return Records(
        features=np.concatenate([part.features for part in parts]),
        labels=found - 1,
        classes=classes,
        groups=np.concatenate([part.people for part in parts]),
        held_out=np.repeat([False, True], counts),
        rows=np.concatenate([np.arange(1, count + 1) for count in counts]),
        names=np.repeat(PARTS, counts),
        arrangement=signals(len(SIGNALS), TIME),
    )


def _names(part: str) -> list[str]:
    own = [f"Inertial Signals/{signal}_{part}.txt" for signal in SIGNALS]
    return [f"{part}/{name}" for name in (f"y_{part}.txt", f"subject_{part}.txt", *own)]


def _classes(path: Path) -> tuple[str, ...]:
    """Read the names of the activities, `1 WALKING` to `6 LAYING`, in the order of their numbers."""
    rows = read_bytes(path, "the activities of UCI HAR").decode("latin-1").splitlines()
    found = [ACTIVITY.fullmatch(row) for row in rows if row.strip()]
    names = {int(match[1]): match[2] for match in found if match and len(match[1]) < 9}
    if not names or len(names) != len(found) or sorted(names) != list(range(1, len(names) + 1)):
        raise ValueError(f"expected a number from 1 and a name in each row of {path}; got {rows[:1]}")
    return tuple(names[number] for number in sorted(names))


def _part(files: list[Path]) -> Part:
    label, person, *series = files
    labels, people = (_numbers(path, 1)[:, 0] for path in (label, person))
    for path, values in ((label, labels), (person, people)):
        if (values != np.round(values)).any() or abs(values).max() > 1e9 or len(values) != len(labels):
            raise ValueError(f"expected {len(labels)} whole numbers in {path}; got others")
    features = np.empty((len(labels), len(SIGNALS), 1, TIME), np.float32)
    for place, path in enumerate(series):
        values = _numbers(path, TIME)
        if len(values) != len(labels):
            raise ValueError(f"expected {len(labels)} rows in {path}, as in {label.name}; got {len(values)}")
        features[:, place, 0] = values
    return Part(features, labels.astype(np.int64), people.astype(np.int64))


def _numbers(path: Path, columns: int) -> NDArray[np.float32]:
    """Read a table of numbers, divided by spaces: `(rows, columns)`."""
    data = read_bytes(path, "a file of UCI HAR")
    try:
        table = (
            np.loadtxt(io.StringIO(data.decode("latin-1")), np.float32, comments=None, ndmin=2)
            if data.strip()
            else None
        )
    except reading.BROKEN as error:
        raise unreadable(path, "numbers divided by spaces", error) from None
    if table is None or table.shape[1:] != (columns,):
        got = "none" if table is None else table.shape[1]
        raise ValueError(f"expected {columns} numbers divided by spaces in each row of {path}; got {got}")
    return as_float32(table, f"the numbers of {path}")
