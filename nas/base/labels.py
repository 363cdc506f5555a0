"""What a loader was given as labels: classes in any usual form, or something that no classifier is trained on.

Loaders hand over what they read, and get a number for each record and the name of each class, or one line that says
what was meant: a continuous target, several labels for a record, an identifier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

FEW_CLASSES = 20
"""So many values are classes, however few records there are; of more, each should have its records."""
RECORDS_OF_EACH = 20
"""Mean number of records of a class, below which many values are called too many."""
FEWEST_OF_EACH = 10
"""Values that all have so many records are classes, however many there are: forty faces with ten pictures each."""
SEPARATORS = (";", "|", ",")
ONE_HOT_SUM = 1e-6
NOTHING = ("", "nan", "NaT", "<NA>")
"""What a missing value of Python, NumPy or pandas is as text."""
CUT = "Gecko NAS trains classifiers; cut it into classes"


def classes_of(values: NDArray[Any] | Sequence[Any], where: str) -> tuple[Ints, tuple[str, ...]]:
    """Number the classes that occur, whole numbers by value and text by letter, and name each.

    Args:
        values: `(records,)` or `(records, 1)` integers, whole floats, booleans or text; or one-hot `(records,
            classes)`. A few values that are no whole numbers (0.5, 1, 1.5) are classes, too.
        where: What they are called in a message, such as `labels` or `column 'species'`.

    Returns:
        `(records,)` labels, 0 to the number of classes less one, and the name of each class.

    Raises:
        ValueError: If they are a continuous target, several labels for a record, soft labels, an identifier, or one is
            missing.

    >>> classes_of(np.array(["10", "9", "10"]), "labels")
    (array([1, 0, 1]), ('9', '10'))
    >>> classes_of(np.array([[0.0, 1.0], [1.0, 0.0]]), "labels")[0]
    array([1, 0])
    """
    found = np.asarray(values)
    if found.ndim == 2:
        found = found[:, 0] if found.shape[1] == 1 else _from_one_hot(found, where)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"expected {where} (records,), a class for each record; got {found.shape}")
    if found.dtype.kind in "biuf":
        return _numbers(found, where)
    return _texts(_as_text(found, where), where)


def groups_of(values: NDArray[Any], where: str) -> Ints:
    """Number the groups that occur, `(records,)`.

    >>> groups_of(np.array(["eve", "adam", "eve"]), "person")
    array([1, 0, 1])

    Raises:
        ValueError: If the values are neither integers nor texts, or not `(records,)`.
    """
    if values.ndim != 1 or values.dtype.kind not in "biuUS":
        raise ValueError(f"expected {where} (records,) of integers or strings; got {values.dtype} {values.shape}")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _from_one_hot(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Return the column of each record's one, or say why there is no such thing."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected {where} (records,), a class for each record; got {values.shape} of {values.dtype}")
    is_binary, sums = bool(np.isin(values, (0, 1)).all()), values.sum(axis=1)
    if is_binary and (sums == 1).all():
        return np.asarray(values.argmax(axis=1))
    if is_binary:
        several, none = int((sums > 1).sum()), int((sums == 0).sum())
        raise ValueError(
            f"expected one class for each record as {where}; got multi-label data: of {len(values)} records, {several} "
            f"have several of {values.shape[1]} labels and {none} have none. Gecko NAS trains networks with one class "
            "for a record; search for one label at a time"
        )
    if (values >= 0).all() and np.allclose(sums, 1, atol=ONE_HOT_SUM):
        raise ValueError(
            f"expected one class for each record as {where}; got soft labels, {values.shape[1]} probabilities a "
            "record: take the most likely class of each"
        )
    raise ValueError(
        f"expected {where} (records,), a class for each record; got {values.shape}: {values.shape[1]} numbers a record "
        f"are several targets. {CUT}, and search for one at a time"
    )


def _numbers(values: NDArray[Any], where: str) -> tuple[Ints, tuple[str, ...]]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        missing = int((~np.isfinite(values)).sum())
        raise ValueError(f"expected a class for each record as {where}; {missing} of {len(values)} are missing")
    distinct, labels, counts = np.unique(values, return_inverse=True, return_counts=True)
    whole = bool((distinct == np.floor(distinct)).all()) if values.dtype.kind == "f" else True
    _check_discrete(counts, where, whole=whole)
    names = tuple(str(int(value)) if whole else f"{value:g}" for value in distinct)
    if len(set(names)) < len(names):  # values that differ in the seventh digit are measured, not counted
        raise _continuous(len(distinct), where)
    return labels.astype(np.int64), names


def _texts(texts: list[str], where: str) -> tuple[Ints, tuple[str, ...]]:
    counts = Counter(texts)
    numbers = [_number(text) for text in counts]
    if all(number is not None for number in numbers):
        whole = all(number is not None and number.is_integer() for number in numbers)
        _check_discrete(np.array(list(counts.values())), where, whole=whole)
    else:
        _check_single(counts, where)
        if _are_many(np.array(list(counts.values()))):
            raise ValueError(
                f"expected classes as {where}; got {len(counts)} different texts in {len(texts)} records, such as "
                f"{texts[0][:40]!r}: an identifier or free text is no class"
            )
    names = sorted(counts, key=_by_value)
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[text] for text in texts], dtype=np.int64), tuple(names)


def _as_text(values: NDArray[Any], where: str) -> list[str]:
    """Return texts, those of Python objects too; a missing one is refused."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind not in "UOT":
        raise ValueError(f"expected {where} of integers or text; got {values.dtype}")
    missing = [value is None or str(value).strip() in NOTHING for value in values]
    if any(missing):
        raise ValueError(f"expected a class for each record as {where}; {sum(missing)} of {len(values)} are missing")
    return [str(value) for value in values]


def _check_discrete(counts: NDArray[Any], where: str, *, whole: bool) -> None:
    """Refuse numbers that are measured and not classes."""
    too_many = _are_many(counts) if whole else len(counts) > max(2, min(FEW_CLASSES, int(counts.sum()) // 5))
    if too_many:
        raise _continuous(len(counts), where)


def _are_many(counts: NDArray[Any]) -> bool:
    """Tell whether there are too many values for their records, and some of them are rare."""
    limit = max(FEW_CLASSES, int(counts.sum()) // RECORDS_OF_EACH)
    return len(counts) > limit and bool(counts.min() < FEWEST_OF_EACH)


def _continuous(distinct: int, where: str) -> ValueError:
    return ValueError(f"expected classes as {where}; got a continuous target ({distinct} distinct values): {CUT}")


def _check_single(counts: Counter[str], where: str) -> None:
    """Refuse cells that hold several labels: most do, of different number or combined anew, or their parts stand alone.

    A class may have a separator in its name: `Iris, setosa` is one of as many classes as there are cells of the kind.
    """
    records = counts.total()
    for separator in SEPARATORS:
        cells = {text: [part.strip() for part in text.split(separator)] for text in counts if separator in text}
        share = sum(counts[text] for text in cells) / records
        parts = set(chain.from_iterable(cells.values())) - {""}
        if separator == "," and all(part.isdecimal() for part in parts):
            continue  # a decimal comma
        combined = len(parts) <= len(cells) or len({len(of_cell) for of_cell in cells.values()}) > 1
        alone = sum(part in counts for part in parts)
        if (share > 0.5 and combined) or (share > 0.05 and 2 * alone >= len(parts) > 0):
            example = next(iter(cells))
            raise ValueError(
                f"expected one class for each record as {where}; got multi-label data: {share:.0%} of the records hold "
                f"several labels, such as {example[:40]!r}. Gecko NAS trains networks with one class for a record; "
                "search for one label at a time"
            )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _by_value(name: str) -> tuple[bool, float, str]:
    """Sort key: numbers by value, then text."""
    number = _number(name)
    return (number is None, number or 0.0, name)
