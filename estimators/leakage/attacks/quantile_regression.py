"""Quantile regression: the confidence compared with that of similar records that no network was trained on.

Bertran et al., 2023, "Scalable Membership Inference Attacks via Quantile Regression" (NeurIPS). With the scaled logit
phi = log(p / (1 - p)) of the true label, and the distribution of phi over non-members *given the record's features and
label*, learnt from a population that no network was trained on,

    score(x) = (phi(x) - median(x)) / max(spread(x), floor)

where spread is how far the quantile of .84 lies above the median, one standard deviation of a normal distribution, and
the floor a fifth of that in the whole population. The published attack says member where phi(x) is above the quantile
of 1 - FPR; counted in spreads, one score ranks for all rates. The spread is learnt from records whose medians come from
a regression that did not see them: a regression that did would underestimate it.

Both quantiles are gradient-boosted trees with the pinball loss, on the features (above 32 columns their first 32
principal components, of the population) and the label as a category.

When to use: where no reference networks can be trained, and records outside the training set are available: it
calibrates for how hard a record is, as LiRA does, with one network. With a population of fewer than some hundreds of
records it ranks as `loss` does.

What is *not* done: a regression network of the attacked one's size on images, which sees more in a picture than 32
components hold; a normal distribution's mean and deviation, the paper's other form; a search over its own settings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from sklearn.model_selection import cross_val_predict

from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.scores import scaled_logit

NEEDS = ("population", "queries")
"""No query is made: of what `queries` provides, only the records' features are read."""

EFFORT = "standard"
COMPONENTS = 32
UPPER = 0.84
FLOOR = 0.2
FOLDS = 4
# A leaf of the trees holds as many: fewer cannot even be told apart.
LEAST = 20
# scikit-learn's limit to the classes of one categorical column.
MAX_CATEGORIES = 255


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by phi above the median of records like it, in spreads; higher means member.

    Raises:
        ValueError: If the evidence has no features, or no population of 20 records.
    """
    population = evidence.population
    if evidence.features is None or population is None:
        raise ValueError(
            "attack 'quantile_regression' learns from records that no network was trained on: "
            "expected evidence with features and a population; got none"
        )
    size = len(population.labels)
    if size < LEAST:
        raise ValueError(f"attack 'quantile_regression' expected a population of {LEAST} records or more; got {size}")
    known, asked = _columns(population.features, evidence.features)
    inputs, records = _with_labels(known, population.labels), _with_labels(asked, evidence.labels)
    phi = scaled_logit(population.logits, population.labels)
    median, spread = _regression(inputs, 0.5), _regression(inputs, UPPER)
    excess = phi - cross_val_predict(median, inputs, phi, cv=KFold(FOLDS))
    # A network that is equally confident of everything leaves no spread; the score must still be a finite number.
    floor = max(FLOOR * float(np.quantile(excess, UPPER)), 1e-6)
    above = scaled_logit(evidence.logits, evidence.labels) - median.fit(inputs, phi).predict(records)
    return np.asarray(above / np.maximum(spread.fit(inputs, excess).predict(records), floor))


def _columns(population: Floats, records: Floats) -> tuple[Floats, Floats]:
    """Return what the regressions see of both sets, `(records, columns)`, at most `COMPONENTS` of them."""
    known, asked = (features.reshape(len(features), -1) for features in (population, records))
    if known.shape[1] <= COMPONENTS:
        return known, asked
    with np.errstate(invalid="ignore"):  # of records that are all equal it divides by their variance
        model = PCA(min(COMPONENTS, len(known)), svd_solver="randomized", random_state=0).fit(known)
    # Rounded, for the last digits of a product of matrices may depend on where a record stands.
    return model.transform(known).round(4), model.transform(asked).round(4)


def _with_labels(columns: Floats, labels: Labels) -> Floats:
    return np.column_stack([columns, labels])


def _regression(inputs: Floats, quantile: float) -> HistGradientBoostingRegressor:
    label = inputs.shape[1] - 1
    return HistGradientBoostingRegressor(
        loss="quantile",
        quantile=quantile,
        categorical_features=[label] if inputs[:, label].max() < MAX_CATEGORIES else None,
        early_stopping=False,
        random_state=0,
    )
