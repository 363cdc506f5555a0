"""Mixup: the network learns from mixtures of two members instead of from members.

Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization" (ICLR 2018). A batch is mixed
with itself in another order: features as `share` of one record and the rest of the other, and so their losses, which
for the cross-entropy is the loss on mixed labels. One share is drawn for each batch from Beta(alpha, alpha).

The loss is the set-up's, whatever it is: the recipe's label smoothing holds, class weights weigh each of the two
records by its own class, and a teacher's answers are mixed as labels are. It was made against overfitting, not against
attackers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nas.training.defence import Teach
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import Batch
from nas.training.loop import Loss
from nas.training.loop import Step
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import descend
from nas.training.loop import seed_from

EXITS = True
KEEPS_LOSS = True
PARAMETERS = {"alpha": {"low": 0.1, "high": 8.0, "log": True}}
"""`alpha` of the Beta distribution of the share: higher mixes more evenly; towards 0 it is no defence."""


def check(alpha: float) -> None:
    """Refuse an `alpha` of no distribution.

    Raises:
        ValueError: If it is below 0.
    """
    if alpha < 0:
        raise ValueError(f"expected mixup.alpha >= 0; got {alpha}")


def defend(setup: TrainSetup, _teach: Teach, alpha: float) -> TrainSetup:
    """Replace the step by one that learns from mixtures; with an `alpha` of 0 every record stays whole."""
    return replace(setup, make_step=partial(mixed_step, alpha=alpha))


def mixed_step(training: Training, alpha: float) -> Step:
    """Return the step of a training on mixtures."""
    setup, of_exits = training.setup, loss_weights(training.network.architecture)
    # A stream of its own: dropout draws what it would draw without the defence.
    rng = np.random.default_rng(seed_from(setup.seed, "mixup"))

    def loss(batch: Batch) -> Tensor:
        share = float(rng.beta(alpha, alpha)) if alpha else 1.0
        other = torch.from_numpy(rng.permutation(len(batch.rows))).to(batch.features.device)
        outputs = training.network(mixed(batch.features, other, share))
        return joint_loss(
            outputs, of_exits, lambda logits: mixed_loss(setup.loss, logits, batch.targets, other=other, share=share)
        )

    return descend(training, loss)


def mixed(features: Tensor, other: Tensor, share: float) -> Tensor:
    """Return `share` of each record and the rest of another one.

    Args:
        features: `(batch, ...)`.
        other: `(batch,)`, the row of the other record.
        share: From 0 to 1.

    >>> mixed(torch.tensor([[0.0], [4.0]]), torch.tensor([1, 0]), 0.75).tolist()
    [[1.0], [3.0]]
    """
    return share * features + (1 - share) * features[other]


def mixed_loss(loss: Loss, logits: Tensor, targets: Tensor, *, other: Tensor, share: float) -> Tensor:
    """Return `share` of the loss against the records' own targets and the rest of that against the others'.

    Args:
        loss: Of logits `(batch, classes)` and targets.
        logits: On the mixtures.
        targets: `(batch,)` classes, or `(batch, classes)` soft ones.
        other: `(batch,)`, the row of the other record.
        share: From 0 to 1.
    """
    return share * loss(logits, targets) + (1 - share) * loss(logits, targets[other])
