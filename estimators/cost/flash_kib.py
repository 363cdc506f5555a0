"""Flash for weights, scales, biases and the engine, in KiB (1024 bytes)."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.models.flash import BYTES_PER_KIB
from estimators.models.flash import kernel_bytes
from estimators.models.latency import around
from search_spaces.graph.architecture import Architecture


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Add up what the network, as deployed, occupies in flash.

    Weights are packed at the narrowest width that the device stores and that holds them; a width it does not store
    costs what the next wider one does. The engine has a part that grows with the kernels.

    Raises:
        ValueError: If an operator has no rule, or the device stores no width wide enough.
    """
    running = deployed(architecture, device)
    size = sum(kernel_bytes(kernel, running, device) for kernel in running.kernels)
    engine = device.engine_flash_kib + device.memory.flash_kib_per_kernel * len(running.kernels)
    return around(size / BYTES_PER_KIB + engine, device.memory.flash_interval)
