"""Bounds on epsilon from an attack's scores: one for any training, beside it two that assume more.

What each assumes, and what none of them can say, is written here once, for terminal, page and JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Scores
from estimators.leakage.statistics.epsilon import EpsilonBound
from estimators.leakage.statistics.epsilon import over_thresholds
from estimators.leakage.statistics.gaussian_epsilon import GaussianBound
from estimators.leakage.statistics.gaussian_epsilon import mu_from_auc
from estimators.leakage.statistics.gaussian_epsilon import mu_over_thresholds
from nas.base.text import Row

CONFIDENCE = 0.95
ANY, GAUSSIAN = "nothing about the training", "the training's trade-off function is Gaussian"
"""What is assumed of the training, in words."""
LOWER = "A bound on epsilon is a lower one: 0 means that nothing was shown, not that the training is private."
OTHERWISE = (
    "A bound that assumes a Gaussian trade-off function holds for noise like that of a Gaussian mechanism. For a "
    "training of another kind it can lie far above epsilon: quote the bound that assumes nothing about the training."
)
OF_RECORDS = (
    LOWER,
    (
        "The bounds take records as independent. Records of one training are not, so the bounds are indicative. "
        "nas audit --canaries gives a bound without this assumption."
    ),
    (
        "If members and non-members differ in more than their membership, that counts as epsilon too. "
        "Another delta gives another epsilon."
    ),
    OTHERWISE,
)
"""What has to be known to read an audit's bounds, in sentences."""
OF_PEOPLE = (
    "A bound by person is about trainings that differ in all records of one person, takes people as independent, and "
    "has another delta than a bound by record."
)


@dataclass(frozen=True, slots=True)
class Epsilons:
    """Bounds on epsilon from the scores of one attack, which hold together for all attacks of an audit.

    Attributes:
        any_training: From all thresholds, whatever the training is; the one to quote.
        thresholds: From all thresholds, if the training's trade-off function is Gaussian.
        auc: From the AUC, under the same assumption.
    """

    any_training: EpsilonBound
    thresholds: GaussianBound
    auc: GaussianBound


def caveats(*, by_person: bool) -> tuple[str, ...]:
    """Return what has to be known to read an audit's bounds, in sentences."""
    return (*OF_RECORDS, OF_PEOPLE) if by_person else OF_RECORDS


def of_scores(scores: Scores, is_member: Mask, attacks: int) -> Epsilons:
    """Bound epsilon at delta 1 / members, so that all bounds of one kind hold together (Bonferroni).

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        attacks: How many attacks the audit runs.
    """
    delta, confidence = 1 / int(is_member.sum()), 1 - (1 - CONFIDENCE) / attacks
    return Epsilons(
        replace(over_thresholds(scores, is_member, delta=delta, confidence=confidence), confidence=CONFIDENCE),
        replace(mu_over_thresholds(scores, is_member, delta=delta, confidence=confidence), confidence=CONFIDENCE),
        replace(mu_from_auc(scores, is_member, delta=delta, confidence=confidence), confidence=CONFIDENCE),
    )


def as_json(found: Epsilons) -> list[Row]:
    """Return each bound with what it assumes; the first is the one to quote."""
    return [
        bound_as_json("all thresholds", found.any_training),
        bound_as_json("all thresholds", found.thresholds),
        bound_as_json("AUC", found.auc),
    ]


def bound_as_json(source: str, bound: EpsilonBound | GaussianBound) -> Row:
    """Return a bound with what it assumes of the training and what it was computed from."""
    gaussian = isinstance(bound, GaussianBound)
    return {
        "assumes": GAUSSIAN if gaussian else ANY,
        "from": source,
        "epsilon": bound.epsilon,
        "mu": bound.mu if isinstance(bound, GaussianBound) else None,
        "delta": bound.delta,
        "confidence": bound.confidence,
    }


COLUMNS = ("attack", "nothing", "Gaussian trade-off,\nfrom all thresholds", "Gaussian trade-off,\nfrom the AUC")
"""Headings of the table of bounds: what is assumed of the training."""


def cells(named: Sequence[tuple[str, Epsilons]]) -> Iterator[tuple[str, ...]]:
    """Write the bounds of each attack, a row for each, under `COLUMNS`."""
    for attack, found in named:
        yield (attack, *(f"{bound.epsilon:.2f}" for bound in (found.any_training, found.thresholds, found.auc)))
