"""How far trainings of one recipe lie apart in what is measured of candidates, learned from the reference bank."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Mask
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import placements
from estimators.leakage.statistics.between_trainings import FEWEST_REFERENCES
from estimators.leakage.statistics.between_trainings import USUAL
from estimators.leakage.statistics.between_trainings import Repeated
from estimators.leakage.statistics.between_trainings import Spread
from estimators.leakage.statistics.between_trainings import repeated
from estimators.leakage.statistics.between_trainings import spread_of_pairs
from estimators.leakage.statistics.between_trainings import widened

SPREAD_OF: Mapping[str, str] = MappingProxyType(
    {
        "error": "error",
        "balanced_error": "error",
        "rarest_class_error": "error",
        "leakage": "leakage",
        "tpr_at_1pct_fpr": "leakage",
        "loss_auc": "loss_auc",
        "accuracy_gap": "accuracy_gap",
    }
)
"""Each measure with an interval, and the one whose spread between trainings widens it.

References have no validation records of a class of their own, and too few false positives to learn from.
"""
LOWEST: Mapping[str, float] = MappingProxyType({"accuracy_gap": -1.0})
"""Lowest number that a measure can be, where that is not 0."""


def spreads_of(
    bank: Bank | None, attack: Callable[[Evidence], NDArray[np.float64]], fewest: int = 0
) -> dict[str, Spread]:
    """Learn how far trainings lie apart from the references, each attacked with the help of the other pairs.

    Its partner is left out with it: so many references as have a record have it not, as in the whole bank.

    What `spread_of_pairs` needs is in the bank already: each reference has members and non-members of its own among the
    same records. Nothing is trained.

    Args:
        bank: References in complementary pairs, as `build_bank` trains them; None if there are none.
        attack: The attack that measures candidates.
        fewest: References that the attack must have.

    Returns:
        A spread for each measure that has one of its own, `USUAL` where there are too few references.

    Raises:
        ValueError: If two neighbours were not trained on complementary halves.
    """
    if bank is None or len(bank.logits) < max(FEWEST_REFERENCES, fewest + 2):
        return dict.fromkeys(SPREAD_OF.values(), USUAL)
    inside = bank.trained_on
    if not (inside[0::2] ^ inside[1::2]).all():
        raise ValueError("expected references in pairs that were trained on complementary halves of the records")
    scores = np.stack([attack(_left_out(bank, reference)) for reference in range(len(inside))])
    confidence = np.stack([log_probabilities(logits, bank.labels) for logits in bank.logits])
    right = (bank.logits.argmax(axis=2) == bank.labels).astype(np.float64)
    outside = ~inside
    return {
        "error": spread_of_pairs(_means(1 - right, outside), 1 - right, [outside]),
        "leakage": _of_auc(scores, inside),
        "loss_auc": _of_auc(confidence, inside),
        "accuracy_gap": spread_of_pairs(_means(right, inside) - _means(right, outside), right, [inside, outside]),
    }


def with_trainings(estimates: Mapping[str, Estimate], spreads: Mapping[str, Spread]) -> dict[str, Estimate]:
    """Widen intervals that are of the records alone by the variance between trainings.

    Args:
        estimates: Measures of one training.
        spreads: What `spreads_of` learned; empty to leave the intervals as they are.
    """
    if not spreads:
        return dict(estimates)
    return {
        name: widened(estimate, spreads[SPREAD_OF[name]].share, lowest=LOWEST.get(name, 0.0))
        if name in SPREAD_OF
        else estimate
        for name, estimate in estimates.items()
    }


def over_trainings(trainings: Sequence[Mapping[str, Estimate]], spreads: Mapping[str, Spread]) -> dict[str, Repeated]:
    """Put several trainings of one recipe together, measure by measure.

    Args:
        trainings: Measures of each, with intervals that are of the records alone; at least one training.
        spreads: What `spreads_of` learned; empty where nothing is known beforehand.
    """
    return {
        name: repeated(
            [one[name] for one in trainings], spreads.get(SPREAD_OF[name], USUAL), lowest=LOWEST.get(name, 0.0)
        )
        for name in trainings[0]
        if name in SPREAD_OF
    }


def _left_out(bank: Bank, reference: int) -> Evidence:
    """Return what an attack sees of one reference: its outputs, and the other pairs."""
    others = np.arange(len(bank.logits)) // 2 != reference // 2
    return Evidence(bank.logits[reference], bank.labels, bank.part(others))


def _of_auc(scores: Floats, inside: Mask) -> Spread:
    contributions = np.empty(scores.shape)
    for row, given, members in zip(contributions, scores, inside, strict=True):
        row[members], row[~members] = placements(given, members)
    return spread_of_pairs(_means(contributions, inside), contributions, [inside, ~inside])


def _means(values: Floats, where: Mask) -> Floats:
    return np.asarray(values.mean(axis=1, where=where))
