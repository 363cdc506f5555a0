"""Flash for weights, scales, biases and the engine, in KiB (1024 bytes)."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.models.extrapolation import OTHER_CODE
from estimators.models.extrapolation import summed
from estimators.models.extrapolation import unmeasured
from estimators.models.flash import BYTES_PER_KIB
from estimators.models.flash import kernel_bytes
from estimators.models.latency import around
from search_spaces.graph.architecture import Architecture


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Add up what the network, as deployed, occupies in flash.

    Weights are packed at the narrowest width that the device stores and that holds them; a width it does not store
    costs what the next wider one does. The engine has a part that grows with the kernels. Where no network's flash was
    measured on the device the estimate is extrapolated.

    Raises:
        ValueError: If an operator has no rule, or the device stores no width wide enough.
    """
    running = deployed(architecture, device)
    size = sum([kernel_bytes(kernel, device) for kernel in running.kernels])
    engine = device.engine_flash_kib + device.memory.flash_kib_per_kernel * len(running.kernels)
    kib = size / BYTES_PER_KIB + engine
    if not device.calibration.memory_networks:
        # Weights are counted. What is not known is the engine's code.
        return summed(Estimate.exact(size / BYTES_PER_KIB), unmeasured(engine, OTHER_CODE))
    return around(kib, max(device.memory.flash_interval, device.memory.flash_interval_kib / kib))
