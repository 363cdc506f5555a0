"""Train a network in stages: in full width, dense and in float first, then made as small as its graph says.

1. The first stage trains what the graph describes without what is taken away later (`first_of`). Networks that differ
   only in that share it. So do networks that differ in the threshold of their early exits, which no training reads.
2. Channels are removed, weights are set to zero; then, unless the recipe's `pruning` is `one_shot`, what is left is
   trained further, by the same recipe for half as many epochs, zeros staying zero.
3. Weights of layers that share values become the means of their groups.
4. Where the recipe's `quantization` is `afterwards`, weights and tensors are rounded to their bits, tensors by ranges
   that the training records show, or those that a defence gives in their place.

Zeros of a `dynamic` or `safecompress` pruning are there in the first stage already. A network with none of this is
trained in one stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor
from torch import nn

from nas.training import sparse
from nas.training.answers import answering_as
from nas.training.loop import Look
from nas.training.loop import TrainSetup
from nas.training.loop import train
from nas.training.narrow import narrow_weights
from nas.training.post_training import quantized_afterwards
from nas.training.recipe import ZEROS_MOVE
from nas.training.recipe import Recipe
from nas.training.safecompress import branching
from nas.training.schedule import seed_from
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.exits import without_exits
from search_spaces.graph.narrowing import widened
from search_spaces.graph.precision import FLOAT
from search_spaces.network import build

FirstStage: TypeAlias = Callable[[TrainSetup], nn.Module]
"""Trains the first stage, or fetches what was trained before."""


def train_in_stages(setup: TrainSetup, first_stage: FirstStage | None = None) -> nn.Module:
    """Train the network of a set-up to what its graph says, and return it as `nas.training.loop.train` does.

    Args:
        setup: What is trained, and how, its defence included.
        first_stage: Trains the first stage; None: it is trained here.

    Raises:
        nas.training.loop.Diverged: If the loss of a stage is not finite at the end of an epoch.
    """
    architecture, recipe = setup.architecture, setup.recipe
    first = first_of(architecture, recipe)
    if first_stage is None:
        first_stage = partial(train_first, pruning=recipe.pruning)
    network = first_stage(replace(setup, architecture=first))
    target = architecture.as_float() if recipe.quantization == "afterwards" else architecture
    if first.key != target.key and _is_pruned(target) and recipe.pruning not in ZEROS_MOVE:
        network = _pruned(setup, network, target)
    elif target.exit_threshold != first.exit_threshold:
        network = _in(network, target, network.state_dict())
    if any(op.shared_bits for op in architecture.ops):
        network = _in(network, target, _shared(target, network.state_dict()))
    if recipe.quantization == "afterwards":
        calibration = setup.features if setup.calibration is None else setup.calibration
        network = quantized_afterwards(network, architecture, calibration)
    return network


def train_first(setup: TrainSetup, *, pruning: str, look: Look | None = None) -> nn.Module:
    """Train the first stage of a set-up.

    Args:
        setup: Describes its training.
        pruning: Of the candidate's recipe: where zeros are there from the start, it says how they move.
        look: Looks at the network between epochs; not where there are branches, of which it would see any one.

    Raises:
        ValueError: If that pruning cannot train this set-up.
    """
    if pruning == "safecompress" and any(op.sparsity for op in setup.architecture.ops):
        return train(branching(setup))
    return train(setup, make_change=sparse.moving if pruning == "dynamic" else None, look=look)


def first_of(architecture: Architecture, recipe: Recipe) -> Architecture:
    """Return the network of the first stage: in full width, dense, its values not shared, in float where it is rounded.

    Its early exits have no threshold. A network that is trained in one stage is returned as it is.
    """
    zeros_stay = recipe.pruning in ZEROS_MOVE
    network = widened(architecture)
    if network.exit_threshold:
        network = replace(network, exit_threshold=0.0)
    if any(op.shared_bits or (op.sparsity and not zeros_stay) for op in network.ops):
        network = network.with_ops(
            tuple(
                op._replace(shared_bits=0) if zeros_stay else op._replace(shared_bits=0, sparsity=0.0, pattern="")
                for op in network.ops
            )
        )
    return network.as_float() if recipe.quantization == "afterwards" else network


def uncompressed(architecture: Architecture) -> Architecture:
    """Return the network in full width, dense, in float, without early exits: what a teacher of its kind is.

    Args:
        architecture: As it is deployed.
    """
    return without_exits(first_of(architecture, Recipe()).as_float())


def settled(recipe: Recipe, architecture: Architecture) -> Recipe:
    """Return the recipe with what has no effect on a network at its default, so that equal trainings are equal.

    `dynamic` and `safecompress` move single weights: where channels are removed, or zeros lie in groups, they stand for
    `retrained`.
    """
    changes: dict[str, str] = {}
    moves = all(not op.pattern and not op.pruned_from for op in architecture.ops)
    if not _is_pruned(architecture) or (recipe.pruning in ZEROS_MOVE and not moves):
        changes["pruning"] = "retrained"
    if all(op.bits == FLOAT and op.weight_bits == FLOAT for op in architecture.ops):
        changes["quantization"] = "trained"
    return replace(recipe, **changes) if changes else recipe  # type: ignore[arg-type]


def epochs_of(architecture: Architecture, recipe: Recipe) -> int:
    """Return for how many epochs a network is trained in all stages together.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((4,))
    >>> logits = graph.linear(0, 3)
    >>> epochs_of(graph.architecture("example", {}), Recipe(epochs=30))
    30
    """
    return recipe.epochs + (_epochs_again(recipe) if _is_trained_again(architecture, recipe) else 0)


def _epochs_again(recipe: Recipe) -> int:
    return max(1, recipe.epochs // 2)


def _is_trained_again(architecture: Architecture, recipe: Recipe) -> bool:
    return _is_pruned(architecture) and recipe.pruning == "retrained"


def _is_pruned(architecture: Architecture) -> bool:
    return any(op.sparsity or op.pruned_from for op in architecture.ops)


def _pruned(setup: TrainSetup, network: nn.Module, target: Architecture) -> nn.Module:
    """Remove channels and set weights to zero, and train what is left unless the recipe leaves it as it is."""
    weights = narrow_weights(target, network.state_dict())
    masks = sparse.masks_by_magnitude(target, weights)
    weights = sparse.masked(weights, masks)
    recipe = setup.recipe
    if recipe.pruning == "one_shot":
        return _in(network, target, weights)
    again = replace(
        setup,
        architecture=target,
        recipe=replace(recipe, epochs=_epochs_again(recipe)),
        seed=seed_from(setup.seed, "retrained", target.key),
        start={name: value for name, value in weights.items() if not name.startswith("answers.")},
    )
    return train(again, make_change=partial(sparse.holding, masks))


def _shared(architecture: Architecture, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace weights by the means of their groups, zeros of sparse layers left alone."""
    shared = dict(weights)
    for index, op in enumerate(architecture.ops):
        name = f"op{index}_{op.kind}.weight"
        if op.shared_bits:
            weight = weights[name].detach().cpu()
            chosen = weight != 0 if op.sparsity else torch.ones_like(weight, dtype=torch.bool)
            values = weight[chosen].numpy().astype(np.float64)
            shared[name] = weight.masked_scatter(chosen, torch.from_numpy(grouped(values, 2**op.shared_bits)))
    return shared


def grouped(values: NDArray[np.float64], groups: int) -> NDArray[np.float32]:
    """Replace numbers by the means of their groups: k-means that starts from evenly spaced means (Han et al., 2016).

    Args:
        values: `(values,)`.
        groups: How many there may be.

    Returns:
        `(values,)` float32, of at most so many different numbers.
    """
    if len(np.unique(values)) <= groups:
        return values.astype(np.float32)
    start = np.linspace(values.min(), values.max(), groups)[:, None]
    found = KMeans(groups, init=start, n_init=1).fit(values[:, None])
    means: NDArray[np.float32] = found.cluster_centers_[found.labels_, 0].astype(np.float32)
    return means


def _in(network: nn.Module, architecture: Architecture, weights: dict[str, Tensor]) -> nn.Module:
    """Return the network of a graph with other weights, and the answers of the one they come from."""
    place = next(network.parameters()).device
    made = answering_as(build(architecture), network)
    made.load_state_dict(weights)
    return made.eval().to(place)
