import math
import sys

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from dp_accounting import rdp
from opacus.accountants.analysis import gdp as opacus_gdp
from scipy.optimize import brentq
from scipy.stats import norm

from estimators.leakage.statistics import accountants
from estimators.leakage.statistics.accountants import ACCOUNTANTS
from estimators.leakage.statistics.accountants import BOUNDS
from estimators.leakage.statistics.accountants import Mechanism
from estimators.leakage.statistics.accountants import epsilon_of
from estimators.leakage.statistics.accountants import noise_for

# Noise, sampling rate, steps and delta: a large data set, small ones, hardly any noise, and no sampling.
CASES = [
    (Mechanism(1.0, 0.01, 1000), 1e-5),
    (Mechanism(1.2, 1 / 23, 690), 1e-4),
    (Mechanism(8.0, 1 / 3, 90), 1e-4),
    (Mechanism(0.6, 1 / 3, 90), 1e-3),
    (Mechanism(3.0, 1.0, 10), 1e-4),
]


def event(mechanism):
    step = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
    if mechanism.sampling_rate == 1:
        return step
    return dp_accounting.PoissonSampledDpEvent(mechanism.sampling_rate, step)


def elsewhere(accountant, mechanism, delta):
    """Epsilon by the accountants of dp_accounting, another implementation by other people."""
    accountant.compose(event(mechanism), mechanism.steps)
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize(("mechanism", "delta"), CASES)
def test_the_tightest_bound_is_that_of_another_implementation(mechanism, delta):
    other = elsewhere(pld.PLDAccountant(), mechanism, delta)
    assert epsilon_of(mechanism, delta) == pytest.approx(other, rel=0.01)


@pytest.mark.parametrize(("mechanism", "delta"), CASES)
def test_renyi_divergences_are_those_of_another_implementation(mechanism, delta):
    whole = tuple(range(2, 65))  # of other orders, dp_accounting leaves out those that it does not get
    other = elsewhere(rdp.RdpAccountant(orders=whole), mechanism, delta)
    ours = accountants.rdp(mechanism, delta)
    assert ours <= other * 1.0001
    if mechanism.noise_multiplier >= 1:
        assert ours == pytest.approx(other, rel=0.01)


@pytest.mark.parametrize(("mechanism", "delta"), [case for case in CASES if case[0].noise_multiplier >= 1])
def test_the_central_limit_is_that_of_another_implementation(mechanism, delta):
    sizes = {"steps": mechanism.steps, "noise_multiplier": mechanism.noise_multiplier}
    other = opacus_gdp.compute_eps_poisson(**sizes, sample_rate=mechanism.sampling_rate, delta=delta)
    assert accountants.gdp(mechanism, delta) == pytest.approx(other, rel=0.01)


@pytest.mark.parametrize(("mechanism", "delta"), CASES)
def test_older_bounds_hold_and_say_less(mechanism, delta):
    tightest = epsilon_of(mechanism, delta)
    assert all(ACCOUNTANTS[name](mechanism, delta) >= tightest * 0.99 for name in BOUNDS)


def test_older_bounds_by_hand():
    mechanism, delta = Mechanism(2.0, 0.1, 50), 1e-4

    def of_gaussian(delta):  # the delta of one Gaussian mechanism, by Balle and Wang (2018)
        def over(epsilon):
            return norm.cdf(0.25 - 2 * epsilon) - math.exp(epsilon) * norm.cdf(-0.25 - 2 * epsilon) - delta

        return brentq(over, 0, 20)

    step = math.log(1 + 0.1 * math.expm1(of_gaussian(delta / 50 / 0.1)))
    assert accountants.naive(mechanism, delta) == pytest.approx(50 * step, rel=1e-6)
    half = math.log(1 + 0.1 * math.expm1(of_gaussian(delta / 2 / 50 / 0.1)))
    expected = math.sqrt(2 * 50 * math.log(2 / delta)) * half + 50 * half * math.expm1(half)
    assert accountants.advanced(mechanism, delta) == pytest.approx(expected, rel=1e-6)
    rho = 50 / 8
    assert accountants.zcdp(mechanism, delta) == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e4)), rel=1e-9)


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"), [(1.0, 0.1, 60), (8.0, 0.25, 120), (50.0, 0.5, 20), (3.0, 1.0, 9)]
)
def test_the_noise_for_an_epsilon_gives_that_epsilon(epsilon, rate, steps):
    noise = noise_for(epsilon, 1e-4, rate, steps)
    found = elsewhere(pld.PLDAccountant(), Mechanism(noise, rate, steps), 1e-4)
    assert 0.985 * epsilon <= found <= epsilon


def test_epsilon_falls_with_noise_and_grows_with_steps_rate_and_certainty():
    middle = epsilon_of(Mechanism(1.0, 0.1, 100), 1e-4)
    assert epsilon_of(Mechanism(1.5, 0.1, 100), 1e-4) < middle < epsilon_of(Mechanism(1.0, 0.2, 100), 1e-4)
    assert epsilon_of(Mechanism(1.0, 0.1, 100), 1e-3) < middle < epsilon_of(Mechanism(1.0, 0.1, 200), 1e-4)


def test_next_to_no_noise_has_a_finite_bound():
    assert 1e3 < epsilon_of(Mechanism(0.01, 0.1, 100), 1e-4) < math.inf
    assert accountants.gdp(Mechanism(0.01, 0.1, 100), 1e-4) == math.inf


def test_a_failed_convolution_falls_back(monkeypatch):
    mechanism = Mechanism(1.7, 0.1, 100)
    expected = accountants.rdp(mechanism, 1e-4)
    monkeypatch.setattr(accountants, "prv", lambda *_: math.inf)
    epsilon_of.cache_clear()
    try:
        assert epsilon_of(mechanism, 1e-4) == expected
    finally:
        epsilon_of.cache_clear()


@pytest.mark.parametrize(
    "numbers", [(0.0, 0.1, 10), (1.0, 0.0, 10), (1.0, 1.1, 10), (1.0, 0.1, 0), (math.nan, 0.1, 10)]
)
def test_what_is_no_mechanism_is_refused(numbers):
    with pytest.raises(ValueError, match="expected noise_multiplier > 0"):
        Mechanism(*numbers)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, np.nan])
def test_a_delta_that_is_none_is_refused(delta):
    with pytest.raises(ValueError, match="expected delta above 0 and below 1"):
        epsilon_of(Mechanism(1.0, 0.1, 10), delta)
    with pytest.raises(ValueError, match="expected delta above 0 and below 1"):
        noise_for(1.0, delta, 0.1, 10)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e4, math.nan])
def test_an_epsilon_that_cannot_be_asked_for_is_refused(epsilon):
    with pytest.raises(ValueError, match="expected epsilon above 0 and at most 200"):
        noise_for(epsilon, 1e-4, 0.1, 10)


def test_without_opacus_the_error_says_what_to_install(monkeypatch):
    accountants.rdp.cache_clear()
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(ValueError, match=r"pip install 'gecko-nas\[privacy\]'"):
        accountants.rdp(Mechanism(1.0, 0.1, 10), 1e-4)
