"""What a network says about the true label, in float64, as every attack reads it.

Trained networks are sure of their members: probabilities round to 1 in float32, and a score made of them has ties where
the ranking matters most. The formulas here start from logits, never from probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels


def scaled_logit(logits: Floats, labels: Labels, temperature: float = 1.0) -> NDArray[np.float64]:
    """Compute `(records,)` log odds of the true label; high means the network is sure of it.

    The score of LiRA (Carlini et al., 2022, "Membership Inference Attacks From First Principles"):
    log(p / (1 - p)) = z_y - logsumexp over the other classes, without ever forming 1 - p.

    Args:
        logits: `(records, classes)`.
        labels: `(records,)`, true classes.
        temperature: Divides the logits; above 1 it makes the network less sure.

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
    """Compute `(records,)` log softmax probabilities of the true label; 0 means certain, lower means less sure.

    Goes through the log odds: `z_y - logsumexp(z)` cancels to 0 from odds of 1e16 upwards, and members would tie.

    Args:
        logits: `(records, classes)`.
        labels: `(records,)`, true classes.
        temperature: Divides the logits; above 1 it makes the network less sure.

    Raises:
        ValueError: If the temperature is not positive.

    >>> log_probabilities(np.array([[100.0, 0.0], [-1e4, 1e4]]), np.array([0, 0])).tolist()
    [-3.720075976020836e-44, -20000.0]
    """
    return np.asarray(-np.logaddexp(0.0, -scaled_logit(logits, labels, temperature)))
