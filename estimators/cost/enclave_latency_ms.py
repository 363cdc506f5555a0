"""Time of one inference in milliseconds with the last layers in an enclave, as many as fit, with a 90 % interval."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.partition.enclave import best_tail
from search_spaces.graph.architecture import Architecture


def applies(device: Device) -> bool:
    """Tell whether this device has an enclave."""
    return device.enclave is not None


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Predict the time with the longest tail hidden that the secure memory holds.

    Where less fits, less is hidden and less time is lost: budget `exposed_percent` beside it.

    Raises:
        ValueError: If the device has no enclave, or no rule for an operator or its bits.
    """
    return best_tail(deployed(architecture, device), device).latency_ms
