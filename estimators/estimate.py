"""A number and how far it can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval. Lower is better for every metric of the product.

    Attributes:
        value: The estimate, in the unit that the metric's name says.
        low: Lower end of the interval (95 % for measured errors and leakage; a device's own interval for latency).
        high: Upper end. A number that is counted, not estimated, has `low == value == high`.

    Raises:
        ValueError: If a number is NaN or infinite, or the value lies outside its interval.

    >>> Estimate.exact(3)
    Estimate(value=3.0, low=3.0, high=3.0)
    >>> Estimate(0.5, 0.6, 0.7)
    Traceback (most recent call last):
    ValueError: expected low <= value <= high; got 0.6, 0.5, 0.7
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        # One chained comparison checks order and NaN at once; only infinities need a second look.
        if not self.low <= self.value <= self.high:
            raise ValueError(f"expected low <= value <= high; got {self.low}, {self.value}, {self.high}")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"expected finite numbers; got {self.low}, {self.value}, {self.high}")

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """A number without uncertainty."""
        value = float(value)
        return cls(value, value, value)
