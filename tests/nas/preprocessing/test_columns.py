"""Columns: cells to numbers, and to and from JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from nas.preprocessing.columns import Column
from nas.preprocessing.columns import advice
from nas.preprocessing.columns import encoded
from nas.preprocessing.columns import filled
from nas.preprocessing.columns import fitted
from nas.preprocessing.columns import from_plain
from nas.preprocessing.columns import to_plain
from nas.preprocessing.columns import transformed
from nas.preprocessing.columns import unknown_levels
from nas.preprocessing.transforms import Transform

COLUMNS = (
    Column("age", origin=30.0, fill=5.0, indicator=True),
    Column("town", "category", ("Bonn", "Ulm", "missing", "other")),
    Column("member", "boolean"),
    Column("since", "date", date_format="day.month.year", origin=19_000.0),
    Column("pay", transform=Transform("quantile", knots=(0.0, 10.0), heights=(-1.0, 1.0))),
    Column("code", "category", ("1", "2")),
)
CELLS = {
    "code": [1.0, "2", 3],
    "unused": [0, 0, 0],
    "member": ["Yes", "0", True],
    "pay": ["0", 5, 99.0],
    "town": ["Ulm ", None, "Wien"],
    "since": ["01.01.2024", "02.01.2024 12:00", "03.01.2024"],
    "age": ["31", "?", 29],
}
ROWS = [
    [1, 0, 0, 1, 0, 0, 1, 723, -1, 1, 0],
    [5, 1, 0, 0, 1, 0, 0, 724.5, 0, 0, 1],
    [-1, 0, 0, 0, 0, 1, 1, 725, 1, 0, 0],
]


@pytest.mark.parametrize("cells", [CELLS, pd.DataFrame(CELLS)])
def test_cells_of_every_kind_become_numbers(cells):
    assert encoded(COLUMNS, cells).tolist() == ROWS


def test_features_are_named_in_their_order():
    assert [name for column in COLUMNS for name in column.features] == [
        "age", "age is missing", "town=Bonn", "town=Ulm", "town=missing", "town=other", "member", "since", "pay",
        "code=1", "code=2",
    ]  # fmt: skip


def test_levels_that_the_network_does_not_know_are_said():
    assert unknown_levels(COLUMNS, CELLS) == (
        "column 'town': 'Wien' in 1 records counts as 'other'",
        "column 'code': '3' in 1 records counts as none of its levels",
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": ["31", "old", 29]}, "a finite number in column 'age' in row 2; got 'old'"),
        ({"age": ["31", "1e39", 29]}, "a finite number in column 'age' in row 2; got '1e39'"),
        ({"age": [1, 2, np.inf]}, "a finite number in column 'age' in row 3; got 'inf'"),
        ({"pay": [1, None, 2]}, "a finite number in column 'pay' in row 2; got a missing value"),
        ({"pay": ["1_000", 2, 2]}, "column 'pay' in row 1; got '1_000'"),
        ({"member": ["yes", "no", "2"]}, "yes or no, true or false in column 'member' in row 3; got '2'"),
        ({"since": ["1/1/2024"] * 3}, "a date as day.month.year in column 'since' in row 1; got '1/1/2024'"),
    ],
)
def test_a_cell_that_its_column_does_not_expect_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        encoded(COLUMNS, CELLS | change)


def test_a_column_that_is_not_there_is_named_and_the_place_is_the_callers():
    with pytest.raises(ValueError, match=r"expected columns \['age'\]; there are \['pay'\]"):
        encoded(COLUMNS[:1], {"pay": [1]})
    with pytest.raises(ValueError, match=r"in line 7 of new\.csv; got 'x'"):
        encoded(COLUMNS[:1], {"age": ["x"]}, lambda row: f"line {row + 7} of new.csv")


def test_a_missing_number_is_nan_before_its_fill_is_known():
    features = encoded((Column("age", indicator=True),), {"age": [None, 3]})
    assert np.array_equal(features, [[np.nan, 1], [3, 0]], equal_nan=True)


def test_columns_come_back_from_json():
    assert from_plain(json.loads(json.dumps(to_plain(COLUMNS)))) == COLUMNS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "text"}, "kind of column"),
        ({"origin": "3"}, "0.origin"),
        ({"origin": float("nan")}, "0.origin"),
        ({"levels": ["a"]}, "levels of a category"),
        ({"kind": "category", "levels": []}, "levels of a category"),
        ({"kind": "category", "levels": ["a", "a"]}, "different levels"),
        ({"date_format": "year-month-day"}, "form of a date"),
        ({"kind": "date", "date_format": "%Y"}, "form of a date"),
        ({"indicator": 1}, "0.indicator"),
        ({"more": 1}, "0.more"),
        ({"name": None}, "0.name"),
        ({"transform": {"name": "power"}}, "no transform 'power'"),
        ({"transform": {"name": "quantile"}}, "expected knots"),
        ({"transform": {"name": "quantile", "knots": [1, 1], "heights": [0, 1]}}, "rising knots"),
        ({"transform": {"name": "quantile", "knots": [1, 2], "heights": [0]}}, "as many heights"),
        ({"transform": {"name": "log", "scale": 0.0}}, "positive scale"),
        ({"transform": {"name": "log", "scale": float("inf")}}, "0.transform.scale"),
        ({"transform": {"name": "log", "more": 1}}, "0.transform.more"),
    ],
)
def test_data_that_are_no_columns_are_refused_in_one_line(change, words):
    data = [to_plain([Column("age")])[0] | change]
    with pytest.raises(ValueError, match=r"\Aexpected columns of a table; [^\n]*\Z") as caught:
        from_plain(data)
    assert words in str(caught.value)


@pytest.mark.parametrize("data", [None, 3, {}, ["age"], [[]], [{}], {1, 2}])
def test_other_data_are_refused(data):
    with pytest.raises(ValueError, match=r"\Aexpected columns of a table; [^\n]*\Z"):
        from_plain(data)


def test_means_of_the_members_fill_what_may_be_missing():
    columns = (Column("a", "category", ("x", "y")), Column("b", indicator=True), Column("c"), Column("d"))
    found = filled(columns, np.arange(6.0))
    assert [column.fill for column in found] == [None, 2.0, 4.0, 5.0]


def test_transforms_are_fitted_on_numbers_alone_and_bend_them_alone():
    rng = np.random.default_rng(0)
    columns = (Column("town", "category", ("x", "y")), Column("pay", indicator=True), Column("truth", "boolean"))
    pay = rng.lognormal(0, 1, 100)
    pay[::9] = np.nan
    town = rng.integers(0, 2, 100)
    features = np.column_stack([town, 1 - town, pay, np.isnan(pay), rng.integers(0, 2, 100)])
    found = fitted(columns, features, "log")
    assert [column.transform is None for column in found] == [True, False, True]
    bent = transformed(found, features)
    assert np.array_equal(bent[:, [0, 1, 3, 4]], features[:, [0, 1, 3, 4]])
    assert np.array_equal(bent[:, 2], np.log1p(pay / np.nanmedian(pay)), equal_nan=True)
    assert np.array_equal(features[:, 2], pay, equal_nan=True)
    with pytest.raises(ValueError, match=r"no transform 'sqrt'; there are \['none', 'log', 'quantile'\]"):
        fitted(columns, features, "sqrt")


def test_a_transform_is_advised_where_many_numbers_are_skewed():
    rng = np.random.default_rng(0)
    columns = tuple(Column(f"c{number}") for number in range(8))
    features = rng.normal(size=(500, 8))
    features[:, 0] = rng.lognormal(0, 1.5, 500)
    assert advice(columns, features) == ()
    features[:, 3] = -rng.lognormal(0, 1.5, 500)
    (said,) = advice(columns, features)
    assert said.startswith("2 of 8 columns of numbers are strongly skewed ('c0', 'c3'): try --transform log or")
