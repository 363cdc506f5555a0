"""A preprocessing as JSON: read back equal, and a stranger's JSON is data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nas.preprocessing import stored
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.arrangement import plain
from nas.preprocessing.columns import Column
from nas.preprocessing.preprocessing import Preprocessing

TABLE = Preprocessing(
    plain((4,)),
    np.array([0.1, 1e-300, -3.0, 1 / 3]),
    np.array([1.0, 2.0, 7.7, 1.0]),
    pixels=False,
    columns=(
        Column("time", origin=1.7e9),
        Column("age", fill=0.3, indicator=True),
        Column("colour", "category", ("grün",)),
    ),
    classes=("no", "yes, or\\nmaybe"),
)
IMAGES = Preprocessing(
    Arrangement((4, 6, 3), (2, 0, 1), (3, 4, 6)),
    np.array([0.1, 0.2, 0.3], np.float32),
    np.array([1, 0.3, 1e-20], np.float32),
    pixels=True,
    columns=(),
    classes=("a", "b", "c"),
)


@pytest.mark.parametrize("behind", [TABLE, IMAGES], ids=["table", "images"])
def test_it_is_read_back_equal_to_the_last_bit(behind):
    again = stored.from_json(stored.to_json(behind), "here")
    assert (again.arrangement, again.pixels) == (behind.arrangement, behind.pixels)
    assert (again.columns, again.classes) == (behind.columns, behind.classes)
    for ours, theirs in ((again.mean, behind.mean), (again.deviation, behind.deviation)):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def changed(behind, **values):
    return json.dumps({**json.loads(stored.to_json(behind)), **values})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{}", "version: Field required"),
        ("import os", "Expecting value"),
        (changed(TABLE, version=2), "version: Input should be 1"),
        (changed(TABLE, more=1), "more: Extra inputs are not permitted"),
        (changed(TABLE, pixels="true"), "pixels: Input should be a valid boolean"),
        (changed(TABLE, pixels=True), "expected pixels without columns"),
        (changed(TABLE, mean=[0, 0, 0]), "expected 4 means and deviations; got 3 and 4"),
        (changed(TABLE, mean=[0, 0, 0, float("nan")]), "mean.3"),
        (changed(TABLE, deviation=[1, 1, 1, 0]), "deviation.3: Input should be greater than 0"),
        (changed(TABLE, deviation=[1, 1, 1, float("inf")]), "deviation.3"),
        (changed(TABLE, columns=[]) + "x", "Extra data"),
        (changed(TABLE, columns=[{"name": "a", "kind": "code"}]), "columns"),
        (changed(TABLE, columns=[{"name": "a"}]), "expected columns of \\(4,\\) features; got 1"),
        (changed(TABLE, classes=["a"]), "classes: Tuple should have at least 2 items"),
        (changed(TABLE, classes=["a", "a"]), "expected each class once"),
        (changed(TABLE, classes=["a", 1]), "classes.1: Input should be a valid string"),
        (
            changed(IMAGES, arrangement={"shape": [4, 6, 3], "axes": [0, 0, 1], "input_shape": [3, 4, 6]}),
            "expected axes",
        ),
        (changed(IMAGES, arrangement={"shape": [72], "axes": [0], "input_shape": [3, -4, -6]}), "whole numbers from 1"),
        (
            changed(
                IMAGES, arrangement={"shape": [3, 2**20, 2**20], "axes": [0, 1, 2], "input_shape": [3, 2**20, 2**20]}
            ),
            "records of at most",
        ),
        (" " * (stored.MOST_TEXT + 1), "of at most 16,777,216 characters"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(text, line):
    with pytest.raises(ValueError, match=rf"^expected a preprocessing [^\n]*{line}[^\n]*$"):
        stored.from_json(text, "here")


def test_a_file_takes_records_as_the_user_has_them():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
    given = IMAGES.as_given(IMAGES.arrangement.apply(pixels))
    assert given.dtype == IMAGES.input_type == np.uint8
    np.testing.assert_array_equal(given, pixels)
    cells = np.array([[0.5, np.nan, 0.0, 1.0]])
    assert TABLE.input_type == np.float32
    assert TABLE.as_given(cells).tolist() == [[0.5, np.float32(1e-300), 0.0, 1.0]]
    # Without columns nothing has taken large offsets off: the digits of double precision are needed.
    bare = replace(TABLE, columns=())
    large = np.array([[1.7e9 + 0.123, 0.0, 0.0, 0.0]])
    assert bare.input_type == np.float64
    np.testing.assert_array_equal(bare.as_given(large), large)
