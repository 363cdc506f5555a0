"""What a search says about how its records were divided."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nas.records import Records
from nas.records import split
from nas.split_overview import FEW_GROUPS
from nas.split_overview import overview_in


def records_of(count, **more):
    features = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    return Records(features, np.arange(count) % 2, ("cat", "dog"), **more)


def test_every_record_is_counted_once():
    data = split(records_of(200), seed=0)
    told = data.overview
    assert told.sets == {name: len(getattr(data, name)) for name in told.sets}
    assert sum(told.sets.values()) + told.unused == told.records == 200
    assert (told.duplicates, told.groups, told.clusters, told.largest_cluster) == (0, None, 200, 1)
    assert told.notes == ()


def test_equal_records_are_counted_and_said():
    once = records_of(100)
    twice = Records(np.tile(once.features, (2, 1)), np.tile(once.labels, 2), once.classes)
    told = split(twice, seed=0).overview
    assert (told.duplicates, told.clusters, told.largest_cluster) == (100, 100, 2)
    assert any(text.startswith("100 records are equal to an earlier one") for text in told.sentences)


def test_groups_are_counted_apart_from_equal_records():
    told = split(records_of(200, groups=np.arange(200) // 4), seed=0).overview
    assert (told.groups, told.duplicates, told.clusters, told.largest_cluster) == (50, 0, 50, 4)
    assert "50 groups: the records of a group lie in one set" in told.sentences


def test_a_cluster_that_takes_much_of_the_data_is_warned_of():
    groups = np.where(np.arange(400) < 120, 0, np.arange(400))
    told = split(records_of(400, groups=groups), seed=0).overview
    assert told.largest_cluster == 120
    assert any("120 of 400 records have equal features, are of one group" in note for note in told.notes)


def test_records_without_a_role_are_warned_of_unless_fewer_members_were_asked_for():
    features = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    labels = np.repeat([0, 1], 300)
    # Two large groups, each of one class: what one side has too much of gets no role.
    groups = np.where(np.arange(600) % 300 < 150, labels, np.arange(600) + 2)
    records = Records(features, labels, ("cat", "dog"), groups=groups)
    told = split(records, seed=0).overview
    assert told.unused > 30
    assert any("have no role" in note for note in told.notes)
    fewer = split(records_of(9000), seed=0, members=60).overview
    assert fewer.unused > 450
    assert not any("have no role" in note for note in fewer.notes)


@pytest.mark.parametrize(("groups", "said"), [(FEW_GROUPS - 1, True), (FEW_GROUPS, False)])
def test_few_groups_of_a_class_are_warned_of_by_its_name(groups, said):
    of_cats, of_dogs = np.arange(200) % groups, 100 + np.arange(200) % 50
    group = np.where(np.arange(400) % 2 == 0, of_cats[np.arange(400) // 2], of_dogs[np.arange(400) // 2])
    notes = split(records_of(400, groups=group), seed=0).overview.notes
    assert any(f"'cat' ({groups})" in note for note in notes) is said
    assert not any("'dog'" in note for note in notes)


def test_groups_of_one_class_each_are_warned_of():
    notes = split(records_of(400, groups=np.arange(400) % 40), seed=0).overview.notes
    assert "each group has records of one class only: who knows the group knows the class" in notes
    mixed = split(records_of(400, groups=np.arange(400) // 10), seed=0).overview.notes
    assert not any("one class only" in note for note in mixed)
    alone = split(records_of(400, groups=np.arange(400)), seed=0).overview.notes
    assert not any("one class only" in note for note in alone)


def test_what_the_loader_says_is_handed_on():
    assert split(records_of(60, notes=("a column was dropped",)), seed=0).overview.notes == ("a column was dropped",)


def test_it_goes_through_json_and_back():
    told = split(records_of(200, groups=np.arange(200) // 4), seed=0).overview
    assert overview_in(json.loads(json.dumps(told.plain))) == told
