"""What bounds a network on a device, and what would help: a line each for what does not fit, time, memory and flash."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from estimators.cost import peak_ram_kib
from estimators.cost.flash_kib import BYTES_PER_KIB
from estimators.cost.flash_kib import kernel_bytes
from estimators.device import Device
from estimators.device import deployed
from estimators.layers import ENGINE
from estimators.layers import INPUT
from estimators.layers import Layer
from estimators.timing import kernel_cycles
from search_spaces.graph import Architecture
from search_spaces.graph import Kernel

HELPS: Mapping[str, str] = MappingProxyType(
    {
        "compute": "fewer MACs help: fewer channels, or a stride before it",
        "memory": "smaller tensors help: fewer channels, or a stride before it; fewer MACs alone do not",
        "overhead": "fewer layers help; smaller ones do not",
    }
)
WORTH_SAYING = 0.01
"""Savings below this share are none."""


def advice(layers: Sequence[Layer], architecture: Architecture, device: Device) -> list[str]:
    """Say which layers bound a network's time, memory and flash, and what would help.

    Every saving is priced, not guessed: the device's own rules are asked again with fewer bits or half the channels.

    Args:
        layers: What `estimators.layers.by_layer` gave.
        architecture: The network.
        device: The device they were priced on.
    """
    running = deployed(architecture, device)
    return [
        *_what_does_not_fit(layers, device),
        _time(layers, running, device),
        _memory(layers, running, device),
        _flash(layers, running, device),
    ]


def named(layer: Layer) -> str:
    """Call a layer as people do: `depthwise 5x5 at op 12`."""
    if layer.kernel is None:
        return "the engine itself"
    window = f" {layer.window[0]}x{layer.window[1]}" if layer.kind in ("conv", "depthwise", "pool") else ""
    return f"{layer.kind}{window} at op {layer.op}"


def _what_does_not_fit(layers: Sequence[Layer], device: Device) -> list[str]:
    needs = {
        "RAM": (max(layer.ram_kib for layer in layers), device.ram_kib),
        "flash": (sum(layer.flash_kib for layer in layers), device.flash_kib),
    }
    return [
        f"does not fit: {needed:,.1f} KiB of {what}, {device.name} has {there:,.0f}"
        for what, (needed, there) in needs.items()
        if there is not None and needed > there
    ]


def _time(layers: Sequence[Layer], running: Architecture, device: Device) -> str:
    total = sum(layer.latency_ms for layer in layers)
    top = max(layers, key=lambda layer: layer.latency_ms)
    if not total:
        return "time: nothing in this network takes any on this device"
    takes = f"time: {named(top)} takes {top.latency_ms / total:.0%} of {total:.3g} ms"
    if top.kernel is None:
        return f"{takes}, whatever the network"
    bits = _fewer_bits(running.kernels[top.kernel], device) if top.macs else ""
    return f"{takes}, bound by {top.bound}: {HELPS[top.bound]}{bits}"


def _fewer_bits(kernel: Kernel, device: Device) -> str:
    """Say what the next narrower width that helps would save of a layer's time."""
    before = kernel_cycles(kernel, device)
    for bits in sorted(device.weight_bits, reverse=True):
        if bits >= max(kernel.weight_bits, kernel.input_bits):
            continue
        narrower = kernel._replace(weight_bits=min(bits, kernel.weight_bits), input_bits=min(bits, kernel.input_bits))
        try:
            saved = 1 - kernel_cycles(narrower, device) / before
        except ValueError:  # a width that is stored but not computed
            continue
        if saved > WORTH_SAYING:
            return f"; {bits} bits would save {saved:.0%} of it"
    return "; fewer bits do not help there"


def _memory(layers: Sequence[Layer], running: Architecture, device: Device) -> str:
    top = max(layers, key=lambda layer: layer.ram_kib)
    engine = layers[0].ram_kib
    peak = f"RAM: the peak of {top.ram_kib:,.1f} KiB is at {named(top)}"
    if not top.live:
        return peak
    count = f"{len(top.live)} tensors" if len(top.live) > 1 else "1 tensor"
    peak += f", {count} in memory beside {engine:,.1f} KiB of the engine's" if engine else f", {count} in memory"
    by_kernel = {layer.kernel: layer for layer in layers}
    largest = max(top.live, key=lambda tensor: _kernel_ops_size(tensor, running))
    called = "the network's input" if largest == INPUT else f"the output of {named(by_kernel[largest])}"
    saved = top.ram_kib - peak_ram_kib.estimate(_halved(running, largest), device).value
    if saved > WORTH_SAYING * top.ram_kib:
        return f"{peak}; half the channels in {called} save {saved:,.1f} KiB"
    return f"{peak}; half the channels in {called} alone save nothing"


def _kernel_ops_size(tensor: int, running: Architecture) -> int:
    op = running.ops[0] if tensor == INPUT else running.ops[running.kernels[tensor].output]
    return op.size * op.bits


def _halved(running: Architecture, tensor: int) -> Architecture:
    """Return the graph with half of a tensor's channels: good for memory only, what reads it stays as it is."""
    ops = list(running.ops)
    for index in (0,) if tensor == INPUT else running.kernels[tensor].ops:
        shape = ops[index].shape
        ops[index] = replace(ops[index], shape=(max(1, shape[0] // 2), *shape[1:]))
    return Architecture(running.space, running.params, tuple(ops))


def _flash(layers: Sequence[Layer], running: Architecture, device: Device) -> str:
    total = sum(layer.flash_kib for layer in layers)
    top = max(layers, key=lambda layer: layer.flash_kib)
    takes = f"flash: {named(top)} takes {top.flash_kib / total:.0%} of {total:,.1f} KiB" if total else "flash: none"
    if top.kind == ENGINE or not top.flash_kib or top.kernel is None:
        return f"{takes}, whatever the network" if total else takes
    kernel = running.kernels[top.kernel]
    before = kernel_bytes(kernel, running, device)
    for bits in sorted(device.weight_bits, reverse=True):
        saved = before - kernel_bytes(kernel._replace(weight_bits=min(bits, kernel.weight_bits)), running, device)
        if kernel.weights and saved > WORTH_SAYING * before:
            return f"{takes}; weights of {bits} bits would save {saved / BYTES_PER_KIB:,.1f} KiB"
    return f"{takes}; fewer bits do not help there, fewer channels do"
