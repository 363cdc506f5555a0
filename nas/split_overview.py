"""What became of the records when they were divided, for the people who read a search's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

FEW_GROUPS = 10
"""A class that comes from fewer groups than this may be known by its groups; chosen, not measured."""
LARGE_CLUSTER, MANY_UNUSED = 0.1, 0.05
"""Shares of all records from which on a cluster is called large, and records without a role many."""

LONGEST = 1000
"""Characters of a note: names in a file may be of any length."""


@dataclass(frozen=True, slots=True)
class Overview:
    """How many records became what, and what to doubt.

    Attributes:
        records: Records of the data set.
        sets: Records of each of the five sets, by its name.
        unused: Records without a role.
        duplicates: Records equal to an earlier one.
        groups: Different groups, such as persons; None where the data have none.
        clusters: Sets of records that may not be divided: equal ones and those of one group, and what hangs together
            by them.
        largest_cluster: Records of the largest of them.
        notes: What to know or to doubt, a sentence each.
    """

    records: int
    sets: Mapping[str, int]
    unused: int
    duplicates: int
    groups: int | None
    clusters: int
    largest_cluster: int
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it in sentences.

        >>> sets = {"members": 3, "non_members": 3, "validation": 1, "reserve": 1, "test": 2}
        >>> Overview(12, sets, 2, 1, None, 11, 2).sentences[0]
        '12 records: 3 members, 3 non-members, 1 validation, 1 reserve, 2 test, 2 without a role'
        """
        parts = [f"{size:,} {name.replace('_', '-')}" for name, size in self.sets.items()]
        parts += [f"{self.unused:,} without a role"] if self.unused else []
        lines = [f"{self.records:,} records: {', '.join(parts)}"]
        if self.duplicates:
            lines.append(f"{_are(self.duplicates, 'record')} equal to an earlier one: equal records lie in one set")
        if self.groups is not None:
            lines.append(f"{_count(self.groups, 'group')}: the records of a group lie in one set")
        return (*lines, *self.notes)

    @property
    def plain(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {**asdict(self), "sets": dict(self.sets), "notes": list(self.notes)}


def overview_in(plain: Mapping[str, Any]) -> Overview:
    """Return what `Overview.plain` gave."""
    known = {name: plain[name] for name in Overview.__dataclass_fields__}
    return Overview(**{**known, "notes": tuple(plain["notes"])})


def overview(
    *,
    labels: Ints,
    rows: Mapping[str, Ints],
    clusters: Ints,
    equal: Ints,
    groups: NDArray[Any] | None,
    classes: Sequence[str],
    capped: bool = False,
    notes: Sequence[str] = (),
) -> Overview:
    """Count what became of the records.

    Args:
        labels: `(records,)`.
        rows: The rows of each set, by its name.
        clusters: `(records,)`: records of one cluster may not be divided.
        equal: `(records,)`: the same number for records with equal features.
        groups: `(records,)`, or None.
        classes: Name of each class.
        capped: Whether a number of members was asked for, which may well leave records over.
        notes: What the loader said.
    """
    count = len(labels)
    sizes = np.unique(clusters, return_counts=True)[1]
    unused = count - sum(len(chosen) for chosen in rows.values())
    largest = int(sizes.max())
    found = [*notes, *_about_clusters(count, largest, 0 if capped else unused, groups)]
    if groups is not None:
        found += _about_groups(labels, groups, classes)
    return Overview(
        records=count,
        sets={name: len(chosen) for name, chosen in rows.items()},
        unused=unused,
        duplicates=count - len(np.unique(equal)),
        groups=None if groups is None else len(np.unique(groups)),
        clusters=len(sizes),
        largest_cluster=largest,
        notes=tuple(text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..." for text in found),
    )


def _about_clusters(count: int, largest: int, unused: int, groups: NDArray[Any] | None) -> list[str]:
    because = "equal features" if groups is None else "equal features, are of one group, or hang together by these,"
    found = []
    if largest > LARGE_CLUSTER * count:
        found.append(
            f"{largest:,} of {count:,} records have {because} and cannot be divided: the sets are larger or "
            "smaller than usual for it"
        )
    if unused > MANY_UNUSED * count:
        found.append(
            f"{unused:,} of {count:,} records have no role: members and non-members need equal numbers of each class, "
            "and records that belong together cannot be divided"
        )
    return found


def _about_groups(labels: Ints, groups: NDArray[Any], classes: Sequence[str]) -> list[str]:
    pairs = np.unique(np.stack([labels, np.unique(groups, return_inverse=True)[1]]), axis=1)
    of_class = np.bincount(pairs[0], minlength=len(classes))
    few = [f"{name!r} ({count})" for name, count in zip(classes, of_class, strict=True) if 0 < count < FEW_GROUPS]
    found = []
    if few:
        others = " and others" if len(few) > 5 else ""
        found.append(
            f"few groups in the classes {', '.join(few[:5])}{others}: a network may learn the groups, and every error "
            "and leakage is uncertain by more than its interval says"
        )
    classes_of_group = np.bincount(pairs[1])
    if (classes_of_group == 1).all() and len(classes_of_group) < len(labels):
        found.append("each group has records of one class only: who knows the group knows the class")
    return found


def _are(number: int, name: str) -> str:
    return f"{_count(number, name)} {'is' if number == 1 else 'are'}"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
