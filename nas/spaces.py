"""Search spaces by name, and random points of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.base import plugins
from nas.base import sizes
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import Distributions
from search_spaces.space import SearchSpace


@lru_cache
def space_named(name: str, input_shape: tuple[int, ...] | None = None, num_classes: int | None = None) -> SearchSpace:
    """Return a space for a task; what is left out is the space's usual task, small grey images where it has none.

    Raises:
        ValueError: If there is no such space, it has no such task, or a size is beyond all measure.
    """
    usual_shape, usual_classes = plugins.find("search_spaces", name, "USUAL_TASK") or ((1, 8, 8), 10)
    make_space = plugins.load("search_spaces", name, "make_space")
    shape = usual_shape if input_shape is None else input_shape
    classes = usual_classes if num_classes is None else num_classes
    sizes.check_task(shape, classes)
    space: SearchSpace = make_space(shape, classes)
    return space


def sample(distributions: Distributions, rng: np.random.Generator) -> dict[str, ParamValue]:
    """Draw one point, each parameter independently and uniformly (on its log scale where it has one)."""
    return {name: _draw(distribution, rng) for name, distribution in distributions.items()}


def _draw(distribution: BaseDistribution, rng: np.random.Generator) -> ParamValue:
    if isinstance(distribution, CategoricalDistribution):
        choice: ParamValue = distribution.choices[int(rng.integers(len(distribution.choices)))]
        return choice
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        raise TypeError(f"no rule for {type(distribution).__name__}; there are categorical, int and float")
    low, high = (
        np.log([distribution.low, distribution.high]) if distribution.log else (distribution.low, distribution.high)
    )
    value = float(rng.uniform(low, high))
    value = float(np.exp(value)) if distribution.log else value
    if isinstance(distribution, FloatDistribution):
        return min(max(value, distribution.low), distribution.high)
    steps = round((value - distribution.low) / distribution.step)
    return int(min(distribution.low + steps * distribution.step, distribution.high))


def random_points(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Draw different networks of a space, in float.

    Args:
        space: The space.
        count: How many; fewer come back where the space has no more.
        seed: Other seeds give other networks, not none in common: compare `structure_of`.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Architecture] = {}
    for _ in range(20 * count):
        network = space.describe(sample(space.distributions, rng)).as_float()
        found.setdefault(network.key, network)
        if len(found) == count:
            break
    return list(found.values())
