"""Post-training quantisation of a float network: the same weights in fewer bits, without further training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn

from nas.training.answers import answering_as
from nas.training.loop import BATCH_IN_CACHE
from nas.training.loop import compute_device
from search_spaces.graph.architecture import Architecture
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.layers.quantize import QuantLinear
from search_spaces.layers.quantize import fit_step
from search_spaces.network import Network
from search_spaces.network import build

BITS = (8, 4, 3, 2, 1)


def compressed(network: Network, bits: int, calibration: NDArray[np.float32]) -> Network:
    """Quantise the weights and tensors that a network has in 32-bit float, without training.

    What is quantised already stays as it is.

    Args:
        network: Trained, in eval mode.
        bits: One of `BITS`.
        calibration: `(records, ...)`: records the network was not trained on.

    Raises:
        ValueError: If the number of bits is not in `BITS`, the network is in train mode, or nothing in it is in float.
    """
    if bits not in BITS:
        raise ValueError(f"expected post-training bits of {list(BITS)}; got {bits}")
    architecture = network.architecture.without_float(bits)
    if architecture is network.architecture:
        raise ValueError("expected a network with weights or tensors in 32-bit float; all are quantised already")
    return quantized_afterwards(network, architecture, torch.from_numpy(calibration))


def quantized_afterwards(network: nn.Module, architecture: Architecture, calibration: Tensor) -> Network:
    """Return a network with the same weights in the bits of another graph, without training.

    Ranges of tensors follow the calibration records as they follow batches in training; batch norms keep their
    statistics. The answers of its defence come along.

    Args:
        network: Trained, in eval mode.
        architecture: The network's graph in other bits.
        calibration: `(records, ...)`.

    Raises:
        ValueError: If the network is in train mode.
    """
    if network.training:
        raise ValueError("expected a network in eval mode; got one in train mode: call .eval() first")
    version = answering_as(build(architecture), network)
    # What the version has and the network has not are the quantisers' ranges.
    version.load_state_dict(network.state_dict(), strict=False)
    known = set(network.state_dict())
    for name, layer in version.named_modules():
        if isinstance(layer, QuantConv2d | QuantLinear) and f"{name}.log_step" not in known:
            fit_step(layer)
    version = version.to(compute_device()).eval()
    _calibrate(version, calibration.to(compute_device()), known)
    return version


@torch.no_grad()
def _calibrate(version: nn.Module, records: Tensor, known: set[str]) -> None:
    """Set the ranges of new quantisers from the calibration records. Quantisers with a trained range keep it."""
    quantizers = [
        module
        for name, module in version.named_modules()
        if isinstance(module, ActivationQuantizer) and f"{name}.seen" not in known
    ]
    for module in quantizers:
        module.train()
    for batch in torch.split(records, BATCH_IN_CACHE):
        version(batch)
    version.eval()
