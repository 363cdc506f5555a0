"""The audited network among its references: found by its outputs, and no other training taken for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax

from nas.audit.twins import twin_of

RECORDS = 300


def trainings(seed, *, sure=2.0, noise=1.0, classes=4, count=5):
    """Logits of several trainings on the same records: the same about what is easy, apart by `noise` otherwise."""
    rng = np.random.default_rng(seed)
    easy = rng.normal(0, sure, (RECORDS, classes))
    return [easy + rng.normal(0, noise, easy.shape) for _ in range(count)]


def float16(logits):
    return np.log(np.maximum(softmax(logits, axis=1).astype(np.float16).astype(np.float64), 3e-8))


def rounded(logits):
    return np.log(np.maximum(softmax(logits, axis=1).round(4), 5e-5))


@pytest.mark.parametrize("sure", [1.0, 3.0, 30.0])
@pytest.mark.parametrize(
    "written", [lambda x: x, lambda x: x.astype(np.float32), lambda x: log_softmax(x, axis=1), lambda x: x + 7]
)
def test_the_network_itself_is_found_however_it_was_written(sure, written):
    own, *others = trainings(0, sure=sure)
    for place in range(5):
        references = [*others[:place], written(own), *others[place:]]
        assert twin_of(own, references) == place


@pytest.mark.parametrize("written", [float16, rounded])
def test_the_network_itself_is_found_when_rounded(written):
    own, *others = trainings(0)
    assert twin_of(own, [*others, written(own)]) == 4


def test_nearly_all_records_are_enough():
    own, *others = trainings(0)
    twin = own.copy()
    twin[:10] = others[0][:10]
    assert twin_of(own, [others[0], twin]) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sure", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("noise", [0.001, 0.05, 1.0])
def test_other_trainings_are_not_it_however_alike(seed, sure, noise):
    own, *others = trainings(seed, sure=sure, noise=noise)
    assert twin_of(own, others) is None


def test_networks_that_say_the_same_of_all_records_are_no_sign():
    rng = np.random.default_rng(0)
    prior = np.log([0.9, 0.1]) + rng.normal(0, 1e-4, (6, RECORDS, 2))
    assert twin_of(prior[0], list(prior[1:])) is None
    sure = [np.eye(3)[rng.integers(0, 3, RECORDS)] * 87 for _ in range(2)]
    assert twin_of(sure[0], [sure[0].copy(), sure[1]]) is None  # labels alone cannot tell
