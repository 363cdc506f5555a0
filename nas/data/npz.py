"""Any .npz of tables, images or signals with labels, in one part or with a test part, under the usual names."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nas.base import reading
from nas.base.labels import classes_of
from nas.base.labels import groups_of
from nas.base.reading import existing
from nas.base.reading import unreadable
from nas.data.shared.layouts import arranged
from nas.data.shared.layouts import recalled
from nas.data.shared.layouts import refuse_options
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import NewRecords
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True
FEATURES = ("features", "x", "data", "images")
LABELS = ("labels", "y", "target", "targets", "label")
PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("", "train"),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
"""Parts of a file and what stands before or after `_` in their names: `x_train` or `train_images`."""
UNDERSTOOD = "features/labels, x/y, data/target, images/labels, with _train, _val, _test or train_, val_, test_"
EXPECTED = "an .npz with features and labels"
MOST_LISTED = 12


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of the records, all of one pair of arrays.

    Attributes:
        part: One of `PARTS`.
        name: Name of the array of features.
        features: `(records, ...)`.
        labels: `(records, ...)`.
        groups: `(records,)`, where there are any.
        held_out: `(records,)` bool, where the file says itself what its test part is.
    """

    part: str
    name: str
    features: NDArray[Any]
    labels: NDArray[Any]
    groups: NDArray[Any] | None
    held_out: NDArray[Any] | None


def load(source: Source) -> Records:
    """Load an .npz, never unpickling.

    - Features: `features`, `x`, `data` or `images`, with labels in `labels`, `y`, `target`, `targets`, `label` or the
      array that `source.label_column` names; capitals make no difference. `nas.data.shared.layouts` reads their axes.
    - Parts: `x_train` and `y_train`, `train_images` and `train_labels`, and the same with `val` and `test`. The test
      part is held out; the validation part joins the rest. `source.test_path` may hold the test part instead.
    - `groups`, or the array that `source.group_column` names, for each part: `(records,)`, integers or strings.
    - `held_out`: `(records,)` bool, the official test part of a file in one part.

    Raises:
        ValueError: If the file is missing, no .npz, holds Python objects, or its arrays do not fit together.
    """
    refuse_options(source, "drop_columns", "image_size")
    path = existing(source.path, "an .npz file")
    parts, notes = _parts(path, source)
    if all(part.part == "test" for part in parts):
        raise ValueError(f"expected records to train on in {path}; got a test part alone, {_shapes(parts)}")
    if source.test_path is not None:
        own, more = _test_part(existing(source.test_path, "an .npz file with the test part"), source)
        if any(part.part == "test" or part.held_out is not None for part in parts):
            raise ValueError(f"expected no test part in {path} beside --test-path {source.test_path}; it has one")
        parts, notes = [*parts, own], [*notes, *more]
    try:
        return _joined(parts, notes, source)
    except ValueError as error:
        raise ValueError(f"{error} (in {path})") from None


def new_records(source: Source, behind: Preprocessing) -> NewRecords:
    """Read records to ask a trained network about: features under the usual names, labels if there are any.

    Of several parts the test part is read. Records lie as those that the network was trained on, or as rows of as many
    numbers.

    Raises:
        ValueError: If the file is no .npz, or holds no such records.
    """
    path = existing(source.path, "an .npz file")
    names, holds = _listing(path)
    roles = [found for marks in (("test",), ("",)) if "features" in (found := _roles(names, marks, source))]
    if not roles:
        raise ValueError(f"expected an array of features in {path}; it holds {holds}; understood are {UNDERSTOOD}")
    chosen = {role: name for role, name in roles[0].items() if role in ("features", "labels")}
    arrays = reading.read_npz(path, list(chosen.values()))
    features = recalled(arrays[chosen["features"]], behind, chosen["features"])
    labels = None
    if "labels" in chosen:
        labels = _names_of(arrays[chosen["labels"]])
        if len(labels) != len(features):
            raise ValueError(f"expected {len(features)} labels in {path}; got {len(labels)}")
    return NewRecords(features, tuple(str(row + 1) for row in range(len(features))), labels)


def _joined(parts: Sequence[Part], notes: Sequence[str], source: Source) -> Records:
    """Put the parts together, the test part last."""
    _check_alike(parts)
    name = ", ".join(part.name for part in parts)
    several = len(parts) > 1
    joined = np.concatenate([part.features for part in parts]) if several else parts[0].features
    values, arrangement, decided = arranged(joined, source, name)
    labels, classes = classes_of(np.concatenate([part.labels for part in parts]), "labels")
    if several:
        held = [np.full(len(part.features), part.part == "test") for part in parts]
        held_out = np.concatenate(held) if any(part.part == "test" for part in parts) else None
    else:
        held_out = parts[0].held_out
    return Records(
        features=values,
        labels=labels,
        classes=classes,
        groups=_groups(parts, source.group_column or "groups"),
        held_out=held_out,
        rows=np.concatenate([np.arange(1, len(part.features) + 1) for part in parts]),
        names=np.repeat([part.name for part in parts], [len(part.features) for part in parts]) if several else None,
        arrangement=None if arrangement.is_plain else arrangement,
        notes=(*decided, *notes),
    )


def _groups(parts: Sequence[Part], name: str) -> NDArray[np.int64] | None:
    found = [part.groups for part in parts if part.groups is not None]
    return groups_of(np.concatenate(found), name) if found else None


def _check_alike(parts: Sequence[Part]) -> None:
    """Refuse parts whose records differ in shape or kind: one would be read as the other.

    Raises:
        ValueError: If they do, or a part has not one label and group for each record.
    """
    for part in parts:
        for what, values in (("labels", part.labels), ("groups", part.groups)):
            if values is not None and (not values.ndim or values.shape[:1] != part.features.shape[:1]):
                raise ValueError(
                    f"expected {what} ({len(part.features) if part.features.ndim else 1},), one for each record of "
                    f"{part.name} {part.features.shape}; got {what} {values.shape}"
                )
    first = parts[0]
    for part in parts[1:]:
        if part.features.shape[1:] != first.features.shape[1:] or _kind(part.features) != _kind(first.features):
            raise ValueError(
                f"expected records of one shape and type in all parts; got {_shapes([first])} and {_shapes([part])}"
            )
        if part.labels.shape[1:] != first.labels.shape[1:] or _kind(part.labels) != _kind(first.labels):
            raise ValueError(
                f"expected labels of one kind in all parts; got {first.labels.dtype} {first.labels.shape} and "
                f"{part.labels.dtype} {part.labels.shape}"
            )
        if (part.groups is None) != (first.groups is None):
            lacking = part if part.groups is None else first
            raise ValueError(f"expected groups in all parts or none; {lacking.name} has none")


def _kind(values: NDArray[Any]) -> str:
    return "i" if values.dtype.kind in "iu" else "U" if values.dtype.kind in "US" else values.dtype.kind


def _shapes(parts: Sequence[Part]) -> str:
    return ", ".join(f"{part.name} {part.features.shape} {part.features.dtype}" for part in parts)


# Names of arrays.


def _test_part(path: Path, source: Source) -> tuple[Part, list[str]]:
    """Read the test part from a file of its own: its only part, or the one called so."""
    parts, notes = _parts(path, source)
    named = [part for part in parts if part.part == "test"] or parts
    if len(named) > 1 or named[0].held_out is not None:
        raise ValueError(f"expected one part in {path}, the test part; got {_shapes(parts)}")
    (part,) = named
    return replace(part, part="test", name=f"{path.name}:{part.name}"), notes


def _parts(path: Path, source: Source) -> tuple[list[Part], list[str]]:
    """Read all parts of a file, training records first, and say what was not read."""
    names, holds = _listing(path)
    try:
        chosen = _chosen(names, source)
    except ValueError as error:
        raise ValueError(f"{error} in {path}; it holds {holds}; understood are {UNDERSTOOD}") from None
    wanted = [name for arrays in chosen.values() for name in arrays.values()]
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = reading.read_arrays(archive, wanted)
    except reading.BROKEN as error:
        raise unreadable(path, EXPECTED, error) from None
    parts = [
        Part(
            part=part,
            name=roles["features"],
            features=arrays[roles["features"]],
            labels=arrays[roles["labels"]],
            groups=arrays[roles["groups"]] if "groups" in roles else None,
            held_out=arrays[roles["held_out"]] if "held_out" in roles else None,
        )
        for part, roles in chosen.items()
    ]
    notes = []
    if "validation" in chosen:
        notes.append("the validation part joins the training part; a search divides them anew")
    if unread := [name for name in names if name not in wanted]:
        notes.append(f"not read in {path.name}: {', '.join(map(repr, unread[:MOST_LISTED]))}")
    return parts, notes


def _listing(path: Path) -> tuple[list[str], str]:
    """Name all arrays of a file, and describe them with their shapes in one line."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            described = [_described(archive, name) for name in names[:MOST_LISTED]]
    except reading.BROKEN as error:
        raise unreadable(path, EXPECTED, error) from None
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return names, ", ".join(described) + more if names else "nothing"


def _described(archive: zipfile.ZipFile, name: str) -> str:
    """Name an array with its shape; without it where its header cannot be read."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with archive.open(name if name in archive.NameToInfo else f"{name}.npy") as stream:
            shape, _, _ = readers[npy.read_magic(stream)](stream, max_header_size=reading.LONGEST_HEADER)
    except reading.BROKEN:
        return repr(name)
    return f"{name!r} {shape}"


def _chosen(names: Sequence[str], source: Source) -> dict[str, dict[str, str]]:
    """Find the arrays of each part: their names by what they hold.

    Raises:
        ValueError: If a part lacks its features, labels or groups, or several arrays could be one of them.
    """
    roles = {part: _roles(names, marks, source) for part, marks in PARTS.items()}
    found = {part: arrays for part, arrays in roles.items() if arrays.keys() & {"features", "labels"}}
    needed = ("features", "labels", "groups") if source.group_column else ("features", "labels")
    for arrays in found.values():
        if missing := [role for role in needed if role not in arrays]:
            other = arrays.get("features") or arrays["labels"]
            what = repr(source.group_column) if missing[0] == "groups" else missing[0]
            raise ValueError(f"expected an array of {what} to {other!r}")
    if not found:
        raise ValueError("expected arrays of features and labels")
    if len(found) > 1 and any("held_out" in arrays for arrays in found.values()):
        raise ValueError("expected 'held_out' or a test part, not both")
    return found


def _roles(names: Sequence[str], marks: Sequence[str], source: Source) -> dict[str, str]:
    """Find the arrays of one part.

    Raises:
        ValueError: If several arrays could be one of them.
    """
    own_labels = source.label_column.lower()
    words = {
        "features": FEATURES,
        "labels": LABELS if own_labels in LABELS else (own_labels,),
        "groups": ((source.group_column or "groups").lower(),),
        "held_out": ("held_out",),
    }
    found = {}
    for role, candidates in words.items():
        wanted = {name for word, mark in product(candidates, marks) for name in _spelled(word, mark)}
        matching = [name for name in names if name.lower() in wanted]
        if len(matching) > 1:
            raise ValueError(f"expected one array of {role}; {' and '.join(map(repr, matching))} could both be it")
        if matching:
            found[role] = matching[0]
    return found


def _spelled(word: str, mark: str) -> tuple[str, ...]:
    return (f"{word}_{mark}", f"{mark}_{word}") if mark else (word,)


def _names_of(values: NDArray[Any]) -> tuple[str, ...]:
    """Return the name of each record's class, as training names classes; a few records show few of them."""
    if values.ndim == 2:
        values = values[:, 0] if values.shape[1] == 1 else values.argmax(axis=1)
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    return tuple(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in values.tolist())
