import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.stats import norm

from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.gaussian_epsilon import LARGEST_MU
from estimators.leakage.statistics.gaussian_epsilon import GaussianBound
from estimators.leakage.statistics.gaussian_epsilon import gaussian_epsilon
from estimators.leakage.statistics.gaussian_epsilon import mu_from_auc
from estimators.leakage.statistics.gaussian_epsilon import mu_of_one_run
from estimators.leakage.statistics.gaussian_epsilon import mu_over_thresholds
from estimators.leakage.statistics.gaussian_epsilon import one_run_mu
from tests import mechanisms
from tests.mechanisms import counted
from tests.mechanisms import gaussian

few = settings(max_examples=25, deadline=None, derandomize=True)
OF_RECORDS = [mu_over_thresholds, mu_from_auc]


# Mu as epsilon.


def test_epsilon_of_a_mechanism_equals_known_figures():
    # The analytic Gaussian mechanism of deviation 1 / mu (Balle and Wang, 2018); 4.377 is what accountants print for
    # deviation 1 at delta 1e-5.
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.377, abs=1e-3)
    # At epsilon 0, delta is the total variation 2 Phi(mu / 2) - 1: 0.38292 for mu 1. Below it, epsilon is above 0.
    assert gaussian_epsilon(1.0, 0.3830) == 0
    assert 0 < gaussian_epsilon(1.0, 0.3829) < 1e-3
    assert gaussian_epsilon(0.0, 1e-5) == 0


@few
@given(mu=st.floats(0.05, 10), exponent=st.floats(-9, -1))
def test_epsilon_is_where_the_mechanisms_delta_is_the_one_asked_for(mu, exponent):
    delta = 10**exponent
    epsilon = gaussian_epsilon(mu, delta)
    needed = norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert needed == pytest.approx(delta, rel=1e-6) or (epsilon == 0 and needed <= delta)


@pytest.mark.parametrize("mu", [1e-9, 1e-3, 20.0, LARGEST_MU])
def test_epsilon_is_a_number_at_the_ends(mu):
    found = [gaussian_epsilon(mu, delta) for delta in (0.5, 1e-5, 1e-300)]
    assert found == sorted(found)
    assert np.isfinite(found).all()


# Mu of records.


def test_two_hand_made_groups_give_the_mu_of_one_threshold():
    # All 500 members above all 500 non-members, at the highest of these: the FPR is a Beta(1, 500) variable, and mu is
    # ruled out while E[Phi(mu + Phi^-1(FPR))^500] <= 0.05. At a fixed FPR of 1 / 501 that would be mu 5.40.
    scores, is_member = counted(500, 500, 0, 500)
    scores = scores + np.where(is_member, 0, np.linspace(0, 0.5, 1000))
    found = mu_over_thresholds(scores, is_member, delta=1e-3, thresholds=1).mu
    rates = np.random.default_rng(0).beta(1, 500, 200_000)
    chance = norm.cdf(found + norm.ppf(rates)) ** 500
    assert chance.mean() == pytest.approx(0.05, abs=0.005)
    assert norm.ppf(0.05 ** (1 / 500)) - norm.ppf(1 / 501) == pytest.approx(5.40, abs=0.01)


def test_mu_of_an_auc_by_hand():
    # 0.025 is left for the normal distribution: the AUC lies 1.96 deviations above that of mu.
    scores, is_member = gaussian(np.random.default_rng(0), 1.0, 1000)
    mu = mu_from_auc(scores, is_member, delta=1e-3).mu
    rng = np.random.default_rng(1)
    aucs = [auc(*gaussian(rng, mu, 1000)) for _ in range(400)]
    assert np.mean(aucs) == pytest.approx(norm.cdf(mu / np.sqrt(2)), abs=0.002)
    assert (auc(scores, is_member) - np.mean(aucs)) / np.std(aucs) == pytest.approx(1.96, abs=0.2)


@pytest.mark.parametrize("bound", OF_RECORDS)
@pytest.mark.parametrize(("mu", "records", "decimals"), [(0.5, 300, 9), (2.0, 300, 9), (2.0, 300, 0), (3.0, 60, 9)])
def test_mu_lies_above_the_truth_in_at_most_five_percent_of_500_runs(bound, mu, records, decimals):
    rng = np.random.default_rng(3)
    draws = [gaussian(rng, mu, records) for _ in range(500)]
    found = np.array([bound(scores.round(decimals), is_member, delta=1e-3).mu for scores, is_member in draws])
    assert np.mean(found > mu) <= 0.05


@pytest.mark.parametrize(("bound", "share"), [(mu_over_thresholds, 0.75), (mu_from_auc, 0.75)])
def test_mu_reaches_most_of_the_truth_and_says_nothing_where_nothing_is(bound, share):
    rng = np.random.default_rng(4)
    found = [bound(*gaussian(rng, 1.0, 500), delta=1e-3).mu for _ in range(50)]
    assert share < np.mean(found) < 1
    assert sum(bound(*gaussian(rng, 0.0, 500), delta=1e-3).mu > 0 for _ in range(100)) <= 5


def test_the_two_bounds_see_different_attacks():
    # A twentieth of the members lies far above everybody, the others lie where non-members do: the AUC sees little of
    # it.
    rng = np.random.default_rng(5)
    is_member = np.arange(4000) < 2000
    scores = rng.normal(size=4000) + 9 * (np.arange(4000) < 100)
    assert mu_over_thresholds(scores, is_member, delta=1e-3).mu > 1 > 5 * mu_from_auc(scores, is_member, delta=1e-3).mu


def test_where_the_trade_off_is_another_one_mu_is_true_and_its_epsilon_is_not():
    # Randomised response of epsilon 1: TPR 0.731, FPR 0.269, so no mu below 2 Phi^-1(0.731) = 1.232 is kept.
    rng = np.random.default_rng(6)
    told = 1 / (1 + np.exp(-1))
    is_member = np.arange(4000) < 2000
    scores = (is_member ^ (rng.random(4000) > told)).astype(float)
    bound = mu_over_thresholds(scores, is_member, delta=1e-3)
    assert 0.8 * 2 * norm.ppf(told) < bound.mu <= 2 * norm.ppf(told) == pytest.approx(1.232, abs=1e-3)
    assert bound.epsilon > 3


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_records_and_scale_of_scores_tell_nothing(seed):
    rng = np.random.default_rng(seed)
    scores, is_member = gaussian(rng, 1.5, 60)
    scores = scores.round(1)
    order = rng.permutation(120)
    for bound in (*OF_RECORDS, mu_of_one_run):
        found = bound(scores, is_member, delta=1e-4)
        assert found == bound(scores[order], is_member[order], delta=1e-4)
        assert found == bound(np.exp(scores), is_member, delta=1e-4)
        assert bound(np.zeros(120), is_member, delta=1e-4).mu == 0
        assert bound(-scores, is_member, delta=1e-4).mu == 0


def test_perfect_scores_show_no_more_than_so_many_records_can():
    def of_perfect(bound, records):
        return bound(np.arange(2.0 * records), np.arange(2 * records) >= records, delta=1e-3).mu

    for bound in OF_RECORDS:
        assert of_perfect(bound, 5) < of_perfect(bound, 500) < 7


def test_epsilon_of_a_bound_is_that_of_its_mu():
    assert GaussianBound(1.0, 1e-5, 0.95).epsilon == gaussian_epsilon(1.0, 1e-5)
    assert GaussianBound(1.0, 1e-5, 0.95).epsilon == pytest.approx(mechanisms.gaussian_epsilon(1.0, 1e-5), abs=1e-6)


# Mu of one run.


def test_one_coin_told_rightly_by_hand():
    # Told rightly with probability Phi(mu / 2) at best. An error of 0.9 allows mu up to 2 Phi^-1(0.9).
    assert one_run_mu(1, 1, 1, confidence=0.1) == pytest.approx(2 * norm.ppf(0.9), abs=1e-5)
    assert one_run_mu(1, 1, 1, confidence=0.95) == 0
    assert one_run_mu(1, 1, 0, confidence=0.1) == 0


def test_three_coins_follow_the_recursion_by_hand():
    # Two of three right, error 0.9: r2 = 0.9 * 2/3, h2 = 0.9 / 3; h1 = Phi(Phi^-1(r2) - mu), r1 = r2 + (h1 - h2) / 2;
    # h0 = Phi(Phi^-1(r1) - mu), r0 = r1; mu is where r0 + h0 = 1.
    mu = one_run_mu(3, 3, 2, confidence=0.1)
    right, wrong = 0.6, 0.3
    first = norm.cdf(norm.ppf(right) - mu)
    right += (first - wrong) / 2
    assert mu > 0.5
    assert right + norm.cdf(norm.ppf(right) - mu) == pytest.approx(1, abs=1e-5)


@few
@given(guesses=st.integers(1, 200), share=st.floats(0.5, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_more_right_guesses_and_less_confidence_show_more(guesses, share, confidence):
    correct = round(share * guesses)
    found = one_run_mu(200, guesses, correct, confidence=confidence)
    assert one_run_mu(200, guesses, min(correct + 1, guesses), confidence=confidence) >= found
    assert one_run_mu(200, guesses, correct, confidence=confidence / 2) >= found


@pytest.mark.parametrize("mu", [0.0, 1.0, 3.0])
def test_one_run_lies_above_the_truth_in_at_most_five_percent(mu):
    rng = np.random.default_rng(7)
    is_member = rng.random((100, 200)) < 0.5
    scores = rng.normal(size=(100, 200)) + mu * is_member
    found = np.array([mu_of_one_run(s, m, delta=1e-5).mu for s, m in zip(scores, is_member, strict=True)])
    assert np.mean(found > mu) <= 0.05
    assert np.median(found) >= 0.25 * mu


def test_one_run_shares_its_error_among_the_numbers_of_guesses():
    rng = np.random.default_rng(8)
    is_member = rng.random((300, 100)) < 0.5
    scores = rng.random((300, 100))
    draws = list(zip(scores, is_member, strict=True))
    assert np.mean([mu_of_one_run(s, m, delta=1e-5, confidence=0.6).mu > 0 for s, m in draws]) <= 0.4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, m: mu_over_thresholds(s, m, delta=0.0), "delta above 0 and below 1; got 0.0"),
        (lambda s, m: mu_over_thresholds(s, m, delta=1e-3, thresholds=0), "at least one threshold; got 0"),
        (lambda s, m: mu_over_thresholds(s, m[:1], delta=1e-3), "expected scores"),
        (lambda s, m: mu_from_auc(s, m, delta=1.0), "delta above 0 and below 1; got 1.0"),
        (lambda s, m: mu_from_auc(s, m, delta=1e-3, confidence=95), "confidence between 0 and 1; got 95"),
        (lambda s, m: mu_from_auc(s * np.nan, m, delta=1e-3), "without NaN; got 3 of 3"),
        (lambda s, m: mu_of_one_run(s, m, delta=0.0), "delta above 0 and below 1; got 0.0"),
        (lambda s, m: one_run_mu(3, 2, 3), "got 3, 2, 3"),
        (lambda s, m: one_run_mu(3, 2, 1, confidence=1.0), "confidence between 0 and 1; got 1.0"),
        (lambda s, m: gaussian_epsilon(-1.0, 1e-5), "mu from 0 to 40; got -1.0"),
        (lambda s, m: gaussian_epsilon(1.0, 0.0), "delta above 0 and below 1; got 0.0"),
    ],
)
def test_what_no_bound_follows_from_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call(np.array([1.0, 0.5, 0.0]), np.array([True, True, False]))
    assert "\n" not in str(refusal.value)
