"""The trainable view of a graph: one module per operator, run in order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import nn

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import groups_of
from search_spaces.graph.exits import classifier
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.operators import moves_only
from search_spaces.graph.operators import sign_of
from search_spaces.graph.precision import FLOAT
from search_spaces.graph.precision import HALF
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.layers.quantize import HalfRounding
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.layers.quantize import QuantLinear
from search_spaces.layers.quantize import skips_positions

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
    "hardsigmoid": nn.Hardsigmoid,
    "sign": nn.Identity,  # the 1-bit output quantiser is the sign function
}


class Add(nn.Module):
    """Element-wise sum of two tensors of equal shape."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the sum."""
        return first + second


class Scale(nn.Module):
    """Product of a map `(records, channels, height, width)` and factors `(records, channels, 1, 1)`."""

    def forward(self, values: Tensor, factors: Tensor) -> Tensor:
        """Return the product."""
        return values * factors


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

    A graph with several outputs gives a tuple of logits, one for each in the order of `Architecture.outputs`: early
    exits first. All of them are computed; which one answers for a record is not decided here.

    Children are named after the operators: `op3_conv` is operator 3, `op3_quantizer` rounds its output.

    Attributes:
        architecture: The graph the network was built from.
    """

    def __init__(self, architecture: Architecture, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = architecture
        dropped = _classifiers(architecture) if dropout else set()
        signs = _may_be_negative(architecture.ops)
        chains: list[list[nn.Module]] = []
        for index, op in enumerate(architecture.ops):
            sources = [architecture.ops[source] for source in op.inputs]
            chain = {op.kind: _module_of(op, sources)}
            if index in dropped:
                chain = {"dropout": nn.Dropout(dropout), **chain}
            if _rounds(op, sources) and op.bits == HALF:
                chain["half"] = HalfRounding(op.format)
            elif _rounds(op, sources):
                chain["quantizer"] = ActivationQuantizer(op.bits, signed=signs[index], range=op.range)
            for name, module in chain.items():
                self.add_module(f"op{index}_{name}", module)
            chains.append(list(chain.values()))
        # A plain tuple keeps the modules from being registered a second time.
        self._steps = tuple(zip(chains, architecture.ops, _last_uses(architecture), strict=True))

    def forward(self, records: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run every operator; a tensor is let go after its last use, an output is kept."""
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
        outputs = tuple(tensor for index in self.architecture.outputs if (tensor := tensors[index]) is not None)
        return outputs[0] if len(outputs) == 1 else outputs


def build(architecture: Architecture, *, dropout: float = 0.0, seed: int = 0) -> Network:
    """Build the trainable network of a graph.

    Weights and tensors of fewer than 32 bits are fake-quantised (`search_spaces.layers.quantize`), so training and
    everything measured afterwards see the quantised network. A max pooling or flatten that keeps its input's width is
    not rounded again: it makes no new values. A concat is: its parts lie on scales of their own, and it is one tensor.

    Zeros and shared values are a matter of the weights, not of the layers: a network has them once it is trained
    (`nas.training.stages`).

    Args:
        architecture: The graph.
        dropout: Probability that an input of the last operator with weights before an output is zeroed while training.
        seed: Seed of the initial weights, torch's defaults for each layer. The global generator is left as it was.

    Raises:
        ValueError: If an operator is of unknown kind or function, dropout is not in [0, 1), or there is no operator
            with weights to put it before.

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
    if op.kind == "activation" and op.function in ACTIVATIONS:
        return ACTIVATIONS[op.function]()
    if op.kind == "pool" and op.function == "max":
        return nn.MaxPool2d(op.kernel, op.stride, op.padding)
    if op.kind == "pool" and op.function == "avg":  # the mean of what is there, as TensorFlow Lite, NAS-Bench-201 do
        return nn.AvgPool2d(op.kernel, op.stride, op.padding, count_include_pad=False)
    plain = {"input": nn.Identity, "add": Add, "concat": Concat, "flatten": nn.Flatten, "zero": Zero, "scale": Scale}
    if op.kind not in plain:
        what = f"the {op.kind} {op.function!r}" if op.function else f"the operator {op.kind!r}"
        raise ValueError(f"no layer for {what}")
    return plain[op.kind]()


def _weighted(op: Op, in_channels: int) -> nn.Module:
    if op.kind == "linear":
        if op.weight_bits == FLOAT:
            return nn.Linear(in_channels, op.shape[0], bias=op.bias)
        width, form = op.weight_bits, op.weight_format
        return QuantLinear(in_channels, op.shape[0], bias=op.bias, weight_bits=width, weight_format=form)
    if op.kind not in ("conv", "depthwise"):
        raise ValueError(f"no layer for the operator {op.kind!r}")
    groups = groups_of(op)
    if op.weight_bits == FLOAT and not skips_positions(op.kernel, op.stride):
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
        weight_format=op.weight_format,
    )


def _rounds(op: Op, sources: Sequence[Op]) -> bool:
    if op.bits == FLOAT:
        return False
    on_one_scale = len(sources) == 1 or op.bits == 1
    return not (moves_only(op.kind, op.function) and on_one_scale and op.bits >= max(source.bits for source in sources))


def _may_be_negative(ops: Sequence[Op]) -> list[bool]:
    """Tell for each operator whether its output needs a sign bit."""
    signs: list[bool] = []
    for op in ops:
        sign = sign_of(op.kind, op.function)
        signs.append(any(signs[source] for source in op.inputs) if sign == "kept" else sign == "any")
    return signs


def _classifiers(architecture: Architecture) -> set[int]:
    """Return, for each output, the last operator with weights that it depends on."""
    last = (classifier(architecture, output) for output in architecture.outputs)
    found = {index for index in last if index is not None}
    if not found:
        raise ValueError("expected an operator with weights to put dropout before; the network has none")
    return found


def _last_uses(architecture: Architecture) -> list[tuple[int, ...]]:
    """List for each operator the tensors that nobody needs after it."""
    ops = architecture.ops
    last = {source: index for index, op in enumerate(ops) for source in op.inputs}
    for index in architecture.outputs:
        last.pop(index, None)
    return [tuple(source for source, reader in last.items() if reader == index) for index in range(len(ops))]
