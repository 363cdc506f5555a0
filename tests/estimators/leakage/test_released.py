"""Versions of one network released together: never less than the plain ratio, more where they err apart."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from scipy.stats import rankdata

from estimators.leakage.attacks import lira_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.released import RIDGE
from estimators.leakage.released import together
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_difference
from estimators.leakage.statistics.auc_and_rates import auc_interval
from tests.audits import draw


def made(*, leak=3.5, records=2000, references=8):
    return draw(0, leak, records=records, references=references)


def noisy(evidence, seed, spread=2.0):
    """A version of a network, and of its shadows, that errs on its own."""
    rng = np.random.default_rng(seed)
    bank = replace(evidence.bank, logits=evidence.bank.logits + rng.normal(0, spread, evidence.bank.logits.shape))
    return replace(evidence, logits=evidence.logits + rng.normal(0, spread, evidence.logits.shape), bank=bank)


def of_rows(evidence, rows):
    bank = evidence.bank
    bank = Bank(bank.logits[:, rows], bank.trained_on[:, rows], bank.labels[rows])
    return Evidence(evidence.logits[rows], evidence.labels[rows], bank)


@pytest.mark.parametrize("references", [4, 8, 62])
def test_a_single_version_ranks_as_online_lira_does(references):
    evidence, _ = made(records=300, references=references)
    np.testing.assert_array_equal(rankdata(together([evidence])), rankdata(lira_online.attack(evidence)))


def test_scores_equal_the_plain_formula():
    evidence, _ = made(records=40)
    versions = [evidence, noisy(evidence, 1), noisy(evidence, 2)]
    own = np.stack([scaled_logit(version.logits, version.labels) for version in versions], axis=-1)
    phi = np.stack([[scaled_logit(one, evidence.labels) for one in version.bank.logits] for version in versions], -1)
    sides = []
    for mask in (evidence.bank.trained_on, ~evidence.bank.trained_on):
        means = np.array([phi[mask[:, x], x].mean(axis=0) for x in range(40)])
        residuals = np.concatenate([phi[mask[:, x], x] - means[x] for x in range(40)])
        pooled = residuals.T @ residuals / (len(residuals) - 40)
        pooled += RIDGE * np.trace(pooled) / 3 * np.eye(3)
        sides.append([multivariate_normal.logpdf(own[x], means[x], pooled) for x in range(40)])
    np.testing.assert_allclose(together(versions), np.subtract(*sides), rtol=1e-9)


def test_versions_that_err_apart_leak_more_than_each():
    evidence, is_member = made()
    versions = [noisy(evidence, 1), noisy(evidence, 2)]
    joint = together(versions)
    for version in versions:
        more = auc_difference(joint, together([version]), is_member)
        assert more.estimate.low > 0.02
        assert more.p_value < 1e-6
    four = together([noisy(evidence, seed) for seed in range(1, 5)])
    assert auc(four, is_member) > auc(joint, is_member) + 0.01


def test_the_same_version_twice_leaks_no_more():
    evidence, is_member = made()
    once, twice = together([evidence]), together([evidence, evidence])
    assert np.isfinite(twice).all()
    assert auc(twice, is_member) == pytest.approx(auc(once, is_member), abs=1e-3)
    # Nor does one that differs in the last digits.
    nearly = together([evidence, noisy(evidence, 1, spread=1e-7)])
    assert np.isfinite(nearly).all()
    assert auc(nearly, is_member) == pytest.approx(auc(once, is_member), abs=1e-3)


def test_versions_that_never_saw_the_records_leak_nothing_together():
    evidence, is_member = made(leak=0.0)
    found = auc_interval(together([evidence, noisy(evidence, 1), noisy(evidence, 2)]), is_member)
    assert found.low <= 0.5 <= found.high


def test_members_score_higher_in_a_weak_version_too():
    evidence, is_member = made()
    silent = replace(evidence, logits=0 * evidence.logits, bank=replace(evidence.bank, logits=0 * evidence.bank.logits))
    assert auc(together([evidence]), is_member) > 0.8
    scores = together([evidence, silent])
    assert np.isfinite(scores).all()
    assert auc(scores, is_member) == pytest.approx(auc(together([evidence]), is_member), abs=1e-3)
    # All versions silent: nothing to tell records by, and no NaN.
    np.testing.assert_array_equal(together([silent, silent]), np.zeros(len(is_member)))


def test_the_order_of_versions_and_of_records_changes_nothing():
    evidence, _ = made(records=200)
    versions = [evidence, noisy(evidence, 1)]
    scores = together(versions)
    np.testing.assert_allclose(together(versions[::-1]), scores, rtol=1e-9)
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_allclose(together([of_rows(version, order) for version in versions]), scores[order], rtol=1e-9)


def test_who_was_in_and_who_was_out_changed_over_turns_the_score():
    evidence, _ = made(records=200)
    turned = replace(evidence, bank=replace(evidence.bank, trained_on=~evidence.bank.trained_on))
    np.testing.assert_allclose(together([turned]), -together([evidence]), rtol=1e-9)


def test_what_does_not_fit_is_refused():
    evidence, _ = made(records=60)
    with pytest.raises(ValueError, match=r"^expected at least one version; got none$"):
        together([])
    with pytest.raises(ValueError, match="together"):
        together([evidence, replace(evidence, bank=None)])
    others = replace(evidence.bank, trained_on=~evidence.bank.trained_on)
    with pytest.raises(ValueError, match=r"^expected banks of the same shadows for all versions"):
        together([evidence, replace(evidence, bank=others)])
    with pytest.raises(ValueError, match=r"^expected banks of the same shadows for all versions"):
        together([evidence, of_rows(evidence, np.arange(50))])


@pytest.mark.parametrize("inside", [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]])
def test_records_with_too_few_shadows_are_refused(inside):
    evidence, _ = made(records=60, references=4)
    trained_on = evidence.bank.trained_on.copy()
    trained_on[:, 7] = inside
    bank = replace(evidence.bank, trained_on=trained_on)
    with pytest.raises(ValueError, match=r"two that left it out; 1 of 60 records have fewer$"):
        together([replace(evidence, bank=bank)])
