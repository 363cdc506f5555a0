import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.special import logit

from estimators.leakage.scores import log_probabilities
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
