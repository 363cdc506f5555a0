"""Labels as users write them, numbered as the columns of the logits are.

>>> found = numbered({"labels": np.array(["dog", "cat", "dog"])}, 2)
>>> found.labels["labels"].tolist(), found.classes
([1, 0, 1], ('cat', 'dog'))
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 8


@dataclass(frozen=True, eq=False)
class Numbered:
    """Labels by the columns of the logits.

    Attributes:
        labels: `(records,)` int64 for each array, by its name; 0 is the first column.
        classes: The name of each column; empty where none is known.
        notes: Sentences on how the labels were read, where they were not numbers from 0.
    """

    labels: Mapping[str, NDArray[np.int64]]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def numbered(given: Mapping[str, NDArray[Any]], columns: int, names: Sequence[str] = ()) -> Numbered:
    """Number labels as the columns of the logits are, all arrays alike.

    Numbers from 0 are columns. Texts, and numbers that are names, are looked up among the names. Without names the
    labels' sorted order is taken for that of the columns if there are as many, and numbers from 1 up to the number of
    columns are counted from 1.

    Args:
        given: Labels by the name of the array: `(records,)` or `(records, 1)` of numbers or texts, or one-hot
            `(records, classes)`.
        columns: Columns of the logits.
        names: Name of each column; empty if unknown.

    Raises:
        ValueError: If an array holds something else, there is not one name for each column, a label is no name, or
            their order cannot be known.
    """
    if names and (len(names) != columns or len(set(names)) != columns):
        raise ValueError(
            f"expected in 'classes' a name of its own for each of {columns} columns of logits; got {_some(names)}"
        )
    flat, notes = {}, []
    for name, values in given.items():
        flat[name] = _flat(values, name, columns)
        if values.ndim == 2 and values.shape[1] > 1:
            notes.append(f"{name} are one-hot; the column of the 1 was taken for the class")
    texts = {name: values.dtype.kind == "U" for name, values in flat.items()}
    if len(set(texts.values())) > 1:
        raise ValueError(
            f"expected labels of one kind; {[name for name in texts if texts[name]]} are texts, others not"
        )
    keys, classes, note = _columns(np.unique(np.concatenate(list(flat.values()))), columns, tuple(names))
    place = {key: column for column, key in enumerate(keys)}
    labels = {name: np.array([place[key] for key in values.tolist()], np.int64) for name, values in flat.items()}
    return Numbered(labels, classes, (*notes, *([note] if note else [])))


def _columns(found: NDArray[Any], columns: int, names: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...], str]:
    """Return the label of each column, the columns' names, and what has to be said of it."""
    values, texts = found.tolist(), [str(value) for value in found.tolist()]
    if names and all(text in names for text in texts):
        by_name = dict(zip(texts, values, strict=True))
        return [by_name.get(name, object()) for name in names], names, ""
    if found.dtype.kind == "U":
        if names:
            unknown = [text for text in texts if text not in names]
            raise ValueError(f"expected labels among the classes {_some(names)}; got {unknown[0]!r}")
        return _texts(texts, columns)
    least, most = values[0], values[-1]
    if least >= 0 and most < columns:
        return list(range(columns)), names, ""
    if least >= 1 and most == columns:
        note = f"labels are counted from 1: there is a {columns} and no 0, and the logits have {columns} columns"
        return list(range(1, columns + 1)), names or tuple(str(one) for one in range(1, columns + 1)), note
    if len(values) == columns:
        note = f"labels are {_some(texts)}; in this order they were taken for the {columns} columns of the logits"
        return values, names or tuple(texts), note
    raise ValueError(
        f"expected labels from 0 to {columns - 1}; got {least} to {most}: give 'classes', the label of each column of "
        "the logits in order"
    )


def _texts(texts: list[str], columns: int) -> tuple[list[Any], tuple[str, ...], str]:
    """Return the order of texts that nobody told; numbers are sorted as such."""
    if len(texts) != columns:
        raise ValueError(
            f"expected 'classes', the names in the order of the logits' columns, because the labels are texts; there "
            f"are {len(texts)} different ones for {columns} columns: {_some(texts)}"
        )
    if all(text.lstrip("+-").isdecimal() for text in texts):
        texts = sorted(texts, key=int)
    note = (
        f"labels are texts; their sorted order was taken for that of the logits' columns: {_some(texts)}. If it is "
        "another, give it as 'classes'"
    )
    return texts, tuple(texts), note


def _flat(values: NDArray[Any], name: str, columns: int) -> NDArray[Any]:
    """Return labels `(records,)` as int64 or as texts."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.ndim == 2 and values.size and values.dtype.kind in "biuf":
        return _of_one_hot(values, name, columns)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "biufU":
        raise ValueError(
            f"expected {name!r} (records,) of numbers or texts, or one-hot (records, {columns}); got {values.dtype} "
            f"{values.shape}"
        )
    if values.dtype.kind == "U":
        return np.char.strip(values)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and np.array_equal(values, values.round())):
        raise ValueError(
            f"expected classes as {name!r}; got fractions or NaN: a network that predicts quantities cannot be audited"
        )
    return values.astype(np.int64)


def _of_one_hot(values: NDArray[Any], name: str, columns: int) -> NDArray[np.int64]:
    if values.shape[1] != columns:
        raise ValueError(f"expected one-hot {name!r} (records, {columns}), as the logits; got {values.shape}")
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"expected one class for each record as {name!r}; got values beside 0 and 1: soft labels")
    ones = values.astype(np.int64).sum(axis=1)
    if off := np.flatnonzero(ones != 1).tolist():
        raise ValueError(
            f"expected one class for each record as {name!r}; row {off[0]} has {ones[off[0]]}: a network with several "
            "answers for a record (multi-label) cannot be audited"
        )
    return values.argmax(axis=1).astype(np.int64)


def _some(names: Sequence[object]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(repr(str(name)) for name in names[:SHOWN])}{rest}"
