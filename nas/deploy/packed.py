"""Weights of four and fewer bits, packed two to a byte: a file in integers that takes the room a network was given.

ONNX has had integers of 4 bits since opset 21. ONNX Runtime gives the same logits to the bit, but computes layers whose
weights are stored so in float: such a file is smaller, and slower there, than one in 8 bits.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper
from torch import Tensor
from torch import nn

from nas.deploy.onnx_file import PRECISIONS
from nas.deploy.onnx_file import to_onnx
from nas.preprocessing.preprocessing import Preprocessing
from search_spaces.graph.architecture import Architecture

INT4 = "int4"
FILES = (*PRECISIONS, INT4)
"""The precisions of files: those that are computed in, and int8 with its few-bit weights packed."""
OPSET, IR_VERSION, LIMIT = 21, 10, 7


def in_precision(
    architecture: Architecture,
    network: nn.Module,
    precision: str,
    records: Tensor,
    preprocessing: Preprocessing | None = None,
) -> onnx.ModelProto:
    """Write a network as an ONNX model in one of `FILES`; else as `nas.deploy.onnx_file.to_onnx`.

    Raises:
        ValueError: As `to_onnx`, and if there is nothing to pack.
    """
    if precision != INT4:
        return to_onnx(architecture, network, precision, records, preprocessing)
    return packed(to_onnx(architecture, network, computed_in(precision), records, preprocessing))


def computed_in(precision: str) -> str:
    """Return the precision that a file computes in."""
    return "int8" if precision == INT4 else precision


def packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in int8 with the weights of four and fewer bits packed.

    Levels of a few-bit layer lie a whole number apart in int8; divided by that they fit into 4 bits, and the scale is
    multiplied by it.

    Args:
        model: What `to_onnx` wrote in int8.

    Raises:
        ValueError: If no layer has so few bits.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    held = {tensor.name: tensor for tensor in small.graph.initializer}
    count = sum([_pack(held, name.removesuffix("_levels")) for name in held if name.endswith("_weight_levels")])
    if not count:
        raise ValueError(f"expected a layer with weights of 4 and fewer bits to write as {INT4}; there is none")
    small.opset_import[0].version, small.ir_version = OPSET, IR_VERSION
    for node in small.graph.node:
        if node.op_type == "ReduceMax":  # its axes are an input now
            axes = next(attribute for attribute in node.attribute if attribute.name == "axes")
            small.graph.initializer.append(numpy_helper.from_array(np.array(axes.ints), f"{node.name}_axes"))
            node.input.append(f"{node.name}_axes")
            node.attribute.remove(axes)
    facts = {entry.key: entry.value for entry in small.metadata_props}
    helper.set_model_props(small, {**facts, "precision": INT4})
    onnx.checker.check_model(small, full_check=True)
    return small


def _pack(held: dict[str, TensorProto], label: str) -> bool:
    """Pack the weights of one layer, if they fit."""
    levels, scale = (numpy_helper.to_array(held[f"{label}_{part}"]) for part in ("levels", "scale"))
    apart = max(int(np.gcd.reduce(np.abs(levels.astype(np.int64)), axis=None)), 1)
    if np.abs(levels).max(initial=0) > LIMIT * apart:
        return False
    held[f"{label}_levels"].CopyFrom(_of_four_bits(f"{label}_levels", levels // apart))
    held[f"{label}_zero"].CopyFrom(_of_four_bits(f"{label}_zero", np.zeros(len(scale), np.int8)))
    held[f"{label}_scale"].CopyFrom(numpy_helper.from_array(scale * np.float32(apart), f"{label}_scale"))
    return True


def _of_four_bits(name: str, values: NDArray[np.int8]) -> TensorProto:
    """Write integers from -8 to 7, the first of each pair in the lower half of a byte."""
    flat = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 15
    content = flat[::2] | flat[1::2] << 4
    return TensorProto(name=name, data_type=TensorProto.INT4, dims=values.shape, raw_data=content.tobytes())
