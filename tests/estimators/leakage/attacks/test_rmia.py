import numpy as np
import pytest
from scipy.special import softmax

from estimators.leakage.attacks import rmia
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_mean
from estimators.leakage.scores import log_mixture
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import auc


def logits_for(probabilities):
    """Two-class logits whose first class has the given probability at temperature 2."""
    p = np.asarray(probabilities, float)
    return np.stack([2 * np.log(p / (1 - p)), np.zeros_like(p)], axis=-1)


def evidence_for(candidate, references, trained_on):
    labels = np.zeros(len(candidate), int)
    bank = Bank(logits_for(references), np.asarray(trained_on, bool), labels)
    return Evidence(logits_for(candidate), labels, bank)


def random_evidence(seed, *, references=5, records=300, classes=4, leak=2.0, sharpness=1.0):
    """Masks are independent halves, so records differ in how many references left them out, from one upwards."""
    rng = np.random.default_rng(seed)
    trained_on = rng.random((references + 1, records)) < 0.5
    trained_on[1, trained_on[1:].all(0)] = False
    labels = rng.integers(0, classes, records)
    logits = rng.normal(0, 2, (records, classes)) + rng.normal(0, 1, (references + 1, records, classes))
    logits[:, np.arange(records), labels] += leak * trained_on
    logits *= sharpness
    return Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels)), trained_on[0]


def plain_probabilities(logits, labels):
    return softmax(logits / 2.0, axis=-1)[..., np.arange(len(labels)), labels]


def plain_ratio(own, references, trained_on, slope):
    """LR as the paper has it, record by record, NaN where every reference was trained on it."""
    ratios = []
    for x in range(len(own)):
        out = [p[x] for p, mask in zip(references, trained_on, strict=True) if not mask[x]]
        expected = ((1 + slope) * np.mean(out) + (1 - slope)) / 2 if out else np.nan
        ratios.append(own[x] / expected)
    return np.array(ratios)


def test_two_records_by_hand():
    # Left out by one reference each: P_out = 0.6 and 0.4, slope 0.3.
    # Pr = (1.3 * 0.6 + 0.7) / 2 = 0.74 and (1.3 * 0.4 + 0.7) / 2 = 0.61. The mean over both would be 0.7 and 0.55.
    evidence = evidence_for([0.9, 0.5], [[0.8, 0.4], [0.6, 0.7]], [[True, False], [False, True]])
    np.testing.assert_allclose(np.exp(rmia.attack(evidence)), [0.9 / 0.74, 0.5 / 0.61], rtol=1e-12)


def test_the_mean_is_over_references_that_left_the_record_out():
    # P_out = (0.2 + 0.6) / 2 = 0.4 for the first record, 0.3 for the second: no zeros for those trained on it.
    references, trained_on = [[0.2, 0.9], [0.6, 0.3], [0.9, 0.8]], [[False, True], [False, False], [True, True]]
    evidence = evidence_for([0.9, 0.5], references, trained_on)
    # Pr is 0.61 from 1.3 times 0.4 plus 0.7, halved; and 0.545 from 1.3 times 0.3.
    expected = [0.9 / 0.61, 0.5 / 0.545]
    np.testing.assert_allclose(np.exp(rmia.attack(evidence)), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_the_plain_formula(seed):
    evidence, _ = random_evidence(seed)
    references = plain_probabilities(evidence.bank.logits, evidence.labels)
    own = plain_probabilities(evidence.logits, evidence.labels)
    ratios = plain_ratio(own, references, evidence.bank.trained_on, slope=0.3)
    np.testing.assert_allclose(np.exp(rmia.attack(evidence)), ratios, rtol=1e-9)


def test_one_reference_that_saw_nothing_is_enough():
    evidence = evidence_for([0.9, 0.5], [[0.6, 0.4]], [[False, False]])
    np.testing.assert_allclose(np.exp(rmia.attack(evidence)), [0.9 / 0.74, 0.5 / 0.61], rtol=1e-12)


def test_the_candidate_has_no_say_in_what_is_expected():
    evidence, _ = random_evidence(1)
    other = Evidence(-3 * evidence.logits, evidence.labels, evidence.bank)
    expected = [log_probabilities(e.logits, e.labels, 2.0) - rmia.attack(e) for e in (evidence, other)]
    np.testing.assert_allclose(expected[0], expected[1], atol=1e-12)


def test_the_bank_is_read_once_for_all_candidates(monkeypatch):
    calls = []
    monkeypatch.setattr(rmia, "log_mean", lambda *bank: calls.append(1) or log_mean(*bank))
    evidence, _ = random_evidence(2)
    scores = [rmia.attack(Evidence(k * evidence.logits, evidence.labels, evidence.bank)) for k in range(1, 30)]
    assert len(calls) == 1
    # Another bank with other numbers is another bank.
    bank = Bank(evidence.bank.logits / 2, evidence.bank.trained_on, evidence.labels)
    assert (rmia.attack(Evidence(evidence.logits, evidence.labels, bank)) != scores[0]).all()
    assert len(calls) == 2


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_ranks_as_the_pairwise_definition_does(gamma):
    evidence, is_member = random_evidence(4, records=500)
    log_ratio = rmia.attack(evidence)
    # Population records with every ratio there is, a little off so that none ties.
    population = np.exp(np.sort(log_ratio)) / gamma * (1 - 1e-9)
    pairwise = (np.exp(log_ratio)[:, None] / population > gamma).mean(axis=1)
    assert auc(pairwise, is_member) == auc(log_ratio, is_member)
    # A population of its own is coarser, not different.
    coarse = np.exp(np.random.default_rng(5).choice(log_ratio, 200))
    pairwise = (np.exp(log_ratio)[:, None] / coarse > gamma).mean(axis=1)
    assert (np.diff(pairwise[np.argsort(log_ratio)]) >= 0).all()


def test_a_probability_too_small_for_a_float_still_counts():
    # Both references are sure that the labels are wrong: p = exp(-5000) is 0 in float64, its logarithm is not.
    labels = np.zeros(4, int)
    trained_on = np.array([[True, True, False, False], [False, False, True, True]] * 2)
    bank = Bank(np.tile([-1e4, 0.0], (4, 4, 1)), trained_on, labels)
    log_p = np.stack([log_probabilities(logits, labels, 2.0) for logits in bank.logits])
    np.testing.assert_allclose(log_mixture(log_mean(log_p, ~trained_on), 1.0), -5000.0)
    assert np.isfinite(rmia.attack(Evidence(np.tile([-1e4, 1e4], (4, 1)), labels, bank))).all()


def test_beats_the_loss_threshold_where_records_differ_in_difficulty():
    evidence, is_member = random_evidence(6, records=4000, references=8, leak=1.5)
    loss = auc(log_probabilities(evidence.logits, evidence.labels), is_member)
    assert auc(rmia.attack(evidence), is_member) > loss + 0.03


def test_online_two_records_by_hand():
    # In and out, one reference each: 0.8 and 0.6 make 0.7; 0.7 and 0.4 make 0.55.
    evidence = evidence_for([0.9, 0.5], [[0.8, 0.4], [0.6, 0.7]], [[True, False], [False, True]])
    np.testing.assert_allclose(np.exp(rmia_online.attack(evidence)), [0.9 / 0.7, 0.5 / 0.55], rtol=1e-12)


def test_online_each_side_counts_half_however_many_references_it_has():
    # In 0.9; out (0.2 + 0.6) / 2 = 0.4. The mean over all three would be 0.567, not 0.65.
    evidence = evidence_for([0.5], [[0.2], [0.6], [0.9]], [[False], [False], [True]])
    np.testing.assert_allclose(np.exp(rmia_online.attack(evidence)), [0.5 / 0.65], rtol=1e-12)


def test_online_scores_equal_the_plain_formula():
    evidence, _ = random_evidence(7, references=40)
    p = plain_probabilities(evidence.bank.logits, evidence.labels)
    trained_on = evidence.bank.trained_on
    expected = (p.mean(axis=0, where=trained_on) + p.mean(axis=0, where=~trained_on)) / 2
    ratios = plain_probabilities(evidence.logits, evidence.labels) / expected
    np.testing.assert_allclose(np.exp(rmia_online.attack(evidence)), ratios, rtol=1e-9)


def test_online_refuses_a_record_that_no_reference_was_trained_on():
    evidence = evidence_for([0.9, 0.5], [[0.8, 0.4], [0.6, 0.7]], [[True, False], [False, False]])
    with pytest.raises(ValueError, match=r"'rmia_online' expected .* 1 of 2 have none \(attack 'rmia' needs none\)"):
        rmia_online.attack(evidence)


def test_online_beats_the_loss_threshold_where_records_differ_in_difficulty():
    evidence, is_member = random_evidence(6, records=4000, references=16, leak=1.5)
    seen = evidence.bank.trained_on.any(axis=0)
    bank = Bank(evidence.bank.logits[:, seen], evidence.bank.trained_on[:, seen], evidence.labels[seen])
    evidence, is_member = Evidence(evidence.logits[seen], evidence.labels[seen], bank), is_member[seen]
    loss = auc(log_probabilities(evidence.logits, evidence.labels), is_member)
    assert auc(rmia_online.attack(evidence), is_member) > loss + 0.03
