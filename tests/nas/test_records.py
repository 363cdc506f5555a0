"""Records, and the five sets that share none of them."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nas.base import plugins
from nas.preprocessing.arrangement import plain
from nas.preprocessing.columns import Column
from nas.records import SETS
from nas.records import Records
from nas.records import Source
from nas.records import load_records
from nas.records import split

few = settings(max_examples=25, deadline=None, derandomize=True)
class_counts = st.lists(st.integers(10, 90), min_size=2, max_size=5)
seeds = st.integers(0, 2**32 - 1)


def records_of(counts, seed=0, columns=3, **more):
    """Distinct records in random order. Each is its own group unless told otherwise: the group says which one it is."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = rng.normal(3, 5, size=(len(labels), columns)).astype(np.float32)
    more = {"groups": np.arange(len(labels)), **more}
    return Records(features, labels, tuple(f"c{index}" for index in range(len(counts))), **more)


def sets_of(splits):
    return [getattr(splits, name) for name in SETS]


def ids_of(splits):
    return [part.groups for part in sets_of(splits)]


def sizes_of(splits):
    return [len(part) for part in sets_of(splits)]


# Records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((4, 2, 2), np.float32)}, r"expected features \(records, features\) or"),
        ({"features": np.zeros((4, 0), np.float32)}, "none of them 0"),
        (
            {"features": np.zeros((4, 1, 2, 2), np.float16)},
            "expected float32, float64, or images in uint8; got float16",
        ),
        ({"features": np.zeros((4, 2), np.uint8)}, "or images in uint8; got uint8"),
        ({"features": np.array([[np.inf, 0]] * 4), "columns": (Column("a"), Column("b"))}, "finite"),
        ({"columns": (Column("a"),)}, "expected 1 features of 1 columns; got 2"),
        ({"copies": np.arange(3)}, r"expected copies \(4,\)"),
        ({"rows": np.arange(3)}, r"expected rows \(4,\)"),
        ({"names": np.array(["a.png"])}, r"expected names \(4,\)"),
        ({"arrangement": plain((3,))}, r"expected an arrangement to \(2,\); got \(3,\)"),
        ({"features": np.full((4, 2), np.nan, np.float32)}, "finite"),
        ({"features": np.array([[0], [-np.inf], [0], [0]], np.float32)}, "finite"),
        ({"labels": np.array([0, 1, 1])}, r"expected labels \(4,\) int64; got \(3,\)"),
        ({"labels": np.array([0, 1, 1, 0], np.int32)}, "int64; got .* int32"),
        ({"labels": np.array([0, 1, 2, 0])}, "expected labels from 0 to 1; got 0 to 2"),
        ({"labels": np.array([0, 1, -1, 0])}, "got -1 to 1"),
        ({"labels": np.ones(4, np.int64)}, "at least two classes; all 4 are of class 'dog'"),
        ({"groups": np.arange(3)}, r"expected groups \(4,\)"),
        ({"groups": np.array([1.0, np.nan, 2.0, 2.0])}, "expected a group for every record; got NaN"),
        ({"held_out": np.zeros(4, np.int64)}, r"expected held_out \(4,\) bool"),
        ({"held_out": np.zeros(5, bool)}, r"expected held_out \(4,\) bool"),
    ],
)
def test_records_that_do_not_fit_together_are_refused_in_one_line(change, message):
    sound = {"features": np.zeros((4, 2), np.float32), "labels": np.array([0, 1, 1, 0]), "classes": ("cat", "dog")}
    Records(**sound)
    with pytest.raises(ValueError, match=message) as caught:
        Records(**(sound | change))
    assert "\n" not in str(caught.value)


def test_select_takes_every_field_along_in_the_order_asked_for():
    names = np.array([f"{number}.png" for number in range(12)])
    records = records_of([6, 6], held_out=np.arange(12) % 3 == 0, names=names, notes=("said",))
    rows = np.array([7, 2, 2, 11, 0])
    for chosen in (records.select(rows), records.select(np.isin(np.arange(12), rows))):
        assert np.array_equal(chosen.features, records.features[chosen.groups])
        assert np.array_equal(chosen.labels, records.labels[chosen.groups])
        assert np.array_equal(chosen.held_out, chosen.groups % 3 == 0)
        assert np.array_equal(chosen.rows, chosen.groups + 1)
        assert np.array_equal(chosen.names, names[chosen.groups])
        assert chosen.notes == ("said",)
    assert records.select(rows).groups.tolist() == rows.tolist()


def test_counts_and_shapes_are_those_of_the_records():
    images = Records(np.zeros((5, 3, 4, 6), np.uint8), np.array([0, 3, 3, 1, 3]), tuple("abcde"))
    assert (len(images), images.input_shape, images.num_classes) == (5, (3, 4, 6), 5)
    assert images.class_counts.tolist() == [1, 1, 0, 3, 0]


def test_a_loader_of_ones_own_is_found_by_its_dotted_name(monkeypatch):
    seen = []
    package, module = ModuleType("own_package"), ModuleType("own_package.people")
    package.__path__ = []
    module.__spec__ = package.__spec__ = object()
    module.NEEDS_PATH = False
    module.load = lambda source: seen.append(source) or records_of([5, 5])
    monkeypatch.setitem(sys.modules, "own_package", package)
    monkeypatch.setitem(sys.modules, "own_package.people", module)
    monkeypatch.setenv(plugins.TRUSTED, "own_package.people")
    source = Source("own_package.people")
    assert len(load_records(source)) == 10
    assert seen == [source]


def test_a_group_column_is_never_silently_ignored():
    with pytest.raises(ValueError, match="expected groups in column 'person'; the data set 'digits' has none"):
        load_records(Source("digits", group_column="person"))


def test_an_unknown_data_set_lists_what_exists():
    with pytest.raises(ValueError, match=r"no 'digit' in nas.data; there are \[.*'digits'.*\]"):
        load_records(Source("digit"))


# The five sets


@few
@given(counts=class_counts, seed=seeds, share=st.none() | st.floats(0, 1))
def test_sets_are_disjoint_equal_where_they_must_be_and_stratified(counts, seed, share):
    records = records_of(counts)
    least, largest = 2 * len(counts), sum((count - 6) // 2 for count in counts)
    members = None if share is None else int(least + share * (largest - least))
    splits = split(records, seed=seed, members=members)
    ids = np.concatenate(ids_of(splits))
    assert len(np.unique(ids)) == len(ids)
    assert np.array_equal(splits.members.class_counts, splits.non_members.class_counts)
    if members is not None:
        assert len(splits.members) == members
    for part in sets_of(splits):
        assert part.class_counts.min() >= 2
        assert np.array_equal(part.labels, records.labels[part.groups])


@few
@given(scale=st.integers(5, 30), weights=st.lists(st.integers(4, 40), min_size=2, max_size=4), seed=seeds)
def test_class_shares_are_those_of_all_records_where_rounding_allows(scale, weights, seed):
    counts = np.array(weights) * scale
    for part in sets_of(split(records_of(counts), seed=seed)):
        ideal = len(part) * counts / counts.sum()
        assert (np.abs(part.class_counts - np.maximum(ideal, 2)) <= 2).all()


def test_default_shares_are_30_30_10_10_20_percent_and_use_every_record():
    assert sizes_of(split(records_of([500, 300, 200]), seed=1)) == [300, 300, 100, 100, 200]
    assert split(records_of([500, 300, 200]), seed=1).reserve.class_counts.tolist() == [50, 30, 20]


def test_an_official_test_part_is_the_test_set_and_nothing_else():
    held_out = np.arange(1000) % 5 == 0
    splits = split(records_of([500, 500], held_out=held_out), seed=1)
    assert sizes_of(splits) == [300, 300, 100, 100, 200]
    assert held_out[splits.test.groups].all()
    assert not held_out[np.concatenate(ids_of(splits)[:4])].any()


@pytest.mark.parametrize(
    ("members", "official", "sizes"),
    [
        (3000, False, [3000, 3000, 1500, 1500, 3000]),  # half as many, and the test set as many
        (400, False, [400, 400, 1000, 1000, 2000]),  # at least 1,000
        (7000, False, [7000, 7000, 1500, 1500, 3000]),  # 6,000 left, shared 1 : 1 : 2
        (400, True, [400, 400, 1000, 1000, 2000]),
        (8000, True, [8000, 8000, 1000, 1000, 2000]),  # 2,000 left, shared 1 : 1
    ],
)
def test_with_members_the_other_sets_scale_and_are_bounded(members, official, sizes):
    held_out = np.arange(20_000) < 2000 if official else None
    assert sizes_of(split(records_of([10_000, 10_000], held_out=held_out), seed=0, members=members)) == sizes


def test_the_largest_number_of_members_is_named_and_is_the_largest():
    records = records_of([40, 21])
    # (40 - 6) // 2 + (21 - 6) // 2 = 17 + 7 once the other three sets have two of each class.
    with pytest.raises(ValueError, match="expected from 4 to 24 members, so that five sets can be filled; got 25"):
        split(records, seed=0, members=25)
    with pytest.raises(ValueError, match=r"expected from 4 to 24 members, .* got 3"):
        split(records, seed=0, members=3)
    splits = split(records, seed=0, members=24)
    assert splits.members.class_counts.tolist() == [17, 7]
    assert [part.class_counts.min() for part in sets_of(splits)[2:]] == [2, 2, 2]


def test_too_few_records_say_how_many_are_needed_and_what_came():
    with pytest.raises(ValueError, match=r"expected at least 10 records of each class, .* class 'c1' has 9"):
        split(records_of([10, 9, 30]), seed=0)
    assert sizes_of(split(records_of([10, 10]), seed=0)) == [4, 4, 4, 4, 4]
    held_out = np.zeros(20, bool)
    held_out[:6] = True
    with pytest.raises(ValueError, match="at least 8 records of each class outside the official test part"):
        split(records_of([10, 10], held_out=held_out), seed=0)


def test_a_class_that_no_record_has_is_left_alone():
    records = records_of([40, 0, 40])
    assert split(records, seed=0).members.class_counts.tolist() == [12, 0, 12]


@few
@given(seed=seeds)
def test_the_seed_alone_decides(seed):
    records = records_of([60, 40])
    one, again, other = (split(records, seed=value) for value in (seed, seed, seed + 1))
    assert one.fingerprint == again.fingerprint
    assert all(np.array_equal(a.features, b.features) for a, b in zip(sets_of(one), sets_of(again), strict=True))
    assert one.fingerprint != other.fingerprint
    assert set(one.members.groups) != set(other.members.groups)


def test_every_record_is_a_member_as_often_as_any_other():
    # 400 splits, chance 0.3 each: a count is binomial with mean 120 and standard deviation 9.2.
    records = records_of([50, 50])
    counts = np.zeros(100)
    for seed in range(400):
        counts[split(records, seed=seed).members.groups] += 1
    assert counts.mean() == pytest.approx(120)
    assert np.abs(counts - 120).max() < 4.5 * 9.2
    assert counts.std() == pytest.approx(9.2, rel=0.3)


@few
@given(seed=seeds, order=seeds)
def test_the_order_of_records_changes_no_size(seed, order):
    records = records_of([47, 31, 12])
    shuffled = records.select(np.random.default_rng(order).permutation(len(records)))
    for part, other in zip(sets_of(split(records, seed=seed)), sets_of(split(shuffled, seed=seed)), strict=True):
        assert np.array_equal(part.class_counts, other.class_counts)


def test_sets_are_in_random_order_whatever_the_order_of_the_records():
    records = records_of([300, 300])
    by_class, ids = records.select(np.argsort(records.labels)), np.arange(600)
    official = Records(*(getattr(by_class, name) for name in ("features", "labels", "classes")), None, ids % 3 == 0)
    for part in sets_of(split(by_class, seed=0)) + sets_of(split(official, seed=0)):
        half = part.labels[: len(part) // 2].mean()
        assert 0.3 < half < 0.7


# Clusters


@few
@given(sizes=st.lists(st.integers(1, 12), min_size=30, max_size=60), seed=seeds, members=st.sampled_from([None, 10]))
def test_groups_never_straddle_two_sets(sizes, seed, members):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    half = groups.size // 2
    records = records_of([half, groups.size - half], groups=groups)
    splits = split(records, seed=seed, members=members)
    seen = [set(part.groups) for part in sets_of(splits)]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert np.array_equal(splits.members.class_counts, splits.non_members.class_counts)
    if members is not None:
        assert len(splits.members) == members


@few
@given(copies=st.lists(st.integers(0, 59), min_size=1, max_size=40), seed=seeds)
def test_equal_records_never_straddle_two_sets_whatever_their_labels(copies, seed):
    records = records_of([40, 40])
    rows = np.array([*range(80), *copies])
    labels = records.labels[rows]
    labels[80:] = 1 - labels[80:]
    doubled = Records(records.features[rows], labels, records.classes, np.arange(len(rows)))
    splits = split(doubled, seed=seed)
    seen = [set(rows[part.groups]) for part in sets_of(splits)]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert np.array_equal(splits.members.class_counts, splits.non_members.class_counts)


def test_clusters_chain_through_groups_and_equal_records():
    # Group 0 holds a record equal to one of group 1, which holds one equal to one of group 2, and so on to group 9.
    records = records_of([100, 100])
    features, groups = records.features.copy(), np.arange(200)
    for link in range(10):
        groups[[2 * link, 2 * link + 1]] = link
        features[2 * link + 1] = features[2 * link + 2]
    splits = split(Records(features, records.labels, records.classes, groups), seed=0)
    assert sum(bool(set(part.groups) & set(range(10))) for part in sets_of(splits)) == 1


def test_equal_groups_are_placed_by_chance():
    groups = np.repeat(np.arange(20), 10)
    records = records_of([100, 100], groups=groups)
    members = [frozenset(split(records, seed=seed).members.groups) for seed in range(10)]
    assert len(set(members)) > 5


def test_one_large_group_is_placed_before_the_small_ones():
    groups = np.concatenate([np.zeros(80, int), 1 + np.arange(420) // 2])
    splits = split(records_of([250, 250], groups=groups), seed=0)
    assert np.abs(np.array(sizes_of(splits)) - [150, 150, 50, 50, 100]).max() <= 12


@few
@given(seed=seeds)
def test_what_is_tied_to_the_official_test_part_gets_no_role(seed):
    records = records_of([60, 60], held_out=np.arange(120) < 20)
    features = records.features.copy()
    features[100:110] = features[:10]  # ten records that the test part holds too
    splits = split(Records(features, records.labels, records.classes, records.groups, records.held_out), seed=seed)
    ids = ids_of(splits)
    assert sorted(ids[4]) == list(range(20))
    assert not set(range(100, 110)) & set(np.concatenate(ids))


def test_people_of_one_class_each_still_give_every_set_every_class():
    labels, groups = np.repeat([0, 1, 2], 500), np.repeat(np.arange(15), 100)
    features = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32)
    splits = split(Records(features, labels, ("a", "b", "c"), groups), seed=0)
    assert [part.class_counts.tolist() for part in sets_of(splits)] == [[100, 100, 100]] * 5


def test_thirty_people_are_shared_out_by_person():
    groups = np.repeat(np.arange(30), 100)
    rng = np.random.default_rng(1)
    records = records_of([500] * 6, groups=groups[rng.permutation(3000)])
    splits = split(records, seed=0)
    assert [len(set(part.groups)) for part in sets_of(splits)] == [9, 9, 3, 3, 6]
    assert len(splits.members) > 850
    for members, validation in ((200, 500), (900, 250)):
        splits = split(records, seed=0, members=members)
        assert len(splits.members) == members
        assert len(splits.validation) >= validation


def test_five_groups_fill_five_sets_and_four_do_not():
    labels = np.tile([0, 1], 50)
    features = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    five = split(Records(features, labels, ("a", "b"), np.repeat(np.arange(5), 20)), seed=0)
    assert sizes_of(five) == [20] * 5
    with pytest.raises(ValueError, match="would get 0: too few groups"):
        split(Records(features, labels, ("a", "b"), np.repeat(np.arange(4), 25)), seed=0)


def test_members_that_clusters_do_not_allow_say_how_many_were_reached():
    groups = np.repeat(np.arange(6), 20)
    features = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    records = Records(features, np.tile([0, 1], 60), ("a", "b"), groups)
    assert len(split(records, seed=0, members=15).members) == 15
    with pytest.raises(ValueError, match=r"expected fewer than 50 members: groups .* these 20 were reached"):
        split(records, seed=0, members=50)


# Standardisation and fingerprint


@pytest.mark.parametrize("shape", [(4,), (3, 2, 5)])
def test_features_are_standardised_by_the_members_alone(shape):
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 200)
    features = (rng.normal(size=(400, *shape)) * 7 + 100).astype(np.float32)
    features[:, 1] = 0.1  # a constant column or channel
    splits = split(Records(features, labels, ("a", "b"), np.arange(400)), seed=3)
    axes = (0, *range(2, features.ndim))
    members = features[splits.members.groups].astype(np.float64)
    mean, deviation = members.mean(axis=axes, keepdims=True), members.std(axis=axes, keepdims=True)
    deviation[:, 1] = 1
    for part in sets_of(splits):
        assert part.features.dtype == np.float32
        assert part.features.flags.c_contiguous
        np.testing.assert_allclose(part.features, (features[part.groups] - mean) / deviation, atol=2e-5)
    assert (splits.members.features[:, 1] == 0).all()


def test_a_column_constant_among_members_is_only_centred_for_the_others():
    records = records_of([50, 50])
    splits = split(records, seed=0)
    features = records.features.copy()
    features[:, 2] = 5
    features[splits.test.groups, 2] = 9
    again = split(Records(features, records.labels, records.classes, records.groups), seed=0)
    assert again.test.groups.tolist() == splits.test.groups.tolist()
    assert set(again.test.features[:, 2]) == {4.0}


def test_other_sets_do_not_change_what_members_look_like():
    records = records_of([50, 50])
    splits = split(records, seed=0)
    features = records.features.copy()
    features[np.concatenate(ids_of(splits)[1:])] *= 100
    changed = split(Records(features, records.labels, records.classes, records.groups), seed=0)
    assert np.array_equal(changed.members.features, splits.members.features)
    assert changed.fingerprint != splits.fingerprint


def test_a_channel_black_in_all_members_keeps_its_scale_elsewhere():
    pixels = np.random.default_rng(0).integers(0, 256, size=(100, 2, 4, 4), dtype=np.uint8)
    pixels[:, 1] = 0
    official = np.arange(100) < 20
    pixels[official, 1] = 51
    splits = split(Records(pixels, np.tile([0, 1], 50), ("a", "b"), held_out=official), seed=0)
    assert splits.test.features[:, 1].max() == pytest.approx(0.2)


def test_pixels_count_as_0_to_1_and_records_are_left_as_they_were():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(100, 1, 4, 4), dtype=np.uint8)
    before = pixels.copy()
    labels = np.tile([0, 1], 50)
    splits = split(Records(pixels, labels, ("a", "b")), seed=0)
    same = split(Records((pixels / 255).astype(np.float32), labels, ("a", "b")), seed=0)
    np.testing.assert_allclose(splits.test.features, same.test.features, atol=1e-5)
    assert np.array_equal(pixels, before)


def test_numbers_that_standardise_to_infinity_are_refused():
    records = records_of([50, 50])
    test = split(records, seed=0).test.groups
    features = records.features * np.float32(1e-20)
    features[test[0], 0] = 3e38
    with pytest.raises(ValueError, match="finite"):
        split(Records(features, records.labels, records.classes, records.groups), seed=0)


def test_the_fingerprint_knows_contents_labels_names_and_order():
    records = records_of([50, 50])
    base = split(records, seed=0).fingerprint
    assert len(base) == 64
    assert int(base, 16) >= 0
    nudged = records.features.copy()
    nudged[3, 1] = np.nextafter(nudged[3, 1], np.float32(9))
    changed = [
        Records(nudged, records.labels, records.classes, records.groups),
        Records(records.features, records.labels, ("c0", "other"), records.groups),
        Records(records.features.reshape(100, 3, 1, 1), records.labels, records.classes, records.groups),
        records.select(np.arange(100)[::-1]),
    ]
    found = [split(other, seed=0).fingerprint for other in changed]
    assert len({base, *found}) == 5


def test_the_fingerprint_knows_a_label_that_moves_no_record():
    records = records_of([50, 50], held_out=np.arange(100) < 20)
    labels = records.labels.copy()
    labels[0] = 1 - labels[0]
    other = Records(records.features, labels, records.classes, records.groups, records.held_out)
    one, two = split(records, seed=0), split(other, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(ids_of(one), ids_of(two), strict=True))
    assert one.fingerprint != two.fingerprint


# What makes a user's record one of these


def test_the_preprocessing_makes_a_users_records_those_of_the_sets():
    records = records_of([60, 60])
    splits = split(records, seed=0)
    for part in sets_of(splits):
        again = splits.preprocessing.standardised(records.features[part.rows - 1])
        assert np.array_equal(again, part.features)
    assert splits.preprocessing.mean == pytest.approx(records.features[splits.members.rows - 1].mean(axis=0), rel=1e-6)
    assert splits.preprocessing.classes == records.classes


def test_pixels_are_shares_of_255_before_they_are_standardised():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4)).astype(np.uint8)
    splits = split(Records(pixels, np.arange(60) % 2, ("a", "b")), seed=0)
    assert splits.preprocessing.pixels
    assert splits.preprocessing.mean == pytest.approx(pixels[splits.members.rows - 1].mean() / 255, rel=1e-6)
    assert np.array_equal(splits.preprocessing.standardised(pixels[splits.test.rows - 1]), splits.test.features)


def test_a_large_offset_costs_a_float64_table_no_digits():
    time = np.random.default_rng(0).normal(size=200)
    columns = (Column("time"),)
    plain_numbers = split(Records(time[:, None], np.arange(200) % 2, ("a", "b"), columns=columns), seed=0)
    shifted = split(Records(1.7e9 + time[:, None], np.arange(200) % 2, ("a", "b"), columns=columns), seed=0)
    assert shifted.members.features == pytest.approx(plain_numbers.members.features, abs=1e-5)


def test_a_missing_number_counts_as_the_mean_of_the_members():
    values = np.random.default_rng(0).normal(7, 2, size=(200, 2))
    values[::3, 0] = np.nan
    columns = (Column("age"), Column("size"))
    splits = split(Records(values, np.arange(200) % 2, ("a", "b"), columns=columns), seed=0)
    members = values[splits.members.rows - 1]
    assert splits.preprocessing.columns[0].fill == pytest.approx(np.nanmean(members[:, 0]))
    assert splits.preprocessing.columns[1].fill == pytest.approx(members[:, 1].mean())  # a new record may lack it
    assert (splits.members.features[np.isnan(members[:, 0]), 0] == 0).all()
    known = splits.members.features[~np.isnan(members[:, 0]), 0]
    assert (known.mean(), known.std()) == pytest.approx((0, 1), abs=1e-5)


def test_copies_stay_on_one_side_and_go_along():
    copies = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 2))
    records = records_of([100, 100], copies=copies)
    seen = [set(copies[part.groups]) for part in sets_of(split(records, seed=0))]
    assert sum(map(len, seen)) == len(set().union(*seen))
    rows = np.array([3, 199, 0])
    assert records.select(rows).copies.tolist() == copies[rows].tolist()


def test_a_transform_is_of_the_members_alone():
    values = np.random.default_rng(0).lognormal(0, 2, (200, 2))
    records = Records(values, np.arange(200) % 2, ("a", "b"), columns=(Column("pay"), Column("size")))
    plain_sets, bent = split(records, seed=0), split(records, seed=0, transform="log")
    members = values[bent.members.rows - 1]
    assert [column.transform.scale for column in bent.preprocessing.columns] == pytest.approx(
        np.median(members, axis=0)
    )
    bent_members = np.log1p(members / np.median(members, axis=0))
    expected = (bent_members - bent_members.mean(axis=0)) / bent_members.std(axis=0)
    assert bent.members.features == pytest.approx(expected, abs=1e-5)
    assert bent.fingerprint == plain_sets.fingerprint
    assert np.array_equal(bent.test.rows, plain_sets.test.rows)
    assert any("strongly skewed ('pay', 'size')" in note for note in plain_sets.overview.notes)
    assert bent.overview.notes == ()


def test_a_transform_needs_columns_of_a_table():
    with pytest.raises(
        ValueError, match="expected columns of a table for the transform 'log'; these records have none"
    ):
        split(records_of([50, 50]), seed=0, transform="log")
