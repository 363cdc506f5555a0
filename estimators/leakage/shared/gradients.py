"""Gradients of a network's last layer for each record, for attackers who can read its weights and activations.

The last layer computes logits z = W a + b from activations a. With p = softmax(z) and y the true label, the gradient
of one record's cross-entropy by the weights is

    dL/dW = (p - onehot(y)) a^T        dL/db = p - onehot(y)

so it needs no second pass through the network, and no weights. W is what the deployed layer multiplies by: the levels
of a few-bit layer times their scale. The master weights of its training, and their straight-through gradients, do not
ship, and an attacker has neither.

A network that is certain of a record has p(y) = 1 in float64, and p - 1 cancels to 0, where members differ most. Here
p - 1 is -expit(-s) with s the log odds of the label, and norms are made in logarithms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import check_logits
from estimators.leakage.scores import log_odds

# What stands for the logarithm of a norm of 0: that of the smallest normal number.
LOG_OF_ZERO = float(np.log(np.finfo(np.float64).tiny))


def gradients(logits: Floats, labels: Labels, activations: Floats) -> NDArray[np.float64]:
    """Compute `(records, classes, units)` gradients of each record's cross-entropy by the last layer's weights.

    Eight bytes for each weight of each record: take few records. For a layer with a bias, append a column of ones to
    the activations; the bias's gradient is the last column.

    Args:
        logits: `(records, classes)`, in eval mode.
        labels: `(records,)`, true classes.
        activations: `(records, units)`, what the last layer reads.

    Raises:
        ValueError: If shapes or types disagree, or a number is not finite.

    >>> gradients(np.array([[0.0, 0.0]]), np.array([0]), np.array([[2.0, 4.0, 1.0]])).tolist()
    [[[-1.0, -2.0, -0.5], [1.0, 2.0, 0.5]]]
    """
    _check(logits, labels, activations)
    odds, own = log_odds(logits), (np.arange(len(labels)), labels)
    residuals = expit(odds)
    residuals[own] = -expit(-odds[own])
    return np.asarray(residuals[:, :, None] * activations[:, None, :].astype(np.float64))


def gradient_norm(logits: Floats, labels: Labels, activations: Floats) -> NDArray[np.float64]:
    """Compute `(records,)` Euclidean norms of `gradients`, without them; low means that nothing is left to learn.

    Below 1e-308 it is 0, or a number of fewer digits; `log_gradient_norm` is not.

    Args:
        logits: `(records, classes)`, in eval mode.
        labels: `(records,)`, true classes.
        activations: `(records, units)`, what the last layer reads.

    Raises:
        ValueError: If shapes or types disagree, or a number is not finite.

    >>> gradient_norm(np.array([[0.0, 0.0]]), np.array([0]), np.array([[3.0, 4.0]])).round(3).tolist()
    [3.536]
    """
    _check(logits, labels, activations)
    return np.asarray(np.exp(_log_residual_norm(logits, labels)) * _norm(activations))


def log_gradient_norm(logits: Floats, labels: Labels, activations: Floats) -> NDArray[np.float64]:
    """Compute `(records,)` natural logarithms of `gradient_norm`, which does not become 0 for a very confident network.

    Activations that are all 0 give log(2.2e-308) for their norm: finite, and far below all others.

    Args:
        logits: `(records, classes)`, in eval mode.
        labels: `(records,)`, true classes.
        activations: `(records, units)`, what the last layer reads.

    Raises:
        ValueError: If shapes or types disagree, or a number is not finite.

    >>> log_gradient_norm(np.array([[1e4, 0.0]]), np.array([0]), np.array([[1.0, 0.0]])).round(3).tolist()
    [-9999.653]
    """
    _check(logits, labels, activations)
    return np.asarray(_log_residual_norm(logits, labels) + log_activation_norm(activations))


def log_activation_norm(activations: Floats) -> NDArray[np.float64]:
    """Compute `(records,)` natural logarithms of the activations' Euclidean norm; for 0 see `log_gradient_norm`.

    Args:
        activations: `(records, units)`, what the last layer reads.

    Raises:
        ValueError: If the shape is another, or a number is not finite.

    >>> log_activation_norm(np.array([[0.6, 0.8]])).round(3).tolist()
    [0.0]
    """
    _check_activations(activations, len(activations))
    norm = _norm(activations)
    return np.asarray(np.log(norm, out=np.full(len(norm), LOG_OF_ZERO), where=norm > 0))


def _log_residual_norm(logits: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return `(records,)` log |p - onehot(y)|."""
    odds = log_odds(logits)
    odds[np.arange(len(labels)), labels] *= -1
    # log expit(s) = -log(1 + exp(-s)), twice for squares.
    return np.asarray(np.logaddexp.reduce(-2 * np.logaddexp(0.0, -odds), axis=1) / 2)


def _norm(activations: Floats) -> NDArray[np.float64]:
    """Return `(records,)` Euclidean norms; the squares of float32 neither overflow in float64 nor vanish."""
    return np.asarray(np.sqrt(np.einsum("ru,ru->r", activations, activations, dtype=np.float64)))


def _check(logits: Floats, labels: Labels, activations: Floats) -> None:
    check_logits(logits, labels)
    _check_activations(activations, len(labels))


def _check_activations(activations: Floats, records: int) -> None:
    if activations.ndim != 2 or len(activations) != records or not activations.shape[1]:
        raise ValueError(f"expected activations ({records}, units); got {activations.shape}")
    if activations.dtype.kind != "f" or not np.isfinite(activations).all():
        raise ValueError(f"expected finite activations of floats; got {activations.dtype}, or NaN or infinity")
