"""Quick models beside a search: what they reach, and the ceiling that they set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from estimators.estimate import Estimate
from nas.preprocessing.preprocessing import unchanged
from nas.pricing.limits import CEILING
from nas.records import Records
from nas.records import Splits
from nas.split_overview import Overview
from nas.training import baselines
from nas.training.baselines import FOREST
from nas.training.baselines import LINEAR
from nas.training.baselines import MAJORITY
from nas.training.baselines import Baseline
from nas.training.baselines import baseline_of
from nas.training.baselines import error_ceiling
from nas.training.baselines import train_baselines

COUNTS = {"members": 120, "non_members": 120, "validation": 90, "reserve": 30, "test": 30}


def records(count, seed, *, noise=1.0, classes=3, shape=(6,)):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    features = noise * rng.normal(size=(count, *shape))
    features.reshape(count, -1)[:, :classes] += 3 * np.eye(classes)[labels]
    return Records(features.astype(np.float32), labels, tuple("abcdef"[:classes]))


def splits(**options):
    sets = {name: records(count, seed, **options) for seed, (name, count) in enumerate(COUNTS.items())}
    members = sets["members"]
    preprocessing = unchanged(members.input_shape, members.classes)
    return Splits(
        **sets, fingerprint="made up", preprocessing=preprocessing, overview=Overview(390, COUNTS, 0, 0, None, 390, 1)
    )


def by_name(found):
    return {baseline.name: baseline for baseline in found}


def test_quick_models_are_measured_as_candidates_are():
    found = by_name(train_baselines(splits(noise=2.0), 0))
    assert list(found) == [MAJORITY, LINEAR, FOREST]
    assert found[MAJORITY].error.value == pytest.approx(2 / 3)
    assert found[MAJORITY].loss_auc.value == 0.5  # it says the same of all
    assert found[LINEAR].error.value < 0.4
    assert found[FOREST].error.value < 0.4
    assert found[FOREST].loss_auc.low > 0.7  # it knows its members by heart
    assert found[LINEAR].loss_auc.value < found[FOREST].loss_auc.value
    for baseline in found.values():
        assert baseline.error.low <= baseline.error.value < baseline.error.high
        assert baseline.members == 120


def test_the_same_seed_gives_the_same_numbers_and_another_one_another_forest():
    data = splits(noise=2.0)
    assert train_baselines(data, 3) == train_baselines(data, 3)
    assert by_name(train_baselines(data, 4))[FOREST] != by_name(train_baselines(data, 3))[FOREST]


def test_images_are_flattened():
    assert by_name(train_baselines(splits(shape=(1, 4, 4)), 0))[LINEAR].error.value < 0.1


def test_of_many_records_and_features_a_part_is_taken(monkeypatch):
    monkeypatch.setattr(baselines, "MOST_RECORDS", 50)
    monkeypatch.setattr(baselines, "MOST_FEATURES", 4)
    seen = []
    fitted = baselines._fitted
    monkeypatch.setattr(baselines, "_fitted", lambda *told: seen.append(told[1].shape) or fitted(*told))
    found = train_baselines(splits(), 0)
    assert seen == [(50, 4)] * 3
    assert {baseline.members for baseline in found} == {50}


def test_the_work_is_bounded_by_counts():
    features, labels = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
    assert len(baselines._fitted(FOREST, features, labels, 2, 0).estimators_) == 100
    assert len(baselines._fitted(FOREST, features, labels, 10**6, 0).estimators_) == 10
    assert baselines._fitted(LINEAR, features, labels, 2, 0).max_iter == 200
    assert baselines._fitted(LINEAR, features, labels, 10**9, 0).max_iter == 20


def test_a_class_that_no_member_has_is_never_expected():
    data = splits(classes=4)
    lacking = dataclasses.replace(data, members=data.members.select(data.members.labels != 1))
    for baseline in train_baselines(lacking, 0)[1:]:
        assert baseline.error.value > 0.2  # all records of that class
        assert baseline.loss_auc.value > 0.6  # every one of them is taken for a non-member


def baseline(name, error, high):
    return Baseline(name, Estimate(error, 0.0, high), Estimate.exact(0.5), 10)


@pytest.mark.parametrize(
    ("majority", "linear", "high", "ceiling", "reason"),
    [
        (0.9, 0.06, 0.1, 0.12, "twice the error of logistic regression, 0.06"),
        (0.9, 0.02, 0.08, 0.08, "upper end of the 95 % interval of logistic regression's error, 0.02"),
        (0.9, 0.0, 0.03, 0.03, "upper end of the 95 % interval of logistic regression's error, 0"),
        (0.1, 0.06, 0.09, 0.1, "the error of always naming the most frequent class"),
    ],
)
def test_the_ceiling_by_hand(majority, linear, high, ceiling, reason):
    found = error_ceiling([baseline(MAJORITY, majority, 1.0), baseline(LINEAR, linear, high)])
    assert (found.metric, found.value, found.reason, found.kind) == ("error", ceiling, reason, CEILING)


def test_without_baselines_there_is_no_ceiling():
    assert error_ceiling([]) is None
    assert error_ceiling([baseline(LINEAR, 0.1, 0.2)]) is None


def test_a_baseline_survives_being_written():
    for found in train_baselines(splits(), 0):
        assert baseline_of(found.row) == found
