import numpy as np
import pytest

from nas.base.labels import classes_of

EVEN = np.arange(60)


def refusal(values, where="labels"):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the tests read the message
        classes_of(values, where)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("values", "names", "first"),
    [
        (EVEN % 3, ("0", "1", "2"), [0, 1, 2]),
        (EVEN % 3 + 1, ("1", "2", "3"), [0, 1, 2]),
        ((EVEN % 3).astype(np.uint8) * 100, ("0", "100", "200"), [0, 1, 2]),
        (-(EVEN % 2), ("-1", "0"), [1, 0, 1]),
        ((EVEN % 2).astype(bool), ("0", "1"), [0, 1, 0]),
        ((EVEN % 3).astype(float), ("0", "1", "2"), [0, 1, 2]),
        (EVEN % 3 / 2, ("0", "0.5", "1"), [0, 1, 2]),
        ((EVEN % 3)[:, None], ("0", "1", "2"), [0, 1, 2]),
        (np.array(["dog", "cat", "ant"])[EVEN % 3], ("ant", "cat", "dog"), [2, 1, 0]),
        (np.array([b"dog", b"cat"])[EVEN % 2], ("cat", "dog"), [1, 0, 1]),
        (np.array(["dog", "cat"], dtype=object)[EVEN % 2], ("cat", "dog"), [1, 0, 1]),
        (["10", "9", "-1"] * 20, ("-1", "9", "10"), [2, 1, 0]),
        (["10", "b", "9"] * 20, ("9", "10", "b"), [1, 2, 0]),
        ([">50K", "<=50K"] * 20, ("<=50K", ">50K"), [1, 0, 1]),
    ],
)
def test_classes_in_every_usual_form(values, names, first):
    labels, found = classes_of(values, "labels")
    assert labels.dtype == np.int64
    assert labels.shape == (len(values),)
    assert (found, labels[: len(first)].tolist()) == (names, first)
    assert all(type(name) is str for name in found)


@pytest.mark.parametrize("kind", [int, bool, float, np.uint8])
def test_one_hot_labels_are_classes(kind):
    values = np.eye(4)[[2, 0, 3, 2]].astype(kind)  # of the second there is none
    labels, names = classes_of(values, "labels")
    assert (labels.tolist(), names) == ([1, 0, 2, 1], ("0", "2", "3"))


def test_several_labels_of_a_record_are_refused():
    values = np.eye(3)[[0, 1, 2, 0, 1]]
    values[0, 1] = values[1, 0] = 1
    values[4] = 0
    assert refusal(values) == (
        "expected one class for each record as labels; got multi-label data: of 5 records, 2 have several of 3 labels "
        "and 1 have none. Gecko NAS trains networks with one class for a record; search for one label at a time"
    )


def test_soft_labels_and_several_targets_are_refused():
    assert "got soft labels, 3 probabilities a record" in refusal(np.full((6, 3), 1 / 3))
    assert "(6, 2): 2 numbers a record are several targets" in refusal(np.arange(12.0).reshape(6, 2))
    assert "got (6, 2) of <U1" in refusal(np.array([["a", "b"]] * 6))
    assert "got (6, 1, 1)" in refusal(np.zeros((6, 1, 1)))
    assert "got (0,)" in refusal(np.zeros(0))


@pytest.mark.parametrize(
    ("values", "distinct"),
    [
        (np.linspace(0, 1, 200), 200),
        (np.linspace(0, 1, 200).astype(np.float32)[:, None], 200),
        (np.arange(1000) % 300, 300),
        ((np.arange(1000) % 300).astype(float), 300),
        ([f"{value:.3f}" for value in np.linspace(0, 1, 200)], 200),
        ([str(value % 300) for value in range(1000)], 300),
        (np.round(np.linspace(0, 1, 30), 1), 11),
        (1 + 1e-9 * (np.arange(60) % 3), 3),  # one name for all of them
    ],
)
def test_a_continuous_target_is_refused_with_what_to_do(values, distinct):
    line = refusal(values, "column 'price'")
    assert line == (
        f"expected classes as column 'price'; got a continuous target ({distinct} distinct values): Gecko NAS trains "
        "classifiers; cut it into classes"
    )


@pytest.mark.parametrize(
    "values",
    [
        np.arange(400) % 40,  # forty faces with ten pictures each
        np.arange(40) % 20,  # few records, and few classes
        np.arange(50_000) % 100,
        np.array([f"n{n}" for n in range(40)])[np.arange(400) % 40],
        np.repeat(np.arange(3, 9), [10, 53, 681, 638, 199, 18]),  # wine quality
    ],
)
def test_many_classes_with_their_records_are_classes(values):
    labels, names = classes_of(values, "labels")
    assert len(names) == len(np.unique(values)) == labels.max() + 1


def test_uneven_values_beyond_a_twentieth_of_the_records_are_refused():
    ages = np.repeat(np.arange(60), np.r_[np.full(59, 16), 9])
    assert "got a continuous target (60 distinct values)" in refusal(ages)
    assert len(classes_of(ages[ages < 59], "labels")[1]) == 59  # all have their records


def test_an_identifier_is_no_class():
    assert refusal([f"person {n}" for n in range(100)]) == (
        "expected classes as labels; got 100 different texts in 100 records, such as 'person 0': an identifier or free "
        "text is no class"
    )


@pytest.mark.parametrize(
    "cells",
    [
        ["a;b", "a;c", "b;c", "a"],
        ["a|b", "a|b|c", "c"],
        ["action, drama", "drama", "action", "comedy, drama", "drama", "comedy", "action"],
        ["a;b", "a", "b", "a", "b", "a", "b", "a", "b", "a"],  # a tenth only, but its parts stand alone
    ],
)
def test_cells_with_several_labels_are_refused(cells):
    line = refusal(cells * 10)
    assert "got multi-label data: " in line
    assert f"such as {cells[0]!r}" in line


@pytest.mark.parametrize(
    "cells",
    [
        ["Iris, setosa", "Iris, virginica", "Iris, versicolor"],
        ["New York, NY", "Boston, MA"],
        ["a;b", "c"],
        ["yes", "no"],
        ["1,5", "2,5", "1,6", "2,6"],
        ["nano", "NA"],
    ],
)
def test_a_class_may_have_a_separator_in_its_name(cells):
    assert len(classes_of(cells * 10, "labels")[1]) == len(cells)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (np.array([0.0, 1.0, np.nan, np.inf]), 2),
        (np.array(["a", "", "b", " "]), 2),
        (np.array(["a", "nan", "b", "b"]), 1),
        (np.array(["a", None, "b", float("nan")], dtype=object), 2),
    ],
)
def test_missing_labels_are_counted(values, missing):
    assert refusal(values) == f"expected a class for each record as labels; {missing} of 4 are missing"


def test_what_is_no_label_at_all_is_refused():
    assert refusal(np.array([1 + 2j, 3])) == "expected labels of integers or text; got complex128"
    assert "got datetime64" in refusal(np.array(["2020-01-01"], dtype="datetime64[D]"))
