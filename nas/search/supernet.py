"""First candidates from a super-network (`--like supernet`): many networks are screened by shared weights.

Points of the space are drawn at random and priced. Those that run on the device and keep the limits are the networks
that a super-network is trained for (`nas.training.supernet`), less the largest ones: its tensors are as large as the
largest network needs them. It is trained on the members, as the middle of the recipe says but for `LONGER` times as
many epochs, without a defence. Then each of the networks is predicted: its error on validation records, and the AUC of
the search's attack on it. Those whose predictions and costs are best are trained like any other candidate.

All of it follows from the plan, so every process finds the same. A prediction is kept beside a candidate's figures,
under names of its own, and takes the place of none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from optuna.study._multi_objective import _fast_non_domination_rank

from estimators.devices.fields import CannotRun
from estimators.estimate import flat
from estimators.estimate import metric_of
from estimators.estimate import number_of
from nas.base import plugins
from nas.base import processes
from nas.pricing.limits import over
from nas.search.bench import make_bench
from nas.search.plan import Plan
from nas.spaces import sample
from nas.training.assess import Bench
from nas.training.schedule import seed_from
from nas.training.supernet import Prediction
from nas.training.supernet import Screen
from nas.training.supernet import SuperSpec
from nas.training.supernet import build_supernet
from nas.training.supernet import screen_with
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params

DRAWN = 2500
"""Points of the space that are drawn and priced."""
LARGEST = 0.1
"""The share of networks with most weights, and of those with most multiply-accumulates, that is left out."""
LONGER = 10
"""For so many times the epochs of a candidate a super-network is trained: each step trains one network of many."""
CHOSEN = 10
"""Candidates that are asked for."""
log = logging.getLogger("nas")


@dataclass(frozen=True, eq=False)
class Priced:
    """A network that may be trained.

    Attributes:
        number: Of its point, as it was drawn.
        params: Its point.
        architecture: The network.
        costs: Its costs with their intervals, by name.
    """

    number: int
    params: Params
    architecture: Architecture
    costs: Mapping[str, float | bool]


@dataclass(frozen=True, eq=False)
class Found:
    """What a super-network finds.

    Attributes:
        best: The networks of the lowest non-dominated rank, spread over it, by the first objective.
        drawn: How many points were drawn.
        screened: How many networks were predicted.
        epochs: For how many epochs the super-network was trained.
        left_out: Objectives that are not predicted.
    """

    best: tuple[Priced, ...]
    drawn: int
    screened: int
    epochs: int
    left_out: tuple[str, ...]


def predicted_best(plan: Plan) -> Found:
    """Train the super-network, or fetch it, screen its networks, and choose those that are predicted to be best.

    Raises:
        ValueError: If hardly any network keeps the limits, or the training diverged.
    """
    pool = pool_of(plan)
    log.warning("nas: like supernet: a super-network is trained on the members, then %d networks screened", len(pool))
    with processes.one_thread():
        screen = _screen(plan, make_bench(plan), pool)
        predicted = [(one, found) for one in pool if (found := screen.predict(one.architecture)) is not None]
    columns = {name: _column(name, predicted) for name in plan.config.objectives}
    values = np.array([column for column in columns.values() if column is not None]).T
    if not predicted or not values.size:
        raise ValueError(
            "expected an objective that is a cost, error or leakage, and networks with finite logits, for like "
            f"'supernet'; got {list(plan.config.objectives)}"
        )
    best = sorted(spread(values, CHOSEN), key=lambda place: (*values[place], place))
    return Found(
        best=tuple(predicted[place][0] for place in best),
        drawn=DRAWN,
        screened=len(predicted),
        epochs=screen.spec.recipe.epochs,
        left_out=tuple(name for name, column in columns.items() if column is None),
    )


def screen_of(plan: Plan, bench: Bench) -> Screen:
    """Return what predicts candidates of a search, training its super-network unless it is in the cache."""
    return _screen(plan, bench, pool_of(plan))


def spec_of(plan: Plan, pool: Sequence[Priced]) -> SuperSpec:
    """Return what the super-network of a search is.

    Args:
        plan: The search.
        pool: The networks that it is trained for.
    """
    recipe = plan.config.recipe.middle()
    return SuperSpec(
        data=plan.data,
        networks=tuple(one.architecture for one in pool),
        layer_names=plugins.find("search_spaces", plan.config.space, "layer_names"),
        recipe=replace(recipe, epochs=LONGER * recipe.epochs),
        seed=seed_from(plan.config.seed, "supernet"),
    )


def pool_of(plan: Plan) -> tuple[Priced, ...]:
    """Draw points of the space, and return the networks that run on the device and keep the limits, less the largest.

    Raises:
        ValueError: If fewer than two are left.
    """
    rng = np.random.default_rng(seed_from(plan.config.seed, "supernet"))
    found: dict[str, Priced] = {}
    for number in range(DRAWN):
        params = sample(plan.narrowing.distributions, rng)
        architecture = plan.space.describe(params)
        try:
            costs = flat(plan.prices(architecture))
        except CannotRun:
            continue
        if not over(costs, plan.limits):
            found.setdefault(architecture.key, Priced(number, params, architecture, costs))
    pool = _without_largest(tuple(found.values()))
    if len(pool) < 2:
        raise ValueError(
            f"expected networks within the limits for like 'supernet'; {len(pool)} of {DRAWN} points are left"
        )
    return pool


def spread(values: NDArray[np.float64], count: int) -> list[int]:
    """Choose rows by non-dominated rank; of the rank that does not fit, the most crowded ones are left out.

    Crowding is that of NSGA-II (Deb et al., 2002), measured anew whenever one has gone.

    Args:
        values: `(rows, objectives)`; lower is better.
        count: How many to choose.

    >>> spread(np.array([[0.0, 9.0], [1.0, 8.0], [1.1, 7.9], [9.0, 0.0], [9.0, 9.0]]), 3)
    [0, 2, 3]
    """
    ranks, chosen = _fast_non_domination_rank(values), list[int]()
    for rank in np.unique(ranks):
        inside = list(map(int, np.flatnonzero(ranks == rank)))
        while len(inside) > max(0, count - len(chosen)):
            inside.pop(int(_room(values[inside]).argmin()))
        chosen += inside
    return chosen


def _room(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row how far its neighbours lie apart, over all objectives; infinite at the ends."""
    room = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        if extent > 0:
            room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
            room[order[[0, -1]]] = np.inf
    return room


def _without_largest(pool: tuple[Priced, ...]) -> tuple[Priced, ...]:
    if not pool:
        return pool
    sizes = np.array([_sizes(one.architecture) for one in pool])
    most = np.quantile(sizes, 1 - LARGEST, axis=0)
    return tuple(one for one, size in zip(pool, sizes, strict=True) if (size <= most).all())


def _sizes(architecture: Architecture) -> tuple[int, int]:
    kernels = architecture.kernels
    return sum(kernel.weights for kernel in kernels), sum(kernel.macs for kernel in kernels)


def _screen(plan: Plan, bench: Bench, pool: tuple[Priced, ...]) -> Screen:
    spec = spec_of(plan, pool)
    return screen_with(spec, build_supernet(spec, plan.cache_folder), plan.attack, bench.bank)


def _column(name: str, predicted: list[tuple[Priced, Prediction]]) -> list[float] | None:
    """Return an objective of each network: predicted if it is an error or a leakage, else a cost; None if neither."""
    measure = metric_of(name, ("error", "leakage"))
    if measure is not None:
        return [getattr(found, measure) for _, found in predicted]
    costs = [number_of(one.costs, name) for one, _ in predicted]
    return None if None in costs else [cost for cost in costs if cost is not None]
