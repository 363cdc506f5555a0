"""NeuGuard: answers to the records of a class are alike, and the outputs of each layer are balanced.

Source: Xu et al., "NeuGuard: Lightweight Neuron-Guided Defense against Membership Inference
Attacks" (ACSAC 2022). Two terms are added to the loss:

- `variance` x classes times the mean squared distance between a record's posteriors and the mean posteriors of its
  class over all batches so far, this one included, which no gradient enters;
- `balance` times, for each fully connected layer and for the logits, the mean of (sum of the first half of the outputs
  - sum of the second half)^2 / number of outputs. A layer's outputs are taken after its activation.

The paper tunes both weights for each data set: 200 to 3,000 for the variance, which is 10 to 30 times the number of
classes, and 5 to 100 for the balance.

Differences: the paper's amplified feature maps, a change of the network itself, are left out. Class means begin anew in
each stage of a training (`nas.training.stages`). The recipe's class weights hold for the variance too, and its label
smoothing in the loss. Of a network with early exits each exit has class means of its own.

It needs classes, not a teacher's answers, so it goes beside no defence that changes targets. Confidences end up close
to one over the number of classes, with differences that an attacker who rescales them still sees. Judge it by
calibrated attacks (LiRA, RMIA), not by thresholds alone.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch import nn

from nas.training.defence import Teach
from nas.training.exits import loss_weights
from nas.training.loop import Batch
from nas.training.loop import Step
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import class_weights
from nas.training.loop import descend
from search_spaces.graph.architecture import Architecture

EXITS = True
PARAMETERS = {
    "balance": {"low": 0.3, "high": 10.0, "log": True},
    "variance": {"low": 0.1, "high": 10.0, "log": True},
}
"""What `balance` and, times the number of classes, `variance` count against the loss; both 0 are no defence."""


def check(balance: float, variance: float) -> None:
    """Refuse weights that would drive outputs apart.

    Raises:
        ValueError: If one is below 0.
    """
    if balance < 0 or variance < 0:
        raise ValueError(f"expected neuguard.balance and neuguard.variance >= 0; got {balance} and {variance}")


def defend(setup: TrainSetup, _teach: Teach, balance: float, variance: float) -> TrainSetup:
    """Add both terms to the loss; targets must be classes."""
    return replace(setup, make_step=partial(guarded_step, balance=balance, variance=variance))


def guarded_step(training: Training, balance: float, variance: float) -> Step:
    """Return the step of a training with NeuGuard."""
    setup, network = training.setup, training.network
    of_exits, classes = loss_weights(network.architecture), network.architecture.num_classes
    weights = class_weights(setup.recipe, setup.targets, classes)
    means = [ClassMeans(classes, setup.features.device) for _ in of_exits]
    hidden = recorded(network)

    def loss(batch: Batch) -> Tensor:
        hidden.clear()
        outputs = network(batch.features)
        exits = outputs if isinstance(outputs, tuple) else (outputs,)
        total = balance * torch.stack([imbalance(layer) for layer in (*hidden, *exits)]).sum()
        for of_exit, logits, mean in zip(of_exits, exits, means, strict=True):
            spread = mean.spread(logits.softmax(dim=1), batch.targets, weights)
            total = total + of_exit * (setup.loss(logits, batch.targets) + variance * classes * spread)
        return total

    return descend(training, loss)


class ClassMeans:
    """The mean posteriors of each class over all batches so far.

    Args:
        classes: How many there are.
        device: Where the posteriors are.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self.sums = torch.zeros(classes, classes, device=device)
        self.counts = torch.zeros(classes, 1, device=device)

    def spread(self, posteriors: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Take a batch into the means, and return its mean squared distance to them.

        Args:
            posteriors: `(batch, classes)`.
            labels: `(batch,)` classes.
            weights: `(classes,)`, what a record of each class counts; None: all the same.
        """
        seen = posteriors.detach()
        self.sums.index_add_(0, labels, seen)
        self.counts.index_add_(0, labels, torch.ones_like(seen[:, :1]))
        means = self.sums[labels] / self.counts[labels]
        distances = (posteriors - means).square().sum(dim=1)
        return distances.mean() if weights is None else (weights[labels] * distances).mean()


def imbalance(outputs: Tensor) -> Tensor:
    """Return the batch mean of (sum of the first half of a layer's outputs - sum of the others)^2 / their number.

    Args:
        outputs: `(batch, outputs)`; of an odd number the middle one counts to the second half.

    >>> imbalance(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).item()  # (3 - 7)^2 / 4
    4.0
    """
    width = outputs.shape[1]
    half = width // 2
    return (outputs[:, :half].sum(dim=1) - outputs[:, half:].sum(dim=1)).square().mean() / width


def recorded(network: nn.Module) -> list[Tensor]:
    """Return a list to which every forward pass appends the outputs of the hidden fully connected layers.

    Args:
        network: Of a graph; it keeps the hooks.
    """
    found: list[Tensor] = []

    def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(output)

    architecture = network.architecture
    assert isinstance(architecture, Architecture)
    for name in hidden_layers(architecture):
        network.get_submodule(name).register_forward_hook(record)
    return found


def hidden_layers(architecture: Architecture) -> list[str]:
    """Name the modules with the outputs of fully connected layers that are no exits, after norm and activation.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> logits = graph.linear(graph.activation(graph.norm(graph.linear(0, 4))), 2)
    >>> hidden_layers(graph.architecture("example", {}))
    ['op3_activation']
    """
    readers = _readers(architecture)
    ends = [_end(index, architecture, readers) for index, op in enumerate(architecture.ops) if op.kind == "linear"]
    return [f"op{index}_{architecture.ops[index].kind}" for index in ends if index not in architecture.outputs]


def _readers(architecture: Architecture) -> Callable[[int], Sequence[int]]:
    def readers(index: int) -> Sequence[int]:
        return [number for number, op in enumerate(architecture.ops) if index in op.inputs]

    return readers


def _end(index: int, architecture: Architecture, readers: Callable[[int], Sequence[int]]) -> int:
    """Follow a layer's output through the norm and the activation that alone read it."""
    while len(read := readers(index)) == 1 and index not in architecture.outputs:
        if architecture.ops[read[0]].kind not in ("norm", "activation"):
            break
        (index,) = read
    return index
