import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta
from scipy.stats import binom

from estimators.leakage.statistics.epsilon import at_threshold
from estimators.leakage.statistics.epsilon import by_splitting
from estimators.leakage.statistics.epsilon import guess_counts
from estimators.leakage.statistics.epsilon import one_run
from estimators.leakage.statistics.epsilon import one_run_bound
from estimators.leakage.statistics.epsilon import one_run_by_shares
from estimators.leakage.statistics.epsilon import one_run_p_value
from estimators.leakage.statistics.epsilon import over_thresholds
from estimators.leakage.statistics.thresholds import calibration_half
from tests.mechanisms import counted
from tests.mechanisms import gaussian
from tests.mechanisms import gaussian_epsilon

few = settings(max_examples=50, deadline=None, derandomize=True)
SEARCHES = [over_thresholds, lambda scores, is_member, delta: by_splitting(scores, is_member, delta=delta, seed=0)]


def test_all_of_500_right_is_4_54_as_tensorflow_privacy_has_it():
    bound = at_threshold(*counted(500, 500, 0, 500), 0.5, delta=0.0, confidence=0.99)
    # Each one-sided at half of 1 %: low^500 = 0.005.
    low = 0.005 ** (1 / 500)
    assert bound.epsilon == pytest.approx(np.log(low / (1 - low)), abs=1e-9)
    assert bound.epsilon == pytest.approx(4.54, abs=0.005)
    assert (bound.delta, bound.confidence) == (0.0, 0.99)


@pytest.mark.parametrize("delta", [0.0, 0.01, 0.2])
@pytest.mark.parametrize(("hits", "false"), [(60, 5), (195, 100), (200, 60), (150, 0)])
def test_bound_equals_clopper_and_pearsons_in_the_better_direction(hits, false, delta):
    found = at_threshold(*counted(hits, 200, false, 300), 0.5, delta=delta).epsilon
    low, high = beta.ppf(0.025, hits, 201 - hits), beta.ppf(0.975, false + 1, 300 - false)
    assert found == pytest.approx(max(0, np.log((low - delta) / high), np.log((1 - high - delta) / (1 - low))))


def test_being_sure_of_non_members_counts_as_much_as_of_members():
    scores, is_member = counted(200, 200, 60, 200)
    forth = at_threshold(scores, is_member, 0.5, delta=1e-3).epsilon
    assert forth == pytest.approx(at_threshold(-scores, ~is_member, -0.5, delta=1e-3).epsilon)
    assert forth > 3 > np.log(200 / 60)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("decimals", [9, 0])
def test_search_is_violated_in_at_most_five_percent_of_500_runs(search, decimals):
    delta = 0.02
    epsilon = gaussian_epsilon(1.0, delta)
    rng = np.random.default_rng(0)
    draws = [gaussian(rng, 1.0, 300) for _ in range(500)]
    bounds = [search(scores.round(decimals), is_member, delta=delta).epsilon for scores, is_member in draws]
    assert np.mean(np.array(bounds) > epsilon) <= 0.05


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("decimals", [9, 0])
def test_search_finds_nothing_where_nothing_is(search, decimals):
    rng = np.random.default_rng(1)
    draws = [gaussian(rng, 0.0, 300) for _ in range(500)]
    bounds = [search(scores.round(decimals), is_member, delta=0.0).epsilon for scores, is_member in draws]
    assert np.mean(np.array(bounds) == 0) >= 0.95


def test_search_is_corrected_and_an_uncorrected_one_would_be_caught():
    rng = np.random.default_rng(1)
    corrected, uncorrected = [], []
    for _ in range(300):
        scores, is_member = gaussian(rng, 0.0, 300)
        corrected.append(over_thresholds(scores, is_member, delta=0.0, confidence=0.6).epsilon)
        cuts = np.quantile(scores, [0.01, 0.02, 0.05, 0.1, 0.2, 0.8, 0.9, 0.95, 0.98, 0.99])
        uncorrected.append(max(at_threshold(scores, is_member, cut, delta=0.0, confidence=0.6).epsilon for cut in cuts))
    assert np.mean(np.array(corrected) > 0) <= 0.4 < np.mean(np.array(uncorrected) > 0)


def chance_of(hits, members, rank, others, epsilon, delta):
    """How likely so many members lie above that rank of the non-members, at most, under (epsilon, delta)."""

    def at(rate):
        allowed = min(np.exp(epsilon) * rate + delta, 1 - np.exp(-epsilon) * (1 - delta - rate), 1)
        return binom.sf(hits - 1, members, allowed) * beta.pdf(rate, rank + 1, others - rank)

    return quad(at, 0, 1, limit=500, points=[(rank + 1) / others])[0]


def test_search_pays_for_each_threshold_and_sums_what_both_rates_can_be():
    # Half of the members lie above all non-members; of the non-members a quarter lies below all members.
    is_member = np.arange(700) < 400
    scores = np.concatenate([np.linspace(1, 5, 400), np.linspace(0, 3, 300)])
    ranked = np.sort(scores[~is_member])[::-1]
    # One threshold, the highest rank; three: the highest, the middle one, the lowest.
    for thresholds, ranks in ((1, [0]), (3, [0, 150, 299])):
        found = over_thresholds(scores, is_member, delta=1e-3, confidence=0.9, thresholds=thresholds).epsilon
        hits = [int((scores[is_member] > ranked[rank]).sum()) for rank in ranks]
        chances = [chance_of(h, 400, rank, 300, found, 1e-3) for h, rank in zip(hits, ranks, strict=True)]
        # Each step is taken at its upper end, so the exact chance is a little less than the rank's share of the error.
        assert 0.88 * 0.1 / thresholds < min(chances) <= 0.1 / thresholds


def test_a_bound_at_a_fixed_threshold_fails_as_often_as_it_may():
    # Pure randomised response of epsilon 1: three quarters of the error is left unused at worst, so a bound that is
    # two-sided, or pays twice, is caught by its exact value above, and one that does not pay at all is caught here.
    rng = np.random.default_rng(2)
    rate = 1 / (1 + np.exp(-1))
    counts = rng.binomial(400, [rate, 1 - rate], (2000, 2))
    bounds = [at_threshold(*counted(h, 400, f, 400), 0.5, delta=0.0, confidence=0.8).epsilon for h, f in counts]
    assert 0.005 < np.mean(np.array(bounds) > 1.0) <= 0.2


# Where 100,000 records can show the rates that matter; at delta 1e-5 they are about 1e-6, and no count shows them.
@pytest.mark.parametrize(
    ("search", "shift", "delta"),
    [(search, shift, 1e-2) for search in SEARCHES for shift in (0.5, 1.0)]
    + [(over_thresholds, 1.0, 1e-3), (over_thresholds, 2.0, 1e-2)],
)
def test_bound_reaches_four_fifths_of_a_gaussian_mechanisms_epsilon(search, shift, delta):
    epsilon = gaussian_epsilon(shift, delta)
    bound = search(*gaussian(np.random.default_rng(3), shift, 100_000), delta=delta).epsilon
    assert 0.8 * epsilon <= bound <= epsilon


def test_counts_reach_as_far_as_documented():
    shares = {}
    for delta in (1e-2, 1e-5):
        bound = over_thresholds(*gaussian(np.random.default_rng(0), 1.0, 100_000), delta=delta).epsilon
        shares[delta] = bound / gaussian_epsilon(1.0, delta)
    assert shares == pytest.approx({1e-2: 0.9, 1e-5: 0.63}, abs=0.03)


def test_splitting_measures_on_the_half_that_did_not_choose():
    scores, is_member = gaussian(np.random.default_rng(7), 2.0, 200)
    first = calibration_half(is_member, 5)
    # Of these, some threshold in either direction: the chosen one is among them, and gives the bound on the other half.
    found = by_splitting(scores, is_member, delta=1e-3, seed=5).epsilon
    per_half = {
        half: [at_threshold(scores[mask], is_member[mask], cut, delta=1e-3).epsilon for cut in scores[first]]
        for half, mask in (("chose", first), ("measured", ~first))
    }
    assert np.isclose(per_half["measured"], found, rtol=1e-12).any()
    assert not np.isclose(per_half["chose"], found, rtol=1e-12).any()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_searches_find_a_tail_on_either_side(search, sign):
    # A third of one group lies beyond all of the other: of the members above, or of the non-members below.
    rng = np.random.default_rng(8)
    in_tail_group = np.arange(1200) < 600
    scores = sign * np.where(np.arange(1200) < 200, 9.0, rng.normal(size=1200))
    is_member = in_tail_group if sign > 0 else ~in_tail_group
    # At most log((1/3) / 0.006) = 4 for 600 records; the correction and the halving take their part.
    assert 2.5 < search(scores, is_member, delta=0.0).epsilon < 4


def test_a_tie_is_charged_at_its_rank():
    # 10 of 100 non-members score 1, the others 0; ranks 0, 50 and 99. Above 0 lie 90 members and 10 non-members, but
    # the threshold was picked as rank 50, so 50 false positives are charged.
    scores, is_member = counted(90, 100, 10, 100)
    found = over_thresholds(scores, is_member, delta=0.0, confidence=0.9, thresholds=3).epsilon
    assert 0.88 * 0.1 / 3 < chance_of(90, 100, 50, 100, found, 0.0) <= 0.1 / 3
    untied = over_thresholds(
        scores + np.where(is_member, 0, scores), is_member, delta=0.0, confidence=0.9, thresholds=3
    )
    assert untied.epsilon == found


@pytest.mark.parametrize("search", [*SEARCHES, lambda s, m, delta: one_run(s, m, guesses=60, delta=delta)])
def test_bound_falls_with_delta_and_does_not_read_the_order_of_records(search):
    rng = np.random.default_rng(4)
    scores, is_member = gaussian(rng, 2.0, 400)
    bounds = [search(scores, is_member, delta=delta).epsilon for delta in (0.0, 1e-4, 1e-3, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_records_tells_nothing(seed):
    rng = np.random.default_rng(seed)
    scores, is_member = gaussian(rng, 1.5, 60)
    scores = scores.round()
    order = rng.permutation(120)
    for bound in (over_thresholds, lambda s, m, delta: one_run(s, m, guesses=40, delta=delta)):
        assert bound(scores, is_member, delta=1e-4) == bound(scores[order], is_member[order], delta=1e-4)
        # Members first, all scores equal: whoever breaks ties by position is always right.
        assert bound(np.zeros(120), is_member, delta=0.0).epsilon == 0


def test_searches_read_order_alone_and_allow_infinite_scores():
    scores, is_member = gaussian(np.random.default_rng(5), 2.0, 300)
    far = np.where(scores > 2.5, np.inf, np.where(scores < -1.5, -np.inf, scores))
    for search in SEARCHES:
        assert search(np.exp(scores), is_member, delta=1e-5) == search(scores, is_member, delta=1e-5)
        assert search(far, is_member, delta=1e-5).epsilon > 0


# privacy-auditing notes, computed from the authors' program, to two decimals.
@pytest.mark.parametrize(
    ("canaries", "guesses", "by_share"),
    [
        (1000, 100, {1.0: 3.47, 0.9: 1.63, 0.75: 0.70}),
        (1000, 500, {1.0: 5.09, 0.9: 1.95, 0.75: 0.92}),
        (5000, 1000, {1.0: 5.67, 0.9: 2.02, 0.75: 0.98}),
    ],
)
def test_one_run_bound_equals_known_figures(canaries, guesses, by_share):
    bounds = {share: one_run_bound(canaries, guesses, round(share * guesses), delta=1e-5) for share in by_share}
    assert {share: bound.epsilon for share, bound in bounds.items()} == pytest.approx(by_share, abs=0.006)


@pytest.mark.parametrize(
    ("counts", "delta", "published"),
    [((1000, 100, 75), 1e-4, 0.673), ((100_000, 1510, 1439), 1e-5, 2.675)],
)
def test_one_run_bound_equals_the_papers(counts, delta, published):
    # Steinke et al. (2023), appendix D and section 7 (2.67585, which they cut off).
    assert one_run_bound(*counts, delta=delta).epsilon == pytest.approx(published, abs=1e-3)


@few
@given(data=st.data(), epsilon=st.floats(0, 6), delta=st.sampled_from([0.0, 1e-5, 1e-3]))
def test_one_run_p_value_equals_its_definition(data, epsilon, delta):
    canaries = data.draw(st.integers(1, 60))
    guesses = data.draw(st.integers(0, canaries))
    correct = data.draw(st.integers(0, guesses))
    right = 1 / (1 + np.exp(-epsilon))
    chance = [binom.pmf(k, guesses, right) for k in range(guesses + 1)]
    pushed = max([sum(chance[correct - i : correct]) / i for i in range(1, correct + 1)], default=0)
    expected = min(sum(chance[correct:]) + 2 * canaries * delta * pushed, 1)
    found = one_run_p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@few
@given(guesses=st.integers(1, 300), share=st.floats(0.5, 1), delta=st.sampled_from([0.0, 1e-5, 1e-4]))
def test_one_run_bound_is_where_the_p_value_meets_the_error(guesses, share, delta):
    correct = round(share * guesses)
    epsilon = one_run_bound(300, guesses, correct, delta=delta).epsilon
    p_values = [one_run_p_value(300, guesses, correct, epsilon=e, delta=delta) for e in np.linspace(0, 8, 60)]
    # Were it not monotone, a smaller epsilon could be left standing above a larger one that is ruled out.
    assert np.all(np.diff(p_values) >= -1e-12)
    if epsilon > 0:
        assert one_run_p_value(300, guesses, correct, epsilon=epsilon, delta=delta) == pytest.approx(0.05, abs=1e-6)
        assert one_run_p_value(300, guesses, correct, epsilon=epsilon, delta=delta) <= 0.05
    else:
        assert p_values[0] >= 0.05


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_one_run_bound_holds_for_randomised_response(epsilon):
    # The mechanism that the bound is tight for: each coin is told rightly with exp(epsilon) / (1 + exp(epsilon)).
    rng = np.random.default_rng(6)
    is_member = rng.random((500, 200)) < 0.5
    told = np.where(rng.random((500, 200)) < 1 / (1 + np.exp(-epsilon)), is_member, ~is_member)
    draws = zip(told + rng.random((500, 200)) / 2, is_member, strict=True)
    bounds = np.array([one_run(scores, m, guesses=100, delta=0.0).epsilon for scores, m in draws])
    assert np.mean(bounds > epsilon) <= 0.05
    assert np.median(bounds) >= 0.6 * epsilon


def test_several_numbers_of_guesses_share_the_error():
    rng = np.random.default_rng(9)
    is_member = rng.random(400) < 0.5
    scores = rng.normal(size=400) + 2 * is_member
    assert guess_counts(400) == [40, 120, 280, 400]
    alone = [one_run(scores, is_member, guesses=n, delta=1e-5, confidence=0.95).epsilon for n in guess_counts(400)]
    found = one_run_by_shares(scores, is_member, delta=1e-5, confidence=0.8)
    assert found.epsilon == max(alone)
    assert (found.delta, found.confidence) == (1e-5, 0.8)
    assert guess_counts(1) == [1]
    assert guess_counts(3) == [1, 2, 3]


def test_the_best_of_several_numbers_of_guesses_holds_and_without_correction_would_not():
    rng = np.random.default_rng(10)
    is_member = rng.random((300, 200)) < 0.5
    scores = rng.random((300, 200))
    draws = list(zip(scores, is_member, strict=True))
    found = [one_run_by_shares(s, m, delta=0.0, confidence=0.7).epsilon for s, m in draws]
    naive = [
        max(one_run(s, m, guesses=n, delta=0.0, confidence=0.7).epsilon for n in guess_counts(200)) for s, m in draws
    ]
    assert np.mean(np.array(found) > 0) <= 0.3 < np.mean(np.array(naive) > 0)


def test_one_run_counts_by_hand():
    is_member = np.array([True, False, True, False, True, False, True, False])
    scores = np.array([9.0, 8, 7, 6, 5, 4, 3, 2])
    # Five guesses: 9, 8, 7 are in (two right), 2 and 3 are out (one right).
    assert one_run(scores, is_member, guesses=5, delta=0.0, confidence=0.4) == one_run_bound(
        8, 5, 3, delta=0.0, confidence=0.4
    )
    assert one_run_p_value(8, 5, 3, epsilon=0.0, delta=0.0) == pytest.approx(0.5)
    # The tie of 7 and 6 goes against the auditor: 6, which is out, is guessed in.
    tied = np.where(scores == 6, 7, scores)
    assert one_run(tied, is_member, guesses=5, delta=0.0, confidence=0.2) == one_run_bound(
        8, 5, 2, delta=0.0, confidence=0.2
    )
    # So does that of 4 and 3. Of 9 and 8 guessed in, one is right; of 2 and the tied one that is in, guessed out, one.
    tied = np.where(scores == 4, 3, scores)
    assert one_run(tied, is_member, guesses=4, delta=0.0, confidence=0.2) == one_run_bound(
        8, 4, 2, delta=0.0, confidence=0.2
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, m: at_threshold(s, m, 0.5, delta=1.0), "delta from 0 to below 1; got 1.0"),
        (lambda s, m: at_threshold(s, m, float("nan"), delta=0.0), "a threshold; got NaN"),
        (lambda s, m: at_threshold(s, m, 0.5, delta=0.0, confidence=95), "confidence between 0 and 1; got 95"),
        (lambda s, m: over_thresholds(s, m, delta=-0.1), "delta from 0 to below 1; got -0.1"),
        (lambda s, m: over_thresholds(s, m, delta=0.0, thresholds=0), "at least one threshold; got 0"),
        (lambda s, m: over_thresholds(s, m[:1], delta=0.0), "expected scores"),
        (lambda s, m: over_thresholds(s * np.nan, m, delta=0.0), "without NaN; got 3 of 3"),
        (lambda s, m: by_splitting(s, m, delta=0.0, seed=0), "two members and two non-members to split; got 2, 1"),
        (lambda s, m: by_splitting(s, m, delta=2.0, seed=0), "delta from 0 to below 1; got 2.0"),
        (lambda s, m: one_run(s, m, guesses=4, delta=0.0), "guesses from 1 to the 3 canaries; got 4"),
        (lambda s, m: one_run(s, m, guesses=0, delta=0.0), "guesses from 1 to the 3 canaries; got 0"),
        (lambda s, m: one_run_bound(3, 2, 3, delta=0.0), "got 3, 2, 3"),
        (lambda s, m: one_run_bound(3, 2, 2, delta=0.0, confidence=1.0), "confidence between 0 and 1; got 1.0"),
        (lambda s, m: one_run_p_value(3, 2, 1, epsilon=-1.0, delta=0.0), "epsilon from 0; got -1.0"),
        (lambda s, m: one_run_p_value(3, 2, 1, epsilon=1.0, delta=1.0), "delta from 0 to below 1; got 1.0"),
    ],
)
def test_what_no_bound_follows_from_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call(np.array([1.0, 0.5, 0.0]), np.array([True, True, False]))
    assert "\n" not in str(refusal.value)
