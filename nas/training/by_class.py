"""What a candidate gets wrong class by class: where few records are of a class, the error alone does not show it.

Of a data set with 2 % positives, a network that never predicts them has an error of .02 and a balanced error of .5.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from collections.abc import Container
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from estimators.estimate import ENDS
from estimators.estimate import Estimate
from estimators.estimate import metric_of
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.shares import mean_share
from nas.records import Records

Ints: TypeAlias = NDArray[np.integer]

OF_CLASSES = ("balanced_error", "rarest_class_error")
"""Errors that do not count each record the same."""
CLASS_ERROR = "class_error_"
"""Starts the names of the metrics of single classes; the name of the class follows, whatever characters it has."""
LONGEST = 200
"""Characters of a metric's name beyond which it is kept only where somebody asks for it: databases cut long keys."""
OF_A_CLASS = "Share misclassified of the class NAME. Kept for up to 20 classes, or where it is asked for."
MOST_CLASSES = 20
"""Data of so many classes have the error of each in every trial; of more, those that objectives or budgets name."""
EVEN_SHARE = 1 / 5
"""Part of an even share of the members below which the rarest class makes data imbalanced."""


def measures_by_class(
    predicted: Ints, validation: Records, members: Records, named: Collection[str]
) -> dict[str, Estimate]:
    """Return the errors that give each class a voice of its own; lower is better for all of them.

    Classes without a validation record are left out.

    Args:
        predicted: `(records,)`, the network's class of each validation record.
        validation: The validation records.
        members: What the network was trained on: they say which class is the rarest.
        named: Metrics that somebody asks for by name.

    Returns:
        `balanced_error`, one minus the recall averaged over the classes, with the interval of `mean_share`;
        `rarest_class_error`, one minus the recall of `rarest_of`, with its exact interval; and `class_error_NAME` of
        the classes that `MOST_CLASSES` speaks of, without an interval: it follows from the number of validation
        records (`class_error`), and the names of its ends could be those of another class.
    """
    wrong = np.bincount(validation.labels[predicted != validation.labels], minlength=validation.num_classes)
    counts, rarest = validation.class_counts, rarest_of(members, validation)
    there = np.flatnonzero(counts)
    found = {
        "balanced_error": mean_share(wrong[there].tolist(), counts[there].tolist()),
        "rarest_class_error": proportion_interval(int(wrong[rarest]), int(counts[rarest])),
    }
    for label in there:
        name = f"{CLASS_ERROR}{validation.classes[label]}"
        if name in named or (validation.num_classes <= MOST_CLASSES and len(name) <= LONGEST):
            found[name] = Estimate.exact(wrong[label] / counts[label])
    return found


def metric_named(name: str, known: Container[str]) -> str | None:
    """Return the metric that a user's name stands for: itself, or the one whose interval's end it names; else None.

    Names of single classes are taken whole: the error of a class has no named ends, and `X_high` may be a class.

    >>> metric_named("leakage_high", {"leakage"}), metric_named("class_error_X_high", {"class_error_X"})
    ('leakage', None)
    """
    if name.startswith(CLASS_ERROR):
        return name if name in known else None
    return metric_of(name, known)


def ends_like(name: str, known: Iterable[str]) -> str:
    """Name the ends of the interval that a wrong name resembles most: ends can be named too.

    Args:
        name: What a user wrote, and what is no metric.
        known: The metrics there are. The errors of single classes have no ends.

    >>> ends_like("error_hihg", ["error", "leakage"])
    'ends: error_low, error_high'
    """
    metric_of_end = {f"{one}{end}": one for one in known if not one.startswith(CLASS_ERROR) for end in ENDS}
    metric = metric_of_end[difflib.get_close_matches(name, metric_of_end, n=1, cutoff=0.0)[0]]
    return f"ends: {', '.join(f'{metric}{end}' for end in ENDS)}"


def never_predicted(predicted: Ints, validation: Records) -> tuple[int, ...]:
    """Return the classes that occur in validation and that the network names for no record of it."""
    is_named = np.bincount(predicted, minlength=validation.num_classes) > 0
    return tuple(int(label) for label in np.flatnonzero((validation.class_counts > 0) & ~is_named))


def rarest_of(members: Records, validation: Records) -> int:
    """Return the class with the fewest members, the first of several, of those that occur on both sides.

    If no class does, it is the first that occurs in validation.
    """
    counts = np.where(
        (members.class_counts > 0) & (validation.class_counts > 0), members.class_counts, len(members) + 1
    )
    return int(np.argmin(counts)) if counts.min() <= len(members) else int(np.flatnonzero(validation.class_counts)[0])


def class_error(value: float, records: int) -> Estimate:
    """Return the error of a class with its exact interval.

    Args:
        value: The error, of one training or the mean of several.
        records: Validation records of the class that it was counted on.

    >>> error = class_error(0.5, 4)
    >>> error.value, round(error.low, 3), round(error.high, 3)
    (0.5, 0.068, 0.932)
    """
    return replace(proportion_interval(round(value * records), records), value=value)
