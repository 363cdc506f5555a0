"""The operator graph: what a network computes, without a tensor.

An `Architecture` is a frozen list of `Op` in topological order. Edges are indices, so residual branches are visible
and peak memory can be computed. The trainable network (`search_spaces.network.build`) and every cost metric
(`estimators.cost`) read the same graph; that is why the two cannot describe different networks.

Shapes never contain the batch axis: images are `(channels, height, width)`, vectors `(features,)`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from functools import cached_property
from math import prod
from operator import attrgetter
from typing import NamedTuple
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
ParamValue: TypeAlias = bool | int | float | str | None
Params: TypeAlias = Mapping[str, ParamValue]

KINDS = ("input", "conv", "depthwise", "linear", "pool", "norm", "activation", "add", "concat", "flatten", "zero")
WEIGHTED = ("conv", "depthwise", "linear")
FOLDED = ("norm", "activation")
BIT_WIDTHS = (32, 8, 4, 2, 1)
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "activation": ("relu", "relu6", "hardswish", "tanh", "identity", "sign"),
    "pool": ("max", "avg"),
}
RANGES = ("tracked", "learned")


@dataclass(frozen=True, slots=True)
class Op:
    """One operator.

    Attributes:
        kind: One of `KINDS`.
        inputs: Indices of the operators whose outputs are read; empty for `input` only.
        shape: Output shape, batch axis left out.
        kernel: Height and width of the window, for conv, depthwise and pool.
        stride: Vertical and horizontal step of the window.
        padding: Zeros on each side, vertical and horizontal.
        groups: Channel groups of a `conv`. A `depthwise` op has one group per channel and leaves this at 1.
        bias: Whether a conv, depthwise or linear op adds a bias of its own (a following norm has one).
        function: Which activation (`relu`, ...) or pooling (`max`, `avg`); empty for other kinds.
        weight_bits: Bits of one weight, 32 for float.
        bits: Bits of one output element, 32 when the output is left in float.
        range: How the output quantiser finds its range: `tracked` (running maximum) or `learned` (step size).
    """

    kind: str
    inputs: tuple[int, ...]
    shape: Shape
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    bias: bool = False
    function: str = ""
    weight_bits: int = 32
    bits: int = 32
    range: str = "tracked"

    @property
    def size(self) -> int:
        """Elements in the output of one record."""
        return prod(self.shape)


_fields_of = attrgetter(*Op.__slots__)


class Kernel(NamedTuple):
    """Operators that an inference engine runs as one: an anchor and the norms and activations folded into it.

    A tuple, not a frozen dataclass: a search makes millions, and a tuple is made four times as fast.

    Attributes:
        kind: Operator type that cost tables use: `conv`, `pointwise` (1x1 conv), `depthwise`, `linear`, `pool`,
            `norm`, `activation`, `add`, `concat`, `flatten` or `zero`. The network's input is no kernel.
        ops: Indices of the fused operators, anchor first.
        inputs: Indices of operators whose tensors are read. Each is the last operator of another kernel, or the input.
        macs: Multiply-accumulates of one record.
        weights: Weights held in flash, biases left out.
        channels: Output channels, one scale and one bias each; 0 when the kernel holds no weights.
        bias: Whether a bias is added, the anchor's own or one from a folded norm.
        weight_bits: Bits of one weight.
        input_bits: Bits of one input element (the widest input).
        output_bits: Bits of one output element.
        input_size: Elements read, over all inputs.
        output_size: Elements written.
    """

    kind: str
    ops: tuple[int, ...]
    inputs: tuple[int, ...]
    macs: int
    weights: int
    channels: int
    bias: bool
    weight_bits: int
    input_bits: int
    output_bits: int
    input_size: int
    output_size: int

    @property
    def output(self) -> int:
        """Index of the operator whose tensor this kernel writes."""
        return self.ops[-1]


def weights_of(op: Op, in_channels: int) -> int:
    """Count the weights of a conv, depthwise or linear op, biases left out."""
    if op.kind == "conv":
        return op.shape[0] * (in_channels // op.groups) * op.kernel[0] * op.kernel[1]
    if op.kind == "depthwise":
        return op.shape[0] * op.kernel[0] * op.kernel[1]
    if op.kind == "linear":
        return op.shape[0] * in_channels
    raise ValueError(f"expected an operator with weights, one of {list(WEIGHTED)}; got {op.kind!r}")


@dataclass(frozen=True)
class Architecture:
    """A network as data: where it came from and the operators it runs.

    Attributes:
        space: Name of the search space that described it.
        params: The point of that space, as sampled. Two points may describe the same network (a width that belongs to
            a block left out); `key` tells.
        ops: Operators in topological order. The first is the input, the last writes the logits.

    Raises:
        ValueError: If an operator is of unknown kind, reads a later one, or the first is not the input.
    """

    space: str
    params: Params
    ops: tuple[Op, ...]

    def __post_init__(self) -> None:
        if not self.ops or self.ops[0].kind != "input":
            raise ValueError("expected the first operator to be 'input'")
        for index, op in enumerate(self.ops):
            if op.kind not in KINDS:
                raise ValueError(f"no operator {op.kind!r}; there are {list(KINDS)}")
            if index and (not op.inputs or max(op.inputs) >= index):
                raise ValueError(f"expected operator {index} ({op.kind}) to read earlier ones; got {op.inputs}")

    @property
    def input_shape(self) -> Shape:
        """Shape of one record."""
        return self.ops[0].shape

    @property
    def num_classes(self) -> int:
        """Length of the logits."""
        return self.ops[-1].shape[0]

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits that name the network: equal graphs share it, whatever sampled them."""
        text = json.dumps([_fields_of(op) for op in self.ops], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def consumers(self) -> tuple[int, ...]:
        """How many operators read each operator's output."""
        counts = [0] * len(self.ops)
        for op in self.ops:
            for source in op.inputs:
                counts[source] += 1
        return tuple(counts)

    @cached_property
    def forms(self) -> dict[object, Architecture]:
        """The forms in which engines run this network, kept by who makes them."""
        return {}

    @cached_property
    def has_dead_ops(self) -> bool:
        """Whether an engine that simplifies graphs would leave operators out (`search_spaces.pruning.prune`)."""
        return 0 in self.consumers[:-1] or any(op.kind == "zero" for op in self.ops)

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The operators as an engine runs them, norms and activations folded into what they follow."""
        consumers = self.consumers
        chains: list[list[int]] = []
        chain_ending_at: dict[int, list[int]] = {}
        for index, op in enumerate(self.ops[1:], start=1):
            chain = None
            if op.kind in FOLDED and consumers[op.inputs[0]] == 1:
                chain = chain_ending_at.pop(op.inputs[0], None)
            if chain is None:
                chain = []
                chains.append(chain)
            chain.append(index)
            if op.kind != "flatten":
                chain_ending_at[index] = chain
        return tuple([self._kernel(chain) for chain in chains])

    def _kernel(self, chain: list[int]) -> Kernel:
        # Written for speed: pricing a network spends a third of its time here.
        ops = self.ops
        anchor, last = ops[chain[0]], ops[chain[-1]]
        kind, shape, bias = anchor.kind, anchor.shape, anchor.bias
        source = ops[anchor.inputs[0]]
        input_bits, input_size = source.bits, prod(source.shape)
        for index in anchor.inputs[1:]:
            input_bits = max(input_bits, ops[index].bits)
            input_size += prod(ops[index].shape)
        macs = weights = channels = 0
        if kind in WEIGHTED:
            weights = weights_of(anchor, source.shape[0])
            channels = shape[0]
            macs = weights * prod(shape[1:])
            bias = bias or "norm" in [ops[index].kind for index in chain]
            if kind == "conv" and anchor.kernel == (1, 1):
                kind = "pointwise"
        return Kernel(
            kind=kind,
            ops=tuple(chain),
            inputs=anchor.inputs,
            macs=macs,
            weights=weights,
            channels=channels,
            bias=bias,
            weight_bits=anchor.weight_bits,
            input_bits=input_bits,
            output_bits=last.bits,
            input_size=input_size,
            output_size=prod(last.shape),
        )

    def as_float(self) -> Architecture:
        """Return the same network with every weight and tensor in 32-bit float (a `sign` activation becomes `relu`)."""
        ops = tuple(
            replace(
                op, weight_bits=32, bits=32, range="tracked", function="relu" if op.function == "sign" else op.function
            )
            for op in self.ops
        )
        return Architecture(self.space, self.params, ops)

    def without_float(self, bits: int) -> Architecture:
        """Return the same network with what is in 32-bit float at another width, as post-training quantisation does."""
        if all(op.bits < 32 and (op.weight_bits < 32 or op.kind not in WEIGHTED) for op in self.ops):
            return self
        ops = tuple(
            replace(
                op,
                weight_bits=bits if op.weight_bits == 32 else op.weight_bits,
                bits=bits if op.bits == 32 else op.bits,
            )
            for op in self.ops
        )
        return Architecture(self.space, self.params, ops)


class GraphBuilder:
    """Write a graph operator by operator; shapes follow from the operators.

    Each method appends one operator and returns its index.

    >>> graph = GraphBuilder((1, 8, 8))
    >>> x = graph.conv(0, channels=4, kernel=(3, 3), padding=(1, 1))
    >>> x = graph.activation(graph.norm(x))
    >>> x = graph.linear(graph.flatten(x), features=10, bias=True)
    >>> network = graph.architecture("example", {})
    >>> [kernel.kind for kernel in network.kernels], sum(kernel.macs for kernel in network.kernels)
    (['conv', 'flatten', 'linear'], 4864)
    """

    def __init__(self, input_shape: Shape, bits: int = 32) -> None:
        self.ops: list[Op] = [Op("input", (), input_shape, bits=bits)]

    def conv(
        self,
        source: int,
        channels: int,
        *,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        bias: bool = False,
        weight_bits: int = 32,
    ) -> int:
        """Append a convolution."""
        shape = (channels, *self._window(source, kernel, stride, padding))
        return self._append(
            Op("conv", (source,), shape, kernel, stride, padding, groups, bias, weight_bits=weight_bits)
        )

    def depthwise(
        self,
        source: int,
        *,
        kernel: Pair,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        bias: bool = False,
        weight_bits: int = 32,
    ) -> int:
        """Append a depthwise convolution, one filter per channel."""
        shape = (self.ops[source].shape[0], *self._window(source, kernel, stride, padding))
        return self._append(
            Op("depthwise", (source,), shape, kernel, stride, padding, bias=bias, weight_bits=weight_bits)
        )

    def linear(self, source: int, features: int, *, bias: bool = False, weight_bits: int = 32) -> int:
        """Append a fully connected layer."""
        if len(self.ops[source].shape) != 1:
            raise ValueError(f"expected a vector before 'linear'; got shape {self.ops[source].shape}: flatten it first")
        return self._append(Op("linear", (source,), (features,), bias=bias, weight_bits=weight_bits))

    def pool(self, source: int, function: str, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> int:
        """Append a max or average pooling.

        The output keeps the input's bit-width, but an average of fewer than 8 bits takes 8: the mean of a window of
        one-bit values is not one bit.
        """
        op = self.ops[source]
        shape = (op.shape[0], *self._window(source, kernel, stride, padding))
        bits = max(op.bits, 8) if function == "avg" else op.bits
        return self._append(
            Op("pool", (source,), shape, kernel, stride, padding, function=function, bits=bits, range=op.range)
        )

    def norm(self, source: int, *, bits: int = 32, range: str = "tracked") -> int:
        """Append a batch normalisation, folded into the operator before it when deployed."""
        return self._append(Op("norm", (source,), self.ops[source].shape, bits=bits, range=_range_of(bits, range)))

    def activation(self, source: int, function: str = "relu", *, bits: int = 32, range: str = "tracked") -> int:
        """Append an activation whose output is quantised to `bits`. One bit means the sign function."""
        function = "sign" if bits == 1 else function
        return self._append(
            Op(
                "activation",
                (source,),
                self.ops[source].shape,
                function=function,
                bits=bits,
                range=_range_of(bits, range),
            )
        )

    def add(self, first: int, second: int) -> int:
        """Append an element-wise sum, left wide for the activation that follows."""
        if self.ops[first].shape != self.ops[second].shape:
            raise ValueError(
                f"expected equal shapes for 'add'; got {self.ops[first].shape} and {self.ops[second].shape}"
            )
        return self._append(Op("add", (first, second), self.ops[first].shape))

    def concat(self, *sources: int) -> int:
        """Append a concatenation over channels."""
        shapes = [self.ops[source].shape for source in sources]
        if len({shape[1:] for shape in shapes}) != 1:
            raise ValueError(f"expected equal heights and widths for 'concat'; got {shapes}")
        shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        return self._append(Op("concat", sources, shape, bits=max(self.ops[source].bits for source in sources)))

    def flatten(self, source: int) -> int:
        """Append a view of the tensor as a vector."""
        op = self.ops[source]
        return self._append(Op("flatten", (source,), (op.size,), bits=op.bits))

    def zero(self, source: int) -> int:
        """Append zeros of the shape of `source`: an edge of a cell that carries nothing."""
        op = self.ops[source]
        return self._append(Op("zero", (source,), op.shape, bits=op.bits))

    def architecture(self, space: str, params: Params) -> Architecture:
        """Return the finished graph."""
        return Architecture(space, dict(params), tuple(self.ops))

    def _append(self, op: Op) -> int:
        self.ops.append(op)
        return len(self.ops) - 1

    def _window(self, source: int, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
        shape = self.ops[source].shape
        if len(shape) != 3:
            raise ValueError(f"expected an image (channels, height, width); got shape {shape}")
        height = (shape[1] + 2 * padding[0] - kernel[0]) // stride[0] + 1
        width = (shape[2] + 2 * padding[1] - kernel[1]) // stride[1] + 1
        if height < 1 or width < 1:
            raise ValueError(f"a window of {kernel} with padding {padding} does not fit into {shape}")
        return height, width


def _range_of(bits: int, range: str) -> str:
    """Forget the range of a tensor that has none, float or sign, so that equal networks have equal graphs."""
    return "tracked" if bits in (32, 1) else range
