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


def front(study: optuna.Study) -> list[FrozenTrial]:
    """Return the Pareto front of the trained candidates within all limits, sorted by the first objective."""
    return sorted(study.best_trials, key=lambda trial: (*trial.values, trial.number))


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


def choose(study: optuna.Study, limits: Sequence[Limit], prefer: str | None) -> Choice:
    """Choose one trained candidate.

    Args:
        study: The finished or running study.
        limits: What it has to meet, as `limits_to_pick_by` gives them.
        prefer: Metric, or end of an interval, to minimise among the candidates within the limits; None for the knee of
            their front.

    Returns:
        A candidate within the limits. If there is none, the candidate whose largest relative excess is smallest, and
        the limits it exceeds.

    Raises:
        ValueError: If no candidate has finished training, or a metric was not measured.
    """
    trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not trained:
        raise ValueError("expected a trained candidate to pick; no candidate has finished training yet")
    measured = [{name for name in trial.user_attrs if is_metric(trial, name)} for trial in trained]
    known = sorted(set.intersection(*measured))
    for name in [*(limit.metric for limit in limits), *([prefer] if prefer else [])]:
        if metric_named(name, known) is None:
            raise ValueError(f"no metric {name!r} in this run{_listed(known, name)}")
    limits = tuple(limits)
    within = [trial for trial in trained if not exceeded_by(study, trial, limits)]
    if not within:
        first = nearest(study, trained, limits)[0]
        return Choice(first, "nearest to the limits; no candidate meets them", limits, told(study, first, limits))
    if prefer:
        best = min(within, key=lambda trial: (_number(trial, prefer), *trial.values, trial.number))
        others = f" of the {len(within)} candidates within the limits" if limits else f" of {len(within)} candidates"
        return Choice(best, f"lowest {prefer} ({_number(best, prefer):.4g}){others}", limits)
    knee = knee_of(_best(within))
    where = "the front within the limits" if limits else "the front"
    reason = f"knee of {where}: nearest to the best value of every objective, each scaled to its range"
    return Choice(knee, reason, limits)


def alternatives(study: optuna.Study, limits: Sequence[Limit]) -> list[FrozenTrial]:
    """Return the front of the trained candidates within limits: what else could be picked by them."""
    trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return _best([trial for trial in trained if not exceeded_by(study, trial, limits)])


def _best(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    if not trials:
        return []
    is_best = non_dominated([trial.values for trial in trials])
    return [trial for trial, best in zip(trials, is_best, strict=True) if best]


def chosen(study: optuna.Study, trial: FrozenTrial, limits: Sequence[Limit]) -> Choice:
    """Take a candidate that somebody chose by its number, and say which limits it exceeds."""
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
    table = np.asarray(values, dtype=np.float64)
    low, high = table.min(axis=0), table.max(axis=0)
    scaled = (table - low) / np.where(high > low, high - low, 1.0)
    return int(np.linalg.norm(scaled, axis=1).argmin())


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
