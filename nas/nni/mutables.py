"""Distributions as NNI's mutables, and back. Imports NNI: what is imported before one knows that it is there does not.

Whole numbers become a choice of all of them: NNI's quantised number is a float, it draws the ends half as often, and
NNI's own tuners take no number of a model space (`Mutable.as_legacy_dict` is written for choices only).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from nni.mutable import Categorical
from nni.mutable import CategoricalMultiple
from nni.mutable import Mutable
from nni.mutable import MutableDict
from nni.mutable import Numerical
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.nni import space_json
from search_spaces.graph.architecture import Params
from search_spaces.space import Distributions

MOST_SUBSETS = 1024
"""Subsets of its inputs that a choice may have to be one parameter here."""


def mutable(name: str, distribution: BaseDistribution) -> Mutable:
    """Return the NNI mutable that takes exactly the values of a distribution.

    Raises:
        ValueError: If NNI has none.
    """
    if isinstance(distribution, CategoricalDistribution):
        return _choice(name, list(distribution.choices))
    if isinstance(distribution, IntDistribution):
        return _choice(name, list(range(distribution.low, distribution.high + 1, distribution.step)))
    if isinstance(distribution, FloatDistribution):
        if distribution.low == distribution.high:
            return _choice(name, [distribution.low])
        if distribution.step is not None:
            space_json.check_on_grid(name, distribution.low, distribution.high, distribution.step)
        return Numerical(
            distribution.low,
            distribution.high,
            log_distributed=distribution.log,
            quantize=distribution.step,
            label=name,
        )
    raise ValueError(f"no rule for {type(distribution).__name__}; there are categorical, int and float distributions")


def mutables(distributions: Distributions) -> dict[str, Mutable]:
    """Return the mutables of a space by name.

    Raises:
        ValueError: If NNI has no mutable for a distribution.
    """
    return {name: mutable(name, distribution) for name, distribution in distributions.items()}


@dataclass(frozen=True, eq=False)
class Point:
    """A point of a space as NNI's engines carry it: they keep weak references, which a dictionary has none of.

    Attributes:
        params: The value of each parameter.
    """

    params: Params


class PointSpace(MutableDict):  # type: ignore[misc] # NNI has no types
    """A space as an NNI model space, for NNI's strategies: freezing it at a sample gives the point.

    Raises:
        ValueError: If NNI has no mutable for a distribution.
    """

    def __init__(self, distributions: Distributions) -> None:
        super().__init__(mutables(distributions))

    def freeze(self, sample: Mapping[str, Any]) -> Point:
        """Return the point at a sample, which NNI validates."""
        return Point(super().freeze(sample))


@dataclass(frozen=True)
class Read:
    """The parameters of an NNI space.

    Attributes:
        distributions: One for each label.
        subsets: What the values of a parameter stand for, where it chooses several inputs: lists, by their text.
    """

    distributions: Distributions
    subsets: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)

    def sample(self, params: Params) -> dict[str, Any]:
        """Return a point as NNI freezes a space at it."""
        return {
            label: list(self.subsets[label][str(value)]) if label in self.subsets else value
            for label, value in params.items()
        }


def read(space: Mutable) -> Read:
    """Read the parameters of an NNI space.

    A choice among inputs becomes a choice of texts: `"0,2"` stands for the inputs 0 and 2. The empty choice is left
    out, as nothing follows from it. Weights of choices are left out too: they guide NNI's random search alone.

    Args:
        space: A model space, or any other mutable.

    Raises:
        ValueError: If a parameter has no counterpart here.
    """
    found: dict[str, BaseDistribution] = {}
    subsets: dict[str, dict[str, list[Any]]] = {}
    for label, one in space.simplify().items():
        if isinstance(one, CategoricalMultiple):
            subsets[label] = _subsets(label, one.values, one.n_chosen)
            found[label] = CategoricalDistribution(list(subsets[label]))
        elif isinstance(one, Categorical):
            found[label] = _categorical(label, one.values)
        elif isinstance(one, Numerical):
            found[label] = _number(label, one)
        else:
            raise ValueError(f"no counterpart for NNI's {type(one).__name__} {label!r}; there are choices and numbers")
    if not found:
        raise ValueError("expected a model space with something to choose; got one without")
    return Read(found, subsets)


def _choice(name: str, values: Sequence[Any]) -> Categorical:
    """Return a choice; NNI takes 1 and True for the same.

    Raises:
        ValueError: If two values are equal.
    """
    if any(one == other for one, other in itertools.combinations(values, 2)):
        raise ValueError(f"expected values of {name!r} that NNI can tell apart, no two of them equal; got {values}")
    return Categorical(values, label=name)


def _categorical(label: str, values: Sequence[Any]) -> CategoricalDistribution:
    if wrong := [value for value in values if not isinstance(value, bool | int | float | str | None)]:
        raise ValueError(f"expected numbers, texts, booleans or None to choose from for {label!r}; got {wrong[0]!r}")
    return CategoricalDistribution(values)


def _number(label: str, one: Numerical) -> BaseDistribution:
    kind = one.distribution.dist.name
    if kind not in ("uniform", "loguniform", "reciprocal") or not (math.isfinite(one.low) and math.isfinite(one.high)):
        raise ValueError(f"expected a uniform or loguniform number for {label!r}, with ends; got {one!r}")
    if one.quantize is None:
        return FloatDistribution(float(one.low), float(one.high), log=one.log_distributed)
    entry = {
        "_type": "qloguniform" if one.log_distributed else "quniform",
        "_value": [one.low, one.high, one.quantize],
    }
    return space_json.from_nni({label: entry}, "the model space")[label]


def _subsets(label: str, values: Sequence[Any], count: int | None) -> dict[str, list[Any]]:
    counts = range(1, len(values) + 1) if count is None else (count,)
    total = sum(math.comb(len(values), number) for number in counts)
    if not 0 < total <= MOST_SUBSETS:
        raise ValueError(f"expected at most {MOST_SUBSETS} ways to choose inputs for {label!r}; got {total}")
    chosen = [list(found) for number in counts for found in itertools.combinations(values, number)]
    return {",".join(map(str, found)): found for found in chosen}
