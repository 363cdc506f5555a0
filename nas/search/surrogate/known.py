"""What is known of a candidate before it is trained: its costs, and numbers that tell it from others."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any
from typing import TypeAlias

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from estimators.devices.fields import CannotRun
from estimators.estimate import flat
from estimators.estimate import metric_of
from estimators.estimate import number_of
from nas.pricing.limits import over
from nas.pricing.price import as_shipped
from nas.pricing.price import screen
from nas.search.plan import Plan
from search_spaces.graph.features import features

Groups: TypeAlias = Mapping[str, Mapping[str, float]]
"""Features by group, by name. One that is not there is 0."""


@dataclass(frozen=True)
class Known:
    """What is known of a candidate before it is trained.

    Attributes:
        costs: For each objective its value; None for one that a training finds out.
        groups: Features; see `Groups`.
        key: Equal for two candidates that need not both be trained.
        promise: How well it is believed to do among candidates of its costs, before any is trained; higher is better.
    """

    costs: tuple[float | None, ...]
    groups: Groups
    key: Hashable
    promise: float = 0.0


Look: TypeAlias = Callable[[Mapping[str, Any]], Known | None]
"""Returns what is known of the candidate at a point, None of one that is not worth a training."""


def looking(plan: Plan) -> Look:
    """Return what looks at the candidates of a search: its features are those of the graph, the recipe and the defence.

    None is returned of a candidate that the device cannot run or that exceeds a limit on its costs.
    """
    limits, objectives = plan.limits, plan.config.objectives
    needed = {metric_of(name, plan.metrics) for name in (*objectives, *(limit.metric for limit in limits))}
    metrics = {name: price for name, price in plan.metrics.items() if name in needed}

    def look(params: Mapping[str, Any]) -> Known | None:
        candidate = plan.candidate(params)
        try:
            if plan.table:
                plan.table.figures(params)
            shipped = as_shipped(candidate.architecture, plan.device)
            numbers = flat(screen(shipped, plan.device, metrics))
        except CannotRun:
            return None
        if over(numbers, limits):
            return None
        graph = features(candidate.architecture)
        beside = _beside(plan, params)
        same = (tuple(sorted((group, *sorted(named.items())) for group, named in graph.items())), tuple(beside.items()))
        chosen = {name: params[name] for name in plan.space.distributions}
        groups = {
            **graph,
            **in_groups({"choices": chosen}, plan.space.distributions),
            **in_groups(beside, plan.distributions),
        }
        # At one cost, networks that compute more and are deeper err less.
        promise = graph["sizes"]["macs"] + graph["mean path"]["layers"]
        return Known(tuple(number_of(numbers, name) for name in objectives), groups, str(same), promise)

    return look


def _beside(plan: Plan, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is sampled beside the architecture by group: each part of the recipe, the defence, its strength."""
    found: dict[str, dict[str, Any]] = {}
    for name in plan.config.beside_the_space():
        found[name] = {name: params[name]}
    of_defence = [name for settings in plan.defence_settings.values() for name in settings.distributions()]
    chosen = params.get("defence", plan.config.defences[0])
    mine = plan.defence_settings[chosen].distributions() if chosen in plan.defence_settings else {}
    if of_defence:
        found["strength"] = {name: params[name] for name in of_defence if name in mine}
    return found


def in_groups(values: Mapping[str, Mapping[str, Any]], distributions: Mapping[str, BaseDistribution]) -> Groups:
    """Turn sampled values into features: numbers from 0 to 1 on the scale they are sampled on, and a 1 for each choice.

    >>> in_groups({"recipe": {"epochs": 3, "loss": "kl"}}, {
    ...     "epochs": IntDistribution(1, 5), "loss": CategoricalDistribution(["kl", "ce"])})
    {'recipe': {'epochs': 0.5, 'loss=kl': 1.0}}
    """
    return {
        group: dict(_feature(name, value, distributions[name]) for name, value in named.items())
        for group, named in values.items()
    }


def _feature(name: str, value: Any, distribution: BaseDistribution) -> tuple[str, float]:
    if isinstance(distribution, CategoricalDistribution):
        return f"{name}={value}", 1.0
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    scale: Callable[[float], float] = log if distribution.log else float
    low, high = scale(distribution.low), scale(distribution.high)
    return name, (scale(value) - low) / (high - low) if high > low else 0.0


def by_choice(distributions: Mapping[str, BaseDistribution]) -> Callable[[Mapping[str, Any]], Groups]:
    """Return what makes features of any point: one group of all choices, and one for each number."""
    choices = [name for name, one in distributions.items() if isinstance(one, CategoricalDistribution)]

    def made(params: Mapping[str, Any]) -> Groups:
        values: dict[str, dict[str, Any]] = {"choices": {name: params[name] for name in choices}}
        values |= {name: {name: params[name]} for name in distributions if name not in choices}
        return in_groups(values, distributions)

    return made


def columns_of(known: Sequence[Known]) -> list[tuple[str, str]]:
    """List the group and the name of every feature of some candidates, in an order that does not depend on theirs."""
    return sorted({(group, name) for one in known for group, named in one.groups.items() for name in named})
