"""A search space: a fixed set of choices and a description of each point as an operator graph."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from functools import partial
from typing import TypeAlias
from typing import TypeVar

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import Shape

Distributions: TypeAlias = Mapping[str, BaseDistribution]
Choices: TypeAlias = Mapping[str, Sequence[ParamValue]]
_Value = TypeVar("_Value")
MOST_LISTED = 1000
"""Values of a parameter that are found by a look-up; others are compared with its distribution."""


def contains(distribution: BaseDistribution, value: ParamValue) -> bool:
    """Tell whether a value could have been sampled from a distribution.

    >>> contains(IntDistribution(2, 8, step=2), 5), contains(CategoricalDistribution([8, 4]), 4)
    (False, True)
    """
    if isinstance(distribution, CategoricalDistribution):
        # True == 1 == 1.0, but a sampler could not have drawn one for the other.
        return any(choice == value and type(choice) is type(value) for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(distribution, IntDistribution):
        in_range = distribution.low <= value <= distribution.high
        return isinstance(value, int) and in_range and (value - distribution.low) % distribution.step == 0
    if isinstance(distribution, FloatDistribution):
        return distribution.low <= value <= distribution.high
    raise ValueError(f"no rule for {type(distribution).__name__}; there are categorical, int and float distributions")


def describe_distribution(distribution: BaseDistribution) -> str:
    """Say in a few words what a distribution allows."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {list(distribution.choices)}"
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return f"{distribution.low} to {distribution.high}"
    return str(distribution)


def check_point(distributions: Distributions, params: Params, what: str) -> None:
    """Refuse a point that no sampler could have drawn.

    Raises:
        ValueError: If a parameter is missing, unknown or out of range; all problems are named together.
    """
    problems = [f"no parameter {name!r}" for name in params if name not in distributions]
    for name, distribution in distributions.items():
        if name not in params:
            problems.append(f"{name!r} is missing")
        elif not contains(distribution, params[name]):
            problems.append(f"{name}={params[name]!r}, expected {describe_distribution(distribution)}")
    if problems:
        raise ValueError(f"not a point of {what}: {'; '.join(problems)}; there are {sorted(distributions)}")


@dataclass(frozen=True)
class SearchSpace:
    """All the networks a search may propose for one kind of input.

    Attributes:
        name: The plug-in's file name.
        input_shape: Shape of one record.
        num_classes: Length of the logits.
        distributions: One Optuna distribution for each parameter. Fixed: a choice that does not apply to a point is
            ignored by `describe`, never absent, because samplers learn badly from ranges that move.
        describe: Turns a valid point into its graph; microseconds, no tensors.
        reference: A small, cheap point: the networks of the reference bank are built from it.
        parse: Reads the space's customary text of a point, where it has one (raises ValueError); else None.
    """

    name: str
    input_shape: Shape
    num_classes: int
    distributions: Distributions
    describe: Callable[[Params], Architecture]
    reference: Params
    parse: Callable[[str], Params] | None = None

    def decode(self, params: Params) -> Architecture:
        """Check a point and describe its network.

        Raises:
            ValueError: If the point does not belong to the space.
        """
        if not self._has(params):
            check_point(self.distributions, params, f"the space {self.name!r}")
        return self.describe(params)

    def _has(self, params: Params) -> bool:
        """Tell whether a point is surely one of this space: look-ups are quick, and most points were sampled."""
        listed = self._listed
        try:
            found = [(type(value), value) in listed[name] for name, value in params.items()]
        except (KeyError, TypeError):  # a stranger, or a value that has no hash and so is no choice
            return False
        return len(found) == len(listed) and False not in found

    @cached_property
    def _listed(self) -> dict[str, frozenset[tuple[type, ParamValue]]]:
        """The values of each parameter with their types; none of one that has too many to be listed."""
        listed = {}
        for name, distribution in self.distributions.items():
            values: Sequence[ParamValue] = ()
            if isinstance(distribution, CategoricalDistribution):
                values = distribution.choices
            elif isinstance(distribution, IntDistribution):
                values = range(distribution.low, distribution.high + 1, distribution.step)
            listed[name] = frozenset((type(value), value) for value in values[:MOST_LISTED])
        return listed


def numbered(what: str, count: int, table: Mapping[str, _Value]) -> dict[str, _Value]:
    """Repeat a table for each of several stages, blocks or layers, with their numbers in the names.

    >>> numbered("block", 2, {"width": 8})
    {'block1_width': 8, 'block2_width': 8}
    """
    return {f"{what}{number}_{name}": value for number in range(1, count + 1) for name, value in table.items()}


def distributions_of(choices: Choices) -> dict[str, BaseDistribution]:
    """Return the distributions of a table of choices: a range samples whole numbers, anything else its members.

    >>> distributions_of({"depth": range(1, 4), "kernel": (3, 5)})
    {'depth': IntDistribution(high=3, log=False, low=1, step=1), 'kernel': CategoricalDistribution(choices=(3, 5))}
    """
    return {
        name: IntDistribution(values.start, values.stop - 1, step=values.step)
        if isinstance(values, range)
        else CategoricalDistribution(values)
        for name, values in choices.items()
    }


def image_space(
    name: str,
    input_shape: Shape,
    num_classes: int,
    *,
    choices: Choices,
    describe: Callable[[Shape, int, Params], Architecture],
    reference: Params,
) -> SearchSpace:
    """Return a space of networks for images and signals, after a look at the task.

    Args:
        name: The plug-in's file name.
        input_shape: `(channels, height, width)`; of a signal `(channels, 1, time)`.
        num_classes: Length of the logits, 2 or more.
        choices: What may be sampled for each parameter; see `distributions_of`.
        describe: Turns input shape, number of classes and a point into a graph. A function of a module, so that the
            space can be sent to another process.
        reference: See `SearchSpace`.

    Raises:
        ValueError: If the shape is not that of an image or there are fewer than two classes.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"expected images (channels, height, width) for the space {name!r}; got shape {input_shape}")
    if num_classes < 2:
        raise ValueError(f"expected two classes or more; got {num_classes}")
    shape = tuple(int(length) for length in input_shape)
    described = partial(describe, shape, num_classes)
    return SearchSpace(name, shape, num_classes, distributions_of(choices), described, reference)


@dataclass(frozen=True)
class NamedNetwork:
    """A network with published counts, as a point of a space: `NETWORKS` of a space's file holds them by name.

    Attributes:
        params: What differs from the reference of the space for this task.
        input_shape: Shape of one record.
        num_classes: Length of the logits.
        source: Where the network and its counts were published: authors, year, title or repository.
    """

    params: Params
    input_shape: Shape
    num_classes: int
    source: str
