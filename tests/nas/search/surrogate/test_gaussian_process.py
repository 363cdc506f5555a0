"""The Gaussian process against scikit-learn's, its gradient against differences, and what it is fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel
from sklearn.gaussian_process.kernels import Matern

from nas.search.surrogate import gaussian_process
from nas.search.surrogate.gaussian_process import Scales
from nas.search.surrogate.gaussian_process import condition
from nas.search.surrogate.gaussian_process import fit

GROUPS = np.array([0, 0, 1, 2])


def example(count=30, seed=1):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, 4))
    targets = np.sin(2 * features[:, 0]) + features[:, 1] + 0.1 * rng.standard_normal(count)
    return features, (targets - targets.mean()) / targets.std(), rng


def test_predictions_are_those_of_scikit_learn():
    features, targets, rng = example()
    scales = Scales(np.array([0.7, 2.0, 5.0]), 1.3, 0.02)
    noise = rng.uniform(0, 0.1, len(targets))
    asked = rng.standard_normal((7, 4))
    means, deviations = condition(scales, features, GROUPS, targets, noise).predict(asked)
    kernel = ConstantKernel(1.3, "fixed") * Matern(scales.lengths[GROUPS], "fixed", nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=0.02 + noise + gaussian_process.JITTER, optimizer=None)
    expected, spread = theirs.fit(features, targets).predict(asked, return_std=True)
    assert means == pytest.approx(expected, abs=1e-9)
    assert deviations == pytest.approx(spread, abs=1e-6)


def test_the_gradient_is_that_of_small_differences():
    features, targets, rng = example()
    squares = [gaussian_process._distances(features[:, of == GROUPS], features[:, of == GROUPS]) for of in range(3)]
    logs = np.array([-0.3, 0.8, 0.1, 0.2, -2.0])
    noise = rng.uniform(0, 0.1, len(targets))
    _, gradient = gaussian_process._loss(logs, squares, targets, noise)
    expected = approx_fprime(logs, lambda at: gaussian_process._loss(at, squares, targets, noise)[0], 1e-6)
    assert gradient == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_group_that_tells_nothing_gets_a_long_scale():
    features, targets, _ = example(count=60)
    scales = fit(features, GROUPS, targets, np.zeros(len(targets)))
    assert scales.lengths[0] < 0.5 * scales.lengths[1:].min()
    assert scales.noise < 0.1


def test_known_noise_is_not_fitted_again():
    features, targets, rng = example(count=60)
    noisy = targets + rng.standard_normal(len(targets))
    without = fit(features, GROUPS, noisy, np.zeros(len(targets)))
    told = fit(features, GROUPS, noisy, np.ones(len(targets)))
    assert told.noise < 0.3 * without.noise


def test_what_was_measured_is_known_and_what_lies_far_is_not():
    features, targets, _ = example()
    process = condition(Scales(np.ones(3), 1.0, 1e-6), features, GROUPS, targets, np.zeros(len(targets)))
    means, deviations = process.predict(features)
    assert means == pytest.approx(targets, abs=1e-3)
    assert deviations.max() < 0.01
    far, unsure = process.predict(np.full((1, 4), 100.0))
    assert (far[0], unsure[0]) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_a_trend_over_many_groups_is_learnt_from_fewer_records_than_groups():
    """As in a search over architecture, recipe and defence: many settings, each of which tells a little."""
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        features, slopes = rng.standard_normal((115, 25)), rng.uniform(0.5, 1.5, 25)
        targets = features @ slopes / np.linalg.norm(slopes)
        groups = np.arange(25)
        scales = fit(features[:15], groups, targets[:15], np.zeros(15))
        means, _ = condition(scales, features[:15], groups, targets[:15], np.zeros(15)).predict(features[15:])
        found.append(np.corrcoef(means, targets[15:])[0, 1])
    assert np.median(found) > 0.4  # 0.24 with scales that do not grow with the number of groups
