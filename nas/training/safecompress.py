"""SafeCompress: sparse training in which a simulated attacker chooses how the zeros move.

Zhu, Wang and Han, 2022, "Safety and Performance, Why Not Both? Bi-Objective Optimized Model Compression toward AI
Software Deployment" (ASE). A network has its zeros from the start. At an update, several branches leave the current
network, one for each strategy: a rule by which weights are given up, and a rule by which as many zeros may grow. Each
branch is trained on the same batches as the others, and is tested:

- its task accuracy is that on the reference records, which are labelled and in no training;
- its attack accuracy is that of an attacker (`estimators.leakage.shared.simulated_attacker`) which knows half of the
  members and half of as many reference records, and judges the other halves, by softmax outputs and label.

The branch with the largest task accuracy over attack accuracy goes on: its weights, its zeros, and what its optimizer
remembers. An attack accuracy below a half counts as a half: nobody is safer than where an attacker guesses.

The steps of a branch are steps of the recipe, with the batches and rates that any training would have then, so that the
network which comes out was trained for as many epochs as by any other pruning. Reference records are the part of the
reserve that a defence may use (`nas.training.defence.parted`); attacks take the other part for records of no training.
Of a network with early exits the last one is tested: who leaves earlier is settled after the training.

What it costs: at most three updates, with eight strategies each. So a training has 24 attackers or fewer, each trained
for 20 epochs on 1,000 records or fewer: 20 to 160 steps of 11 ms on one core, whatever the network. And its branches
take 21 epochs more than the recipe has, three times as many where an epoch has three steps. Attackers take most of the
time of small networks: 94 % of 17 seconds for a perceptron on Location-30, which one strategy alone trains in 0.4;
58 % of 42 seconds for a convolutional network on CIFAR-10, instead of 12 (1,000 members; `benchmarks/safecompress.py`).
Shadow models of an audit take as long.

What the published code leaves open is decided here. It has one strategy and does not choose; it measures accuracies on
test records. The share of weights that an update moves falls from 0.5 to 0 over the training by a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators.leakage.shared.simulated_attacker import attacker_features
from estimators.leakage.shared.simulated_attacker import learner
from nas.training.loop import Batch
from nas.training.loop import Diverged
from nas.training.loop import Labelled
from nas.training.loop import Step
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import outputs_of
from nas.training.schedule import seed_from
from nas.training.schedule import steps_per_epoch
from nas.training.sparse import exchanged
from nas.training.sparse import holding
from nas.training.sparse import random_masks

UPDATES, MOVED = 3, 0.5
SHORTEST = 4
"""Epochs of the shortest training with an update."""
# Branches that were trained for fewer steps are too much alike, and their new weights too small, to be compared.
BRANCH_STEPS = 8
ATTACKER_EPOCHS, ATTACKER_RECORDS, ATTACKER_BATCH = 20, 1000, 128
FEWEST_RECORDS = 4
GUESSING = 0.5


@dataclass(frozen=True, eq=False)
class Layer:
    """What the rules know of a layer when its zeros are moved; all tensors are of the weight's shape.

    Attributes:
        weight: Its weights.
        gradient: The gradient of the last step, that of zeros too.
        momentum: The running mean of gradients that the optimizer keeps, that of zeros too.
        was_active: Where weights have been other than zero at any time of the training.
        noise: Numbers from 0 to 1, the same for all strategies of an update.
    """

    weight: Tensor
    gradient: Tensor
    momentum: Tensor
    was_active: Tensor
    noise: Tensor


Rule: TypeAlias = Callable[[Layer], Tensor]
PRUNE_RULES: Mapping[str, Rule] = {
    "magnitude": lambda layer: layer.weight.abs(),
    "saliency": lambda layer: (layer.weight * layer.gradient).abs(),
}
"""What a weight is worth: the least are given up. Saliency is by how much the loss would change, to first order."""
GROW_RULES: Mapping[str, Rule] = {
    "random": lambda layer: layer.noise,
    "gradient": lambda layer: layer.gradient.abs(),
    "momentum": lambda layer: layer.momentum.abs(),
    # Where too few were never active, any of the others.
    "never_active": lambda layer: layer.noise - layer.was_active.to(layer.noise.dtype),
}
"""What a zero promises: the largest grow."""


@dataclass(frozen=True)
class Strategy:
    """A way to move zeros.

    Attributes:
        prune: One of `PRUNE_RULES`.
        grow: One of `GROW_RULES`.
    """

    prune: str
    grow: str


STRATEGIES = tuple(Strategy(*rules) for rules in product(PRUNE_RULES, GROW_RULES))


@dataclass(frozen=True)
class Outcome:
    """What a test of a branch gave.

    Attributes:
        task_accuracy: On reference records.
        attack_accuracy: Of the simulated attacker, on members and reference records that it did not learn from.
    """

    task_accuracy: float
    attack_accuracy: float

    @property
    def score(self) -> float:
        """Safety and performance in one number: higher is better.

        >>> Outcome(0.9, 0.6).score, Outcome(0.5, 0.4).score
        (1.5, 1.0)
        """
        return self.task_accuracy / max(self.attack_accuracy, GUESSING)


Test: TypeAlias = Callable[[Training], Outcome]
"""Tests the network of a training as it is, and leaves it in train mode."""
FAILED = Outcome(0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Branch:
    """One way on from the current network.

    Attributes:
        masks: By a weight's name: where it may be other than zero.
        state: Copies of all tensors of its network and its optimizer.
    """

    masks: Mapping[str, Tensor]
    state: Sequence[Tensor]


def branching(
    setup: TrainSetup,
    strategies: Sequence[Strategy] = STRATEGIES,
    make_test: Callable[[TrainSetup], Test] | None = None,
) -> TrainSetup:
    """Return the set-up that is trained with zeros which move as the module says.

    A step of its own that a defence makes is taken for each branch in turn; what it remembers beside network and
    optimizer the branches share. A watch that is called while there are branches sees one of them.

    Args:
        setup: The training, its defence included.
        strategies: What is tried at each update; a single one is not tested.
        make_test: Makes the test; None: that of the module.

    Raises:
        ValueError: If there are too few members or reference records, or the defence guarantees something, which the
            tests on members would break.
    """
    _check(setup)
    step = partial(_step, inner=setup.make_step, strategies=strategies, test=(make_test or attacker_test)(setup))
    return replace(setup, make_step=step)


def updates_in(epochs: int) -> int:
    """Return how many updates there are in a training.

    >>> [updates_in(epochs) for epochs in (2, 4, 6, 20)]
    [0, 1, 2, 3]
    """
    return max(0, min(UPDATES, epochs // 2 - 1))


def updates_of(epochs: int, steps: int) -> tuple[tuple[int, ...], int]:
    """Return the epochs before which branches leave, and for how many epochs there are branches.

    There is an epoch without branches before each update, whose last gradients the rules read.

    Args:
        epochs: Of the training.
        steps: In an epoch.

    >>> updates_of(20, 16), updates_of(40, 3), updates_of(4, 3)
    (((5, 10, 15), 1), ((10, 20, 30), 3), ((2,), 1))
    """
    count = updates_in(epochs)
    apart = epochs // (count + 1)
    starts = tuple(update * epochs // (count + 1) for update in range(1, count + 1))
    return starts, max(1, min(-(-BRANCH_STEPS // steps), apart - 1))


def halves_of(count: int, chosen: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose records at random and halve them: those an attacker learns from, and those it judges.

    Args:
        count: How many records there are.
        chosen: How many are chosen; of an odd number one is left out.
        seed: Of the choice.

    >>> learned, judged = halves_of(10, 6, seed=0)
    >>> len(learned), len(judged), len({*learned.tolist(), *judged.tolist()})
    (3, 3, 6)
    """
    order = np.random.default_rng(seed).permutation(count)
    half = min(chosen, count) // 2
    return order[:half], order[half : 2 * half]


def attacker_test(setup: TrainSetup) -> Test:
    """Return the test of a set-up's branches: task accuracy, and that of an attacker trained for each of them."""
    assert setup.members is not None
    assert setup.reserve is not None
    members, beside = setup.members, setup.reserve
    chosen = min(len(members.labels), len(beside.labels), ATTACKER_RECORDS)
    known = halves_of(len(members.labels), chosen, seed_from(setup.seed, "known members"))
    others = halves_of(len(beside.labels), chosen, seed_from(setup.seed, "reference records"))
    asked = torch.from_numpy(np.concatenate(known)).to(members.features.device)
    suspects = Labelled(members.features[asked], members.labels[asked])
    half = len(known[0])
    steps = ATTACKER_EPOCHS * -(-2 * half // ATTACKER_BATCH)

    def test(training: Training) -> Outcome:
        try:
            inside, outside = _answers(training, suspects.features), _answers(training, beside.features)
        except Diverged:
            return FAILED
        of_members = attacker_features(inside, _numbers(suspects.labels))
        of_others = attacker_features(outside, _numbers(beside.labels))
        learned = np.concatenate([of_members[:half], of_others[others[0]]])
        judged = np.concatenate([of_members[half:], of_others[others[1]]])
        is_member = np.arange(2 * half) < half
        nobody = np.zeros(2 * half, dtype=np.int64)  # labels are among the features
        odds = learner(steps)(learned, nobody, is_member)(judged, nobody)
        accuracy = float((outside.argmax(axis=1) == _numbers(beside.labels)).mean())
        return Outcome(accuracy, float(((odds > 0) == is_member).mean()))

    return test


def _check(setup: TrainSetup) -> None:
    members, beside = setup.members, setup.reserve
    if members is None or beside is None:
        raise ValueError(
            "expected records beside the members, for an attacker to learn from, with pruning='safecompress'; got none"
        )
    if min(len(members.labels), len(beside.labels)) < FEWEST_RECORDS:
        raise ValueError(
            f"expected at least {FEWEST_RECORDS} members, and as many records beside them, for pruning='safecompress'; "
            f"got {len(members.labels)} and {len(beside.labels)}"
        )
    if setup.guarantee:
        raise ValueError(
            "expected a defence without a guarantee with pruning='safecompress', whose tests on members break any; "
            f"got {sorted(setup.guarantee)}"
        )


def _step(training: Training, inner: Callable[[Training], Step], strategies: Sequence[Strategy], test: Test) -> Step:
    """Return the step that trains one network or, for some epochs after each update, a branch for each strategy."""
    setup = training.setup
    steps = steps_per_epoch(len(setup.features), setup.recipe.batch_size)
    starts, length = updates_of(setup.recipe.epochs, steps)
    to_come = list(starts)
    step, masks = inner(training), random_masks(training)
    was_active = {name: mask.clone() for name, mask in masks.items()}
    branches: list[Branch] = []
    left = 0
    holding(masks, training)()

    def branched(batch: Batch) -> Tensor:
        nonlocal branches, left, masks
        if to_come and batch.epoch == to_come[0]:
            share = MOVED / 2 * (1 + math.cos(math.pi * to_come.pop(0) / setup.recipe.epochs))
            layers = _layers(training, was_active, seed_from(setup.seed, "moved", batch.epoch))
            branches = [_leave(training, strategy, masks, layers, share) for strategy in strategies]
            left = length * steps
        if not branches:
            return _held(training, step, batch, masks)
        losses = [_onwards(training, step, batch, branch, is_last=branch is branches[-1]) for branch in branches]
        left -= 1
        if left:
            return losses[-1]
        chosen = _best(training, branches, test)
        masks = dict(branches[chosen].masks)
        for name, mask in masks.items():
            was_active[name] |= mask
        _put(training, branches[chosen].state)
        branches = []
        return losses[chosen]

    return branched


def _best(training: Training, branches: Sequence[Branch], test: Test) -> int:
    """Return the number of the branch with the largest score; of equal ones the first."""
    if len(branches) == 1:
        return 0
    scores = []
    for branch in branches:
        _put(training, branch.state)
        scores.append(test(training).score)
    return int(np.argmax(scores))


def _leave(
    training: Training, strategy: Strategy, masks: Mapping[str, Tensor], layers: Mapping[str, Layer], share: float
) -> Branch:
    """Move zeros by a strategy; weights that are given up become zero."""
    worth, promise = PRUNE_RULES[strategy.prune], GROW_RULES[strategy.grow]
    moved = {
        name: exchanged(mask, worth(layers[name]), _reached(layers[name], promise(layers[name])), share)
        for name, mask in masks.items()
    }
    return Branch(moved, [tensor.clone() for tensor in _tensors(training)])


def _reached(layer: Layer, promise: Tensor) -> Tensor:
    """Put zeros last that no gradient has reached: they would stay zero, and there would be more than wanted."""
    return torch.where(layer.momentum == 0, torch.finfo(promise.dtype).min, promise)


def _onwards(training: Training, step: Step, batch: Batch, branch: Branch, *, is_last: bool) -> Tensor:
    """Take a step of a branch; all of them draw the same random numbers."""
    _put(training, branch.state)
    holding(branch.masks, training)()
    with nullcontext() if is_last else torch.random.fork_rng():
        loss = _held(training, step, batch, branch.masks)
    for kept, tensor in zip(branch.state, _tensors(training), strict=True):
        kept.copy_(tensor)
    return loss


def _held(training: Training, step: Step, batch: Batch, masks: Mapping[str, Tensor]) -> Tensor:
    loss = step(batch)
    holding(masks, training)()
    return loss


def _layers(training: Training, was_active: Mapping[str, Tensor], seed: int) -> dict[str, Layer]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, active in was_active.items():
        weight = training.network.get_parameter(name)
        values = weight.detach()
        gradient = torch.zeros_like(values) if weight.grad is None else weight.grad.detach().clone()
        known = training.optimizer.state.get(weight, {})
        momentum = known.get("exp_avg", known.get("momentum_buffer", gradient))
        noise = torch.rand(weight.shape, generator=generator).to(values.device)
        found[name] = Layer(values, gradient, momentum, active, noise)
    return found


def _tensors(training: Training) -> list[Tensor]:
    """List what a branch has of its own: weights, buffers, and what the optimizer remembers, but not its rates."""
    remembered = [value for state in training.optimizer.state.values() for value in state.values()]
    return [
        *training.network.state_dict().values(),
        *(value for value in remembered if isinstance(value, Tensor)),
    ]


@torch.no_grad()
def _put(training: Training, state: Sequence[Tensor]) -> None:
    for tensor, kept in zip(_tensors(training), state, strict=True):
        tensor.copy_(kept)


@torch.no_grad()
def _answers(training: Training, features: Tensor) -> NDArray[np.float32]:
    """Return the logits that the network of a training would answer if it were deployed as it is."""
    network, answers = training.network, training.setup.answers
    try:
        logits = outputs_of(network.eval(), features)[-1]
    finally:
        network.train()
    if answers is None:
        return logits
    learns = answers.training
    answered: Tensor = answers.eval()(torch.from_numpy(logits).to(features.device))
    answers.train(learns)
    return np.asarray(answered.cpu().numpy())


def _numbers(labels: Tensor) -> NDArray[np.int64]:
    return np.asarray(labels.cpu().numpy())
