"""Trainable parameters of the float network: weights, biases, and two for each normalised channel."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.fields import no_rule
from estimators.estimate import Estimate
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import ALL_KERNELS
from search_spaces.graph.operators import OPERATORS
from search_spaces.graph.operators import SCALED


def estimate(architecture: Architecture, device: Device) -> Estimate:  # noqa: ARG001 - the same on every device
    """Count parameters, exactly; the device is ignored.

    It is the count that PyTorch, fvcore and thop give for the float network. The learned ranges of quantisers are left
    out: they do not exist in that network. Weights that a sparsity makes zero are counted: they can be trained.

    Raises:
        ValueError: If an operator has no rule.
    """
    params = 0
    for kernel in architecture.kernels:
        if kernel.kind not in ALL_KERNELS:
            raise no_rule(kernel.kind, "params")
        params += kernel.weights
    for op in architecture.ops:
        if op.bias:
            params += op.shape[0]
        if op.kind in SCALED:
            params += OPERATORS[op.kind].per_channel * op.shape[0]
    return Estimate.exact(params)
