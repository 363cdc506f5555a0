"""The results of an audit: by attack, by class, by record, and by released version."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Difference
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.epsilon import EpsilonBound
from estimators.leakage.statistics.shift import OnReferences
from estimators.leakage.statistics.shift import corrected_auc
from estimators.leakage.statistics.shift import null_auc
from nas.audit.epsilons import Epsilons

Scores: TypeAlias = NDArray[np.float64]
ATTACKS = "estimators.leakage.attacks"
CONFIDENCE = 0.95
LARGEST_SHIFT = 0.15
"""A null farther from 0.5 than this is not corrected for: beyond, `benchmarks/membership_shift.py` finds the corrected
number too high in most audits of networks that saw nobody."""


@dataclass(frozen=True, eq=False)
class Origin:
    """What a user calls the audited records and their classes.

    Attributes:
        classes: The name of each class; empty where none is known.
        rows: `(records,)`: the record's place in the user's file, the first is 1; None where only the place among the
            audited records is known.
        names: `(records,)`: the file of each record, where each has one.
        groups: `(records,)`: equal for records of one person or other group; None where records stand for themselves.
    """

    classes: tuple[str, ...] = ()
    rows: NDArray[np.int64] | None = None
    names: NDArray[np.str_] | None = None
    groups: NDArray[Any] | None = None

    def class_name(self, label: int) -> str:
        """Return the name of a class; its number if it has none.

        >>> Origin(("cat", "dog")).class_name(1), Origin().class_name(1)
        ('dog', '1')
        """
        return self.classes[label] if self.classes else str(label)


Labels: TypeAlias = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Finding:
    """The results of one attack, with 95 % intervals.

    Attributes:
        attack: Its name.
        is_label_only: Whether it reads predicted classes alone.
        auc: Area under the ROC curve, 0.5 when nothing leaks; DeLong's interval.
        over_gap: Its AUC minus the gap attack's, on the same records; None where no label is known.
        tpr: Share of members found, by FPR, with a bootstrap interval; None if there are too few non-members.
        balanced_accuracy: Mean of TPR and TNR, at a threshold chosen on the other half of the records.
        advantage: TPR minus FPR at that threshold.
        epsilons: Lower bounds on the training's epsilon at delta 1 / members, each with its assumption.
        scores: `(records,)`.
        seconds: Run time of the attack.
        null: AUC that it would have had nothing been memorised, from shadow models that left the records out; None if
            it cannot run on them.
        less_null: Its AUC less that shift; 0.5 when nothing is memorised, also where members are easier.
        on_shadows: Its scores of the shadow models, which both come from.
    """

    attack: str
    is_label_only: bool
    auc: Estimate
    over_gap: Difference | None
    tpr: Mapping[float, Estimate | None]
    balanced_accuracy: Estimate
    advantage: Estimate
    epsilons: Epsilons
    scores: Scores
    seconds: float
    null: Estimate | None = None
    less_null: Estimate | None = None
    on_shadows: OnReferences | None = None

    @property
    def epsilon(self) -> EpsilonBound:
        """The bound that assumes nothing about the training: the one to quote."""
        return self.epsilons.any_training


@dataclass(frozen=True)
class ClassRisk:
    """How well the strongest attack separates members and non-members of one class.

    Attributes:
        label: The class.
        class_name: Its name; the number where it has none.
        members: Number of attacked members of this class.
        auc: Of the records of this class.
    """

    label: int
    class_name: str
    members: int
    auc: Estimate


@dataclass(frozen=True)
class ClassError:
    """What the network gets wrong of one class, on records that it was not trained on.

    Attributes:
        name: Of the class.
        records: How many of the class.
        error: Share of them that it misclassifies.
    """

    name: str
    records: int
    error: Estimate


def errors_by_class(predicted: Labels, labels: Labels, names: Sequence[str] | None = None) -> tuple[ClassError, ...]:
    """Count the errors of each class that occurs.

    Args:
        predicted: `(records,)`.
        labels: `(records,)`.
        names: Of the classes; None: their numbers.
    """
    found = []
    for label in np.unique(labels):
        wrong = predicted[labels == label] != label
        name = str(label) if names is None else names[label]
        found.append(ClassError(name, len(wrong), proportion_interval(int(wrong.sum()), len(wrong))))
    return tuple(found)


@dataclass(frozen=True)
class RecordRisk:
    """One member that is easy to find.

    Attributes:
        record: Its place among the audited records, the first is 0.
        row: Its place in the user's file, the first is 1; None where it is not known.
        file: The file it comes from, where each record has one.
        label: Its class.
        class_name: The name of the class; the number where it has none.
        score: Its score by the attack.
        found_at_fpr: Share of non-members with at least this score; low means exposed.
        across_trainings: Probability that a shadow model trained on it is more confident of it than one that was not,
            with an interval; None without shadow models.
    """

    record: int
    row: int | None
    file: str | None
    label: int
    class_name: str
    score: float
    found_at_fpr: Estimate
    across_trainings: Estimate | None


@dataclass(frozen=True, eq=False)
class RecordFindings:
    """Risk of single records.

    Attributes:
        attack: The attack whose scores are used.
        riskiest: The members with the highest scores, the most exposed first.
        shapr: `(members,)`: Shapley value of each member for classifying the non-members; its mean measures accuracy,
            not leakage; None where no label is known.
        agreement: Spearman's correlation of SHAPr and the attack's scores over members; 0 (-1 to 1) if it cannot be
            estimated, with fewer than five members or equal scores; None without SHAPr.
    """

    attack: str
    riskiest: tuple[RecordRisk, ...]
    shapr: Scores | None
    agreement: Estimate | None


@dataclass(frozen=True, eq=False)
class Released:
    """The leakage of one version of a network, or of all released versions together.

    Attributes:
        name: Name of the version; `all together` for the set.
        attack: The strongest attack on it.
        attacks: How many attacks it was the strongest of.
        auc: Its AUC; the interval is corrected for the choice among the attacks (Bonferroni).
        error: Share of the non-members that the version misclassifies; None for the set.
        over_best: For the set: its AUC minus that of the strongest attack on any single version, the same one
            included; None for a version.
    """

    name: str
    attack: str
    attacks: int
    auc: Estimate
    error: Estimate | None = None
    over_best: Difference | None = None


@dataclass(frozen=True)
class PersonRisk:
    """One person whose records were trained on and who is easy to find.

    Attributes:
        person: What the user calls the person.
        records: Audited records of the person.
        score: Sum of the attack's scores over them, each less the mean over all records.
        found_at_fpr: Share of the people who were not trained on with at least this score; low means exposed.
    """

    person: str
    records: int
    score: float
    found_at_fpr: Estimate


@dataclass(frozen=True, eq=False)
class People:
    """What the attacks found of people.

    Attributes:
        findings: Of each attack, the strongest first.
        is_member: `(people,)`.
        names: `(people,)`, what the user calls them.
        records: `(people,)`, how many audited records each has.
        riskiest: The people with the highest scores of the strongest attack.
    """

    findings: tuple[Finding, ...]
    is_member: Mask
    names: NDArray[np.str_]
    records: NDArray[np.int64]
    riskiest: tuple[PersonRisk, ...]

    @property
    def strongest(self) -> Finding:
        """The attack with the highest AUC of all that ran, less its null if there is a shift."""
        return self.findings[0]

    @cached_property
    def shifted(self) -> tuple[Finding, ...]:
        """Attacks that tell members from non-members of a network that saw neither, the farthest from 0.5 first."""
        return shifted_of(self.findings, self.is_member)

    @cached_property
    def leakage(self) -> Estimate:
        """AUC of the strongest attack, less its null if there is a shift; the interval is corrected for the choice."""
        return settled(self.strongest, self.is_member, len(self.findings), is_shifted=bool(self.shifted))

    @property
    def reversed(self) -> tuple[Finding, ...]:
        """Attacks that score members below non-members significantly, the lowest AUC first."""
        return reversed_of(self.findings, self.is_member)

    @property
    def is_refused(self) -> bool:
        """Whether members and non-members are so different that no leakage is reported."""
        return is_beyond(self.shifted)

    @property
    def is_null_known(self) -> bool:
        """Whether it is known of any attack what it would find of people had nothing been memorised."""
        return any(found.null is not None for found in self.findings)


@dataclass(frozen=True, eq=False)
class Audit:
    """All results of an audit, and what was not tested.

    Attributes:
        members: Number of members attacked.
        non_members: Number of attacked records that the network was not trained on.
        shadows: Number of shadow models.
        effort: One of `nas.audit.attack_all.EFFORTS`.
        findings: Results of each attack, the strongest first: by AUC, less the null if there is a shift.
        by_class: Results of the strongest attack for each class.
        records: Risk of single records.
        trainings: `(shadows,)` AUC of online LiRA against each shadow model, with the others as its bank: the leakage
            of other trainings with the same recipe; empty with too few shadow models.
        released: The versions of a released set and the set; empty for a single network.
        skipped: Reason why an attack did not run, by its name.
        warnings: Warnings, a line each.
        is_member: `(records,)`: which of the audited records are members.
        class_errors: The network's error on each class, on the non-members; of a run's candidate on all test records.
        people: What the attacks found of people, where the records belong to some; None otherwise.
    """

    members: int
    non_members: int
    shadows: int
    effort: str
    findings: tuple[Finding, ...]
    by_class: tuple[ClassRisk, ...]
    records: RecordFindings
    trainings: Scores
    released: tuple[Released, ...]
    skipped: Mapping[str, str]
    warnings: tuple[str, ...]
    is_member: Mask
    class_errors: tuple[ClassError, ...]
    people: People | None = None

    @property
    def strongest(self) -> Finding:
        """The attack with the highest AUC of all that ran, less its null if there is a shift."""
        return self.findings[0]

    @cached_property
    def leakage(self) -> Estimate:
        """AUC of the strongest attack, less its null if there is a shift; the interval is corrected for the choice."""
        return settled(self.strongest, self.is_member, len(self.findings), is_shifted=bool(self.shifted))

    @cached_property
    def shifted(self) -> tuple[Finding, ...]:
        """Attacks that tell members from non-members of a network that saw neither, the farthest from 0.5 first."""
        return shifted_of(self.findings, self.is_member)

    @property
    def is_refused(self) -> bool:
        """Whether members and non-members are so different that no leakage is reported."""
        return is_beyond(self.shifted)

    @property
    def reversed(self) -> tuple[Finding, ...]:
        """Attacks that score members below non-members significantly, the lowest AUC first."""
        return reversed_of(self.findings, self.is_member)

    @property
    def alarm(self) -> Audit | People | None:
        """The people, or else the records, of whom what stands out is below 0.5: the data are wrong; None if not so."""
        people = self.people
        if people is not None and not self.are_people_refused and is_alarming(people.findings, people.is_member):
            return people
        return self if is_alarming(self.findings, self.is_member) else None

    @property
    def is_alarming(self) -> bool:
        """Whether the data are most likely wrong: then no leakage was measured, of records or of people."""
        return self.alarm is not None

    @property
    def are_people_refused(self) -> bool:
        """Whether no leakage by person is reported.

        People are too different, or records are of different kinds and of people this is not known.
        """
        people = self.people
        return people is not None and (people.is_refused or (bool(self.shifted) and not people.is_null_known))

    def finding(self, attack: str) -> Finding:
        """Return the results of one attack.

        Raises:
            ValueError: If it did not run.
        """
        for found in self.findings:
            if found.attack == attack:
                return found
        raise ValueError(f"no attack {attack!r} in this audit; there are {[found.attack for found in self.findings]}")


def corrected(scores: Scores, is_member: Mask, choices: int) -> Estimate:
    """Return the AUC of one of several attacks, with an interval that holds for all of them at once (Bonferroni)."""
    return auc_interval(scores, is_member, 1 - (1 - CONFIDENCE) / choices)


def shifted_of(findings: Sequence[Finding], is_member: Mask) -> tuple[Finding, ...]:
    """Return the attacks whose null, by an interval corrected for all of them, is not 0.5; the farthest first.

    Members and non-members are then of different kinds. Where they are of one kind, this finds some attack in at most
    5 % of the audits.

    Args:
        findings: Of all attacks.
        is_member: `(records,)`.
    """
    known = [found for found in findings if found.on_shadows is not None]
    nulls = [
        (found, null_auc(found.on_shadows, is_member, 1 - (1 - CONFIDENCE) / len(known)))
        for found in known
        if found.on_shadows is not None
    ]
    apart = [(abs(null.value - 0.5), found) for found, null in nulls if not null.low <= 0.5 <= null.high]
    return tuple(found for _, found in sorted(apart, key=lambda pair: -pair[0]))


def is_beyond(shifted: Sequence[Finding]) -> bool:
    """Tell whether members and non-members are too different for any correction.

    Args:
        shifted: As `shifted_of` returns them.
    """
    return bool(shifted) and shifted[0].null is not None and abs(shifted[0].null.value - 0.5) > LARGEST_SHIFT


def settled(found: Finding, is_member: Mask, choices: int, *, is_shifted: bool) -> Estimate:
    """Return the AUC of one of several attacks, less its null where members and non-members are of different kinds.

    Args:
        found: The attack.
        is_member: `(records,)`.
        choices: How many attacks it was chosen from; the interval is corrected for that (Bonferroni).
        is_shifted: Whether some attack's null is not 0.5.
    """
    if not is_shifted or found.on_shadows is None:
        return corrected(found.scores, is_member, choices)
    return corrected_auc(found.scores, found.on_shadows, is_member, 1 - (1 - CONFIDENCE) / choices)


def strongest_first(findings: Sequence[Finding], is_member: Mask) -> tuple[Finding, ...]:
    """Order attacks by their AUC, or by their AUC less the null where members and non-members are of different kinds.

    Attacks whose null is not known then stand last.
    """
    if not shifted_of(findings, is_member):
        return tuple(sorted(findings, key=lambda found: -found.auc.value))
    return tuple(sorted(findings, key=lambda found: -1.0 if found.less_null is None else -1 - found.less_null.value))


def reversed_of(findings: Sequence[Finding], is_member: Mask) -> tuple[Finding, ...]:
    """Return the attacks whose interval, corrected for all of them, lies below 0.5; the lowest AUC first.

    Where nothing leaks, some attack is among them in at most half of 5 % of the audits. Where members and non-members
    are of different kinds, an AUC below 0.5 is no sign of wrong data, and none is returned.

    Args:
        findings: Of all attacks, the strongest first.
        is_member: `(records,)`.
    """
    if shifted_of(findings, is_member):
        return ()
    below = [found for found in findings if corrected(found.scores, is_member, len(findings)).high < 0.5]
    return tuple(below[::-1])


def is_alarming(findings: Sequence[Finding], is_member: Mask) -> bool:
    """Tell whether the attack that is farthest from 0.5 lies below it, significantly.

    Args:
        findings: Of all attacks, the highest AUC first.
        is_member: `(records,)`.
    """
    below = reversed_of(findings, is_member)
    return bool(below) and 0.5 - below[0].auc.value > findings[0].auc.value - 0.5
