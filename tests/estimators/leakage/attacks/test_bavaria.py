import numpy as np
import pytest
from scipy import stats

from estimators.leakage.attacks import bavaria
from estimators.leakage.attacks import lira_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.online_scores import normals_with_and_without
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr


def evidence_for(phi, references, trained_on):
    """Two-class logits whose log odds of the label are the numbers given."""
    labels = np.zeros(len(phi), int)
    logits = [
        np.stack([values, np.zeros_like(values)], axis=-1) for values in (np.float64(phi), np.float64(references))
    ]
    return Evidence(logits[0], labels, Bank(logits[1], np.array(trained_on, bool), labels))


def test_two_records_by_hand():
    # Trained on the first record: 3 and 5 (mean 4, squares 2); without it: 0 and 2 (mean 1, squares 2).
    # The second: 6 and 6 (mean 6, squares 0) and 1 and 5 (mean 3, squares 8).
    references = [[3.0, 6.0], [5.0, 6.0], [0.0, 1.0], [2.0, 5.0]]
    trained_on = [[True, True], [True, True], [False, False], [False, False]]
    # Pooled within records: in (2 + 0) / 2 = 1, out (2 + 8) / 2 = 5. Degrees of freedom: 8 + 2 - 1 = 9.
    # Variances: in (8 + 2) / 9 and 8 / 9; out (40 + 2) / 9 and (40 + 8) / 9; each times 1 + 1/2.
    scales = np.sqrt(1.5 / 9 * np.array([[10.0, 8.0], [42.0, 48.0]]))
    phi = np.array([3.0, 4.0])
    # Student's t in full: the density falls as (1 + z^2 / 9) to the power of -5; its constants cancel.
    z_in, z_out = (phi - [4.0, 6.0]) / scales[0], (phi - [1.0, 3.0]) / scales[1]
    expected = -5 * np.log1p(z_in**2 / 9) - np.log(scales[0]) + 5 * np.log1p(z_out**2 / 9) + np.log(scales[1])
    np.testing.assert_allclose(bavaria.attack(evidence_for(phi, references, trained_on)), expected, rtol=1e-12)


def test_records_with_more_references_on_one_side_have_more_degrees_of_freedom():
    references = [[1.0, 1.0], [2.0, 4.0], [4.0, 2.0], [3.0, 3.5], [6.0, 9.0]]
    trained_on = [[True, True], [True, True], [True, False], [False, False], [False, False]]
    found = bavaria.attack(evidence_for([2.0, 2.0], references, trained_on))
    # The first record, in: 1, 2 and 4, mean 7/3, squares 14/3; the second, in: 1 and 4, squares 9/2.
    pooled_in, pooled_out = (14 / 3 + 9 / 2) / 3, (9 / 2 + 3 * np.var([2.0, 3.5, 9.0])) / 3
    inside = stats.t(10, 7 / 3, np.sqrt((8 * pooled_in + 14 / 3) / 10 * (4 / 3)))
    outside = stats.t(9, 4.5, np.sqrt((8 * pooled_out + 4.5) / 9 * 1.5))
    assert found[0] == pytest.approx(inside.logpdf(2.0) - outside.logpdf(2.0))


def test_a_strong_prior_is_lira_with_a_predictive_spread(monkeypatch):
    rng = np.random.default_rng(0)
    trained_on = np.stack([rng.permutation(40) < 20 for _ in range(8)])
    trained_on = np.concatenate([trained_on, ~trained_on])
    evidence = evidence_for(rng.normal(0, 2, 40), rng.normal(0, 2, (16, 40)), trained_on)
    monkeypatch.setattr(bavaria, "PRIOR", 1e9)
    bavaria._with_and_without.cache_clear()
    # 8 references on each side: both deviations are larger by the root of 1 + 1/8, and nothing else differs.
    deviations = normals_with_and_without(evidence.bank)
    phi = evidence.logits[:, 0]
    parts = [stats.norm.logpdf(phi, mean, spread * np.sqrt(1.125)) for mean, spread in deviations]
    np.testing.assert_allclose(bavaria.attack(evidence), parts[0] - parts[1], rtol=1e-5)
    bavaria._with_and_without.cache_clear()


def draw(seed, deviation):
    """Draw 16 references and a network. Each record spreads by its own scale, and members' odds are 1.5 of it higher.

    `deviation` is that of the logarithms of the scales; 0: all records spread alike.
    """
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0, deviation, 4000))
    halves = [rng.random(4000) < 0.5 for _ in range(9)]
    trained_on = np.stack([mask for half in halves for mask in (half, ~half)])
    phi = scale * rng.normal(0, 1, trained_on.shape) + 1.5 * scale * trained_on
    return evidence_for(phi[0], phi[2:], trained_on[2:]), trained_on[0]


def test_finds_more_members_at_few_false_alarms_where_spreads_differ():
    rates = []
    for seed in (1, 2):
        evidence, is_member = draw(seed, 1.5)
        rates.append([tpr_at_fpr(each.attack(evidence), is_member, 0.01) for each in (bavaria, lira_online)])
    shrunk, pooled = np.mean(rates, axis=0)
    assert shrunk > pooled + 0.01


def test_loses_next_to_nothing_where_all_spread_alike():
    evidence, is_member = draw(3, 0.0)
    shrunk, pooled = (auc(each.attack(evidence), is_member) for each in (bavaria, lira_online))
    assert pooled - 0.01 < shrunk < pooled
