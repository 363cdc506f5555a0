"""Quantile regression: how sure a network is of records like this one that it never saw."""

from dataclasses import replace

import numpy as np
import pytest

from estimators.leakage.attacks import loss
from estimators.leakage.attacks import quantile_regression
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Population
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.auc_and_rates import auc
from tests.overfit import overfit


def logits_for(phi):
    """Two classes: the log odds of the first are the difference of the logits."""
    return np.stack([phi, np.zeros_like(phi)], axis=1)


def draw(seed, leak, *, records=600, columns=3, law=None):
    """Return evidence and membership; phi of non-members is normal with mean and deviation that the law gives."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (2 * records, columns)).astype(np.float32)
    mean, deviation = (law or (lambda x: (6 * x[:, 0], np.ones(len(x)))))(features)
    is_member = rng.permutation(records) < records // 2
    phi = rng.normal(mean, deviation)
    phi[:records] += leak * deviation[:records] * is_member
    logits, labels = logits_for(phi), np.zeros(2 * records, int)
    population = Population(features[records:], labels[records:], logits[records:])
    return Evidence(logits[:records], labels[:records], None, features[:records], None, population), is_member


def null_error(is_member):
    members, others = is_member.sum(), (~is_member).sum()
    return np.sqrt((members + others + 1) / (12 * members * others))


def test_counts_spreads_above_the_median_of_records_like_it():
    # Two kinds of records: median 10 and spread about 1, median -5 and spread about 3 (normal quantiles at .84).
    evidence, _ = draw(0, 0.0, records=4000, law=lambda x: (np.where(x[:, 0] > 0, 10, -5), np.where(x[:, 0] > 0, 1, 3)))
    easy = evidence.features[:, 0] > 0
    expected = np.where(easy, scaled_logit(evidence.logits, evidence.labels) - 10, 0)
    expected += np.where(easy, 0, (scaled_logit(evidence.logits, evidence.labels) + 5) / 3)
    scores = quantile_regression.attack(evidence)
    assert np.median(np.abs(scores - expected)) < 0.35
    for kind in (easy, ~easy):
        assert np.median(scores[kind]) == pytest.approx(0, abs=0.15)
        assert np.quantile(scores[kind], 0.84) == pytest.approx(1, abs=0.25)


def test_the_label_counts_as_a_class_and_not_as_a_number():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 2000)
    # Every other class is easy: no order of classes says so.
    phi = rng.normal(np.where(labels % 2, 8.0, 0.0), 1)
    logits = np.zeros((2000, 8))
    logits[np.arange(2000), labels] = phi
    features = rng.normal(size=(2000, 2)).astype(np.float32)
    population = Population(features[1000:], labels[1000:], logits[1000:])
    scores = quantile_regression.attack(Evidence(logits[:1000], labels[:1000], None, features[:1000], None, population))
    easy = labels[:1000] % 2 == 1
    assert np.median(scores[easy]) == pytest.approx(np.median(scores[~easy]), abs=0.3)


def test_finds_what_the_loss_cannot_where_difficulty_can_be_seen():
    evidence, is_member = draw(1, 2.0)
    assert auc(loss.attack(evidence), is_member) < 0.68
    assert auc(quantile_regression.attack(evidence), is_member) > 0.82
    assert auc(quantile_regression.attack(evidence), ~is_member) < 0.18


def test_the_spread_counts_beside_the_median():
    # Half of the records vary ten times as much: what is above their median says little.
    law = lambda x: (np.zeros(len(x)), np.where(x[:, 0] > 0, 5.0, 0.5))
    evidence, is_member = draw(2, 2.0, records=2000, law=law)
    assert auc(loss.attack(evidence), is_member) + 0.03 < auc(quantile_regression.attack(evidence), is_member)


@pytest.mark.parametrize("seed", range(3))
def test_finds_nothing_where_nothing_leaks(seed):
    evidence, is_member = draw(seed, 0.0)
    assert auc(quantile_regression.attack(evidence), is_member) == pytest.approx(0.5, abs=4 * null_error(is_member))


@pytest.fixture(scope="module")
def overfitted():
    evidence, is_member = overfit("mlp", references=0)
    return evidence, is_member, quantile_regression.attack(evidence)


def test_beats_the_loss_on_a_network_that_overfits(overfitted):
    evidence, is_member, scores = overfitted
    assert auc(scores, is_member) > auc(loss.attack(evidence), is_member) + 0.02
    unrelated = np.random.default_rng(0).permutation(is_member)
    assert auc(scores, unrelated) == pytest.approx(0.5, abs=4 * null_error(unrelated))


def test_neither_order_nor_precision_nor_shape_matters(overfitted):
    evidence, _, scores = overfitted
    order = np.random.default_rng(0).permutation(len(scores))
    known = evidence.population
    permuted = Evidence(
        evidence.logits[order].astype(float),
        evidence.labels[order],
        features=evidence.features[order].reshape(-1, 1, 8, 8),
        population=Population(known.features.reshape(-1, 1, 8, 8), known.labels, known.logits.astype(float)),
    )
    np.testing.assert_array_equal(quantile_regression.attack(permuted), scores[order])


def test_a_surer_network_is_more_suspect():
    evidence, _ = draw(3, 1.0, records=200)
    surer = replace(evidence, logits=evidence.logits + np.array([1.0, 0.0]))
    assert (quantile_regression.attack(surer) > quantile_regression.attack(evidence)).all()


@pytest.mark.parametrize("columns", [3, 40])
def test_a_population_that_is_all_alike_gives_finite_scores(columns):
    features, labels = np.ones((30, columns)), np.zeros(30, int)
    population = Population(features, labels, np.zeros((30, 2)))
    logits = logits_for(np.linspace(-1e4, 1e4, 30))
    scores = quantile_regression.attack(Evidence(logits, labels, None, features, None, population))
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()


def test_more_classes_than_a_category_can_hold_are_numbers():
    labels = np.arange(300)
    logits = np.random.default_rng(0).normal(size=(300, 300))
    population = Population(np.zeros((300, 1)), labels, logits)
    scores = quantile_regression.attack(Evidence(logits, labels, None, np.zeros((300, 1)), None, population))
    assert np.isfinite(scores).all()


def test_needs_a_population_and_features_and_no_query():
    evidence, _ = draw(4, 1.0, records=50)
    assert quantile_regression.NEEDS == ("population", "queries")
    for missing in ("population", "features"):
        with pytest.raises(ValueError, match=r"'quantile_regression' learns.*with features and a population; got none"):
            quantile_regression.attack(replace(evidence, **{missing: None}))
    few = evidence.population
    few = Population(few.features[:19], few.labels[:19], few.logits[:19])
    with pytest.raises(ValueError, match="'quantile_regression' expected a population of 20 records or more; got 19"):
        quantile_regression.attack(replace(evidence, population=few))
