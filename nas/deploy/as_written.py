"""The network that a file in integers computes: with the biases of the file in place of its own.

A file in integers counts a bias in whole steps of the accumulator, as every engine in integers does. That is all that
such a file changes of a network whose tensors were all rounded in training. Half a step moves few numbers, but each one
that moves to the next level moves others behind it. So a file is held against two networks: against this one to see
whether the writer is right, and against the one that was measured to see what the rounding costs.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from nas.deploy.folding import folded
from nas.deploy.scales import all_scales
from nas.deploy.scales import becomes_sign
from nas.deploy.scales import moved_scales
from nas.deploy.scales import trained_scales
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.integers import folded_norms
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import HALF
from search_spaces.network import Network


def is_all_trained(architecture: Architecture, network: Network, precision: str) -> bool:
    """Tell whether a file of a precision rounds nothing but its biases that the network does not round itself.

    Args:
        architecture: The graph.
        network: What was built of it, in eval mode.
        precision: One of `nas.deploy.onnx_file.PRECISIONS`.
    """
    if precision != "int8":
        return True
    if any(op.weight_bits >= HALF for op in architecture.ops if op.kind in WEIGHTED):
        return False
    rounded = moved_scales(architecture, network, trained_scales(architecture, network))
    anywhere = dict.fromkeys(range(len(architecture.ops)), (0.0, 1.0))
    return all_scales(architecture, network, rounded, anywhere).keys() <= rounded.keys()


def as_written(model: onnx.ModelProto, architecture: Architecture, network: Network) -> Network:
    """Return a network with the biases of a file.

    A layer of which the sign alone is read keeps its bias: the file's gives the same signs, and no others near zero.

    Args:
        model: What `nas.deploy.onnx_file.to_onnx` wrote of the network.
        architecture: The graph.
        network: The network, in eval mode.
    """
    written, norms = deepcopy(network), folded_norms(architecture)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, op in enumerate(architecture.ops):
        label = f"op{index}_{op.kind}"
        if f"{label}_bias_levels" not in held or becomes_sign(architecture, norms.get(index, index)):
            continue
        levels, steps = (_values(held[f"{label}_bias_{part}"]) for part in ("levels", "scale"))
        layer: Any = getattr(written, label)
        norm: Any = getattr(written, f"op{norms[index]}_norm") if index in norms else None
        own = folded(layer, norm).bias
        moved = torch.from_numpy(levels * steps - (0.0 if own is None else own))
        with torch.no_grad():
            (layer if norm is None else norm).bias.add_(moved.float())
    return written


def _values(tensor: onnx.TensorProto) -> NDArray[np.float64]:
    return numpy_helper.to_array(tensor).astype(np.float64)
