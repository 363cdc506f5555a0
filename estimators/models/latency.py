"""How long a network runs: a sum over fused kernels. Latency and energy both stand on it."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import NamedTuple
from typing import cast

from estimators.devices.corrections import Residual
from estimators.devices.device import USUAL_WINDOWS
from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.devices.device import stored_width
from estimators.devices.fields import CannotRun
from estimators.devices.fields import no_rule
from estimators.devices.kernel_features import features_of
from estimators.devices.trees import sum_of
from estimators.estimate import Estimate
from estimators.models.counts import COLUMNS
from estimators.models.counts import counts_of
from estimators.models.extrapolation import is_float
from estimators.models.extrapolation import named
from estimators.models.extrapolation import timed
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.operators import MAC_KINDS

MOST_LISTED = 16
"""Pairs of bits that a refusal lists one by one."""


class Rates(NamedTuple):
    """What a type of kernel costs at its bits and with its window, in cycles of a device's clock.

    Attributes:
        per_mac: One MAC; 0 for a kernel that multiplies nothing.
        per_output: An element written through a window that the engine has no kernels of its own for.
        per_window_element: One position of the window of an element written, in floating point.
        per_element: An element read or written.
        per_kernel: The kernel itself.
    """

    per_mac: float
    per_output: float
    per_window_element: float
    per_element: float
    per_kernel: float


def rates_of(kernel: Kernel, device: Device) -> Rates:
    """Return the rates of a kernel's type at its bits, found once for a device: few differ among millions of kernels.

    Raises:
        ValueError: If the device has no rule for this type of kernel or for its bits.
    """
    like = _like(kernel)
    rates: Rates | None = device.rates.get(like)
    if rates is None:
        rates = device.rates[like] = _rates(kernel, device)
    return rates


# An `itemgetter` reads several fields in half the time of as many attributes.
_like = itemgetter(*map(Kernel._fields.index, ("kind", "window", "weight_bits", "input_bits")))
_sizes = itemgetter(*map(Kernel._fields.index, ("macs", "input_size", "output_size", "sparsity", "window")))


def _rates(kernel: Kernel, device: Device) -> Rates:
    latency = device.latency
    kernel = kernel._replace(kind=latency.priced_as(kernel.kind))
    coefficients = latency.coefficients.get(kernel.kind)
    if coefficients is None:
        raise no_rule(kernel.kind, f"the latency table of {device.name!r}")
    _, per_element, per_kernel = coefficients
    if kernel.kind not in MAC_KINDS:
        return Rates(0.0, 0.0, 0.0, per_element, per_kernel)
    per_output = per_window_element = 0.0
    if kernel.window not in USUAL_WINDOWS and named(kernel.window) not in device.calibration.windows:
        per_output = latency.cycles_per_other_output.get(kernel.kind, 0.0)
    if latency.float_kernels is not None and is_float(kernel):
        per_window_element = latency.float_kernels.cycles_per_window_element.get(kernel.kind, 0.0)
    return Rates(_mac_cycles(kernel, device), per_output, per_window_element, per_element, per_kernel)


def _mac_cycles(kernel: Kernel, device: Device) -> float:
    latency = device.latency
    relative = latency.relative_by_bits.get((kernel.weight_bits, kernel.input_bits))
    if relative is None:
        raise _no_bits(kernel, device)
    if latency.float_kernels is not None and is_float(kernel):
        found = latency.float_kernels.cycles_per_mac.get(kernel.kind)
        if found is not None:
            return found
    return latency.cycles_per_mac.get(kernel.kind, 0.0) * relative


def kernel_cycles(kernel: Kernel, device: Device) -> float:
    """Price one kernel by its counts, in cycles of the device's clock; what is learned of its neighbours is not in it.

    Raises:
        ValueError: If the device has no rule for this type of kernel or for its bits.
    """
    compute, memory, overhead = cycle_parts(kernel, device)
    return compute + memory + overhead


def cycle_parts(kernel: Kernel, device: Device) -> tuple[float, float, float]:
    """Split a kernel's cycles into what computing, moving data and starting it take.

    Where a layer has two roofs, its MACs and its bytes, the higher one is its price and the other takes no time.

    Raises:
        ValueError: If the device has no rule for this type of kernel or for its bits.
    """
    rates, latency = rates_of(kernel, device), device.latency
    macs, input_size, output_size, sparsity, (rows, columns) = _sizes(kernel)
    compute = memory = 0.0
    if macs:
        done: float = macs if latency.array is None else occupied_macs(kernel, latency.array)
        if sparsity and (sparse := device.sparse_form(kernel)) is not None:
            done = done * (1 - sparse.time_saved * sparsity)
        through = output_size * rows * columns
        compute = done * rates.per_mac + (output_size * rates.per_output + through * rates.per_window_element)
    if latency.cycles_per_byte and (per_byte := latency.cycles_per_byte.get(latency.priced_as(kernel.kind))):
        weights, tensors = moved_bytes(kernel, device)
        memory = weights * latency.cycles_per_weight_byte.get(kernel.kind, per_byte) + tensors * per_byte
        if memory > compute:
            compute = 0.0
        else:
            memory = 0.0
    return compute, memory + (input_size + output_size) * rates.per_element, rates.per_kernel


def cycles_of_kernels(architecture: Architecture, device: Device) -> list[float]:
    """Price each of a network's kernels in cycles of the device's clock, in order.

    Args:
        architecture: The network as it runs (`estimators.devices.device.deployed`).
        device: The device.

    Raises:
        ValueError: If the device has no rule for an operator or its bits.
    """
    cycles = [kernel_cycles(kernel, device) for kernel in architecture.kernels]
    if device.latency.kernels is None:
        return cycles
    return [price * factor for price, factor in zip(cycles, learned_factors(architecture, device), strict=True)]


def learned_factors(architecture: Architecture, device: Device) -> list[float]:
    """Return what each kernel's cycles are multiplied by: 1 where the device has learned nothing of kernels."""
    learned = device.latency.kernels
    if learned is None:
        return [1.0] * len(architecture.kernels)
    described = zip(architecture.kernels, features_of(architecture), strict=True)
    return [learned.factor(device.latency.priced_as(kernel.kind), features) for kernel, features in described]


def occupied_macs(kernel: Kernel, array: tuple[int, ...]) -> int:
    """Count MACs as if a layer's fan-in filled an array's rows and its output channels the columns.

    Rows without a product to add and columns without a channel wait; what exceeds the array is folded over it.
    """
    fan_in = kernel.weights // kernel.channels
    return kernel.macs // kernel.weights * max(fan_in, array[0]) * max(kernel.channels, array[1])


def moved_bytes(kernel: Kernel, device: Device) -> tuple[float, float]:
    """Bytes that a kernel moves at the widths the device stores: its weights, and its inputs and outputs.

    Raises:
        ValueError: If the device stores no width wide enough.
    """
    weights = kernel.weights * stored_width(kernel.weight_bits, device.weight_bits) if kernel.weights else 0
    inputs = kernel.input_size * stored_width(kernel.input_bits, device.activation_bits)
    output_bits = device.latency.accumulator_bits or stored_width(kernel.output_bits, device.activation_bits)
    return weights / 8, (inputs + kernel.output_size * output_bits) / 8


def streamed_cycles(architecture: Architecture, device: Device) -> float:
    """Cycles to read, in every inference, the weights that an accelerator's cache cannot keep between two.

    A property of the whole network: a kernel's share is its share of the weights.

    Raises:
        ValueError: If the device stores no width wide enough.
    """
    cache_kib = device.latency.weight_cache_kib
    if cache_kib is None:
        return 0.0
    bits = sum(k.weights * stored_width(k.weight_bits, device.weight_bits) for k in architecture.kernels if k.weights)
    return max(0.0, bits / 8 - cache_kib * 1024) * device.latency.cycles_per_streamed_byte


def _no_bits(kernel: Kernel, device: Device) -> CannotRun:
    bits = "/".join(map(str, dict.fromkeys((kernel.weight_bits, kernel.input_bits))))
    pairs = device.latency.relative_cycles
    there = str(["/".join(map(str, dict.fromkeys(pair))) for pair in pairs])
    if len(pairs) > MOST_LISTED:
        weights, inputs = (sorted(set(widths)) for widths in zip(*pairs, strict=True))
        there = f"{len(pairs)} pairs of weights in {weights} and inputs in {inputs}"
    return CannotRun(f"no rule for {bits} bits in the latency table of {device.name!r}; there are {there}")


def inference_ms(architecture: Architecture, device: Device) -> Estimate:
    """Predict the time of one inference in milliseconds, with the device's 90 % interval.

    Where no network like it was measured the interval is wider, and the estimate says that it is extrapolated. Time and
    energy both ask for it, so a network keeps that of the last device.

    Raises:
        ValueError: If the device has no rule for an operator or its bits.
    """
    running = deployed(architecture, device)
    kept = running.shared.get("inference_ms")
    if kept is None or kept[0] is not device:
        kept = running.shared["inference_ms"] = (device, _inference_ms(running, device))
    return cast(Estimate, kept[1])


def _inference_ms(running: Architecture, device: Device) -> Estimate:
    cycles = sum(cycles_of_kernels(running, device))
    cycles += streamed_cycles(running, device)
    # A megahertz is a thousand cycles per millisecond.
    time_ms = device.latency.overhead_ms + cycles / (device.clock_mhz * 1e3)
    if device.latency.residual is not None:
        time_ms *= correction(running, device.latency.residual)
    return timed(time_ms, running, device)


def correction(architecture: Architecture, residual: Residual) -> float:
    """Return the factor that a learned residual puts on a network's time."""
    counts = dict(zip((f"{table}.{kind}" for table, kind in COLUMNS), counts_of(architecture), strict=True))
    features = [counts[column] for column in residual.columns]
    return math.exp(sum_of(residual.trees, features))


def around(value: float, interval: float) -> Estimate:
    """Return a value with its interval of relative half-width `interval`; time and energy do not fall below 0.

    >>> around(2.0, 0.25)
    Estimate(value=2.0, low=1.5, high=2.5, extrapolated=False)
    """
    return Estimate(value, max(0.0, value * (1 - interval)), value * (1 + interval))
