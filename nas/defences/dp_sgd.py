"""DP-SGD: clip each record's gradient and add noise, so that no single record can matter much to what is trained.

Source: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar and Zhang, "Deep Learning with Differential Privacy" (CCS
2016). In each step every member takes part with the same probability, batch size / members (Poisson sampling). The
gradient of each one's own loss is shortened to at most `max_grad_norm`. Their sum gets Gaussian noise in each
coordinate, of deviation `noise_multiplier * max_grad_norm`, and is divided by the expected size of a batch, not by its
actual one. The recipe's optimizer takes it from there. With `augmentations` above 1, a member's gradient is the mean
over so many changed copies of it, taken before it is shortened (De, Berrada, Hayes, Smith and Balle, 2022); it has an
effect where the recipe's `augment` changes records.

What it promises is (epsilon, delta)-differential privacy of this training for the presence of one member, with the
assumptions of `nas.training.certificate`. It states the numbers of several accountants
(`estimators.leakage.statistics.accountants`); `epsilon` is the smallest bound among them.

Batch norms: in training they normalise by statistics of the batch, which mixes records, and keep averages of them,
which have no noise. Networks that are made for DP-SGD have group norms instead. But a group norm computes its
statistics for each record when the network runs, and is another operator than the one that was priced, which is folded
into a convolution. So the norms stay, and their statistics come from records of noise that pass through the network
before each step; so do the ranges of quantised tensors (`nas.training.private.Observing`). Members never move either.

The recipe's class weights are refused: they would be computed from the labels of all members.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from estimators.leakage.statistics.accountants import ACCOUNTANTS
from estimators.leakage.statistics.accountants import LARGEST_EPSILON
from estimators.leakage.statistics.accountants import Mechanism
from estimators.leakage.statistics.accountants import epsilon_of
from estimators.leakage.statistics.accountants import noise_for
from nas.training.defence import Teach
from nas.training.exits import Outputs
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import Batch
from nas.training.loop import Step
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import seed_from
from nas.training.loop import steps_per_epoch
from nas.training.private import Observing
from nas.training.private import clipped_sum
from nas.training.private import poisson
from nas.training.stages import epochs_of

EXITS = True
PARAMETERS = {
    "epsilon": [50.0, 16.0, 8.0, 4.0, 2.0, 1.0],
    "noise_multiplier": 0.0,
    "delta": 0.0,
    "max_grad_norm": 1.0,
    "augmentations": 1,
}
"""`epsilon` is what the training may cost; lower promises more, and costs accuracy. `noise_multiplier` above 0 is taken
as it is, and `epsilon` is then what comes out. `delta` 0 stands for a tenth of one over the members: a delta of one
over the members would allow that one of them is published. `max_grad_norm` is the length of a member's gradient;
`augmentations` counts the copies of each member in a step."""
RECORDS_OF_NOISE = 256
"""How many show the ranges of a network that is rounded after training."""


def check(epsilon: float, noise_multiplier: float, delta: float, max_grad_norm: float, augmentations: int) -> None:
    """Refuse parameters that no training can have.

    Raises:
        ValueError: If one of them is out of its range.
    """
    if not 0 < epsilon <= LARGEST_EPSILON:
        raise ValueError(f"expected dp_sgd.epsilon above 0 and at most {LARGEST_EPSILON:g}; got {epsilon}")
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError(f"expected dp_sgd.noise_multiplier >= 0, 0 to reach epsilon; got {noise_multiplier}")
    if not 0 <= delta < 1:
        raise ValueError(f"expected dp_sgd.delta from 0 to below 1, 0 for a tenth of 1 / members; got {delta}")
    if not 0 < max_grad_norm < math.inf:
        raise ValueError(f"expected dp_sgd.max_grad_norm > 0; got {max_grad_norm}")
    if augmentations < 1:
        raise ValueError(f"expected dp_sgd.augmentations >= 1; got {augmentations}")


def defend(
    setup: TrainSetup,
    _teach: Teach,
    *,
    epsilon: float,
    noise_multiplier: float,
    delta: float,
    max_grad_norm: float,
    augmentations: int,
) -> TrainSetup:
    """Replace step and sampling by private ones, and state what they guarantee over all stages of the training.

    Raises:
        ValueError: If the recipe weights classes, no noise reaches the epsilon, or Opacus is not installed.
    """
    recipe, members = setup.recipe, len(setup.features)
    if recipe.class_weights != "none":
        raise ValueError(
            "expected class_weights 'none' with the defence 'dp_sgd': weights are computed from the labels of all "
            f"members, without noise; got {recipe.class_weights!r}"
        )
    per_epoch = steps_per_epoch(members, recipe.batch_size)
    steps, delta = per_epoch * epochs_of(setup.architecture, recipe), delta or 1 / (10 * members)
    noise = noise_multiplier or noise_for(epsilon, delta, 1 / per_epoch, steps)
    mechanism = Mechanism(noise, 1 / per_epoch, steps)
    copies = augmentations if recipe.augment != "none" else 1
    return replace(
        setup,
        make_step=partial(private_step, noise_multiplier=noise, max_grad_norm=max_grad_norm, copies=copies),
        batches=poisson,
        calibration=_noise(setup),
        guarantee=guarantee_of(mechanism, delta),
    )


def guarantee_of(mechanism: Mechanism, delta: float) -> dict[str, float]:
    """Return the numbers that are stated: the smallest bound on epsilon, each accountant's own, and what they are of.

    An accountant whose number is infinite, as those of little noise may be, is left out.
    """
    found = {f"epsilon_{name}": account(mechanism, delta) for name, account in ACCOUNTANTS.items()}
    return {
        "epsilon": epsilon_of(mechanism, delta),
        "delta": delta,
        **{name: value for name, value in found.items() if math.isfinite(value)},
        "noise_multiplier": mechanism.noise_multiplier,
        "sampling_rate": mechanism.sampling_rate,
        "private_steps": mechanism.steps,
    }


def private_step(training: Training, noise_multiplier: float, max_grad_norm: float, copies: int) -> Step:
    """Return the step that descends along the noisy sum of shortened gradients.

    What it returns is computed from the weights after the step and not from the members' loss: even that a training
    diverged is then known from noisy numbers alone.

    Args:
        training: The training that begins.
        noise_multiplier: Deviation of the noise, in `max_grad_norm`.
        max_grad_norm: Length that a member's gradient is shortened to.
        copies: Changed copies of each member that its gradient is the mean over.
    """
    setup, network = training.setup, training.network
    of_exits = loss_weights(network.architecture)
    expected = len(setup.features) / steps_per_epoch(len(setup.features), setup.recipe.batch_size)
    # The noise shall be that of no other training, nor be among the numbers that weights and batches were drawn from.
    seed = seed_from(setup.seed, "dp_sgd", noise_multiplier, max_grad_norm, network.architecture.key)
    random = torch.Generator().manual_seed(seed)
    observing = Observing(network, setup.features.shape[1:], seed_from(seed, "observed"))

    def loss_of(outputs: Outputs, targets: Tensor) -> Tensor:
        return joint_loss(outputs, of_exits, lambda logits: setup.loss(logits, targets))

    def step(batch: Batch) -> Tensor:
        observing.follow()
        changed = [batch.features, *(training.augment(setup.features[batch.rows]) for _ in range(copies - 1))]
        sums = clipped_sum(network, loss_of, changed, batch.targets, max_grad_norm)
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=random).to(parameter.device)
            parameter.grad = (sums[name] + noise_multiplier * max_grad_norm * noise) / expected
        training.optimizer.step()
        return torch.stack([parameter.detach().abs().amax() for parameter in network.parameters()]).amax()

    return step


def _noise(setup: TrainSetup) -> Tensor:
    """Return records of noise in the shape of the members, on their device."""
    random = torch.Generator().manual_seed(seed_from(setup.seed, "calibration"))
    return torch.randn(RECORDS_OF_NOISE, *setup.features.shape[1:], generator=random).to(setup.features.device)
