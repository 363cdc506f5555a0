import tracemalloc
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import softmax

from estimators.leakage.statistics import record_risk
from estimators.leakage.statistics.record_risk import kendall_tau
from estimators.leakage.statistics.record_risk import shapr
from estimators.leakage.statistics.record_risk import spearman_rho

few = settings(max_examples=40, deadline=None, derandomize=True)


def draw(rng, records, tests, classes=3, decimals=9):
    logits = rng.normal(0, 2, (records + tests, classes)).round(decimals)
    labels = rng.integers(0, classes, records + tests)
    return logits[:records], labels[:records], logits[records:], labels[records:]


def brute_force(logits, labels, test_logits, test_labels):
    """Shapley values by their definition; of nearest neighbours at the same distance, one is drawn."""
    outputs, tests = softmax(logits, axis=1), softmax(test_logits, axis=1)
    distances = cdist(tests, outputs, "sqeuclidean")
    records = len(labels)

    def worth(coalition):
        if not coalition:
            return 0.0
        near = distances[:, coalition]
        nearest = near == near.min(axis=1, keepdims=True)
        right = labels[list(coalition)] == test_labels[:, None]
        return np.mean((nearest & right).sum(axis=1) / nearest.sum(axis=1))

    values = np.zeros(records)
    for record in range(records):
        rest = [other for other in range(records) if other != record]
        for size in range(records):
            gains = [worth((*group, record)) - worth(group) for group in combinations(rest, size)]
            values[record] += sum(gains) / comb(records - 1, size) / records
    return values * records


@few
@given(seed=st.integers(0, 2**32 - 1), records=st.integers(1, 7), decimals=st.sampled_from([9, 0, -1]))
def test_shapr_is_the_shapley_value_over_all_coalitions(seed, records, decimals):
    # Rounded logits: many records are equal, and so are their distances.
    given_ = draw(np.random.default_rng(seed), records, 3, decimals=decimals)
    np.testing.assert_allclose(shapr(*given_), brute_force(*given_), atol=1e-9)


def test_shapr_equals_the_published_recursion():
    logits, labels, test_logits, test_labels = draw(np.random.default_rng(0), 60, 25)
    outputs, tests, expected = softmax(logits, axis=1), softmax(test_logits, axis=1), np.zeros(60)
    for output, label in zip(tests, test_labels, strict=True):
        order = np.argsort(np.linalg.norm(outputs - output, axis=1))
        right = (labels[order] == label).astype(float)
        values = np.zeros(60)
        values[59] = right[59] / 60
        for rank in range(59, 0, -1):
            values[rank - 1] = values[rank] + (right[rank - 1] - right[rank]) / rank
        expected[order] += values
    np.testing.assert_allclose(shapr(logits, labels, test_logits, test_labels), expected * 60 / 25, atol=1e-10)


def test_shapr_by_hand():
    # One test record of class 0; the nearest training record is of class 0, the farther one of class 1. Alone, either
    # one is the classifier: worth 1 and 0. Together 1. Values 1 and 0, times two records.
    found = shapr(np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([0, 1]), np.array([[2.0, 0.0]]), np.array([0]))
    assert found.tolist() == pytest.approx([2.0, 0.0])


@few
@given(seed=st.integers(0, 2**32 - 1), decimals=st.sampled_from([9, 0]))
def test_the_mean_of_shapr_is_accuracy_not_leakage(seed, decimals):
    logits, labels, test_logits, test_labels = draw(np.random.default_rng(seed), 40, 20, decimals=decimals)
    outputs, tests = softmax(logits, axis=1), softmax(test_logits, axis=1)
    distances = cdist(tests, outputs, "sqeuclidean")
    nearest = distances == distances.min(axis=1, keepdims=True)
    right = (nearest & (labels == test_labels[:, None])).sum(axis=1) / nearest.sum(axis=1)
    assert shapr(logits, labels, test_logits, test_labels).mean() == pytest.approx(right.mean())


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_records_changes_nothing_even_among_equals(seed):
    rng = np.random.default_rng(seed)
    logits, labels, test_logits, test_labels = draw(rng, 30, 10, classes=2, decimals=0)
    # As confident as trained networks are: all outputs round to 0 and 1.
    logits, order, tests = logits * 500, rng.permutation(30), rng.permutation(10)
    found = shapr(logits, labels, test_logits, test_labels)
    again = shapr(logits[order], labels[order], test_logits[tests], test_labels[tests])
    np.testing.assert_allclose(again, found[order], atol=1e-12)
    for one, other in combinations(range(30), 2):
        if labels[one] == labels[other] and np.array_equal(logits[one], logits[other]):
            assert found[one] == pytest.approx(found[other], abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 70, 1000])
def test_chunks_change_nothing(monkeypatch, chunk):
    given_ = draw(np.random.default_rng(1), 30, 11, decimals=0)
    whole = shapr(*given_)
    monkeypatch.setattr(record_risk, "CHUNK", chunk)
    np.testing.assert_allclose(shapr(*given_), whole, atol=1e-12)


def test_a_mislabelled_record_is_below_zero():
    logits = np.repeat(np.eye(2) * 4, 20, axis=0) + np.random.default_rng(2).normal(0, 0.1, (40, 2))
    labels = np.repeat([0, 1], 20)
    wrong = labels.copy()
    wrong[3] = 1
    found = shapr(logits, wrong, logits + 0.01, labels)
    assert found[3] < 0
    assert np.argmin(found) == 3


def test_shapr_holds_no_table_of_all_pairs():
    given_ = draw(np.random.default_rng(3), 5000, 400, classes=10)
    tracemalloc.start()
    shapr(*given_)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One table of 5,000 x 400 distances alone is 15 MiB; the dozen arrays of a chunk are 2 MiB each.
    assert peak < 45 * 2**20


def correlated(rng, correlation, records):
    return rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], records).T


@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.8])
def test_agreement_covers_the_truth(correlation):
    rng = np.random.default_rng(4)
    truths = {kendall_tau: 2 / np.pi * np.arcsin(correlation), spearman_rho: 6 / np.pi * np.arcsin(correlation / 2)}
    draws = [correlated(rng, correlation, 60) for _ in range(400)]
    for measure, truth in truths.items():
        found = [measure(*draw) for draw in draws]
        assert 0.92 <= np.mean([f.low <= truth <= f.high for f in found]) <= 0.985


def test_agreement_by_hand():
    risk, other = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1.0, 2, 3, 5, 4, 6])
    # One of 15 pairs is discordant: 13/15. Two squared differences of 1: 1 - 6 * 2 / (6 * 35).
    assert kendall_tau(risk, other).value == pytest.approx(13 / 15)
    assert spearman_rho(risk, other).value == pytest.approx(1 - 12 / 210)
    # Fisher's z: atanh(13/15) less 1.96 sqrt(0.437 / 2).
    assert kendall_tau(risk, other).low == pytest.approx(
        np.tanh(np.arctanh(13 / 15) - 1.959964 * 0.2185**0.5), abs=1e-6
    )


@pytest.mark.parametrize("measure", [kendall_tau, spearman_rho])
def test_perfect_agreement_is_not_certainty(measure):
    risk = np.arange(12.0)
    same, turned = measure(risk, np.exp(risk)), measure(risk, -risk)
    assert (same.value, same.high) == pytest.approx((1.0, 1.0))
    assert 0.5 < same.low < 0.99
    assert (turned.value, turned.low, turned.high) == pytest.approx((-same.value, -same.high, -same.low))
    assert measure(risk, risk, 0.5).low > same.low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: shapr(g[0], g[1], g[2][:, :2], g[3] * 0), "as many classes in both; got 3 and 2"),
        (lambda g: shapr(g[0] * np.nan, g[1], g[2], g[3]), "the network on training records gave NaN"),
        (lambda g: shapr(g[0], g[1], g[2], g[3] + 3), "labels from 0 to 2"),
        (lambda g: shapr(g[0], g[1][:2], g[2], g[3]), "expected logits"),
        (lambda g: shapr(g[0], g[1], g[2][:0], g[3][:0]), "at least one record"),
        (lambda g: kendall_tau(np.arange(4.0), np.arange(4.0)), r"at least 5 records; got \(4,\)"),
        (lambda g: kendall_tau(np.arange(6.0), np.arange(5.0)), r"got \(6,\) and \(5,\)"),
        (lambda g: spearman_rho(np.arange(6.0), np.ones(6)), "got NaN or all equal"),
        (lambda g: spearman_rho(np.arange(6.0) * np.nan, np.arange(6.0)), "got NaN or all equal"),
        (lambda g: spearman_rho(np.arange(6.0), np.arange(6.0), 95), "confidence between 0 and 1; got 95"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call(draw(np.random.default_rng(5), 6, 4))
    assert "\n" not in str(refusal.value)
