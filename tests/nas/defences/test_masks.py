"""What hides confidences is no defence: every attack on predicted classes scores as before (G6, L2).

It is asked of every defence that has answers of its own, at every value that a search samples, and of a temperature,
against every attack that says it reads predicted classes alone. A file that is added to either folder is asked too.
"""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.leakage.attacks import loss
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from nas.base import plugins
from nas.search.config import extremes_of
from nas.search.config import middle_of
from nas.search.defence_settings import settings_of
from nas.training.defence import load_defence
from tests.defended import DEFENCES

ATTACKS = "estimators.leakage.attacks"
LABEL_ONLY = [name for name in plugins.available(ATTACKS, "attack") if plugins.find(ATTACKS, name, "LABEL_ONLY")]
MASKS = [name for name in DEFENCES if load_defence(name).answers is not None]
few = settings(max_examples=8, deadline=None, derandomize=True)


def values_of(setting):
    return setting if isinstance(setting, list) else [*extremes_of(setting), middle_of(setting)]


def masks_of(name):
    """The answers of a defence at every value of its lists, and at the ends and in the middle of its ranges."""
    defence = load_defence(name)
    sampled = settings_of([defence])[name].settings
    points = product(*(values_of(setting) for setting in sampled.values()))
    return [defence.answers(**dict(zip(sampled, point, strict=True))) for point in points]


def network(seed):
    """Two layers of chance, six features and four classes."""
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(0, 2, shape).astype(np.float32) for shape in ((6, 12), (12, 4)))
    return Oracle(lambda features: np.maximum(np.asarray(features, np.float32) @ first, 0) @ second)


def evidence_of(oracles, records=30, seed=0):
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(0, 1, (records, 6)).astype(np.float32), rng.integers(0, 4, records)
    logits = np.stack([oracle.query(features) for oracle in oracles])
    half = np.arange(records) % 2 == 0
    bank = Bank(logits[1:], np.stack([half, ~half]), labels, tuple(oracles[1:]))
    return Evidence(logits[0], labels, bank, features, oracles[0])


def behind(change):
    """The same network and references, asked through a change of their answers."""
    asked = lambda oracle: Oracle(lambda features: change(oracle.query(features)))
    return evidence_of([asked(network(seed)) for seed in range(3)])


def scores(attack, evidence):
    return plugins.load(ATTACKS, attack, "attack")(evidence)


def masked(answers):
    return lambda logits: answers(torch.from_numpy(np.asarray(logits, np.float32))).numpy()


@pytest.mark.parametrize("attack", LABEL_ONLY)
@few
@given(temperature=st.floats(0.05, 200))
def test_no_temperature_changes_what_predicted_classes_tell(attack, temperature):
    soft = behind(lambda logits: logits / np.float32(temperature))
    np.testing.assert_array_equal(scores(attack, soft), scores(attack, behind(lambda logits: logits)))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attack", LABEL_ONLY)
def test_no_mask_changes_what_predicted_classes_tell(attack, mask):
    plain = behind(lambda logits: logits)
    expected = scores(attack, plain)
    for answers in masks_of(mask):
        hidden = behind(masked(answers))
        np.testing.assert_array_equal(scores(attack, hidden), expected)
        # It does hide something, or nothing would have been tried.
        assert not np.array_equal(loss.attack(hidden), loss.attack(plain))


def test_there_are_masks_and_attacks_to_ask():
    assert {"memguard", "confidence_rounding"} <= set(MASKS)
    assert {"gap", "label_augment", "label_noise", "label_boundary"} <= set(LABEL_ONLY)


@pytest.mark.parametrize("attack", LABEL_ONLY)
def test_an_answer_of_another_class_is_seen(attack):
    """The planted fault: a mask that names the second class where two are close."""

    def turned(logits):
        order = np.sort(logits, axis=1)
        close = order[:, -1] - order[:, -2] < 2
        return np.where(close[:, None] & (logits == order[:, -1:]), order[:, -2:-1] - 1, logits)

    plain = behind(lambda logits: logits)
    assert not np.array_equal(scores(attack, behind(turned)), scores(attack, plain))
