"""Bit operations of one inference: MACs times weight bits times input bits, an optimistic bound."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.models.counts import check_kinds
from search_spaces.graph.architecture import Architecture


def estimate(architecture: Architecture, device: Device) -> Estimate:  # noqa: ARG001 - the same on every device
    """Count bit operations of one record, exactly; the device is ignored.

    Optimistic: it promises a quarter of the cost from 8 bits to 4, where an accelerator built for few bits reaches
    0.57 (BitFusion, pointwise layers) and a microcontroller nothing. Plan time with `latency_ms`.

    Raises:
        ValueError: If an operator has no rule.
    """
    check_kinds(architecture, "bit_operations")
    return Estimate.exact(
        sum([kernel.macs * kernel.weight_bits * kernel.input_bits for kernel in architecture.kernels])
    )
