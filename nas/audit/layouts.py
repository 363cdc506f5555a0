"""Whether records fit a network's input in one way, and how they are turned for it.

>>> layout_for((3, 32, 32), (32, 32, 3)).told
'the records (3, 32, 32) were transposed to (32, 32, 3) for the input'
>>> layout_for((28, 28), (1, 28, 28)).turned(np.zeros((5, 28, 28))).shape
(5, 1, 28, 28)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from estimators.leakage.evidence import Floats

Shape: TypeAlias = tuple[int, ...]
IMAGE = 3


@dataclass(frozen=True)
class Layout:
    """How records are turned for an input.

    Attributes:
        order: The records' axes in the input's order; None: as they are.
        shape: Shape of a record after that.
        told: What was done, for people; None: nothing.
    """

    order: Shape | None
    shape: Shape
    told: str | None = None

    def turned(self, records: Floats) -> Floats:
        """Return records `(records, ...)` as the input takes them."""
        if self.order is not None:
            records = np.transpose(records, (0, *(axis + 1 for axis in self.order)))
        return np.ascontiguousarray(records.reshape(len(records), *self.shape))


def layout_for(shape: Shape, wanted: Sequence[int | None]) -> Layout | str:
    """Say how records fit an input, or why they do not.

    Records that fit as they are stay so. Else the channels of an image or a signal go from the first place to the last
    or back, if one of the two fits and not both; axes of length 1 are added or left out; and what has one channel may
    be flat.

    Args:
        shape: Of a record.
        wanted: Of the input's records; None where any length will do.

    Returns:
        The layout, or the end of a message: empty, or what is ambiguous.
    """
    if _fits(shape, wanted):
        return Layout(None, shape)
    axes = tuple(range(len(shape)))
    orders = dict.fromkeys([(*axes[1:], 0), (axes[-1], *axes[:-1])] if 2 <= len(shape) <= IMAGE else [])
    fitting = [order for order in orders if _fits(turned := tuple(shape[axis] for axis in order), wanted)]
    if len({tuple(shape[axis] for axis in order) for order in fitting}) > 1:
        return ": the channels may go from the first axis to the last or back, so transpose them yourself"
    if fitting:
        turned = tuple(shape[axis] for axis in fitting[0])
        return Layout(fitting[0], turned, f"the records {shape} were transposed to {turned} for the input")
    lengths = tuple(length for length in wanted if length is not None)
    if len(lengths) == len(wanted) and prod(lengths) == prod(shape) and _is_same_order(shape, lengths):
        return Layout(None, lengths, f"the records {shape} were reshaped to {lengths} for the input")
    return ""


def _is_same_order(shape: Shape, wanted: Shape) -> bool:
    """Tell whether two shapes of as many numbers have them in the same order: equal but for axes of 1, or one is flat.

    Flat images of several channels and flat signals have no usual order.
    """
    first, second = (tuple(length for length in lengths if length > 1) for lengths in (shape, wanted))
    flat, other = sorted((shape, wanted), key=len)
    return first == second or (len(flat) == 1 and len(other) == IMAGE and 1 in (other[0], other[-1]))


def _fits(shape: Shape, wanted: Sequence[int | None]) -> bool:
    if len(shape) != len(wanted):
        return False
    return all(length in (None, own) for own, length in zip(shape, wanted, strict=True))
