"""How the numbers of one record lie in a user's file, and how in the network's input."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How a record becomes what the network reads: its axes are put into another order, then named anew.

    Attributes:
        shape: Shape of one record as the user has it, such as `(height, width, channels)`.
        axes: The record's axes in the network's order: `(2, 0, 1)` brings channels to the front.
        input_shape: Shape of one record as the network reads it, such as `(channels, height, width)`.

    Raises:
        ValueError: If the axes are not those of the shape, or the two shapes hold different numbers of values.

    >>> last = Arrangement((4, 6, 3), (2, 0, 1), (3, 4, 6))
    >>> last.apply(np.zeros((10, 4, 6, 3))).shape
    (10, 3, 4, 6)
    """

    shape: Shape
    axes: tuple[int, ...]
    input_shape: Shape

    def __post_init__(self) -> None:
        if sorted(self.axes) != list(range(len(self.shape))) or prod(self.shape) != prod(self.input_shape):
            raise ValueError(
                f"expected axes of {self.shape} that give {self.input_shape}; got {self.axes} of {prod(self.shape)} "
                f"values for {prod(self.input_shape)}"
            )

    @property
    def is_plain(self) -> bool:
        """Whether the network reads records as the user has them."""
        return self.shape == self.input_shape and list(self.axes) == sorted(self.axes)

    def apply(self, records: NDArray[Any]) -> NDArray[Any]:
        """Return records `(records, *shape)` as `(records, *input_shape)`.

        Raises:
            ValueError: If the records have another shape.
        """
        if records.shape[1:] != self.shape:
            raise ValueError(f"expected records of shape {self.shape}; got {records.shape[1:]}")
        moved = records.transpose(0, *(axis + 1 for axis in self.axes))
        return np.ascontiguousarray(moved).reshape(len(records), *self.input_shape)

    def undone(self, records: NDArray[Any]) -> NDArray[Any]:
        """Return records `(records, *input_shape)` as the user has them, `(records, *shape)`.

        Raises:
            ValueError: If the records have another shape.
        """
        if records.shape[1:] != self.input_shape:
            raise ValueError(f"expected records of shape {self.input_shape}; got {records.shape[1:]}")
        moved = records.reshape(len(records), *(self.shape[axis] for axis in self.axes))
        return np.ascontiguousarray(moved.transpose(0, *(self.axes.index(axis) + 1 for axis in range(len(self.axes)))))


def plain(shape: Shape) -> Arrangement:
    """Return the arrangement of records that a network reads as they are."""
    return Arrangement(shape, tuple(range(len(shape))), shape)
