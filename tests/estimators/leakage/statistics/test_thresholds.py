import numpy as np
import pytest
from scipy.stats import norm

from estimators.leakage.statistics.thresholds import advantage
from estimators.leakage.statistics.thresholds import balanced_accuracy
from estimators.leakage.statistics.thresholds import best_threshold
from estimators.leakage.statistics.thresholds import calibration_half


def binormal(rng, shift, members, others):
    is_member = rng.permutation(np.arange(members + others) < members)
    return rng.normal(size=members + others) + shift * is_member, is_member


def test_threshold_by_hand():
    is_member = np.array([True, True, True, False, False, False])
    # Strictly above 2: two of three members and no other. Above 1: two and one. Above 0: all and two.
    assert best_threshold(np.array([4.0, 3, 1, 2, 1, 0]), is_member) == 2.0
    assert best_threshold(np.array([4.0, 3, 1, -np.inf, 1, 0]), is_member) == 1.0
    # The lowest of equals: above 0 and above 2 both gain one half.
    assert best_threshold(np.array([1.0, 3, 2, 0]), np.array([True, True, False, False])) == 0.0


def test_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, is_member = rng.integers(0, 6, 15).astype(float), rng.permutation(np.arange(15) < 6)
        gains = [(scores[is_member] > t).mean() - (scores[~is_member] > t).mean() for t in range(-1, 6)]
        threshold = best_threshold(scores, is_member)
        gain = (scores[is_member] > threshold).mean() - (scores[~is_member] > threshold).mean()
        assert gain == pytest.approx(max(gains))


def test_halves_are_drawn_within_either_group():
    is_member = np.arange(31) < 11
    first = calibration_half(is_member, 0)
    assert (first[is_member].sum(), first[~is_member].sum()) == (5, 10)
    assert np.array_equal(first, calibration_half(is_member, 0))
    assert not np.array_equal(first, calibration_half(is_member, 1))


def test_an_oracles_threshold_is_biased_and_a_calibrated_one_is_not():
    rng = np.random.default_rng(1)
    oracle, calibrated = [], []
    for seed in range(500):
        scores, is_member = binormal(rng, 0.0, 100, 100)
        called = scores > best_threshold(scores, is_member)
        oracle.append(called[is_member].mean() - called[~is_member].mean())
        calibrated.append(advantage(scores, is_member, seed=seed).value)
    # One-sided Kolmogorov-Smirnov: sqrt(pi / 8) sqrt(1/100 + 1/100) = 0.089 on average.
    assert np.mean(oracle) == pytest.approx(0.09, abs=0.01)
    assert abs(np.mean(calibrated)) < 3 * np.std(calibrated) / 500**0.5


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_advantage_covers_the_truth_of_the_threshold_it_found(shift):
    rng = np.random.default_rng(2)
    covered = []
    for seed in range(500):
        scores, is_member = binormal(rng, shift, 100, 150)
        first = calibration_half(is_member, seed)
        threshold = best_threshold(scores[first], is_member[first])
        truth = norm.sf(threshold - shift) - norm.sf(threshold)
        found = advantage(scores, is_member, seed=seed)
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize("decimals", [9, 0])
def test_balanced_accuracy_is_advantage_on_another_scale(decimals):
    scores, is_member = binormal(np.random.default_rng(3), 1.0, 300, 200)
    scores = scores.round(decimals)
    gain, accuracy = (measure(scores, is_member, seed=4) for measure in (advantage, balanced_accuracy))
    ends = [(1 + x) / 2 for x in (gain.low, gain.value, gain.high)]
    assert [accuracy.low, accuracy.value, accuracy.high] == pytest.approx(ends)
    first = calibration_half(is_member, 4)
    called = (scores > best_threshold(scores[first], is_member[first]))[~first]
    rights = [(called == is_member[~first])[group].mean() for group in (is_member[~first], ~is_member[~first])]
    assert accuracy.value == pytest.approx(np.mean(rights))
    # A higher score means member: turned round, the attack is worse than a coin.
    assert balanced_accuracy(-scores, is_member, seed=4).low < 0.5


@pytest.mark.parametrize("measure", [advantage, balanced_accuracy])
@pytest.mark.parametrize(
    ("scores", "is_member", "settings", "message"),
    [
        ([1.0, 2.0, 3.0], [True, True, False], {}, "two members and two non-members to split; got 2, 1"),
        ([1.0, np.nan], [True, False], {}, "without NaN; got 1 of 2"),
        ([1.0], [True, False], {}, "expected scores"),
        ([1.0, 2.0], [1, 0], {}, "as booleans; got int64"),
        ([1.0, 2.0], [True, False], {"confidence": 95}, "confidence between 0 and 1; got 95"),
    ],
)
def test_bad_scores_are_refused(measure, scores, is_member, settings, message):
    with pytest.raises(ValueError, match=message):
        measure(np.array(scores), np.array(is_member), seed=0, **settings)
