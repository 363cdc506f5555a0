"""Trainable parameters of the float network: weights, biases, and two for each normalised channel."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.models.counts import check_kinds
from search_spaces.graph.architecture import Architecture


def estimate(architecture: Architecture, device: Device) -> Estimate:  # noqa: ARG001 - the same on every device
    """Count parameters, exactly; the device is ignored.

    It is the count that PyTorch, fvcore and thop give for the float network. The learned ranges of quantisers are left
    out: they do not exist in that network. Weights that a sparsity makes zero are counted: they can be trained.

    Raises:
        ValueError: If an operator has no rule.
    """
    check_kinds(architecture, "params")
    return Estimate.exact(sum([kernel.params for kernel in architecture.kernels]))
