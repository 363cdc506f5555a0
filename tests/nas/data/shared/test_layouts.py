"""Axes are read as the one thing they can be, or asked for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nas.data.shared.layouts import arranged
from nas.data.shared.layouts import decoded
from nas.data.shared.layouts import refuse_options
from nas.data.shared.layouts import signals
from nas.records import Source

BOTH = r"expected --layout channels-first or channels-last for x .*: both"
NEITHER = r"expected --layout channels-first or channels-last for x .*: neither"


def numbers(shape, dtype=np.float64, seed=0):
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iu":
        return generator.integers(0, 256, size=(20, *shape)).astype(dtype)
    return generator.normal(size=(20, *shape)).astype(dtype)


def read(values, **given):
    return arranged(values, Source("npz", **given), "x")


# (shape of a record, dtype, axes in the network's order, input shape)
ONE_READING = [
    ((3, 32, 32), np.uint8, (0, 1, 2), (3, 32, 32)),
    ((32, 32, 3), np.uint8, (2, 0, 1), (3, 32, 32)),
    ((32, 24, 3), np.float32, (2, 0, 1), (3, 32, 24)),
    ((28, 28, 1), np.uint8, (2, 0, 1), (1, 28, 28)),
    ((28, 30, 4), np.uint8, (2, 0, 1), (4, 28, 30)),
    ((2, 12, 30), np.float64, (0, 1, 2), (2, 12, 30)),
    ((1, 8, 8), np.float64, (0, 1, 2), (1, 8, 8)),
    ((1, 49, 10), np.float64, (0, 1, 2), (1, 49, 10)),  # a grey image, no signal of ten channels
    ((12, 64, 64), np.float64, (0, 1, 2), (12, 64, 64)),  # twelve bands of a satellite
    ((64, 64, 12), np.float64, (2, 0, 1), (12, 64, 64)),
    ((9, 1, 128), np.float64, (0, 1, 2), (9, 1, 128)),
    ((9, 128), np.float64, (0, 1), (9, 1, 128)),
    ((128, 9), np.float64, (1, 0), (9, 1, 128)),
    ((9, 128), np.uint8, (0, 1), (9, 1, 128)),
    ((1, 50), np.float32, (0, 1), (1, 1, 50)),
    ((50, 1), np.float32, (1, 0), (1, 1, 50)),
    ((28, 28), np.uint8, (0, 1), (1, 28, 28)),
    ((28, 28), np.int64, (0, 1), (1, 28, 28)),
    ((10, 14), np.uint8, (0, 1), (1, 10, 14)),
]


@pytest.mark.parametrize(("shape", "dtype", "axes", "input_shape"), ONE_READING)
def test_the_only_plausible_reading_is_taken_and_said(shape, dtype, axes, input_shape):
    values = numbers(shape, dtype)
    features, arrangement, notes = read(values)
    assert (arrangement.shape, arrangement.axes, arrangement.input_shape) == (shape, axes, input_shape)
    expected = values.transpose(0, *(axis + 1 for axis in axes)).reshape(20, *input_shape)
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    assert features.flags.c_contiguous
    if arrangement.is_plain:
        assert notes == ()
    else:
        assert re.match(rf"x \(20, {', '.join(map(str, shape))}\) are read as (images|signals) of ", notes[0])


@pytest.mark.parametrize("shape", [(3, 3, 3), (4, 32, 4), (3, 32, 4), (1, 4, 4), (1, 128, 3), (2, 2, 2), (1, 28, 1)])
def test_two_readings_are_asked_about(shape):
    with pytest.raises(ValueError, match=BOTH):
        read(numbers(shape, np.uint8))


@pytest.mark.parametrize("shape", [(16, 8, 8), (8, 8, 8), (20, 32, 18)])
def test_no_reading_is_asked_about(shape):
    with pytest.raises(ValueError, match=NEITHER):
        read(numbers(shape))


@pytest.mark.parametrize(("shape", "dtype"), [((28, 28), np.float64), ((100, 120), np.float32), ((6, 7), np.uint8)])
def test_grey_images_or_signals_are_asked_about_with_what_settles_it(shape, dtype):
    values = numbers(shape, dtype)
    with pytest.raises(ValueError, match="--record-shape") as caught:
        read(values)
    height, width = shape
    assert f"--record-shape 1,{height},{width} says grey images" in str(caught.value)
    assert read(values, record_shape=(1, *shape))[1].input_shape == (1, *shape)
    assert read(values, layout="channels-first")[1].input_shape == (height, 1, width)
    assert read(values, layout="channels-last")[1].input_shape == (width, 1, height)


@pytest.mark.parametrize("shape", [(3, 3, 3), (4, 32, 4), (16, 8, 8), (32, 32, 3), (9, 128)])
def test_a_layout_overrides_the_lengths(shape):
    values = numbers(shape, np.float32)
    first, last = (read(values, layout=layout)[0] for layout in ("channels-first", "channels-last"))
    assert np.array_equal(first.reshape(20, *shape), values)
    assert np.array_equal(np.moveaxis(last.reshape(20, shape[-1], *shape[:-1]), 1, -1), values)


def test_a_layout_makes_no_signals_of_grey_images():
    values = numbers((28, 28), np.uint8)
    assert read(values, layout="channels-last")[1].input_shape == (1, 28, 28)
    assert read(values, record_shape=(28, 28))[1].input_shape == (28, 1, 28)


def test_rows_of_numbers_become_what_the_record_shape_says():
    images = numbers((3, 5, 4), np.uint8)
    first = read(images.reshape(20, -1), record_shape=(3, 5, 4))
    assert np.array_equal(first[0], images)
    assert first[1].shape == (60,)
    rows = images.transpose(0, 2, 3, 1).reshape(20, -1)
    last = read(rows, record_shape=(3, 5, 4), layout="channels-last")
    assert np.array_equal(last[0], images)
    assert last[1].shape == (5, 4, 3)
    windows = numbers((9, 16), np.float32)
    assert np.array_equal(read(windows.reshape(20, -1), record_shape=(9, 16))[0][:, :, 0], windows)
    rows = windows.transpose(0, 2, 1).reshape(20, -1)
    assert np.array_equal(read(rows, record_shape=(9, 16), layout="channels-last")[0][:, :, 0], windows)


@pytest.mark.parametrize(
    ("shape", "given", "words"),
    [
        ((60,), {"record_shape": (3, 5, 5)}, "x (records, 3, 5, 5) or as many numbers in a row, as --record-shape"),
        ((28, 28), {"record_shape": (1, 28, 27)}, "got (20, 28, 28)"),
        ((32, 32, 3), {"record_shape": (3, 32, 32)}, "the layout channels-first say; got (20, 32, 32, 3)"),
        ((60,), {"record_shape": (60,)}, "expected --record-shape with (channels, height, width)"),
        ((60,), {"layout": "channels-last"}, "expected --record-shape with --layout channels-last"),
        ((2, 3, 4, 5), {}, "expected x (records, features), (records, channels, time)"),
        ((), {}, "got (20,)"),
        ((0, 3), {}, "none of them 0; got (20, 0, 3)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(shape, given, words):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        read(numbers(shape, np.float32), **given)
    assert words in str(caught.value)


def test_integers_from_0_to_255_are_pixels_and_others_numbers():
    pixels = numbers((3, 9, 9), np.int64)
    features, _, notes = read(pixels)
    assert (features.dtype, notes) == (np.uint8, ("x are int64 from 0 to 255 and count as pixels in uint8",))
    assert np.array_equal(features, pixels)
    for change in (256, -1):
        changed = pixels.copy()
        changed[7, 1, 2, 3] = change
        features, _, notes = read(changed)
        assert (features.dtype, features[7, 1, 2, 3], notes) == (np.float32, change, ())


def test_pixels_in_floating_point_stay_and_are_said():
    pixels = numbers((28, 28), np.uint8).astype(np.float64)
    features, arrangement, notes = read(pixels)
    assert (features.dtype, arrangement.input_shape) == (np.float32, (1, 28, 28))
    assert "x are float64 from 0 to 255" in notes[-1]
    # Halves, and mere 0 and 1, are no pixels: they could be signals as well.
    for other in (pixels / 2, pixels > 128):
        with pytest.raises(ValueError, match="says grey images"):
            read(np.asarray(other, np.float64))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.uint8, np.float32), (np.int16, np.float32), (np.float16, np.float32), (np.float32, np.float32),
        (np.int32, np.float64), (np.uint64, np.float64), (np.float64, np.float64), (">f8", np.float64),
    ],
)  # fmt: skip
def test_a_table_keeps_its_digits(dtype, expected):
    features, arrangement, notes = read(np.arange(60).reshape(20, 3).astype(dtype))
    assert (features.dtype, arrangement.is_plain, notes) == (np.dtype(expected), True, ())
    times = 1.7e9 + np.arange(40.0).reshape(20, 2)
    assert np.array_equal(read(times)[0], times)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("shape", [(3,), (3, 9), (3, 9, 9)])
def test_what_is_not_finite_is_refused(shape, wrong):
    values = numbers(shape)
    values.flat[5] = wrong
    with pytest.raises(ValueError, match="expected finite numbers as x"):
        read(values)
    with pytest.raises(ValueError, match="expected numbers as x; got complex"):
        read(values.astype(complex))


def test_decoded_images_and_given_signals():
    assert decoded(4, 6, 3).apply(np.zeros((2, 4, 6, 3))).shape == (2, 3, 4, 6)
    assert decoded(4, 6, 1).apply(np.zeros((2, 4, 6))).shape == (2, 1, 4, 6)
    assert signals(9, 128).apply(np.zeros((2, 9, 128))).shape == (2, 9, 1, 128)


def test_options_without_effect_are_refused():
    with pytest.raises(ValueError, match="expected no --image-size for the data set 'npz'; got 8,9"):
        refuse_options(Source("npz", image_size=(8, 9)), "layout", "image_size")
    refuse_options(Source("npz", image_size=(8, 9)), "layout", "drop_columns")
