"""An NNI model space as a space of one's own: its choices are the parameters, and a frozen model gives the graph.

Importing this module imports NNI, set up so that it needs no PyTorch Lightning: import it before `nni.nas.nn.pytorch`.

A description builds the model's layers, without their numbers, and traces them: tens of milliseconds, a thousand times
what a space written here takes. Descriptions are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from functools import partial
from typing import Any

import torch
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution

from nas.nni.check import check
from nas.nni.importing import imported
from nas.nni.traced import graph_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import Shape
from search_spaces.space import SearchSpace

check("a model space of NNI's")
_nni = imported("nni.nas.nn.pytorch")
_space = imported("nni.nas.space")
_mutables = imported("nas.nni.mutables")
KEPT = 20_000
"""Descriptions that are kept."""


def space_of(
    name: str, make: Callable[[], Any], input_shape: Shape, num_classes: int, reference: Params | None = None
) -> SearchSpace:
    """Return an NNI model space as a search space.

    Args:
        name: Name of the space: the file's that calls this.
        make: Makes the model space: its class, or a `functools.partial` of it with the task's shapes. Each call makes
            the same one, and it can be sent to another process.
        input_shape: Shape of one record.
        num_classes: Length of the logits.
        reference: A small, cheap point; left out, the first value of each choice.

    Raises:
        ValueError: If `make` gives no model space, a choice has no counterpart here, or the reference no graph.
    """
    with torch.device("meta"):
        model = make()
    if not isinstance(model, _nni.ModelSpace):
        raise ValueError(f"expected a ModelSpace of NNI's for the space {name!r}; got {type(model).__name__}")
    try:
        choices = _mutables.read(model)
    except ValueError as error:
        raise ValueError(f"the space {name!r}: {error}") from error
    shape = tuple(int(length) for length in input_shape)
    describe = partial(_describe, name, make, shape, choices.subsets)
    least = {label: _first(distribution) for label, distribution in choices.distributions.items()}
    space = SearchSpace(
        name, shape, num_classes, choices.distributions, describe, least if reference is None else reference
    )
    _check_logits(space)
    return space


def _check_logits(space: SearchSpace) -> None:
    network = space.decode(space.reference)
    if (got := network.ops[network.outputs[0]].shape) != (space.num_classes,):
        raise ValueError(f"the space {space.name!r}: expected {space.num_classes} logits; its model gives {got}")


def _describe(
    name: str,
    make: Callable[[], Any],
    input_shape: Shape,
    subsets: Mapping[str, Mapping[str, list[Any]]],
    params: Params,
) -> Architecture:
    sample = tuple(
        (label, tuple(subsets[label][str(value)]) if label in subsets else value)
        for label, value in sorted(params.items())
    )
    try:
        network = _network(name, make, input_shape, sample)
    except ValueError as error:
        raise ValueError(f"no network for {dict(sample)}: {error}") from error
    return replace(network, params=dict(params))


@lru_cache(KEPT, typed=True)
def _network(
    name: str, make: Callable[[], Any], input_shape: Shape, sample: tuple[tuple[str, Any], ...]
) -> Architecture:
    """Freeze a model space as NNI does, by making it where the choices are made already, and write its graph."""
    chosen = {label: list(value) if isinstance(value, tuple) else value for label, value in sample}
    with _space.model_context(chosen), torch.device("meta"):
        model = make()
    return graph_of(model, name, input_shape, {})


def _first(distribution: BaseDistribution) -> ParamValue:
    if isinstance(distribution, CategoricalDistribution):
        choice: ParamValue = distribution.choices[0]
        return choice
    lowest: ParamValue = distribution.low  # type: ignore[attr-defined] # of numbers
    return lowest
