"""Warnings of an audit, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Difference
from estimators.leakage.statistics.auc_and_rates import auc_difference
from nas.audit.findings import ATTACKS
from nas.audit.findings import Finding
from nas.audit.findings import People
from nas.audit.findings import Released
from nas.audit.findings import corrected
from nas.audit.findings import is_alarming
from nas.audit.findings import is_beyond
from nas.audit.findings import reversed_of
from nas.audit.findings import shifted_of
from nas.audit.people import divided
from nas.base import plugins
from nas.base.text import inline

# If no attack on confidences exceeds the first AUC and a label-only attack reaches the second, confidences are masked.
MASKED, UNMASKED = 0.55, 0.60
CHANCE = 0.5
NAMED = 3
RECORDS, PEOPLE = "records", "people"
DIVIDED = 0.05
"""If references saw a part of the records of more people than this, numbers about people are too low."""
TOO_FEW_PEOPLE = (
    "people: there are fewer than two among members or non-members, so no number is given of people, and limits are "
    "held against the numbers of records"
)
SIGNIFICANT = 0.01
"""A difference with a smaller p-value is called significant; chosen, not tuned."""


@dataclass(frozen=True)
class _Side:
    """What was found of records, or of people.

    Attributes:
        what: `records` or `people`.
        findings: Of all attacks, the highest AUC first.
        is_member: `(records,)` or `(people,)`.
    """

    what: str
    findings: Sequence[Finding]
    is_member: Mask

    def told(self, line: str) -> str:
        """Mark a line that is about people."""
        return line if self.what == RECORDS else f"{self.what}: {line}"


def all_of(
    findings: Sequence[Finding], released: Sequence[Released], is_member: Mask, people: People | None = None
) -> tuple[str, ...]:
    """List the warnings about what was found.

    Args:
        findings: Of all attacks, the highest AUC first.
        released: The versions of a released set and the set; empty for a single network.
        is_member: `(records,)`.
        people: What was found of people; None if nothing was.
    """
    sides = [_Side(RECORDS, findings, is_member)]
    # Where records are of different kinds and of people this is not known, nothing follows from the numbers of people.
    if people is not None and (people.is_null_known or not shifted_of(findings, is_member)):
        sides.append(_Side(PEOPLE, people.findings, people.is_member))
    below = [side.told(line) for side in sides for line in _reversed(side)]
    more = [side.told(line) for side in sides for line in (*_shifted(side), *_masking(side))]
    more += _set_leaks(released)
    if any(is_alarming(side.findings, side.is_member) for side in sides):
        return (*below, *more)
    return (*more, *below, *_no_better_than_gap(sides), *_below_gap(sides))


def proxy_disagrees(proxy: Estimate, audited: Estimate) -> tuple[str, ...]:
    """Warn if the search's proxy lies below the audit's AUC and their intervals do not overlap.

    Args:
        proxy: AUC of the attack in the search, with its interval.
        audited: AUC of the strongest attack of the audit, with its interval.
    """
    if proxy.high >= audited.low:
        return ()
    return (f"the search's proxy is below the audit: proxy AUC {inline(proxy)}, audit AUC {inline(audited)}",)


def test_was_open(candidates: Sequence[int]) -> tuple[str, ...]:
    """Warn if other candidates of the run were audited on these test records before.

    Args:
        candidates: Their numbers.
    """
    if not candidates:
        return ()
    return (
        (
            f"the test records were used before, in audits of candidates {_named(candidates)} of this run: if this "
            "candidate was chosen by comparing audits, its AUC is biased low"
        ),
    )


def errors_were_seen(candidates: Sequence[int]) -> tuple[str, ...]:
    """Warn if the errors of other candidates of the run on these test records were looked at before.

    Args:
        candidates: Their numbers.
    """
    if not candidates:
        return ()
    return (
        (
            f"the error on test records was looked at before, of candidates {_named(candidates)} of this run: if this "
            "candidate was chosen by comparing such errors, its own and its AUC are biased low"
        ),
    )


def of_people(
    people: People | None, bank: Bank | None, groups: NDArray[Any] | None, *, are_records_shifted: bool
) -> tuple[str, ...]:
    """Warn where people have records and the numbers about people are missing or too low.

    Args:
        people: What was found of people; None if nothing was.
        bank: The shadow models.
        groups: `(records,)`, equal for records of one person; None where records stand for themselves.
        are_records_shifted: Whether the records of members and of non-members are of different kinds.
    """
    if groups is None:
        return ()
    if people is None:
        return (TOO_FEW_PEOPLE,)
    found = []
    share = 0.0 if bank is None else divided(bank, groups)
    if share > DIVIDED:
        found.append(
            f"people: the shadow models were trained on a part of the records of {100 * share:.0f} % of the people; "
            "numbers about people are too low: train each on all records of a person or on none"
        )
    if are_records_shifted and not people.is_null_known:
        found.append(
            "people: whether people are of different kinds, as their records are, is not known, so no leakage of "
            "people is reported"
        )
    return tuple(found)


def _shifted(side: _Side) -> tuple[str, ...]:
    """Warn of members that any network tells from non-members."""
    shifted = shifted_of(side.findings, side.is_member)
    if not shifted:
        return ()
    unknown = [found.attack for found in side.findings if found.null is None]
    left = f"; no null is known of {', '.join(unknown)}" if unknown else ""
    return (f"{_kinds(shifted, side.what)}{left}",)


def _kinds(shifted: Sequence[Finding], what: str) -> str:
    assert shifted[0].null is not None
    told = (
        f"members and non-members are {what} of different kinds: {shifted[0].attack} tells them apart with AUC "
        f"{inline(shifted[0].null)} on shadow models that saw neither"
    )
    if is_beyond(shifted):
        return f"{told}; this is too far from 0.5 to correct for, and no leakage is reported"
    return (
        f"{told}. The leakage is the AUC less this null; TPR, balanced accuracy, advantage and epsilon are not "
        "corrected, and epsilon is then no lower bound"
    )


def _reversed(side: _Side) -> tuple[str, ...]:
    """Warn of attacks that score members below non-members, which is an error somewhere and no sign of safety."""
    findings, is_member = side.findings, side.is_member
    below = reversed_of(findings, is_member)
    if not below:
        return ()
    named = ", ".join(
        f"{found.attack} AUC {inline(corrected(found.scores, is_member, len(findings)))}" for found in below[:NAMED]
    )
    rest = f" and {len(below) - NAMED} more" if len(below) > NAMED else ""
    told = f"wrong way round: members score significantly below non-members by {named}{rest}"
    if not is_alarming(findings, is_member):
        wrong = " ('trained_on' may be the wrong way round)" if all(_needs_bank(found) for found in below) else ""
        return (f"{told}: disregard these attacks{wrong}; others find more in the right direction",)
    return (
        (
            f"{told}. This is no sign of safety. Most likely 'is_member' is inverted; else the labels are not in the "
            "order of the logits' columns, the answers belong to other records, the non-members are of an easier kind, "
            "or a defence turns confidences round, which an attacker can turn back"
        ),
    )


def _needs_bank(found: Finding) -> bool:
    return "bank" in (plugins.find(ATTACKS, found.attack, "NEEDS") or ())


def _masking(side: _Side) -> tuple[str, ...]:
    """Warn if predicted classes reveal what confidences hide (Choquette-Choo et al., 2021)."""
    labels = [found for found in side.findings if found.is_label_only]
    others = [found for found in side.findings if not found.is_label_only]
    if not (labels and others):
        return ()
    apart = auc_difference(labels[0].scores, others[0].scores, side.is_member)
    flagged = others[0].auc.value <= MASKED and labels[0].auc.value >= UNMASKED
    if not flagged and not _is_significant(apart):
        return ()
    return (
        (
            f"masking: the label-only attack {labels[0].attack} reaches AUC {labels[0].auc.value:.3f}, the best attack "
            f"on confidences ({others[0].attack}) {others[0].auc.value:.3f}: a defence hides the confidences and not "
            "the membership"
        ),
    )


def _set_leaks(released: Sequence[Released]) -> tuple[str, ...]:
    if not released:
        return ()
    joint = released[-1]
    if joint.over_best is None or not _is_significant(joint.over_best):
        return ()
    return (
        (
            f"the released versions leak more together than each alone: AUC {joint.auc.value:.3f}, above the best "
            f"single version by {inline(joint.over_best.estimate)}"
        ),
    )


def _no_better_than_gap(sides: Sequence[_Side]) -> tuple[str, ...]:
    """Warn if the audit shows overfitting and no more, of records or of people; not if it shows more of either."""
    leaks = [(side, over) for side in sides if (over := _over_gap(side)) is not None]
    if any(_is_significant(over) for _, over in leaks):
        return ()
    return tuple(
        side.told(
            f"no attack is significantly better than the accuracy gap (p < {SIGNIFICANT:g}; best: "
            f"{side.findings[0].attack}, AUC {side.findings[0].auc.value:.3f}): the audit shows overfitting, not that "
            f"single {side.what} are remembered"
        )
        for side, _ in leaks
    )


def _below_gap(sides: Sequence[_Side]) -> tuple[str, ...]:
    """Warn if the strongest attack finds surely less than the accuracy gap, which no defence hides (Xu et al., 2022).

    It happens where somebody chose attacks and the gap is not among them.
    """
    found = []
    for side in sides:
        best = side.findings[0]
        apart = None if best.attack == "gap" else best.over_gap
        if apart is None or not _is_significant(apart, -1) or shifted_of(side.findings, side.is_member):
            continue
        found.append(
            side.told(
                f"below the accuracy gap: {best.attack}, the strongest attack that was asked for, has AUC "
                f"{best.auc.value:.3f}, and whether a prediction is right tells members with AUC "
                f"{best.auc.value - apart.estimate.value:.3f}: the leakage is no less than that; run the attack gap too"
            )
        )
    return tuple(found)


def _over_gap(side: _Side) -> Difference | None:
    """Return the strongest attack's AUC less the gap's, where something leaks and the two can be compared."""
    findings, is_member = side.findings, side.is_member
    best, ran = findings[0], {found.attack for found in findings}
    # An AUC says that the network overfits only where it is above chance, and members are of the non-members' kind.
    if shifted_of(findings, is_member) or corrected(best.scores, is_member, len(findings)).low <= CHANCE:
        return None
    # Of attacks that somebody chose, without the gap among them, nothing follows about the others.
    return best.over_gap if "gap" in ran and best.attack != "gap" else None


def _is_significant(apart: Difference, sign: int = 1) -> bool:
    return sign * apart.estimate.value > 0 and apart.p_value < SIGNIFICANT


def _named(candidates: Sequence[int]) -> str:
    return ", ".join(str(number) for number in sorted(candidates))
