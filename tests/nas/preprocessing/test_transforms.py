"""Transforms of skewed numbers, fitted on members and repeated on others."""

from __future__ import annotations

import numpy as np
import pytest

from nas.preprocessing.transforms import KNOTS
from nas.preprocessing.transforms import fit_transform
from nas.preprocessing.transforms import skewness

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["log", "quantile"])
def test_what_is_skewed_is_no_longer_and_the_order_stays(name):
    values = RNG.lognormal(2, 1.5, 1000)
    assert skewness(values) > 4
    bent = fit_transform(values, name).apply(values)
    assert abs(skewness(bent)) < skewness(values) / 4
    order = np.argsort(values)
    assert (np.diff(bent[order]) >= 0).all()


def test_log_counts_from_the_median_size_and_keeps_the_sign():
    transform = fit_transform(np.array([-8.0, -2.0, 0.0, 4.0, 100.0, np.nan]), "log")
    assert transform.scale == 4.0
    assert transform.apply(np.array([4.0, -4.0, 0.0])) == pytest.approx([np.log(2), -np.log(2), 0])


def test_log_of_a_number_that_is_mostly_0_counts_from_the_others():
    assert fit_transform(np.array([0.0] * 9 + [10.0, 30.0]), "log").scale == 20.0


def test_quantiles_become_a_normal_distribution_and_its_ends_hold_beyond():
    values = RNG.exponential(size=5000)
    transform = fit_transform(values, "quantile")
    assert len(transform.knots) == KNOTS
    bent = transform.apply(values)
    assert (bent.mean(), bent.std()) == pytest.approx((0, 1), abs=0.05)
    assert transform.apply(np.array([-5.0, 1e9])) == pytest.approx([transform.heights[0], transform.heights[-1]])
    assert transform.heights[-1] == pytest.approx(-transform.heights[0])


def test_equal_values_have_the_middle_of_their_quantiles():
    values = np.array([0.0] * 500 + [1.0] * 250 + [2.0] * 250)
    transform = fit_transform(values, "quantile")
    zero = transform.apply(np.array([0.0]))[0]
    assert zero == pytest.approx(-0.67, abs=0.05)  # a quarter of a normal distribution lies below
    assert len(transform.knots) <= 5


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0, 1.0, np.nan, 1.0], [np.nan]])
@pytest.mark.parametrize("name", ["log", "quantile"])
def test_there_is_nothing_to_bend_in_two_values(values, name):
    assert fit_transform(np.array(values), name) is None


def test_none_bends_nothing():
    assert fit_transform(RNG.normal(size=9), "none") is None


def test_a_missing_number_stays_missing():
    for name in ("log", "quantile"):
        assert np.isnan(fit_transform(RNG.normal(size=9), name).apply(np.array([np.nan]))).all()


def error_on(values, labels, members):
    """Share of wrong classes of a least-squares classifier on the records that are no members."""
    scaled = (values - values[members].mean(axis=0)) / values[members].std(axis=0)
    given = np.column_stack([scaled, np.ones(len(scaled))])
    weights = np.linalg.lstsq(given[members], 2.0 * labels[members] - 1, rcond=None)[0]
    return float(((given[~members] @ weights > 0) != labels[~members]).mean())


@pytest.mark.parametrize("kind", ["lognormal", "counts"])
def test_skewed_columns_that_act_by_their_logarithm_err_less_when_bent(kind):
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(3000, 10))
    hidden = hidden if kind == "lognormal" else np.maximum(hidden - 0.5, 0)  # as words of a message: mostly 0
    weights = rng.normal(size=10)
    labels = hidden @ weights + 0.2 * rng.normal(size=3000) > np.median(hidden @ weights)
    values = np.exp(1.5 * hidden) if kind == "lognormal" else np.expm1(3 * hidden)
    members = np.arange(3000) < 1000
    errors = {"none": error_on(values, labels, members)}
    for name in ("log", "quantile"):
        transforms = [fit_transform(column, name) for column in values[members].T]
        bent = np.column_stack([one.apply(column) for one, column in zip(transforms, values.T, strict=True)])
        errors[name] = error_on(bent, labels, members)
    assert max(errors["log"], errors["quantile"]) < 0.8 * errors["none"]


def test_skewness_of_what_is_all_equal_or_missing_is_0():
    assert skewness(np.array([3.0, 3.0])) == 0
    assert skewness(np.array([np.nan])) == 0
