"""Labels in the forms that users have them in: numbered as the logits' columns, or refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from nas.audit.labels import numbered

COLUMNS = 3


def found(labels, names=(), columns=COLUMNS):
    given = numbered({"labels": np.array(labels)}, columns, names)
    assert given.labels["labels"].dtype == np.int64
    return given.labels["labels"].tolist(), given.classes, " ".join(given.notes)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 2, 1],
        [[0], [2], [1]],
        np.array([0, 2, 1], np.uint8),
        np.array([0.0, 2.0, 1.0]),
        np.eye(3)[[0, 2, 1]],
        np.eye(3, dtype=bool)[[0, 2, 1]],
    ],
)
def test_numbers_from_zero_are_columns_however_they_are_written(labels):
    numbers, classes, note = found(labels)
    assert (numbers, classes) == ([0, 2, 1], ())
    assert note == ("labels are one-hot; the column of the 1 was taken for the class" if np.ndim(labels) == 2
                    and np.shape(labels)[1] == 3 else "")  # fmt: skip
    assert found(labels, ("x", "y", "z"))[1] == ("x", "y", "z")


def test_labels_from_one_are_seen_by_the_last_and_the_missing_first():
    assert found([1, 3, 2]) == (
        [0, 2, 1],
        ("1", "2", "3"),
        "labels are counted from 1: there is a 3 and no 0, and the logits have 3 columns",
    )
    assert found([3, 3])[0] == [2, 2]
    assert found([1, 2]) == ([1, 2], (), "")
    assert found([1, 2, 3], ("x", "y", "z"))[:2] == ([0, 1, 2], ("x", "y", "z"))


def test_as_many_other_numbers_as_columns_are_taken_in_order_and_it_is_said():
    assert found([-1, 1, 1], columns=2)[:2] == ([0, 1, 1], ("-1", "1"))
    numbers, classes, note = found([30, 10, 20])
    assert (numbers, classes) == ([2, 0, 1], ("10", "20", "30"))
    assert "in this order they were taken for the 3 columns" in note


def test_texts_are_looked_up_among_the_names():
    assert found(["cat", "ant"], ("cat", "bee", "ant")) == ([0, 2], ("cat", "bee", "ant"), "")
    assert found([b"cat", b"ant"], ("cat", "bee", "ant"))[0] == [0, 2]
    assert found([["cat"], ["ant "]], ("cat", "bee", "ant"))[0] == [0, 2]
    assert found([20, 10], ("10", "15", "20"))[0] == [2, 0]
    assert found(["1", "0"], ("1", "0", "2"))[0] == [0, 1]


def test_texts_without_names_are_sorted_where_there_are_as_many_as_columns_and_it_is_said():
    numbers, classes, note = found(["cat", "ant", "bee"])
    assert (numbers, classes) == ([2, 0, 1], ("ant", "bee", "cat"))
    assert "their sorted order was taken for that of the logits' columns: 'ant', 'bee', 'cat'. If it is" in note
    digits = [str(number) for number in range(11)]
    assert found(digits, columns=11)[:2] == (list(range(11)), tuple(digits))  # not 0, 1, 10, 2


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["cat", "ant"], (), r"expected 'classes', .* there are 2 different ones for 3 columns: 'ant', 'cat'"),
        (["cat", "cow"], ("cat", "bee", "ant"), r"among the classes 'cat', 'bee', 'ant'; got 'cow'"),
        ([0, 1], ("cat", "bee"), r"a name of its own for each of 3 columns of logits; got 'cat', 'bee'"),
        ([0, 1], ("a", "a", "b"), "a name of its own"),
        ([0, 7], (), r"expected labels from 0 to 2; got 0 to 7: give 'classes'"),
        ([0, 3], (), r"expected labels from 0 to 2; got 0 to 3"),
        ([-1, -1], (), r"expected labels from 0 to 2; got -1 to -1"),
        ([0.5, 1.0], (), "got fractions or NaN: a network that predicts quantities cannot be audited"),
        ([np.nan, 1.0], (), "got fractions or NaN"),
        (np.eye(4), (), r"expected one-hot 'labels' \(records, 3\), as the logits; got \(4, 4\)"),
        ([[1, 1, 0], [0, 0, 1]], (), r"row 0 has 2: a network with several answers for a record \(multi-label\)"),
        ([[0, 1, 0], [0, 0, 0]], (), "row 1 has 0"),
        ([[0.7, 0.2, 0.1]], (), "got values beside 0 and 1: soft labels"),
        (np.zeros((2, 1, 1)), (), r"'labels' \(records,\) of numbers or texts"),
        (np.array([], int), (), r"'labels' \(records,\) of numbers or texts"),
        (np.array([1j, 0]), (), r"'labels' \(records,\) of numbers or texts"),
    ],
)
def test_what_cannot_be_numbered_is_refused_with_the_reason(labels, names, message):
    with pytest.raises(ValueError, match=message):
        found(labels, names)


def test_all_arrays_of_labels_are_numbered_alike():
    given = {"labels": np.array([1, 2, 3]), "population_labels": np.array([1, 2])}
    assert numbered(given, 3).labels["population_labels"].tolist() == [0, 1]
    given = {"labels": np.array(["a", "b"]), "population_labels": np.array(["c"])}
    assert numbered(given, 3).labels["population_labels"].tolist() == [2]
    with pytest.raises(ValueError, match=r"labels of one kind; \['labels'\] are texts, others not"):
        numbered({"labels": np.array(["a", "b"]), "population_labels": np.array([0])}, 2)
