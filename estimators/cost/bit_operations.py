"""Bit operations of one inference: MACs times weight bits times input bits, an optimistic bound."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.fields import no_rule
from estimators.estimate import Estimate
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import ALL_KERNELS
from search_spaces.graph.operators import MAC_KINDS


def estimate(architecture: Architecture, device: Device) -> Estimate:  # noqa: ARG001 - the same on every device
    """Count bit operations of one record, exactly; the device is ignored.

    Optimistic: it promises a quarter of the cost from 8 bits to 4, where an accelerator built for few bits reaches
    0.57 (BitFusion, pointwise layers) and a microcontroller nothing. Plan time with `latency_ms`.

    Raises:
        ValueError: If an operator has no rule.
    """
    operations = 0
    for kernel in architecture.kernels:
        if kernel.kind in MAC_KINDS:
            operations += kernel.macs * kernel.weight_bits * kernel.input_bits
        elif kernel.kind not in ALL_KERNELS:
            raise no_rule(kernel.kind, "bit_operations")
    return Estimate.exact(operations)
