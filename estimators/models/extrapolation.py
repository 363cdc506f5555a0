"""How far an estimate lies from what was measured, and how much wider its interval is for that.

An interval from cross-validation holds for networks like those measured. Two things make a network another one: it is
faster or slower than all of them, or it has operators of a kind that none of them had. Both widen the interval and set
`Estimate.extrapolated`. `benchmarks/extrapolation.py` measures by how much: it leaves out whole sizes, kinds,
precisions and boards, not single networks.
"""

from __future__ import annotations

from functools import lru_cache

from estimators.devices.device import WIDEST_INTEGER
from estimators.devices.device import Calibration
from estimators.devices.device import Device
from estimators.estimate import Estimate
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.architecture import Pair
from search_spaces.graph.operators import STANDS_IN

GROWTH = 0.5
"""Exponent of the distance by which an interval grows: at a quarter of the range's lower end it is twice as wide. That
holds 90 % of the networks outside the range in 14 of 19 data sets, 80 % in 4, and 45 % in the worst; without it 7 reach
90 %."""
OTHER_KIND = 2.0
"""Factor by which an interval grows where a kind of layer, or a precision, was not measured: kinds left out whole are
off by a factor of 1.6 or less in 90 % of 19 cases, and of 2.2 in the worst."""
OTHER_RAM = 2.5
"""Factor around peak RAM that was measured on no network of this device: three engines hold one network in memory that
differs by up to 2.3, two boards with related engines by up to 2.1."""
OTHER_CODE = 3.5
"""The same around the engine's own share of the flash: between two boards with related engines it differs by up to 3.2
in 90 % of 13 cases. Weights are counted."""


def timed(time_ms: float, architecture: Architecture, device: Device) -> Estimate:
    """Return a predicted time with the device's interval, wider where it is an extrapolation.

    Args:
        time_ms: Predicted, of the network or of a part of it.
        architecture: The network as it runs (`estimators.devices.device.deployed`).
        device: The device.
    """
    if not time_ms:  # nothing of it runs there
        return Estimate.exact(0.0)
    interval, far = device.latency.interval, distance(time_ms, device)
    strange = bool(unlike(architecture, device.calibration)) or bool(stand_ins(architecture, device))
    wider = far**GROWTH * (OTHER_KIND if strange else 1.0)
    low, high = max(0.0, time_ms * (1 - interval)) / wider, time_ms * (1 + interval) * wider
    return Estimate(time_ms, low, high, extrapolated=far > 1 or strange)


def distance(time_ms: float, device: Device) -> float:
    """Return by which factor a time lies outside the range that was measured on a device: 1 within it.

    A time whose interval reaches the range is not outside: it may be one of the networks measured. One factor, that of
    the upper end, counts on both sides. Above the range the lower end would reach a little further, and with a
    half-width of 1 or more, which few rows give, any distance: nothing would be extrapolated there.
    `benchmarks/extrapolation.py` counts by the same rule.
    """
    return max(1.0, device.calibration.distance(time_ms) / (1 + device.latency.interval))


def unlike(architecture: Architecture, found: Calibration) -> list[str]:
    """Return what of a network no measured one had, in words: windows of layers, and layers with more bits."""
    layers = [kernel for kernel in architecture.kernels if kernel.macs]
    said = []
    widest = found.widest_bits
    if widest is not None and [one for one in layers if one.weight_bits > widest or one.input_bits > widest]:
        said.append(f"layers of more than {widest} bits")
    windows = dict.fromkeys([kernel.window for kernel in layers if kernel.window != (1, 1)])
    if found.windows and (others := [name for name in map(named, windows) if name not in found.windows]):
        said.append(f"windows of {' and '.join(others)}")
    return said


def stand_ins(architecture: Architecture, device: Device) -> dict[str, str]:
    """Return the types of a network's kernels that have no figures, each with the type whose figures price it."""
    kinds = sorted(architecture.kernel_kinds.intersection(STANDS_IN))
    return {kind: other for kind in kinds if (other := device.latency.priced_as(kind)) != kind}


@lru_cache(maxsize=1024)
def named(window: Pair) -> str:
    """Write a window as `Calibration.windows` does: `10x4`."""
    return f"{window[0]}x{window[1]}"


def widest_bits(kernel: Kernel) -> int:
    """Return the bits of a kernel's weights or of its input, whichever are more."""
    return max(kernel.weight_bits, kernel.input_bits)


def is_float(kernel: Kernel) -> bool:
    """Tell whether a kernel multiplies in more bits than microcontrollers' integers have."""
    return bool(kernel.macs) and widest_bits(kernel) > WIDEST_INTEGER


def unmeasured(value: float, factor: float) -> Estimate:
    """Return what no network of a device was measured for, between a part and a multiple of it.

    >>> unmeasured(10.0, 2.5)
    Estimate(value=10.0, low=4.0, high=25.0, extrapolated=True)
    """
    return Estimate(value, value / factor, value * factor, extrapolated=True)


def summed(*estimates: Estimate) -> Estimate:
    """Add estimates, their ends as well: the cautious way. The sum is extrapolated if one of them is."""
    return Estimate(
        sum(estimate.value for estimate in estimates),
        sum(estimate.low for estimate in estimates),
        sum(estimate.high for estimate in estimates),
        any(estimate.extrapolated for estimate in estimates),
    )
