"""What cross-validation chooses, and what it claims of other networks."""

import numpy as np
import pytest

from estimators.fitting.cycle_model import LEAST_GAIN
from estimators.fitting.cycle_model import fit_cycle_model
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.cycle_model import is_better
from estimators.fitting.least_squares import close_at_least

RELATIVES = {"generic": generic_relative()}
COLUMNS = len(generic_relative())


def counts_of(rows, seed=0):
    """MACs of convolutions and elements that are pooled; other columns are empty, the overhead's is 1."""
    draws = np.random.default_rng(seed)
    counts = np.zeros((rows, COLUMNS))
    counts[:, 0] = draws.uniform(1e6, 5e7, rows)
    counts[:, 12] = draws.uniform(1e5, 1e6, rows)
    counts[:, -1] = 1.0
    return counts


def cycles_of(counts):
    return counts[:, 0] + 40 * counts[:, 12] + 1e5


def elsewhere(counts, seed=1):
    """The same networks as if half of them had up to thrice as many pooled elements."""
    draws = np.random.default_rng(seed)
    changed = counts.copy()
    changed[:, 12] *= np.where(draws.random(len(counts)) < 0.5, 1.0, draws.uniform(1.5, 3.0, len(counts)))
    return changed


def fit(offered, cycles):
    return fit_cycle_model(offered, cycles, np.arange(len(cycles)), RELATIVES)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_counts_that_made_the_times_are_found_among_four(place):
    truth = counts_of(40)
    offered = [
        [elsewhere(truth, seed=1), elsewhere(truth, seed=2)],
        [elsewhere(truth, seed=3), elsewhere(truth, seed=4)],
    ]
    offered[place[0]][place[1]] = truth
    model = fit(offered, cycles_of(truth))
    assert model.counting == place
    assert set(model.rivals) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert model.predict(truth) == pytest.approx(cycles_of(truth), rel=0.03)


def test_of_equally_good_counts_the_likeliest_are_taken():
    truth = counts_of(20)
    # What is counted differently is next to nothing: all four explain the times.
    same = truth.copy()
    same[:, 14] = np.random.default_rng(5).uniform(0, 1e-6, len(truth))
    assert fit([[truth, same], [same, truth]], cycles_of(truth)).counting == (0, 0)


def test_better_is_better_by_more_than_its_standard_error():
    close, far_off = np.full(10, 1.0), np.full(10, 1.2)
    assert is_better(close, far_off)
    assert not is_better(far_off, close)
    assert not is_better(close, close)
    # One row of ten is better and nine are the same: the mean gain is its own standard error.
    one = close.copy()
    one[0] = 1.2
    assert not is_better(close, one)
    two = one.copy()
    two[1] = 1.2
    assert is_better(close, two)


def test_a_difference_that_nobody_would_notice_is_a_tie():
    # Each row is off by 0.3 % and by 0: `far` is 0.0009 and 0.
    assert not is_better(np.full(50, 1.0), np.full(50, 1.003))
    assert LEAST_GAIN == 1e-3
    assert is_better(np.full(50, 1.0), np.full(50, 1.0035))


def test_a_choice_among_nothing_but_noise_does_not_flatter_the_errors():
    """Twelve guesses at random about what runs: the best looks good on the rows that chose it, and is not."""
    draws = np.random.default_rng(0)
    truth = counts_of(12)
    cycles = cycles_of(truth) * np.exp(draws.normal(0, 0.15, 12))
    guesses = [[elsewhere(truth, seed=seed)] for seed in range(12)]
    model = fit(guesses, cycles)
    flattering = np.mean(np.abs(np.log(model.rivals[model.counting])))
    assert np.mean(np.abs(np.log(model.ratios))) > 1.15 * flattering
    # With a single guess there is only the strength to choose.
    alone = fit(guesses[:1], cycles)
    assert np.mean(np.abs(np.log(alone.ratios))) == pytest.approx(np.mean(np.abs(np.log(alone.rivals[0, 0]))), rel=0.15)


def test_the_share_that_is_claimed_by_hand():
    # Ten of ten: half as many networks, five of five; the 5th root of 0.1 is 0.631.
    assert close_at_least(np.ones(10), np.arange(10)) == pytest.approx(0.1**0.2)
    assert close_at_least(np.full(10, 2.0), np.arange(10)) == 0
    # Two of four: one of two, and 1 - 0.9^(1/2) of networks would give none or one at least as rarely.
    assert close_at_least(np.array([1.0, 1.0, 2.0, 2.0]), np.arange(4)) == pytest.approx(1 - 0.9**0.5)


def test_rows_of_one_network_are_one_network():
    ratios, groups = np.array([1.0, 1.0, 2.0, 2.0]), np.arange(4)
    assert close_at_least(np.repeat(ratios, 25), np.repeat(groups, 25)) == pytest.approx(close_at_least(ratios, groups))
    # A network that was measured often and predicted badly does not leave a claim above the share of all rows.
    often = np.array([1.0] * 40 + [2.0] * 60)
    assert close_at_least(often, np.array([*range(40), *[40] * 60])) < 0.4


def test_more_networks_claim_more_and_never_more_than_they_show():
    claims = [close_at_least(np.tile([1.0, 1.0, 1.0, 2.0], n), np.arange(4 * n)) for n in (2, 10, 50, 250)]
    assert claims == sorted(claims)
    assert claims[-1] < 0.75
