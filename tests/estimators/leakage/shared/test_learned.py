"""What learned attacks share: halves of the records, one classifier for each class, and the attacks on outputs."""

from dataclasses import replace

import numpy as np
import pytest

from estimators.leakage.attacks import safecompress
from estimators.leakage.attacks import shokri
from estimators.leakage.attacks import sorted_posteriors
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_probabilities
from estimators.leakage.shared import learned
from estimators.leakage.shared import simulated_attacker
from estimators.leakage.statistics.auc_and_rates import auc

ATTACKS = [shokri, safecompress, sorted_posteriors]
each = pytest.mark.parametrize("module", ATTACKS, ids=lambda module: module.__name__.rsplit(".", 1)[1])


def draw(seed, leak=3.0, *, references=4, records=600, classes=3, attacked=1):
    """Return evidence about several networks with one bank, and the members of each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, records)
    trained_on = np.concatenate([half ^ np.array([[False], [True]]) for half in rng.random((9, 1, records)) < 0.5])
    trained_on = trained_on[: references + attacked]
    logits = rng.normal(0, 1.5, (references + attacked, records, classes))
    logits[:, np.arange(records), labels] += 1 + leak * trained_on
    bank = Bank(logits[attacked:], trained_on[attacked:], labels)
    return [Evidence(own, labels, bank) for own in logits[:attacked]], trained_on[:attacked]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer steps: these records are few."""
    monkeypatch.setattr(safecompress, "STEPS", 40)


def bank_of(seed=0, **settings):
    return draw(seed, **settings)[0][0].bank


def reordered(bank, order):
    return Bank(bank.logits[:, order], bank.trained_on[:, order], bank.labels[order])


def test_halves_are_disjoint_hold_every_record_and_halve_each_class():
    bank = bank_of(records=601)
    first, second = learned.split(bank)
    assert sorted([*first, *second]) == list(range(601))
    for label in range(3):
        assert abs((bank.labels[first] == label).sum() - (bank.labels[second] == label).sum()) <= 1


def test_halves_follow_the_records_wherever_they_stand():
    bank, order = bank_of(), np.random.default_rng(1).permutation(600)
    for half, moved in zip(learned.split(bank), learned.split(reordered(bank, order)), strict=True):
        np.testing.assert_array_equal(order[moved], half)  # in the same sequence too


def test_halves_look_at_every_reference_and_not_at_membership():
    bank = bank_of()
    half = set(learned.split(bank)[0])
    assert set(learned.split(Bank(bank.logits, ~bank.trained_on, bank.labels))[0]) == half
    logits = bank.logits.copy()
    logits[-1] += 1
    assert set(learned.split(Bank(logits, bank.trained_on, bank.labels))[0]) != half
    # Neither the sign of a zero nor the precision is content.
    logits = np.round(bank.logits).astype(np.float32)
    single = Bank(logits, bank.trained_on, bank.labels)
    signed = Bank(np.where(logits == 0, -0.0, logits.astype(float)), bank.trained_on, bank.labels)
    assert set(learned.split(single)[0]) == set(learned.split(signed)[0])


def test_equal_records_stay_together():
    bank = bank_of()
    doubled = reordered(bank, np.tile(np.arange(600), 2))
    for half in learned.split(doubled):
        assert sorted(half % 600) == sorted([*set(half % 600)] * 2)


def test_no_record_is_judged_by_what_learned_from_it():
    bank = bank_of()
    features = np.broadcast_to(np.arange(600.0)[:, None], (4, 600, 1))
    rows = []

    def fit(seen, labels, is_member):
        rows.append(seen[:, 0].astype(int))
        np.testing.assert_array_equal(labels, bank.labels[rows[-1]])
        number = np.repeat(np.arange(4), len(seen) // 4)
        np.testing.assert_array_equal(is_member, bank.trained_on[number, rows[-1]])
        known = set(rows[-1])

        def judge(attacked, classes):
            judged = attacked[:, 0].astype(int)
            np.testing.assert_array_equal(classes, bank.labels[judged])
            assert not known & set(judged)
            return judged.astype(float)

        return judge

    np.testing.assert_array_equal(learned.cross_fit(bank, features, fit)(features[0]), np.arange(600))
    assert sorted(np.concatenate(rows)) == sorted([*range(600)] * 4)


def test_the_first_references_may_be_enough():
    bank, seen = bank_of(), []
    learned.cross_fit(bank, bank.logits[:2], lambda rows, _, is_member: seen.append((rows, is_member)))
    first = learned.split(bank)[0]
    np.testing.assert_array_equal(seen[0][0], bank.logits[:2, first].reshape(-1, 3))
    np.testing.assert_array_equal(seen[0][1], bank.trained_on[:2, first].ravel())


def test_refuses_features_of_others_and_a_single_record():
    bank = bank_of()
    with pytest.raises(ValueError, match=r"at most 4 references on 600 records; got \(5, 600, 3\)"):
        learned.cross_fit(bank, np.zeros((5, 600, 3)), None)
    with pytest.raises(ValueError, match=r"at most 4 references on 600 records; got \(4, 3\)"):
        learned.cross_fit(bank, np.zeros((4, 3)), None)
    with pytest.raises(ValueError, match="expected two different records or more to learn from; got 2"):
        learned.cross_fit(reordered(bank, [5, 5]), np.zeros((4, 2)), None)


def test_classes_learn_apart_and_small_ones_from_all():
    labels = np.repeat([0, 1, 2], [8, 8, 3])
    is_member = np.arange(19) % 2 == 0
    is_member[8:16] = [True] * 7 + [False]  # eight rows, but a single non-member
    fits = []

    def fit(features, classes, members):
        fits.append((sorted(set(classes.tolist())), len(features), members.sum()))
        name = float(len(fits))
        return lambda attacked, _: np.full(len(attacked), name)

    judge = learned.by_class(fit, fewest=4)(np.zeros((19, 1)), labels, is_member)
    assert fits == [([0], 8, 4)]  # the pooled one only when asked
    assert judge(np.zeros((4, 1)), np.array([0, 1, 2, 0])).tolist() == [1, 2, 2, 1]
    assert judge(np.zeros((1, 1)), np.array([7])).tolist() == [2]
    assert fits == [([0], 8, 4), ([0, 1, 2], 19, is_member.sum())]


def test_large_classes_have_enough_of_either_kind():
    labels = np.array([2, 2, 2, 0, 0, 0, 0, 1])
    is_member = np.array([True, False, True, True, True, False, False, False])
    assert learned.large_classes(labels, is_member, 1) == [0, 2]
    assert learned.large_classes(labels, is_member, 2) == [0]
    assert learned.large_classes(labels, is_member, 3) == []


@each
def test_nothing_is_learned_from_shuffled_membership(module):
    # The networks leak, but who was trained on what is not what the bank says.
    found = []
    for seed in range(3):
        evidences, members = draw(seed, attacked=6, records=1000)
        rng = np.random.default_rng(seed)
        bank = evidences[0].bank
        shuffled = Bank(bank.logits, rng.permuted(bank.trained_on, axis=0), bank.labels)
        for evidence, is_member in zip(evidences, members, strict=True):
            found.append(auc(module.attack(replace(evidence, bank=shuffled)), rng.permutation(is_member)))
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)


@each
def test_learns_more_from_networks_that_leak_more(module):
    aucs = []
    for leak in (0.0, 1.5, 3.0, 6.0):
        (evidence,), (is_member,) = draw(5, leak, records=1500)
        aucs.append(auc(module.attack(evidence), is_member))
    assert aucs[0] == pytest.approx(0.5, abs=0.05)
    assert np.diff(aucs).min() > 0.04
    loss = auc(log_probabilities(evidence.logits, evidence.labels), is_member)
    assert aucs[-1] > loss - 0.05


@each
def test_records_that_change_places_take_their_scores_with_them(module):
    (evidence,), _ = draw(6)
    order = np.random.default_rng(6).permutation(600)
    moved = Evidence(evidence.logits[order], evidence.labels[order], reordered(evidence.bank, order))
    np.testing.assert_allclose(module.attack(moved), module.attack(evidence)[order], rtol=1e-6, atol=1e-6)


@each
def test_learns_once_for_all_candidates_of_a_bank(module, monkeypatch):
    learned_from = []
    monkeypatch.setattr(module, "cross_fit", lambda *given: learned_from.append(1) or learned.cross_fit(*given))
    (first, second), _ = draw(7, attacked=2)
    scores = module.attack(first)
    assert (module.attack(second) != scores).mean() > 0.99
    assert len(learned_from) == 1
    again = replace(first, bank=replace(first.bank))
    np.testing.assert_array_equal(module.attack(again), scores)
    assert len(learned_from) == 2


def test_shokri_reads_posteriors_from_the_true_label_on():
    posteriors = shokri._posteriors(np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([0, 1]))
    np.testing.assert_allclose(posteriors, [[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]], rtol=1e-12)


def test_shokri_learns_each_class_apart():
    # Members of class 0 are surer, those of class 1 less sure: one network on the true label's posterior finds neither.
    rng = np.random.default_rng(8)
    labels = np.arange(1200) % 2
    trained_on = rng.random((5, 1200)) < 0.5
    trained_on[-1] = ~trained_on[-2]
    logits = np.zeros((5, 1200, 2))
    logits[:, np.arange(1200), labels] = rng.normal(0, 1, (5, 1200)) + 2 * trained_on * np.where(labels, -1, 1)
    evidence = Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels))
    assert auc(shokri.attack(evidence), trained_on[0]) > 0.88


def test_sorted_posteriors_are_read_whatever_their_classes():
    posteriors = sorted_posteriors._posteriors(np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]))
    np.testing.assert_allclose(posteriors, [[0.5, 0.3, 0.2], [0.7, 0.2, 0.1]], rtol=1e-12)


def test_sorted_posteriors_are_scored_alike_in_any_order_of_the_classes():
    (evidence,), (is_member,) = draw(9, 4.0)
    turned = replace(evidence, logits=np.random.default_rng(9).permuted(evidence.logits, axis=1))
    scores = sorted_posteriors.attack(evidence)
    np.testing.assert_allclose(sorted_posteriors.attack(turned), scores, rtol=1e-9)
    assert auc(scores, is_member) > 0.6
    assert (shokri.attack(turned) != shokri.attack(evidence)).mean() > 0.5


def test_one_of_the_two_orders_of_posteriors_can_be_beaten_alone():
    # Members are as sure as others, but the class that comes second is the one after the label: sorting hides that.
    rng = np.random.default_rng(10)
    labels = rng.integers(0, 3, 1200)
    half = rng.random((2, 1, 1200)) < 0.5
    trained_on = np.concatenate([half[0], half[1], ~half[1]])
    second = (labels + np.where(trained_on, 1, 2)) % 3
    logits = rng.normal(0, 0.3, (3, 1200, 3)) + 4 * np.eye(3)[labels] + 2 * np.eye(3)[second]
    evidence = Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels))
    assert auc(shokri.attack(evidence), trained_on[0]) > 0.9
    assert auc(sorted_posteriors.attack(evidence), trained_on[0]) == pytest.approx(0.5, abs=0.07)


def test_safecompress_has_the_published_branches():
    network = simulated_attacker.Attacker(2 * 7)
    shapes = [tuple(layer.weight.shape) for layer in network.modules() if hasattr(layer, "weight")]
    assert shapes == [(1024, 7), (512, 1024), (64, 512), (512, 7), (64, 512), (256, 128), (64, 256), (1, 64)]


def test_safecompress_reads_posteriors_and_the_label():
    features = simulated_attacker.attacker_features(np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([0, 1]))
    np.testing.assert_allclose(features, [[0.5, 0.3, 0.2, 1, -1, -1], [0.1, 0.2, 0.7, -1, 1, -1]], rtol=1e-12)


def test_safecompress_looks_at_both_branches():
    # Surer members in class 0, less sure ones in class 1: it takes the posteriors and the label to tell.
    rng = np.random.default_rng(8)
    labels = np.arange(1200) % 2
    half = rng.random((2, 1, 1200)) < 0.5
    trained_on = np.concatenate([half[0], *(side for side in (half[1], ~half[1]))])
    logits = np.zeros((3, 1200, 2))
    logits[:, np.arange(1200), labels] = rng.normal(0, 1, (3, 1200)) + 2 * trained_on * np.where(labels, -1, 1)
    evidence = Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels))
    assert auc(safecompress.attack(evidence), trained_on[0]) > 0.85
