"""The attack on the exit that answered, and how that exit is read off latencies."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from estimators.leakage.attacks import exit_index
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.exit_times import exits_from_latencies
from estimators.leakage.shared.exit_times import last_exit_by
from estimators.leakage.statistics.auc_and_rates import auc


def multi_exit(seed, *, sooner=0.8, leak=1.0, references=4, records=1500, classes=4):
    """Draw networks with three exits that members leave `sooner`, whatever the answer; and who is a member."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, records)
    trained_on = np.concatenate([half ^ np.array([[False], [True]]) for half in rng.random((9, 1, records)) < 0.5])
    trained_on = trained_on[1 : references + 2]
    logits = rng.normal(0, 1.5, (*trained_on.shape, classes))
    logits[:, np.arange(records), labels] += 1 + leak * trained_on
    hard = rng.normal(0, 1, trained_on.shape) - sooner * trained_on
    exits = (hard > -0.5).astype(int) + (hard > 0.5)
    bank = Bank(logits[1:], trained_on[1:], labels, exits=exits[1:])
    return Evidence(logits[0], labels, bank, exits=exits[0]), trained_on[0]


def without_exits(evidence):
    """The same evidence, of which the exits say nothing."""
    bank = replace(evidence.bank, exits=np.zeros_like(evidence.bank.exits))
    return replace(evidence, bank=bank, exits=np.zeros_like(evidence.exits))


def aucs(evidence, is_member):
    return [auc(exit_index.attack(given), is_member) for given in (evidence, without_exits(evidence))]


def test_exits_that_members_leave_sooner_betray_them():
    hybrid, base = aucs(*multi_exit(0))
    assert base > 0.6
    assert hybrid > base + 0.05


def test_exits_that_tell_nothing_cost_half_a_point_at_most():
    differences = [np.subtract(*aucs(*multi_exit(seed, sooner=0.0, records=2500))) for seed in (1, 2, 3)]
    assert np.mean(differences) >= -0.005


def test_exits_alone_are_read_the_right_way_round():
    evidence, is_member = multi_exit(4, leak=0.0, sooner=3.0)
    scores = exit_index.attack(evidence)
    assert auc(scores, is_member) > 0.82
    assert np.median(scores[evidence.exits == 0]) > np.median(scores[evidence.exits == 2]) + 1


def test_nothing_is_learned_from_shuffled_membership():
    found = []
    for seed in range(4):
        evidence, is_member = multi_exit(seed, records=800)
        rng = np.random.default_rng(seed)
        bank = replace(evidence.bank, trained_on=rng.permuted(evidence.bank.trained_on, axis=0))
        found.append(auc(exit_index.attack(replace(evidence, bank=bank)), rng.permutation(is_member)))
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)


def test_an_exit_that_no_reference_used_counts_as_the_deepest_known():
    evidence, _ = multi_exit(5)
    deeper = replace(evidence, exits=evidence.exits + 7 * (evidence.exits == 2))
    np.testing.assert_array_equal(exit_index.attack(deeper), exit_index.attack(evidence))


@pytest.mark.parametrize("classes", [2, 5])
def test_reads_the_three_largest_posteriors_the_label_and_the_exit(classes):
    logits = np.log(np.array([[0.7, 0.3], [0.4, 0.6]]))
    features = exit_index._features(logits, np.array([0, 0]), np.array([1, 0]), 2)
    odds = np.log([0.7 / 0.3, 0.4 / 0.6])
    np.testing.assert_allclose(features, [[0.7, 0.3, 0, odds[0], 0, 1], [0.6, 0.4, 0, odds[1], 1, 0]], rtol=1e-12)
    logits = np.log(np.array([[0.1, 0.2, 0.4, 0.25, 0.05]]))
    features = exit_index._features(logits, np.array([4]), np.array([0]), 1)
    np.testing.assert_allclose(features, [[0.4, 0.25, 0.2, np.log(0.05 / 0.95), 1]], rtol=1e-12)


@pytest.mark.parametrize("missing", ["evidence", "bank"])
def test_refuses_networks_that_do_not_say_their_exit(missing):
    evidence, _ = multi_exit(6, records=50)
    if missing == "evidence":
        evidence = replace(evidence, exits=None)
    else:
        evidence = replace(evidence, bank=replace(evidence.bank, exits=None))
    with pytest.raises(ValueError, match=r"'exit_index'.*expected evidence and a bank with exits; got none"):
        exit_index.attack(evidence)


def test_leaves_the_generator_of_torch_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    exit_index.attack(multi_exit(7, records=50)[0])
    assert torch.rand(1) == expected


@pytest.mark.parametrize("exits", [1, 2, 3, 6])
@pytest.mark.parametrize("repeats", [1, 5])
def test_finds_the_exits_of_simulated_latencies(exits, repeats):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        shares = np.linspace(3, 1, exits)
        left = rng.choice(exits, 500, p=shares / shares.sum())
        latencies_ms = 5 + 2 * left + 2 * rng.normal(0, 0.2, (repeats, 500))
        found = exits_from_latencies(latencies_ms, exits)
        assert (found == left).mean() >= (0.95 if repeats == 1 else 0.99)
        np.testing.assert_array_equal(exits_from_latencies(1000 * latencies_ms, exits), found)  # in us


def test_the_smallest_of_several_measurements_counts():
    rng = np.random.default_rng(0)
    left = rng.integers(0, 2, 300)
    latencies = 1 + left + rng.normal(0, 0.05, (4, 300))
    latencies += rng.choice([0.0, 3.0], (4, 300), p=[0.7, 0.3])  # something else ran
    latencies[0] -= 3.0 * (latencies[0] > 2.5)
    found = exits_from_latencies(latencies, 2)
    assert (found == left).all()
    assert (exits_from_latencies(latencies[1:2], 2) == left).mean() < 0.9


def test_who_knows_when_exits_answer_tells_delayed_ones_better_than_by_valleys():
    """Half of the first exit's answers wait, for a time whose density falls; so do those of the second."""
    rng = np.random.default_rng(0)
    latencies, left = np.array([1.0, 2.0, 3.0]), rng.choice(3, 600, p=[0.4, 0.3, 0.3])
    np.testing.assert_array_equal(last_exit_by(latencies[left], latencies), left)
    times = np.minimum(latencies[left] + np.abs(rng.normal(0, 1, 600)), 3.0)
    found = last_exit_by(times, latencies)
    assert (found >= left).all()
    assert (found == left).mean() > (exits_from_latencies(times[None], 3) == left).mean() + 0.02


def test_equal_latencies_are_one_exit():
    assert exits_from_latencies(np.ones((2, 5)), 3).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("latencies", "exits", "bandwidth", "message"),
    [
        (np.ones(5), 2, 0.15, r"expected latencies \(repeats, records\) of two records or more; got \(5,\)"),
        (np.ones((2, 1)), 2, 0.15, r"got \(2, 1\)"),
        (np.ones((0, 5)), 2, 0.15, r"got \(0, 5\)"),
        (np.array([[1.0, np.nan]]), 2, 0.15, "expected finite latencies"),
        (np.array([[1.0, 2.0]]), 0, 0.15, "expected an exit or more and a positive bandwidth; got 0 and 0.15"),
        (np.array([[1.0, 2.0]]), 2, 0.0, "got 2 and 0.0"),
    ],
)
def test_refuses_what_are_no_latencies(latencies, exits, bandwidth, message):
    with pytest.raises(ValueError, match=message):
        exits_from_latencies(latencies, exits, bandwidth)
