"""Search spaces by name, networks of them by name, and random points of them."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from functools import lru_cache

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.base import plugins
from nas.base import sizes
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import Shape
from search_spaces.graph.integers import in_integers
from search_spaces.graph.precision import INTEGER_WIDTHS
from search_spaces.graph.precision import TERNARY
from search_spaces.space import Distributions
from search_spaces.space import NamedNetwork
from search_spaces.space import SearchSpace

COMPRESSIONS = "search_spaces.compressions"
DEFAULT = "conv"
"""The space of parameters that name none."""
ALIKE = 0.6
"""How alike two names of networks are (`difflib`) to suggest one for the other."""
ORDER = ("exits", "channels", "sparsity", "weight_sharing")
"""Of compressions: early exits first, so that the others find them; what is about single weights last."""
TERNARY_BY_NAME = 3
"""The first training version whose two-bit weights are whole numbers, and whose ternary ones have that name."""


@lru_cache
def space_named(name: str, input_shape: tuple[int, ...] | None = None, num_classes: int | None = None) -> SearchSpace:
    """Return a space for a task; what is left out is the space's usual task, small grey images where it has none.

    Raises:
        ValueError: If there is no such space, it has no such task, a size is beyond all measure, or its reference is no
            point of it, or no network for these classes.
    """
    usual_shape, usual_classes = plugins.find("search_spaces", name, "USUAL_TASK") or ((1, 8, 8), 10)
    make_space = plugins.load("search_spaces", name, "make_space")
    shape = usual_shape if input_shape is None else input_shape
    classes = usual_classes if num_classes is None else num_classes
    sizes.check_task(shape, classes)
    space: SearchSpace = make_space(shape, classes)
    _check_reference(space)
    return space


def _check_reference(space: SearchSpace) -> None:
    try:
        network = space.decode(space.reference)
    except ValueError as error:
        raise ValueError(f"the reference of the space {space.name!r}: {error}") from error
    shapes = [network.ops[output].shape for output in network.outputs]
    if any(shape != (space.num_classes,) for shape in shapes):
        raise ValueError(
            f"the reference of the space {space.name!r}: expected {space.num_classes} logits; got outputs of the "
            f"shapes {shapes}"
        )


@dataclass(frozen=True)
class Named:
    """A network with published counts, and the space that it is a point of.

    Attributes:
        space: Name of the space.
        network: The point, what it is for, and where it was published.
    """

    space: str
    network: NamedNetwork

    def point(self, input_shape: Shape | None = None, num_classes: int | None = None) -> tuple[SearchSpace, Params]:
        """Return the space and the network's parameters in it, for another task where one is given.

        Raises:
            ValueError: If the space has no such task.
        """
        shape = self.network.input_shape if input_shape is None else input_shape
        classes = self.network.num_classes if num_classes is None else num_classes
        space = space_named(self.space, shape, classes)
        return space, {**space.reference, **self.network.params}

    def architecture(self) -> Architecture:
        """Describe the network for its own task.

        Raises:
            ValueError: If it is no point of its space.
        """
        space, params = self.point()
        return space.decode(params)


def networks_of(space: str) -> dict[str, Named]:
    """Return the networks with published counts of one space, by name.

    Raises:
        ValueError: If a module of the user's own is not trusted, or its `NETWORKS` are none.
    """
    networks: Mapping[str, NamedNetwork] = plugins.find("search_spaces", space, "NETWORKS") or {}
    return {name: Named(space, network) for name, network in networks.items()}


@lru_cache
def all_networks() -> Mapping[str, Named]:
    """Return the networks with published counts of all spaces that are shipped, by name."""
    shipped = plugins.available("search_spaces", "make_space")
    return {name: named for space in shipped for name, named in networks_of(space).items()}


def find_named(name: str, space: str | None) -> Named | None:
    """Find a network by its name, None if there is none of this name.

    Args:
        name: Its name.
        space: The space to look in, which may be a module of the user's own; None: all that are shipped.

    Raises:
        ValueError: If the network is of another space.

    >>> find_named("nb201-0", None).space, find_named("no such network", None)
    ('nb201', None)
    """
    if space is not None and (found := networks_of(space).get(name)):
        return found
    shipped = all_networks().get(name)
    if shipped is not None and space is not None:
        raise ValueError(f"expected --space {shipped.space}, or none, with the network {name!r}; got {space!r}")
    return shipped


def like_named(name: str, space: str | None) -> list[str]:
    """List the names of networks that are nearly a name, the nearest first; all of a space of the user's own.

    >>> like_named("NB201_0", None)[0]
    'nb201-0'
    """
    own = networks_of(space) if space is not None else {}
    if space is not None and plugins.is_own(space):
        return sorted(own)
    known = sorted({**all_networks(), **own})
    return difflib.get_close_matches(name.lower().replace("_", "-"), known, cutoff=ALIKE)


def as_run(space: SearchSpace, float_becomes_bits: int | None) -> SearchSpace:
    """Return a space of the networks that run on a device whose converter gives other bits to what is in float.

    What is trained, measured and attacked is then what is priced: two points that differ in nothing but what the
    converter makes equal are one network.

    Args:
        space: The space as its file describes it.
        float_becomes_bits: As in `estimators.devices.device.Device`; None: nothing is converted. More than 8 bits
            change no answer that is measured: such networks stay in float.

    Raises:
        ValueError: If networks of such a width cannot be trained.

    >>> space = space_named("mlp", (8,), 3)
    >>> as_run(space, None) is space
    True
    >>> {op.weight_bits for op in as_run(space, 8).decode(space.reference).ops if op.kind == "linear"}
    {8}
    """
    if float_becomes_bits is None or float_becomes_bits > max(INTEGER_WIDTHS):
        return space
    if float_becomes_bits not in INTEGER_WIDTHS:
        raise ValueError(
            f"expected a device that gives one of {list(INTEGER_WIDTHS)} bits to what is in float, or more than "
            f"{max(INTEGER_WIDTHS)}, to train what runs there; got {float_becomes_bits}"
        )

    def describe(params: Params) -> Architecture:
        return in_integers(space.describe(params), float_becomes_bits)

    return replace(space, describe=describe)


def compressible(space: SearchSpace, compressions: Collection[str]) -> SearchSpace:
    """Return a space whose networks may also be compressed, by parameters named `COMPRESSION.parameter`.

    Args:
        space: The space of the networks themselves.
        compressions: Files of `search_spaces/compressions`.

    Raises:
        ValueError: If there is none of such a name.

    >>> space = compressible(space_named("mlp", (8,), 3), ["sparsity"])
    >>> network = space.decode({**space.reference, "sparsity.share": 0.5})
    >>> [op.sparsity for op in network.ops if op.kind == "linear"]
    [0.5, 0.5]
    """
    if not compressions:
        return space
    shipped = {name: place for place, name in enumerate(ORDER)}
    names = sorted(compressions, key=lambda name: shipped.get(name, len(shipped)))
    choices = {name: plugins.load(COMPRESSIONS, name, "PARAMETERS") for name in names}
    compress = {name: plugins.load(COMPRESSIONS, name, "compress") for name in names}
    added = {
        f"{plugins.short_name(name)}.{parameter}": list(values)
        for name in names
        for parameter, values in choices[name].items()
    }

    def describe(params: Params) -> Architecture:
        network = space.describe({name: params[name] for name in space.distributions})
        for name in names:
            own = {parameter: params[f"{plugins.short_name(name)}.{parameter}"] for parameter in choices[name]}
            network = compress[name](network, **own)
        return replace(network, params=dict(params))

    return replace(
        space,
        distributions={
            **space.distributions,
            **{name: CategoricalDistribution(values) for name, values in added.items()},
        },
        describe=describe,
        reference={**space.reference, **{name: values[0] for name, values in added.items()}},
    )


def compressions_in(params: Collection[str]) -> list[str]:
    """List the compressions whose parameters are among the names of a point.

    >>> compressions_in(["depth", "sparsity.share", "sparsity.pattern"])
    ['sparsity']
    """
    return sorted({name.rpartition(".")[0] for name in params if "." in name})


def with_ternary(params: Params, version: int) -> Params:
    """Return a point as it is written now: before training version 3, two bits of weights were ternary.

    Args:
        params: A point of a space.
        version: The training version that it was trained or written by, 0 where nobody noted one.

    >>> with_ternary({"block1_weight_bits": 2, "block1_activation_bits": 2}, version=2)
    {'block1_weight_bits': 'ternary', 'block1_activation_bits': 2}
    """
    if version >= TERNARY_BY_NAME:
        return params
    of_weights = ("weight_bits", "first_bits")
    return {name: TERNARY if value == 2 and name.endswith(of_weights) else value for name, value in params.items()}


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
