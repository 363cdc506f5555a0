"""Candidates of one run side by side: what they are made of, and which of their numbers the noise tells apart."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from rich.table import Table

from estimators.estimate import Estimate
from estimators.estimate import flat
from nas.base.text import Row
from nas.base.text import changed
from nas.base.text import inline
from nas.base.text import plain_table
from nas.base.text import stacked
from nas.base.text import with_sign
from nas.runs import by_class
from nas.runs import report
from nas.runs import ties
from nas.runs.front_and_knee import is_metric
from nas.search.schema import CONFIG
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import OF_CLASSES
from nas.training.by_class import metric_named
from nas.training.measures import MEASURED
from search_spaces.graph.architecture import Architecture

NOTES = (
    "tied: the difference is within the noise; its interval takes the two for independent, so it is rather too wide",
    "costs are predictions for one device, which err together: none of them are called tied",
)
"""What to know of the differences in a table."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One number of two candidates.

    Attributes:
        metric: Its name.
        first: The number of the first candidate, with its interval.
        second: The same of the second.
        change: Second minus first; its interval takes the two for independent (`nas.runs.ties.difference`).
        tied: Whether the change is within the noise; None for what has none: costs and counts.
    """

    metric: str
    first: Estimate
    second: Estimate
    change: Estimate
    tied: bool | None

    @property
    def row(self) -> Row:
        """The change with its interval, and whether it is a tie, as JSON holds them."""
        return {"metric": self.metric, **flat({"change": self.change}), "tied": self.tied}


def metrics_of(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[str]:
    """Name the numbers that all of some candidates have, what is measured first; of single classes those asked for."""
    config = study.user_attrs[CONFIG]
    common = [name for name in trials[0].user_attrs if all(_has(trial, name) for trial in trials)]
    asked = {metric_named(name, common) for name in [*config["objectives"], *config["budgets"]]}
    measured = [name for name in MEASURED if name in common]
    rest = [name for name in common if name not in measured]
    return measured + [name for name in rest if not name.startswith(CLASS_ERROR) or name in asked]


def differences(
    study: optuna.Study, first: FrozenTrial, second: FrozenTrial, metrics: Iterable[str]
) -> list[Difference]:
    """Return how far a candidate of a study lies from another one, metric by metric."""
    return [_difference(study, first, second, name) for name in metrics]


def parameters(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, list[Any]]:
    """Return what differs in networks, recipes and defences: for each parameter its value in every candidate.

    A parameter of the recipe is named as in the settings, `recipe.epochs`, and one of a defence as it is sampled,
    `relaxloss.alpha`. One that a candidate does not have, or that makes no difference to its network, is None there.
    """
    described = _networks(study, trials)
    for params, trial in zip(described, trials, strict=True):
        params.update(_beside(report.row(study, trial)))
    found = {name: [one.get(name) for one in described] for one in described for name in one}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def parameter_table(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Table:
    """Lay out what `parameters` returns, a column for each candidate."""
    table = plain_table("parameter", *(str(trial.number) for trial in trials))
    for name, values in parameters(study, trials).items():
        table.add_row(name, *map(_value, values))
    return table


def number_table(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Table:
    """Lay out the numbers of candidates with their intervals, and how far the others lie from the first one."""
    first, *others = trials
    metrics = metrics_of(study, trials)
    table = plain_table("", *_headings(first, others))
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    by_other = [differences(study, first, other, metrics) for other in others]
    for place, name in enumerate(metrics):
        apart = [found[place] for found in by_other]
        cells = [cell for one in apart for cell in (stacked(one.second), told(one))]
        table.add_row(name, stacked(apart[0].first), *cells)
    return table


def told(apart: Difference) -> str:
    """Write a difference for a table's cell, with its interval and whether it is a tie on lines below."""
    return "\n".join(filter(None, (changed(apart.change), "tied" if apart.tied else "")))


def in_words(apart: Difference) -> str:
    """Write a difference within a sentence: of an error in percentage points, else in the unit of the metric's name.

    >>> first, second = Estimate(0.2, 0.1, 0.3), Estimate(0.25, 0.15, 0.35)
    >>> in_words(Difference("error", first, second, Estimate(0.05, -0.09, 0.19), tied=True))
    'error +5.0 (-9.0 to +19.0) percentage points, tied'
    >>> in_words(Difference("latency_ms", first, first, Estimate(0.31, 0.11, 0.42), tied=None))
    'latency_ms +0.310 (+0.110 to +0.420)'
    """
    is_error = apart.metric in ("error", *OF_CLASSES) or apart.metric.startswith(CLASS_ERROR)
    form = _points if is_error else with_sign
    has_interval = apart.change.low < apart.change.high
    number = inline(apart.change, form) if has_interval else form(apart.change.value)
    return f"{apart.metric} {number}{' percentage points' if is_error else ''}{', tied' if apart.tied else ''}"


def walked_by(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[str]:
    """Name the numbers to look at on a walk along a front: leakage, error, latency and the objectives."""
    known = metrics_of(study, trials)
    wanted = ["leakage", "error", "latency_ms", *study.user_attrs[CONFIG]["objectives"]]
    return list(dict.fromkeys(name for one in wanted if (name := metric_named(one, known)) is not None))


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _difference(study: optuna.Study, first: FrozenTrial, second: FrozenTrial, name: str) -> Difference:
    one, other = (by_class.estimate_of(study, trial, name) for trial in (first, second))
    change = replace(ties.difference(other, one), extrapolated=one.extrapolated or other.extrapolated)
    is_noisy = ties.has_noise(name) and change.low < change.high
    return Difference(name, one, other, change, ties.are_tied(one, other) if is_noisy else None)


def _has(trial: FrozenTrial, name: str) -> bool:
    return name in trial.user_attrs and is_metric(trial, name)


def _networks(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Return the parameters of each candidate's network, less those that make no difference to it.

    A layer beyond the depth of a network has parameters, too. One that changes no network when it takes the value of
    another candidate is left out.
    """
    space = report.space_of(study)
    networks = [report.architecture_of(study, trial) for trial in trials]

    def matters(network: Architecture, name: str, value: Any) -> bool:
        try:
            return space.decode({**network.params, name: value}).key != network.key
        except ValueError:  # with this value the rest is no network
            return True

    return [
        {
            name: value
            for name, value in network.params.items()
            if any(matters(network, name, other.params[name]) for other in networks if other.params[name] != value)
        }
        for network in networks
    ]


def _beside(row: Row) -> dict[str, Any]:
    """Return how a candidate was trained."""
    recipe = {f"recipe.{name}": value for name, value in (row["recipe"] or {}).items()}
    of_defence = {f"{row['defence']}.{name}": value for name, value in row["defence_parameters"].items()}
    return {**recipe, "defence": row["defence"], **of_defence}


def _headings(first: FrozenTrial, others: Sequence[FrozenTrial]) -> list[str]:
    beside = [text for other in others for text in (f"{other.number}", f"{other.number}\nminus {first.number}")]
    return [f"{first.number}", *beside]


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
