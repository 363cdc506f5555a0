"""Audit a candidate of a run: what `nas audit` does, without its printing.

The members under attack are the records that the candidate was trained on. The non-members are test records, which
neither the search nor its proxy used. Shadow models are trained with the candidate's recipe and seeds of their own. If
there are more members than test records, some members are not attacked; every shadow model is trained on those too, so
that it sees as many records as the candidate did.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.evidence import Population
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.epsilon import EpsilonBound
from nas.audit import shadows
from nas.audit.artefact import Artefact
from nas.audit.attack_all import EFFORTS
from nas.audit.attack_all import audit
from nas.audit.attack_all import runnable
from nas.audit.cautions import errors_were_seen
from nas.audit.cautions import proxy_disagrees
from nas.audit.cautions import test_was_open
from nas.audit.findings import Audit
from nas.audit.findings import ClassError
from nas.audit.findings import Origin
from nas.audit.findings import errors_by_class
from nas.audit.oracles import of_network
from nas.audit.proxy_check import ATTACKS
from nas.audit.proxy_check import proxy_of
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import seconds_each
from nas.base import files
from nas.base import processes
from nas.base.text import inline
from nas.base.text import with_parameters
from nas.pricing.report import bits_of
from nas.records import Records
from nas.records import groups_of
from nas.runs.run import Run
from nas.search.parents import line_of
from nas.search.plan import Plan
from nas.training import certificate
from nas.training.answers import delay_of
from nas.training.assess import Candidate
from nas.training.assess import for_training
from nas.training.assess import outputs
from nas.training.assess import set_up
from nas.training.defence import load_defence
from nas.training.loop import compute_device
from nas.training.post_training import compressed
from nas.training.schedule import seed_from
from nas.training.stages import train_in_stages
from search_spaces.network import Network

AUDITS = "audits.jsonl"
"""File in a run's folder with a line for each audit, because each audit uses the test records."""
AUDITS_LINE = '{"candidate": '
log = logging.getLogger("nas")


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained candidate with all that its audit needs.

    Attributes:
        number: Number of its trial.
        network: The trained network, in eval mode.
        pool: The records under audit.
        population: Records no network was trained on.
        test: All test records.
        spec: Its shadow models.
        proxy: Leakage measured in the search.
        guarantee: What its defence states of its training, as `nas.training.certificate.stated`; empty if nothing.
        artefact: The exported file that is audited in its place, and its shadow models' files in theirs; None: none.
    """

    number: int
    network: Network
    pool: Pool
    population: Records
    test: Records
    spec: ShadowSpec
    proxy: Estimate
    guarantee: Mapping[str, float] = field(default_factory=dict)
    artefact: Artefact | None = None

    @cached_property
    def oracle(self) -> Oracle:
        """What answers: the file as shipped, or the network."""
        return of_network(self.network) if self.artefact is None else self.artefact.oracle

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Its class of each test record, `(records,)`."""
        return np.asarray(self.oracle.query(self.test.features).argmax(axis=1))

    @property
    def error(self) -> Estimate:
        """Share of test records misclassified, with its exact interval."""
        return proportion_interval(int((self.predicted != self.test.labels).sum()), len(self.test))

    @property
    def class_errors(self) -> tuple[ClassError, ...]:
        """The same of each class that occurs in the test records."""
        return errors_by_class(self.predicted, self.test.labels, self.test.classes)


def subject_of(run: Run, number: int) -> Subject:
    """Load a trained candidate of a run. If its weights are on another machine, it is trained again from its seed.

    Args:
        run: The run.
        number: The candidate's.

    Raises:
        ValueError: If there is no such candidate, it was not trained to the end, its weights are not those that were
            measured, or what decides the study's numbers is no longer what it was.
    """
    trial, plan = run.trained(number), run.plan
    candidate = plan.candidate(trial.params)
    *forebears, _ = line_of(run.study, trial)
    network = run.network(trial)
    pool = pool_of(plan.data.members, plan.data.test, seed=seed_from(plan.config.seed, "audit"))
    return Subject(
        number=trial.number,
        network=network.to(compute_device()),
        pool=pool,
        population=for_training(candidate, plan.defences[candidate.defence], plan.data.reserve)[1],
        test=plan.data.test,
        spec=shadow_spec(plan, candidate, pool, [plan.candidate(one.params) for one in forebears]),
        proxy=proxy_of(trial),
        guarantee=certificate.stated(trial.user_attrs),
    )


def shadow_spec(plan: Plan, candidate: Candidate, pool: Pool, forebears: Sequence[Candidate] = ()) -> ShadowSpec:
    """Say what the shadows of a run's candidate are: what its defence had, theirs have.

    Where all candidates shared a teacher, each shadow has one of the same architecture and recipe, trained on the
    shadow's own records. Where the candidate started from others' weights, each shadow goes the same way.

    Args:
        plan: The search.
        candidate: The candidate.
        pool: The records.
        forebears: Those whose weights it started from, the oldest first.
    """
    return ShadowSpec(
        pool,
        candidate,
        seed_from(plan.config.seed, "shadows"),
        plan.cache_folder,
        reserve=for_training(candidate, plan.defences[candidate.defence], plan.data.reserve)[0],
        teacher=None if candidate.defence == "none" else plan.teacher,
        parent=shadow_spec(plan, forebears[-1], pool, forebears[:-1]) if forebears else None,
    )


def pool_of(members: Records, non_members: Records, *, seed: int) -> Pool:
    """Choose as many members as non-members of each class to attack. The other members are appended.

    Args:
        members: All records that the network was trained on.
        non_members: Records that it was not trained on.
        seed: Seed of the choice.

    Raises:
        ValueError: If no class has both members and non-members.
    """
    rng = np.random.default_rng(seed)
    both = np.minimum(members.class_counts, non_members.class_counts)
    if not both.any():
        raise ValueError("expected members and non-members of at least one class in common; there is none")
    some = _some if members.groups is None or non_members.groups is None else whole_groups
    inside, outside = some(members, both, rng), some(non_members, both, rng)
    rest = np.setdiff1d(np.arange(len(members)), inside)
    parts = [members.select(inside), non_members.select(outside)]
    features = np.concatenate([*(part.features for part in parts), members.features[rest]])
    labels = np.concatenate([*(part.labels for part in parts), members.labels[rest]])
    groups = groups_of(parts)
    return Pool(
        features,
        labels,
        np.arange(2 * len(inside)) < len(inside),
        _origin(parts),
        None if members.groups is None or groups is None else np.concatenate([groups, members.groups[rest]]),
    )


def whole_groups(records: Records, counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Choose `counts` rows of each class in as few groups as chance allows, in ascending order.

    Groups in random order are taken whole while they fit; those that are left fill up what is missing.

    Args:
        records: With groups.
        counts: `(classes,)`, at most as many as there are.
        rng: For the order.
    """
    assert records.groups is not None
    _, which = np.unique(records.groups, return_inverse=True)
    left, chosen, partial = counts.copy(), [], []
    for group in rng.permutation(which.max() + 1):
        rows = np.flatnonzero(which == group)
        wanted = np.bincount(records.labels[rows], minlength=len(counts))
        if (wanted <= left).all():
            chosen.append(rows)
            left = left - wanted
        else:
            partial.append(rows)
    for rows in partial:
        for label in np.unique(records.labels[rows]):
            fitting = rows[records.labels[rows] == label][: left[label]]
            chosen.append(fitting)
            left[label] -= len(fitting)
    return np.sort(np.concatenate(chosen))


def _origin(parts: Sequence[Records]) -> Origin:
    """Keep where the audited records come from."""
    rows = [part.rows for part in parts if part.rows is not None]
    names = [part.names for part in parts if part.names is not None]
    return Origin(
        classes=parts[0].classes,
        rows=np.concatenate(rows) if len(rows) == len(parts) else None,
        names=np.concatenate(names) if len(names) == len(parts) else None,
        groups=groups_of(parts),
    )


def evidence_of(subject: Subject, networks: Sequence[Network], network: Network | None = None) -> Evidence:
    """Ask the candidate, or a version of it, and shadow models of the same kind about the audited records.

    Args:
        subject: The candidate.
        networks: The shadow models, in order; empty for an audit without them.
        network: The version; None for the candidate as trained.
    """
    oracle = subject.oracle if network is None else of_network(network)
    asked = of_network if network is not None or subject.artefact is None else subject.artefact.of_shadow
    features, labels = subject.pool.features[subject.pool.audited], subject.pool.labels[subject.pool.audited]
    known = subject.population
    return Evidence(
        logits=oracle.query(features),
        labels=labels,
        bank=shadows.bank_of(subject.pool, networks, subject.spec.seed, asked) if networks else None,
        features=features,
        oracle=oracle,
        population=Population(known.features, known.labels, oracle.query(known.features)),
        exits=None if oracle.exits is None else oracle.exits(features),
    )


def versions_of(subject: Subject, networks: Sequence[Network], bits: Sequence[int]) -> dict[str, Evidence]:
    """Quantise the candidate and every shadow model after training, and return the evidence of each version."""
    calibration = subject.population.features
    return {
        f"{width} bits": evidence_of(
            subject,
            [compressed(shadow, width, calibration) for shadow in networks],
            compressed(subject.network, width, calibration),
        )
        for width in bits
    }


def check_bits(subject: Subject, bits: Sequence[int]) -> None:
    """Refuse post-training versions that cannot be made, before any shadow model is trained.

    Raises:
        ValueError: If a width is unknown, or the candidate has no weights in float32.
    """
    for width in bits:
        compressed(subject.network, width, subject.population.features[:1])


def check_attacks(subject: Subject, effort: str, attacks: Sequence[str] | None) -> None:
    """Refuse attacks that cannot run, before any shadow model is trained.

    Raises:
        ValueError: As `nas.audit.attack_all.runnable`.
    """
    runnable(effort, {"bank", *evidence_of(subject, []).holds}, EFFORTS[effort], attacks)


def seconds_to_train(specs: Sequence[ShadowSpec], count: int, workers: int | None) -> float:
    """Estimate the training time of the missing shadow models in seconds, from one epoch of each kind."""
    crew = workers or processes.cores()
    return sum(seconds_each(spec) * len(spec.missing(count)) for spec in specs if spec.missing(count)) / crew


def earlier(folder: Path) -> dict[int, int]:
    """Return how often each candidate of a run was audited, by its number: each audit uses the test records.

    An incomplete line, which a full disk leaves, is not counted, and the log says so.

    Raises:
        ValueError: If a line is none of ours.
    """
    path = folder / AUDITS
    counts: Counter[int] = Counter()
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    for place, line in enumerate(lines, start=1):
        candidate = _candidate_in(line)
        if candidate is not None:
            counts[candidate] += 1
        elif line[: len(AUDITS_LINE)] != AUDITS_LINE[: len(line)]:
            raise ValueError(f"expected a line for each audit in {path}; line {place} is none: {line[:80]!r}")
        elif line:
            log.warning("nas: line %d of %s is torn; the audit it stands for is not counted", place, path)
    return dict(counts)


def note(folder: Path, number: int, effort: str) -> None:
    """Record that the test records were used to audit a candidate."""
    files.append_json(folder / AUDITS, {"candidate": number, "effort": effort}, files.OWNER)


def _candidate_in(line: str) -> int | None:
    try:
        number = json.loads(line)["candidate"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return number if isinstance(number, int) else None


def audited_leakage(subject: Subject) -> Estimate:
    """Return the AUC of the stronger of the two attacks of a proxy check, with standard effort."""
    networks = shadows.load(subject.spec, EFFORTS["standard"])
    evidence = evidence_of(subject, networks)
    return audit(evidence, subject.pool.is_member, seed=subject.spec.seed, attacks=ATTACKS).strongest.auc


def about(subject: Subject, plan: Plan, found: Audit, before: Mapping[int, int]) -> dict[str, str]:
    """Return the facts that a report states about the network, the data and the shadow models."""
    candidate, config = subject.spec.candidate, plan.config
    seen = ", ".join(f"candidate {number} {times} times" for number, times in sorted(before.items())) or "never"
    count, bound = len(plan.data.members), most_shown(found)
    return {
        "network": f"candidate {subject.number} of {config.name}, key {candidate.key}",
        **_as_shipped(subject.artefact),
        "bits": bits_of(candidate.architecture),
        **_exits(subject),
        "recipe": ", ".join(f"{name} {value}" for name, value in asdict(candidate.recipe).items()),
        "defence": with_parameters(candidate.defence, candidate.defence_parameters),
        **certificate.beside(subject.guarantee, bound.epsilon, bound.delta),
        "data": f"{config.dataset}, fingerprint {plan.data.fingerprint[:16]}",
        "training records": f"{count}, {found.members} of them attacked",
        "non-members": f"{found.non_members} test records; audited on them before: {seen}",
        "error on test records": inline(subject.error),
        **_without_guarantee(subject, plan),
        "leakage in the search": inline(subject.proxy),
        **_started_from(subject.spec),
        "shadow models": f"{found.shadows}, the same recipe and {count} records each, seed {subject.spec.seed}",
        "made by": made_by(),
    }


def _as_shipped(artefact: Artefact | None) -> dict[str, str]:
    """Return which file was audited; nothing where it was the network."""
    if artefact is None:
        return {}
    about = f"{artefact.name}, {artefact.precision}, SHA-256 {artefact.digest}"
    return {"file": f"{about}, asked through ONNX Runtime; shadow models were written and asked the same way"}


def _started_from(spec: ShadowSpec) -> dict[str, str]:
    """Return whose weights a candidate started from; nothing where it started from fresh ones."""
    keys, epochs = [], spec.candidate.recipe.epochs
    while (parent := spec.parent) is not None:
        keys.append(parent.candidate.key)
        epochs, spec = epochs + parent.candidate.recipe.epochs, parent
    told = f"of the candidate with key {', itself started from '.join(keys)}"
    return {"started from": f"{told}; {epochs} epochs in all; shadow models went the same way"} if keys else {}


def _without_guarantee(subject: Subject, plan: Plan) -> dict[str, str]:
    """Return what a guarantee costs in error; nothing without one.

    The same network is trained once more, by the same recipe on the same members, without the defence.
    """
    if not subject.guarantee:
        return {}
    plain = replace(subject.spec.candidate, defence="none", defence_parameters={})
    members = plan.data.members
    reserve, _ = for_training(plain, load_defence(plain.defence), plan.data.reserve)
    seed = seed_from(plan.config.seed, plain.first_stage.key)
    network = train_in_stages(set_up(plain, members.features, members.labels, seed, reserve, groups=members.groups))
    wrong = outputs(network, subject.test.features).argmax(axis=1) != subject.test.labels
    error = proportion_interval(int(wrong.sum()), len(wrong))
    return {
        "error without the guarantee": f"{inline(error)}, of the same network trained once more without its defence; "
        f"the guarantee costs {subject.error.value - error.value:+.3f}"
    }


def most_shown(found: Audit) -> EpsilonBound:
    """Return the highest of the attacks' lower bounds on epsilon: they hold together."""
    return max((one.epsilon for one in found.findings), key=lambda bound: bound.epsilon)


def _exits(subject: Subject) -> dict[str, str]:
    architecture = subject.spec.candidate.architecture
    count = len(architecture.outputs)
    if count == 1:
        return {}
    told = f"{count}; one answers from a confidence of {architecture.exit_threshold:g} on, else the last"
    if delay := delay_of(subject.network):
        told += "; attackers are taken to time answers exactly, and the device to hold early ones back"
        return {"exits": f"{told}, by a deviation of {delay:.4g} times the time between the first exit and the last"}
    return {"exits": f"{told}; attackers are taken to know which one answered, as its latency shows it"}


def made_by() -> str:
    """Return the versions that decide the numbers."""
    return f"gecko-nas {metadata.version('gecko-nas')}, PyTorch {torch.__version__}, NumPy {np.__version__}"


def audit_subject(
    subject: Subject,
    effort: str,
    *,
    bits: Sequence[int] = (),
    attacks: Sequence[str] | None = None,
    earlier: Mapping[int, int] | None = None,
    errors_seen: Collection[int] = (),
    look: Callable[[str], None] = lambda _attack: None,
) -> Audit:
    """Audit a candidate whose shadow models are trained (`shadows.train_missing`).

    Args:
        subject: The candidate.
        effort: One of `nas.audit.attack_all.EFFORTS`.
        bits: Post-training versions that are released with it.
        attacks: Names of the attacks; None: all that the effort allows.
        earlier: Number of earlier audits of this run, by candidate: the choice of this one may depend on them.
        errors_seen: Candidates of the run whose error on test records was looked at before: the same holds for these.
        look: Called with the name of each attack before it runs.

    Raises:
        ValueError: As `nas.audit.attack_all.audit`, and if a version cannot be made.
    """
    networks = shadows.load(subject.spec, EFFORTS[effort])
    found = audit(
        evidence_of(subject, networks),
        subject.pool.is_member,
        seed=subject.spec.seed,
        effort=effort,
        attacks=attacks,
        versions=versions_of(subject, networks, bits),
        origin=subject.pool.origin,
        look=look,
    )
    others = [number for number in earlier or {} if number != subject.number]
    lower = most_shown(found)
    more = (
        *proxy_disagrees(subject.proxy, found.leakage),
        *test_was_open(others),
        *errors_were_seen([number for number in errors_seen if number not in {subject.number, *others}]),
        *certificate.refuted(subject.guarantee, lower.epsilon, lower.delta),
    )
    return replace(found, warnings=(*found.warnings, *more), class_errors=subject.class_errors)


def _some(records: Records, counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Choose `counts` rows of each class at random, in ascending order."""
    chosen = [rng.permutation(np.flatnonzero(records.labels == label))[:count] for label, count in enumerate(counts)]
    return np.sort(np.concatenate(chosen))
