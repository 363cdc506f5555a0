import math

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import norm

from estimators.leakage.statistics.shares import mean_share
from estimators.leakage.statistics.shares import paired_difference

Z = norm.ppf(0.975)


def records(gained, lost, both, neither):
    first = [True] * gained + [False] * lost + [True] * both + [False] * neither
    second = [False] * gained + [True] * lost + [True] * both + [False] * neither
    return np.array(first), np.array(second)


def test_the_difference_is_that_of_the_shares():
    first, second = records(9, 3, 20, 12)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.low < found.value < found.high


@pytest.mark.parametrize("count", range(1, 12))
def test_it_is_above_zero_exactly_where_mcnemars_test_is(count):
    for lost in range(4):
        found = paired_difference(*records(count, lost, 3, 80))
        statistic = (count - lost) / math.sqrt(count + lost)
        assert (found.low > 0) == (statistic > Z)


def test_where_all_agree_the_width_is_that_of_so_many_records():
    """Tango's interval without discordant pairs has the ends of Wilson's for no success: z^2 / (n + z^2)."""
    found = paired_difference(*records(0, 0, 40, 60))
    assert found.value == 0
    assert (-found.low, found.high) == pytest.approx((Z**2 / (100 + Z**2),) * 2)


def test_the_ends_turn_with_the_order():
    first, second = records(12, 9, 13, 10)
    one, other = paired_difference(first, second), paired_difference(second, first)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_records_on_which_both_agree_count_by_their_number_alone():
    assert paired_difference(*records(5, 2, 0, 50)) == paired_difference(*records(5, 2, 50, 0))
    assert paired_difference(*records(5, 2, 0, 500)).high < paired_difference(*records(5, 2, 0, 50)).high


@pytest.mark.parametrize("counts", [(10, 0, 0, 0), (0, 10, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0)])
def test_at_the_ends_it_stays_within_one(counts):
    found = paired_difference(*records(*counts))
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


@pytest.mark.parametrize(("gained", "lost", "count"), [(0.05, 0.02, 180), (0.3, 0.3, 58), (0.04, 0.0, 60)])
def test_it_covers_the_truth_as_often_as_it_says(gained, lost, count):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        drawn = rng.random(count)
        found = paired_difference(drawn < gained, (drawn >= gained) & (drawn < gained + lost))
        covered += found.low <= gained - lost <= found.high
    assert covered / 400 > 0.93


def test_what_cannot_be_compared_is_refused():
    yes = np.array([True, False])
    for first, second in ((yes, yes[:1]), (yes[None], yes[None]), (yes[:0], yes[:0])):
        with pytest.raises(ValueError, match=r"^expected the same records twice, at least one; got"):
            paired_difference(first, second)
    with pytest.raises(ValueError, match=r"^expected booleans to compare; got int64 and bool"):
        paired_difference(yes.astype(np.int64), yes)
    with pytest.raises(ValueError, match=r"^expected a confidence between 0 and 1; got 95"):
        paired_difference(yes, yes, 95)


def test_each_group_counts_the_same():
    found = mean_share([3, 1, 0], [30, 2, 100])
    assert found.value == pytest.approx((0.1 + 0.5 + 0) / 3)
    # By hand from the exact interval of each.
    ends = [binomtest(k, n).proportion_ci(0.95, "exact") for k, n in ((3, 30), (1, 2), (0, 100))]
    down = math.sqrt((0.1 - ends[0].low) ** 2 + (0.5 - ends[1].low) ** 2) / 3
    up = math.sqrt((ends[0].high - 0.1) ** 2 + (ends[1].high - 0.5) ** 2 + ends[2].high ** 2) / 3
    assert (found.low, found.high) == pytest.approx((found.value - down, found.value + up))


def test_one_group_has_its_own_exact_interval():
    found, exact = mean_share([2], [9]), binomtest(2, 9).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_a_small_group_without_errors_makes_no_narrow_interval():
    assert mean_share([0, 0], [1000, 3]).high > 0.3
    assert mean_share([0, 0], [1000, 300]).high < 0.01


@pytest.mark.parametrize(
    ("shares", "counts"),
    [((0.05, 0.9), (100, 3)), ((0.1, 0.1, 0.1), (50, 20, 5)), ((0.02, 0.5, 0.3, 0.2), (40, 6, 6, 6))],
)
def test_the_mean_covers_the_truth_as_often_as_it_says(shares, counts):
    rng = np.random.default_rng(0)
    found = [mean_share(rng.binomial(counts, shares), counts) for _ in range(400)]
    covered = [estimate.low <= np.mean(shares) <= estimate.high for estimate in found]
    assert np.mean(covered) > 0.94


def test_no_group_is_refused():
    with pytest.raises(ValueError, match=r"^expected at least one group to average over; got none"):
        mean_share([], [])
