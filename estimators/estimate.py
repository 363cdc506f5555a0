"""A number and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Container
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

ENDS = ("_low", "_high")
"""What follows a number's name in the names of its interval's ends, in the flat form."""
EXTRAPOLATED = "_extrapolated"
"""What follows a number's name in the flat form, with the value True, where nothing like it was measured."""
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval. Lower is better for every metric of the product.

    Attributes:
        value: The estimate, in the unit that the metric's name says.
        low: Lower end of the interval (95 % for measured errors and leakage; a device's own interval for latency).
        high: Upper end. A number that is counted, not estimated, has `low == value == high`.
        extrapolated: Whether the estimate lies outside what was measured: its interval is a guess, and wide for that
            reason.

    Raises:
        ValueError: If a number is NaN or infinite, or the value lies outside its interval.

    >>> Estimate.exact(3)
    Estimate(value=3.0, low=3.0, high=3.0, extrapolated=False)
    >>> Estimate(0.5, 0.6, 0.7)
    Traceback (most recent call last):
    ValueError: expected low <= value <= high; got 0.6, 0.5, 0.7
    """

    value: float
    low: float
    high: float
    extrapolated: bool = False

    def __post_init__(self) -> None:
        # One chained comparison checks order and NaN at once; only infinities need a second look.
        if not self.low <= self.value <= self.high:
            raise ValueError(f"expected low <= value <= high; got {self.low}, {self.value}, {self.high}")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"expected finite numbers; got {self.low}, {self.value}, {self.high}")

    def upper(self, confidence: float, *, of: float) -> float:
        """Return the upper end of the one-sided interval of another confidence, as of a normal error.

        Args:
            confidence: Share of cases in which the number should lie below the end; above 0.5.
            of: Share that the interval from `low` to `high` covers.

        >>> Estimate(10.0, 8.0, 12.0).upper(0.95, of=0.90)  # that is this interval's own end
        12.0
        >>> round(Estimate(0.6, 0.58, 0.62).upper(0.95, of=0.95), 4)
        0.6168
        """
        return self.value + (self.high - self.value) * NORMAL.inv_cdf(confidence) / NORMAL.inv_cdf((1 + of) / 2)

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
        `NAME_high`, its ends, and an extrapolated one `NAME_extrapolated`, which is True.

    >>> flat({"macs": Estimate.exact(12.0), "latency_ms": Estimate(0.5, 0.4, 0.6)})
    {'macs': 12, 'latency_ms': 0.5, 'latency_ms_low': 0.4, 'latency_ms_high': 0.6}
    """
    numbers: dict[str, float] = {}
    for name, estimate in estimates.items():
        numbers[name] = plain(estimate.value)
        if estimate.low < estimate.high:
            numbers |= {f"{name}{ENDS[0]}": estimate.low, f"{name}{ENDS[1]}": estimate.high}
        if estimate.extrapolated:
            numbers[f"{name}{EXTRAPOLATED}"] = True
    return numbers


def plain(number: float) -> float:
    """Return a whole number as an `int`: `12` and not `12.0` in JSON and CSV."""
    return int(number) if float(number).is_integer() else number


def from_flat(numbers: Mapping[str, Any], name: str) -> Estimate:
    """Read one estimate from what `flat` wrote. Without ends, the number is exact.

    Raises:
        KeyError: If there is no such number.

    >>> from_flat({"latency_ms": 0.5, "latency_ms_low": 0.4, "latency_ms_high": 0.6}, "latency_ms")
    Estimate(value=0.5, low=0.4, high=0.6, extrapolated=False)
    """
    value = float(numbers[name])
    low, high = (float(numbers.get(f"{name}{end}", value)) for end in ENDS)
    return Estimate(value, low, high, extrapolated=bool(numbers.get(f"{name}{EXTRAPOLATED}", False)))


def extrapolated_in(numbers: Mapping[str, Any]) -> list[str]:
    """List the numbers of the flat form that are extrapolated, by their names.

    >>> extrapolated_in(flat({"macs": Estimate.exact(12), "latency_ms": Estimate(0.5, 0.1, 2.5, extrapolated=True)}))
    ['latency_ms']
    """
    flags = (name for name, value in numbers.items() if name.endswith(EXTRAPOLATED) and value is True)
    return [name.removesuffix(EXTRAPOLATED) for name in flags]


def metric_of(name: str, known: Container[str]) -> str | None:
    """Return the metric that a name stands for: itself, or the one whose interval's end it names; None for neither.

    >>> metric_of("leakage_high", {"leakage"}), metric_of("leakage", {"leakage"}), metric_of("speed", {"leakage"})
    ('leakage', 'leakage', None)
    """
    if name in known:
        return name
    bases = (name.removesuffix(end) for end in ENDS if name.endswith(end))
    return next((base for base in bases if base in known), None)


def number_of(numbers: Mapping[str, Any], name: str) -> float | None:
    """Return a number of the flat form by its name, which may be that of an interval's end; None if there is none.

    The ends of an exact number, which has none in the flat form, are the number.

    >>> numbers = flat({"macs": Estimate.exact(12.0), "latency_ms": Estimate(0.5, 0.4, 0.6)})
    >>> number_of(numbers, "latency_ms_high"), number_of(numbers, "macs_high"), number_of(numbers, "error")
    (0.6, 12.0, None)
    """
    return None if metric_of(name, numbers) is None else number_in(numbers, name)


def number_in(numbers: Mapping[str, Any], name: str) -> float:
    """Return a number that is there, as `number_of` does.

    Raises:
        KeyError: If it is not.
    """
    return float(numbers[metric_of(name, numbers) or name])
