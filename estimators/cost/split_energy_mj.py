"""Energy of the device in millijoules when an edge server runs the end of the network, with a 90 % interval."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.partition.split import best_split
from estimators.partition.split import energy_known
from search_spaces.graph.architecture import Architecture


def applies(device: Device) -> bool:
    """Tell whether the power of this device and of its link to a server is known."""
    return energy_known(device)


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Predict what the device draws to compute its part, to send, to wait and to receive, over the best split.

    It is the split that `split_latency_ms` tells of: both can be had at once. Where the fastest is chosen, a larger
    network may take less of the device's energy, because more of it runs on the server.

    Raises:
        ValueError: If a power is not known, the device has no link, or it or its server has no rule for an operator.
    """
    energy_mj = best_split(deployed(architecture, device), device).energy_mj
    if energy_mj is None:
        raise ValueError(f"the device {device.name!r} has no measured power of itself and of its link, so no energy")
    return energy_mj
