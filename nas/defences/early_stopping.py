"""Early stopping: a share of the members is kept aside from training and chooses the epoch whose weights are taken.

Source: the defence that every other one has to beat (Song and Mittal, 2021, report it beside all theirs).

What membership means here: the records kept aside are members, and search and audit count them as such. They touch the
network through the choice of an epoch alone, so attacks find next to nothing about them, and the leakage measured over
all members is lower by their share. Shadows keep aside the same share of their own records. Nobody can be told
beforehand that he will be kept aside, so the mean over all members is the right number to state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from nas.training.defence import Teach
from nas.training.exits import Outputs
from nas.training.exits import joined
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import BATCH_IN_CACHE
from nas.training.loop import Loss
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import Watch
from nas.training.loop import seed_from

EXITS = True
PARAMETERS = {"share": {"low": 0.05, "high": 0.3}}
"""`share` of the members is kept aside: more chooses the epoch better and trains on less."""


def check(share: float) -> None:
    """Refuse a share that keeps nothing aside, or more than is trained on.

    Raises:
        ValueError: If it is not above 0 and at most a half.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"expected early_stopping.share above 0 and at most 0.5; got {share}")


def defend(setup: TrainSetup, _teach: Teach, share: float) -> TrainSetup:
    """Train on the others, and take the weights of the epoch after which the loss on those kept aside was lowest.

    The learning rate follows the schedule of all epochs: none is left out, so a candidate's training takes as long as
    it does without the defence.
    """
    records = len(setup.features)
    order = torch.randperm(records, generator=torch.Generator().manual_seed(seed_from(setup.seed, "early_stopping")))
    aside, rest = order.to(setup.features.device).tensor_split([math.ceil(share * records)])
    watch = partial(best_epoch, features=setup.features[aside], targets=setup.targets[aside], loss=setup.loss)
    return replace(setup, features=setup.features[rest], targets=setup.targets[rest], make_watch=watch)


def best_epoch(training: Training, features: Tensor, targets: Tensor, loss: Loss) -> Watch:
    """Return what keeps the best epoch's weights and puts them back after the last one."""
    network, last = training.network, training.setup.recipe.epochs - 1
    lowest, best = math.inf, copy.deepcopy(network.state_dict())
    of_exits = loss_weights(network.architecture)

    def watch(epoch: int) -> None:
        nonlocal lowest, best
        found = loss_on(network.eval(), features, targets, loss, of_exits)
        if found < lowest:
            lowest, best = found, copy.deepcopy(network.state_dict())
        if epoch == last:
            network.load_state_dict(best)
        network.train()

    return watch


@torch.no_grad()
def loss_on(
    network: Callable[[Tensor], Outputs],
    features: Tensor,
    targets: Tensor,
    loss: Loss,
    of_exits: Sequence[float] = (1.0,),
) -> float:
    """Return the loss of a network in eval mode on records, over its exits as they are trained."""
    outputs = joined([network(batch) for batch in torch.split(features, BATCH_IN_CACHE)])
    return float(joint_loss(outputs, of_exits, lambda logits: loss(logits, targets)))
