"""Shadow models: networks trained like the audited one, on other records, to see how such a network treats members.

A shadow model has the audited network's architecture, recipe, defence and number of training records. Each is trained
on a random half of the audited records, in complementary pairs, so that every record is left out by half of them. Where
records belong to groups, such as people, whole groups are in one half.
Training records of the audited network that are not under audit are used by every shadow model too. Weights are kept
and not logits, so that an attack can ask the shadow models whatever it asks the audited network, and post-training
versions of them need no training. Each has a file of its own, named by a key of data, candidate, seed and training
version: an audit with 64 shadow models reuses 16 that exist, and several processes share the work.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import cached_property
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Oracle
from nas.audit.findings import Origin
from nas.audit.oracles import of_network
from nas.base import files
from nas.base import locks
from nas.base import processes
from nas.base.weights import read_weights
from nas.base.weights import write_weights
from nas.records import Records
from nas.training.assess import Candidate
from nas.training.assess import set_up
from nas.training.assess import train_teacher
from nas.training.bank import halves
from nas.training.defence import deployed_network
from nas.training.defence import load_defence
from nas.training.inheritance import started
from nas.training.loop import TrainSetup
from nas.training.loop import compute_device
from nas.training.loop import training_version
from nas.training.safecompress import SHORTEST
from nas.training.safecompress import updates_in
from nas.training.schedule import seed_from
from nas.training.stages import FirstStage
from nas.training.stages import train_in_stages
from search_spaces.network import Network


@dataclass(frozen=True, eq=False)
class Pool:
    """Records under audit, and the other training records of the audited network.

    Attributes:
        features: `(records, ...)` float32; the audited records first.
        labels: `(records,)`.
        is_member: `(audited,)`: which of the audited records the network was trained on, one half of them.
        origin: What the user calls the audited records and the classes; no part of what decides a shadow model.
        groups: `(records,)`, equal for records that stay together, such as one person's; None without groups. A group
            with audited records is in one half with all that it has here, and the halves differ by less than a group.

    Raises:
        ValueError: If groups and records do not fit each other, or not exactly half of the audited records are members.
            Shadow models are trained on halves; they would see more or fewer records than the network, and leakage
            falls as that number grows.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_member: NDArray[np.bool_]
    origin: Origin = field(default_factory=Origin)
    groups: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise ValueError(f"expected groups {self.labels.shape}; got {self.groups.shape}")
        if 2 * int(self.is_member.sum()) != len(self.is_member) or len(self.is_member) > len(self.labels):
            raise ValueError(
                f"expected as many audited members as non-members; got {int(self.is_member.sum())} members of "
                f"{len(self.is_member)}"
            )

    @property
    def audited(self) -> slice:
        """The rows under audit."""
        return slice(len(self.is_member))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the records and of which are members."""
        digest = hashlib.sha256(np.ascontiguousarray(self.features).data)
        digest.update(self.labels.tobytes())
        digest.update(self.is_member.tobytes())
        if self.groups is not None:
            digest.update(np.unique(self.groups, return_inverse=True)[1].astype(np.int64).tobytes())
        return digest.hexdigest()

    def trained_on(self, shadow: int, seed: int) -> NDArray[np.bool_]:
        """Tell which audited records a shadow model is trained on: `(audited,)`."""
        groups = None if self.groups is None else self.groups[self.audited]
        return halves(len(self.is_member), shadow, seed, groups)

    def rows(self, shadow: int, seed: int) -> NDArray[np.intp]:
        """Return the rows that a shadow model is trained on: its half, and those that are not under audit.

        Of the latter, those of a group that is under audit go with their group.
        """
        half = self.trained_on(shadow, seed)
        others = np.arange(len(self.is_member), len(self.labels))
        if self.groups is not None:
            audited = self.groups[self.audited]
            others = others[~np.isin(self.groups[others], audited[~half])]
        return np.concatenate([np.flatnonzero(half), others])


@dataclass(frozen=True, eq=False)
class ShadowSpec:
    """What decides the shadow models of a candidate.

    Attributes:
        pool: The records.
        candidate: Architecture, recipe, defence and its parameters: those of the audited network.
        seed: Seed of the halves and of the trainings; different from the search's.
        folder: Folder of their weights.
        reserve: Records beside the members that the audited network's training had; every shadow's has them too. None
            for one that needs none (`nas.training.assess.for_training`).
        teacher: What every teacher of the audited network was; None: what its defence asked for. A shadow's teachers
            are of the same kind and learn from the shadow's own records.
        parent: The shadow models of the candidate whose weights the audited network started from; each shadow starts
            from the one of its number, which has learned from the same records. None: all start from fresh weights.
    """

    pool: Pool
    candidate: Candidate
    seed: int
    folder: Path
    reserve: Records | None = None
    teacher: Candidate | None = None
    parent: ShadowSpec | None = None
    key: str = field(init=False)

    def __post_init__(self) -> None:
        defence = load_defence(self.candidate.defence).digest
        parts = [self.pool.fingerprint, self.candidate.key, defence, self.seed, training_version()]
        if self.reserve is not None:
            parts.append(_fingerprint(self.reserve))
        if self.teacher is not None:
            parts.append(f"teacher {self.teacher.key}")
        if self.parent is not None:
            parts.append(f"parent {self.parent.key}")
        object.__setattr__(self, "key", hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16])

    def path(self, shadow: int) -> Path:
        """Return the file of a shadow model's weights."""
        return self.folder / f"shadow-{self.key}-{shadow}.safetensors"

    def missing(self, count: int) -> list[int]:
        """Return which of the first `count` shadow models are not trained yet."""
        return [shadow for shadow in range(count) if not self.path(shadow).exists()]


def train_shadow(spec: ShadowSpec, shadow: int) -> None:
    """Train one shadow model and write its weights, unless another process has done or is doing it.

    Raises:
        nas.training.loop.Diverged: If the loss is not finite.
    """
    path = spec.path(shadow)
    files.private_folder(path.parent)
    with locks.held(path.with_suffix(".lock")):
        if not path.exists():
            write_weights(path, _trained(spec, shadow), files.OWNER)


def train_missing(specs: Sequence[ShadowSpec], count: int, *, workers: int | None = None) -> Iterator[ShadowSpec]:
    """Train the missing ones of `count` shadow models of each kind, and yield the kind of each when it is done.

    Args:
        specs: One kind of shadow models for each audited network.
        count: How many of each; an even number.
        workers: Processes with one thread each; None: one for each core.

    Raises:
        ValueError: If the count is odd or below 2.
        nas.training.loop.Diverged: If a training diverged.
    """
    if count < 2 or count % 2:
        raise ValueError(f"expected an even number of shadow models, at least 2; got {count}")
    items = [(kind, shadow) for kind, spec in enumerate(specs) for shadow in spec.missing(count)]
    crew = min(workers or processes.cores(), len(items))
    done = processes.share_out(_train_one, list(specs), items, workers=crew) if crew > 1 else _here(specs, items)
    for kind, _ in done:
        yield specs[kind]


def seconds_each(spec: ShadowSpec) -> float:
    """Estimate the seconds that one shadow model's training takes on one core, from an epoch of it and of its teachers.

    Where attackers test branches, from one update too; where it starts from others' weights, their trainings count.
    """
    earlier = 0.0 if spec.parent is None else seconds_each(spec.parent)
    recipe = spec.candidate.recipe
    of_teachers = recipe if spec.teacher is None else spec.teacher.recipe
    # The first time includes what torch sets up once.
    first, again = (_seconds(spec, 1) for _ in range(2))
    taught, epoch = min(first[0], again[0]), min(first[1], again[1])
    updates = updates_in(recipe.epochs) if recipe.pruning == "safecompress" else 0
    update = max(0.0, _seconds(spec, SHORTEST)[1] - SHORTEST * epoch) if updates else 0.0
    return earlier + taught * of_teachers.epochs + epoch * recipe.epochs + update * updates


def load(spec: ShadowSpec, count: int) -> list[Network]:
    """Return shadow models with their weights, in eval mode. If a file cannot be read, its model is trained again."""
    return [_fetched(spec, shadow) for shadow in range(count)]


def _fetched(spec: ShadowSpec, shadow: int) -> Network:
    candidate = spec.candidate
    network = deployed_network(candidate.architecture, candidate.defence, candidate.defence_parameters)
    for _ in range(2):
        with suppress(ValueError, RuntimeError):
            network.load_state_dict(read_weights(spec.path(shadow)))
            break
        spec.path(shadow).unlink(missing_ok=True)  # a power cut can leave a damaged file
        train_shadow(spec, shadow)
    return network.to(compute_device()).eval()


def trained_on(
    spec: ShadowSpec,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    seed: int,
    first_stage: FirstStage | None = None,
    *,
    groups: NDArray[Any] | None = None,
) -> torch.nn.Module:
    """Train a network of the candidate's kind, its defence included, on any records.

    All whose weights it starts from are trained on the same records before.

    Args:
        spec: Of the candidate.
        features: `(records, ...)`.
        labels: `(records,)`.
        seed: Of the training.
        first_stage: Fetches the first stage of a candidate that has several (`nas.training.stages`); None: trained.
        groups: `(records,)`, equal for records that belong together, such as one person's; None without groups.

    Raises:
        nas.training.loop.Diverged: If the loss is not finite.
    """
    if spec.parent is None:
        return train_in_stages(_defended(spec, features, labels, seed, groups), first_stage)
    before = seed_from(seed, spec.parent.candidate.key)
    parent = trained_on(spec.parent, features, labels, before, groups=groups)
    return train_in_stages(_started(spec, _defended(spec, features, labels, seed, groups), parent))


def bank_of(
    pool: Pool,
    networks: Sequence[torch.nn.Module],
    seed: int,
    asked: Callable[[Any], Oracle] = of_network,
) -> Bank:
    """Return the answers of shadow models about the audited records, as a bank.

    Args:
        pool: The records.
        networks: The first shadow models, in order, in eval mode.
        seed: The seed of their `ShadowSpec`.
        asked: Makes an oracle of each: of the network, or of a file that is written of it.
    """
    oracles = tuple(map(asked, networks))
    features = pool.features[pool.audited]
    logits = np.stack([oracle.query(features) for oracle in oracles])
    exits = [oracle.exits(features) for oracle in oracles if oracle.exits is not None]
    trained_on = np.stack([pool.trained_on(shadow, seed) for shadow in range(len(networks))])
    return Bank(logits, trained_on, pool.labels[pool.audited], oracles, np.stack(exits) if exits else None)


def _defended(
    spec: ShadowSpec,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    seed: int,
    groups: NDArray[Any] | None,
) -> TrainSetup:
    """Set up a training with the candidate's defence, whose teachers are trained now."""
    candidate = spec.candidate
    setup = set_up(candidate, features, labels, seed, spec.reserve, groups=groups)
    defence = load_defence(candidate.defence)
    return defence.set_up(setup, partial(_teach, spec.teacher), candidate.defence_parameters)


def _seconds(spec: ShadowSpec, epochs: int) -> tuple[float, float]:
    """Measure the seconds of some epochs: of the teachers, and of the shadow model itself."""
    teacher = None if spec.teacher is None else _shortened(spec.teacher, epochs)
    short = replace(spec, candidate=_shortened(spec.candidate, epochs), teacher=teacher)
    features, labels, groups = _records_of(spec, 0)
    since = time.perf_counter()
    setup = _defended(short, features, labels, spec.seed, groups)
    between = time.perf_counter()
    # All stages, none of them kept: what was kept before would seem to take no time.
    train_in_stages(setup, None)
    return between - since, time.perf_counter() - between


def _shortened(candidate: Candidate, epochs: int) -> Candidate:
    return replace(candidate, recipe=replace(candidate.recipe, epochs=epochs))


def _records_of(spec: ShadowSpec, shadow: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[Any] | None]:
    """Return features, labels and groups of the records that a shadow model is trained on."""
    pool = spec.pool
    rows = pool.rows(shadow, spec.seed)
    return pool.features[rows], pool.labels[rows], None if pool.groups is None else pool.groups[rows]


def _train_one(specs: Sequence[ShadowSpec], item: tuple[int, int]) -> None:
    kind, shadow = item
    train_shadow(specs[kind], shadow)


def _here(specs: Sequence[ShadowSpec], items: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for item in items:
        _train_one(specs, item)
        yield item


def _trained(spec: ShadowSpec, shadow: int) -> torch.nn.Module:
    features, labels, groups = _records_of(spec, shadow)
    first = spec.candidate.first_stage
    seed = seed_from(spec.seed, spec.pool.fingerprint, first.key, shadow)
    if spec.parent is not None:
        train_shadow(spec.parent, shadow)
        setup = _defended(spec, features, labels, seed, groups)
        return train_in_stages(_started(spec, setup, _fetched(spec.parent, shadow)))
    fetch = None if first is spec.candidate else partial(_first_stage, replace(spec, candidate=first), shadow)
    return trained_on(spec, features, labels, seed, fetch, groups=groups)


def _started(spec: ShadowSpec, setup: TrainSetup, parent: torch.nn.Module) -> TrainSetup:
    """Let a training start from the weights of a shadow model of the candidate's parent."""
    assert spec.parent is not None  # or there is none
    return started(setup, spec.parent.candidate.architecture, parent.state_dict())


def _first_stage(spec: ShadowSpec, shadow: int, _setup: TrainSetup) -> torch.nn.Module:
    """Fetch the first stage of a shadow model, which is one of the candidate without what is taken away later."""
    train_shadow(spec, shadow)
    return _fetched(spec, shadow)


def _teach(teacher: Candidate | None, setup: TrainSetup, **asked: Tensor | None) -> Tensor:
    """Train a shadow's teacher: the fixed one of all candidates if there is one."""
    if teacher is not None:
        setup = replace(setup, architecture=teacher.architecture, recipe=teacher.recipe)
    return train_teacher(setup, **asked)


def _fingerprint(records: Records) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(records.features).data)
    digest.update(records.labels.tobytes())
    return digest.hexdigest()
