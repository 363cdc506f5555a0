"""What `nas audit` does, without its printing: from a candidate of a run, or from files, to an audit.

Of a run, the members attacked are those that the candidate was trained on, and the non-members are test records: nobody
opened them before, neither the search nor its proxy. Shadows are trained by the candidate's recipe with seeds of their
own. Where there are more members than test records, some are not attacked; every shadow is trained on those, so that it
sees as many records as the candidate did.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.trial import TrialState

from estimators.estimate import Estimate
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Population
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.audit import shadows
from nas.audit.attack_all import EFFORTS
from nas.audit.attack_all import audit
from nas.audit.attack_all import runnable
from nas.audit.cautions import proxy_disagrees
from nas.audit.cautions import test_was_open
from nas.audit.findings import Audit
from nas.audit.oracles import of_network
from nas.audit.post_training import compressed
from nas.audit.proxy import ATTACKS
from nas.audit.proxy import proxy_of
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import seconds_each
from nas.base import files
from nas.base import processes
from nas.pricing.report import bits_of
from nas.records import Records
from nas.runs import picks
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import CONFIG
from nas.search.storage import TASK
from nas.training.assess import Candidate
from nas.training.defence import deployed_network
from nas.training.defence import described
from nas.training.defence import parted
from nas.training.loop import compute_device
from nas.training.loop import seed_from
from nas.training.loop import training_version
from search_spaces.network import Network

AUDITS = "audits.jsonl"
"""In a run's folder: a line for each audit, because each opened the test records."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained candidate with all that its audit needs.

    Attributes:
        number: Of its trial.
        network: Trained, in eval mode.
        pool: The records under audit.
        population: Records no network was trained on.
        test: The test records, whole.
        spec: Its shadows.
        proxy: Leakage that the search measured.
    """

    number: int
    network: Network
    pool: Pool
    population: Records
    test: Records
    spec: ShadowSpec
    proxy: Estimate

    @property
    def error(self) -> Estimate:
        """Share of test records misclassified, with its exact interval."""
        logits = of_network(self.network).query(self.test.features)
        return proportion_interval(int((logits.argmax(axis=1) != self.test.labels).sum()), len(self.test))


def plan_of(study: optuna.Study, folder: Path) -> Plan:
    """Load a run's data again, and look up every name of its settings.

    Raises:
        ValueError: If the data or the program are no longer those of the search.
    """
    plan = resolve(parse_config(study.user_attrs[CONFIG]), folder.parent)
    task = study.user_attrs[TASK]
    if plan.data.fingerprint != task["fingerprint"] or task.get("version") != training_version():
        raise ValueError(
            f"expected the data and the versions of gecko-nas and PyTorch of the search {study.study_name!r}; they "
            "differ: shadows would not be trained as its networks were; audit with what searched, or search again"
        )
    return plan


def subject_of(plan: Plan, study: optuna.Study, number: int) -> Subject:
    """Fetch a trained candidate of a run, or train it again from its own seed if its weights are elsewhere.

    Args:
        plan: The run's.
        study: The run's.
        number: The candidate's.

    Raises:
        ValueError: If there is no such candidate, or it was not trained to the end.
    """
    trials = study.get_trials(deepcopy=False)
    trained = [trial.number for trial in trials if trial.state == TrialState.COMPLETE]
    if number not in trained:
        raise ValueError(f"no trained candidate {number} in {study.study_name!r}; there are {trained}")
    trial = trials[number]
    candidate = plan.candidate(trial.params)
    network = deployed_network(candidate.architecture, candidate.defence, candidate.defence_parameters)
    network.load_state_dict(files.read_weights(picks.weights_of(study, trial, plan.folder)))
    pool = pool_of(plan.data.members, plan.data.test, seed=seed_from(plan.config.seed, "audit"))
    return Subject(
        number=trial.number,
        network=network.to(compute_device()).eval(),
        pool=pool,
        population=parted(plan.data.reserve)[1] if _uses_reserve(plan, candidate) else plan.data.reserve,
        test=plan.data.test,
        spec=shadow_spec(plan, candidate, pool),
        proxy=proxy_of(trial),
    )


def shadow_spec(plan: Plan, candidate: Candidate, pool: Pool) -> ShadowSpec:
    """Say what the shadows of a run's candidate are: what its defence had, theirs have.

    Where all candidates shared a teacher, each shadow has one of the same architecture and recipe, trained on the
    shadow's own records.
    """
    return ShadowSpec(
        pool,
        candidate,
        seed_from(plan.config.seed, "shadows"),
        plan.cache_folder,
        reserve=parted(plan.data.reserve)[0] if _uses_reserve(plan, candidate) else None,
        teacher=None if candidate.defence == "none" else plan.teacher,
    )


def _uses_reserve(plan: Plan, candidate: Candidate) -> bool:
    return "reserve" in plan.defences[candidate.defence].needs


def pool_of(members: Records, non_members: Records, *, seed: int) -> Pool:
    """Choose as many members as non-members of each class to attack; the other members come after them.

    Args:
        members: All that the network was trained on.
        non_members: Records it never saw.
        seed: Of the choice.

    Raises:
        ValueError: If no class has both.
    """
    rng = np.random.default_rng(seed)
    both = np.minimum(members.class_counts, non_members.class_counts)
    if not both.any():
        raise ValueError("expected members and non-members of at least one class in common; there is none")
    inside, outside = _some(members, both, rng), _some(non_members, both, rng)
    rest = np.setdiff1d(np.arange(len(members)), inside)
    parts = [members.select(inside), non_members.select(outside)]
    features = np.concatenate([*(part.features for part in parts), members.features[rest]])
    labels = np.concatenate([*(part.labels for part in parts), members.labels[rest]])
    return Pool(features, labels, np.arange(2 * len(inside)) < len(inside))


def evidence_of(subject: Subject, networks: Sequence[Network], network: Network | None = None) -> Evidence:
    """Ask the candidate, or a version of it, and shadows of the same kind about the audited records.

    Args:
        subject: The candidate.
        networks: The shadows, in order; none for an audit without.
        network: The version; None for the candidate as trained.
    """
    oracle = of_network(network or subject.network)
    features, labels = subject.pool.features[subject.pool.audited], subject.pool.labels[subject.pool.audited]
    known = subject.population
    return Evidence(
        logits=oracle.query(features),
        labels=labels,
        bank=shadows.bank_of(subject.pool, networks, subject.spec.seed) if networks else None,
        features=features,
        oracle=oracle,
        population=Population(known.features, known.labels, oracle.query(known.features)),
    )


def versions_of(subject: Subject, networks: Sequence[Network], bits: Sequence[int]) -> dict[str, Evidence]:
    """Compress the candidate and every shadow after training, and ask them: evidence by version."""
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
    """Refuse post-training versions that cannot be made, before any shadow is trained.

    Raises:
        ValueError: If a width is unknown, or the candidate holds nothing in float.
    """
    for width in bits:
        compressed(subject.network, width, subject.population.features[:1])


def check_attacks(subject: Subject, effort: str, attacks: Sequence[str] | None) -> None:
    """Refuse attacks that cannot run, before any shadow is trained.

    Raises:
        ValueError: As `nas.audit.attack_all.runnable`.
    """
    runnable(effort, {"bank", *evidence_of(subject, []).holds}, EFFORTS[effort], attacks)


def seconds_to_train(specs: Sequence[ShadowSpec], count: int, workers: int | None) -> float:
    """Estimate how long the missing shadows take, from one epoch of each kind."""
    crew = workers or processes.cores()
    return sum(seconds_each(spec) * len(spec.missing(count)) for spec in specs if spec.missing(count)) / crew


def earlier(folder: Path) -> dict[int, int]:
    """Count how often each candidate of a run was audited, and so the test records looked at: counts by number."""
    path = folder / AUDITS
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(Counter(int(json.loads(line)["candidate"]) for line in lines))


def note(folder: Path, number: int, effort: str) -> None:
    """Write down that the test records were looked at, for whom and how."""
    files.append_json(folder / AUDITS, {"candidate": number, "effort": effort})


def audited_leakage(subject: Subject) -> Estimate:
    """Return the AUC of the stronger of the two attacks a proxy is held against, by standard shadows."""
    networks = shadows.load(subject.spec, EFFORTS["standard"])
    evidence = evidence_of(subject, networks)
    return audit(evidence, subject.pool.is_member, seed=subject.spec.seed, attacks=ATTACKS).strongest.auc


def about(subject: Subject, plan: Plan, found: Audit, before: Mapping[int, int]) -> dict[str, str]:
    """List what a report must say of the network, the data and the shadows."""
    candidate, config = subject.spec.candidate, plan.config
    seen = ", ".join(f"candidate {number} {times} times" for number, times in sorted(before.items())) or "never"
    count = len(plan.data.members)
    return {
        "network": f"candidate {subject.number} of {config.name}, key {candidate.key}",
        "bits": bits_of(candidate.architecture),
        "recipe": ", ".join(f"{name} {value}" for name, value in asdict(candidate.recipe).items()),
        "defence": described(candidate.defence, candidate.defence_parameters),
        "data": f"{config.dataset}, fingerprint {plan.data.fingerprint[:16]}",
        "training records": f"{count}, {found.members} of them attacked",
        "non-members": f"{found.non_members} test records; audited on them before: {seen}",
        "error on test records": _text(subject.error),
        "leakage in the search": _text(subject.proxy),
        "shadows": f"{found.shadows}, the same recipe and {count} records each, seed {subject.spec.seed}",
        "made by": f"gecko-nas {metadata.version('gecko-nas')}, PyTorch {torch.__version__}",
    }


def audit_subject(
    subject: Subject,
    effort: str,
    *,
    bits: Sequence[int] = (),
    attacks: Sequence[str] | None = None,
    earlier: Mapping[int, int] | None = None,
    look: Callable[[str], None] = lambda _attack: None,
) -> Audit:
    """Audit a candidate whose shadows are trained (`shadows.train_missing`).

    Args:
        subject: The candidate.
        effort: One of `nas.audit.attack_all.EFFORTS`.
        bits: Post-training versions that are released with it.
        attacks: Names of the attacks; None for all that the effort allows.
        earlier: Audits of this run before, by candidate: the test records were open to those who chose this one.
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
        look=look,
    )
    others = [number for number in earlier or {} if number != subject.number]
    more = (*proxy_disagrees(subject.proxy, found.leakage), *test_was_open(others))
    return replace(found, warnings=(*found.warnings, *more))


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _some(records: Records, counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Choose `counts` rows of each class by chance, in ascending order."""
    chosen = [rng.permutation(np.flatnonzero(records.labels == label))[:count] for label, count in enumerate(counts)]
    return np.sort(np.concatenate(chosen))
