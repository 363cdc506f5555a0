import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.special import logit

from estimators.leakage.scores import log_mean
from estimators.leakage.scores import log_odds
from estimators.leakage.scores import log_probabilities
from estimators.leakage.scores import reference_normal
from estimators.leakage.scores import scaled_logit

few = settings(max_examples=60, deadline=None, derandomize=True)


def draw(seed, records=50, classes=4, scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, (records, classes)), rng.integers(0, classes, records)


@few
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 12), temperature=st.floats(0.5, 8))
def test_formulas_equal_the_textbook(seed, classes, temperature):
    logits, labels = draw(seed, classes=classes)
    log_p = log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]
    np.testing.assert_allclose(log_probabilities(logits, labels, temperature), log_p, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaled_logit(logits, labels, temperature), logit(np.exp(log_p)), rtol=1e-6, atol=1e-6)


def test_by_hand():
    # Three equal logits: p = 1/3, odds 1 to 2. Logit 2 log 9 at temperature 2: odds 9 to 1, p = 0.9.
    assert log_probabilities(np.zeros((1, 3)), np.array([1])) == pytest.approx(-np.log(3))
    assert scaled_logit(np.zeros((1, 3)), np.array([1])) == pytest.approx(-np.log(2))
    assert np.exp(log_probabilities(np.array([[2 * np.log(9), 0]]), np.array([0]), 2.0)) == pytest.approx(0.9)


def test_a_shift_of_all_logits_changes_nothing():
    logits, labels = draw(0)
    np.testing.assert_allclose(scaled_logit(logits + 1e4, labels), scaled_logit(logits, labels), atol=1e-10)


def test_extreme_logits_stay_finite_and_apart():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [700.0, 0.0], [40.0, 0.0], [41.0, 0.0]])
    log_p = log_probabilities(logits, np.zeros(5, int))
    assert log_p[:2].tolist() == [0.0, -2e4]
    # Plain log softmax gives 0 for the last three.
    assert log_p[3] < log_p[4] < log_p[2] < 0
    assert scaled_logit(logits, np.zeros(5, int)).tolist() == [2e4, -2e4, 700.0, 40.0, 41.0]


def test_single_precision_is_computed_in_double_and_nothing_is_written():
    logits, labels = draw(1)
    logits = logits.astype(np.float32)
    logits.flags.writeable = False
    for formula in (log_probabilities, scaled_logit):
        assert formula(logits, labels).dtype == np.float64
        np.testing.assert_array_equal(formula(logits, labels, 2.0), formula(logits.astype(np.float64), labels, 2.0))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match="expected a positive temperature; got"):
        log_probabilities(*draw(2), temperature)


@few
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 12), scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]))
def test_odds_of_every_class_are_the_scaled_logits(seed, classes, scale):
    logits, _ = draw(seed, classes=classes, scale=scale)
    logits[0, :2] = logits[0].max()
    for label in range(classes):
        expected = scaled_logit(logits, np.full(len(logits), label))
        np.testing.assert_allclose(log_odds(logits)[:, label], expected, rtol=1e-12, atol=1e-12)


def test_odds_of_a_certain_class_do_not_tie_and_nothing_is_written():
    logits = np.float32([[40.0, 0.0, 0.0], [41.0, 0.0, 0.0], [1e4, -1e4, -1e4], [0.0, 0.0, 0.0]])
    logits.flags.writeable = False
    odds = log_odds(logits)
    assert odds.dtype == np.float64
    np.testing.assert_allclose(odds[:, 0], np.array([40.0, 41.0, 2e4, 0.0]) - np.log(2), rtol=1e-15)
    np.testing.assert_allclose(odds[:2, 1], [-40.0, -41.0], rtol=1e-15)


def test_the_mean_probability_is_over_the_marked_references():
    # (0.2 + 0.6) / 2 and 0.5; then exp(-5000), which is 0 as a float.
    log_p = np.array([[np.log(0.2), np.log(0.5), -5000.0], [np.log(0.6), np.log(0.9), -5000.0]])
    among = np.array([[True, True, True], [True, False, True]])
    np.testing.assert_allclose(log_mean(log_p, among), [np.log(0.4), np.log(0.5), -5000.0], rtol=1e-12)


def test_the_pooled_deviation_is_centred_on_each_record():
    # Means 2, 2 and 7; squares 2, 8 and 0 over 1 + 1 + 0 degrees of freedom: variance 5.
    values = np.array([[1.0, 0.0, 7.0], [3.0, 4.0, 99.0]])
    among = np.array([[True, True, True], [True, True, False]])
    mean, deviation = reference_normal(values, among)
    assert mean.tolist() == [2.0, 2.0, 7.0]
    np.testing.assert_allclose(deviation, np.sqrt([5.0, 5.0, 5.0]), rtol=1e-15)
    # Records harder or easier than others do not widen it.
    np.testing.assert_allclose(reference_normal(values + np.array([0.0, 1e3, -1e3]), among)[1], deviation, rtol=1e-12)


@pytest.mark.parametrize("references", [63, 64])
def test_records_have_a_deviation_of_their_own_from_64_references_on(references):
    rng = np.random.default_rng(3)
    values = rng.normal(0, [1.0, 5.0], (references, 2))
    among = rng.random((references, 2)) < 0.5
    own = np.array([values[mask, record].var(ddof=1) for record, mask in enumerate(among.T)])
    degrees = among.sum(axis=0) - 1
    expected = own if references == 64 else np.full(2, (own * degrees).sum() / degrees.sum())
    np.testing.assert_allclose(reference_normal(values, among)[1], np.sqrt(expected), rtol=1e-12)


def test_a_spread_nobody_knows_is_one_and_no_spread_is_still_positive():
    values = np.array([[1.0, 2.0], [1.0, 2.0]])
    alone = np.array([[True, False], [False, True]])
    assert reference_normal(values, alone)[1].tolist() == [1.0, 1.0]
    assert (reference_normal(values, np.ones((2, 2), bool))[1] > 0).all()
    # One record of 64 references with a single one: pooled.
    among = np.ones((64, 2), bool)
    among[1:, 1] = False
    wide = np.random.default_rng(4).normal(0, 1, (64, 2))
    np.testing.assert_allclose(reference_normal(wide, among)[1], wide[:, 0].std(ddof=1), rtol=1e-12)
