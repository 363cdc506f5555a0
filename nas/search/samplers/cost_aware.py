"""Costs are known before any training, so thousands of candidates are priced for each one that is trained.

Error and leakage are predicted by Gaussian processes of the network's graph, its recipe and its defence. The candidate
that is expected to add most to the hypervolume of the front comes next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from scipy.special import ndtr

from estimators.estimate import ENDS
from nas.search.plan import Plan
from nas.search.surrogate.frame import Frame
from nas.search.surrogate.frame import frame_of
from nas.search.surrogate.gaussian_process import Scales
from nas.search.surrogate.gaussian_process import condition
from nas.search.surrogate.gaussian_process import fit
from nas.search.surrogate.improvement import expected_improvement
from nas.search.surrogate.improvement import is_front
from nas.search.surrogate.known import Known
from nas.search.surrogate.known import Look
from nas.search.surrogate.known import looking
from nas.spaces import sample

Numbers = NDArray[np.float64]
Point = Mapping[str, Any]
FIRST = 10
"""Candidates that are spread over the costs before anything is predicted."""
POOL, POOL_GROWTH = 4000, 400
"""Random candidates that are looked at in all, and how many more at each ask: a look may take milliseconds."""
ASKED, MUTATED = 1600, 100
"""Candidates that are compared at an ask: of the pool, and mutations of the front."""
LEARNT_FROM, OF_THE_BEST = 400, 300
"""Trials that a process is conditioned on, and how many of them are the best: more take longer than they are worth."""
GROWTH = 4 / 3
"""Scales are fitted anew when the study has grown by a third."""
FITTED_TO = 200
"""Trials that scales are fitted to, spread evenly over the study."""
OUTLIER = 3.0
"""What lies so many interquartile ranges above the upper quartile is brought there: a failed network tells no more."""
DEVIATIONS_IN_AN_INTERVAL = 2 * 1.96
LOOKED_AT = 4000
"""Points beside the pool and the trials whose look is kept: mutations of a front often come again."""
WIDE = 20
"""A cost is compared by its ratio if its 95th percentile is more than so many times its 5th.

Compared by differences, all but the highest costs would count as equal.
"""
STEP = 0.15
"""Standard deviation of a small change of a number, as a share of its range."""


class CostAwareSampler(BaseSampler):
    """A sampler for a study whose candidates have costs that are known before they are evaluated.

    All that it knows is in the study: it may be made anew for each trial, in any process, and asks for the same.
    Objectives are minimised.

    Args:
        distributions: What is sampled, all at once.
        look: Returns of a point the objectives that are known, features of the candidate, and a key that equal
            candidates share; None if it is not worth a trial.
        seed: Of the random candidates, and of every ask together with the trial's number.
        noise: Returns of a complete trial the standard deviation of each objective's measurement; None: none is known.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        look: Look,
        *,
        seed: int,
        noise: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        self._distributions = dict(distributions)
        self._look = look
        self._seed = seed
        self._noise = noise
        self._independent = RandomSampler(seed=seed)
        # Caches: what is in them follows from seed and study, whoever filled them.
        self._pool: list[tuple[Point, Known | None]] = []
        self._pool_rng = np.random.default_rng(seed)
        self._frames: dict[int, Frame] = {}
        self._looks: dict[tuple[Any, ...], Known | None] = {}
        self._passing: dict[tuple[Any, ...], Known | None] = {}
        self._scales: dict[object, Scales] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all that is sampled."""
        del study, trial
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point that is expected to add most; nothing where no candidate is worth a trial."""
        del search_space
        rng = np.random.default_rng((self._seed, trial.number))
        looked = [(one, self._known(one)) for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        others = [one for one, known in looked if known]
        tried = {known.key for _, known in looked if known}
        pool = [(point, known) for point, known in self._drawn(trial.number) if known and known.key not in tried]
        complete = [one for one in others if one.state == TrialState.COMPLETE]
        if not pool:
            return {}
        if len(complete) < FIRST:
            return dict(_spread_out(pool, trial.number, rng))
        running = [one for one in others if one.state == TrialState.RUNNING]
        asked = [pool[index] for index in rng.permutation(len(pool))[:ASKED]]
        asked += self._mutated(complete, tried, rng)
        worth = self._worth(complete, running, [known for _, known in asked], trial.number)
        return dict(asked[int(np.argmax(worth))][0])

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value, where no candidate was worth a trial."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def with_random_stream(self, seed: int) -> CostAwareSampler:
        """Return this sampler with a random stream of its own for what it does not sample together."""
        sampler = copy.copy(self)
        sampler._independent = RandomSampler(seed=seed)  # noqa: SLF001 - it is one of these
        return sampler

    def _known(self, trial: FrozenTrial) -> Known | None:
        return self._looked(trial.params) if trial.params.keys() == self._distributions.keys() else None

    def _known_of(self, trial: FrozenTrial) -> Known:
        known = self._known(trial)
        assert known is not None
        return known

    def _looked(self, point: Point, *, kept: bool = True) -> Known | None:
        """Look at a point, once: trials and the pool are kept, of all others those that came last."""
        key = tuple([point[name] for name in self._distributions])
        if key in self._looks:
            return self._looks[key]
        known = self._passing.pop(key) if key in self._passing else self._look(point)
        looks = self._looks if kept else self._passing
        looks[key] = known
        if len(self._passing) > LOOKED_AT:
            del self._passing[next(iter(self._passing))]
        return known

    def _drawn(self, number: int) -> list[tuple[Point, Known | None]]:
        """Return the random candidates of a trial: more with each, up to `POOL`."""
        count = min(POOL, POOL_GROWTH * (number + 1))
        while len(self._pool) < count:
            point = sample(self._distributions, self._pool_rng)
            self._pool.append((point, self._looked(point)))
        return self._pool[:count]

    def _framed(self, number: int) -> Frame:
        drawn = self._drawn(number)
        if len(drawn) not in self._frames:
            self._frames[len(drawn)] = frame_of([known for _, known in drawn if known])
        return self._frames[len(drawn)]

    def _is_wide(self, number: int, of: int) -> bool:
        """Tell whether a cost spans orders of magnitude: candidates are then compared by its ratio."""
        costs = np.array([known.costs[of] for _, known in self._drawn(number) if known], dtype=float)
        low, high = np.quantile(costs, [0.05, 0.95])
        return bool(costs.min() > 0 and high > WIDE * low)

    def _mutated(
        self, complete: Sequence[FrozenTrial], tried: set[Any], rng: np.random.Generator
    ) -> list[tuple[Point, Known]]:
        """Return candidates that differ little from those of the front."""
        values = np.array([trial.values for trial in complete])
        feasible = _feasible(complete)
        best = np.flatnonzero(feasible) if feasible.any() else np.arange(len(complete))
        parents = [complete[index].params for index in best[is_front(values[best])]]
        found: dict[Any, tuple[Point, Known]] = {}
        for _ in range(MUTATED):
            point = mutated(parents[rng.integers(len(parents))], self._distributions, rng)
            known = self._looked(point, kept=False)
            if known and known.key not in tried:
                found.setdefault(known.key, (point, known))
        return list(found.values())

    def _worth(
        self, complete: Sequence[FrozenTrial], running: Sequence[FrozenTrial], asked: Sequence[Known], number: int
    ) -> Numbers:
        """Return the hypervolume that candidates are expected to add, times the chance of keeping to all limits."""
        learnt = _worth_learning(complete)
        frame = self._framed(number)
        seen, pending = ([self._known_of(trial) for trial in trials] for trials in (learnt, running))
        rows = frame.rows([*seen, *pending, *asked])
        measured = np.array([trial.values for trial in learnt])
        noise = np.array([self._noise(trial) for trial in learnt]) if self._noise else np.zeros_like(measured)
        means, deviations = np.empty((len(rows), measured.shape[1])), np.zeros((len(rows), measured.shape[1]))
        for of in range(measured.shape[1]):
            if seen[0].costs[of] is None:
                fitted = self._fitted(complete, number, of)
                predicted = _predicted(fitted, frame, rows, measured[:, of], noise[:, of], pending=len(pending))
                means[:, of], deviations[:, of] = predicted
            else:
                means[:, of] = [one.costs[of] for one in (*seen, *pending, *asked)]
                if self._is_wide(number, of):
                    means[:, of], measured[:, of] = np.log(means[:, of]), np.log(measured[:, of])
        candidates = slice(len(seen) + len(pending), None)
        within = _feasible(learnt)
        chances = np.ones(len(asked))
        for name in sorted({name for trial in complete for name, value in trial.constraints.items() if value > 0}):
            values = np.array([trial.constraints.get(name, 0.0) for trial in learnt])
            fitted = self._fitted(complete, number, name)
            mean, deviation = _predicted(fitted, frame, rows, values, np.zeros(len(values)), pending=len(pending))
            chances *= ndtr(-mean[candidates] / deviation[candidates])
        if not within.any():
            return chances
        points = np.concatenate([means[: len(seen)][within], means[len(seen) : candidates.start]])
        reference = np.maximum(means.max(axis=0), measured.max(axis=0))
        front = points[is_front(points)]
        return chances * expected_improvement(means[candidates], deviations[candidates], front, reference)

    def _fitted(self, complete: Sequence[FrozenTrial], number: int, of: int | str) -> Scales:
        """Fit the scales of one objective's process, or of one constraint's, to the study of some trials ago."""
        count = _grown(len(complete))
        first = sorted(complete, key=lambda trial: trial.number)[:count]
        chosen = [
            first[index] for index in np.unique(np.linspace(0, count - 1, min(count, FITTED_TO)).round().astype(int))
        ]
        frame = self._framed(number)
        key = (of, len(self._drawn(number)), tuple(trial.number for trial in chosen))
        if key not in self._scales:
            raw = [trial.constraints.get(of, 0.0) if isinstance(of, str) else trial.values[of] for trial in chosen]
            targets, _, spread = _standardised(np.array(raw))
            noise = np.zeros(len(chosen))
            if self._noise and not isinstance(of, str):
                noise = np.array([self._noise(trial)[of] for trial in chosen])
            rows = frame.rows([self._known_of(trial) for trial in chosen])
            self._scales[key] = fit(rows, frame.groups, targets, (noise / spread) ** 2)
        return self._scales[key]


def _spread_out(pool: Sequence[tuple[Point, Known]], number: int, rng: np.random.Generator) -> Point:
    """Return a candidate of the part of the costs whose turn it is, from the lowest to the highest.

    By turns it is the one that promises most and a random one: what is believed beforehand may be wrong.
    """
    of = next((index for index, cost in enumerate(pool[0][1].costs) if cost is not None), None)
    costs = np.zeros(len(pool)) if of is None else np.array([known.costs[of] for _, known in pool], dtype=float)
    order = np.argsort(costs, kind="stable")
    parts = [part for part in np.array_split(order, FIRST) if len(part)]
    part = parts[number % len(parts)]
    if number % 2 == 0:
        return pool[int(max(part, key=lambda index: pool[index][1].promise))][0]
    return pool[int(rng.choice(part))][0]


def _grown(count: int) -> int:
    """Return the size of the study when scales were last fitted.

    >>> [_grown(count) for count in (10, 13, 14, 19)]
    [10, 13, 13, 17]
    """
    size = FIRST
    while (grown := max(size + 1, int(size * GROWTH))) <= count:
        size = grown
    return size


def _feasible(trials: Sequence[FrozenTrial]) -> NDArray[np.bool_]:
    return np.array([all(value <= 0 for value in trial.constraints.values()) for trial in trials], dtype=bool)


def _worth_learning(complete: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the best trials, by the sum of their ranks, and some of the rest, spread evenly over the study."""
    if len(complete) <= LEARNT_FROM:
        return list(complete)
    values = np.array([trial.values for trial in complete])
    order = np.argsort(values.argsort(axis=0).argsort(axis=0).sum(axis=1), kind="stable")
    rest = np.sort(order[OF_THE_BEST:])
    spread = rest[np.linspace(0, len(rest) - 1, LEARNT_FROM - OF_THE_BEST).round().astype(int)]
    return [complete[index] for index in np.sort(np.concatenate([order[:OF_THE_BEST], spread]))]


def _standardised(values: Numbers) -> tuple[Numbers, float, float]:
    """Return values of mean 0 and variance 1 with outliers brought in, and their mean and deviation before."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    values = np.minimum(values, upper + OUTLIER * (upper - lower)) if upper > lower else values
    centre, spread = float(values.mean()), float(values.std()) or 1.0
    return (values - centre) / spread, centre, spread


def _predicted(
    scales: Scales, frame: Frame, rows: Numbers, measured: Numbers, noise: Numbers, *, pending: int
) -> tuple[Numbers, Numbers]:
    """Return means for all rows, of which the first were measured and so many more are under way, and deviations.

    Deviations are those of the other rows, 0 for these.

    Those under way are taken to turn out as predicted: their neighbours are better known then, and others are asked.
    """
    count = len(measured)
    targets, centre, spread = _standardised(measured)
    variances = (noise / spread) ** 2
    process = condition(scales, rows[:count], frame.groups, targets, variances)
    if pending:
        expected, _ = process.predict(rows[count : count + pending])
        targets, variances = np.concatenate([targets, expected]), np.concatenate([variances, np.zeros(pending)])
        process = condition(scales, rows[: count + pending], frame.groups, targets, variances)
    # The deviations of those that were measured are asked for by nobody, and take as long as others.
    means = np.concatenate([process.mean(rows[: count + pending]), np.empty(len(rows) - count - pending)])
    deviations = np.zeros(len(rows))
    means[count + pending :], deviations[count + pending :] = process.predict(rows[count + pending :])
    return centre + spread * means, spread * deviations


def mutated(point: Point, distributions: Mapping[str, BaseDistribution], rng: np.random.Generator) -> dict[str, Any]:
    """Change one parameter of a point, or with falling probability two, three and so on."""
    count = min(int(rng.geometric(0.5)), len(distributions))
    changed = dict(point)
    names = list(distributions)
    for index in rng.choice(len(names), size=count, replace=False):
        name, distribution = names[index], distributions[names[index]]
        if isinstance(distribution, CategoricalDistribution) or rng.random() < 0.5:
            changed[name] = sample({name: distribution}, rng)[name]
        else:
            changed[name] = _moved(point[name], distribution, rng)
    return changed


def _moved(value: float, distribution: BaseDistribution, rng: np.random.Generator) -> float:
    """Move a number by a little, on its scale and within its range."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    to, back = (np.log, np.exp) if distribution.log else (float, float)
    low, high = to(distribution.low), to(distribution.high)
    moved = float(back(to(value) + rng.normal(0, STEP) * (high - low)))
    if isinstance(distribution, IntDistribution):
        steps = round((moved - distribution.low) / distribution.step)
        moved = distribution.low + steps * distribution.step
        return int(min(max(moved, distribution.low), distribution.high))
    return float(min(max(moved, distribution.low), distribution.high))


@lru_cache(maxsize=2)
def _of(plan: Plan) -> CostAwareSampler:
    objectives = plan.config.objectives

    def noise(trial: FrozenTrial) -> list[float]:
        ends = [[trial.user_attrs.get(f"{name}{end}", 0.0) for end in ENDS] for name in objectives]
        return [(high - low) / DEVIATIONS_IN_AN_INTERVAL for low, high in ends]

    return CostAwareSampler(plan.distributions, looking(plan), seed=plan.config.seed, noise=noise)


def make_sampler(plan: Plan, seed: int) -> BaseSampler:
    """Return a sampler that knows the costs of a search's candidates; what it looked at is kept between its trials."""
    return _of(plan).with_random_stream(seed)
