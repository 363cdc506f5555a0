"""Find the audited network among its own references, by its outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Mask

NEARLY_ALL = 0.95
"""Share of the records on which a network's outputs are another's, if both are the same."""
ALIKE = 0.5
"""References that agree with each other on as many records are no sign of anything: the training is so stable."""
ENOUGH = 10
UNSURE, TYPICAL = 0.99, 0.02
"""Two trainings agree on records that both are sure of, or that they give what they give all records."""
ROUNDED = 2e-3
"""How far probabilities of one network may be apart that were written in float16, or with three digits."""
CLOSE = 1e-3
DEEPEST = 60.0
"""Log odds beyond it stand for a probability that was rounded to 0; they are equal in all networks."""


def twin_of(logits: Floats, references: Sequence[Floats]) -> int | None:
    """Return the first reference that answers as the network does on nearly all records; None if there is none.

    Records that the network is unsure of decide. If there are too few, log odds of the sure ones do, which differ from
    training to training; where all are rounded to certainty, nothing can be told.

    Args:
        logits: `(records, classes)`, the network's.
        references: `(records, classes)` each.
    """
    own = log_softmax(logits.astype(np.float64), axis=1)
    shares = np.exp(own)
    telling = (shares.max(axis=1) < UNSURE) & (np.abs(shares - np.median(shares, axis=0)).max(axis=1) > TYPICAL)
    sharp = own.min(axis=1) > -DEEPEST
    by_share = int(telling.sum()) >= ENOUGH
    rows = telling if by_share else sharp
    if int(rows.sum()) < ENOUGH:
        return None
    for number, reference in enumerate(references):
        if _same(logits, reference, rows, by_share=by_share) < NEARLY_ALL:
            continue
        others = [other for place, other in enumerate(references) if place != number]
        if not others or np.median([_same(reference, other, rows, by_share=by_share) for other in others]) < ALIKE:
            return number
    return None


def _same(first: Floats, second: Floats, rows: Mask, *, by_share: bool) -> float:
    """Return the share of some records on which two networks answer alike."""
    one, other = (log_softmax(logits[rows].astype(np.float64), axis=1) for logits in (first, second))
    if by_share:
        return float((np.abs(np.exp(one) - np.exp(other)).max(axis=1) <= ROUNDED).mean())
    return float((np.abs(one - other) <= CLOSE * (1 + np.abs(one))).all(axis=1).mean())
