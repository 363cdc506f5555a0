"""Versions of one network: each trained on random halves of a pool, each training attacked by the others."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from proxy import cifar10_images
from proxy import pool_of
from scipy.stats import t
from shared_data import SHARED

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from estimators.leakage.statistics.thresholds import balanced_accuracy
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.records import Source
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.training.assess import Attack
from nas.training.assess import Candidate
from nas.training.assess import for_training
from nas.training.assess import outputs
from nas.training.defence import load_defence
from nas.training.schedule import seed_from
from search_spaces import conv
from search_spaces import mlp
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import SearchSpace

Figures = Mapping[str, NDArray[np.float64]]
"""By name, a number for each training: `(trainings,)`."""
MEMBERS = 1000


@dataclass(frozen=True, eq=False)
class Task:
    """A data set, and the versions of a network.

    Attributes:
        name: Of the data set.
        data: Its five record sets.
        pool: Members and non-members, of which each training sees a random half.
        versions: By name.
    """

    name: str
    data: Splits
    pool: Pool
    versions: Mapping[str, Candidate]


def location30(versions_of: Callable[[Splits], Mapping[str, Candidate]]) -> Task:
    """Location-30 with 1,000 members."""
    records = load_records(Source("location30", SHARED / "location30"))
    return _task("location30", split(records, seed=0, members=MEMBERS), versions_of)


def cifar10(versions_of: Callable[[Splits], Mapping[str, Candidate]], members: int = MEMBERS) -> Task:
    """CIFAR-10 at 16 x 16."""
    return _task("cifar10", split(cifar10_images(), seed=0, members=members), versions_of)


def _task(name: str, data: Splits, versions_of: Callable[[Splits], Mapping[str, Candidate]]) -> Task:
    return Task(name, data, pool_of(data.members, data.non_members), versions_of(data))


def perceptron(data: Splits) -> tuple[SearchSpace, Params]:
    """Return a perceptron that learns 1,000 records of Location-30 by heart, as a point of its space."""
    space = mlp.make_space(data.members.input_shape, data.members.num_classes)
    return space, {**space.reference, "depth": 2, "layer1_width": 128, "layer2_width": 64}


def convolutional_network(data: Splits) -> tuple[SearchSpace, Params]:
    """Return a small convolutional network that learns 1,000 images by heart, as a point of its space."""
    space = conv.make_space(data.members.input_shape, data.members.num_classes)
    blocks = {f"block{block}_width": 32 for block in (1, 2, 3)} | {f"block{block}_stride": 1 for block in (1, 3)}
    return space, {**space.reference, "depth": 3, "stem_width": 32, "head": "flatten", **blocks}


def defended(candidate: Candidate, defence: str, **parameters: ParamValue) -> Candidate:
    """Give a candidate a defence."""
    return replace(candidate, defence=defence, defence_parameters=parameters)


def train(
    task: Task, trainings: int, seed: int, folder: Path, teachers: Mapping[str, Candidate] | None = None
) -> dict[str, ShadowSpec]:
    """Train all versions, what is there already left out; first what several are made of.

    Args:
        task: The versions.
        trainings: How many of each.
        seed: Of the halves and of the trainings.
        folder: Of the weights.
        teachers: By version, what its teachers are; where none is named, what its defence asks for.
    """
    specs = {}
    for name, candidate in task.versions.items():
        reserve, _ = for_training(candidate, load_defence(candidate.defence), task.data.reserve)
        specs[name] = ShadowSpec(task.pool, candidate, seed, folder, reserve, (teachers or {}).get(name))
    # First stages before what is made of them: two processes would train the same one twice, one after the other.
    firsts = {
        spec.candidate.first_stage.key: replace(spec, candidate=spec.candidate.first_stage) for spec in specs.values()
    }
    for wanted in (list(firsts.values()), list(specs.values())):
        for done, _ in enumerate(train_missing(wanted, trainings), start=1):
            if done % 10 == 0:
                print(f"  {task.name}: {done} trained", flush=True)
    return specs


def attacked(
    task: Task,
    spec: ShadowSpec,
    trainings: int,
    attacks: Mapping[str, Attack],
    only_first: Mapping[str, int] | None = None,
    *,
    counted: NDArray[np.bool_] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Measure each training of a version: its error, and what attacks find with the help of the others.

    Args:
        task: The version's.
        spec: What was trained.
        trainings: How many.
        attacks: By the name of the figure, which ends with `auc`: the AUC of its scores. The TPR at 1 % FPR and the
            balanced accuracy, at a threshold that half of the records choose, have names that end with
            `tpr_at_1pct_fpr` and `accuracy`.
        only_first: How many trainings a slow attack is run on, by its name; all, where it is not named.
        counted: `(records,)`, of the pool: which records the gap, the AUC and the TPR are of; None: all.
    """
    networks = load(spec, trainings)
    bank = bank_of(task.pool, networks, spec.seed)
    counted = np.ones(len(task.pool.labels), dtype=bool) if counted is None else counted
    validation = task.data.validation
    figures: dict[str, list[float]] = {}
    for own, network in enumerate(networks):
        is_member = bank.trained_on[own, counted]
        evidence = evidence_of(task, bank, own)
        answers = outputs(network, validation.features).argmax(axis=1)
        right = (bank.logits[own].argmax(axis=1) == bank.labels)[counted]
        one = {
            "error": float(np.mean(answers != validation.labels)),
            "member_error": float(1 - right[is_member].mean()),
            "gap": float(right[is_member].mean() - right[~is_member].mean()),
        }
        for name, attack in attacks.items():
            if own >= (only_first or {}).get(name, trainings):
                continue
            scores = attack(evidence)[counted]
            one[name] = auc(scores, is_member)
            one[name.replace("auc", "tpr_at_1pct_fpr")] = tpr_at_fpr(scores, is_member, 0.01)
            one[name.replace("auc", "accuracy")] = balanced_accuracy(scores, is_member, seed=own).value
        for name, value in one.items():
            figures.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in figures.items()}


def evidence_of(task: Task, bank: Bank, own: int) -> Evidence:
    """Return what an attack on one training sees: its answers, and other trainings as references.

    The training on the other half is left out. Of each record then as many others were trained on it as not, as in an
    audit. With it, members have one fewer on their own side than on the other: online LiRA, whose mean of fewer is
    farther from the truth, ranks them lower, and its AUC is .46 with 6 trainings, .47 with 8 and .49 with 16 where
    nothing leaks.
    """
    others = [other for other in range(len(bank.logits)) if other not in (own, own ^ 1)]
    return Evidence(bank.logits[own], bank.labels, bank.part(others), task.pool.features, bank.oracles[own])


def with_canaries(task: Task, count: int, seed: int) -> tuple[Task, NDArray[np.bool_]]:
    """Give some of the pool's records a wrong label, the same in all versions; a half of them is trained on each time.

    They are canaries (Aerni et al., 2024): whoever calls one by its wrong label has learned it by heart.

    Args:
        task: The versions.
        count: How many records.
        seed: Of their choice and of the labels, drawn as `nas.audit.canaries` draws them.

    Returns:
        The task, and which of the pool's records are canaries.
    """
    # A seed of its own: the trainings' halves are drawn from the plain one, and a canary is to be in either.
    rng = np.random.default_rng(seed_from(seed, "canaries"))
    pool, classes = task.pool, task.data.members.num_classes
    rows = rng.permutation(len(pool.labels))[:count]
    labels = pool.labels.copy()
    labels[rows] = (labels[rows] + rng.integers(1, classes, count)) % classes
    return replace(task, pool=replace(pool, labels=labels)), np.isin(np.arange(len(labels)), rows)


def of_canaries(
    task: Task, spec: ShadowSpec, trainings: int, attack: Attack, is_canary: NDArray[np.bool_]
) -> dict[str, float]:
    """Measure what an attack finds of canaries alone, as columns of a row.

    The AUC is a mean over the trainings, with the half-width of its interval. TPRs are of the canaries of all trainings
    together, as so few of one training allow no low FPR: the scores have to be comparable between trainings.
    """
    bank = bank_of(task.pool, load(spec, trainings), spec.seed)
    seen = [attack(evidence_of(task, bank, own))[is_canary] for own in range(trainings)]
    members = bank.trained_on[:, is_canary]
    aucs = np.array([auc(scores, inside) for scores, inside in zip(seen, members, strict=True)])
    row = means({"canary_auc": aucs}, ("canary_auc",))
    for name, fpr in (("canary_tpr_at_1pct_fpr", 0.01), ("canary_tpr_at_01pct_fpr", 0.001)):
        row[name] = tpr_at_fpr(np.concatenate(seen), members.ravel(), fpr)
    return row


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return a mean and the half-width of Student's 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def means(figures: Figures, names: Sequence[str]) -> dict[str, float]:
    """Return means over the trainings and half-widths of their intervals, as columns of a row."""
    row = {}
    for name in names:
        row[name], row[f"{name}_half_width"] = interval(figures[name])
    return row


def less(figures: Figures, others: Figures, names: Sequence[str], what: str) -> dict[str, float]:
    """Return mean differences over the same halves and half-widths of their intervals, as columns of a row."""
    row = {}
    for name in names:
        row[f"{name}_less_{what}"], row[f"{name}_less_{what}_half_width"] = interval(figures[name] - others[name])
    return row


def verdict(difference: float, half: float) -> str:
    """Say whether a difference is positive as published: reproduced, not, or within the noise."""
    word = "reproduced" if difference > half else "not reproduced" if difference < -half else "within the noise"
    return f"{word}: {difference:+.3f} +- {half:.3f}"


def won_back(student: Figures, without: Figures, uncompressed: Figures) -> str:
    """Say whether a student has at least half of the accuracy again that compressing its network cost.

    Args:
        student: The compressed network that learned from a teacher.
        without: The same network that learned from labels, on the same halves.
        uncompressed: The network before.
    """
    cost = float((without["error"] - uncompressed["error"]).mean())
    back, half = interval(without["error"] - student["error"])
    if cost <= 0:
        return f"nothing to win back: the cost is {cost:+.3f}"
    word = "met" if back >= cost / 2 else "not met"
    return f"{word}: {back / cost:.0%} of {cost:.3f}, {back:+.3f} +- {half:.3f}".replace("%", " %")
