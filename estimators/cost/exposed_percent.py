"""Share of the weights, in percent, that remain outside the enclave when it hides the last layers, as many as fit."""

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
    """Count the weights that whoever owns the normal world can read, exactly.

    It is no measure of leakage: an attack on the confidences, such as the search's own, works on hidden layers as well.

    Raises:
        ValueError: If the device has no enclave, or no rule for an operator or its bits.
    """
    return Estimate.exact(best_tail(deployed(architecture, device), device).exposed_percent)
