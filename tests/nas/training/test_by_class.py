import numpy as np
import pytest
from scipy.stats import binomtest

from estimators.leakage.statistics.shares import mean_share
from nas.records import Records
from nas.training import by_class
from nas.training.by_class import class_error
from nas.training.by_class import measures_by_class
from nas.training.by_class import never_predicted
from nas.training.by_class import rarest_of


def records(*counts, names=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Records(np.zeros((len(labels), 1), np.float32), labels, names or tuple("abcdefghij"[: len(counts)]))


# Ten of a, two wrong; four of b, one wrong; two of c, both wrong.
VALIDATION = records(10, 4, 2)
PREDICTED = np.array([0] * 8 + [1] * 2 + [1] * 3 + [0] + [0, 1])
MEMBERS = records(30, 5, 6)


def test_each_class_counts_the_same():
    found = measures_by_class(PREDICTED, VALIDATION, MEMBERS, ())
    assert found["balanced_error"] == mean_share([2, 1, 2], [10, 4, 2])
    assert found["balanced_error"].value == pytest.approx((0.2 + 0.25 + 1) / 3)
    assert {name: found[f"class_error_{name}"].value for name in "abc"} == {"a": 0.2, "b": 0.25, "c": 1.0}
    # b has the fewest members, c the fewest validation records.
    assert found["rarest_class_error"].value == 0.25
    exact = binomtest(1, 4).proportion_ci(0.95, "exact")
    assert (found["rarest_class_error"].low, found["rarest_class_error"].high) == pytest.approx((exact.low, exact.high))


def test_a_network_that_never_predicts_two_percent_is_told_by_the_other_measures():
    found = measures_by_class(np.zeros(100, int), records(98, 2), records(98, 2), ())
    assert found["balanced_error"].value == 0.5
    assert found["rarest_class_error"].value == found["class_error_b"].value == 1.0
    assert found["balanced_error"].low < 0.5 < found["balanced_error"].high


def test_a_class_that_validation_lacks_is_left_out():
    found = measures_by_class(np.array([0, 2, 2]), records(1, 0, 2), records(5, 1, 3), ("class_error_b",))
    assert found.keys() == {"balanced_error", "rarest_class_error", "class_error_a", "class_error_c"}
    assert found["balanced_error"].value == 0.0


def test_the_rarest_class_is_one_that_can_be_learned_and_measured():
    assert rarest_of(records(5, 0, 3), records(2, 2, 2)) == 2  # of b there is no member
    assert rarest_of(records(5, 1, 3), records(2, 0, 2)) == 2  # of b nothing is measured
    assert rarest_of(records(5, 3, 3), records(2, 2, 2)) == 1  # the first of several
    assert rarest_of(records(5, 3, 0, 0), records(0, 0, 2, 2)) == 2


def test_of_many_classes_only_those_asked_for_are_kept():
    names = tuple(f"n{n}" for n in range(by_class.MOST_CLASSES + 1))
    many = records(*[2] * len(names), names=names)
    found = measures_by_class(many.labels, many, many, ("error", "class_error_n3"))
    assert found.keys() == {"balanced_error", "rarest_class_error", "class_error_n3"}
    few = records(*[2] * by_class.MOST_CLASSES, names=names[:-1])
    assert len(measures_by_class(few.labels, few, few, ())) == 2 + by_class.MOST_CLASSES


def test_a_name_too_long_for_a_database_is_kept_only_where_it_is_asked_for():
    long = "x" * 500
    data = records(2, 2, names=("a", long))
    assert f"class_error_{long}" not in measures_by_class(data.labels, data, data, ())
    assert f"class_error_{long}" in measures_by_class(data.labels, data, data, (f"class_error_{long}",))


def test_names_may_look_like_the_ends_of_intervals():
    data = records(2, 4, 4, names=("risk", "risk_low", "risk_high"))
    found = measures_by_class(np.zeros(10, int), data, data, ())
    values = [found[f"class_error_{name}"] for name in data.classes]
    assert [(one.value, one.low, one.high) for one in values] == [(0, 0, 0), (1, 1, 1), (1, 1, 1)]


def test_a_class_error_has_its_exact_interval():
    for wrong, count in ((0, 3), (1, 7), (7, 7)):
        exact = binomtest(wrong, count).proportion_ci(0.95, "exact")
        found = class_error(wrong / count, count)
        assert (found.value, found.low, found.high) == pytest.approx((wrong / count, exact.low, exact.high))


def test_what_is_never_predicted_is_named_if_it_occurs():
    assert never_predicted(np.array([0, 0, 0]), records(2, 1, 0)) == (1,)
    assert never_predicted(np.array([2, 2, 2]), records(2, 1, 0)) == (0, 1)
    # A wrong guess is a guess.
    assert never_predicted(np.array([1, 0, 0]), records(2, 1, 0)) == ()
