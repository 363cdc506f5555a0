"""The sentences of an audit's report: what was found, with intervals, and what was not tested."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from estimators.estimate import Estimate
from estimators.leakage.statistics.auc_and_rates import Difference
from nas.audit.attack_all import needed_non_members
from nas.audit.cautions import SIGNIFICANT
from nas.audit.findings import ATTACKS
from nas.audit.findings import Audit
from nas.audit.findings import Finding
from nas.audit.findings import People
from nas.audit.findings import RecordRisk
from nas.audit.findings import corrected
from nas.audit.gate import Verdict
from nas.base import plugins
from nas.base.text import inline
from nas.base.text import percent
from nas.base.text import signed
from nas.base.text import stacked

NOT_COVERED = (
    "attribute inference: guessing an unknown attribute of a record from the network's answers",
    "reconstruction and model inversion: recovering records, or what is typical of a class, from the network",
    "model extraction: copying the network by asking it",
    "property inference: learning facts about the training data as a whole, such as the share of a group",
    "data poisoning: an attacker who adds records to the training data so that others leak more",
    "records other than the audited ones, and small groups among them: the AUC is an average over all records",
    "people with several records, unless their records were audited as one: several records together leak more",
    "versions of the network that are not listed in this report: quantised, pruned, updated or fine-tuned ones",
)
SIDE_CHANNELS = "side channels: the time, energy or memory that an answer takes"
BEYOND_EXITS = f"{SIDE_CHANNELS}, except for the exit that answered"


def headline(audit: Audit) -> str:
    """Return one line: the strongest attack's AUC and TPR at low FPR, on how many records and shadow models.

    Where the audit points the wrong way, it is an alarm and not a number.
    """
    if audit.alarm is not None:
        return (
            f"leakage: not measured, because the data are most likely wrong: {_alarm(audit.alarm)}; see the warnings; "
            f"{audit.members:,} members, {audit.non_members:,} non-members, {_count(audit.shadows, 'shadow model')}"
        )
    if audit.people is not None:
        return _by_person(audit, audit.people)
    if audit.shifted:
        return f"leakage: {of_result(audit)}; {audit.members:,} members, {audit.non_members:,} non-members"
    return (
        f"leakage: {of_result(audit)}; {audit.members:,} members, {audit.non_members:,} non-members, "
        f"{_count(audit.shadows, 'shadow model')}; an AUC of 0.5 is guessing; its interval is corrected for the choice "
        "of the strongest attack"
    )


def summary(audit: Audit) -> list[str]:
    """Return the summary in short sentences: what was found, how it compares with overfitting, what it holds for."""
    if audit.alarm is not None:
        return [
            "The leakage was not measured, because the data are most likely wrong.",
            f"Members and non-members differ significantly, and in the wrong direction: {_alarm(audit.alarm)}.",
            "An inverted 'is_member' is the usual reason. Correct the data and repeat the audit.",
        ]
    if audit.is_refused:
        return [
            *_of_people(audit),
            "The leakage was not measured, because members and non-members are of different kinds.",
            f"It is {of_result(audit)}.",
            "Audit with non-members that were chosen at random from the same records as the members.",
        ]
    return [
        *_of_people(audit),
        *_leakage(audit),
        _of_null(audit),
        _against_the_gap(audit),
        _at_low_fpr(audit.strongest, "members", "non-members", audit.non_members),
        *_scope(audit),
    ]


def of_result(found: Audit | People) -> str:
    """Write the leakage of records or of people, less the null if there is a shift, or why there is none.

    Where it is not corrected for a shift, the TPR at low FPR stands beside it.
    """
    best, shifted = found.strongest, found.shifted
    if shifted and found.is_refused:
        return (
            f"not measured: {shifted[0].attack} tells members from non-members with AUC {_null(shifted[0])} on shadow "
            "models that saw neither, which is too far from 0.5 to correct for"
        )
    of = f"the strongest of {_count(len(found.findings), 'attack')}"
    if not shifted:
        return f"AUC {inline(found.leakage)}{_rates(best)}, by {best.attack}, {of}"
    return (
        f"AUC {inline(found.leakage)} by {best.attack}, {of}, less what it finds on shadow models that saw neither "
        f"members nor non-members: its AUC is {inline(best.auc)}, and theirs is {_null(best)}"
    )


def skipped(audit: Audit) -> Mapping[str, str]:
    """Return the reason why each attack that exists did not run, by its name."""
    ran = {found.attack for found in audit.findings}
    left = [name for name in plugins.available(ATTACKS, "attack") if name not in ran]
    return {**dict.fromkeys(left, "was not requested"), **audit.skipped}


def not_tested(audit: Audit) -> list[str]:
    """List the risks that no attack of this audit measures."""
    needs = [need for found in audit.findings for need in plugins.find(ATTACKS, found.attack, "NEEDS") or ()]
    return [*NOT_COVERED, BEYOND_EXITS if "exits" in needs else SIDE_CHANNELS]


def of_epsilon(audit: Audit | People) -> str:
    """Return the delta and the confidence of the bounds on epsilon."""
    bound = audit.strongest.epsilon
    return f"delta {bound.delta:.3g}, {100 * bound.confidence:g} % one-sided for all attacks together"


def of_limits(verdicts: Sequence[Verdict]) -> list[str]:
    """Say how the audit stands against each limit, a line for each."""
    return [f"{'passes' if one.passes else 'does not pass'}: {one.sentence}" for one in verdicts]


def of_shapr(audit: Audit) -> str:
    """Return SHAPr's mean, and its rank correlation with the attack's scores."""
    found = audit.records
    if found.shapr is None or found.agreement is None:
        return "SHAPr: not computed, because no label is known"
    return (
        f"SHAPr: mean {found.shapr.mean():.3f}, which measures accuracy and not leakage; rank correlation with the "
        f"scores of {found.attack} {inline(found.agreement)}"
    )


def of_record(risk: RecordRisk) -> str:
    """Write where a record is found again: its row in the user's data, and its file if it has one."""
    place = str(risk.record if risk.row is None else risk.row)
    return place if risk.file is None else f"{place}\n{named(risk.file)}"


def named(name: str) -> str:
    r"""Write a user's name in one line of a table, whose cells have one.

    >>> named("a\nb")
    'a b'
    """
    return " ".join(name.split())


def counted(audit: Audit) -> str:
    """Say what the numbers of records are."""
    if any(risk.row is None for risk in audit.records.riskiest):
        return "Record is the record's place in the audited arrays, where the first is 0."
    return "Row is the record's place in its file, where the first record is 1; a header does not count."


def of_versions(audit: Audit) -> str:
    """Say what the numbers of released versions stand on."""
    others = max((one.attacks for one in audit.released[1:-1]), default=0)
    return (
        f"Each version has its strongest attack, with an interval corrected for the choice; on versions other than the "
        f"network as trained {_count(others, 'attack')} ran, the quick ones or those asked for. Error is the share of "
        "the non-members that a version misclassifies."
    )


def over(apart: Difference) -> str:
    """Write a difference, its interval and its p-value, on a line each."""
    return f"{stacked(apart.estimate, signed)}\n{_p(apart.p_value)}"


def rate(fpr: float, found: Estimate | None, unit: str = "non-members") -> str:
    """Write a TPR at an FPR, or how many non-members, or people, are needed to measure it."""
    return f"needs {needed_non_members(fpr):,}\n{unit}" if found is None else stacked(found, percent)


def _by_person(audit: Audit, people: People) -> str:
    inside = int(people.is_member.sum())
    return (
        f"leakage by person: {_result_of_people(audit, people)}; {inside:,} people who were trained on, "
        f"{len(people.is_member) - inside:,} who were not; by record: {of_result(audit)}; {audit.members:,} members, "
        f"{audit.non_members:,} non-members, {_count(audit.shadows, 'shadow model')}; 0.5 is guessing; intervals are "
        "corrected for the choice of the strongest attack"
    )


def _of_people(audit: Audit) -> list[str]:
    if audit.people is None:
        return []
    people = audit.people
    if audit.are_people_refused:
        found = [f"By person, the leakage is {_result_of_people(audit, people)}."]
    else:
        told = "people who were trained on can be told from others" if _is_found(people) else "no leakage is shown"
        found = [
            f"By person, {told}: {of_result(people)}.",
            _at_low_fpr(
                people.strongest,
                "people who were trained on",
                "people who were not trained on",
                int((~people.is_member).sum()),
            ),
        ]
    return [
        *found,
        "The score of a person is the sum of the scores of the person's records. What follows is by record.",
    ]


def _result_of_people(audit: Audit, people: People) -> str:
    if audit.are_people_refused and not people.is_refused:
        return "not measured: records are of different kinds, and whether people are is not known"
    return of_result(people)


def _of_null(audit: Audit) -> str:
    if audit.strongest.null is None:
        return "Whether members are merely easier than non-members is not known: it takes shadow models."
    told = f"On shadow models that saw neither, {audit.strongest.attack} has AUC {_null(audit.strongest)}"
    if audit.shifted:
        return f"{told}: members and non-members are of different kinds, and the leakage is less that."
    return f"{told}: nothing says that members are merely easier than non-members."


def _null(found: Finding) -> str:
    return "unknown" if found.null is None else inline(found.null)


def _leakage(audit: Audit) -> list[str]:
    best = audit.strongest.attack
    if audit.shifted:
        told = "Members can be told from non-members." if _is_found(audit) else "No leakage is shown."
        return [told, f"The leakage is {of_result(audit)}."]
    found = (
        f"Its AUC is {inline(audit.leakage)}, where 0.5 is guessing. The interval is corrected for the choice of the "
        f"strongest of {_count(len(audit.findings), 'attack')}."
    )
    if not _is_found(audit):
        return [
            "No attack separated members from non-members significantly.",
            f"The strongest attack was {best}.",
            found,
        ]
    return [
        "Members can be told from non-members.",
        (
            f"The strongest attack, {best}, scores the member higher in {100 * audit.leakage.value:.1f} % of pairs of "
            "a member and a non-member."
        ),
        found,
    ]


def _rates(found: Finding) -> str:
    """Write an attack's TPR at each FPR that the non-members allow; nothing if there are too few."""
    measured = [(fpr, rate) for fpr, rate in found.tpr.items() if rate is not None]
    return "".join(f", TPR {inline(rate, percent)} at {100 * fpr:g} % FPR" for fpr, rate in measured)


def _alarm(of: Audit | People) -> str:
    below = of.reversed[0]
    auc = corrected(below.scores, of.is_member, len(of.findings))
    who = "people who were trained on below others" if isinstance(of, People) else "members below non-members"
    return f"{below.attack} scores {who}, AUC {inline(auc)}"


def _is_found(found: Audit | People) -> bool:
    return found.leakage.low > 0.5


def _against_the_gap(audit: Audit) -> str:
    best = audit.strongest
    if best.attack == "gap":
        text = "No attack beat the accuracy gap between members and non-members"
        return f"{text}: the audit shows overfitting and no more." if _is_found(audit) else f"{text}."
    if best.over_gap is None:
        return "No label is known, so that only attacks which read none could run, and others may find more."
    significant = best.over_gap.estimate.value > 0 and best.over_gap.p_value < SIGNIFICANT
    return (
        f"The AUC is {'' if significant else 'not '}significantly above that of the accuracy gap between members and "
        f"non-members: the difference is {inline(best.over_gap.estimate, signed)}, {_p(best.over_gap.p_value)}."
    )


def _at_low_fpr(strongest: Finding, members: str, non_members: str, there_are: int) -> str:
    fpr, found = next(iter(strongest.tpr.items()))
    if found is None:
        return (
            f"The TPR at {100 * fpr:g} % FPR is not reported: it needs {needed_non_members(fpr):,} {non_members}, and "
            f"there are {there_are:,}."
        )
    return f"At {100 * fpr:g} % FPR, {strongest.attack} finds {inline(found, percent)} of the {members}."


def _scope(audit: Audit) -> list[str]:
    out = len(skipped(audit))
    left = [f"{_count(out, 'attack')} did not run."] if out else []
    return [
        "This holds for this network, these records and these attacks.",
        *left,
        "A better attack may find more, and the report lists below what else was not tested.",
    ]


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
