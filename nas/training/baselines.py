"""What scikit-learn's quick models reach on the records of a search, and the error above which networks are useless.

A search is worth its time where its networks are about as good as a linear model, or leak less than a forest. So three
models are trained on the members before it: the most frequent class, logistic regression, a random forest. Their error
and the AUC of the loss threshold are measured as a candidate's are.

The work is bounded by counts, not by a clock, so that the same records give the same numbers on a slow machine.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.estimate import from_flat
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.pricing.limits import CEILING
from nas.pricing.limits import Limit
from nas.records import Records
from nas.records import Splits
from nas.training.schedule import seed_from

MAJORITY, LINEAR, FOREST = "majority class", "logistic regression", "random forest"
MOST_RECORDS, MOST_FEATURES = 5_000, 1_024
# A step of logistic regression costs records x features x classes, a tree records x sqrt(features) x classes.
LINEAR_WORK, FOREST_WORK = 5e9, 1e8
LINEAR_STEPS, TREES = (20, 200), (10, 100)
ALLOWED_ERROR = 2.0
"""A network may err this many times as often as logistic regression."""


@dataclass(frozen=True)
class Baseline:
    """A quick model that was trained on the members.

    Attributes:
        name: The majority class, logistic regression or a random forest.
        error: Share of validation records misclassified, with its exact binomial 95 % interval.
        loss_auc: AUC of the loss threshold on the members it saw and as many non-members, with its DeLong 95 %
            interval.
        members: How many members it was trained on.
    """

    name: str
    error: Estimate
    loss_auc: Estimate
    members: int

    @property
    def row(self) -> dict[str, Any]:
        """The baseline as JSON holds it."""
        return {"name": self.name, "members": self.members, **flat({"error": self.error, "loss_auc": self.loss_auc})}


def baseline_of(row: Mapping[str, Any]) -> Baseline:
    """Read what `Baseline.row` wrote.

    Raises:
        ValueError: If a number is missing, no number, or outside its interval.
    """
    try:
        error, loss_auc = (from_flat(row, name) for name in ("error", "loss_auc"))
        name, members = row["name"], row["members"]
    except (KeyError, TypeError, OverflowError) as problem:
        raise ValueError(f"expected a baseline with name, members, error and loss_auc; {problem!r}") from None
    if not isinstance(name, str) or not 0 < len(name) <= 200 or type(members) is not int or members < 1:
        raise ValueError(f"expected a baseline's name and number of members; got {name!r} and {members!r}")
    return Baseline(name, error, loss_auc, members)


def train_baselines(data: Splits, seed: int) -> tuple[Baseline, ...]:
    """Train the quick models on the members and measure them.

    They see the features that a network sees, flattened; of many records or features a random part.

    Args:
        data: Members, non-members and validation are read.
        seed: Of the parts and of the forest.
    """
    rng = np.random.default_rng(seed_from(seed, "baselines"))
    width = data.members.features[0].size
    columns = np.sort(rng.permutation(width)[:MOST_FEATURES])
    members, others = (_part(part, columns, rng) for part in (data.members, data.non_members))
    validation = _flat(data.validation, columns), data.validation.labels
    names = (MAJORITY, LINEAR, FOREST)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model that did not converge is measured as it is
        return tuple(
            _measured(name, _fitted(name, *members, data.members.num_classes, seed), members, others, validation)
            for name in names
        )


def error_ceiling(baselines: Sequence[Baseline]) -> Limit | None:
    """Return the error above which a network is of no use: that of the majority class, or well above a linear model's.

    A network may err twice as often as logistic regression, and on few validation records as often as the upper end
    of its interval says. None where these baselines are not known.
    """
    errors = {baseline.name: baseline.error for baseline in baselines}
    if not {MAJORITY, LINEAR} <= errors.keys():
        return None
    linear = errors[LINEAR]
    reasons = {
        ALLOWED_ERROR * linear.value: f"twice the error of logistic regression, {linear.value:.3g}",
        linear.high: f"upper end of the 95 % interval of logistic regression's error, {linear.value:.3g}",
    }
    allowed = max(reasons)
    if errors[MAJORITY].value <= allowed:
        return Limit("error", errors[MAJORITY].value, "the error of always naming the most frequent class", CEILING)
    return Limit("error", allowed, reasons[allowed], CEILING)


def _fitted(name: str, features: NDArray[Any], labels: NDArray[Any], classes: int, seed: int) -> Any:
    from sklearn.dummy import DummyClassifier  # noqa: PLC0415 (1.4 s that only a new search should wait for)
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    records, width = features.shape
    steps = int(np.clip(LINEAR_WORK / (records * width * classes), *LINEAR_STEPS))
    trees = int(np.clip(FOREST_WORK / (records * width**0.5 * classes), *TREES))
    models = {
        MAJORITY: DummyClassifier(strategy="prior"),
        LINEAR: LogisticRegression(max_iter=steps),
        FOREST: RandomForestClassifier(trees, random_state=seed_from(seed, "forest")),
    }
    return models[name].fit(features, labels)


def _measured(
    name: str,
    model: Any,
    members: tuple[NDArray[Any], NDArray[Any]],
    others: tuple[NDArray[Any], NDArray[Any]],
    validation: tuple[NDArray[Any], NDArray[Any]],
) -> Baseline:
    wrong = int((model.predict(validation[0]) != validation[1]).sum())
    sure = np.concatenate([_of_label(model, *part) for part in (members, others)])
    is_member = np.arange(len(sure)) < len(members[1])
    error = proportion_interval(wrong, len(validation[1]))
    return Baseline(name, error, auc_interval(sure, is_member), len(members[1]))


def _of_label(model: Any, features: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability that a model gives each record's own class; it ranks records as the loss does."""
    probabilities, classes = model.predict_proba(features), model.classes_
    column = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    own = probabilities[np.arange(len(labels)), column]
    return np.where(classes[column] == labels, own, 0.0)


def _part(records: Records, columns: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.sort(rng.permutation(len(records))[:MOST_RECORDS])
    return _flat(records, columns)[rows], records.labels[rows]


def _flat(records: Records, columns: NDArray[Any]) -> NDArray[Any]:
    return records.features.reshape(len(records), -1)[:, columns]
