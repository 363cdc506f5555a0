"""An exported network for ExecuTorch: the float ONNX model once more, as a program of PyTorch's that XNNPACK runs.

PyTorch's exporter cannot trace the layers that round in training. The ONNX model says the same in plain operators, so
it is read operator by operator. The program takes one record, as the user has it, and gives its logits.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor
from torch import nn
from torch.nn import functional

EXECUTORCH, FILE = "executorch", "executorch.pte"
"""What such a file is called among the precisions of files, and its name."""
EXTRA = "edge"


def check_installed() -> None:
    """Refuse to write for ExecuTorch where it is not installed.

    Raises:
        ValueError: If there is no ExecuTorch.
    """
    if importlib.util.find_spec("executorch") is None:
        raise ValueError(f"expected ExecuTorch, to write a program for it; pip install 'gecko-nas[{EXTRA}]'")


def to_executorch(model: onnx.ModelProto) -> bytes:
    """Write an ONNX model as a program for ExecuTorch.

    Args:
        model: What `nas.deploy.onnx_file.to_onnx` wrote in float32.

    Raises:
        ValueError: If ExecuTorch is not installed, the network has early exits, or an operator has no rule.
    """
    check_installed()
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # noqa: PLC0415
    from executorch.exir import to_edge_transform_and_lower  # noqa: PLC0415

    module = AsModule(model).eval()
    program = torch.export.export(module, (module.example,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    return bytes(lowered.to_executorch().buffer)


def answers_of_program(program: bytes, records: NDArray[Any]) -> NDArray[np.float32]:
    """Return what ExecuTorch answers to records as the program takes them: `(records, classes)`."""
    from executorch.runtime import Runtime  # noqa: PLC0415

    method = Runtime.get().load_program(program).load_method("forward")
    asked = (torch.from_numpy(np.ascontiguousarray(records[row : row + 1])) for row in range(len(records)))
    return np.concatenate([method.execute([record])[0].numpy().copy() for record in asked])


class AsModule(nn.Module):
    """A float ONNX model that `nas export` wrote, as a module of plain operators; takes one record, `(1, *shape)`.

    Args:
        model: The model.

    Attributes:
        example: A record of zeros.

    Raises:
        ValueError: If the network has early exits, or an operator has no rule.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        if len(graph.output) > 1:
            raise ValueError("expected a network with one exit to write for ExecuTorch; got one with early exits")
        if strange := sorted({node.op_type for node in graph.node} - RULES.keys()):
            raise ValueError(f"no rule for {strange[0]!r} in the export for ExecuTorch; there are {sorted(RULES)}")
        self.nodes = [(node, _attributes(node)) for node in graph.node]
        self.places = {tensor.name: f"constant{number}" for number, tensor in enumerate(graph.initializer)}
        for tensor in graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            self.register_buffer(self.places[tensor.name], value, persistent=False)
        self.shapes = {tensor.name: tuple(numpy_helper.to_array(tensor).tolist()) for tensor in _shapes(model)}
        ends = graph.input[0].type.tensor_type
        self.example = torch.zeros([dim.dim_value or 1 for dim in ends.shape.dim], dtype=TYPES[ends.elem_type])

    def forward(self, records: Tensor) -> Tensor:
        """Return logits `(1, classes)`."""
        values: dict[str, Any] = {name: getattr(self, place) for name, place in self.places.items()} | self.shapes
        values["records"] = records
        for node, about in self.nodes:
            values[node.output[0]] = RULES[node.op_type](about, *(values[name] for name in node.input))
        found: Tensor = values["logits"]
        return found


def _shapes(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """List the constants that are shapes: the exporter wants them as numbers."""
    wanted = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    return [tensor for tensor in model.graph.initializer if tensor.name in wanted]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _conv(about: Mapping[str, Any], source: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    pads = about["pads"][: len(about["pads"]) // 2]
    return functional.conv2d(source, weight, bias, tuple(about["strides"]), tuple(pads), 1, about["group"])


def _gemm(_: Mapping[str, Any], source: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(source, weight, bias)


def _pooled(about: Mapping[str, Any], source: Tensor, pool: Callable[..., Tensor], **more: Any) -> Tensor:
    kernel, strides, pads = (tuple(about[name]) for name in ("kernel_shape", "strides", "pads"))
    return pool(source, kernel, strides, pads[: len(pads) // 2], **more)


def _average(about: Mapping[str, Any], source: Tensor) -> Tensor:
    return _pooled(about, source, functional.avg_pool2d, count_include_pad=bool(about["count_include_pad"]))


def _norm(about: Mapping[str, Any], source: Tensor, *given: Tensor) -> Tensor:
    weight, bias, mean, variance = given
    return functional.batch_norm(source, mean, variance, weight, bias, eps=about["epsilon"])


TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}
RULES: Mapping[str, Callable[..., Tensor]] = {
    "Add": lambda _, one, other: one + other,
    "AveragePool": _average,
    "BatchNormalization": _norm,
    "Cast": lambda about, source: source.to(TYPES[about["to"]]),
    "Clip": lambda _, source, low, high: torch.minimum(torch.maximum(source, low), high),
    "Concat": lambda about, *sources: torch.cat(sources, about["axis"]),
    "Conv": _conv,
    "Div": lambda _, one, other: one / other,
    "Flatten": lambda about, source: source.flatten(about["axis"]),
    "Gemm": _gemm,
    "GreaterOrEqual": lambda _, one, other: one >= other,
    "HardSigmoid": lambda _, source: functional.hardsigmoid(source),
    "HardSwish": lambda _, source: functional.hardswish(source),
    "Identity": lambda _, source: source,
    "MaxPool": lambda about, source: _pooled(about, source, functional.max_pool2d),
    "Mul": lambda _, one, other: one * other,
    "Relu": lambda _, source: functional.relu(source),
    "Reshape": lambda _, source, shape: source.reshape(shape),
    "Round": lambda _, source: source.round(),
    "Sub": lambda _, one, other: one - other,
    "Tanh": lambda _, source: source.tanh(),
    "Transpose": lambda about, source: source.permute(*about["perm"]),
    "Where": lambda _, chosen, one, other: torch.where(chosen, one, other),
}
