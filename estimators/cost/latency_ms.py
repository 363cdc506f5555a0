"""Time of one inference in milliseconds, from operator-wise cycles of the device, with a 90 % interval."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.models.latency import inference_ms
from search_spaces.graph.architecture import Architecture


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Predict the time of one inference, batch 1; with early exits that of a record that passes all of them.

    MACs of different operators cost differently (a depthwise one 8.5 times a convolution's on a Cortex-M7), so each
    type has its own cycles. Few bits are no faster than what was measured. The interval is the spread of errors on
    networks that the device was not calibrated on.

    Raises:
        ValueError: If the device has no rule for an operator or its bits.
    """
    return inference_ms(architecture, device)
