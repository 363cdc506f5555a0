"""What a change to one layer would save on a device: priced by the device's own rules, not guessed."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.models.by_layer import INPUT
from estimators.models.flash import BYTES_PER_KIB
from estimators.models.flash import kernel_bytes
from estimators.models.latency import kernel_cycles
from estimators.models.memory import best_order
from search_spaces.graph.architecture import Architecture

WORTH_SAYING = 0.01
"""Savings below this share are none."""


def time_with_fewer_bits(running: Architecture, kernel: int, device: Device) -> tuple[int, float] | None:
    """Find the widest narrower width that makes a layer faster.

    Args:
        running: The network as `estimators.devices.device.deployed` gives it.
        kernel: Index of the layer's kernel.
        device: The device.

    Returns:
        Bits of weights and inputs, and the share of the layer's time that they save; None if no fewer bits save any.
    """
    layer = running.kernels[kernel]
    before = kernel_cycles(layer, device)
    for bits in sorted(device.weight_bits, reverse=True):
        narrower = layer._replace(weight_bits=min(bits, layer.weight_bits), input_bits=min(bits, layer.input_bits))
        try:
            saved = 1 - kernel_cycles(narrower, device) / before
        except ValueError:  # a width that is stored but not computed
            continue
        if saved > WORTH_SAYING:
            return bits, saved
    return None


def flash_with_fewer_bits(running: Architecture, kernel: int, device: Device) -> tuple[int, float] | None:
    """Find the widest narrower width that packs a layer's weights into less flash.

    Args:
        running: The network as `estimators.devices.device.deployed` gives it.
        kernel: Index of the layer's kernel.
        device: The device.

    Returns:
        Bits of the weights, and the KiB that they save; None if no fewer bits save any.
    """
    layer = running.kernels[kernel]
    before = kernel_bytes(layer, device)
    for bits in sorted(device.weight_bits, reverse=True):
        after = kernel_bytes(layer._replace(weight_bits=min(bits, layer.weight_bits)), device)
        if before - after > WORTH_SAYING * before:
            return bits, (before - after) / BYTES_PER_KIB
    return None


def ram_with_half_the_channels(running: Architecture, tensor: int, device: Device) -> float:
    """Return the KiB by which the peak falls, in the best order of execution, when a tensor has half its channels.

    Args:
        running: The network as `estimators.devices.device.deployed` gives it.
        tensor: The kernel that makes it, or `estimators.models.by_layer.INPUT`.
        device: The device.
    """
    ops = list(running.ops)
    for index in (0,) if tensor == INPUT else running.kernels[tensor].ops:
        shape = ops[index].shape
        ops[index] = ops[index]._replace(shape=(max(1, shape[0] // 2), *shape[1:]))
    # What reads the tensor stays as it is: a graph good for counting memory only.
    halved = running.with_ops(tuple(ops))
    before, after = best_order(running, device)[1], best_order(halved, device)[1]
    return (before - after) * device.memory.arena_factor / BYTES_PER_KIB
