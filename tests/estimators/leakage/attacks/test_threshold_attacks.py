"""What is particular to the attacks that read one network's outputs and nothing else."""

import numpy as np
import pytest
from scipy.special import softmax

from estimators.leakage.attacks import confidence
from estimators.leakage.attacks import entropy
from estimators.leakage.attacks import gap
from estimators.leakage.attacks import loss
from estimators.leakage.attacks import modified_entropy
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import accuracy_gap
from estimators.leakage.statistics.auc_and_rates import auc

# Three classes with probabilities 0.5, 0.3 and 0.2, one record for each true class.
BY_HAND = Evidence(np.log([[0.5, 0.3, 0.2]] * 3), np.arange(3))


def draw(seed, records=500, classes=6, scale=2.0):
    rng = np.random.default_rng(seed)
    return Evidence(rng.normal(0, scale, (records, classes)), rng.integers(0, classes, records))


def with_labels(evidence, labels):
    return Evidence(evidence.logits, labels)


def test_confidence_by_hand():
    # The highest posterior is 0.5, whatever the label: odds 1. Of 0.8 they are 4.
    np.testing.assert_allclose(confidence.attack(BY_HAND), 0.0, atol=1e-15)
    evidence = Evidence(np.log([[0.1, 0.8, 0.1]]), np.array([0]))
    assert confidence.attack(evidence) == pytest.approx([np.log(4)])


def test_confidence_ranks_as_the_highest_posterior_does():
    evidence = draw(0)
    posterior = softmax(evidence.logits, axis=1).max(axis=1)
    assert np.array_equal(np.argsort(confidence.attack(evidence)), np.argsort(posterior))


def test_entropy_by_hand():
    # 0.5 ln 2 + 0.3 ln (10/3) + 0.2 ln 5 = 0.3466 + 0.3612 + 0.3219 nats.
    np.testing.assert_allclose(entropy.attack(BY_HAND), -1.02965, atol=5e-6)


def test_modified_entropy_by_hand():
    # True class 0: 0.5 ln 2 + 0.3 ln (1/0.7) + 0.2 ln (1/0.8) = 0.34657 + 0.10700 + 0.04463.
    # True class 1: 0.7 ln (1/0.3) + 0.5 ln 2 + 0.2 ln (1/0.8) = 0.84278 + 0.34657 + 0.04463.
    # True class 2: 0.8 ln 5 + 0.5 ln 2 + 0.3 ln (1/0.7) = 1.28755 + 0.34657 + 0.10700.
    np.testing.assert_allclose(modified_entropy.attack(BY_HAND), [-0.49820, -1.23398, -1.74113], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_entropies_equal_the_plain_formulas(seed):
    evidence = draw(seed)
    p = softmax(evidence.logits, axis=1)
    np.testing.assert_allclose(entropy.attack(evidence), (p * np.log(p)).sum(axis=1), rtol=1e-9)
    for record, label in enumerate(evidence.labels):
        own, others = p[record, label], np.delete(p[record], label)
        expected = (1 - own) * np.log(own) + (others * np.log(1 - others)).sum()
        assert modified_entropy.attack(evidence)[record] == pytest.approx(expected, rel=1e-9)
        if record == 20:
            break


@pytest.mark.parametrize("attack", [confidence.attack, entropy.attack])
def test_reads_no_label(attack):
    evidence = draw(1)
    np.testing.assert_array_equal(attack(with_labels(evidence, (evidence.labels + 1) % 6)), attack(evidence))


def test_a_sure_mistake_is_no_member_to_modified_entropy_alone():
    evidence = Evidence(np.array([[9.0, 0.0], [0.5, 0.0], [0.0, 9.0]]), np.zeros(3, int))
    sure, unsure, wrong = modified_entropy.attack(evidence)
    assert sure > unsure > wrong
    sure, unsure, wrong = entropy.attack(evidence)
    assert sure == wrong > unsure


@pytest.mark.parametrize("attack", [confidence.attack, entropy.attack, modified_entropy.attack, loss.attack])
def test_records_a_network_is_certain_of_do_not_tie(attack):
    # Odds of e^40 and up: in float64 the probability itself is 1.
    logits = np.zeros((60, 5))
    logits[:, 0] = np.arange(40, 100)
    assert (np.diff(attack(Evidence(logits, np.zeros(60, int)))) > 0).all()


def test_gap_is_correctness():
    evidence = draw(2)
    right = evidence.logits.argmax(axis=1) == evidence.labels
    np.testing.assert_array_equal(gap.attack(evidence), right)


def test_the_auc_of_gap_is_half_the_accuracy_gap_above_one_half():
    evidence = draw(3, scale=1.0)
    is_member = np.random.default_rng(3).random(500) < 0.4
    logits = evidence.logits.copy()
    logits[np.flatnonzero(is_member), evidence.labels[is_member]] += 2
    scores = gap.attack(Evidence(logits, evidence.labels))
    assert auc(scores, is_member) == pytest.approx(0.5 + accuracy_gap(scores == 1, is_member).value / 2)
    assert auc(scores, is_member) > 0.6


def test_masked_confidences_hide_nothing_from_gap():
    # MemGuard at its limit: the same predictions, all as sure as each other.
    evidence = draw(4)
    masked = np.where(evidence.logits == evidence.logits.max(axis=1, keepdims=True), 1.0, 0.0)
    masked = Evidence(masked, evidence.labels)
    np.testing.assert_array_equal(gap.attack(masked), gap.attack(evidence))
    assert np.ptp(confidence.attack(masked)) < 1e-12
    assert np.ptp(entropy.attack(masked)) < 1e-12
