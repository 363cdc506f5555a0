"""Adversarial regularisation: the network is trained against an attacker that learns to tell its members.

Source: Nasr, Shokri and Houmansadr, "Machine Learning with Membership Privacy using Adversarial Regularization" (CCS
2018). The attacker reads the posteriors and the true class of a record, and learns from each batch of members, and as
many records beside them, what tells the two apart. The network then descends on its loss plus `strength` times half of
the mean of log(attacker's probability that a member is one): it learns to answer for members as for others.

The other records are the defence's part of the reserve (`nas.training.defence.parted`). No record that an attack is
judged by is among them. A published comparison trains one batch for each epoch of its attacker; here every batch is a
move of both.

Differences from the paper's code: posteriors, not logits; the logarithm, as in the paper, not the probability itself;
an attacker with fewer units (64 for each hidden layer), since members are a few thousand at most. The attacker sees
answers as the deployed network gives them, without dropout and with the running statistics of batch norms, so that the
other records teach the network's norms nothing; they are augmented as members are.

The recipe's loss stays, with label smoothing and class weights. The attacker's gain is the mean over records: whoever
is of a rare class is neither more nor less a member. Of a network with early exits all are judged by one attacker,
because any of them may answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional

from nas.training.defence import Teach
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import Batch
from nas.training.loop import Step
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import descend
from nas.training.loop import seed_from

EXITS = True
NEEDS = ("reserve",)
PARAMETERS = {"strength": {"low": 0.3, "high": 3.0, "log": True}}
"""`strength` of the attacker's gain against the loss: higher leaks less and costs accuracy; 0 is no defence."""
UNITS, LEARNING_RATE = 64, 1e-3


def check(strength: float) -> None:
    """Refuse a strength that helps the attacker.

    Raises:
        ValueError: If it is below 0.
    """
    if strength < 0:
        raise ValueError(f"expected adversarial_regularization.strength >= 0; got {strength}")


def defend(setup: TrainSetup, _teach: Teach, strength: float) -> TrainSetup:
    """Replace the step by a move of the attacker and one of the network; targets must be classes."""
    return replace(setup, make_step=partial(game, strength=strength))


class Attacker(nn.Module):
    """Judges from posteriors and class whether a record is a member; above 0 it says yes.

    Args:
        classes: Length of the posteriors.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.of_answer = nn.Sequential(nn.Linear(classes, UNITS), nn.ReLU(), nn.Linear(UNITS, UNITS), nn.ReLU())
        self.of_class = nn.Sequential(nn.Linear(classes, UNITS), nn.ReLU())
        self.of_both = nn.Sequential(nn.Linear(2 * UNITS, UNITS), nn.ReLU(), nn.Linear(UNITS, 1))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return log-odds `(records,)` from the network's logits `(records, classes)` and the classes `(records,)`."""
        true = functional.one_hot(labels, self.classes).to(logits.dtype)
        read = torch.cat([self.of_answer(logits.softmax(dim=1)), self.of_class(true)], dim=1)
        judged: Tensor = self.of_both(read)
        return judged.flatten()


def game(training: Training, strength: float) -> Step:
    """Return the step in which first the attacker moves, then the network.

    Raises:
        ValueError: If there are no records beside the members.
    """
    setup, network = training.setup, training.network
    beside = setup.reserve
    if beside is None or not len(beside.labels):
        raise ValueError("expected records beside the members for adversarial_regularization; got none")
    of_exits = loss_weights(network.architecture)
    attacker = _attacker(setup)
    optimizer = torch.optim.Adam(attacker.parameters(), lr=LEARNING_RATE)
    # A stream of its own: dropout draws what it would draw without the defence.
    drawn = torch.Generator().manual_seed(seed_from(setup.seed, "records beside"))

    def loss(batch: Batch) -> Tensor:
        rows = torch.randint(len(beside.labels), (len(batch.rows),), generator=drawn)
        others = training.augment(beside.features[rows])
        seen = _answers(training, torch.cat([batch.features, others]))
        learn(attacker, optimizer, seen, torch.cat([batch.targets, beside.labels[rows]]), members=len(batch.rows))

        def of_exit(logits: Tensor) -> Tensor:
            return setup.loss(logits, batch.targets) + strength * gain(attacker, logits, batch.targets)

        return joint_loss(network(batch.features), of_exits, of_exit)

    return descend(training, loss)


def learn(
    attacker: Attacker, optimizer: torch.optim.Optimizer, exits: Sequence[Tensor], labels: Tensor, *, members: int
) -> None:
    """Take one step of the attacker.

    Args:
        attacker: Learns.
        optimizer: Over its parameters.
        exits: Logits `(records, classes)` of each exit, members first.
        labels: `(records,)` classes.
        members: How many of the records are members.
    """
    is_member = (torch.arange(len(labels), device=labels.device) < members).float()
    losses = [functional.binary_cross_entropy_with_logits(attacker(logits, labels), is_member) for logits in exits]
    optimizer.zero_grad()
    torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def gain(attacker: Attacker, logits: Tensor, labels: Tensor) -> Tensor:
    """Return half of the mean log-probability that the attacker gives members for being some: 0 at most."""
    return functional.logsigmoid(attacker(logits, labels)).mean() / 2


@torch.no_grad()
def _answers(training: Training, features: Tensor) -> tuple[Tensor, ...]:
    """Return the logits of each exit as the deployed network would give them."""
    outputs = training.network.eval()(features)
    training.network.train()
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _attacker(setup: TrainSetup) -> Attacker:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(setup.seed, "attacker"))
        return Attacker(setup.architecture.num_classes).to(setup.features.device)
