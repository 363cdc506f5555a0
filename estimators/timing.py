"""How long a network runs: a sum over fused kernels. Latency and energy both stand on it."""

from __future__ import annotations

from estimators.device import Device
from estimators.device import no_rule
from estimators.estimate import Estimate
from search_spaces.graph import Architecture
from search_spaces.graph import Kernel


def kernel_cycles(kernel: Kernel, device: Device) -> float:
    """Price one kernel in cycles of the device's clock.

    Raises:
        ValueError: If the device has no rule for this type of kernel or for its bits.
    """
    coefficients = device.latency.coefficients.get(kernel.kind)
    if coefficients is None:
        raise no_rule(kernel.kind, f"the latency table of {device.name!r}")
    per_mac, per_element, per_kernel = coefficients
    cycles = (kernel.input_size + kernel.output_size) * per_element + per_kernel
    if kernel.macs:
        bits = max(kernel.weight_bits, kernel.input_bits)
        relative = device.latency.relative_by_bits.get(bits)
        if relative is None:
            raise ValueError(f"no rule for {bits} bits in the latency table of {device.name!r}")
        cycles += kernel.macs * per_mac * relative
    return cycles


def inference_ms(architecture: Architecture, device: Device) -> Estimate:
    """Predict the time of one inference in milliseconds, with the device's 90 % interval.

    Raises:
        ValueError: If the device has no rule for an operator or its bits.
    """
    cycles = sum([kernel_cycles(kernel, device) for kernel in architecture.kernels])
    # A megahertz is a thousand cycles per millisecond.
    return around(device.latency.overhead_ms + cycles / (device.clock_mhz * 1e3), device.latency.interval)


def around(value: float, interval: float) -> Estimate:
    """Return a value with its interval of relative half-width `interval`; time and energy do not fall below 0.

    >>> around(2.0, 0.25)
    Estimate(value=2.0, low=1.5, high=2.5)
    """
    return Estimate(value, max(0.0, value * (1 - interval)), value * (1 + interval))
