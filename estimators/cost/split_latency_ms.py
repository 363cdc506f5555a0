"""Time of one inference in milliseconds when an edge server runs the end of the network, with a 90 % interval."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.partition.split import best_split
from search_spaces.graph.architecture import Architecture


def applies(device: Device) -> bool:
    """Tell whether this device has a link to a server."""
    return device.link is not None


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Predict the time from the input on the device to the logits on the device, over the best split.

    The best is the fastest, or the one of least energy where `device.link.minimise` says so. "All on the device" is a
    split too, so the fastest is never slower than `latency_ms`.

    Raises:
        ValueError: If the device has no link, or it or its server has no rule for an operator or its bits.
    """
    return best_split(deployed(architecture, device), device).latency_ms
