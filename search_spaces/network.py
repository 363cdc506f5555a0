"""The trainable view of a graph: one module per operator, run in order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import nn

from search_spaces.graph.architecture import FUNCTIONS
from search_spaces.graph.architecture import KINDS
from search_spaces.graph.architecture import WEIGHTED
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.layers.quantize import QuantLinear

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
    "sign": nn.Identity,  # the 1-bit output quantiser is the sign function
}


class Add(nn.Module):
    """Element-wise sum of two tensors of equal shape."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the sum."""
        return first + second


class Concat(nn.Module):
    """Concatenation of tensors `(records, channels, ...)` over channels."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Return the parts as one tensor."""
        return torch.cat(parts, dim=1)


class Zero(nn.Module):
    """Zeros of the input's shape."""

    def forward(self, values: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(values)


class Network(nn.Module):
    """A graph that computes: records `(records, *input_shape)` to logits `(records, classes)`.

    Children are named after the operators: `op3_conv` is operator 3, `op3_quantizer` rounds its output.

    Attributes:
        architecture: The graph the network was built from.
    """

    def __init__(self, architecture: Architecture, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = architecture
        dropped = _last_linear(architecture) if dropout else None
        signs = _may_be_negative(architecture.ops)
        chains: list[list[nn.Module]] = []
        for index, op in enumerate(architecture.ops):
            sources = [architecture.ops[source] for source in op.inputs]
            chain = {op.kind: _module_of(op, sources)}
            if index == dropped:
                chain = {"dropout": nn.Dropout(dropout), **chain}
            if _rounds(op, sources):
                chain["quantizer"] = ActivationQuantizer(op.bits, signed=signs[index], range=op.range)
            for name, module in chain.items():
                self.add_module(f"op{index}_{name}", module)
            chains.append(list(chain.values()))
        # A plain tuple keeps the modules from being registered a second time.
        self._steps = tuple(zip(chains, architecture.ops, _last_uses(architecture.ops), strict=True))

    def forward(self, records: Tensor) -> Tensor:
        """Run every operator; a tensor is let go after its last use."""
        tensors: list[Tensor | None] = []
        for (first, *rest), op, finished in self._steps:
            inputs = [tensors[source] for source in op.inputs] or [records]
            output: Tensor = first(*inputs)
            inputs.clear()
            for module in rest:
                output = module(output)
            tensors.append(output)
            for index in finished:
                tensors[index] = None
        return output


def build(architecture: Architecture, *, dropout: float = 0.0, seed: int = 0) -> Network:
    """Build the trainable network of a graph.

    Weights and tensors of fewer than 32 bits are fake-quantised (`search_spaces.layers.quantize`), so training and
    everything measured afterwards see the quantised network. A max pooling, flatten or concat that keeps its inputs'
    width is not rounded again: it makes no new values.

    Args:
        architecture: The graph.
        dropout: Probability that an input of the last linear operator is zeroed while training.
        seed: Seed of the initial weights, torch's defaults for each layer. The global generator is left as it was.

    Raises:
        ValueError: If an operator is of unknown kind or function, dropout is not in [0, 1), or there is no linear
            operator to put it before.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((4,))
    >>> logits = graph.linear(0, 3, weight_bits=1)
    >>> build(graph.architecture("example", {}))
    Network(
      (op0_input): Identity()
      (op1_linear): QuantLinear(4, 3, weight_bits=1)
    )
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"expected dropout from 0 to below 1; got {dropout}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(architecture, dropout)


def _module_of(op: Op, sources: Sequence[Op]) -> nn.Module:
    if op.kind in WEIGHTED:
        return _weighted(op, sources[0].shape[0])
    if op.kind == "norm":
        return nn.BatchNorm2d(op.shape[0]) if len(op.shape) == 3 else nn.BatchNorm1d(op.shape[0])
    if op.kind == "activation":
        if op.function not in ACTIVATIONS:
            raise ValueError(f"no activation {op.function!r}; there are {list(FUNCTIONS['activation'])}")
        return ACTIVATIONS[op.function]()
    if op.kind == "pool":
        if op.function not in FUNCTIONS["pool"]:
            raise ValueError(f"no pooling {op.function!r}; there are {list(FUNCTIONS['pool'])}")
        if op.function == "avg":  # the mean of what is there, as TensorFlow Lite and NAS-Bench-201 have it
            return nn.AvgPool2d(op.kernel, op.stride, op.padding, count_include_pad=False)
        return nn.MaxPool2d(op.kernel, op.stride, op.padding)
    plain = {"input": nn.Identity, "add": Add, "concat": Concat, "flatten": nn.Flatten, "zero": Zero}
    if op.kind not in plain:
        raise ValueError(f"no operator {op.kind!r}; there are {list(KINDS)}")
    return plain[op.kind]()


def _weighted(op: Op, in_channels: int) -> nn.Module:
    if op.kind == "linear":
        if op.weight_bits == 32:
            return nn.Linear(in_channels, op.shape[0], bias=op.bias)
        return QuantLinear(in_channels, op.shape[0], bias=op.bias, weight_bits=op.weight_bits)
    groups = in_channels if op.kind == "depthwise" else op.groups
    if op.weight_bits == 32:
        # torch's own class where nothing is quantised: other counters (fvcore, thop) know it.
        return nn.Conv2d(in_channels, op.shape[0], op.kernel, op.stride, op.padding, groups=groups, bias=op.bias)
    return QuantConv2d(
        in_channels,
        op.shape[0],
        op.kernel,
        stride=op.stride,
        padding=op.padding,
        groups=groups,
        bias=op.bias,
        weight_bits=op.weight_bits,
    )


def _rounds(op: Op, sources: Sequence[Op]) -> bool:
    if op.bits == 32:
        return False
    moves_only = op.kind in ("flatten", "concat", "zero") or (op.kind == "pool" and op.function == "max")
    return not (moves_only and op.bits >= max(source.bits for source in sources))


def _may_be_negative(ops: Sequence[Op]) -> list[bool]:
    """Tell for each operator whether its output needs a sign bit."""
    signs: list[bool] = []
    for op in ops:
        if op.kind == "activation" and op.function in ("relu", "relu6"):
            signs.append(False)
        elif op.kind in ("pool", "add", "concat", "flatten", "zero") or op.function == "identity":
            signs.append(any(signs[source] for source in op.inputs))
        else:
            signs.append(True)
    return signs


def _last_linear(architecture: Architecture) -> int:
    found = [index for index, op in enumerate(architecture.ops) if op.kind == "linear"]
    if not found:
        raise ValueError("expected a linear operator to put dropout before; the network has none")
    return found[-1]


def _last_uses(ops: Sequence[Op]) -> list[tuple[int, ...]]:
    """List for each operator the tensors that nobody reads after it."""
    last = {source: index for index, op in enumerate(ops) for source in op.inputs}
    return [tuple(source for source, reader in last.items() if reader == index) for index in range(len(ops))]
