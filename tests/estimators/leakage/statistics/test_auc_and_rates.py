import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import norm

from estimators.leakage.statistics.auc_and_rates import accuracy_gap
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_difference
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import check_tpr_records
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr_interval

ZERO_TO_ONE_AT_5_OF_10 = (0.187086, 0.812914)  # Clopper and Pearson (1934), table for 95 %
few = settings(max_examples=100, deadline=None, derandomize=True)
tied_scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12)


def joined(members, others):
    members, others = np.asarray(members, float), np.asarray(others, float)
    return np.concatenate([members, others]), np.arange(len(members) + len(others)) < len(members)


def binormal(rng, shift, members, others):
    return joined(rng.normal(shift, 1, members), rng.normal(0, 1, others))


def standard_error(estimate):
    """Read the standard error back from an interval that is symmetric in log odds."""
    half = (logit(estimate.high) - logit(estimate.low)) / 2
    return half / norm.ppf(0.975) * estimate.value * (1 - estimate.value)


def wins(members, others):
    """Placements by pairs, as the definition has them."""
    members, others = np.asarray(members, float)[:, None], np.asarray(others, float)[None, :]
    return (members > others) + 0.5 * (members == others)


@few
@given(members=tied_scores, others=tied_scores)
def test_auc_counts_every_pair(members, others):
    assert auc(*joined(members, others)) == pytest.approx(wins(members, others).mean(), abs=1e-12)


@few
@given(members=tied_scores, others=tied_scores)
def test_auc_reads_order_alone_and_turns_round_with_it(members, others):
    scores, is_member = joined(members, others)
    assert auc(np.exp(scores), is_member) == auc(scores, is_member)
    assert auc(-scores, is_member) == pytest.approx(1 - auc(scores, is_member), abs=1e-12)
    assert auc(scores, ~is_member) == pytest.approx(1 - auc(scores, is_member), abs=1e-12)


def test_auc_allows_infinite_scores():
    assert auc(*joined([np.inf, -np.inf], [0.0])) == 0.5


def test_delong_by_hand():
    # Members 3 and 1, others 2 and 0: a member beats 1 and 1/2 of the others, a non-member loses to 1/2 and 1 of the
    # members. Both variances are 1/8, over two records each: 1/16 + 1/16.
    estimate = auc_interval(*joined([3, 1], [2, 0]))
    assert estimate.value == 0.75
    assert standard_error(estimate) == pytest.approx(0.125**0.5, rel=1e-9)


@few
@given(members=tied_scores.filter(lambda x: len(x) > 1), others=tied_scores.filter(lambda x: len(x) > 1))
def test_delong_equals_the_pairwise_definition(members, others):
    table = wins(members, others)
    variance = table.mean(1).var(ddof=1) / len(members) + table.mean(0).var(ddof=1) / len(others)
    estimate = auc_interval(*joined(members, others))
    assert estimate.value == auc(*joined(members, others))
    if variance > 1e-12 and 0 < estimate.value < 1:
        assert standard_error(estimate) == pytest.approx(variance**0.5, rel=1e-6)


@pytest.mark.parametrize(("shift", "members", "others"), [(0.0, 60, 60), (1.0, 60, 180), (2.0, 100, 50)])
def test_delong_equals_the_spread_of_redraws(shift, members, others):
    rng = np.random.default_rng(1)
    draws = [auc_interval(*binormal(rng, shift, members, others)) for _ in range(2000)]
    spread = np.std([draw.value for draw in draws])
    assert np.sqrt(np.mean([standard_error(draw) ** 2 for draw in draws])) == pytest.approx(spread, rel=0.06)
    truth = norm.cdf(shift / 2**0.5)
    assert 0.92 <= np.mean([draw.low <= truth <= draw.high for draw in draws]) <= 0.98


def test_delong_equals_the_bootstrap():
    rng = np.random.default_rng(2)
    scores, is_member = binormal(rng, 0.8, 200, 300)
    members, others = scores[is_member], scores[~is_member]
    spread = np.std([auc(*joined(rng.choice(members, 200), rng.choice(others, 300))) for _ in range(2000)])
    assert standard_error(auc_interval(scores, is_member)) == pytest.approx(spread, rel=0.06)


def test_confidence_widens_the_interval():
    scores, is_member = binormal(np.random.default_rng(3), 0.5, 100, 100)
    half = [np.ptp(logit([e.low, e.high])) for e in (auc_interval(scores, is_member, c) for c in (0.5, 0.95))]
    assert half[1] / half[0] == pytest.approx(norm.ppf(0.975) / norm.ppf(0.75), rel=1e-9)


def test_perfect_separation_is_not_certainty():
    high = auc_interval(*joined(np.arange(100, 140), np.arange(60)))
    # 40 disjoint pairs, all won: the exact lower end p solves p^40 = 0.025.
    assert (high.value, high.high) == (1.0, 1.0)
    assert high.low == pytest.approx(0.025 ** (1 / 40), abs=1e-6)
    low = auc_interval(*joined(np.arange(40), np.arange(100, 160)))
    assert (low.value, low.low, low.high) == (0.0, 0.0, pytest.approx(1 - high.low, abs=1e-6))


def test_equal_scores_are_not_certainty():
    estimate = auc_interval(*joined([1.0] * 10, [1.0] * 10))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, *ZERO_TO_ONE_AT_5_OF_10), abs=1e-5)
    assert auc_interval(*joined([1.0] * 2000, [1.0] * 2000)).value == 0.5


@pytest.mark.parametrize(("members", "others"), [([1.0], [0.0]), ([1.0], [0.0, 2.0, 3.0]), ([0.0, 2.0], [1.0])])
def test_one_record_in_a_group_says_next_to_nothing(members, others):
    estimate = auc_interval(*joined(members, others))
    assert estimate.high - estimate.low > 0.9


def paired(rng, records, first_shift, second_shift, shared=0.8):
    """Draw two scores that find the same records easy."""
    is_member = np.arange(2 * records) < records
    easy = shared**0.5 * rng.normal(size=2 * records)
    noise = (1 - shared) ** 0.5 * rng.normal(size=(2, 2 * records))
    return easy + noise[0] + first_shift * is_member, easy + noise[1] + second_shift * is_member, is_member


def test_paired_delong_by_hand():
    is_member = np.array([True, True, True, False, False, False])
    first, second = np.array([5.0, 4, 1, 3, 0, 2]), np.array([2.0, 1, 4, 3, 0, 5])
    # Members' placements 1, 1, 1/3 and 1/3, 1/3, 2/3; non-members' 2/3, 1, 2/3 and 1/3, 1, 0. Variances of their
    # differences: 1/3 and 1/9, over three records each: 4/27.
    found = auc_difference(first, second, is_member)
    spread = (4 / 27) ** 0.5
    assert found.estimate.value == pytest.approx(1 / 3)
    assert found.estimate.high - found.estimate.value == pytest.approx(min(norm.ppf(0.975) * spread, 2 / 3))
    assert found.estimate.value - found.estimate.low == pytest.approx(norm.ppf(0.975) * spread)
    assert found.p_value == pytest.approx(2 * norm.sf(1 / 3 / spread))


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_paired_delong_equals_the_pairwise_definition(seed):
    rng = np.random.default_rng(seed)
    is_member = rng.permutation(np.arange(20) < 8)
    first, second = rng.integers(0, 5, (2, 20)).astype(float)
    tables = [wins(scores[is_member], scores[~is_member]) for scores in (first, second)]
    table = tables[0] - tables[1]
    spread = (table.mean(1).var(ddof=1) / 8 + table.mean(0).var(ddof=1) / 12) ** 0.5
    found = auc_difference(first, second, is_member).estimate
    assert found.value == pytest.approx(table.mean(), abs=1e-12)
    assert found.low == pytest.approx(max(table.mean() - norm.ppf(0.975) * spread, -1), abs=1e-9)
    back = auc_difference(second, first, is_member).estimate
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low), abs=1e-12)


@pytest.mark.parametrize(
    ("first_shift", "second_shift", "rejected"), [(0.0, 0.0, (0.02, 0.08)), (1.0, 0.6, (0.6, 1.0))]
)
def test_paired_delong_covers_the_truth_and_is_narrower_than_two_intervals(first_shift, second_shift, rejected):
    rng = np.random.default_rng(8)
    draws = [paired(rng, 80, first_shift, second_shift) for _ in range(600)]
    found = [auc_difference(*draw) for draw in draws]
    truth = norm.cdf(first_shift / 2**0.5) - norm.cdf(second_shift / 2**0.5)
    assert 0.92 <= np.mean([f.estimate.low <= truth <= f.estimate.high for f in found]) <= 0.98
    assert rejected[0] <= np.mean([f.p_value < 0.05 for f in found]) <= rejected[1]
    first, second, is_member = draws[0]
    unpaired = np.hypot(*(standard_error(auc_interval(scores, is_member)) for scores in (first, second)))
    half = (found[0].estimate.high - found[0].estimate.low) / 2
    assert half < 0.7 * norm.ppf(0.975) * unpaired


def test_paired_delong_of_two_perfect_attacks_is_not_certainty():
    is_member = np.arange(80) < 40
    found = auc_difference(is_member.astype(float), 2.0 * is_member, is_member)
    half = (2 * np.log(40) / 40) ** 0.5
    assert (found.estimate.low, found.estimate.value, found.estimate.high) == pytest.approx((-half, 0, half))
    assert found.p_value == 1.0
    opposed = auc_difference(is_member.astype(float), -1.0 * is_member, is_member)
    assert (opposed.estimate.value, opposed.p_value) == pytest.approx((1.0, 2 * np.exp(-20)))


def test_tpr_by_hand():
    members, others = [9, 7, 5, 3, 1], [8, 6, 4, 2, 0, -1, -2, -3, -4, -5]
    by_fpr = {0.0: 0.2, 0.05: 0.2, 0.1: 0.4, 0.2: 0.6, 0.3: 0.8, 0.4: 1.0, 1.0: 1.0}
    assert {fpr: tpr_at_fpr(*joined(members, others), fpr) for fpr in by_fpr} == by_fpr


def test_tpr_gives_ties_to_the_non_members():
    members, others = [5, 5, 5, 6], [5, 5, 0, 0]
    # One false positive is allowed, but the two non-members at 5 come together or not at all.
    assert tpr_at_fpr(*joined(members, others), 0.25) == 0.25
    assert tpr_at_fpr(*joined(members, others), 0.5) == 1.0


def test_tpr_of_equal_scores_is_zero():
    assert tpr_at_fpr(*joined([1.0] * 5, [1.0] * 5), 0.99) == 0.0


def test_tpr_allows_all_the_false_positives_the_rate_does():
    # 0.29 * 100 is just below 29 in floating point.
    members = np.arange(70.5, 100.5)
    assert tpr_at_fpr(*joined(members, np.arange(100)), 0.29) == 1.0
    assert tpr_at_fpr(*joined(members, np.arange(100)), 0.28) == pytest.approx(29 / 30)


@few
@given(members=tied_scores, others=tied_scores, fpr=st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0]))
def test_tpr_is_the_best_of_all_thresholds_within_the_rate(members, others, fpr):
    scores, is_member = joined(members, others)
    above = [scores > threshold for threshold in [-np.inf, *scores]]
    best = max(found[is_member].mean() for found in above if found[~is_member].mean() <= fpr)
    assert tpr_at_fpr(scores, is_member, fpr) == pytest.approx(best)


def test_tpr_interval_is_the_stratified_bootstrap():
    rng = np.random.default_rng(4)
    scores, is_member = binormal(rng, 1.5, 1500, 2500)
    members, others = scores[is_member], scores[~is_member]
    literal = [tpr_at_fpr(*joined(rng.choice(members, 1500), rng.choice(others, 2500)), 0.02) for _ in range(3000)]
    estimate = tpr_at_fpr_interval(scores, is_member, 0.02, seed=0, resamples=20_000)
    assert estimate.value == pytest.approx(tpr_at_fpr(scores, is_member, 0.02))
    width = np.ptp(np.quantile(literal, [0.025, 0.975]))
    assert (estimate.low, estimate.high) == pytest.approx(np.quantile(literal, [0.025, 0.975]), abs=0.07 * width)
    # The threshold's noise counts: Clopper and Pearson's interval for the members alone is far narrower.
    alone = proportion_interval(round(estimate.value * 1500), 1500)
    assert estimate.high - estimate.low > 1.4 * (alone.high - alone.low)


@pytest.mark.parametrize("decimals", [9, 1])
def test_tpr_interval_equals_resampling_with_an_imaginary_non_member(decimals):
    rng = np.random.default_rng(7)
    scores, is_member = binormal(rng, 2.0, 400, 150)
    scores = scores.round(decimals)
    members, others = scores[is_member], np.append(scores[~is_member], np.inf)
    literal = [tpr_at_fpr(*joined(rng.choice(members, 400), rng.choice(others, 150)), 0.04) for _ in range(6000)]
    estimate = tpr_at_fpr_interval(scores, is_member, 0.04, seed=0, resamples=50_000, confidence=0.6)
    assert (estimate.low, estimate.high) == pytest.approx(np.quantile(literal, [0.2, 0.8]), abs=0.008)


@pytest.mark.parametrize(("records", "highest"), [(100, 1.0), (2000, 0.98)])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_tpr_interval_covers_the_truth(records, highest, shift):
    rng = np.random.default_rng(5)
    truth = norm.sf(norm.isf(0.01) - shift)
    draws = [tpr_at_fpr_interval(*binormal(rng, shift, records, records), seed=seed) for seed in range(250)]
    assert 0.92 <= np.mean([draw.low <= truth <= draw.high for draw in draws]) <= highest


def test_tpr_interval_repeats_from_its_seed():
    scores, is_member = binormal(np.random.default_rng(6), 1.0, 300, 300)
    first, again, other = (tpr_at_fpr_interval(scores, is_member, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_tpr_interval_has_a_width_where_no_resample_differs():
    none = tpr_at_fpr_interval(*joined(np.zeros(100), np.ones(100)), seed=0)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 100), abs=1e-6)
    every = tpr_at_fpr_interval(*joined(np.ones(100), np.zeros(100)), 1.0, seed=0)
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(0.025 ** (1 / 100), abs=1e-6)


def test_proportion_interval_is_exact():
    estimate = proportion_interval(5, 10)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, *ZERO_TO_ONE_AT_5_OF_10), abs=1e-5)
    # All of 20: the rule p^20 = 0.05 for a 90 % interval.
    assert proportion_interval(20, 20, 0.9).low == pytest.approx(0.05 ** (1 / 20), abs=1e-6)


def test_accuracy_gap_equals_newcombes_example():
    # Newcombe (1998), table II, case (a): 56/70 - 48/80, method 10.
    is_member = np.arange(150) < 70
    is_correct = np.concatenate([np.arange(70) < 56, np.arange(80) < 48])
    gap = accuracy_gap(is_correct, is_member)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    back = accuracy_gap(is_correct, ~is_member)
    assert (back.value, back.low, back.high) == pytest.approx((-gap.value, -gap.high, -gap.low))


@pytest.mark.parametrize("correct", [True, False])
def test_accuracy_gap_of_equals_is_zero(correct):
    gap = accuracy_gap(np.full(20, correct), np.arange(20) < 10)
    assert gap.value == 0
    assert gap.low == pytest.approx(-gap.high)
    assert gap.high > 0.2


@pytest.mark.parametrize(("fpr", "needed"), [(0.1, 100), (0.01, 1000), (0.001, 10_000), (0.003, 3334), (1.0, 10)])
def test_tpr_needs_ten_false_positives_among_non_members(fpr, needed):
    # Members do not count: a thousand of them say nothing of the threshold.
    check_tpr_records(np.arange(needed + 1) < 1, fpr)
    with pytest.raises(ValueError, match=f"at least {needed:,} non-members .* got {needed - 1:,}$"):
        check_tpr_records(np.arange(needed + 999) < 1000, fpr)


def test_ten_false_positives_fix_the_rate_to_a_factor_of_two():
    rng = np.random.default_rng(9)
    # The rate above the 11th highest of 10,000 uniform scores, whose expectation is 11 / 10,001.
    rates = rng.beta(11, 9990, 20_000)
    assert np.mean((rates > 0.0005) & (rates < 0.002)) > 0.95


MEASURES = [
    lambda s, m: auc_difference(s, s, m),
    auc,
    auc_interval,
    tpr_at_fpr,
    lambda scores, is_member: tpr_at_fpr_interval(scores, is_member, seed=0),
]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("scores", "is_member", "message"),
    [
        (np.array([1.0, np.nan]), np.array([True, False]), "without NaN; got 1 of 2"),
        (np.array([1.0, 2.0]), np.array([True, True]), "members and non-members; got 2 and 0"),
        (np.array([1.0, 2.0]), np.array([False, False]), "members and non-members; got 0 and 2"),
        (np.array([]), np.array([], bool), "members and non-members; got 0 and 0"),
        (np.array([1.0, 2.0]), np.array([True]), r"got \(2,\), \(1,\)"),
        (np.array([[1.0, 2.0]]), np.array([[True, False]]), r"got \(1, 2\)"),
        (np.array([1.0, 2.0]), np.array([1, 0]), "as booleans; got int64"),
    ],
)
def test_every_measure_refuses_bad_scores_in_one_line(measure, scores, is_member, message):
    with pytest.raises(ValueError, match=message) as refusal:
        measure(scores, is_member)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, m: auc_interval(s, m, 1.0), "confidence between 0 and 1; got 1.0"),
        (lambda s, m: auc_interval(s, m, 95), "confidence between 0 and 1; got 95"),
        (lambda s, m: auc_difference(s, s, m, 95), "confidence between 0 and 1; got 95"),
        (lambda s, m: auc_difference(s, s[:1], m), "expected scores"),
        (lambda _, m: check_tpr_records(m, 0.0), "above 0 and at most 1; got 0.0"),
        (lambda s, m: tpr_at_fpr(s, m, 1.01), "rate from 0 to 1; got 1.01"),
        (lambda s, m: tpr_at_fpr(s, m, float("nan")), "rate from 0 to 1; got nan"),
        (lambda s, m: tpr_at_fpr_interval(s, m, -0.1, seed=0), "rate from 0 to 1; got -0.1"),
        (lambda s, m: tpr_at_fpr_interval(s, m, seed=0, resamples=0), "at least one resample; got 0"),
        (lambda s, m: tpr_at_fpr_interval(s, m, seed=0, confidence=0.0), "confidence between 0 and 1; got 0.0"),
        (accuracy_gap, "booleans to count; got float64"),
        (lambda s, m: accuracy_gap(m, m[:1]), "expected scores"),
        (lambda s, m: proportion_interval(3, 2), "got 3 of 2"),
        (lambda s, m: proportion_interval(-1, 2), "got -1 of 2"),
        (lambda s, m: proportion_interval(0, 0), "got 0 of 0"),
        (lambda s, m: proportion_interval(1, 2, 2.0), "confidence between 0 and 1; got 2.0"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.array([1.0, 0.0]), np.array([True, False]))
