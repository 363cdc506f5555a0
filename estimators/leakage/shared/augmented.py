"""Ask about moved copies of each record, too, and attack with all answers: augmented queries.

Carlini et al., 2022, "Membership Inference Attacks From First Principles" (S&P), and Zarifzadeh et al., 2024, query the
copies that augmentation made of a record in training: a network has learned those as well. Here the copies are the
mirror image and the image moved by one pixel in four directions (of a signal, it backwards, and moved by one step and
two in either direction), whatever the network was trained with. Each copy is a record of its own, attacked with the
references' answers about the same copy, and the scores of a record and its copies are averaged.

A network that was trained without such copies knows them much less than the record: averaged, they would hide what the
record's own answer tells. So four references are asked first, whose members are known. The others are asked only if the
log odds of the label, averaged over record and copies, tell those members from others about as well as the record's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import oracle_of
from estimators.leakage.scores import scaled_logit
from estimators.leakage.shared.copies import moved
from estimators.leakage.statistics.auc_and_rates import auc

DISTANCES = (1,)
"""Pixels by which a copy is moved."""
COPIES = 5
"""Copies asked about for each record, beside the record itself."""
ASKED_FIRST = 4
"""References that decide whether copies are asked about."""
TELLS = 0.8
"""Least `share_told` for copies to be asked about. `benchmarks/augmented_queries.py` has it for two recipes."""
GUESSING = 0.5


def over_copies(
    evidence: Evidence, score: Callable[[Evidence, str], NDArray[np.float64]], attack: str
) -> NDArray[np.float64]:
    """Score `(records,)` by the mean over each record and its copies; higher means member.

    Args:
        evidence: With a bank whose references answer, images and an oracle.
        score: Scores the record and each copy by the references' answers about the same copy.
        attack: Name of the attack that asks, for the message.

    Raises:
        ValueError: If the evidence lacks any of these, or the bank is too small to score by.
    """
    bank = bank_of(evidence, attack)
    features, _ = oracle_of(evidence, attack)
    if features.ndim != 4 or not bank.oracles:
        raise ValueError(
            f"attack {attack!r} asks the network and its references about moved images: expected features (records, "
            f"channels, height, width) and references that answer; got {features.shape} and {len(bank.oracles)}"
        )
    return np.asarray(np.mean([score(copy, attack) for copy in (evidence, *_copies(evidence))], axis=0))


# One network's answers serve each attack that asks for them. Five times the memory of its bank.
@lru_cache(maxsize=1)
def _copies(evidence: Evidence) -> tuple[Evidence, ...]:
    """Return what the network and the references answer about each copy of all records; nothing if copies tell less."""
    bank, features, oracle = evidence.bank, evidence.features, evidence.oracle
    assert bank is not None
    assert features is not None
    assert oracle is not None  # `over_copies` has refused what lacks any of them
    first, then = bank.oracles[:ASKED_FIRST], bank.oracles[ASKED_FIRST:]
    answers = [[known.query(copy) for known in first] for copy in moved(features, DISTANCES)]
    if share_told(bank, answers) < TELLS:
        return ()
    copies = zip(moved(features, DISTANCES), answers, strict=True)
    return tuple(
        Evidence(
            oracle.query(copy),
            evidence.labels,
            Bank(np.stack([*known, *(other.query(copy) for other in then)]), bank.trained_on, bank.labels),
        )
        for copy, known in copies
    )


def share_told(bank: Bank, answers: Sequence[Sequence[Floats]]) -> float:
    """Return how much of what the record's own answer tells of references' members is left with copies averaged in.

    Args:
        bank: Whose first references were asked.
        answers: Logits `(records, classes)` by copy and reference.

    Returns:
        The ratio of the AUCs above one half, of log odds of the label; 0 where copies tell nothing. A reference that
        was trained on all of the records or on none is left out.
    """
    of_record, of_copies = 0.0, 0.0
    for reference, is_member in enumerate(bank.trained_on[:ASKED_FIRST]):
        if not 0 < is_member.sum() < len(is_member):
            continue
        alone = scaled_logit(bank.logits[reference], bank.labels)
        copies = [scaled_logit(of_copy[reference], bank.labels) for of_copy in answers]
        of_record += auc(alone, is_member) - GUESSING
        of_copies += auc(np.mean([alone, *copies], axis=0), is_member) - GUESSING
    if of_copies <= 0:
        return 0.0
    return of_copies / of_record if of_record > 0 else math.inf
