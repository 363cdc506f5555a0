"""Quantities that attacks compute from a network's logits, in float64.

Trained networks are confident of their members: probabilities round to 1 in float32, and a score made of them has ties
where the ranking matters most. The formulas here start from logits, never from probabilities.
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import Oracle

# Carlini et al. (2022) estimate a variance per record from this many networks on, and one for all records below.
OWN_VARIANCE_FROM = 64


def scaled_logit(logits: Floats, labels: Labels, temperature: float = 1.0) -> NDArray[np.float64]:
    """Compute `(records,)` log odds of the true label; high means that the network is confident of it.

    The score of LiRA (Carlini et al., 2022, "Membership Inference Attacks From First Principles"):
    log(p / (1 - p)) = z_y - logsumexp over the other classes, without ever forming 1 - p.

    Args:
        logits: `(records, classes)`.
        labels: `(records,)`, true classes.
        temperature: Divides the logits; above 1 it makes the network less confident.

    Raises:
        ValueError: If the temperature is not positive.

    >>> scaled_logit(np.array([[3.0, 1.0], [0.0, 1e4]]), np.array([0, 0])).tolist()
    [2.0, -10000.0]
    """
    if not temperature > 0:
        raise ValueError(f"expected a positive temperature; got {temperature}")
    rows = np.arange(len(labels))
    others = np.divide(logits, temperature, dtype=np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    # Shifted by hand: scipy's logsumexp takes five times as long on a bank of 50,000 records.
    top = others.max(axis=1)
    others -= top[:, None]
    np.exp(others, out=others)
    return np.asarray(own - top - np.log(others.sum(axis=1)))


def log_probabilities(logits: Floats, labels: Labels, temperature: float = 1.0) -> NDArray[np.float64]:
    """Compute `(records,)` log softmax probabilities of the true label; 0 means certain, lower means less confident.

    Goes through the log odds: `z_y - logsumexp(z)` cancels to 0 from odds of 1e16 upwards, and members would tie.

    Args:
        logits: `(records, classes)`.
        labels: `(records,)`, true classes.
        temperature: Divides the logits; above 1 it makes the network less confident.

    Raises:
        ValueError: If the temperature is not positive.

    >>> log_probabilities(np.array([[100.0, 0.0], [-1e4, 1e4]]), np.array([0, 0])).tolist()
    [-3.720075976020836e-44, -20000.0]
    """
    return np.asarray(-np.logaddexp(0.0, -scaled_logit(logits, labels, temperature)))


def log_odds(logits: Floats) -> NDArray[np.float64]:
    """Compute `(records, classes)` log odds of every class, each as `scaled_logit` does for the true one.

    With s the odds of a class, its probability is expit(s), log p is -logaddexp(0, -s) and log(1 - p) is
    -logaddexp(0, s): nothing cancels for a class that is certain, or certainly wrong.

    Args:
        logits: `(records, classes)`.

    >>> log_odds(np.array([[3.0, 1.0], [0.0, 1e4]])).tolist()
    [[2.0, -2.0], [-10000.0, 10000.0]]
    """
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    odds = logits - logits[rows, top, None].astype(np.float64)
    shares = np.exp(odds)
    # The others of any class but the top one hold the top one's share of 1, so nothing is lost in this difference.
    others = shares.sum(axis=1, keepdims=True) - shares
    others[rows, top] = 1.0
    odds -= np.log(others)
    odds[rows, top] = scaled_logit(logits, top)
    return np.asarray(odds)


def entropy(logits: Floats) -> NDArray[np.float64]:
    """Compute `(records,)` entropies of the softmax, in nats: from 0, certain of one class, to log(classes).

    Args:
        logits: `(records, classes)`.

    >>> entropy(np.array([[0.0, 0.0], [100.0, 0.0]])).round(3).tolist()
    [0.693, 0.0]
    """
    odds = log_odds(logits)
    return np.asarray((scipy.special.expit(odds) * np.logaddexp(0.0, -odds)).sum(axis=1))


def modified_entropy(logits: Floats, labels: Labels) -> NDArray[np.float64]:
    """Compute `(records,)` modified entropies: 0 if the network is certain of the true label, large if of another.

    Song and Mittal (2021): -(1 - p_y) log p_y - sum over c != y of p_c log(1 - p_c).

    Args:
        logits: `(records, classes)`.
        labels: `(records,)`, true classes.

    >>> modified_entropy(np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]), np.array([0, 0, 0])).round(3).tolist()
    [0.693, 0.0, 17.998]
    """
    # Odds against what is right: with q = 1 - p_y for the true label and q = p_c for others, each term is q log(1 - q).
    against = log_odds(logits)
    against[np.arange(len(labels)), labels] *= -1
    return np.asarray((scipy.special.expit(against) * np.logaddexp(0.0, against)).sum(axis=1))


def bank_of(evidence: Evidence, attack: str) -> Bank:
    """Return the evidence's reference networks.

    Args:
        evidence: What the attack was given.
        attack: Its name, for the message.

    Raises:
        ValueError: If the evidence has no bank.
    """
    if evidence.bank is None:
        raise ValueError(f"attack {attack!r} compares with reference networks: expected evidence with a bank; got none")
    return evidence.bank


def check_both_sides(bank: Bank, attack: str, instead: str = "") -> None:
    """Refuse a bank in which a record has fewer than two references trained on it, or than two that left it out.

    Args:
        bank: The references.
        attack: Which attack asks.
        instead: What can be done with such a bank, for the message.

    Raises:
        ValueError: With the number of such records.
    """
    fewer = np.minimum(bank.trained_on.sum(axis=0), (~bank.trained_on).sum(axis=0))
    if fewer.min() < 2:
        raise ValueError(
            f"attack {attack!r} expected two references or more trained on each record, and two that left it out; "
            f"{int((fewer < 2).sum())} of {len(fewer)} records have fewer{instead}"
        )


def oracle_of(evidence: Evidence, attack: str) -> tuple[Floats, Oracle]:
    """Return the records' features and the network that answers for them.

    Args:
        evidence: What the attack was given.
        attack: Its name, for the message.

    Raises:
        ValueError: If the evidence has logits alone.
    """
    if evidence.features is None or evidence.oracle is None:
        raise ValueError(f"attack {attack!r} asks the network: expected evidence with features and an oracle; got none")
    return evidence.features, evidence.oracle


def log_mean(log_p: NDArray[np.float64], among: Mask) -> NDArray[np.float64]:
    """Compute `(records,)` logarithms of the mean probability over some references, others for each record.

    In logarithms throughout: a probability of exp(-5000) is 0 in float64.

    Args:
        log_p: `(references, records)` log probabilities.
        among: `(references, records)`; true where that reference counts for that record.

    >>> np.exp(log_mean(np.log([[0.2, 0.5], [0.6, 0.9]]), np.array([[True, True], [True, False]]))).round(3).tolist()
    [0.4, 0.5]
    """
    kept = np.where(among, log_p, -np.inf)
    return np.asarray(np.logaddexp.reduce(kept, axis=0) - np.log(among.sum(axis=0)))


def reference_normal(values: NDArray[np.float64], among: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit each record's normal distribution over some references: mean and standard deviation, both `(records,)`.

    Below 64 references the deviation is pooled: one for all records, from every reference's distance to its record's
    own mean. It is centred record by record, for the spread of hard and easy records is not that of one record over
    networks; and divided by the degrees of freedom, without which records with fewer references would count for too
    little. Where no record has two references nothing is known of the spread, and it is 1.

    Args:
        values: `(references, records)`.
        among: `(references, records)`; true where that reference counts for that record; at least one for each record.

    >>> values, among = np.array([[1.0, 4.0], [3.0, 8.0]]), np.array([[True, True], [True, True]])
    >>> [part.round(3).tolist() for part in reference_normal(values, among)]  # variance (1 + 1 + 4 + 4) / (1 + 1)
    [[2.0, 6.0], [2.236, 2.236]]
    """
    count, mean, squares = spread_within(values, among)
    if len(values) >= OWN_VARIANCE_FROM and count.min() > 1:
        variance = squares / (count - 1)
    else:
        variance = np.full(len(count), pooled_variance(count, squares))
    # References that all agree: any difference from them is beyond all measure, yet its square is a number.
    return mean, np.maximum(np.sqrt(variance), 1e-30)


def spread_within(
    values: NDArray[np.float64], among: Mask
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Count each record's references, and take their mean and the sum of squares around it, each `(records,)`.

    Args:
        values: `(references, records)`.
        among: `(references, records)`; true where that reference counts for that record; at least one for each record.

    >>> parts = spread_within(np.array([[1.0, 4.0], [3.0, 8.0]]), np.array([[True, True], [True, False]]))
    >>> [part.tolist() for part in parts]
    [[2, 1], [2.0, 4.0], [2.0, 0.0]]
    """
    count = among.sum(axis=0)
    mean = np.where(among, values, 0.0).sum(axis=0) / count
    return count, mean, (np.where(among, values - mean, 0.0) ** 2).sum(axis=0)


def pooled_variance(count: NDArray[np.int64], squares: NDArray[np.float64]) -> float:
    """Compute the variance within records from all records; 1 where no record has two references.

    Args:
        count: `(records,)` references of each record.
        squares: `(records,)` sums of squares around each record's mean.

    >>> pooled_variance(np.array([2, 3]), np.array([2.0, 4.0])), pooled_variance(np.array([1]), np.array([0.0]))
    (2.0, 1.0)
    """
    degrees = int(count.sum()) - len(count)
    # Summed exactly, so that the order of the records does not matter.
    return math.fsum(squares) / degrees if degrees else 1.0


def log_mixture(log_out: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """Compute `(records,)` log Pr(x) of offline RMIA: log(((1 + a) P_out + (1 - a)) / 2), lower for harder records.

    Args:
        log_out: `(records,)` log P_out, of the references that left the record out.
        slope: a, from 0, where P_in is taken for 1, to 1, where it is taken for P_out.

    >>> np.exp(log_mixture(np.log([0.5, 0.5]), 0.0)), np.exp(log_mixture(np.log([0.5, 0.5]), 1.0))
    (array([0.75, 0.75]), array([0.5, 0.5]))
    """
    constant = math.log1p(-slope) if slope < 1 else -math.inf
    return np.asarray(np.logaddexp(math.log1p(slope) + log_out, constant) - math.log(2))
