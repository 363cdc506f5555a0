"""One plain training loop: AdamW or SGD, a one-cycle schedule, quantisation-aware because the network is.

The loop knows no defence. What a defence may change is in `TrainSetup`, whose defaults are the plain training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn
from torch.nn import functional

from nas.training.answers import answering
from nas.training.exits import Outputs
from nas.training.exits import answer
from nas.training.exits import joined
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from as seed_from  # noqa: PLC0414 - defences, a user's own too, find it here
from nas.training.schedule import steps_per_epoch as steps_per_epoch  # noqa: PLC0414
from search_spaces.graph.architecture import Architecture
from search_spaces.network import Network
from search_spaces.network import build

TRAINING_VERSION = 3
"""Raise it with every change after which the same candidate, data and seed give other weights or other measures.

`tests/nas/training/test_training_version.py` trains a few candidates and fails when their weights change under the
same version.
Runs, references and shadows of another version are never mixed with new ones.
"""
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
# Tensors of more records leave a CPU's cache: a small CNN then takes twice as long for an image, and twice the memory.
BATCH_IN_CACHE = 64


class Diverged(ValueError):  # noqa: N818 - it is an outcome of a training, not a mistake in the program
    """The loss or the logits became NaN or infinite: the candidate is rejected, the search goes on."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Records with their classes.

    Attributes:
        features: `(records, ...)` float32.
        labels: `(records,)` classes.
        groups: `(records,)` whole numbers, equal for records that belong together, such as one person's; None without
            groups.
    """

    features: Tensor
    labels: Tensor
    groups: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step sees.

    Attributes:
        epoch: From 0.
        rows: `(batch,)`: the records' rows in the set-up.
        features: `(batch, ...)`, augmented if the recipe says so.
        targets: `(batch,)` or `(batch, classes)`: the set-up's.
    """

    epoch: int
    rows: Tensor
    features: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Training:
    """A training that is about to begin.

    Whatever a step remembers from batch to batch is made when it is given this, never in the set-up: a set-up that is
    trained twice gives the same weights twice. Random numbers come from torch's global stream, which the loop seeds,
    or from a generator made of `setup.seed`.

    Attributes:
        setup: What is trained; its features lie in memory as the network reads them fastest.
        network: In train mode, with its initial weights.
        optimizer: Over the network's parameters; the loop moves its learning rate after each step.
        augment: Changes features `(batch, ...)` as the recipe says; a step that wants several changed copies of a
            batch calls it on `setup.features[rows]`.
    """

    setup: TrainSetup
    network: Network
    optimizer: torch.optim.Optimizer
    augment: Callable[[Tensor], Tensor]


Step: TypeAlias = Callable[[Batch], Tensor]
"""Takes one batch, changes the network, and returns the loss, from which the loop sees a training that diverged."""
Watch: TypeAlias = Callable[[int], None]
"""Called after each epoch with its number, from 0. It leaves the network in train mode; it may change weights."""
Change: TypeAlias = Callable[[], None]
"""Called after each step: it holds weights where they have to be, at zero for instance."""
MakeChange: TypeAlias = Callable[[Training], Change]
Look: TypeAlias = Callable[[int, Callable[[], nn.Module]], None]
"""Called after each epoch, after the watch, with the number of epochs that are done, and with what makes a copy of the
network as it is then, in eval mode and answering as deployed. It changes nothing of the training; it may end it by an
exception."""
Batches: TypeAlias = Callable[[int, int, torch.Generator], Iterable[Tensor]]
"""Takes the number of records, the number of steps and a generator; gives the rows of each step of one epoch."""


def shuffled(records: int, steps: int, order: torch.Generator) -> Iterable[Tensor]:
    """Cut the records, in a new random order, into batches of equal size."""
    return torch.randperm(records, generator=order).tensor_split(steps)


def descend(training: Training, loss_of: Callable[[Batch], Tensor]) -> Step:
    """Return the step that follows the gradient of a loss; the loss may look inside the network and keep state."""

    def step(batch: Batch) -> Tensor:
        training.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        training.optimizer.step()
        return loss.detach()

    return step


def plain_step(training: Training) -> Step:
    """Return the step that follows the gradient of the set-up's loss, over all exits where there are several."""
    network, loss, weights = training.network, training.setup.loss, loss_weights(training.network.architecture)

    def loss_of(batch: Batch) -> Tensor:
        return joint_loss(network(batch.features), weights, lambda logits: loss(logits, batch.targets))

    return descend(training, loss_of)


@dataclass(frozen=True, eq=False)
class TrainSetup:
    """Everything one training needs. A defence takes one and returns another (`nas.defences`).

    Attributes:
        architecture: The network to train.
        features: `(records, ...)` float32: the members and nobody else, until a defence says otherwise.
        targets: `(records,)` classes, or `(records, classes)` soft targets that the loss understands.
        loss: Takes logits `(batch, classes)` and the batch's targets; lower is better. Of a network with early exits
            each exit has this loss, and `nas.training.exits.loss_weights` says what it counts.
        recipe: How to train.
        seed: Fixes initial weights, batch order and dropout.
        reserve: Records beside the members, for a defence or a pruning that asks for them; None for all others. No
            attack and no measure uses them.
        members: The records to train on with their classes and groups, as they were before a defence changed features
            or targets; None if nobody told.
        make_step: Makes the training step; see `Training`.
        make_watch: Makes what is called after each epoch; None: nothing is.
        batches: Draws an epoch's batches, as many as it is told.
        answers: What the deployed network's logits pass through before anyone sees them (`nas.training.answers`); None:
            nothing.
        delay: By how much the device holds back answers of early exits (`nas.training.answers.answering`); 0: not at
            all.
        guarantee: Numbers that the defence states of what it trains, by name (`epsilon`, `delta`); each becomes a
            measure of the candidate.
        calibration: `(records, ...)` that show the ranges of tensors where a network is rounded after training; None:
            the members do.
        start: Weights and buffers of the network to begin with, by name; None: the initial ones of the seed.
    """

    architecture: Architecture
    features: Tensor
    targets: Tensor
    loss: Loss
    recipe: Recipe
    seed: int
    reserve: Labelled | None = None
    members: Labelled | None = None
    make_step: Callable[[Training], Step] = plain_step
    make_watch: Callable[[Training], Watch] | None = None
    batches: Batches = shuffled
    answers: nn.Module | None = None
    delay: float = 0.0
    guarantee: Mapping[str, float] = field(default_factory=dict)
    calibration: Tensor | None = None
    start: Mapping[str, Tensor] | None = None


def plain_setup(
    architecture: Architecture,
    features: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    *,
    groups: Tensor | None = None,
) -> TrainSetup:
    """Set up a training on true labels with (smoothed) cross-entropy, each class weighted as the recipe says."""
    weights = class_weights(recipe, labels, architecture.ops[architecture.outputs[0]].size)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        if weights is None:
            return functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        losses = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing, reduction="none")
        return (weights[targets] * losses).mean()

    return TrainSetup(architecture, features, labels, loss, recipe, seed, members=Labelled(features, labels, groups))


def class_weights(recipe: Recipe, labels: Tensor, classes: int) -> Tensor | None:
    """Return what a record of each class counts in the loss: `(classes,)`; None if all count the same.

    Balanced weights are one over the class's share of the records, divided by the number of classes that occur: each
    of these classes counts the same, and the weights of all records have the mean 1. Soft targets are not weighted:
    they are of no class.

    Args:
        recipe: Says whether there are weights.
        labels: `(records,)` classes of the records that are trained on, or soft targets.
        classes: Length of the logits.
    """
    if recipe.class_weights == "none" or labels.is_floating_point():
        return None
    counts = torch.bincount(labels, minlength=classes).float()
    weights = len(labels) / ((counts > 0).sum() * counts)
    return torch.where(counts > 0, weights, 0.0)  # no record to weight, and none of it in any batch


def training_version() -> str:
    """Name what decides a training beside its candidate, data and seed: the training version, and PyTorch's."""
    return f"training version {TRAINING_VERSION}, PyTorch {torch.__version__}"


def train(
    setup: TrainSetup,
    *,
    make_change: MakeChange | None = None,
    look: Look | None = None,
) -> nn.Module:
    """Train a network in one stage and return it in eval mode, on the device of the features, answering as deployed.

    What is returned is built anew and given the trained weights: whatever a step left on the network it trained (hooks,
    wrapped layers) is not in what will be rebuilt from those weights, so it may not be in what is measured either.

    Args:
        setup: What is trained, and how.
        make_change: Makes what changes the weights after each step; None: nothing does.
        look: Looks at the network between epochs, not after the last one; the weights that come out are the same to the
            bit with and without it.

    Raises:
        Diverged: If the loss is not finite at the end of an epoch.
    """
    recipe = setup.recipe
    network, features = built(setup), setup.features
    if setup.start is not None:
        network.load_state_dict(setup.start)
    if features.ndim == 4:
        features = features.contiguous(memory_format=torch.channels_last)
    steps = steps_per_epoch(len(features), recipe.batch_size)
    optimizer = optimizer_of(network.parameters(), recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=steps * recipe.epochs
    )
    order = torch.Generator().manual_seed(setup.seed)

    def augment(batch: Tensor) -> Tensor:
        return flip_crop(batch, order) if recipe.augment == "flip-crop" else batch

    network.train()
    with _seeded(setup.seed):
        answers = copy.deepcopy(setup.answers)  # a watch may teach them something; the set-up stays as it was
        training = Training(replace(setup, features=features, answers=answers), network, optimizer, augment)
        step = setup.make_step(training)
        change = None if make_change is None else make_change(training)
        watch = None if setup.make_watch is None else setup.make_watch(training)
        for epoch in range(recipe.epochs):
            for rows in setup.batches(len(features), steps, order):
                loss = step(Batch(epoch, rows, augment(features[rows]), setup.targets[rows]))
                schedule.step()
                if change is not None:
                    change()
            if not torch.isfinite(loss):
                raise Diverged(f"the loss became {loss.item()} in epoch {epoch + 1} of {recipe.epochs}")
            if watch is not None:
                watch(epoch)
            if look is not None and epoch + 1 < recipe.epochs:
                with torch.random.fork_rng():
                    look(epoch + 1, lambda: _as_deployed(setup, network, copy.deepcopy(answers)))
    return _as_deployed(setup, network, answers)


def _as_deployed(setup: TrainSetup, network: Network, answers: nn.Module | None) -> nn.Module:
    """Build the network anew with the weights of one in training, in eval mode and with the answers of its defence."""
    trained = built(setup)
    trained.load_state_dict(network.state_dict())
    return answering(trained, answers, setup.delay).eval().to(setup.features.device)


def built(setup: TrainSetup) -> Network:
    """Build the network to train where its records are, laid out in memory as it runs fastest."""
    network = build(setup.architecture, dropout=setup.recipe.dropout, seed=setup.seed).to(setup.features.device)
    if setup.features.ndim == 4:
        # Worth 1.1 to 1.6 times on small CNNs on a CPU (benchmarks/training_layout.py). The layer that it would crash
        # in takes none of it (`QuantConv2d`).
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def logits_of(network: nn.Module, features: Tensor, batch_size: int = BATCH_IN_CACHE) -> NDArray[np.float32]:
    """Return a network's logits `(records, classes)` in eval mode, without augmentation.

    Of a network with early exits they are those of the exit that answers for each record.

    Raises:
        ValueError: As `ask`.
        Diverged: As `ask`.
    """
    return ask(network, features, batch_size)[0]


def exits_of(network: nn.Module, features: Tensor, batch_size: int = BATCH_IN_CACHE) -> NDArray[np.int64]:
    """Return `(records,)`: the number of the exit that answers for each record, 0 where there is one output.

    Raises:
        ValueError: As `ask`.
        Diverged: As `ask`.
    """
    return ask(network, features, batch_size)[1]


@torch.no_grad()
def ask(
    network: nn.Module, features: Tensor, batch_size: int = BATCH_IN_CACHE
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what `logits_of` and `exits_of` do, at once.

    Raises:
        ValueError: If the network is in train mode: dropout and batch statistics would be measured, not the network. If
            it has several outputs and no graph that says which of them answers.
        Diverged: If a logit of any exit is not finite. The last step may be the one that went too far, after the last
            loss.
    """
    logits, exits = [], []
    for outputs in _run(network, features, batch_size):
        answered = answer(network, outputs)
        logits.append(answered.logits.float().cpu())
        exits.append(answered.exits.cpu())
    return np.asarray(torch.cat(logits).numpy()), np.asarray(torch.cat(exits).numpy())


@torch.no_grad()
def outputs_of(network: nn.Module, features: Tensor, batch_size: int = BATCH_IN_CACHE) -> list[NDArray[np.float32]]:
    """Return a network's logits `(records, classes)` at each of its outputs, in eval mode, without augmentation.

    Raises:
        ValueError: If the network is in train mode.
        Diverged: If a logit is not finite.
    """
    found = joined(list(_run(network, features, batch_size)))
    return [np.asarray(logits.float().cpu().numpy()) for logits in (found if isinstance(found, tuple) else (found,))]


def _run(network: nn.Module, features: Tensor, batch_size: int) -> Iterator[Outputs]:
    """Yield what a network gives, batch by batch, all of it finite."""
    if network.training:
        raise ValueError("expected a network in eval mode; got one in train mode: call .eval() first")
    for batch in torch.split(features, batch_size):
        outputs: Outputs = network(batch)
        if not all(logits.isfinite().all() for logits in (outputs if isinstance(outputs, tuple) else (outputs,))):
            raise Diverged("a logit of the trained network is not finite")
        yield outputs


def compute_device() -> torch.device:
    """Return the CUDA device when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def optimizer_of(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimizer; biases, norms and learned ranges (vectors and scalars) are not decayed."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)


def flip_crop(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images and shift each by up to an eighth of its side."""
    count, _, height, width = batch.shape
    flip = torch.rand(count, generator=generator).to(batch.device) < 0.5
    batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
    pad = max(1, height // 8)
    padded = functional.pad(batch, (pad, pad, pad, pad))
    top, left = (torch.randint(0, 2 * pad + 1, (count,), generator=generator).to(batch.device) for _ in range(2))
    rows = top[:, None] + torch.arange(height, device=batch.device)
    columns = left[:, None] + torch.arange(width, device=batch.device)
    index = torch.arange(count, device=batch.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the one random stream that dropout reads and put the caller's back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
