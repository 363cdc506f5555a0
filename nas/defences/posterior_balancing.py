"""Posterior balancing: answers to different records are as sure of themselves as each other.

Source: the defence PPB of Yuan and Zhang, "Membership Inference Attacks and Defenses in Neural Network Pruning" (USENIX
Security 2022). A batch, in random order, is cut in halves, and each record of the first is paired with one of the
second. The logits of both are put in descending order, whatever class they belong to, and the Kullback-Leibler
divergence between the two ranked posteriors is added to the loss, `strength` times. Gradients flow through both.
Attacks read how sure an answer is; the more alike this is for all records, the less is left to read.

Difference from the paper, whose defence is for pruned networks and acts while they are trained further: here it acts in
every stage of a training (`nas.training.stages`), in full width and dense too, so that networks that differ in what is
taken away still share their first stage. A network that is not pruned has it during its only stage.

The loss that it is added to is the set-up's, with the recipe's label smoothing and class weights. The divergence reads
no label, and is not weighted. Of a network with early exits each exit is balanced.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from nas.training.defence import Teach
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import Batch
from nas.training.loop import Step
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import descend

EXITS = True
KEEPS_LOSS = True
PARAMETERS = {"strength": {"low": 0.5, "high": 16.0, "log": True}}
"""`strength` of the divergence against the loss; the paper's is 4, and 0 is no defence."""


def check(strength: float) -> None:
    """Refuse a strength that drives answers apart.

    Raises:
        ValueError: If it is below 0.
    """
    if strength < 0:
        raise ValueError(f"expected posterior_balancing.strength >= 0; got {strength}")


def defend(setup: TrainSetup, _teach: Teach, strength: float) -> TrainSetup:
    """Add the divergence between a batch's halves to the loss."""
    return replace(setup, make_step=partial(balanced_step, strength=strength))


def balanced_step(training: Training, strength: float) -> Step:
    """Return the step of a training with balanced posteriors."""
    setup, of_exits = training.setup, loss_weights(training.network.architecture)

    def loss(batch: Batch) -> Tensor:
        def of_exit(logits: Tensor) -> Tensor:
            return setup.loss(logits, batch.targets) + strength * divergence(logits)

        return joint_loss(training.network(batch.features), of_exits, of_exit)

    return descend(training, loss)


def divergence(logits: Tensor) -> Tensor:
    """Return the mean divergence KL(second || first) of ranked posteriors of a batch's halves.

    Args:
        logits: `(batch, classes)`; of an odd number of records the last has no part in it, and of a single one it is 0.

    >>> import torch
    >>> alike = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]])  # equally sure, of different classes
    >>> divergence(alike).item()
    0.0
    """
    half = len(logits) // 2
    if not half:
        return logits.new_zeros(())
    ranked = logits.sort(dim=1, descending=True).values.log_softmax(dim=1)
    first, second = ranked[:half], ranked[half : 2 * half]
    return (second.exp() * (second - first)).sum(dim=1).mean()
