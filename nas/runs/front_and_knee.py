"""Choose among the trained candidates: the Pareto front, its knee, the best within limits, the nearest to limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from estimators.estimate import ENDS
from estimators.estimate import number_of
from nas.pricing.limits import BUDGET
from nas.pricing.limits import CEILING
from nas.pricing.limits import Limit
from nas.pricing.limits import budget_limits
from nas.pricing.limits import merged
from nas.runs import by_class
from nas.runs.confirmed import dominator
from nas.runs.confirmed import trainings_of
from nas.runs.confirmed import with_confirmed
from nas.runs.ties import are_tied
from nas.runs.ties import has_noise
from nas.search.schema import CONFIG
from nas.search.schema import PREDICTED
from nas.search.schema import limits_of
from nas.search.schema import memory_of
from nas.training.between import SPREAD_OF
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import ends_like
from nas.training.by_class import metric_named

MEASURED_INTERVAL, COST_INTERVAL = 0.95, 0.90
"""Shares that the intervals of what is measured and of what a device costs cover."""
NEAREST = 3
"""Candidates that are shown where none meets the limits."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate and the reason for choosing it. If none meets the limits: the nearest one, and those it exceeds.

    Attributes:
        trial: The candidate.
        reason: The reason, in a few words.
        limits: The limits it was chosen by.
        failed: The limits it exceeds; empty if it meets all.
    """

    trial: FrozenTrial
    reason: str
    limits: tuple[Limit, ...]
    failed: tuple[str, ...] = ()


def first_front(study: optuna.Study) -> list[FrozenTrial]:
    """Return the Pareto front by the numbers that the search measured, within all limits, by the first objective."""
    return sorted(study.best_trials, key=_by_values)


def front(study: optuna.Study) -> list[FrozenTrial]:
    """Return the front with confirmed numbers where there are some, without those that left it, by the first objective.

    Candidates leave it (`left_the_front`), and none comes in: what is not on the front by its own first training was
    not trained again.
    """
    members = with_confirmed(study, first_front(study))
    left = _left(study, members)
    return sorted((trial for trial in members if trial.number not in left), key=_by_values)


def left_the_front(study: optuna.Study) -> dict[int, str]:
    """Return the candidates that further trainings took off the front, by their numbers, and why.

    They exceed a limit as a mean, or another one dominates them with confidence (`nas.runs.confirmed.dominator`).
    """
    return _left(study, with_confirmed(study, first_front(study)))


def nearest(study: optuna.Study, trials: Iterable[FrozenTrial], limits: Iterable[Limit]) -> list[FrozenTrial]:
    """Sort candidates of a study by their largest relative excess over a limit, the smallest first."""
    limits = tuple(limits)
    return sorted(
        trials,
        key=lambda trial: (
            max((limit.excess(_value(study, trial, limit)) for limit in limits), default=0.0),
            trial.number,
        ),
    )


def exceeded_by(study: optuna.Study, trial: FrozenTrial, limits: Iterable[Limit]) -> list[Limit]:
    """Return the limits that a candidate of a study exceeds; one that was not measured counts as exceeded."""
    return [limit for limit in limits if limit.excess(_value(study, trial, limit)) > 0]


def told(study: optuna.Study, trial: FrozenTrial, limits: Iterable[Limit]) -> tuple[str, ...]:
    """Say which limits a candidate of a study exceeds, with its values."""
    return tuple(limit.told(_value(study, trial, limit)) for limit in exceeded_by(study, trial, limits))


def limits_to_pick_by(
    study: optuna.Study,
    maximum: Mapping[str, float],
    *,
    device_limits: bool = True,
    error_ceiling: bool = True,
    confidence: float | None = None,
) -> tuple[Limit, ...]:
    """Return the limits that a pick has to meet.

    Args:
        study: Its own limits hold, and what its device has, also where the search looked beyond that.
        maximum: The user's limits by metric: each takes the place of the study's budget and of the error's ceiling.
        device_limits: Whether what the device has holds.
        error_ceiling: Whether the ceiling of the error holds.
        confidence: Share of cases in which a candidate within the budgets and the device's memory is to be within them
            when it is trained anew; None: its values count. The ceiling is a guess at what the user wants, and its
            value counts always. A limit on an end of an interval is about that end, and has no confidence of its own.
    """
    own = limits_of(study.user_attrs)
    budgets = {limit.metric: limit for limit in (*own, *budget_limits(maximum)) if limit.kind == BUDGET}
    ceiling = [limit for limit in own if limit.kind == CEILING and error_ceiling]
    memory = (memory_of(study.user_attrs) or ()) if device_limits else ()
    sure = [
        limit if _is_end(limit.metric) else replace(limit, confidence=confidence)
        for limit in (*budgets.values(), *memory)
    ]
    return merged(sure[: len(budgets)], (*ceiling, *sure[len(budgets) :]))


def choose(
    study: optuna.Study,
    limits: Sequence[Limit],
    prefer: str | None,
    *,
    weights: Mapping[str, float] | None = None,
    order: Sequence[str] = (),
) -> Choice:
    """Choose one trained candidate: by a metric, by weights, by an order of metrics, or the knee if none is given.

    Args:
        study: The finished or running study.
        limits: What it has to meet, as `limits_to_pick_by` gives them.
        prefer: Metric, or end of an interval, to minimise among the candidates within the limits.
        weights: Weights above 0 by metric or end: on the front within the limits each metric is scaled to its range
            there, from 0 for the lowest to 1 for the highest, and the weighted sum is minimised.
        order: Metrics or ends, the most important first: on the front within the limits each keeps the candidates that
            are tied with the lowest of it, and the last one chooses the lowest. Only what is measured has ties within
            its noise (`nas.runs.ties`); of a cost or an end those that are equal to the lowest are kept.

    Returns:
        A candidate within the limits. If there is none, the candidate whose largest relative excess is smallest, and
        the limits it exceeds.

    Raises:
        ValueError: If no candidate has finished training, or a metric was not measured.
    """
    trained = _trained(study)
    if not trained:
        raise ValueError("expected a trained candidate to pick; no candidate has finished training yet")
    measured = [{name for name in trial.user_attrs if is_metric(trial, name)} for trial in trained]
    known = sorted(set.intersection(*measured))
    for name in [*(limit.metric for limit in limits), *([prefer] if prefer else []), *(weights or ()), *order]:
        if metric_named(name, known) is None:
            raise ValueError(f"no metric {name!r} in this run{_listed(known, name)}")
    limits = tuple(limits)
    within = [trial for trial in trained if not exceeded_by(study, trial, limits)]
    if not within:
        first = nearest(study, trained, limits)[0]
        return Choice(first, "nearest to the limits; no candidate meets them", limits, told(study, first, limits))
    if prefer:
        # Of what the search minimised, a lucky single training would often be lower than a mean: see `_standing`.
        among = _standing(study, within) if prefer in study.user_attrs[CONFIG]["objectives"] else within
        best = min(among, key=lambda trial: (_number(trial, prefer), *trial.values, trial.number))
        others = f" of the {len(within)} candidates within the limits" if limits else f" of {len(within)} candidates"
        return Choice(best, f"lowest {prefer} ({_number(best, prefer):.4g}){others}", limits)
    best_of_all, where = _standing(study, within), "the front within the limits" if limits else "the front"
    if weights:
        told_weights = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        reason = f"lowest weighted sum on {where} ({told_weights}), each metric scaled to its range there"
        return Choice(_by_weights(best_of_all, weights), reason, limits)
    if order:
        first, reason = _by_order(study, best_of_all, order)
        return Choice(first, f"by the order {', '.join(order)} on {where}: {reason}", limits)
    knee = knee_of(best_of_all)
    reason = f"knee of {where}: nearest to the best value of every objective, each scaled to its range"
    return Choice(knee, reason, limits)


def alternatives(study: optuna.Study, limits: Sequence[Limit]) -> list[FrozenTrial]:
    """Return the front of the trained candidates within limits: what else could be picked by them."""
    return _standing(study, [trial for trial in _trained(study) if not exceeded_by(study, trial, limits)])


def _trained(study: optuna.Study) -> list[FrozenTrial]:
    return with_confirmed(study, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _standing(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the front of some candidates by their first trainings, without those dominated with confidence.

    First trainings are compared with each other: a mean against a single one would lose to its luck.
    """
    if not trials:
        return []
    as_measured = study.get_trials(deepcopy=False)
    is_best = non_dominated([as_measured[trial.number].values for trial in trials])
    members = [trial for trial, best in zip(trials, is_best, strict=True) if best]
    beaten = _dominated(study, members)
    return [trial for trial in members if trial.number not in beaten]


def _left(study: optuna.Study, members: Sequence[FrozenTrial]) -> dict[int, str]:
    confirmed = [trial for trial in members if trainings_of(trial)]
    if not confirmed:
        return {}
    limits = limits_of(study.user_attrs)
    over = {
        trial.number: f"over a limit when it is trained again: {', '.join(told(study, trial, limits))}"
        for trial in confirmed
        if exceeded_by(study, trial, limits)
    }
    within = [trial for trial in confirmed if trial.number not in over]
    return dict(sorted({**over, **_dominated(study, within)}.items()))


def _dominated(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[int, str]:
    """Return who of some candidates is dominated with confidence by another of them, and how."""
    confirmed = [trial for trial in trials if trainings_of(trial)]
    if not confirmed:
        return {}
    objectives = study.user_attrs[CONFIG]["objectives"]
    found = {trial.number: dominator(trial, confirmed, objectives) for trial in confirmed}
    return {
        number: f"candidate {by[0]} is as low in every objective, and lower in {by[1]} beyond the noise"
        for number, by in found.items()
        if by is not None
    }


def _by_values(trial: FrozenTrial) -> tuple[float, ...]:
    return (*trial.values, trial.number)


def _by_weights(trials: Sequence[FrozenTrial], weights: Mapping[str, float]) -> FrozenTrial:
    """Return the candidate with the lowest weighted sum of metrics, each scaled to its range over the candidates."""
    table = np.asarray([[_number(trial, name) for name in weights] for trial in trials])
    sums = _scaled(table) @ np.asarray(list(weights.values()))
    return min(zip(sums, trials, strict=True), key=lambda pair: (pair[0], *pair[1].values, pair[1].number))[1]


def _by_order(study: optuna.Study, trials: Sequence[FrozenTrial], order: Sequence[str]) -> tuple[FrozenTrial, str]:
    """Return the first candidate by an order of metrics, and what each metric decided."""
    left, steps = list(trials), []
    for place, name in enumerate(order, start=1):
        best = min(left, key=lambda trial: (_number(trial, name), *trial.values, trial.number))
        tied = [trial for trial in left if trial is best or _are_tied(study, trial, best, name)]
        lowest = f"lowest {name} ({_number(best, name):.4g})"
        if len(tied) == 1 or place == len(order):
            steps.append(f"{lowest} of {len(left)}")
            break
        steps.append(f"{len(tied)} of {len(left)} have the {lowest} or are tied with it")
        left = tied
    return best, "; ".join(steps)


def _are_tied(study: optuna.Study, first: FrozenTrial, second: FrozenTrial, name: str) -> bool:
    if has_noise(name):
        return are_tied(by_class.estimate_of(study, first, name), by_class.estimate_of(study, second, name))
    return _number(first, name) == _number(second, name)


def chosen(study: optuna.Study, trial: FrozenTrial, limits: Sequence[Limit]) -> Choice:
    """Take a candidate that somebody chose by its number, and say which limits it exceeds."""
    (trial,) = with_confirmed(study, [trial])
    return Choice(trial, "chosen by its number", tuple(limits), told(study, trial, limits))


def knee_of(trials: Sequence[FrozenTrial]) -> FrozenTrial:
    """Return the trained candidate at the knee of a front; at least one."""
    return trials[knee_index([trial.values for trial in trials])]


def non_dominated(values: NDArray[np.float64] | Sequence[Sequence[float]]) -> NDArray[np.bool_]:
    """Tell which rows are not dominated: no other row is as low in every column and lower in one.

    Args:
        values: `(candidates, objectives)`; lower is better.

    Returns:
        `(candidates,)`; equal rows do not dominate each other.

    >>> non_dominated([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
    array([ True,  True, False])
    """
    table = np.asarray(values, dtype=np.float64)
    as_low = (table[:, None] <= table[None]).all(axis=2)
    lower = (table[:, None] < table[None]).any(axis=2)
    return np.asarray(~(as_low & lower).any(axis=0))


def knee_index(values: NDArray[np.float64] | Sequence[Sequence[float]]) -> int:
    """Return the row nearest to the ideal point after scaling each column to its range.

    Args:
        values: `(candidates, objectives)`; lower is better.

    >>> knee_index([[0.0, 10.0], [1.0, 1.0], [9.0, 0.0]])
    1
    """
    return int(np.linalg.norm(_scaled(np.asarray(values, dtype=np.float64)), axis=1).argmin())


def _scaled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each column to its range, from 0 to 1; one of equal numbers becomes 0."""
    low, high = table.min(axis=0), table.max(axis=0)
    scaled: NDArray[np.float64] = (table - low) / np.where(high > low, high - low, 1.0)
    return scaled


def is_metric(trial: FrozenTrial, name: str) -> bool:
    """Tell whether a user attribute is a measured number: no end of an interval, and no prediction."""
    value = trial.user_attrs[name]
    # Two classes may be called X and X_low: their errors have no ends.
    has_ends = not name.startswith(CLASS_ERROR)
    is_end = has_ends and any(name.endswith(end) and name.removesuffix(end) in trial.user_attrs for end in ENDS)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and not is_end and name not in PREDICTED.values()


def _listed(known: Sequence[str], name: str) -> str:
    """List the metrics there are, those of single classes as one unless one of them was asked for.

    The ends stand before the list, because a long line is cut.
    """
    of_classes = [one for one in known if one.startswith(CLASS_ERROR)]
    if name.startswith(CLASS_ERROR) and of_classes:
        return f"; there are {of_classes}"
    listed = [one for one in known if one not in of_classes] + ([f"{CLASS_ERROR}NAME"] if of_classes else [])
    return f" ({ends_like(name, known)}); there are {listed}"


def _value(study: optuna.Study, trial: FrozenTrial, limit: Limit) -> float:
    """Return the number of a trial that a limit is about: the one named, or the upper end at the limit's confidence."""
    found = _number(trial, limit.metric)
    if limit.confidence is None or limit.metric not in trial.user_attrs:
        return found
    is_measured = limit.metric in SPREAD_OF or limit.metric.startswith(CLASS_ERROR)
    covered = MEASURED_INTERVAL if is_measured else COST_INTERVAL
    return by_class.estimate_of(study, trial, limit.metric).upper(limit.confidence, of=covered)


def _is_end(name: str) -> bool:
    """Tell whether a name is that of an interval's end. The error of a class has none: `X_low` may be a class."""
    return name.endswith(ENDS) and not name.startswith(CLASS_ERROR)


def _number(trial: FrozenTrial, name: str) -> float:
    """Return a number of a trial by its name, which may be that of an interval's end; infinite if not measured."""
    found = number_of(trial.user_attrs, name)
    return math.inf if found is None else found
