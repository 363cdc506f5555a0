"""Multiply-accumulates of one inference: half the FLOPs of convolutions and fully connected layers."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.models.counts import check_kinds
from search_spaces.graph.architecture import Architecture


def estimate(architecture: Architecture, device: Device) -> Estimate:  # noqa: ARG001 - the same on every device
    """Count multiply-accumulates of one record, exactly; the device is ignored.

    fvcore and thop print the same number and call it FLOPs (fvcore issue 69, thop issue 208); they also count batch
    normalisation and pooling, which are left out here: an engine folds the one and does not multiply in the other.

    Raises:
        ValueError: If an operator has no rule.
    """
    check_kinds(architecture, "macs")
    return Estimate.exact(sum([kernel.macs for kernel in architecture.kernels]))
