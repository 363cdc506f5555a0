"""How far an adversarial example may lie from its record, in the unit of the records."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from nas.preprocessing.columns import Column
from nas.preprocessing.preprocessing import PIXEL
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import Records

OF_IMAGES = 8 / PIXEL
"""The usual radius for images: 8 of 255 steps of a pixel."""
MOVABLE = ("number", "date")
"""Kinds of columns that a small change leaves a value of their kind."""


@dataclass(frozen=True, eq=False)
class Reach:
    """The ball around a record, and the range that records have.

    A network reads standardised records, one scale for each channel or column. So what is one radius to the user is
    another number for each of them here. Shapes broadcast to `(records, ...)`.

    Attributes:
        radius: Largest change of a value; 0 where a value may not change.
        low: Smallest value that a record has.
        high: Largest value that a record has.
    """

    radius: Tensor
    low: Tensor
    high: Tensor


def reach_of(members: Records, behind: Preprocessing, epsilon: float) -> Reach:
    """Return how far examples may lie from standardised records.

    Args:
        members: Standardised. They say what range each channel or column has; pixels have 0 to 255.
        behind: What standardised them.
        epsilon: Radius as a share of that range, such as 8/255.

    Raises:
        ValueError: If no value of a record may change: all columns hold categories or truth values.
    """
    axes = tuple(axis for axis in range(members.features.ndim) if axis != 1)
    low, high = members.features.min(axis=axes), members.features.max(axis=axes)
    if behind.pixels:
        low, high = ((np.float32(end) - behind.mean) / behind.deviation for end in (0, 1))
    movable = _movable(behind.columns) if behind.columns else np.ones(len(low), dtype=bool)
    if not movable.any():
        raise ValueError(
            "expected a column of numbers or dates to change a little; all hold categories or truth values"
        )
    shape = (1, -1) + (1,) * (members.features.ndim - 2)
    radius, low, high = (
        torch.from_numpy(np.asarray(values, dtype=np.float32).reshape(shape))
        for values in (epsilon * (high - low) * movable, low, high)
    )
    return Reach(radius, low, high)


def epsilon_of(text: str | None, input_shape: tuple[int, ...]) -> float:
    """Read a radius; images have a usual one.

    Args:
        text: A number or a fraction such as `8/255`; None: the usual one.
        input_shape: Of one record.

    Raises:
        ValueError: If it is neither, not above 0 and at most 1, or not given where none is usual.

    >>> epsilon_of("8/255", (4,)) == epsilon_of(None, (3, 32, 32))
    True
    """
    is_image = len(input_shape) == 3 and input_shape[1] > 1
    if text is None and not is_image:
        raise ValueError(
            "expected --epsilon, the largest change of a value as a share of its range: only images have a usual one, "
            f"8/255; got records {input_shape}"
        )
    try:
        epsilon = OF_IMAGES if text is None else float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        epsilon = -1.0
    if not 0 < epsilon <= 1:
        raise ValueError(f"expected --epsilon above 0 and at most 1, as 0.03 or 8/255; got {text!r}")
    return epsilon


def _movable(columns: tuple[Column, ...]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell for each feature whether a little more or less of it means something: `(features,)`."""
    return np.array(
        [column.kind in MOVABLE and place == 0 for column in columns for place in range(len(column.features))]
    )
