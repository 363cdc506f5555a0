"""What trainings vary by: by hand, where there is nothing to find, and where something was put in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.stats import norm

from estimators.estimate import Estimate
from estimators.leakage.statistics.auc_and_rates import placements
from estimators.leakage.statistics.between_trainings import WEIGHT_OF_RECORDS
from estimators.leakage.statistics.between_trainings import Spread
from estimators.leakage.statistics.between_trainings import repeated
from estimators.leakage.statistics.between_trainings import spread_of_pairs
from estimators.leakage.statistics.between_trainings import widened
from estimators.leakage.statistics.between_trainings import wider
from nas.training.bank import halves

few = settings(max_examples=60, deadline=None, derandomize=True)


def test_the_variance_by_hand():
    # Two pairs, four records, a mean over the two records that each reference left out.
    outside = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)
    wrong = np.array([[1, 0, 9, 9], [9, 9, 0, 0], [1, 9, 1, 9], [9, 1, 9, 0]], dtype=float)  # 9 must not be read
    values = np.array([0.5, 0.0, 1.0, 0.5])
    # Means of pairs 0.25 and 0.75: variance 0.125, twice that 0.25, one degree of freedom.
    # Records: 1 and 1; 0 and 1; 0 and 1; 0 and 0 differ by 0, 1/2, 1/2, 0 (ddof 1): mean 1/4, of 2 records 1/8.
    # Sampling: variances 1/2, 0, 0, 1/2 of two records each: mean 1/4, of 2 records 1/8.
    found = spread_of_pairs(values, wrong, [outside])
    variance = (1 * 0.25 + WEIGHT_OF_RECORDS * 0.125) / (1 + WEIGHT_OF_RECORDS)
    assert (found.pairs, found.sd) == (2, pytest.approx(math.sqrt(variance)))
    assert found.share == pytest.approx(variance / 0.125)


def test_what_is_known_of_the_records_is_the_least():
    outside = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)
    wrong = np.where(outside, [[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]], 0.0)
    alike = spread_of_pairs(np.full(4, 0.5), wrong, [outside])
    # Records differ by 1/2, 1/2, 1/2, 1/2: of two records 1/4; pairs not at all.
    assert alike.sd == pytest.approx(0.5)


def test_two_groups_add_up():
    inside = np.stack([halves(40, reference, 3) for reference in range(4)])
    contributions = np.random.default_rng(0).normal(size=inside.shape)
    values = np.zeros(4)
    one, other = (spread_of_pairs(values, contributions, [group]) for group in (inside, ~inside))
    both = spread_of_pairs(values, contributions, [inside, ~inside])
    # Pairs are alike, so the variance is that of the records alone, which adds up.
    assert both.sd**2 == pytest.approx(one.sd**2 + other.sd**2)


def trainings(references, records, *, shared=0.0, own=0.0, seed=0):
    """Made-up references: hard and easy records, members one higher, and what a training adds to all or to each."""
    rng = np.random.default_rng(seed)
    inside = np.stack([halves(records, reference, seed) for reference in range(references)])
    hard = rng.normal(size=records)
    effects = 1 + rng.normal(0, shared, size=(references, 1)) if shared else 1.0
    scores = hard + effects * inside + rng.normal(0, own, size=inside.shape)
    contributions = np.empty(scores.shape)
    for row, given_scores, members in zip(contributions, scores, inside, strict=True):
        row[members], row[~members] = placements(given_scores, members)
    values = np.array([row[members].mean() for row, members in zip(contributions, inside, strict=True)])
    return values, contributions, [inside, ~inside]


@pytest.mark.parametrize("references", [4, 8, 40])
def test_trainings_that_give_the_same_network_do_not_vary(references):
    values, contributions, groups = trainings(references, 1000)
    found = spread_of_pairs(values, contributions, groups)
    # The halves alone move single references by ten times as much.
    assert values.std(ddof=1) > 0.005
    assert found.sd < 0.002
    assert found.share < 0.05


def test_what_is_put_into_whole_trainings_is_found():
    # The AUC of scores one deviation apart is Phi(1 / sqrt 2); a unit of the effect moves it by phi(...) / sqrt 2.
    steepness = norm.pdf(1 / math.sqrt(2)) / math.sqrt(2)
    values, contributions, groups = trainings(120, 2000, shared=0.02 / steepness)
    assert spread_of_pairs(values, contributions, groups).sd == pytest.approx(0.02, rel=0.15)


def test_eight_references_find_it_to_a_factor_of_two():
    steepness = norm.pdf(1 / math.sqrt(2)) / math.sqrt(2)
    found = [spread_of_pairs(*trainings(8, 1000, shared=0.02 / steepness, own=0.3, seed=seed)).sd for seed in range(30)]
    assert 0.01 < np.median(found) < 0.02
    assert np.quantile(found, 0.9) < 0.04


def test_what_is_put_into_single_records_is_found():
    # Against trainings on the same records, which a bank does not have.
    rng = np.random.default_rng(1)
    hard, members = rng.normal(size=1000), np.arange(1000) < 500
    again = [placements(hard + members + rng.normal(0, 0.7, size=1000), members)[0].mean() for _ in range(400)]
    found = spread_of_pairs(*trainings(8, 1000, own=0.7))
    assert found.sd == pytest.approx(np.std(again), rel=0.25)
    assert 0.1 < found.share < 1


@few
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0.1, 10))
def test_neither_the_order_of_pairs_nor_the_unit_changes_the_share(seed, pairs, unit):
    values, contributions, groups = trainings(2 * pairs, 30, shared=0.5, own=0.5, seed=seed)
    found = spread_of_pairs(values, contributions, groups)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation([2 * pair, 2 * pair + 1]) for pair in rng.permutation(pairs)])
    moved = spread_of_pairs(values[order], contributions[order], [group[order] for group in groups])
    assert (moved.share, moved.sd) == (pytest.approx(found.share), pytest.approx(found.sd))
    scaled = spread_of_pairs(unit * values + 1, unit * contributions + 1, groups)
    assert (scaled.share, scaled.sd) == (pytest.approx(found.share), pytest.approx(unit * found.sd))


def test_references_that_answer_all_alike_tell_nothing():
    groups = [np.stack([halves(10, reference, 0) for reference in range(4)])]
    assert spread_of_pairs(np.zeros(4), np.zeros((4, 10)), groups) == Spread(1.0, 0.0, 2)


@pytest.mark.parametrize(
    ("references", "shape", "message"),
    [
        (2, (2, 6), "expected pairs of references, at least 4 of them; got 2"),
        (5, (5, 6), "expected pairs of references, at least 4 of them; got 5"),
        (4, (4, 5), r"expected contributions and groups \(4, records\); got \(4, 5\) and \[\(4, 6\)\]"),
    ],
)
def test_wrong_references_are_refused(references, shape, message):
    with pytest.raises(ValueError, match=message):
        spread_of_pairs(np.zeros(references), np.zeros(shape), [np.ones((references, 6), dtype=bool)])


@pytest.mark.parametrize("spread", [(-0.1, 0.1, 4), (1.0, -0.1, 4), (math.nan, 0.1, 4), (1.0, 0.1, -1)])
def test_a_spread_is_made_of_numbers_from_0(spread):
    with pytest.raises(ValueError, match="expected numbers from 0"):
        Spread(*spread)


def test_an_interval_is_widened_by_hand():
    # Of a variance of 1: max(1, 1/2) + 1/2 = 3/2, and max(1, 3) + 3 = 6.
    given_estimate = Estimate(0.6, 0.58, 0.63)
    assert widened(given_estimate, 0.0) == given_estimate
    half = widened(given_estimate, 0.5)
    assert (half.low, half.high) == (pytest.approx(0.6 - 0.02 * math.sqrt(1.5)), pytest.approx(0.6 + 0.03 * 1.5**0.5))
    thrice = widened(given_estimate, 3.0)
    assert (thrice.low, thrice.high) == (pytest.approx(0.6 - 0.02 * 6**0.5), pytest.approx(0.6 + 0.03 * 6**0.5))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 2.5])
def test_the_interval_covers_another_training_whichever_records_it_is_measured_on(share):
    """Simulated: sampling variance 1, of which trainings of single records are a part, and all of a training."""
    rng = np.random.default_rng(0)
    own = min(share, 1.0)  # what trainings do to records is part of the sampling variance
    whole = share - own
    draws = 20_000
    records = rng.normal(0, math.sqrt(1 - own), size=draws)
    first, again = rng.normal(0, math.sqrt(own + whole), size=(2, draws))
    within = 1.96 * wider(share)
    same_records = np.abs((records + first) - (records + again)) < within
    on_average = np.abs(records + first) < within
    assert same_records.mean() > 0.945
    assert on_average.mean() > 0.945


@few
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 20))
def test_a_wider_interval_holds_the_narrower_and_stays_a_share(a, b, c, share):
    low, value, high = sorted((a, b, c))
    found = widened(Estimate(value, low, high), share)
    assert 0 <= found.low <= low <= found.value == value <= high <= found.high <= 1


def test_a_gap_may_be_negative():
    wide = widened(Estimate(-0.9, -0.95, 0.9), 10.0, lowest=-1.0)
    assert (wide.low, wide.high) == (pytest.approx(max(-1.0, -0.9 - 0.05 * 20**0.5)), 1.0)
    assert widened(Estimate(0.0, -0.1, 0.1), 1.0, lowest=-1.0).low == pytest.approx(-0.1 * math.sqrt(2))


# Several trainings of one recipe


def records_alone(value, sd):
    return Estimate(value, value - 1.959964 * sd, value + 1.959964 * sd)


def test_one_training_has_the_variance_that_an_interval_of_a_search_has():
    known = Spread(0.7, 0.01, 10**9)  # from so many pairs that nothing is left to learn
    found = repeated([records_alone(0.6, 0.02)], known)
    once = widened(records_alone(0.6, 0.02), 0.7)
    assert found.anew.low == pytest.approx(once.low, abs=1e-6)
    assert found.anew.high == pytest.approx(once.high, abs=1e-6)
    assert found.values == (0.6,)


def test_intervals_of_three_trainings_by_hand():
    values, sd = (0.56, 0.60, 0.64), 0.02
    found = repeated([records_alone(value, sd) for value in values], Spread(0.5, 0.01, 4))
    freedom = 3 + 4 - 1 + 2
    between = (6 * 0.5 * sd**2 + 2 * np.var(values, ddof=1)) / freedom
    variance = sd**2 + between / 3
    half = scipy.stats.t.ppf(0.975, variance**2 / ((between / 3) ** 2 / freedom)) * np.sqrt(variance)
    assert found.mean.value == pytest.approx(0.60)
    assert found.mean.high - found.mean.value == pytest.approx(half)
    # Here other records vary more than the mean of three trainings does.
    assert sd**2 > between / 3
    variance = sd**2 + between
    half = scipy.stats.t.ppf(0.975, variance**2 / (between**2 / freedom)) * np.sqrt(variance)
    assert found.anew.value - found.anew.low == pytest.approx(half)


def test_more_trainings_narrow_the_interval_of_the_mean_and_not_below_the_records():
    known = Spread(1.0, 0.02, 4)
    halves = [repeated([records_alone(0.6, 0.02)] * count, known).mean.high - 0.6 for count in (1, 2, 4, 64)]
    assert halves == sorted(halves, reverse=True)
    assert halves[-1] > 1.959 * 0.02


def test_ends_stay_within_what_a_measure_can_be():
    near = repeated([Estimate(0.01, 0.0, 0.05), Estimate(0.03, 0.01, 0.08)], Spread(3.0, 0.1, 4))
    assert near.anew.low == near.mean.low == 0.0
    gap = repeated([Estimate(-0.9, -1.0, -0.5)], Spread(3.0, 0.1, 4), lowest=-1.0)
    assert gap.anew.low == -1.0
    assert repeated([Estimate(0.99, 0.9, 1.0)], Spread(3.0, 0.1, 4)).anew.high == 1.0
    exact = repeated([Estimate.exact(0.0)] * 3, Spread(1.0, 0.1, 4))
    assert (exact.mean, exact.anew) == (Estimate.exact(0.0), Estimate.exact(0.0))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("between_sd", "share"), [(0.01, 0.25), (0.03, 2.25), (0.0, 0.0)])
def test_intervals_hold_what_they_are_for(count, between_sd, share):
    rng, sd, draws = np.random.default_rng(count), 0.02, 1500
    held = {"mean": 0, "anew": 0}
    for _ in range(draws):
        records, trainings = rng.normal(0, sd), rng.normal(0, between_sd, count)
        found = repeated([records_alone(0.6 + records + one, sd) for one in trainings], Spread(share, between_sd, 4))
        held["mean"] += found.mean.low <= 0.6 <= found.mean.high
        another = 0.6 + records + rng.normal(0, between_sd)  # on the same records
        held["anew"] += found.anew.low <= another <= found.anew.high
    # 0.93 is four standard deviations of a share of 1,500 below 0.95.
    assert held["mean"] / draws > 0.925
    assert held["anew"] / draws > 0.925
