"""How a record lies in a user's file and in a network's input."""

from __future__ import annotations

import numpy as np
import pytest

from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.arrangement import plain


def test_channels_come_to_the_front():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    moved = Arrangement((4, 6, 3), (2, 0, 1), (3, 4, 6)).apply(images)
    assert moved[1, 2, 3, 5] == images[1, 3, 5, 2]


def test_a_row_of_pixels_becomes_an_image():
    rows = np.arange(2 * 6).reshape(2, 6)
    assert Arrangement((6,), (0,), (1, 2, 3)).apply(rows)[1].tolist() == [[[6, 7, 8], [9, 10, 11]]]


def test_records_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected records of shape \(2, 3\); got \(3, 2\)"):
        plain((2, 3)).apply(np.zeros((5, 3, 2)))


@pytest.mark.parametrize(
    ("shape", "axes", "input_shape"), [((2, 3), (0, 0), (2, 3)), ((2, 3), (0, 1), (2, 4)), ((2, 3), (0,), (6,))]
)
def test_what_does_not_fit_together_is_refused(shape, axes, input_shape):
    with pytest.raises(ValueError, match="expected axes of"):
        Arrangement(shape, axes, input_shape)


def test_only_records_read_as_they_are_count_as_plain():
    assert plain((3, 4, 4)).is_plain
    assert not Arrangement((4, 4), (0, 1), (1, 4, 4)).is_plain
    assert not Arrangement((4, 4, 3), (2, 0, 1), (3, 4, 4)).is_plain


@pytest.mark.parametrize(
    "arrangement",
    [
        Arrangement((4, 6, 3), (2, 0, 1), (3, 4, 6)),
        Arrangement((5, 2, 3, 4), (3, 1, 0, 2), (4, 10, 3)),
        Arrangement((6,), (0,), (1, 2, 3)),
        plain((7,)),
    ],
)
def test_records_are_brought_back_to_how_the_user_has_them(arrangement):
    records = np.random.default_rng(0).normal(size=(3, *arrangement.shape))
    np.testing.assert_array_equal(arrangement.undone(arrangement.apply(records)), records)
    with pytest.raises(ValueError, match="expected records of shape"):
        arrangement.undone(np.zeros((3, 99)))
