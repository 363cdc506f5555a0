"""RelaxLoss: stop the members' loss from falling below a level that other records reach too.

Source: Chen, Yu and Fritz, "RelaxLoss: Defending Membership Inference Attacks without Losing Utility" (ICLR 2022).
While a batch's mean loss is above `alpha`, the step descends as in plain training. Below it, steps of even epochs
(counted from 0) climb back to `alpha`. Steps of odd epochs climb too, and flatten: a record that is misclassified
learns a target that keeps its confidence in the true class and spreads the rest evenly over the other classes.

Differences from the published code: the flattened targets are constants, as labels are, so no gradient flows through
them; `upper`, a cap on their confidence, is left at 1. The loss is the plain cross-entropy, whatever the recipe's label
smoothing: with smoothed labels the loss would never fall to a small `alpha`, and the defence would do nothing. The
recipe's class weights hold: the level is then that of the weighted loss. Of a network with early exits each exit is
held at the level, because any of them may answer for a member.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from nas.training.defence import Teach
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import Batch
from nas.training.loop import Step
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import class_weights
from nas.training.loop import descend

EXITS = True
PARAMETERS = {"alpha": {"low": 0.05, "high": 2.0, "log": True}}
"""`alpha` is the mean loss the members are held at: higher leaks less and costs accuracy; 0 is no defence."""


def check(alpha: float) -> None:
    """Refuse an `alpha` that is no loss.

    Raises:
        ValueError: If it is below 0.
    """
    if alpha < 0:
        raise ValueError(f"expected relaxloss.alpha >= 0; got {alpha}")


def defend(setup: TrainSetup, _teach: Teach, alpha: float) -> TrainSetup:
    """Replace the step by one that follows the relaxed loss; targets must be classes."""
    return replace(setup, make_step=partial(relaxed_step, alpha=alpha))


def relaxed_step(training: Training, alpha: float) -> Step:
    """Return the step of a training with RelaxLoss."""
    setup = training.setup
    architecture = setup.architecture
    weights = class_weights(setup.recipe, setup.targets, architecture.ops[architecture.outputs[0]].size)
    of_exits = loss_weights(architecture)

    def loss(batch: Batch) -> Tensor:
        def of_exit(logits: Tensor) -> Tensor:
            return relaxed_loss(logits, batch.targets, alpha, flatten=batch.epoch % 2 == 1, weights=weights)

        return joint_loss(training.network(batch.features), of_exits, of_exit)

    return descend(training, loss)


def relaxed_loss(
    logits: Tensor, labels: Tensor, alpha: float, *, flatten: bool, weights: Tensor | None = None
) -> Tensor:
    """Return the relaxed loss of a batch.

    Args:
        logits: `(batch, classes)`.
        labels: `(batch,)` classes.
        alpha: The level to hold.
        flatten: Whether a batch below the level is flattened too, as in odd epochs.
        weights: `(classes,)`, what a record of each class counts; None: all the same.

    >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    >>> plain = functional.cross_entropy(logits, labels)
    >>> bool(relaxed_loss(logits, labels, 0.0, flatten=True) == plain)
    True
    >>> bool(relaxed_loss(logits, labels, 1.0, flatten=False) == 1.0 - plain)  # climbs
    True
    """
    losses = functional.cross_entropy(logits, labels, reduction="none")
    if weights is not None:
        losses = weights[labels] * losses
    mean = losses.mean()
    if mean > alpha:
        return mean if flatten else mean - alpha
    if not flatten:
        return alpha - mean
    classes = logits.shape[1]
    confidence = logits.detach().softmax(dim=1).gather(1, labels[:, None])
    is_true = functional.one_hot(labels, classes).bool()
    targets = torch.where(is_true, confidence, (1 - confidence) / max(classes - 1, 1))
    flattened = -(targets * logits.log_softmax(dim=1)).sum(dim=1)
    if weights is not None:
        flattened = weights[labels] * flattened
    is_wrong = logits.argmax(dim=1) != labels
    return (is_wrong * flattened - losses).mean()
