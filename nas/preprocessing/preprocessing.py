"""All that a network was trained behind: without it, the network's answers about a user's records are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.arrangement import Shape
from nas.preprocessing.arrangement import plain
from nas.preprocessing.columns import Column

Floats: TypeAlias = NDArray[np.float32]
PIXEL = 255
"""A pixel in uint8 counts as its share of this."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """From a user's records to a network's input, and from its logits to the name of a class.

    A table's cells become numbers by its columns. Numbers and pixels are put in the network's order by the
    arrangement. Then each column or channel is centred and divided by its deviation. The last two steps are written
    into an exported network; the first one is for whoever asks it.

    Attributes:
        arrangement: How one record lies in the user's data and in the network's input.
        mean: `(columns,)` or `(channels,)`: of the members, in the unit of the user's numbers; of pixels, 0 to 1.
        deviation: The same shape; 1 where all members are equal.
        pixels: Whether records are uint8, 0 to 255, and are divided by 255 first.
        columns: Columns of a table, in the order of their features; empty for everything else.
        classes: Name of each class, in the order of the logits; empty where nothing was trained.
    """

    arrangement: Arrangement
    mean: NDArray[Any]
    deviation: NDArray[Any]
    pixels: bool
    columns: tuple[Column, ...]
    classes: tuple[str, ...]

    def standardised(self, features: NDArray[Any]) -> Floats:
        """Return features as a network reads them, float32.

        Args:
            features: `(records, *input_shape)`, in the user's unit and the network's order. NaN, a missing number of a
                table, counts as its column's mean.
        """
        return standardised(features, self.mean, self.deviation)

    def restored(self, features: Floats) -> NDArray[Any]:
        """Return standardised features in the user's unit, as far as single precision kept them; pixels whole.

        Args:
            features: `(records, *input_shape)`, as a network reads them.
        """
        shape = (1, -1) + (1,) * (features.ndim - 2)
        values: NDArray[Any] = features.astype(np.float64) * self.deviation.reshape(shape) + self.mean.reshape(shape)
        return (values * PIXEL).round().clip(0, PIXEL).astype(np.uint8) if self.pixels else values

    @property
    def input_type(self) -> np.dtype[Any]:
        """What an exported network takes: pixels, or numbers in single precision.

        A table is centred by its columns before, so that single precision loses none of its digits. Numbers in double
        precision that no columns describe stay what they are.
        """
        if self.pixels:
            return np.dtype(np.uint8)
        return np.dtype(np.float64 if self.mean.dtype == np.float64 and not self.columns else np.float32)

    def as_given(self, features: NDArray[Any]) -> NDArray[Any]:
        """Return features as an exported network takes them: `(records, *arrangement.shape)`, in `input_type`.

        Args:
            features: `(records, *input_shape)`, in the user's unit and the network's order. NaN becomes the mean.
        """
        if features.dtype != np.uint8 and (missing := np.isnan(features)).any():
            features = np.where(missing, self.mean.astype(features.dtype), features)
        with np.errstate(over="ignore"):  # whoever takes the records refuses what overflows
            return self.arrangement.undone(features.astype(self.input_type, copy=False))


def unchanged(input_shape: Shape, classes: tuple[str, ...] = ()) -> Preprocessing:
    """Return the preprocessing of records that a network reads as they are."""
    ends = np.zeros(input_shape[0], np.float32), np.ones(input_shape[0], np.float32)
    return Preprocessing(plain(input_shape), *ends, False, (), classes)


def standardised(features: NDArray[Any], mean: NDArray[Any], deviation: NDArray[Any]) -> Floats:
    """Centre and scale each column or channel, and return float32.

    Pixels in uint8 are first divided by `PIXEL`. Numbers in double precision are centred in it: a small change on a
    large offset would be lost in float32. NaN, a missing number, becomes 0: the mean.

    Args:
        features: `(records, ...)`: uint8, float32 or float64.
        mean: `(columns,)` or `(channels,)`.
        deviation: The same shape.
    """
    values = scaled(features)
    shape = (1, -1) + (1,) * (values.ndim - 2)
    with np.errstate(all="ignore"):  # whoever takes the records refuses what overflows
        values -= np.asarray(mean, dtype=values.dtype).reshape(shape)
        values /= np.asarray(deviation, dtype=values.dtype).reshape(shape)
        single = values.astype(np.float32, copy=False)
    single[np.isnan(single)] = 0
    return single


def scaled(features: NDArray[Any]) -> NDArray[np.floating]:
    """Return a copy in floating point, in the precision that the features have; pixels as 0 to 1."""
    precise = np.float64 if features.dtype == np.float64 else np.float32
    copy: NDArray[np.floating] = np.array(features, dtype=precise, order="C")
    if features.dtype == np.uint8:
        np.divide(copy, precise(PIXEL), out=copy)
    return copy
