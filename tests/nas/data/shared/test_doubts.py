"""What is asked of every column, on columns that are made for it."""

from __future__ import annotations

import numpy as np
import pytest

from nas.data.shared.doubts import Values
from nas.data.shared.doubts import doubts

COUNT = 300
RNG = np.random.default_rng(0)
CLASSES = ("a", "b", "c")
LABELS = RNG.integers(0, 3, COUNT)
NOISE = RNG.normal(size=COUNT)
NAN = np.nan


def asked(labels=LABELS, classes=CLASSES, label_column="label", **columns):
    values = {
        name: found if isinstance(found, Values) else Values(np.asarray(found, dtype=np.float64), ordered=True)
        for name, found in columns.items()
    }
    return doubts(values, labels, classes, label_column)


def named(found, word):
    return [note for note in found.notes if word in note]


def test_a_sound_column_is_left_in_peace():
    found = asked(size=NOISE, grade=RNG.integers(0, 5, COUNT), truth=RNG.integers(0, 2, COUNT))
    assert (found.left_out, found.telling, found.notes) == ((), (), ())


@pytest.mark.parametrize("start", [0, 1])
def test_a_column_that_counts_the_rows_is_left_out(start):
    found = asked(number=start + np.arange(COUNT), size=NOISE)
    assert found.left_out == ("number",)
    assert named(found, "numbers of the records: 'number'")


@pytest.mark.parametrize(
    ("name", "values", "left_out"),
    [
        ("Unnamed: 0", RNG.permutation(COUNT), True),
        ("Unnamed: 0", np.arange(COUNT) // 2, True),  # of two tables under each other, or of records drawn again
        ("number", RNG.permutation(COUNT), False),
        ("Unnamed: 0", NOISE, False),
        ("number", 2 + np.arange(COUNT), False),
    ],
)
def test_row_numbers_in_another_order_are_known_by_their_name(name, values, left_out):
    assert (asked(**{name: values, "size": NOISE}).left_out == (name,)) == left_out


def test_a_few_rows_that_happen_to_count_are_kept():
    assert asked(labels=np.array([0, 1, 0]), classes=("a", "b"), size=[1, 2, 3]).left_out == ()


def test_numbers_that_are_all_different_or_follow_the_rows_tell_records_apart():
    identity, time = RNG.permutation(COUNT) + 1000, np.sort(NOISE)
    found = asked(identity=identity, time=time, back=-time, flat=np.arange(COUNT) // 100, size=NOISE)
    assert found.telling == ("identity", "time", "back")
    assert found.left_out == ()
    assert named(found, "--drop-column identity")
    assert named(found, "--drop-column time --drop-column back")


@pytest.mark.parametrize("ordered", [True, False])
def test_persons_in_blocks_of_rows_are_asked_for_as_groups(ordered):
    person = np.repeat(RNG.permutation(60), 5)
    found = asked(person=Values(person.astype(float), ordered), size=NOISE)
    assert named(found, "--group-column person")
    assert (found.left_out, found.telling) == ((), ())
    person[0] = person[-1]
    assert not named(asked(person=Values(person.astype(float), ordered), size=NOISE), "--group-column")


@pytest.mark.parametrize("codes", [[0, 1, 2], [2, 0, 1], [7, -3, 2.5]])
@pytest.mark.parametrize("ordered", [True, False])
def test_the_label_in_another_form_is_left_out(codes, ordered):
    copy = np.array(codes)[LABELS].astype(float)
    copy[:20] = NAN
    assert asked(copy=Values(copy, ordered), size=NOISE).left_out == ("copy",)
    copy[50] = codes[(LABELS[50] + 1) % 3]
    assert asked(copy=Values(copy, ordered), size=NOISE).left_out == ()


@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2]])
def test_a_column_for_each_class_but_one_is_the_label(kept):
    columns = {f"is_{CLASSES[index]}": index == LABELS for index in kept}
    found = asked(**columns, size=NOISE)
    assert found.left_out == tuple(columns)
    assert named(found, "other forms of the label 'label'")


def test_a_column_for_one_class_of_many_may_be_a_feature_and_is_kept():
    # Of the animals of a zoo, those that give milk are the mammals.
    labels = RNG.integers(0, 5, COUNT)
    assert asked(labels, tuple("abcde"), milk=labels == 2, size=NOISE).left_out == ()


@pytest.mark.parametrize(("prefix", "label"), [("species_", "species_a"), ("", "a")])
def test_the_other_columns_of_a_label_that_is_one_of_several(prefix, label):
    columns = {f"{prefix}{name}": index == LABELS for index, name in enumerate(CLASSES) if index}
    found = asked((LABELS == 0).astype(int), ("0", "1"), label, **columns, size=NOISE)
    assert found.left_out == tuple(columns)


def test_columns_of_the_same_name_are_found_beside_others_that_exclude_the_label():
    never = (LABELS == 1) & (np.arange(COUNT) % 2 == 0)
    columns = {"y_b": LABELS == 1, "y_c": LABELS == 2}
    found = asked((LABELS == 0).astype(int), ("0", "1"), "y_a", **columns, never=never, size=NOISE)
    assert found.left_out == ("y_b", "y_c")


def test_a_column_that_determines_the_label_is_warned_of_and_kept():
    grades = LABELS + 3 * RNG.integers(0, 4, COUNT)
    found = asked(grades=grades, size=NOISE)
    assert found.left_out == ()
    assert named(found, "warning")
    assert named(found, "--drop-column grades")
    grades[5] = grades[np.flatnonzero(LABELS[5] != LABELS)[0]]
    assert not named(asked(grades=grades, size=NOISE), "warning")


def test_a_measure_behind_the_label_is_warned_of():
    assert named(asked((NOISE > 0.5).astype(int), ("a", "b"), score=NOISE), "'score' alone")
    assert not named(asked((NOISE + 0.1 * RNG.normal(size=COUNT) > 0.5).astype(int), ("a", "b"), score=NOISE), "alone")


def test_a_column_that_only_one_class_has_is_warned_of():
    labels = (LABELS > 0).astype(int)
    death = np.where(labels == 1, NOISE, NAN)
    assert named(asked(labels, ("lives", "died"), death=death), "'death' alone")


def test_few_records_determine_nothing():
    # Ten records of two classes: two pairs of equal values are pure by chance in one case of four.
    labels = np.array([0, 1] * 5)
    assert asked(labels, ("a", "b"), size=[0, 1, 0, 1, 2, 3, 4, 7, 6, 5], copy=[0, 1] * 5).notes == ()


@pytest.mark.parametrize(
    ("mark", "others", "seen"),
    [
        (-9999, np.abs(NOISE), True),
        (-999, np.abs(NOISE) * 100, True),
        (-99, np.abs(NOISE), True),
        (-1, RNG.integers(0, 20, COUNT), True),
        (9999, np.abs(NOISE), True),
        (99999, RNG.integers(0, 41_310, COUNT), True),
        (99, RNG.integers(1, 40, COUNT), True),
        (99, RNG.integers(1, 99, COUNT), False),  # an age
        (-1, NOISE, False),
        (-1, RNG.integers(0, 2, COUNT), False),  # a vote: against, none, for
        (-5, np.abs(NOISE), False),
        (1000, np.abs(NOISE), False),
    ],
)
def test_marks_of_missing_values_are_warned_of(mark, others, seen):
    values = np.where(np.arange(COUNT) % 10 == 0, mark, others)
    found = asked(size=values)
    assert bool(named(found, f"'size' holds {mark} in 30 records")) == seen
    assert found.left_out == ()


def test_one_extreme_number_is_no_mark():
    assert asked(size=np.where(np.arange(COUNT) == 7, 9999, np.abs(NOISE))).notes == ()


CODINGS = {
    "0 and 1": lambda is_one: is_one.astype(float),
    "1 and 0": lambda is_one: 1.0 - is_one,
    "0 and 100": lambda is_one: 100.0 * is_one,
    "-1 and 1": lambda is_one: 2.0 * is_one - 1,
    "x and nothing": lambda is_one: np.where(is_one, 1.0, NAN),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_one_column_for_each_class_is_the_label_in_whatever_coding(coding):
    columns = {f"c{index}": CODINGS[coding](index == LABELS) for index in range(3)}
    assert sorted(asked(**columns, size=NOISE).left_out) == ["c0", "c1", "c2"]
    # One of them alone tells its class: that may be genuine, and is said.
    found = asked(c1=columns["c1"], size=NOISE)
    assert found.left_out == ()
    assert named(found, "warning: of every record the label 'label' can be told by one of 'c1'")


@pytest.mark.parametrize("is_time", [False, True])
def test_names_of_records_may_be_missing_or_twice_and_times_are_no_whole_numbers(is_time):
    values = RNG.permutation(COUNT) + (0.3 if is_time else 0.0)
    values[7], values[9] = NAN, values[11]
    found = asked(name=Values(values, ordered=True, is_time=is_time), size=NOISE)
    assert found.telling == ("name",)


def test_a_mark_far_below_other_negative_numbers_is_seen():
    values = np.random.default_rng(3).normal(0, 5, COUNT).round()
    values[:4] = -9999
    assert named(asked(size=values), "'size' holds -9999 in 4 records")
    values[4:9] = -999
    assert named(asked(size=values), "'size' holds -9999 in 4 records")
    assert not named(asked(size=np.where(values < -900, -30, values)), "mark for a missing")
