"""Risk of people, or of other groups of records, such as recordings: a person with many records is easier to find.

The score of a person is the sum of an attack's scores over the person's audited records, each less the mean over all
records: for a log likelihood ratio that is what an attacker does who knows which records are one person's, and people
with more records than others do not stand out by their number. Two data sets are then neighbours where they differ in
all records of one person, and epsilon is of that kind. The shadow models must be halved by person too, as
`nas.audit.shadows` does: one that saw half of a person's records knows the others.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.shift import LEAST as LEAST_OF_NULL
from estimators.leakage.statistics.shift import OnReferences
from nas.audit.findings import Finding
from nas.audit.findings import People
from nas.audit.findings import PersonRisk
from nas.audit.findings import Scores
from nas.audit.findings import strongest_first

LEAST = 2
"""With fewer members or non-members among people, no number about people is given."""
RISKIEST = 20


def people_of(
    findings: Sequence[Finding],
    of_gap: Scores | None,
    is_member: Mask,
    groups: NDArray[Any],
    measure: Callable[..., Finding],
) -> People | None:
    """Sum the scores of each attack over the records of each person, and measure what that finds.

    Args:
        findings: Of the attacks, by record.
        of_gap: `(records,)`, the gap attack's scores; None where no label is known.
        is_member: `(records,)`.
        groups: `(records,)`, equal for records of one person.
        measure: `nas.audit.attack_all.finding` with a seed.

    Returns:
        None with fewer than two members or two non-members among people.

    Raises:
        ValueError: If a person has both members and non-members.
    """
    names, which, records = np.unique(groups, return_inverse=True, return_counts=True)
    check_whole(groups, is_member)
    is_in = np.zeros(len(names), dtype=bool)
    is_in[which] = is_member
    if min(int(is_in.sum()), int((~is_in).sum())) < LEAST:
        return None
    gap = None if of_gap is None else summed(of_gap, which)
    by_person = [
        measure(
            found.attack,
            summed(found.scores, which),
            is_in,
            gap,
            seconds=found.seconds,
            on=None if found.on_shadows is None else _of_people(found.on_shadows, which, is_in),
        )
        for found in findings
    ]
    ordered = strongest_first(by_person, is_in)
    texts = names.astype(np.str_)
    return People(ordered, is_in, texts, records, _riskiest(ordered[0].scores, is_in, texts, records))


def check_whole(groups: NDArray[Any], is_member: Mask) -> None:
    """Refuse people of whom some records are members and some are not: such a person is both.

    Args:
        groups: `(records,)`.
        is_member: `(records,)`.

    Raises:
        ValueError: If there is one, with the first.
    """
    both = np.intersect1d(groups[is_member], groups[~is_member])
    if both.size:
        raise ValueError(
            f"expected each group among members or among non-members; {both.size} are among both, the first is "
            f"{both[0]!s}: a person who was trained on is a member with all records"
        )


def divided(bank: Bank, groups: NDArray[Any]) -> float:
    """Return the mean share of people with several records whom a reference was trained on in part.

    Args:
        bank: The references.
        groups: `(records,)`.

    >>> logits, labels = np.zeros((2, 4, 2)), np.array([0, 1, 0, 1])
    >>> divided(Bank(logits, np.array([[True, False, True, True], [False, True, False, False]]), labels),
    ...         np.array(["a", "a", "b", "b"]))
    0.5
    """
    _, which, records = np.unique(groups, return_inverse=True, return_counts=True)
    several = records > 1
    if not several.any():
        return 0.0
    inside = np.stack([np.bincount(which, weights=row, minlength=len(records)) for row in bank.trained_on])
    return float(((inside > 0) & (inside < records))[:, several].mean())


def summed(scores: Scores, which: NDArray[np.intp]) -> Scores:
    """Return `(people,)` sums of scores, each less the mean over all records.

    Args:
        scores: `(records,)`; infinite ones count as the largest or smallest finite one.
        which: `(records,)`, the number of each record's person, from 0.

    >>> summed(np.array([3.0, 1.0, 2.0]), np.array([0, 0, 1])).tolist()
    [0.0, 0.0]
    """
    finite = scores[np.isfinite(scores)]
    held = np.clip(scores, finite.min(), finite.max()) if finite.size else np.sign(scores)
    return np.asarray(np.bincount(which, weights=held - held.mean()), dtype=np.float64)


def _of_people(on: OnReferences, which: NDArray[np.intp], is_in: Mask) -> OnReferences | None:
    """Sum over the people that a shadow model left out whole; None if those are too few to compare."""
    people = len(is_in)
    scores, left_out = [], []
    for own, rows in zip(on.scores, on.left_out, strict=True):
        whole = np.bincount(which, weights=~rows, minlength=people) == 0
        if min(int((whole & is_in).sum()), int((whole & ~is_in).sum())) < LEAST_OF_NULL:
            continue
        total = np.zeros(people)
        total[: which[rows].max() + 1] = summed(own[rows], which[rows])
        scores.append(total)
        left_out.append(whole)
    return OnReferences(np.stack(scores), np.stack(left_out)) if scores else None


def _riskiest(
    scores: Scores, is_in: Mask, names: NDArray[np.str_], records: NDArray[np.int64]
) -> tuple[PersonRisk, ...]:
    others = np.sort(scores[~is_in])
    order = [int(one) for one in np.argsort(-scores, kind="stable") if is_in[one]][:RISKIEST]
    above = [len(others) - int(np.searchsorted(others, scores[one], side="left")) for one in order]
    return tuple(
        PersonRisk(str(names[one]), int(records[one]), float(scores[one]), proportion_interval(count, len(others)))
        for one, count in zip(order, above, strict=True)
    )
