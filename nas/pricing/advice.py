"""Advice on a network's cost: what does not fit, and which layers dominate time, memory and flash."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from types import MappingProxyType

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.models.by_layer import INPUT
from estimators.models.by_layer import Layer
from estimators.models.what_if import WORTH_SAYING
from estimators.models.what_if import flash_with_fewer_bits
from estimators.models.what_if import ram_with_half_the_channels
from estimators.models.what_if import time_with_fewer_bits
from nas.pricing.limits import misfits
from search_spaces.graph.architecture import Architecture

HELPS: Mapping[str, str] = MappingProxyType(
    {
        "compute": "fewer MACs would help (fewer channels, a stride before it)",
        "memory": "smaller tensors would help (fewer channels, a stride before it), fewer MACs alone would not",
        "overhead": "fewer layers would help, smaller ones would not",
    }
)


def advice(layers: Sequence[Layer], architecture: Architecture, device: Device) -> list[str]:
    """Return lines that say which layers dominate a network's time, memory and flash, and what would reduce them.

    Args:
        layers: The layers of `estimators.models.by_layer.by_layer`.
        architecture: The network.
        device: The device they were priced on.
    """
    running = deployed(architecture, device)
    return [
        *misfits(_memory_needed(layers), device),
        _time(layers, running, device),
        _memory(layers, running, device),
        _flash(layers, running, device),
    ]


def named(layer: Layer) -> str:
    """Name a layer: `depthwise 5x5 at op 12`."""
    if layer.kernel is None:
        return "the engine itself"
    window = f" {layer.window[0]}x{layer.window[1]}" if layer.window != (1, 1) else ""
    return f"{layer.kind}{window} at op {layer.op}"


def _memory_needed(layers: Sequence[Layer]) -> dict[str, Estimate]:
    return {
        "peak_ram_kib": Estimate.exact(max(layer.ram_kib for layer in layers)),
        "flash_kib": Estimate.exact(sum(layer.flash_kib for layer in layers)),
    }


def _time(layers: Sequence[Layer], running: Architecture, device: Device) -> str:
    total = sum(layer.latency_ms for layer in layers)
    top = max(layers, key=lambda layer: layer.latency_ms)
    if not total:
        return "time: no layer takes time on this device"
    takes = f"time: {named(top)} takes {top.latency_ms / total:.0%} of {total:.3g} ms"
    if top.kernel is None:
        return f"{takes}, for every network"
    takes += f", bound by {top.bound}: {HELPS[top.bound]}"
    if not top.macs:
        return takes
    found = time_with_fewer_bits(running, top.kernel, device)
    return (
        f"{takes}; {found[0]} bits would save {found[1]:.0%} of it" if found else f"{takes}; fewer bits would not help"
    )


def _memory(layers: Sequence[Layer], running: Architecture, device: Device) -> str:
    top, engine = max(layers, key=lambda layer: layer.ram_kib), layers[0].ram_kib
    peak = f"RAM: the peak of {top.ram_kib:,.1f} KiB is at {named(top)}"
    if not top.live:
        return peak
    peak += f", {len(top.live)} tensor{'s' * (len(top.live) > 1)} in memory"
    peak += f" and {engine:,.1f} KiB of the engine" if engine else ""
    by_kernel = {layer.kernel: layer for layer in layers}
    savings = {tensor: ram_with_half_the_channels(running, tensor, device) for tensor in top.live}
    best = max(savings, key=lambda tensor: savings[tensor])
    if savings[best] <= WORTH_SAYING * top.ram_kib:
        return f"{peak}; half the channels in any one of them would save nothing"
    called = "the network's input" if best == INPUT else f"the output of {named(by_kernel[best])}"
    return f"{peak}; half the channels in {called} would save {savings[best]:,.1f} KiB"


def _flash(layers: Sequence[Layer], running: Architecture, device: Device) -> str:
    total = sum(layer.flash_kib for layer in layers)
    top = max(layers, key=lambda layer: layer.flash_kib)
    if not total:
        return "flash: none"
    takes = f"flash: {named(top)} takes {top.flash_kib / total:.0%} of {total:,.1f} KiB"
    if top.kernel is None:
        return f"{takes}, for every network"
    found = flash_with_fewer_bits(running, top.kernel, device) if top.weight_bits else None
    if found is None:
        return f"{takes}; fewer channels would help, fewer bits would not"
    return f"{takes}; weights of {found[0]} bits would save {found[1]:,.1f} KiB"
