"""What a study says of its classes: the records of each, what a candidate gets wrong of it, and what to beware of.

All is read from the study alone, as `nas.search.storage` and `nas.training.by_class` wrote it; a study of an earlier
version says nothing of classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.estimate import from_flat
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.between_trainings import widened
from nas.base.text import Row
from nas.search.schema import CLASSES
from nas.search.schema import CONFIG
from nas.search.schema import NEVER_PREDICTED
from nas.search.schema import spreads_in
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import EVEN_SHARE
from nas.training.by_class import OF_CLASSES
from nas.training.by_class import class_error
from nas.training.by_class import metric_named

FEWEST_VALIDATION = 100
"""Validation records below which the error of a candidate says little."""
TYPICAL_ERROR = 0.1


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """One class of a study's data.

    Attributes:
        name: As in the data.
        members: Records of it that candidates are trained on.
        validation: Records of it that their error is measured on.
    """

    name: str
    members: int
    validation: int


def class_counts(study: optuna.Study) -> list[ClassCounts]:
    """Return the classes, in the order of the logits; none for a study of an earlier version."""
    told = study.user_attrs.get(CLASSES)
    if told is None:
        return []
    columns = zip(told["names"], told["members"], told["validation"], strict=True)
    return [ClassCounts(name, members, validation) for name, members, validation in columns]


def estimate_of(study: optuna.Study, trial: FrozenTrial, name: str) -> Estimate:
    """Return a measure of a trial with its interval.

    The error of a class is kept without one, because the names of its ends could be those of other classes; it follows
    from the number of its validation records and from how far trainings of the study lie apart.
    """
    if not name.startswith(CLASS_ERROR):
        return from_flat(trial.user_attrs, name)
    value = float(trial.user_attrs[name])
    records = {one.name: one.validation for one in class_counts(study)}.get(name.removeprefix(CLASS_ERROR), 0)
    if not records:
        return Estimate.exact(value)
    error, spreads = class_error(value, records), spreads_in(study.user_attrs)
    return widened(error, spreads["error"].share) if spreads else error


def errors_by_class(study: optuna.Study, trial: FrozenTrial) -> list[Row]:
    """Return a row for each class whose error was measured: its counts, and the error with its interval."""
    return [
        {
            "class": one.name,
            "members": one.members,
            "validation": one.validation,
            **flat({"error": estimate_of(study, trial, f"{CLASS_ERROR}{one.name}")}),
        }
        for one in class_counts(study)
        if f"{CLASS_ERROR}{one.name}" in trial.user_attrs
    ]


def never_predicted(study: optuna.Study, trial: FrozenTrial) -> list[str]:
    """Name the classes of validation records that a candidate's network names for none of them."""
    classes = class_counts(study)
    return [classes[label].name for label in trial.user_attrs.get(NEVER_PREDICTED, []) if label < len(classes)]


def is_imbalanced(study: optuna.Study) -> bool:
    """Tell whether the rarest class has less than a fifth of an even share of the members."""
    classes = class_counts(study)
    members = [one.members for one in classes]
    return bool(classes) and min(members) * len(classes) < EVEN_SHARE * sum(members)


def cautions(study: optuna.Study) -> list[str]:
    """Say what limits the numbers of a study, a line each."""
    return [*_of_imbalance(study), *_of_few_records(study)]


def _of_imbalance(study: optuna.Study) -> list[str]:
    config, classes = study.user_attrs[CONFIG], class_counts(study)
    wanted = [*config["objectives"], *config["budgets"]]
    by_class = any(metric_named(name, OF_CLASSES) or name.startswith(CLASS_ERROR) for name in wanted)
    if by_class or not is_imbalanced(study):
        return []
    rarest = min(classes, key=lambda one: one.members)
    share = rarest.members / sum(one.members for one in classes)
    others = [name for name in config["objectives"] if metric_named(name, ("error",)) is None]
    hints = ["--objectives " + ",".join(["balanced_error", *others])]
    if config.get("recipe", {}).get("class_weights", "none") == "none":
        hints.append("--class-weights balanced")
    said = (
        f"{100 * share:.2g} % of the members are {rarest.name!r} ({rarest.members}; {rarest.validation} validation "
        f"records): the error says little of them; consider {' or '.join(hints)}"
    )
    return [said]


def _of_few_records(study: optuna.Study) -> list[str]:
    records = sum(one.validation for one in class_counts(study))
    if not 0 < records < FEWEST_VALIDATION:
        return []
    typical = proportion_interval(round(TYPICAL_ERROR * records), records)
    said = (
        f"{records} validation records: an error near {TYPICAL_ERROR:g} has an interval from {typical.low:.2f} to "
        f"{typical.high:.2f}, wider than most candidates differ; the lowest of many is too low (take more records)"
    )
    return [said]


def told_by_class(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the counts of each class for JSON."""
    return [{"name": one.name, "members": one.members, "validation": one.validation} for one in class_counts(study)]
