"""What every candidate of a search is measured with, and the weights it leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn

from estimators.estimate import Estimate
from nas.base import files
from nas.base import locks
from nas.base import plugins
from nas.base.weights import read_weights
from nas.base.weights import write_weights
from nas.search.plan import Plan
from nas.search.storage import weights_path
from nas.search.tabulated import Tabulated
from nas.training.assess import Begin
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import Looks
from nas.training.assess import assess
from nas.training.assess import for_training
from nas.training.assess import set_up
from nas.training.assess import train_first_stage
from nas.training.assess import train_teacher
from nas.training.bank import build_bank
from nas.training.bank import cached_logits
from nas.training.between import spreads_of
from nas.training.defence import deployed_network
from nas.training.inheritance import started
from nas.training.loop import TrainSetup
from nas.training.loop import plain_setup
from nas.training.loop import training_version
from nas.training.schedule import seed_from
from nas.training.stages import settled
from nas.training.stages import train_in_stages


@dataclass(frozen=True)
class Evaluated:
    """A candidate that was trained, measured and attacked, its weights kept; or looked up in a table.

    Attributes:
        measures: One estimate for each name in `nas.training.assess.MEASURED`, and what comes beside them; those of a
            table are its columns.
        seconds: Wall time by phase.
        weights: SHA-256 in hex of the file with the weights that were measured; None of a table's.
        never_predicted: Classes of validation records that the network names for none of them.
        exits: How many validation records leave at each exit; one number where there is one output.
    """

    measures: Mapping[str, Estimate]
    seconds: Mapping[str, float]
    weights: str | None
    never_predicted: tuple[int, ...] = ()
    exits: tuple[int, ...] = (1,)


def evaluate(
    plan: Plan, bench: Bench, candidate: Candidate, looks: Looks | None = None, begin: Begin | None = None
) -> Evaluated:
    """Assess a candidate and keep its weights in the run's folder.

    Args:
        plan: The search.
        bench: What all candidates are measured with.
        candidate: What to train.
        looks: Looks at its network before its training ends, and may end it.
        begin: Gives its training the weights it starts from; None: fresh ones.

    Raises:
        nas.training.loop.Diverged: If its training diverged.
    """
    assessment = assess(candidate, bench, looks, begin)
    digest = write_weights(weights_path(plan.folder, candidate.key), assessment.network)
    found = assessment
    return Evaluated(found.measures, found.seconds, digest, found.never_predicted, found.exits)


def looked_up(table: Tabulated, candidate: Candidate) -> Evaluated:
    """Return a candidate's figures from a table; those of costs, too, as the study holds them."""
    figures = table.figures(candidate.architecture.params)
    return Evaluated({name: Estimate.exact(value) for name, value in figures.items()}, {}, None)


def make_bench(plan: Plan) -> Bench:
    """Build the reference bank, or fetch it, and put together what every candidate is measured with."""
    bank = build_bank(plan.bank, plan.cache_folder) if plan.needs_bank else None
    fewest = plugins.find("estimators.leakage.attacks", plan.config.attack, "MIN_REFERENCES")
    return Bench(
        data=plan.data,
        attack=plan.attack,
        bank=bank,
        defences=plan.defences,
        seed=plan.config.seed,
        teach=partial(cached_teacher, plan),
        train_first=partial(cached_first_stage, plan),
        named=frozenset([*plan.config.objectives, *plan.config.budgets]),
        spreads=spreads_of(bank, plan.attack, fewest),
        widen=plan.widen,
    )


def from_other_seeds(plan: Plan, bench: Bench, repetition: int) -> Bench:
    """Return a bench that trains what another one trains from other seeds, and measures it alike.

    Teachers and first stages are trained anew too: a network that is trained anew has others. All candidates of one
    repetition share them, as they share those of the search. Intervals are of the records alone.

    Args:
        plan: The search.
        bench: What its candidates are measured with.
        repetition: From 1; 0 would be the search's own training.
    """
    seed = seed_from(plan.config.seed, "repetition", repetition)
    return replace(bench, seed=seed, teach=partial(cached_teacher, plan, run_seed=seed), spreads={})


def train_line(
    plan: Plan,
    line: Sequence[Candidate],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *purpose: str,
    groups: NDArray[Any] | None = None,
) -> tuple[TrainSetup, nn.Module]:
    """Train a candidate of a search anew on any records, and before it all whose weights it starts from, on the same.

    Args:
        plan: The search.
        line: The candidate, its forebears before it, the oldest first.
        features: `(records, ...)`.
        labels: `(records,)`.
        purpose: What the training is for; seeds come from the run's, the candidate's key and this.
        groups: `(records,)`, equal for records that belong together, such as one person's; None without groups.

    Returns:
        The candidate's training and its network.

    Raises:
        nas.training.loop.Diverged: If a training diverged.
    """
    begin: Begin | None = None
    for candidate in line:
        defence = plan.defences[candidate.defence]
        reserve, _ = for_training(candidate, defence, plan.data.reserve)
        seed = seed_from(plan.config.seed, candidate.key, *purpose)
        setup = set_up(candidate, features, labels, seed, reserve, groups=groups)
        setup = defence.set_up(setup, partial(cached_teacher, plan), candidate.defence_parameters)
        if begin is not None:
            setup = begin(setup)
        network = train_in_stages(setup)
        begin = partial(started, parent=candidate.architecture, weights=network.state_dict())
    return setup, network


def cached_first_stage(plan: Plan, first: Candidate, setup: TrainSetup) -> nn.Module:
    """Return the network of a first stage, training it once: candidates that differ in what is removed share theirs.

    Args:
        plan: The search.
        first: The stage as a candidate of its own.
        setup: Describes its training.
    """
    defence = plan.defences[first.defence].digest
    teacher = "" if plan.teacher is None else plan.teacher.key  # a fixed one is not in the candidate's key
    what = f"{plan.data.fingerprint} {first.key} {setup.seed} {defence} {teacher} {training_version()}"
    if setup.guarantee:  # of all stages: where another stage follows, the same promise takes more noise in the first
        what += f" {json.dumps(dict(setup.guarantee), sort_keys=True)}"
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = plan.cache_folder / f"first-{name}.safetensors"
    files.private_folder(path.parent)
    with locks.held(path.with_suffix(".lock")):
        network = deployed_network(first.architecture, first.defence, first.defence_parameters)
        if path.exists():
            with suppress(ValueError, RuntimeError):  # a disk that lost power leaves a damaged file
                network.load_state_dict(read_weights(path))
                return network.eval().to(setup.features.device)
        trained = train_first_stage(first, setup)
        write_weights(path, trained, files.OWNER)
    return trained


def cached_teacher(
    plan: Plan,
    setup: TrainSetup,
    *,
    rows: Tensor | None = None,
    about: Tensor | None = None,
    run_seed: int | None = None,
) -> Tensor:
    """Return a teacher's logits, training it once per study: candidates that differ only in bits share theirs.

    Args:
        plan: The search; if it has a teacher for all, that one is trained in place of the set-up's network.
        setup: Describes the teacher.
        rows: Rows it is trained on; None: all.
        about: Features it is asked about; None: the set-up's.
        run_seed: What its seed comes from, beside its key; None: the run's seed.
    """
    teacher = plan.teacher or Candidate(setup.architecture, settled(setup.recipe, setup.architecture))
    seed = seed_from(plan.config.seed if run_seed is None else run_seed, teacher.key)
    what = f"{plan.data.fingerprint} {teacher.key} {seed} {training_version()}"
    what += _other_records(plan, setup, rows, about)
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = plan.cache_folder / f"teacher-{name}.npz"
    files.private_folder(path.parent)
    plain = plain_setup(teacher.architecture, setup.features, setup.targets, teacher.recipe, seed)
    described = replace(plain, reserve=setup.reserve)
    with locks.held(path.with_suffix(".lock")):
        logits = cached_logits(path, lambda: train_teacher(described, rows=rows, about=about).cpu().numpy())
    return torch.from_numpy(logits).to(setup.features.device)


def _other_records(plan: Plan, setup: TrainSetup, rows: Tensor | None, about: Tensor | None) -> str:
    """Name what a teacher is trained on and asked about, unless both are the members, all of them."""
    parts: list[Tensor | None] = [rows, about]
    members = plan.data.members
    if not _equal(setup.features, members.features) or not _equal(setup.targets, members.labels):
        parts += [setup.features, setup.targets]
    if all(part is None for part in parts):
        return ""
    digest = hashlib.sha256()
    for part in parts:
        values = np.zeros(0) if part is None else np.ascontiguousarray(part.cpu().numpy())
        digest.update(f"{values.shape} {values.dtype}".encode())
        digest.update(values.data)
    return f" {digest.hexdigest()}"


def _equal(ours: Tensor, members: NDArray[Any]) -> bool:
    return np.array_equal(ours.cpu().numpy(), members)
