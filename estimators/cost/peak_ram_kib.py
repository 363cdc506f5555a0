"""Largest memory for tensors at any moment, in the best order of execution, plus the engine's own, in KiB."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.devices.fields import no_rule
from estimators.estimate import Estimate
from estimators.models.extrapolation import OTHER_RAM
from estimators.models.extrapolation import unmeasured
from estimators.models.latency import around
from estimators.models.memory import BYTES_PER_KIB
from estimators.models.memory import best_order
from estimators.models.memory import engine_kib
from estimators.models.memory import tensor_bytes
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.operators import VIEW_KINDS


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Find the smallest peak of tensor memory over all orders of execution, and add the engine's own memory.

    While a kernel runs, its inputs, its output and every tensor that is still needed are live together, save that an
    output takes the place of an input where the device computes in place. The engine reserves `arena_factor` times
    that. Weights stay in flash. A tensor is stored at the narrowest width that the device stores and that holds it.
    Where no network's memory was measured on the device the estimate is extrapolated.

    Raises:
        ValueError: If an operator has no rule, or the device stores no width wide enough.
    """
    running = deployed(architecture, device)
    peak = _chain_peak(running, device)
    if peak is None:
        peak = best_order(running, device)[1]
    kib = peak * device.memory.arena_factor / BYTES_PER_KIB + engine_kib(running, peak, device)
    if not device.calibration.memory_networks:
        return unmeasured(kib, OTHER_RAM)
    return around(kib, max(device.memory.ram_interval, device.memory.ram_interval_kib / kib))


def _chain_peak(architecture: Architecture, device: Device) -> int | None:
    """Return the peak of a network without branches and early exits, else None. Most networks end here: it is fast."""
    if architecture.outputs != (len(architecture.ops) - 1,):
        return None
    first, previous = architecture.ops[0], 0
    in_place = device.memory.in_place
    held = peak = tensor_bytes(first.size, first.bits, device)
    for kernel in architecture.kernels:
        if kernel.inputs != (previous,):
            return None
        previous, kind = kernel.ops[-1], kernel.kind
        if kind in KERNEL_KINDS:
            size = tensor_bytes(kernel.output_size, kernel.output_bits, device)
            if kind not in in_place:
                peak = max(peak, held + size)
            elif size > peak:
                peak = size
            held = size
        elif kind not in VIEW_KINDS:
            raise no_rule(kind, "peak_ram_kib")
    return peak
