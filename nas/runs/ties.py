"""Which candidates the noise of their numbers does not tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from math import hypot
from typing import TypeVar

import optuna
from optuna.trial import FrozenTrial

from estimators.estimate import Estimate
from estimators.estimate import from_flat
from nas.search.schema import CONFIG
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import metric_named
from nas.training.measures import MEASURED

Name = TypeVar("Name", int, str)
"""How a candidate is called: by its number, or `RUN:NUMBER` where candidates are of several runs."""


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return the difference of two estimates, with an interval made of theirs (MOVER; Zou and Donner, 2008).

    The two are taken for independent. Candidates are measured on the same records, which are easy or hard for all of
    them, so that the true interval is narrower: of this one 0 is inside too often, never too rarely. That two intervals
    overlap is no test: it calls differences noise that are not (Schenker and Gentleman, 2001).

    Args:
        first: An estimate with its interval.
        second: Another one, of the same number of another candidate.

    Returns:
        First minus second, with an interval of the same confidence as theirs.

    >>> difference(Estimate(10.0, 7.0, 16.0), Estimate(4.0, -4.0, 8.0))
    Estimate(value=6.0, low=1.0, high=16.0, extrapolated=False)
    """
    value = first.value - second.value
    below = hypot(first.value - first.low, second.high - second.value)
    above = hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - below, value + above)


def has_noise(name: str) -> bool:
    """Tell whether a number is measured on records: candidates can be tied in it.

    A cost is predicted or counted. Two predictions for one device err together, so that their intervals say nothing of
    which of two networks costs more.
    """
    return name in MEASURED or name.startswith(CLASS_ERROR)


def are_tied(first: Estimate, second: Estimate) -> bool:
    """Tell whether the difference of two estimates is within the noise: its interval holds 0.

    >>> are_tied(Estimate(0.60, 0.57, 0.63), Estimate(0.56, 0.52, 0.60))
    True
    >>> are_tied(Estimate(0.60, 0.57, 0.63), Estimate(0.54, 0.50, 0.58))  # their intervals overlap
    False
    """
    apart = difference(first, second)
    return apart.low <= 0 <= apart.high


def ties(chosen: Mapping[str, Estimate], others: Mapping[Name, Mapping[str, Estimate]]) -> dict[str, list[Name]]:
    """Return the candidates that are tied with a chosen one, by measure.

    Args:
        chosen: Its measures by name, each with its interval.
        others: The same of each other candidate, by its number, or by its name where they are of several runs.

    Returns:
        For each measure the candidates that are tied with it in this measure.
    """
    return {
        name: [one for one, found in others.items() if are_tied(found[name], estimate)]
        for name, estimate in chosen.items()
    }


def ties_in(study: optuna.Study, chosen: FrozenTrial, others: Sequence[FrozenTrial]) -> dict[str, list[int]]:
    """Return the candidates of a study that are tied with a chosen one, by each measured objective of the search.

    Args:
        study: The study.
        chosen: One of its trained candidates.
        others: Some of its trained candidates; the chosen one may be among them, and is left out.
    """
    names = measured_objectives(study)
    rest = [trial for trial in others if trial.number != chosen.number]
    return ties(measures(chosen, names), {trial.number: measures(trial, names) for trial in rest})


def measured_objectives(study: optuna.Study) -> list[str]:
    """Name what a study measures on records to minimise it, or an end of it."""
    named = (metric_named(name, MEASURED) for name in study.user_attrs[CONFIG]["objectives"])
    return list(dict.fromkeys(name for name in named if name is not None))


def sentences(chosen: FrozenTrial, tied: Mapping[str, Sequence[int]]) -> list[str]:
    """Say which candidates are tied with a chosen one, a line for each measure."""
    return told(chosen.number, tied)


def told(chosen: Name, tied: Mapping[str, Sequence[Name]]) -> list[str]:
    """Say which candidates are tied with a chosen one by what they are called, a line for each measure."""
    return [_sentence(chosen, name, others) for name, others in tied.items() if others]


def _sentence(chosen: Name, name: str, numbers: Sequence[Name]) -> str:
    who, noise = (
        (f"candidate {numbers[0]} is", "the difference is")
        if len(numbers) == 1
        else (f"candidates {', '.join(map(str, numbers))} are", "their differences are")
    )
    return f"{who} tied with {chosen} in {name}: {noise} within the noise"


def measures(trial: FrozenTrial, names: Sequence[str]) -> dict[str, Estimate]:
    """Return numbers of a trial with their intervals."""
    return {name: from_flat(trial.user_attrs, name) for name in names}
