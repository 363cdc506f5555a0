"""Upper limits of metrics, each with the reason for it: a user's budget, what a device has, the error's ceiling."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated
from typing import Any
from typing import Literal

from annotated_types import Gt
from annotated_types import Lt
from annotated_types import MaxLen
from annotated_types import MinLen
from pydantic import ConfigDict
from pydantic import Strict
from pydantic.dataclasses import dataclass

from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.estimate import metric_of
from estimators.estimate import number_of

BUDGET: Literal["budget"] = "budget"
DEVICE: Literal["device"] = "device"
CEILING: Literal["ceiling"] = "ceiling"
LOOK_BEYOND: Mapping[str, str] = {DEVICE: "--no-device-limits", CEILING: "--no-error-ceiling"}
"""The flag that lifts the limits of a kind; a budget is lifted by not setting it."""
MEMORIES: Mapping[str, tuple[str, str]] = {"peak_ram_kib": ("ram_kib", "RAM"), "flash_kib": ("flash_kib", "flash")}
"""What a device file says it has: the cost metric, the file's key, the name of the memory."""
# What a limit of 0 is divided by, to say how far a value is over it.
SMALLEST = 1e-12


# Not strict as a whole: a study holds limits as tables.
@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Limit:
    """The highest value of a metric that a candidate may have.

    Attributes:
        metric: Its name, or that of an end of its interval: `latency_ms_high` limits the upper end.
        value: The highest allowed value; a candidate that has it is within the limit.
        reason: Where the limit comes from, in a few words.
        kind: `budget` of the user's, `device` for its memory, `ceiling` for the default ceiling of the error.
        confidence: Share of cases, above 0.5, in which the metric of a candidate within the limit is within it too:
            the upper end of its interval counts, of a one-sided one. None: the value counts.

    >>> Limit("peak_ram_kib", 144.0, "stm32g0b1 has 144 KiB of RAM", DEVICE).told(533.4)
    'peak_ram_kib 533.4 > 144 (stm32g0b1 has 144 KiB of RAM)'
    """

    metric: Annotated[str, MinLen(1), MaxLen(200)]
    value: Annotated[float, Strict()]
    reason: Annotated[str, MinLen(1), MaxLen(500)]
    kind: Literal["budget", "device", "ceiling"]
    confidence: Annotated[float, Gt(0.5), Lt(1)] | None = None

    def excess(self, value: float) -> float:
        """Return by how much a value is over the limit, as a share of the limit; at most 0 within it."""
        return (value - self.value) / max(abs(self.value), SMALLEST)

    def told(self, value: float) -> str:
        """Say that a value exceeds the limit, with the reason of a limit that the user did not set."""
        because = "" if self.kind == BUDGET else f" ({self.reason})"
        return f"{self.metric} {value:.4g}{self._sure} > {self.value:.4g}{because}"

    @property
    def bare(self) -> str:
        """The limit as `--budget` would write it."""
        return f"{self.metric}={self.value:.4g}"

    @property
    def line(self) -> str:
        """Say what the limit is, why, and how to look beyond it."""
        flag = LOOK_BEYOND.get(self.kind)
        return f"limit {self.bare}{self._sure}: {self.reason}" + (f"; {flag} looks beyond" if flag else "")

    @property
    def row(self) -> dict[str, str | float]:
        """The limit as a study and JSON hold it; a limit that a value has to meet has no confidence."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def _sure(self) -> str:
        return "" if self.confidence is None else f" at {100 * self.confidence:.4g} % confidence"


def budget_limits(budgets: Mapping[str, float]) -> tuple[Limit, ...]:
    """Return the limits that a user sets."""
    return tuple(Limit(metric, float(value), "your budget", BUDGET) for metric, value in budgets.items())


def device_limits(device: Device) -> tuple[Limit, ...]:
    """Return the limits that a device sets: the memory that its file says it has, none where it says nothing."""
    return tuple(
        Limit(metric, float(kib), f"{device.name} has {kib:,.10g} KiB of {what}", DEVICE)
        for metric, (key, what) in MEMORIES.items()
        if (kib := getattr(device, key)) is not None
    )


def merged(budgets: Iterable[Limit], others: Iterable[Limit]) -> tuple[Limit, ...]:
    """Return one limit for each metric and each end of an interval.

    A budget takes the place of the error's ceiling, which is a guess at what the user wants; so does one on an end of
    the error's interval. It takes the place of what a device has only where it is lower: a higher one gives a chip no
    more memory.
    """
    found = {limit.metric: limit for limit in others}
    for budget in budgets:
        base = metric_of(budget.metric, found)
        if base is not None and found[base].kind == CEILING:
            del found[base]
        other = found.get(budget.metric)
        if other is None or budget.value <= other.value:
            found[budget.metric] = budget
    return tuple(found.values())


def exceeded(estimates: Mapping[str, Estimate], limits: Iterable[Limit]) -> list[Limit]:
    """Return the limits that estimates exceed; a metric not estimated yet is passed over."""
    return [limit for limit, _ in over(flat(estimates), limits)]


def over(numbers: Mapping[str, Any], limits: Iterable[Limit]) -> list[tuple[Limit, float]]:
    """Return the limits that numbers of the flat form exceed, each with its number; one that is not there does not.

    >>> limits = budget_limits({"latency_ms": 10, "latency_ms_high": 10, "error_low": 0.1})
    >>> [limit.told(number) for limit, number in over({"latency_ms": 9, "latency_ms_high": 11}, limits)]
    ['latency_ms_high 11 > 10']
    """
    found = ((limit, number_of(numbers, limit.metric)) for limit in limits)
    return [(limit, number) for limit, number in found if number is not None and limit.excess(number) > 0]


def misfits(estimates: Mapping[str, Estimate], device: Device) -> list[str]:
    """Say which of a device's memories a network exceeds, and by how much; nothing where it fits."""
    return [
        f"does not fit: needs {estimates[limit.metric].value:,.1f} KiB of {MEMORIES[limit.metric][1]}, "
        f"{device.name} has {limit.value:,.10g}"
        for limit in exceeded(estimates, device_limits(device))
    ]
