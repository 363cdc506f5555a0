"""Answers of networks from elsewhere: probabilities and single columns become logits of the same softmax."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.special import softmax

from estimators.leakage.scores import scaled_logit
from nas.audit.answers import Kind
from nas.audit.answers import as_logits
from nas.audit.answers import kind_of
from nas.audit.answers import told

LOGITS = np.random.default_rng(0).normal(0, 3, (200, 5))
LABELS = np.random.default_rng(1).integers(0, 5, 200)
SHARES = softmax(LOGITS, axis=1)


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        (Kind.LOGITS, LOGITS),
        (Kind.LOGITS, np.log(SHARES)),
        (Kind.LOGITS, np.abs(LOGITS) / 20),
        (Kind.LOGITS, expit(LOGITS)),  # independent sigmoids
        (Kind.LOGITS, np.concatenate([SHARES, LOGITS[:1]])),
        (Kind.PROBABILITIES, SHARES),
        (Kind.PROBABILITIES, SHARES.astype(np.float32)),
        (Kind.PROBABILITIES, SHARES.astype(np.float16)),
        (Kind.PROBABILITIES, SHARES.round(4)),
        (Kind.PROBABILITIES, SHARES.round(2).astype(np.float32)),
        (Kind.PROBABILITIES, np.eye(5)[LABELS]),
        (Kind.PROBABILITIES, np.floor(SHARES * 1000) / 1000),
        (Kind.PROBABILITIES, np.floor(SHARES * 256) / 256),
        (Kind.PROBABILITIES, np.vectorize(lambda share: float(f"{share:.2g}"))(SHARES)),
        (Kind.PERCENTAGES, SHARES * 100),
        (Kind.PERCENTAGES, (SHARES * 100).round(1)),
        (Kind.PROBABILITIES, np.stack([1 - expit(LOGITS[:, 0]) - 1e-9, expit(LOGITS[:, 0]) + 1e-9], axis=1)),
        (Kind.PROBABILITY, expit(LOGITS[:, :1])),
        (Kind.LOG_ODDS, LOGITS[:, :1]),
    ],
)
def test_what_answers_are_is_seen(kind, answers):
    assert kind_of(answers) is kind
    assert kind_of(np.stack([answers, answers])) is kind


@pytest.mark.parametrize(("dtype", "off"), [(np.float64, 1e-9), (np.float32, 1e-3), (np.float16, 0.1)])
def test_probabilities_have_the_log_odds_of_their_logits(dtype, off):
    answers = SHARES.astype(dtype)
    found = as_logits(answers, kind_of(answers))
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    wanted, odds = scaled_logit(LOGITS, LABELS), scaled_logit(found, LABELS)
    seen = np.abs(wanted) < 7  # what float16 still tells from 0
    np.testing.assert_allclose(odds[seen], wanted[seen], atol=off)


@pytest.mark.parametrize(("dtype", "off"), [(np.float64, 1e-6), (np.float32, 0.02)])
def test_a_column_has_the_log_odds_of_its_sigmoid(dtype, off):
    odds = LOGITS[:, 0]
    given = expit(odds).astype(dtype)[:, None]
    for answers in (given, odds[:, None]):
        found = as_logits(answers, kind_of(answers))
        assert found.shape == (200, 2)
        np.testing.assert_allclose(found[:, 1] - found[:, 0], odds, atol=off)


def test_what_rounded_to_certainty_stays_in_order_and_in_sight():
    forest = np.array([[1.0, 0.0], [0.99, 0.01], [0.5, 0.5], [0.0, 1.0]])
    odds = scaled_logit(as_logits(forest, kind_of(forest)), np.zeros(4, int))
    assert (np.diff(odds) < 0).all()
    assert np.abs(odds).max() < 6  # log odds of a two-hundredth, not of the smallest number there is
    column = forest[:, 1:]
    np.testing.assert_allclose(scaled_logit(as_logits(column, kind_of(column)), np.zeros(4, int)), odds, atol=0.01)
    half = np.array([[1.0, 0.0, 0.0], [0.999, 0.001, 6e-8]], np.float16)
    assert as_logits(half, Kind.PROBABILITIES).min() == pytest.approx(np.log(3e-8), abs=0.1)
    only = np.eye(3)
    assert np.isfinite(as_logits(only, kind_of(only))).all()
    np.testing.assert_array_equal(as_logits(only, kind_of(only)).argmax(axis=1), [0, 1, 2])


def test_percentages_have_the_log_odds_of_their_logits():
    turned = as_logits(SHARES * 100, Kind.PERCENTAGES)
    assert scaled_logit(turned, LABELS) == pytest.approx(scaled_logit(LOGITS, LABELS), abs=1e-9)


def test_logits_are_left_as_they_are():
    assert as_logits(LOGITS, Kind.LOGITS) is LOGITS
    assert told(LOGITS, Kind.LOGITS, "logits") is None
    assert told(np.zeros((3, 2)), Kind.LOGITS, "logits") is None


def test_what_was_done_is_said():
    assert told(SHARES, Kind.PROBABILITIES, "logits") == (
        "logits: recognised as probabilities, and turned into logits of the same softmax"
    )
    assert "do not sum to 1" in told(expit(LOGITS), Kind.LOGITS, "logits")
