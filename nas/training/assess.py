"""Train a candidate once, measure it and attack it. Nothing here knows of Optuna or of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from typing import Any
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn

from estimators.estimate import Estimate
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import accuracy_gap
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr_interval
from estimators.leakage.statistics.between_trainings import Spread
from nas.base.clock import Clock
from nas.records import Records
from nas.records import Splits
from nas.training.between import with_trainings
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import measures_by_class
from nas.training.by_class import never_predicted
from nas.training.defence import Defence
from nas.training.defence import Teach
from nas.training.defence import parted
from nas.training.loop import BATCH_IN_CACHE
from nas.training.loop import Labelled
from nas.training.loop import TrainSetup
from nas.training.loop import ask
from nas.training.loop import compute_device
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.measures import MEASURED
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from
from nas.training.stages import first_of
from nas.training.stages import settled
from nas.training.stages import train_first
from nas.training.stages import train_in_stages
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params

Attack: TypeAlias = Callable[[Evidence], NDArray[np.float64]]
Widen: TypeAlias = Callable[[Estimate, Evidence], Estimate]
Begin: TypeAlias = Callable[[TrainSetup], TrainSetup]
"""Gives a training that is set up, with its defence, the weights it starts from, or leaves it as it is."""
# Larger tensors leave a CPU's cache, smaller ones are all overhead; this many are 64 colour images of 32 x 32.
VALUES_IN_CACHE = 64 * 3 * 32 * 32


@dataclass(frozen=True)
class Candidate:
    """What is trained: a network, a recipe and a defence.

    Attributes:
        architecture: The network.
        recipe: How it is trained.
        defence: Name of the defence, a file of `nas/defences`.
        defence_parameters: One value for each of that defence's parameters, of no other's.
    """

    architecture: Architecture
    recipe: Recipe
    defence: str = "none"
    defence_parameters: Params = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Sixteen hex digits: equal candidates share them, whatever sampled them."""
        parts = [self.architecture.key, self.recipe.identity, self.defence]
        if self.defence_parameters:
            parts.append(dict(self.defence_parameters))
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def first_stage(self) -> Candidate:
        """What is trained first: this candidate itself, unless something is taken away later (`nas.training.stages`).

        Candidates that differ only in what is taken away share it, so one training serves them all.
        """
        first = first_of(self.architecture, self.recipe)
        if first.key == self.architecture.key:
            return self
        return replace(self, architecture=first, recipe=settled(replace(self.recipe, quantization="trained"), first))


@dataclass(frozen=True, eq=False)
class Bench:
    """All that stays fixed while candidates come and go.

    Attributes:
        data: The five record sets. `assess` reads members, non-members and validation, and for a defence that needs
            it a part of the reserve.
        attack: Gives each record a score, higher for members.
        bank: The study's reference networks on members followed by non-members; None for attacks without references.
        defences: The defences that a candidate may name.
        seed: The run's seed; a candidate's own seed comes from this and its key.
        teach: Trains the teacher a defence asks for and returns its logits; a search passes one that caches.
        train_first: Trains the first stage of a candidate that has several; a search passes one that caches.
        named: Metrics that somebody asks for by name; of many classes only the errors of those named are kept.
        spreads: How far trainings lie apart in each measure, which widens the intervals (`nas.training.between`);
            empty for intervals of the network at hand.
        widen: Raises the upper end of the attack's interval to what a stronger attack would find; None leaves it.
    """

    data: Splits
    attack: Attack
    bank: Bank | None
    defences: Mapping[str, Defence]
    seed: int
    teach: Teach = field(default_factory=lambda: train_teacher)
    train_first: Callable[[Candidate, TrainSetup], nn.Module] = field(default_factory=lambda: train_first_stage)
    named: Collection[str] = ()
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    widen: Widen | None = None


@dataclass(frozen=True, eq=False)
class Assessment:
    """What one training and one attack gave.

    Attributes:
        measures: One estimate for each name in `MEASURED`, the errors of single classes, and the guarantee of the
            defence if it has one; intervals are 95 %, and hold what trainings vary by if the bench knows it.
        never_predicted: Classes of validation records that the network names for none of them.
        exits: How many validation records leave at each exit; one number where there is one output.
        network: The trained network, in eval mode.
        seconds: Wall time by phase: `teacher`, `training`, `attack` (one forward pass and the statistics).
    """

    measures: Mapping[str, Estimate]
    never_predicted: tuple[int, ...]
    exits: tuple[int, ...]
    network: nn.Module
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Looks:
    """When a training is looked at before its end, and by whom.

    Attributes:
        epochs: After how many epochs, each fewer than the recipe has.
        judge: Is given that number, and what the network of that moment gave, measured and attacked as one that is
            trained to its end. It ends the training by an exception.
    """

    epochs: Collection[int]
    judge: Callable[[int, Assessment], None]


def is_looked_at(candidate: Candidate) -> bool:
    """Tell whether a candidate's training can be looked at before its end.

    That of a network which is trained in several stages cannot: the first one trains another network, which others
    share, and what is taken away comes last. Nor can one whose pruning tries several ways at once.
    """
    return candidate.first_stage is candidate and candidate.recipe.pruning != "safecompress"


def may_inherit(candidate: Candidate) -> bool:
    """Tell whether a candidate's training can start from the weights of another one, and give its own on.

    That of a network which is trained in several stages cannot, nor one whose zeros move: candidates share what is
    trained first.
    """
    return candidate.first_stage is candidate and not any(op.sparsity for op in candidate.architecture.ops)


def assess(candidate: Candidate, bench: Bench, looks: Looks | None = None, begin: Begin | None = None) -> Assessment:
    """Train a candidate on the members, measure its error, and attack it.

    The error is measured on the validation records; the attack sees the logits of members and non-members without
    being told which is which. The seed comes from the run's seed and the candidate's key, so the numbers do not depend
    on what was assessed before. For the same reason `trainings` counts the candidate's own training and every teacher
    that its defence asked for, also one that another candidate had trained before.

    Args:
        candidate: What to train.
        bench: Data, attack and the rest that stays fixed.
        looks: Looks at the network before its training ends, where that can be (`is_looked_at`). Whatever they see, the
            numbers of a candidate that is trained to its end are the same.
        begin: Gives the training weights to start from; None: it starts from fresh ones.

    Returns:
        The measures, the trained network and the time each phase took.

    Raises:
        nas.training.loop.Diverged: If the training's loss, or a logit afterwards or at a look, is not finite.
        ValueError: If the candidate names a defence that the bench does not have, its guarantee has the name of a
            measure, or a training starts from weights that must not.
    """
    if candidate.defence not in bench.defences:
        raise ValueError(f"no defence {candidate.defence!r} on this bench; there are {sorted(bench.defences)}")
    clock = Clock()
    members, defence = bench.data.members, bench.defences[candidate.defence]
    reserve, _ = for_training(candidate, defence, bench.data.reserve)
    first = candidate.first_stage
    seed = seed_from(bench.seed, first.key)
    setup = set_up(candidate, members.features, members.labels, seed, reserve, groups=members.groups)
    trainings = 1

    def teach(setup: TrainSetup, *, rows: Tensor | None = None, about: Tensor | None = None) -> Tensor:
        nonlocal trainings
        trainings += 1
        return bench.teach(setup, rows=rows, about=about)

    setup = defence.set_up(setup, teach, candidate.defence_parameters)
    if taken := [name for name in setup.guarantee if name in MEASURED or name.startswith(CLASS_ERROR)]:
        raise ValueError(f"expected other names for the guarantee of {candidate.defence!r}; got {sorted(taken)}")
    clock.lap("teacher")
    if begin is not None:
        setup = begin(setup)
        if setup.start is not None and (setup.guarantee or not may_inherit(candidate)):
            raise ValueError(f"expected fresh weights for {candidate.key}: it must not start from those of another one")

    def assessed(network: nn.Module) -> Assessment:
        clock.lap("training")
        return _assessed(candidate, network, bench, {"trainings": trainings, **setup.guarantee}, clock)

    def look(looks: Looks, epochs: int, now: Callable[[], nn.Module]) -> None:
        if epochs in looks.epochs:
            looks.judge(epochs, assessed(now()))

    first_stage = None if first is candidate else partial(bench.train_first, first)
    if looks is not None and is_looked_at(candidate):
        first_stage = partial(train_first, pruning=candidate.recipe.pruning, look=partial(look, looks))
    return assessed(train_in_stages(setup, first_stage))


def _assessed(
    candidate: Candidate, network: nn.Module, bench: Bench, stated: Mapping[str, float], clock: Clock
) -> Assessment:
    """Measure and attack a candidate's network, and add what its defence states and how long all of it took so far."""
    measures, predicted, exits = _measured(network, bench)
    measures |= {name: Estimate.exact(value) for name, value in stated.items()}
    clock.lap("attack")
    counts = tuple(np.bincount(exits, minlength=len(candidate.architecture.outputs)).tolist())
    never = never_predicted(predicted, bench.data.validation)
    return Assessment(measures, never, counts, network, dict(clock.seconds))


def for_training(candidate: Candidate, defence: Defence, reserve: Records) -> tuple[Records | None, Records]:
    """Part the reserve as a candidate's trainings need it: its own, its shadow models', that on all records.

    Args:
        candidate: What is trained.
        defence: Its defence.
        reserve: All of it.

    Returns:
        What its trainings may learn from, or None if neither its defence nor its pruning asks for any; and the records
        that stay unknown to every network, which attacks may know.
    """
    if "reserve" in defence.needs or candidate.recipe.pruning == "safecompress":
        return parted(reserve)
    return None, reserve


def set_up(
    candidate: Candidate,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    seed: int,
    reserve: Records | None = None,
    *,
    groups: NDArray[Any] | None = None,
) -> TrainSetup:
    """Set up a candidate's training on some records, without its defence.

    Args:
        candidate: What to train.
        features: `(records, ...)`.
        labels: `(records,)`.
        seed: Of the training.
        reserve: Records beside them, for a defence or a pruning that needs such (`for_training`).
        groups: `(records,)`, equal for records that belong together, such as one person's; None without groups.
    """
    place = compute_device()
    records, targets = torch.from_numpy(features).to(place), torch.from_numpy(labels).to(place)
    together = None if groups is None else torch.from_numpy(np.unique(groups, return_inverse=True)[1]).to(place)
    setup = plain_setup(candidate.architecture, records, targets, candidate.recipe, seed, groups=together)
    if reserve is None:
        return setup
    beside = Labelled(torch.from_numpy(reserve.features).to(place), torch.from_numpy(reserve.labels).to(place))
    return replace(setup, reserve=beside)


def measure(network: nn.Module, bench: Bench) -> dict[str, Estimate]:
    """Measure a trained network: its errors on validation records, and what the attack gets out of it.

    Args:
        network: In eval mode, as deployed: a quantised network is measured quantised.
        bench: Data, attack and reference bank.

    Returns:
        One estimate for each name in `MEASURES`, which says what each is, but for the trainings; and the errors of
        single classes.
    """
    return _measured(network, bench)[0]


def _measured(network: nn.Module, bench: Bench) -> tuple[dict[str, Estimate], NDArray[np.integer], NDArray[np.integer]]:
    """Return the measures, and of each validation record the network's class and the exit that answers."""
    data = bench.data
    labels = np.concatenate([data.members.labels, data.non_members.labels])
    is_member = np.arange(len(labels)) < len(data.members)
    logits = np.concatenate([outputs(network, part.features) for part in (data.members, data.non_members)])
    evidence = Evidence(logits, labels, bench.bank)
    scores = bench.attack(evidence)
    leakage = auc_interval(scores, is_member)
    answers, exits = asked(network, data.validation.features)
    predicted = answers.argmax(axis=1)
    wrong = int((predicted != data.validation.labels).sum())
    correct = logits.argmax(axis=1) == labels
    measures = {
        "error": proportion_interval(wrong, len(data.validation)),
        **measures_by_class(predicted, data.validation, data.members, bench.named),
        "leakage": leakage if bench.widen is None else bench.widen(leakage, evidence),
        "tpr_at_1pct_fpr": tpr_at_fpr_interval(scores, is_member, fpr=0.01, seed=bench.seed),
        "loss_auc": auc_interval(log_probabilities(logits, labels), is_member),
        "accuracy_gap": accuracy_gap(correct, is_member),
    }
    return with_trainings(measures, bench.spreads), predicted, exits


def train_first_stage(first: Candidate, setup: TrainSetup) -> nn.Module:
    """Train the first stage of a candidate.

    Args:
        first: The stage as a candidate of its own.
        setup: Describes its training.
    """
    return train_first(setup, pruning=first.recipe.pruning)


def train_teacher(setup: TrainSetup, *, rows: Tensor | None = None, about: Tensor | None = None) -> Tensor:
    """Train the teacher that a set-up describes and ask it; see `nas.training.defence.Teach`.

    Teachers of different rows have different seeds. A teacher is pruned as its recipe says, with the set-up's reserve.
    """
    features, targets, seed = setup.features, setup.targets, setup.seed
    if rows is not None:
        features, targets, seed = features[rows], targets[rows], seed_from(seed, *rows.tolist())
    plain = plain_setup(setup.architecture, features, targets, setup.recipe, seed)
    network = train_in_stages(replace(plain, reserve=setup.reserve))
    logits = logits_of(network, setup.features if about is None else about)
    return torch.from_numpy(logits).to(setup.features.device)


def outputs(network: nn.Module, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a network's logits `(records, classes)` in eval mode, in batches that fit a CPU's cache."""
    return asked(network, features)[0]


def asked(network: nn.Module, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the same, and which exit answers for each record: `(records,)`."""
    batch_size = max(BATCH_IN_CACHE, VALUES_IN_CACHE // features[0].size)
    return ask(network, torch.from_numpy(features).to(compute_device()), batch_size)
