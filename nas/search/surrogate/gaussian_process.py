"""A Gaussian process over groups of features, each group with one length scale.

A network has dozens of features and a search some dozens of networks: a scale for each feature would fit the noise. The
features of one group, such as the counts of operators, share a scale. The kernel is Matern's with nu = 5/2 of the
distance over all groups together (Rasmussen and Williams, 2006). Its scales maximise the marginal likelihood, with
log-normal priors that hold them where little is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor
from scipy.linalg import cho_solve
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

Numbers = NDArray[np.float64]
JITTER = 1e-6
"""Added to the diagonal, in variances of the targets: keeps equal records from making the matrix singular."""
LENGTH_MEAN, LENGTH_SPREAD = 0.5, 1.0
"""Mean and standard deviation of the prior of the logarithm of a length scale, over the root of the number of groups.

Distances between records grow with the root of the number of groups. With scales that do not, all records of a search
over many settings are far from each other, and nothing is learnt from some dozens (Hvarfner, Hellsten and Nardi, 2024).
"""
AMPLITUDE_SPREAD = 1.0
"""Standard deviation of the prior of the logarithm of the amplitude, whose mean is 0."""
NOISE_MEAN, NOISE_SPREAD = -4.0, 1.5
"""The same of the logarithm of the noise's variance: a training that is repeated differs by an eighth of the spread."""
LENGTH_BOUNDS, AMPLITUDE_BOUNDS, NOISE_BOUNDS = (-3.0, 6.0), (-3.0, 3.0), (-12.0, 1.0)
STEPS = 60


@dataclass(frozen=True, eq=False)
class Scales:
    """What the kernel was fitted to.

    Attributes:
        lengths: `(groups,)`: distances at which networks stop telling of each other; large: the group is irrelevant.
        amplitude: Variance of the function.
        noise: Variance of a target around it.
    """

    lengths: Numbers
    amplitude: float
    noise: float


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A Gaussian process that has seen its targets; made by `condition`.

    Attributes:
        scales: Of the kernel.
        groups: `(features,)`: the group of each feature.
        seen: `(records, features)`, divided by the length scales.
        factor: Lower Cholesky factor of the targets' covariance.
        weights: `(records,)`: the covariance's inverse times the targets.
    """

    scales: Scales
    groups: NDArray[np.intp]
    seen: Numbers
    factor: Numbers
    weights: Numbers

    def predict(self, features: Numbers) -> tuple[Numbers, Numbers]:
        """Return means and standard deviations of the function, noise left out.

        Args:
            features: `(networks, features)`.

        Returns:
            Two `(networks,)`.
        """
        covariance = self._covariance(features)
        explained = solve_triangular(self.factor, covariance.T, lower=True)
        variance = self.scales.amplitude - np.einsum("ij,ij->j", explained, explained)
        return covariance @ self.weights, np.sqrt(np.maximum(variance, 1e-12))

    def mean(self, features: Numbers) -> Numbers:
        """Return the means alone, which are found in a fraction of the time."""
        mean: Numbers = self._covariance(features) @ self.weights
        return mean

    def _covariance(self, features: Numbers) -> Numbers:
        return _matern(_distances(features / self.scales.lengths[self.groups], self.seen)) * self.scales.amplitude


def fit(features: Numbers, groups: NDArray[np.intp], targets: Numbers, noise: Numbers) -> Scales:
    """Fit the scales of the kernel to targets of mean 0 and variance 1.

    Args:
        features: `(records, features)`, each of a spread near 1 over the root of its group's size.
        groups: `(features,)`: the group of each, from 0.
        targets: `(records,)`.
        noise: `(records,)`: known variances of the targets; what is fitted comes on top.
    """
    count = int(groups.max()) + 1
    squares = [_distances(features[:, groups == group], features[:, groups == group]) for group in range(count)]
    means = np.array([LENGTH_MEAN + 0.5 * np.log(count)] * count + [0.0, NOISE_MEAN])
    spreads = np.concatenate([np.full(count, LENGTH_SPREAD), [AMPLITUDE_SPREAD, NOISE_SPREAD]])

    def loss(logs: Numbers) -> tuple[float, Numbers]:
        value, gradient = _loss(logs, squares, targets, noise)
        from_prior = (logs - means) / spreads
        return value + 0.5 * float(from_prior @ from_prior), gradient + from_prior / spreads

    bounds = [LENGTH_BOUNDS] * count + [AMPLITUDE_BOUNDS, NOISE_BOUNDS]
    found = minimize(loss, means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    scales = np.exp(found.x)
    return Scales(scales[:count], float(scales[count]), float(scales[count + 1]))


def condition(
    scales: Scales, features: Numbers, groups: NDArray[np.intp], targets: Numbers, noise: Numbers
) -> GaussianProcess:
    """Let a process see targets; the arguments are those of `fit`."""
    seen = features / scales.lengths[groups]
    covariance = _matern(_distances(seen, seen)) * scales.amplitude
    covariance[np.diag_indices(len(targets))] += scales.noise + noise + JITTER
    factor, _ = cho_factor(covariance, lower=True)
    factor = np.tril(factor)
    return GaussianProcess(scales, groups, seen, factor, cho_solve((factor, True), targets))


def _loss(logs: Numbers, squares: Sequence[Numbers], targets: Numbers, noise: Numbers) -> tuple[float, Numbers]:
    """Return the negative log marginal likelihood, but for a constant, and its gradient by the logarithms."""
    count = len(squares)
    scaled = [square * np.exp(-2 * length) for square, length in zip(squares, logs[:count], strict=True)]
    root = np.sqrt(5 * sum(scaled))
    decay = np.exp(logs[count]) * np.exp(-root)
    covariance = (1 + root + root**2 / 3) * decay
    own = np.exp(logs[count + 1])
    whole = covariance + np.diag(own + noise + JITTER)
    factor = cho_factor(whole, lower=True)
    weights = cho_solve(factor, targets)
    value = 0.5 * float(targets @ weights) + float(np.log(np.diag(factor[0])).sum())
    slope = cho_solve(factor, np.eye(len(targets))) - np.outer(weights, weights)
    by_length = [0.5 * float((slope * (5 / 3) * (1 + root) * decay * one).sum()) for one in scaled]
    return value, np.array([*by_length, 0.5 * float((slope * covariance).sum()), 0.5 * float(np.trace(slope)) * own])


def _distances(first: Numbers, second: Numbers) -> Numbers:
    """Return squared distances `(first, second)`."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None, :] - 2 * first @ second.T
    distances: Numbers = np.maximum(squares, 0.0)
    return distances


def _matern(squares: Numbers) -> Numbers:
    root = np.sqrt(5 * squares)
    return (1 + root + root**2 / 3) * np.exp(-root)
