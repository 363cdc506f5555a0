"""Attack one network with every attack that the evidence allows, and compute an interval for each number.

Nothing here trains, reads files or knows of a study: `audit` takes a network's answers about records, and which of them
are members. `nas.audit.candidate` prepares both for a candidate of a run, `nas.audit.files` for a user's files.

>>> rng = np.random.default_rng(0)
>>> is_member, labels = np.arange(2000) < 1000, rng.integers(0, 3, 2000)
>>> logits = rng.normal(size=(2000, 3)) + np.eye(3)[labels] * (1 + 2 * is_member[:, None])
>>> found = audit(Evidence(logits, labels), is_member, seed=0)
>>> found.finding("loss").auc.low > 0.7, found.finding("gap").auc.value < found.strongest.auc.value
(True, True)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from estimators.estimate import Estimate
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Mask
from estimators.leakage.released import together
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.auc_and_rates import FALSE_POSITIVES_NEEDED
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_difference
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import by_membership
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr_interval
from estimators.leakage.statistics.record_risk import shapr
from estimators.leakage.statistics.record_risk import spearman_rho
from estimators.leakage.statistics.shift import OnReferences
from estimators.leakage.statistics.shift import corrected_auc
from estimators.leakage.statistics.shift import null_auc
from estimators.leakage.statistics.thresholds import advantage
from estimators.leakage.statistics.thresholds import balanced_accuracy
from nas.audit import cautions
from nas.audit import epsilons
from nas.audit.findings import ATTACKS
from nas.audit.findings import Audit
from nas.audit.findings import ClassRisk
from nas.audit.findings import Finding
from nas.audit.findings import Origin
from nas.audit.findings import RecordFindings
from nas.audit.findings import RecordRisk
from nas.audit.findings import Released
from nas.audit.findings import Scores
from nas.audit.findings import corrected
from nas.audit.findings import errors_by_class
from nas.audit.findings import shifted_of
from nas.audit.findings import strongest_first
from nas.audit.people import check_whole
from nas.audit.people import people_of
from nas.audit.shift import on_shadows
from nas.base import plugins

EFFORTS: Mapping[str, int] = {"quick": 4, "standard": 16, "full": 64}
"""The efforts of an audit, and the number of shadow models of each."""
FPRS = (0.01, 0.001)
# A class with fewer records gets no AUC of its own. A smaller bank cannot leave one network out and attack it.
LEAST_OF_A_CLASS, LEAST_TO_SPARE_ONE = 20, 8
LEAST_TO_RANK = 5
RISKIEST = 20
AS_TRAINED = "as trained"
TOGETHER = "together"
"""Name of the attack on all versions at once, `estimators.leakage.released.together`."""
Attack: TypeAlias = Callable[[Evidence], Scores]


def audit(
    evidence: Evidence,
    is_member: Mask,
    *,
    seed: int,
    effort: str = "standard",
    attacks: Sequence[str] | None = None,
    versions: Mapping[str, Evidence] | None = None,
    origin: Origin | None = None,
    is_labelled: bool = True,
    look: Callable[[str], None] = lambda _attack: None,
) -> Audit:
    """Attack a network with all that the evidence allows.

    Args:
        evidence: The network's answers about the audited records, with a bank, an oracle and a population if there are
            any.
        is_member: `(records,)`: which of the records it was trained on.
        seed: Seed of the halves that choose thresholds, and of bootstraps.
        effort: One of `EFFORTS`; slow attacks run only at greater efforts.
        attacks: Names of the attacks to run; None: all that the effort and the evidence allow.
        versions: Answers of further versions of the network that are released with it, by name, about the same records.
            Each has a bank of the same version of the shadow models, and holds what the network's evidence holds. The
            attacks that were asked for by name run on each, else the quick ones that ran on the network.
        origin: What the user calls the records and classes; None: their numbers are all there is.
        is_labelled: Whether the labels are true classes. Else they are the network's own, which stand in for unknown
            ones: the attacks that read no label run, and nothing is said of classes, errors, or SHAPr.
        look: Called with the name of each attack before it runs, and where it runs on a version or on a shadow model.

    Raises:
        ValueError: If the effort is unknown, the list of attacks is empty, one of them is unknown or cannot run, there
            are fewer than two members or two non-members, or a group has both.
    """
    if effort not in EFFORTS:
        raise ValueError(f"no effort {effort!r}; there are {list(EFFORTS)}")
    by_membership(np.zeros(len(evidence.labels)), is_member)
    origin = origin or Origin()
    if origin.groups is not None:
        check_whole(origin.groups, is_member)
    references = 0 if evidence.bank is None else len(evidence.bank.logits)
    names, skipped = runnable(effort, evidence.holds, references, attacks, is_labelled=is_labelled)
    of_gap = _load("gap")(evidence) if is_labelled else None
    on = on_shadows(evidence, names, is_member, _load, look)
    measured = partial(finding, seed=seed, attacks=len(names))
    ran = []
    for name in names:
        look(name)
        since = time.perf_counter()
        scores = _load(name)(evidence)
        seconds = time.perf_counter() - since
        ran.append(measured(name, scores, is_member, of_gap, seconds=seconds, on=on.get(name)))
    findings = strongest_first(ran, is_member)
    by_version = {AS_TRAINED: {found.attack: found.scores for found in findings}}
    by_version |= _on_each(versions or {}, _on_versions(names, attacks), look)
    released = _released({AS_TRAINED: evidence, **(versions or {})}, by_version, is_member)
    people = None
    if origin.groups is not None:
        people = people_of(findings, of_gap, is_member, origin.groups, measured)
    return Audit(
        members=int(is_member.sum()),
        non_members=int((~is_member).sum()),
        shadows=0 if evidence.bank is None else len(evidence.bank.logits),
        effort=effort,
        findings=findings,
        by_class=_by_class(findings[0], evidence, is_member, origin) if is_labelled else (),
        records=_records(findings, evidence, is_member, origin, is_labelled=is_labelled),
        trainings=other_trainings(evidence.bank if is_labelled else None, "lira_online"),
        released=released,
        skipped=skipped,
        warnings=(
            *cautions.all_of(findings, released, is_member, people),
            *cautions.of_people(
                people,
                evidence.bank,
                origin.groups,
                are_records_shifted=bool(shifted_of(findings, is_member)),
            ),
        ),
        is_member=is_member,
        class_errors=errors_by_class(
            evidence.logits[~is_member].argmax(axis=1), evidence.labels[~is_member], origin.classes or None
        )
        if is_labelled
        else (),
        people=people,
    )


def runnable(
    effort: str,
    holds: Iterable[str],
    references: int,
    attacks: Sequence[str] | None = None,
    *,
    is_labelled: bool = True,
) -> tuple[list[str], dict[str, str]]:
    """Return the attacks that run, and the reason why each other one does not.

    Args:
        effort: One of `EFFORTS`.
        holds: What the evidence holds, of `estimators.leakage.evidence.NEEDS`.
        references: Networks in its bank.
        attacks: Names of the requested attacks; None: all that can run.
        is_labelled: Whether the records' true classes are known.

    Raises:
        ValueError: If the list is empty, or an attack in it is unknown or cannot run.
    """
    names, skipped = [], {}
    for name in plugins.available(ATTACKS, "attack"):
        lacking = [need for need in plugins.load(ATTACKS, name, "NEEDS") if need not in set(holds)]
        least, asks = (plugins.find(ATTACKS, name, fact) for fact in ("MIN_REFERENCES", "EFFORT"))
        if not is_labelled and plugins.find(ATTACKS, name, "READS_LABELS"):
            skipped[name] = "needs labels"
        elif lacking:
            skipped[name] = f"needs {' and '.join(lacking)}"
        elif references < least:
            skipped[name] = f"needs {least} shadow models"
        elif EFFORTS[asks] > EFFORTS[effort]:
            skipped[name] = f"needs --effort {asks}"
        else:
            names.append(name)
    if attacks is None:
        return names, skipped
    if not attacks:
        raise ValueError(f"expected at least one attack; got none; those that can run here are {names}")
    for name in attacks:
        _load(name)
        if name in skipped:
            raise ValueError(f"the attack {name!r} cannot run here: it {skipped[name]}")
    return list(dict.fromkeys(attacks)), {}


def other_trainings(bank: Bank | None, attack: str) -> Scores:
    """Attack each reference with the others as its bank: `(references,)` AUCs, empty if the bank is too small.

    The one that was trained on exactly the other records is left out too. With it, each member would have a reference
    fewer on its own side than on the other, and each non-member the other way round: a mean of fewer is farther from
    the truth, so online LiRA would rank members lower, at an AUC of .47 with 8 references where nothing leaks.
    """
    count = 0 if bank is None else len(bank.logits)
    if bank is None or count < LEAST_TO_SPARE_ONE:
        return np.empty(0)
    aucs = []
    for own in range(count):
        others = np.arange(count) != own
        partner = np.flatnonzero((bank.trained_on != bank.trained_on[own]).all(axis=1))[:1]
        others[partner] = False
        alone = Evidence(bank.logits[own], bank.labels, bank.part(others))
        aucs.append(auc(_load(attack)(alone), bank.trained_on[own]))
    return np.array(aucs)


def needed_non_members(fpr: float) -> int:
    """Return how many non-members are needed to report the TPR at an FPR."""
    return math.ceil(FALSE_POSITIVES_NEEDED / fpr - 1e-9)


def _load(name: str) -> Attack:
    attack: Attack = plugins.load(ATTACKS, name, "attack")
    return attack


def finding(
    name: str,
    scores: Scores,
    is_member: Mask,
    of_gap: Scores | None,
    *,
    seed: int,
    attacks: int,
    seconds: float,
    on: OnReferences | None = None,
) -> Finding:
    """Measure what one attack found, of records or of people.

    Args:
        name: Of the attack.
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        of_gap: `(records,)`, the gap attack's scores; None where no label is known.
        seed: Seed of the halves that choose thresholds, and of bootstraps.
        attacks: How many the audit runs; its bounds on epsilon hold for all of them together.
        seconds: How long the attack took.
        on: What it scores on shadow models; None if it cannot run on them.

    Raises:
        ValueError: If there are fewer than two members or two non-members.
    """
    enough = {fpr: int((~is_member).sum()) >= needed_non_members(fpr) for fpr in FPRS}
    return Finding(
        attack=name,
        is_label_only=plugins.find(ATTACKS, name, "LABEL_ONLY"),
        auc=auc_interval(scores, is_member),
        over_gap=None if of_gap is None else auc_difference(scores, of_gap, is_member),
        tpr={fpr: tpr_at_fpr_interval(scores, is_member, fpr, seed=seed) if enough[fpr] else None for fpr in FPRS},
        balanced_accuracy=balanced_accuracy(scores, is_member, seed=seed),
        advantage=advantage(scores, is_member, seed=seed),
        epsilons=epsilons.of_scores(scores, is_member, attacks),
        scores=scores,
        seconds=seconds,
        null=None if on is None else null_auc(on, is_member),
        less_null=None if on is None else corrected_auc(scores, on, is_member),
        on_shadows=on,
    )


def _by_class(strongest: Finding, evidence: Evidence, is_member: Mask, origin: Origin) -> tuple[ClassRisk, ...]:
    risks = []
    for label in np.unique(evidence.labels):
        rows = evidence.labels == label
        inside = int(is_member[rows].sum())
        if min(inside, int(rows.sum()) - inside) >= LEAST_OF_A_CLASS:
            found = auc_interval(strongest.scores[rows], is_member[rows])
            risks.append(ClassRisk(int(label), origin.class_name(int(label)), inside, found))
    return tuple(sorted(risks, key=lambda risk: -risk.auc.value))


def _records(
    findings: Sequence[Finding], evidence: Evidence, is_member: Mask, origin: Origin, *, is_labelled: bool
) -> RecordFindings:
    """Rank the members by an attack that calibrates each record on its own, if there is one."""
    by_record = [found for found in findings if found.attack == "lira_online"]
    chosen = (by_record or list(findings))[0]
    logits, labels = evidence.logits, evidence.labels
    values = None
    if is_labelled:
        values = shapr(logits[is_member], labels[is_member], logits[~is_member], labels[~is_member])
    order = np.argsort(-np.where(is_member, chosen.scores, -np.inf), kind="stable")[:RISKIEST]
    others = np.sort(chosen.scores[~is_member])
    riskiest = tuple(
        _risk(int(record), chosen.scores, others, evidence, origin) for record in order if is_member[record]
    )
    agreement = None if values is None else _agreement(values, chosen.scores[is_member])
    return RecordFindings(chosen.attack, riskiest, values, agreement)


def _agreement(values: Scores, scores: Scores) -> Estimate:
    """Correlate two scores of the members. Without five members or with equal scores, nothing is known."""
    if len(values) < LEAST_TO_RANK or np.ptp(values) == 0 or np.ptp(scores) == 0:
        return Estimate(0.0, -1.0, 1.0)
    return spearman_rho(values, scores)


def _risk(record: int, scores: Scores, others: Scores, evidence: Evidence, origin: Origin) -> RecordRisk:
    above = len(others) - int(np.searchsorted(others, scores[record], side="left"))
    across = None
    if evidence.bank is not None:
        bank, labels = evidence.bank, evidence.labels[[record]]
        phi = np.concatenate([scaled_logit(logits[[record]], labels) for logits in bank.logits])
        inside = bank.trained_on[:, record]
        across = auc_interval(phi, inside) if 0 < inside.sum() < len(inside) else None
    found = proportion_interval(above, len(others))
    label = int(evidence.labels[record])
    return RecordRisk(
        record=record,
        row=None if origin.rows is None else int(origin.rows[record]),
        file=None if origin.names is None else str(origin.names[record]),
        label=label,
        class_name=origin.class_name(label),
        score=float(scores[record]),
        found_at_fpr=found,
        across_trainings=across,
    )


def _on_each(
    versions: Mapping[str, Evidence], attacks: Sequence[str], look: Callable[[str], None]
) -> dict[str, dict[str, Scores]]:
    """Attack each version with each attack: scores by version and attack."""
    found: dict[str, dict[str, Scores]] = {}
    for name, version in versions.items():
        found[name] = {}
        for attack in attacks:
            look(f"{attack} on {name}")
            found[name][attack] = _load(attack)(version)
    return found


def _released(
    versions: Mapping[str, Evidence], scores: Mapping[str, Mapping[str, Scores]], is_member: Mask
) -> tuple[Released, ...]:
    """Give each released version its strongest attack, and attack all versions together."""
    if len(versions) == 1:
        return ()
    alone = tuple(_strongest(name, scores[name], versions[name], is_member) for name in versions)
    joint = together(list(versions.values()))
    # What is above any single version must be so by the same attack, too.
    singles = [scores[one.name][one.attack] for one in alone] + [together([version]) for version in versions.values()]
    best = max(singles, key=lambda single: auc(single, is_member))
    over = auc_difference(joint, best, is_member)
    return (*alone, Released("all together", TOGETHER, 1, auc_interval(joint, is_member), None, over))


def _strongest(name: str, scores: Mapping[str, Scores], version: Evidence, is_member: Mask) -> Released:
    attack = max(scores, key=lambda attack: auc(scores[attack], is_member))
    wrong = (version.logits.argmax(axis=1) != version.labels)[~is_member]
    return Released(
        name,
        attack,
        len(scores),
        corrected(scores[attack], is_member, len(scores)),
        proportion_interval(int(wrong.sum()), len(wrong)),
    )


def _on_versions(names: Sequence[str], attacks: Sequence[str] | None) -> list[str]:
    """Return the attacks that run on each version too: those that were asked for by name, else the quick ones."""
    if attacks is not None:
        return list(names)
    return [name for name in names if plugins.find(ATTACKS, name, "EFFORT") == "quick"]
