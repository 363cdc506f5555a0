"""What a network of somebody else's gives, as logits: probabilities and single columns are recognised and turned.

Attacks read log odds. A probability taken for a logit gives other log odds, and weaker attacks than there are.

>>> answers = np.array([[0.9, 0.1], [0.5, 0.5]])
>>> kind_of(answers), np.round(as_logits(answers, kind_of(answers)), 2).tolist()
(<Kind.PROBABILITIES: 'probabilities'>, [[-0.11, -2.3], [-0.69, -0.69]])
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from estimators.leakage.evidence import Floats

SUM_TOLERANCE = 0.03
"""Sums of probabilities that were rounded to two digits, to bfloat16 or to 256 steps are within this of 1; those of the
logits of many records are not."""
DECIMALS = (2, 3, 4)
"""Probabilities that were written with so few digits sum to 1 less exactly; with more, as `SUM_TOLERANCE` says."""
BELOW_ZERO = 1e-6
"""A probability computed as 1 minus the others may lie so far below 0."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""The smallest normal float32."""


class Kind(Enum):
    """What answers are."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    PERCENTAGES = "probabilities in percent"
    LOG_ODDS = "log odds of the second of two classes, in one column"
    PROBABILITY = "the probability of the second of two classes, in one column"


def kind_of(answers: Floats) -> Kind:
    """Judge what answers are, by all of them together.

    Answers in [0, 1] that sum to 1 for every record, up to how they were rounded, are probabilities; in [0, 100] and to
    100, percentages. One column in [0,
    1] is what a sigmoid gives, any other column what stands before one.

    Args:
        answers: `(..., records, classes)`, finite floats; of one class, a single column.
    """
    least, most = float(answers.min()), float(answers.max())
    if answers.shape[-1] == 1:
        return Kind.PROBABILITY if least >= -BELOW_ZERO and most <= 1 + BELOW_ZERO else Kind.LOG_ODDS
    sums = answers.sum(axis=-1, dtype=np.float64)
    for kind, whole in ((Kind.PROBABILITIES, 1), (Kind.PERCENTAGES, 100)):
        tolerance = whole * max(SUM_TOLERANCE, _rounding(answers / whole))
        if least >= -BELOW_ZERO * whole and most <= whole + tolerance and np.abs(sums - whole).max() <= tolerance:
            return kind
    return Kind.LOGITS


def as_logits(answers: Floats, kind: Kind, least: float | None = None) -> Floats:
    """Return logits `(..., records, classes)` of the same softmax.

    A probability of 0 is one that was rounded, and becomes the logarithm of `least`; those of several such records are
    tied. Of a single column, 1 less the probability is known no better than the last digit of the probability: where
    that was rounded to 1, half the digit stands for it.

    Args:
        answers: `(..., records, classes)`, or a single column.
        kind: What they are.
        least: What stands for a probability of 0; None: half of the smallest one above 0 among the answers.
    """
    if kind is Kind.LOGITS:
        return answers
    values = answers.astype(np.float64)
    if kind is Kind.LOG_ODDS:
        return _typed(np.concatenate([np.zeros_like(values), values], axis=-1), answers)
    if kind is Kind.PROBABILITY:
        values = np.concatenate([1 - values, values], axis=-1)
    if kind is Kind.PERCENTAGES:
        values = values / 100
    floor = _least(values) if least is None else least
    if kind is Kind.PROBABILITY:
        values[..., 0] = np.maximum(values[..., 0], float(np.finfo(answers.dtype).eps) / 4)
    return _typed(np.log(np.maximum(values, floor)), answers)


def told(answers: Floats, kind: Kind, name: str) -> str | None:
    """Return the sentence that says how answers were read; None where they are logits as they stand.

    Args:
        answers: As they were given.
        kind: What they are taken for.
        name: What gave them, for people.
    """
    if kind is Kind.LOGITS:
        if answers.min() < 0 or answers.max() > 1 or answers.min() == answers.max():
            return None
        return (
            f"{name}: all answers lie between 0 and 1 and do not sum to 1, so they are no probabilities of one class "
            "among several; they were taken for logits"
        )
    return f"{name}: recognised as {kind.value}, and turned into logits of the same softmax"


def _least(values: Floats) -> float:
    """Return half of the smallest probability above 0."""
    positive = values[values > 0]
    return max(float(positive.min()) / 2, SMALLEST) if positive.size else SMALLEST


def _typed(logits: Floats, answers: Floats) -> Floats:
    """Return logits in the precision of the answers, but not in float16: log odds of rare classes would be rounded."""
    return logits.astype(np.float64 if answers.dtype == np.float64 else np.float32)


def _rounding(answers: Floats) -> float:
    """Return how far sums may be from 1 if the answers were written with few decimals; 0 if they were not."""
    values = answers.astype(np.float64)
    within = float(np.finfo(answers.dtype).eps)
    for decimals in DECIMALS:
        if np.abs(values - values.round(decimals)).max() <= within:
            return float(answers.shape[-1] * 0.5 / 10**decimals)
    return 0.0
