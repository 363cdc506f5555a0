"""Which axis of an array is which: images, signals and tables, read in the order a network takes them.

The first or the last axis of a record can be its channels if it has 1 to 4 places. Where neither has, one that is at
most half of each other axis can, less those of 1, the height of a signal. If that leaves one reading, it is taken; if
it leaves two or none, the user is asked: a wrong guess would train without a word.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.base.reading import as_float32
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.arrangement import Shape
from nas.preprocessing.arrangement import plain
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import LAYOUTS
from nas.records import Source

FIRST, LAST = LAYOUTS
MOST_CHANNELS = 4
"""Grey, grey and alpha, colour, colour and alpha."""
LEAST_SIDE = 8
"""Of an image without an axis for channels."""
FAR = 1000
"""Numbers so many times farther from 0 than they scatter stay in double precision until they are standardised."""
MOST_PIXEL = 255
OPTIONS = {
    "test_path": "--test-path",
    "drop_columns": "--drop-column",
    "layout": "--layout",
    "record_shape": "--record-shape",
    "image_size": "--image-size",
}


def refuse_options(source: Source, *fields: str) -> None:
    """Refuse settings that a data set has no use for: the user would believe they had an effect.

    Args:
        source: What the user asked for.
        fields: Names of fields of `Source`.

    Raises:
        ValueError: If one is set.
    """
    for field in fields:
        if value := getattr(source, field):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise ValueError(f"expected no {OPTIONS[field]} for the data set {source.name!r}; got {shown}")


def arranged(values: NDArray[Any], source: Source, name: str) -> tuple[NDArray[Any], Arrangement, tuple[str, ...]]:
    """Return features in a network's order, how a record of the user's lies, and what was decided, for people.

    Images and signals are uint8 where all values are whole numbers from 0 to 255 in an integer type, else float32.
    Tables are float32, or float64 where the numbers come in more digits than float32 has.

    Args:
        values: `(records, ...)`, numbers.
        source: `layout` and `record_shape` decide before anything else; they are held against the array.
        name: Name of the array, for messages.

    Raises:
        ValueError: If the values are no finite numbers, or the axes have no reading or several.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers as {name}; got {values.dtype}")
    if values.ndim not in (2, 3, 4) or 0 in values.shape:
        raise ValueError(
            f"expected {name} (records, features), (records, channels, time) or (records, channels, height, width), "
            f"none of them 0; got {values.shape}"
        )
    if source.record_shape is not None:
        arrangement = _given(values, source.record_shape, source.layout or FIRST, name)
    elif values.ndim == 2:
        if source.layout is not None:
            raise ValueError(
                f"expected --record-shape with --layout {source.layout} for rows of numbers; {name} is {values.shape}"
            )
        return _as_table(values, name), plain(values.shape[1:]), ()
    elif values.ndim == 3:
        arrangement = _without_channels_axis(values, source.layout, name)
    else:
        arrangement = _image(values.shape[1:], source.layout or _layout_of(values.shape, name))
    features, notes = _as_pixels(arrangement.apply(values.reshape(-1, *arrangement.shape)), name)
    return features, arrangement, (*_described(values.shape, arrangement, name), *notes)


def recalled(values: NDArray[Any], behind: Preprocessing, name: str) -> NDArray[Any]:
    """Return new records in the order and type of those that a network was trained on.

    Args:
        values: `(records, ...)`, numbers.
        behind: What the network was trained behind.
        name: Name of the array, for messages.

    Raises:
        ValueError: If they lie otherwise, or are no pixels where the network takes pixels.
    """
    arrangement = behind.arrangement
    if values.dtype.kind not in "biuf" or not values.ndim or not len(values):
        raise ValueError(f"expected records of numbers as {name}; got {values.dtype} {values.shape}")
    if values.shape[1:] not in (arrangement.shape, (prod(arrangement.shape),)):
        raise ValueError(
            f"expected {name} (records, {', '.join(map(str, arrangement.shape))}), as the network was trained on; got "
            f"{values.shape}"
        )
    records = arrangement.apply(values.reshape(-1, *arrangement.shape))
    if behind.pixels:
        if not _is_pixels(records):
            raise ValueError(
                f"expected pixels from 0 to {MOST_PIXEL} as {name}, as the network was trained on; got {values.dtype} "
                f"from {float(values.min()):g} to {float(values.max()):g}"
            )
        return records.astype(np.uint8)
    return as_float32(records, name) if behind.mean.dtype == np.float32 else records.astype(np.float64)


def _given(values: NDArray[Any], record_shape: Shape, layout: str, name: str) -> Arrangement:
    """Read records of the shape that the user gives, stored as rows of numbers or as they are.

    Raises:
        ValueError: If no record has that shape.
    """
    if len(record_shape) not in (2, 3):
        raise ValueError(
            "expected --record-shape with (channels, height, width) or (channels, time); "
            f"got {','.join(map(str, record_shape))}"
        )
    found = _image(_in_file(record_shape, layout), layout) if len(record_shape) == 3 else _signal(record_shape, layout)
    is_row = values.ndim == 2 and values.shape[1] == prod(record_shape)
    if layout == FIRST and is_row:
        return Arrangement(values.shape[1:], (0,), found.input_shape)
    grey = values.ndim == 3 and record_shape[0] == 1 and values.shape[1:] == record_shape[1:]
    if grey and len(record_shape) == 3:
        return _grey(record_shape[1:])
    if not is_row and values.shape[1:] != found.shape:
        raise ValueError(
            f"expected {name} (records, {', '.join(map(str, found.shape))}) or as many numbers in a row, as "
            f"--record-shape {','.join(map(str, record_shape))} and the layout {layout} say; got {values.shape}"
        )
    return found


def _in_file(record_shape: Shape, layout: str) -> Shape:
    return record_shape if layout == FIRST else (*record_shape[1:], record_shape[0])


def _image(shape: Shape, layout: str) -> Arrangement:
    if layout == FIRST:
        return plain(shape)
    return Arrangement(shape, (2, 0, 1), (shape[2], shape[0], shape[1]))


def _signal(record_shape: Shape, layout: str) -> Arrangement:
    channels, time = record_shape
    axes = (0, 1) if layout == FIRST else (1, 0)
    return Arrangement(_in_file(record_shape, layout), axes, (channels, 1, time))


def _grey(shape: Shape) -> Arrangement:
    return Arrangement(shape, (0, 1), (1, *shape))


def signals(channels: int, time: int) -> Arrangement:
    """Return the arrangement of signals that come as `(channels, time)`.

    >>> signals(9, 128).input_shape
    (9, 1, 128)
    """
    return _signal((channels, time), FIRST)


def decoded(height: int, width: int, channels: int) -> Arrangement:
    """Return the arrangement of images as a decoder gives them: grey `(height, width)`, else with the channels last.

    >>> decoded(28, 30, 3).input_shape, decoded(28, 30, 1).shape
    ((3, 28, 30), (28, 30))
    """
    return _grey((height, width)) if channels == 1 else _image((height, width, channels), LAST)


def _layout_of(shape: Shape, name: str) -> str:
    """Tell the layout of images `(records, axis, axis, axis)` by their lengths.

    Raises:
        ValueError: If both are plausible, or neither.
    """
    _, first, middle, last = shape
    lengths = {FIRST: (first, (middle, last)), LAST: (last, (first, middle))}
    plausible = [layout for layout, (length, _) in lengths.items() if length <= MOST_CHANNELS]
    if not plausible:
        plausible = [layout for layout, (length, others) in lengths.items() if _is_small(length, others)]
    if len(plausible) == 1:
        return plausible[0]
    reason = "both the first and the last axis" if plausible else "neither the first nor the last axis"
    raise ValueError(
        f"expected --layout {FIRST} or {LAST} for {name} {shape}: {reason} of a record can be its channels"
    )


def _is_small(length: int, others: Shape) -> bool:
    return all(2 * length <= other for other in others if other > 1)


def _without_channels_axis(values: NDArray[Any], layout: str | None, name: str) -> Arrangement:
    """Read `(records, axis, axis)`: grey images, or signals of several channels.

    Raises:
        ValueError: If both are plausible.
    """
    shape = values.shape[1:]
    small, large = sorted(shape)
    is_square = 2 * small > large
    if is_square and small >= LEAST_SIDE and _is_pixels(values):
        return _grey(shape)
    if layout is not None:
        return _signal(shape if layout == FIRST else shape[::-1], layout)
    if is_square:
        raise ValueError(
            f"expected to know what {name} {values.shape} {values.dtype} are: --record-shape 1,{shape[0]},{shape[1]} "
            f"says grey images, --layout {FIRST} signals (records, channels, time), --layout {LAST} (records, time, "
            "channels)"
        )
    return _signal((small, large), FIRST if shape[0] == small else LAST)


def _is_pixels(values: NDArray[Any]) -> bool:
    """Tell whether all are whole numbers from 0 to 255, and not merely 0 and 1 in floating point."""
    if values.dtype == np.uint8:
        return True
    if not 0 <= values.min() <= values.max() <= MOST_PIXEL:  # false for NaN
        return False
    return values.dtype.kind in "iu" or (values.max() > 1 and bool((values == np.floor(values)).all()))


def _as_pixels(values: NDArray[Any], name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return images or signals as `Records` takes them, and what is to say about it."""
    if values.dtype == np.uint8:
        return values, ()
    if values.dtype.kind in "iu" and _is_pixels(values):
        note = f"{name} are {values.dtype} from 0 to {MOST_PIXEL} and count as pixels in uint8"
        return values.astype(np.uint8), (note,)
    single = as_float32(values, name)
    if values.dtype.itemsize > 4 and float(values.std()) * FAR < abs(float(values.mean())):
        return np.ascontiguousarray(values, dtype=np.float64), ()  # float32 would keep few digits of what differs
    if single.min() >= 0 and 1 < single.max() <= MOST_PIXEL and _is_pixels(single):
        return single, (f"{name} are {values.dtype} from 0 to {MOST_PIXEL}: pixels, kept in the user's scale",)
    return single, ()


def _as_table(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return a table in float64 if its numbers may have more digits than float32 holds."""
    single = as_float32(values, name)
    if values.dtype.itemsize < 4 or values.dtype == np.float32:
        return single
    return np.ascontiguousarray(values, dtype=np.float64)


def _described(shape: Shape, arrangement: Arrangement, name: str) -> tuple[str, ...]:
    """Say how axes were read, where a network's order is not the user's."""
    if arrangement.is_plain:
        return ()
    channels, height, width = arrangement.input_shape
    what = f"signals of {channels} channels and {width} steps" if height == 1 else f"images of {height} x {width}"
    order = {(0,): "row by row", (0, 1): f"{FIRST}"}.get(arrangement.axes, LAST)
    if height > 1 and arrangement.axes == (0, 1):
        order = "grey, without an axis for the channel"
    elif height > 1:
        order = f"{channels} channels, {order}"
    return (f"{name} {shape} are read as {what}, {order}",)
