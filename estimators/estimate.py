"""A number and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENDS = ("_low", "_high")
"""What follows a number's name in the names of its interval's ends, in the flat form."""


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


def flat(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Write estimates as plain numbers, for JSON, CSV, a study's attributes or NNI's messages.

    Args:
        estimates: By name.

    Returns:
        `NAME` for each value, a whole number as an `int`. An estimate that has an interval also gives `NAME_low` and
        `NAME_high`, its ends.

    >>> flat({"macs": Estimate.exact(12.0), "latency_ms": Estimate(0.5, 0.4, 0.6)})
    {'macs': 12, 'latency_ms': 0.5, 'latency_ms_low': 0.4, 'latency_ms_high': 0.6}
    """
    numbers: dict[str, float] = {}
    for name, estimate in estimates.items():
        numbers[name] = plain(estimate.value)
        if estimate.low < estimate.high:
            numbers |= {f"{name}{ENDS[0]}": estimate.low, f"{name}{ENDS[1]}": estimate.high}
    return numbers


def plain(number: float) -> float:
    """Return a whole number as an `int`: `12` and not `12.0` in JSON and CSV."""
    return int(number) if float(number).is_integer() else number


def from_flat(numbers: Mapping[str, Any], name: str) -> Estimate:
    """Read one estimate from what `flat` wrote. Without ends, the number is exact.

    Raises:
        KeyError: If there is no such number.

    >>> from_flat({"latency_ms": 0.5, "latency_ms_low": 0.4, "latency_ms_high": 0.6}, "latency_ms")
    Estimate(value=0.5, low=0.4, high=0.6)
    """
    value = float(numbers[name])
    return Estimate(value, *(float(numbers.get(f"{name}{end}", value)) for end in ENDS))
