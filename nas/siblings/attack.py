"""Adversarial examples by projected gradient descent, with restarts and momentum.

Whoever holds a network's weights holds its gradients. Where weights or tensors have few bits they are straight-through
gradients, which pass a rounding as if it were not there: what an attacker would use too (BPDA; Athalye et al., 2018).

Sources: PGD, Madry et al. (2018); momentum, Dong et al. (2018), "Boosting Adversarial Attacks with Momentum".
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn
from torch.nn import functional

from nas.siblings.reach import Reach
from nas.training.answers import NAME
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import BATCH_IN_CACHE
from nas.training.loop import Labelled
from nas.training.loop import logits_of
from search_spaces.network import Network
from search_spaces.network import build

Losses: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Takes records `(records, ...)` and classes `(records,)`; gives the loss of each record, `(records,)`."""

STEP = 2.5
"""How often the steps together would cross the radius: all of the ball is reached from anywhere in it."""


@dataclass(frozen=True)
class Attack:
    """One way to look for adversarial examples.

    Attributes:
        name: As in tables.
        steps: Steps by the sign of the gradient, each of `STEP` radii divided by their number.
        restarts: How often it begins, each time at a random place of the ball.
        momentum: What of the sum of earlier gradients stays in each step; 0 is plain PGD.

    Raises:
        ValueError: If a number is negative, or there is no step or no start.
    """

    name: str
    steps: int
    restarts: int = 1
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.momentum >= 0:
            raise ValueError(
                "expected an attack of 1 or more steps and restarts, with a momentum of 0 or more; "
                f"got {self.steps}, {self.restarts} and {self.momentum}"
            )


PGD = Attack("PGD-10", steps=10)
STRONG = Attack("MI-PGD-50", steps=50, restarts=5, momentum=1.0)
ATTACKS = (PGD, STRONG)


def craft(losses: Losses, features: Tensor, labels: Tensor, reach: Reach, attack: Attack, *, seed: int = 0) -> Tensor:
    """Look near each record for one with a high loss.

    Args:
        losses: Of the network that is attacked from the inside.
        features: `(records, ...)`, as the network reads them.
        labels: `(records,)` true classes.
        reach: Where to look.
        attack: How to look.
        seed: Of the random starts. The first starts of an attack with more restarts are those of one with fewer.

    Returns:
        `(restarts, records, ...)`: of each restart what its last step gave.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(attack.restarts):
        noise = (2 * torch.rand(features.shape, generator=generator) - 1).to(features.device)
        parts = [torch.split(part, BATCH_IN_CACHE) for part in (features, noise, labels)]
        climbed = [
            _climbed(losses, Labelled(records, classes), start, reach, attack)
            for records, start, classes in zip(*parts, strict=True)
        ]
        found.append(torch.cat(climbed))
    return torch.stack(found)


def _climbed(losses: Losses, batch: Labelled, noise: Tensor, reach: Reach, attack: Attack) -> Tensor:
    records = batch.features
    radius, low, high = (end.to(records.device) for end in (reach.radius, reach.low, reach.high))
    # A record beyond the range of the members stays where it is, it is not pulled into the range.
    least = torch.maximum(records - radius, torch.minimum(low, records))
    most = torch.minimum(records + radius, torch.maximum(high, records))
    moved = (records + noise * radius).clamp(least, most)
    direction = torch.zeros_like(records)
    for _ in range(attack.steps):
        direction = attack.momentum * direction + _of_equal_size(gradients(losses, moved, batch.labels))
        moved = (moved + STEP / attack.steps * radius * direction.sign()).clamp(least, most)
    return moved


def _of_equal_size(gradient: Tensor) -> Tensor:
    """Divide each record's gradient by the mean of its magnitudes; one that is 0 everywhere stays."""
    magnitude = gradient.abs().flatten(1)
    # In two steps: the sum of magnitudes near the smallest float would be 0.
    largest = magnitude.amax(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
    shape = (-1,) + (1,) * (gradient.ndim - 1)
    scaled = gradient / largest.reshape(shape)
    mean = scaled.abs().flatten(1).mean(dim=1).reshape(shape)
    return torch.where(mean > 0, scaled / mean.clamp(min=torch.finfo(gradient.dtype).tiny), scaled)


def gradients(losses: Losses, records: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of each record's loss by the record: `(records, ...)`."""
    inside = records.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(losses(inside, labels).sum(), inside)
    return gradient


def losses_of(network: nn.Module) -> Losses:
    """Return the cross-entropy of a network by record; with early exits that of all of them, weighted as in training.

    Args:
        network: In eval mode; what it computes changes with its weights.
    """
    architecture = getattr(network, "architecture", None)
    weights = (1.0,) if architecture is None else loss_weights(architecture)

    def losses(records: Tensor, labels: Tensor) -> Tensor:
        return joint_loss(
            network(records), weights, lambda logits: functional.cross_entropy(logits, labels, reduction="none")
        )

    return losses


def without_answers(network: Network) -> Network:
    """Return a copy of a network without the answers of its defence, in eval mode.

    They coarsen logits, which leaves no gradient; who holds the weights leaves them away.
    """
    plain = build(network.architecture)
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(f"{NAME}.")}
    plain.load_state_dict(copy.deepcopy(state))
    return plain.to(next(network.parameters()).device).eval()


def is_fooled(network: nn.Module, crafted: Tensor, labels: Tensor) -> NDArray[np.bool_]:
    """Tell for which records one of the examples of the restarts gets another class: `(records,)`.

    An attacker who may ask more than once tries all of them, so more restarts never find less.

    Args:
        network: In eval mode, as deployed.
        crafted: `(restarts, records, ...)`.
        labels: `(records,)` true classes.
    """
    true = labels.cpu().numpy()
    fooled = np.stack([logits_of(network, examples).argmax(axis=1) != true for examples in crafted])
    return np.asarray(fooled.any(axis=0))
