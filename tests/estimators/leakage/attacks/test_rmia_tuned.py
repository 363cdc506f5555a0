import numpy as np
import pytest

from estimators.leakage.attacks import rmia
from estimators.leakage.attacks import rmia_tuned
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_mean
from estimators.leakage.scores import log_mixture
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import auc


def draw(member_odds, *, records=2000, references=8, seed=0, noise=1.0):
    """Draw two-class networks: log odds of records not trained on spread widely, members gain `member_odds`."""
    rng = np.random.default_rng(seed)
    halves = [rng.permutation(records) < records // 2 for _ in range(references // 2 + 1)]
    trained_on = np.stack([mask for half in halves for mask in (half, ~half)])
    phi = rng.normal(1.0, 3.0, records) + rng.normal(0, noise, trained_on.shape)
    phi = np.where(trained_on, member_odds(phi), phi)
    logits = np.stack([phi, np.zeros_like(phi)], axis=-1)
    labels = np.zeros(records, int)
    return Evidence(logits[0], labels, Bank(logits[2:], trained_on[2:], labels)), trained_on[0]


def chosen(bank):
    return rmia_tuned._slope(
        np.stack([log_probabilities(logits, bank.labels, rmia_tuned.TEMPERATURE) for logits in bank.logits]), bank
    )


def test_scores_are_those_of_rmia_with_the_constant_that_was_chosen(monkeypatch):
    evidence, _ = draw(lambda phi: phi + 1.0)
    monkeypatch.setattr(rmia, "SLOPE", chosen(evidence.bank))
    rmia._log_expected.cache_clear()
    np.testing.assert_array_equal(rmia_tuned.attack(evidence), rmia.attack(evidence))
    rmia._log_expected.cache_clear()


def test_members_known_by_heart_want_a_small_constant_and_a_shift_of_all_a_large_one():
    # Known by heart: every member's odds are high whatever they were without it, so P_in is 1 and a is 0.
    by_heart, _ = draw(lambda phi: np.full_like(phi, 9.0) + 0.1 * phi)
    shifted, _ = draw(lambda phi: phi + 0.7)
    assert chosen(by_heart.bank) <= 0.2
    assert chosen(shifted.bank) >= 0.8


def test_where_members_are_little_surer_it_finds_more_than_the_published_constant():
    evidence, is_member = draw(lambda phi: phi + 1.0, records=4000, noise=0.7)
    assert auc(rmia_tuned.attack(evidence), is_member) > auc(rmia.attack(evidence), is_member) + 0.02


def test_the_choice_is_the_best_constant_on_the_first_four_references_each_attacked_with_all_others():
    evidence, _ = draw(lambda phi: phi + 1.5, references=6, records=300)
    bank = evidence.bank
    log_p = np.stack([log_probabilities(logits, bank.labels, 2.0) for logits in bank.logits])
    means = []
    for slope in np.arange(11) / 10:
        aucs = []
        for own in range(4):
            rest = [other for other in range(6) if other != own]
            out = log_mean(log_p[rest], ~bank.trained_on[rest])
            aucs.append(auc(log_p[own] - log_mixture(out, slope), bank.trained_on[own]))
        means.append(np.mean(aucs))
    assert chosen(bank) == np.argmax(means) / 10


def test_the_audited_network_takes_no_part_in_the_choice():
    evidence, _ = draw(lambda phi: phi + 1.0, records=500)
    other = Evidence(-evidence.logits, evidence.labels, evidence.bank)
    expected = [
        log_probabilities(each.logits, each.labels, 2.0) - rmia_tuned.attack(each) for each in (evidence, other)
    ]
    np.testing.assert_allclose(expected[0], expected[1], rtol=1e-9)


def test_a_reference_whose_members_are_all_or_no_records_is_passed_over():
    evidence, _ = draw(lambda phi: phi + 1.0, records=400)
    trained_on = evidence.bank.trained_on.copy()
    trained_on[0] = False
    bank = Bank(evidence.bank.logits, trained_on, evidence.labels)
    assert np.isfinite(rmia_tuned.attack(Evidence(evidence.logits, evidence.labels, bank))).all()


def test_a_single_reference_is_refused():
    evidence, _ = draw(lambda phi: phi + 1.0, records=10)
    bank = Bank(evidence.bank.logits[:1], np.zeros((1, 10), bool), evidence.labels)
    with pytest.raises(ValueError, match="expected two or more; got 1"):
        rmia_tuned.attack(Evidence(evidence.logits, evidence.labels, bank))
