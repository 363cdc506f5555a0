"""Confirmed numbers: means over further trainings of a candidate, in the place of those that it was chosen by.

The training that a search makes of a candidate decides whether it is on the front, and of many noisy numbers the lucky
ones are there. So this training is left out of the mean. The further trainings (`nas.runs.confirm`) were chosen by
nobody, and their mean is neither too low nor too high. With the first one in it, the mean would scatter a little less,
and be too low by that training's share of the luck.

All trainings of a candidate are measured on the same records, so what is lucky about these records stays. The error on
test records and an audit do without it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from estimators.estimate import ENDS
from estimators.estimate import EXTRAPOLATED
from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.estimate import from_flat
from estimators.estimate import number_in
from nas.base.text import Row
from nas.pricing.by_exit import MEAN_OF
from nas.runs.ties import difference
from nas.search.schema import CONFIG
from nas.search.schema import Repetition
from nas.search.schema import repetitions_in
from nas.search.schema import spreads_in
from nas.training.between import SPREAD_OF
from nas.training.between import over_trainings
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import metric_named

CONFIRMED = "confirmed"
"""Where the trial of a confirmed candidate holds what was found, as a `Confirmed`; no study holds such."""


@dataclass(frozen=True)
class Mean:
    """What the trainings of a candidate say of one measure.

    Attributes:
        first: What the training that the search made gave; it is not in the mean.
        values: What each further training gave.
        mean: Their mean, with the 95 % interval of the mean over all trainings and records.
    """

    first: float
    values: tuple[float, ...]
    mean: Estimate


@dataclass(frozen=True)
class Confirmed:
    """What further trainings of a candidate gave.

    Attributes:
        trainings: Those that ended, which the means are over.
        diverged: Those that diverged.
        measures: Each measure that has an interval, by its name; empty where all diverged.
    """

    trainings: int
    diverged: int
    measures: Mapping[str, Mean]

    @property
    def row(self) -> Row:
        """The same as JSON holds it."""
        means = {
            name: {"first": one.first, "values": list(one.values), **flat({"mean": one.mean})}
            for name, one in self.measures.items()
        }
        return {"trainings": self.trainings, "diverged": self.diverged, "measures": means}


def confirmed_of(trial: FrozenTrial) -> Confirmed | None:
    """Return what further trainings of a candidate gave; None of a trial as the study holds it, or without any."""
    found = trial.user_attrs.get(CONFIRMED)
    return found if isinstance(found, Confirmed) else None


def trainings_of(trial: FrozenTrial) -> int:
    """Return over how many further trainings the numbers of a candidate are means; 0 if they are of the first one."""
    found = confirmed_of(trial)
    return 0 if found is None else found.trainings


def with_confirmed(study: optuna.Study, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return trained candidates of a study with confirmed numbers where there are some.

    Measures, their intervals (of a network trained anew, as those of a single training) and the objectives are
    replaced; all else is as it was. What the weights of a pick gave is in the trial as the study holds it.
    """
    attrs = study.user_attrs
    known = repetitions_in(attrs)
    return [
        _confirmed(trial, list(known[trial.number].values()), attrs) if trial.number in known else trial
        for trial in trials
    ]


def dominator(trial: FrozenTrial, others: Iterable[FrozenTrial], objectives: Sequence[str]) -> tuple[int, str] | None:
    """Return who dominates a candidate with confidence, and in which measure; None if nobody does.

    Both must be confirmed. The other one's mean is not higher in any objective, and in at least one measured objective
    the 95 % interval of the difference of their means, which holds the records and the trainings, lies above 0. Costs
    are compared by their values and are not enough: that a network is smaller says nothing of its error.

    Args:
        trial: The candidate, as `with_confirmed` gives it.
        others: Candidates of the same study, alike.
        objectives: What the search minimises.
    """
    measured = [name for name in (metric_named(name, SPREAD_OF) for name in objectives) if name is not None]
    mine = confirmed_of(trial)
    for other in others:
        theirs = confirmed_of(other)
        if mine is None or theirs is None or not (mine.trainings and theirs.trainings):
            continue
        if any(a > b for a, b in zip(other.values, trial.values, strict=True)):
            continue
        for name in measured:
            if difference(mine.measures[name].mean, theirs.measures[name].mean).low > 0:
                return other.number, name
    return None


def luck(trials: Iterable[FrozenTrial]) -> dict[str, float]:
    """Return by how much confirmed candidates are worse than in the training that they were chosen by, on average.

    Returns:
        The mean of error and leakage less that of the first training; empty where none is confirmed.
    """
    found = [one.measures for one in map(confirmed_of, trials) if one is not None and one.trainings]
    if not found:
        return {}
    return {
        name: float(np.mean([one[name].mean.value - one[name].first for one in found])) for name in ("error", "leakage")
    }


def _confirmed(trial: FrozenTrial, repetitions: Sequence[Repetition], attrs: Mapping[str, Any]) -> FrozenTrial:
    """Put what further trainings gave in the place of what the first one gave."""
    ended = [one.measures for one in repetitions if one.diverged is None]
    found = copy.copy(trial)
    numbers = dict(trial.user_attrs)
    means: dict[str, Mean] = {}
    if ended:
        shared = set.intersection(*(set(one) for one in ended)) & numbers.keys()
        spread_of = [name for name in SPREAD_OF if name in shared]
        trainings = [{name: from_flat(one, name) for name in spread_of} for one in ended]
        over = over_trainings(trainings, spreads_in(attrs))
        new = {name: one.anew for name, one in over.items()}
        new |= {name: _averaged([from_flat(one, name) for one in ended]) for name in MEAN_OF if name in shared}
        means = {name: Mean(float(numbers[name]), one.values, one.mean) for name, one in over.items()}
        for name in new:
            for ending in (*ENDS, EXTRAPOLATED):
                numbers.pop(f"{name}{ending}", None)
        numbers |= flat(new)
        # The errors of classes have no ends: what is called X_low may be another class.
        of_classes = [name for name in shared if name.startswith(CLASS_ERROR)]
        numbers |= {name: float(np.mean([one[name] for one in ended])) for name in of_classes}
        found.values = [number_in(numbers, name) for name in attrs[CONFIG]["objectives"]]
    found.user_attrs = {**numbers, CONFIRMED: Confirmed(len(ended), len(repetitions) - len(ended), means)}
    return found


def _averaged(estimates: Sequence[Estimate]) -> Estimate:
    """Average a cost that depends on the trained network; what its interval holds is the same for all trainings."""
    value, low, high = (float(np.mean([getattr(one, part) for one in estimates])) for part in ("value", "low", "high"))
    return Estimate(value, low, high, extrapolated=any(one.extrapolated for one in estimates))
