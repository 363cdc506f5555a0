"""Which weights of a layer are zero, and how a training keeps them so.

- By magnitude: the smallest of a layer, or of each group of neighbours, become zero (Han et al., 2015; Mishra et al.,
  2021).
- Dynamic: weights are zero from the start, and where moves. Twenty times in the first three quarters of a training the
  smallest weights that are left become zero, and as many zeros with the largest gradients may grow (Evci et al., 2020,
  "Rigging the Lottery"); the share that moves falls from 0.3 to 0 by a cosine.
- Tested: as dynamic, but zeros are moved in several ways at a time, and an attacker chooses
  (`nas.training.safecompress`).

A layer of n weights and sparsity s has exactly round(s n) zeros, after every update.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch import nn

from nas.training.loop import Change
from nas.training.loop import Training
from nas.training.schedule import seed_from
from nas.training.schedule import steps_per_epoch
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op

Masks: TypeAlias = Mapping[str, Tensor]
"""By a weight's name in the network's state: where it may be other than zero, of the weight's shape."""
UPDATES, UNTIL, MOVED = 20, 0.75, 0.3


def sparse_layers(architecture: Architecture) -> Iterator[tuple[str, Op]]:
    """Give the name of the weight of each layer that has zeros, with its operator."""
    for index, op in enumerate(architecture.ops):
        if op.sparsity:
            yield f"op{index}_{op.kind}.weight", op


def masks_by_magnitude(architecture: Architecture, weights: Mapping[str, Tensor]) -> Masks:
    """Keep the largest magnitudes of each layer, or of each group of neighbours."""
    return {name: _mask(weights[name].abs(), op) for name, op in sparse_layers(architecture)}


def masked(weights: Mapping[str, Tensor], masks: Masks) -> dict[str, Tensor]:
    """Return weights with zeros where the masks have none."""
    return {name: value * masks[name] if name in masks else value for name, value in weights.items()}


def holding(masks: Masks, training: Training) -> Change:
    """Return what puts weights back to zero after each step."""
    held = dict(_weights(training.network, masks))

    @torch.no_grad()
    def hold() -> None:
        for name, weight in held.items():
            weight.mul_(masks[name])

    return hold


def random_masks(training: Training) -> dict[str, Tensor]:
    """Draw where the weights of a training may be other than zero, from the set-up's seed."""
    generator = torch.Generator().manual_seed(seed_from(training.setup.seed, "zeros"))
    return {
        name: _mask(torch.rand(weight.shape, generator=generator).to(weight.device), op)
        for name, op in sparse_layers(training.setup.architecture)
        for weight in [training.network.get_parameter(name)]
    }


def moving(training: Training) -> Change:
    """Return what trains a network with zeros from the start, and moves them; see the module."""
    setup = training.setup
    masks = random_masks(training)
    hold = holding(masks, training)
    steps = setup.recipe.epochs * steps_per_epoch(len(setup.features), setup.recipe.batch_size)
    last = math.floor(UNTIL * steps)
    every = max(1, last // UPDATES)
    done = 0

    def change() -> None:
        nonlocal done
        done += 1
        if done % every == 0 and done < last:
            share = MOVED / 2 * (1 + math.cos(math.pi * done / last))
            for name, weight in _weights(training.network, masks):
                masks[name].copy_(moved(masks[name], weight, share))
        hold()

    hold()
    return change


def moved(mask: Tensor, weight: nn.Parameter, share: float) -> Tensor:
    """Return a mask with as many places, some of them others: the smallest weights go, the largest gradients come.

    Args:
        mask: Where the weight may be other than zero.
        weight: With the gradient of the last step, of its zeros too; without one nothing moves.
        share: Of the places, how many are given up.
    """
    if weight.grad is None:
        return mask
    return exchanged(mask, weight.detach().abs(), weight.grad.abs(), share)


def exchanged(mask: Tensor, worth: Tensor, promise: Tensor, share: float) -> Tensor:
    """Return a mask with as many places, some of them others.

    Args:
        mask: Where a weight may be other than zero.
        worth: Of the mask's shape: of its places those with the smallest are given up.
        promise: Of the mask's shape: of the other places as many with the largest are taken.
        share: Of the places, how many are given up, as far as there are others.

    >>> mask = torch.tensor([True, True, False, False])
    >>> numbers = torch.tensor([2.0, 1.0, 3.0, 4.0])
    >>> exchanged(mask, numbers, numbers, share=0.5).tolist()
    [True, False, False, True]
    """
    flat, before = mask.clone().flatten(), mask.flatten()
    count = min(round(share * int(before.sum())), int((~before).sum()))
    if not count:
        return mask
    flat[_smallest(torch.where(before, worth.flatten(), math.inf), count)] = False
    flat[_smallest(torch.where(before, math.inf, -promise.flatten()), count)] = True
    return flat.view_as(mask)


def _mask(magnitudes: Tensor, op: Op) -> Tensor:
    if op.pattern:
        kept, group = (int(number) for number in op.pattern.split(":"))
        # Neighbours along the input channels.
        groups = magnitudes.movedim(1, -1).reshape(-1, group)
        mask = torch.zeros_like(groups, dtype=torch.bool)
        mask.scatter_(1, groups.argsort(dim=1, descending=True, stable=True)[:, :kept], value=True)
        return mask.view(magnitudes.movedim(1, -1).shape).movedim(-1, 1).contiguous()
    mask = torch.ones(magnitudes.numel(), dtype=torch.bool, device=magnitudes.device)
    mask[_smallest(magnitudes.flatten(), round(op.sparsity * magnitudes.numel()))] = False
    return mask.view_as(magnitudes)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Return the places of the smallest values; of equal ones the first, so that the count is exact."""
    return values.argsort(stable=True)[:count]


def _weights(network: nn.Module, masks: Masks) -> Iterator[tuple[str, nn.Parameter]]:
    for name in masks:
        yield name, network.get_parameter(name)
