"""Fine-tune a shipped network so that its gradients tell less about the server network's.

The loss is a definition of this project, after the idea of Hong, Carlini and Kurakin (2023, "Publishing Efficient
On-device Models Increases Adversarial Vulnerability"), whose own loss we do not know:

    CE(e(x), y) + strength x mean over records of max(0, cos(gradient of CE_e by x, gradient of CE_s by x))

for the shipped network e and the server network s, which stays as it is. A cosine below 0 is not rewarded: gradients
that point the opposite way would tell as much.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch import nn

from nas.siblings.attack import gradients
from nas.siblings.attack import losses_of
from nas.siblings.attack import without_answers
from nas.siblings.similarity import cosines
from nas.siblings.similarity import similarity
from nas.training.loop import Diverged
from nas.training.loop import Labelled
from nas.training.loop import logits_of
from nas.training.loop import shuffled
from nas.training.schedule import steps_per_epoch
from search_spaces.network import Network

MOST_DROP = 0.01
"""Largest accepted loss of accuracy on validation records."""


@dataclass(frozen=True)
class Unpairing:
    """How to fine-tune.

    Attributes:
        strength: What the cosine counts beside the cross-entropy; 0 is plain further training.
        epochs: How many to go through; the best one is kept.
        learning_rate: Peak of a one-cycle schedule, of Adam.
        batch_size: Records in a step, at most.

    Raises:
        ValueError: If the strength is negative, or the epochs or the learning rate are not above 0.
    """

    strength: float = 1.0
    epochs: int = 20
    learning_rate: float = 3e-3
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"expected --strength of 0 or more; got {self.strength}")
        if self.epochs < 1:
            raise ValueError(f"expected --unpair-epochs of 1 or more; got {self.epochs}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"expected a learning rate above 0; got {self.learning_rate}")


@dataclass(frozen=True)
class Epoch:
    """One epoch of an unpairing; number 0 is before the first.

    Attributes:
        number: From 1.
        accuracy: Share of validation records that get their class.
        cosine: Mean over validation records.
    """

    number: int
    accuracy: float
    cosine: float


@dataclass(frozen=True, eq=False)
class Unpaired:
    """A network that was fine-tuned.

    Attributes:
        network: In eval mode, with the answers of its defence; the weights of the kept epoch.
        kept: The number of that epoch; 0: every epoch lost too much accuracy or no cosine, the network is unchanged.
        epochs: What each was on validation records, the one before the first included; a training that diverges ends
            early.
    """

    network: Network
    kept: int
    epochs: tuple[Epoch, ...]


def unpair(
    network: Network,
    server: Network,
    members: Labelled,
    validation: Labelled,
    settings: Unpairing,
    *,
    seed: int = 0,
    look: Callable[[Epoch], None] = lambda _: None,
) -> Unpaired:
    """Fine-tune a copy of a shipped network.

    Batch norms keep their statistics and tensors their ranges: the loss is that of the network as it is deployed. Zeros
    of pruned layers stay zero. Of the epochs whose accuracy on validation records is at most `MOST_DROP` below what it
    was, the one with the lowest cosine there is kept.

    Args:
        network: The shipped network, in eval mode.
        server: The server network, in eval mode; it may be the same one.
        members: What both were trained on, on the networks' device.
        validation: What neither was trained on.
        settings: How.
        seed: Of the order of the records.
        look: Called after each epoch.

    Raises:
        ValueError: If layers of the network share values: single weights would no longer be equal.
    """
    if any(op.shared_bits for op in network.architecture.ops):
        raise ValueError("expected a network whose layers share no values to fine-tune: it would part what is equal")
    tuned = without_answers(network)
    frozen = losses_of(without_answers(server).requires_grad_(False))
    own = losses_of(tuned)
    zeros = _zeros(tuned)
    optimizer = torch.optim.Adam(tuned.parameters(), lr=settings.learning_rate)
    steps = steps_per_epoch(len(members.labels), settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps * settings.epochs
    )
    order = torch.Generator().manual_seed(seed)
    epochs = [_epoch(0, tuned, own, frozen, validation)]
    best, kept = epochs[0], copy.deepcopy(tuned.state_dict())
    for number in range(1, settings.epochs + 1):
        for rows in shuffled(len(members.labels), steps, order):
            records, labels = members.features[rows], members.labels[rows]
            loss = _loss(own, records, labels, gradients(frozen, records, labels), settings.strength)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            _hold(tuned, zeros)
        try:
            epochs.append(_epoch(number, tuned, own, frozen, validation))
        except Diverged:
            break
        look(epochs[-1])
        if epochs[-1].accuracy >= epochs[0].accuracy - MOST_DROP - 1e-9 and epochs[-1].cosine < best.cosine:
            best, kept = epochs[-1], copy.deepcopy(tuned.state_dict())
    found = copy.deepcopy(network)
    found.load_state_dict(kept, strict=False)  # what it has besides are its answers
    return Unpaired(found.eval(), best.number, tuple(epochs))


def _loss(
    own: Callable[[Tensor, Tensor], Tensor], records: Tensor, labels: Tensor, other: Tensor, strength: float
) -> Tensor:
    inside = records.detach().requires_grad_()
    losses = own(inside, labels)
    if not strength:
        return losses.mean()
    (gradient,) = torch.autograd.grad(losses.sum(), inside, create_graph=True)
    return losses.mean() + strength * cosines(gradient, other).clamp(min=0).mean()


def _epoch(
    number: int,
    network: nn.Module,
    own: Callable[[Tensor, Tensor], Tensor],
    frozen: Callable[[Tensor, Tensor], Tensor],
    validation: Labelled,
) -> Epoch:
    answers = logits_of(network, validation.features).argmax(axis=1)
    accuracy = float(np.mean(answers == validation.labels.cpu().numpy()))
    return Epoch(number, accuracy, similarity(own, frozen, validation.features, validation.labels).cosine.value)


def _zeros(network: Network) -> dict[str, Tensor]:
    """Return where weights of pruned layers are not zero, by name."""
    names = [f"op{index}_{op.kind}.weight" for index, op in enumerate(network.architecture.ops) if op.sparsity]
    return {name: (network.get_parameter(name) != 0).float() for name in names}


@torch.no_grad()
def _hold(network: Network, zeros: dict[str, Tensor]) -> None:
    for name, mask in zeros.items():
        network.get_parameter(name).mul_(mask)
