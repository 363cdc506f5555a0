"""The scores of online LiRA and online RMIA, which one answer about a record and several answers are scored by alike.

`lira_online` and `rmia_online` say what they are and when to use them; `lira_augmented` and `rmia_augmented` average
them over copies of a record.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import check_both_sides
from estimators.leakage.scores import log_mean
from estimators.leakage.scores import log_probabilities
from estimators.leakage.scores import reference_normal
from estimators.leakage.scores import scaled_logit

TEMPERATURE = 2.0
"""Softens the probabilities of RMIA."""


def log_likelihood_ratio(evidence: Evidence, attack: str) -> NDArray[np.float64]:
    """Compute `(records,)` log ratios of online LiRA; higher means member.

    Args:
        evidence: With a bank.
        attack: Name of the attack that asks, for the message.

    Raises:
        ValueError: If the evidence has no bank, or a record has fewer than two references trained on it, or than two
            that left it out.
    """
    bank = bank_of(evidence, attack)
    check_both_sides(bank, attack, " (attack 'lira' needs those that left it out)")
    (mean_in, in_), (mean_out, out) = normals_with_and_without(bank)
    phi = scaled_logit(evidence.logits, evidence.labels)
    return np.asarray(((phi - mean_out) / out) ** 2 / 2 + np.log(out) - ((phi - mean_in) / in_) ** 2 / 2 - np.log(in_))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def normals_with_and_without(bank: Bank) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    """Fit the log odds of references trained on each record, and of the others: means and deviations `(records,)`."""
    phi = np.stack([scaled_logit(logits, bank.labels) for logits in bank.logits])
    return reference_normal(phi, bank.trained_on), reference_normal(phi, ~bank.trained_on)


def log_relative_probability(evidence: Evidence, attack: str) -> NDArray[np.float64]:
    """Compute `(records,)` log LR of online RMIA; higher means member.

    Args:
        evidence: With a bank.
        attack: Name of the attack that asks, for the message.

    Raises:
        ValueError: If the evidence has no bank, or no reference was trained on some record.
    """
    bank = bank_of(evidence, attack)
    nowhere = int((~bank.trained_on.any(axis=0)).sum())
    if nowhere:
        raise ValueError(
            f"attack {attack!r} expected every record to have a reference trained on it; "
            f"{nowhere} of {len(bank.labels)} have none (attack 'rmia' needs none)"
        )
    expected = _log_expected(bank)
    return np.asarray(log_probabilities(evidence.logits, evidence.labels, TEMPERATURE) - expected)


@lru_cache(maxsize=4)
def _log_expected(bank: Bank) -> NDArray[np.float64]:
    """Return `(records,)` log Pr(x)."""
    log_p = np.stack([log_probabilities(logits, bank.labels, TEMPERATURE) for logits in bank.logits])
    log_in, log_out = log_mean(log_p, bank.trained_on), log_mean(log_p, ~bank.trained_on)
    return np.asarray(np.logaddexp(log_in, log_out) - math.log(2))
