"""How much energy a network takes: power times time, or nanojoules by what its kernels do.

On a microcontroller the power hardly depends on the network. Where it does, because some kernels keep more of the chip
busy than others, a calibration fits the energy itself (`estimators.devices.device.Consumption`).
"""

from __future__ import annotations

import math

from estimators.devices.device import Consumption
from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.models.latency import around
from estimators.models.latency import correction
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel

NANOJOULES_PER_MILLIJOULE = 1e6


def kernel_mj(kernel: Kernel, consumption: Consumption, device: Device) -> float:
    """Return what one kernel takes, in millijoules. MACs of few bits save as much energy as they save time."""
    relative = device.latency.relative_by_bits.get((kernel.weight_bits, kernel.input_bits), 1.0)
    kind = device.latency.priced_as(kernel.kind)
    nanojoules = (
        kernel.macs * relative * consumption.nj_per_mac.get(kind, 0.0)
        + (kernel.input_size + kernel.output_size) * consumption.nj_per_element.get(kind, 0.0)
        + consumption.nj_per_kernel.get(kind, 0.0)
    )
    return nanojoules / NANOJOULES_PER_MILLIJOULE


def kernels_mj(running: Architecture, consumption: Consumption, device: Device) -> tuple[float, list[float]]:
    """Return what one inference takes beside its kernels, and what each kernel takes, in millijoules.

    Args:
        running: The network as it runs (`estimators.devices.device.deployed`). Each operator has a rule for its time.
        consumption: The device's nanojoules.
        device: The device.
    """
    factor = 1.0 if consumption.residual is None else correction(running, consumption.residual)
    kernels = [factor * kernel_mj(kernel, consumption, device) for kernel in running.kernels]
    return factor * consumption.overhead_mj, kernels


def together(value: float, time: Estimate, interval: float) -> Estimate:
    """Return a product of a time and a factor whose errors are independent: relative half-widths add as squares.

    Were they added, a 90 % interval would hold too often: both errors are rarely large at once, and in one direction.
    `benchmarks/energy_mcu.py` counts how often.

    Args:
        value: The product.
        time: The time with its interval; extrapolated if it is.
        interval: Relative half-width of the factor.

    >>> found = together(100.0, Estimate(10.0, 6.0, 13.0), 0.4)
    >>> round(found.low, 2), found.high
    (43.43, 150.0)
    """
    if not time.value:
        return around(value, interval)
    below, above = 1 - time.low / time.value, time.high / time.value - 1
    low = value * (1 - math.hypot(below, interval))
    return Estimate(value, max(0.0, low), value * (1 + math.hypot(above, interval)), extrapolated=time.extrapolated)
