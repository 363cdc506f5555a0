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
from dataclasses import fields
from functools import cached_property
from itertools import chain
from math import prod
from operator import attrgetter
from operator import itemgetter
from typing import NamedTuple
from typing import TypeAlias

from search_spaces.graph.operators import ALL_KINDS
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import FOLDED
from search_spaces.graph.operators import KINDS
from search_spaces.graph.operators import OPERATORS
from search_spaces.graph.operators import SCALED
from search_spaces.graph.operators import VIEW_KINDS
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT
from search_spaces.graph.precision import FORMATS
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import TERNARY
from search_spaces.graph.precision import is_float

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
ParamValue: TypeAlias = bool | int | float | str | None
Params: TypeAlias = Mapping[str, ParamValue]

RANGES = ("tracked", "learned")


class Op(NamedTuple):
    """One operator.

    A tuple, not a frozen dataclass: a search makes millions, and a tuple is made four times as fast.
    `op._replace(bits=8)` returns another one.

    Attributes:
        kind: One of `search_spaces.graph.operators.OPERATORS`.
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
        sparsity: Share of the weights that are zero, from 0 to below 1, wherever they lie.
        weight_format: Format of the weights where their bits have several (`search_spaces.graph.precision`), else "".
        format: The same of the output.
        pattern: Where zeros lie: "" anywhere, or `2:4` for two of four neighbours along the input channels that stay.
        pruned_from: Output channels before some were removed; 0 where none was.
        shared_bits: Bits of the number of a weight's value, where the layer's weights share few values; else 0.
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
    sparsity: float = 0.0
    weight_format: str = ""
    format: str = ""
    pattern: str = ""
    pruned_from: int = 0
    shared_bits: int = 0

    @property
    def size(self) -> int:
        """Elements in the output of one record."""
        return prod(self.shape)


# Keys were written before operators had these: they are added where they are not the default, and other keys stay.
ADDED = ("sparsity", "weight_format", "format", "pattern", "pruned_from", "shared_bits")
_first_fields_of = attrgetter(*(name for name in Op._fields if name not in ADDED))
# An `itemgetter` reads several fields in half the time of as many attributes.
_checked_of = itemgetter(*map(Op._fields.index, ("kind", "inputs", "sparsity", "weight_format", "format")))
_anchor_of = itemgetter(
    *map(
        Op._fields.index,
        ("kind", "inputs", "shape", "kernel", "bias", "weight_bits", "sparsity", "pattern", "shared_bits"),
    )
)


def fields_of(op: Op) -> tuple[object, ...]:
    """Return the numbers and words that make an operator what it is, for keys."""
    fields: tuple[object, ...] = _first_fields_of(op)
    if op.sparsity:
        fields = (*fields, op.sparsity)
    # All two-bit weights were ternary when the first keys were written.
    weight_format = {"": "integer", TERNARY: ""}[op.weight_format] if op.weight_bits == 2 else op.weight_format
    if weight_format or op.format:
        fields = (*fields, [weight_format, op.format])
    if op.pattern or op.pruned_from or op.shared_bits:
        fields = (*fields, {"pattern": op.pattern, "pruned_from": op.pruned_from, "shared_bits": op.shared_bits})
    return fields


def reading(op: Op, inputs: tuple[int, ...]) -> Op:
    """Return an operator that reads other ones; the operator itself where it reads these already.

    `_replace` takes twice as long, and what simplifies a graph asks for each operator of a candidate.

    >>> reading(Op("activation", (1,), (8,), function="relu"), (0,)) == Op("activation", (0,), (8,), function="relu")
    True
    """
    return op if op.inputs == inputs else Op(op.kind, inputs, *op[2:])


class Kernel(NamedTuple):
    """Operators that an inference engine runs as one: an anchor and the norms and activations folded into it.

    A tuple, as `Op` is.

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
        sparsity: Share of the weights that are zero. `macs` and `weights` count them all: what an engine makes of zeros
            is its own.
        window: Rows and columns of the window that it reads through; (1, 1) where there is none.
        pattern: Where zeros lie, as in `Op`.
        shared_bits: Bits of the number of a weight's value, as in `Op`.
        params: Trainable numbers of the float network: weights, biases, and what norms have for each channel.
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
    sparsity: float = 0.0
    window: Pair = (1, 1)
    pattern: str = ""
    shared_bits: int = 0
    params: int = 0

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
    if op.kind in WEIGHTED:
        raise ValueError(f"no rule for the operator {op.kind!r} in the number of weights")
    raise ValueError(f"expected an operator with weights, one of {sorted(WEIGHTED)}; got {op.kind!r}")


def groups_of(op: Op) -> int:
    """Return in how many groups of channels a convolution falls: a depthwise one has a group for each channel."""
    return op.shape[0] if op.kind == "depthwise" else op.groups


def _is_format(bits: int, format: str) -> bool:
    """Tell whether weights or a tensor of so many bits may have a format."""
    return not format or FORMATS.get(format) == bits


def _check(index: int, op: Op) -> None:
    """Refuse an operator that no network has at its place; see `Architecture`."""
    if op.kind not in OPERATORS:
        raise ValueError(f"no operator {op.kind!r}; there are {list(KINDS)}")
    if index and (not op.inputs or max(op.inputs) >= index):
        raise ValueError(f"expected operator {index} ({op.kind}) to read earlier ones; got {op.inputs}")
    if op.format == TERNARY:
        raise ValueError(
            f"expected a tensor in one of {list(TENSORS)}; operator {index} ({op.kind}) writes {op.format!r}"
        )
    if not (_is_format(op.weight_bits, op.weight_format) and _is_format(op.bits, op.format)):
        raise ValueError(
            f"expected formats of {op.weight_bits} and {op.bits} bits in operator {index} ({op.kind}); "
            f"got {op.weight_format!r} and {op.format!r}; there are {dict(FORMATS)}"
        )
    if op.sparsity and not (op.kind in WEIGHTED and 0 < op.sparsity < 1):
        raise ValueError(
            "expected a sparsity from 0 to below 1, and 0 where there are no weights; "
            f"operator {index} ({op.kind}) has {op.sparsity}"
        )


def _kernel(ops: tuple[Op, ...], fused: list[int]) -> Kernel:
    """Describe an anchor and what is folded into it, by their places."""
    # Written for speed: pricing a network spends a third of its time here.
    anchor = last = ops[fused[0]]
    kind, inputs, shape, window, bias, weight_bits, sparsity, pattern, shared_bits = _anchor_of(anchor)
    source = ops[inputs[0]]
    input_bits, input_size = source.bits, prod(source.shape)
    for index in inputs[1:]:
        input_bits = max(input_bits, ops[index].bits)
        input_size += prod(ops[index].shape)
    params = shape[0] if bias else 0
    scales = 0
    for index in fused:
        last = ops[index]
        if last.kind in SCALED:
            scales += OPERATORS[last.kind].per_channel * last.shape[0]
    macs = weights = channels = 0
    if kind in WEIGHTED:
        weights = weights_of(anchor, source.shape[0])
        channels = shape[0]
        macs = weights * prod(shape[1:])
        bias = bias or scales > 0
        if kind == "conv" and window == (1, 1):
            kind = "pointwise"
    return Kernel(
        kind,
        tuple(fused),
        inputs,
        macs,
        weights,
        channels,
        bias,
        weight_bits,
        input_bits,
        last.bits,
        input_size,
        prod(last.shape),
        sparsity,
        window,
        pattern,
        shared_bits,
        weights + params + scales,
    )


@dataclass(frozen=True)
class Architecture:
    """A network as data: where it came from and the operators it runs.

    Attributes:
        space: Name of the search space that described it.
        params: The point of that space, as sampled. Two points may describe the same network (a width that belongs to
            a block left out); `key` tells.
        ops: Operators in topological order. The first is the input.
        outputs: Indices of the operators whose tensors the network returns, ascending: logits, those of early exits
            first. Left out, it is the last operator.
        exit_threshold: Confidence, the largest softmax probability, from which on an early exit answers; at 0 the first
            one answers always. With a single output there is nothing to decide, and it is 0.

    Raises:
        ValueError: If an operator is of unknown kind or reads a later one, the first is not the input, an output is no
            operator, a sparsity is none of an operator with weights, or the threshold is not from 0 to 1.
    """

    space: str
    params: Params
    ops: tuple[Op, ...]
    outputs: tuple[int, ...] = ()
    exit_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.ops or self.ops[0].kind != "input":
            raise ValueError("expected the first operator to be 'input'")
        # Written for speed: most operators are checked by these lines alone.
        for index, (kind, inputs, sparsity, of_weights, of_output) in enumerate(map(_checked_of, self.ops)):
            is_usual = kind in ALL_KINDS and inputs and max(inputs) < index
            if not is_usual or of_output or of_weights or sparsity:
                _check(index, self.ops[index])
        self._settle_outputs()

    def _settle_outputs(self) -> None:
        if not self.outputs:
            object.__setattr__(self, "outputs", (len(self.ops) - 1,))
        elif list(self.outputs) != sorted({index for index in self.outputs if 0 <= index < len(self.ops)}):
            raise ValueError(
                f"expected ascending indices of {len(self.ops)} operators as outputs; got {list(self.outputs)}"
            )
        if not 0 <= self.exit_threshold <= 1:  # false for NaN
            raise ValueError(f"expected an exit threshold from 0 to 1; got {self.exit_threshold}")
        if len(self.outputs) == 1 and self.exit_threshold:
            object.__setattr__(self, "exit_threshold", 0.0)

    @property
    def input_shape(self) -> Shape:
        """Shape of one record."""
        return self.ops[0].shape

    @property
    def num_classes(self) -> int:
        """Length of the logits, the same at every exit."""
        return self.ops[self.outputs[-1]].shape[0]

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits that name the network: equal graphs share it, whatever sampled them."""
        text = json.dumps([fields_of(op) for op in self.ops], separators=(",", ":"))
        if self.outputs != (len(self.ops) - 1,):
            text += json.dumps({"outputs": self.outputs}, separators=(",", ":"))
        if self.exit_threshold:
            text += json.dumps({"exit_threshold": self.exit_threshold}, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def consumers(self) -> tuple[int, ...]:
        """How many read each operator's output: operators, and whoever asked for an output of the network."""
        counts = [0] * len(self.ops)
        for index in self.outputs:
            counts[index] += 1
        for source in chain.from_iterable([op.inputs for op in self.ops]):
            counts[source] += 1
        return tuple(counts)

    @cached_property
    def forms(self) -> dict[object, Architecture]:
        """The forms in which engines run this network, kept by who makes them."""
        return {}

    @cached_property
    def shared(self) -> dict[str, tuple[object, object]]:
        """What several metrics ask for, by its name: the device that it was last found for, and what was found."""
        return {}

    def __getstate__(self) -> dict[str, object]:
        """Return the fields alone for copies and other processes: what was found from them can be found again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def has_dead_ops(self) -> bool:
        """Whether an engine that simplifies graphs would leave operators out (`search_spaces.graph.pruning.prune`)."""
        return 0 in self.consumers or not CONSTANT.isdisjoint([op.kind for op in self.ops])

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The operators as an engine runs them, norms and activations folded into what they follow."""
        consumers, ops = self.consumers, self.ops
        chains: list[list[int]] = []
        ending_at: list[list[int] | None] = [None] * len(ops)
        for index, op in enumerate(ops):
            kind = op.kind
            if kind in FOLDED:
                before = op.inputs[0]
                found = ending_at[before]
                if found is not None and consumers[before] == 1:
                    found.append(index)
                    ending_at[index] = found
                    continue
            if index:
                chains.append(found := [index])
                if kind not in VIEW_KINDS:
                    ending_at[index] = found
        return tuple([_kernel(ops, found) for found in chains])

    @cached_property
    def kernel_kinds(self) -> frozenset[str]:
        """The types of kernels that it has."""
        return frozenset([kernel.kind for kernel in self.kernels])

    def with_ops(self, ops: tuple[Op, ...], outputs: tuple[int, ...] | None = None) -> Architecture:
        """Return a network of other operators that came from the same point.

        Args:
            ops: The operators.
            outputs: Indices of those whose tensors it returns; None: the same as here.
        """
        ends = self.outputs if outputs is None else outputs
        return Architecture(self.space, self.params, ops, ends, self.exit_threshold)

    def rewired(self, ops: tuple[Op, ...], outputs: tuple[int, ...]) -> Architecture:
        """Return a network of this one's operators, fewer of them or at other places: they are not checked again.

        Args:
            ops: The operators, in topological order.
            outputs: Indices of those whose tensors it returns.
        """
        found = object.__new__(Architecture)
        values = (self.space, self.params, ops, outputs, self.exit_threshold)
        found.__dict__.update(zip(Architecture.__dataclass_fields__, values, strict=True))
        found._settle_outputs()
        return found

    def as_float(self) -> Architecture:
        """Return the same network with every weight and tensor in 32-bit float (a `sign` activation becomes `relu`)."""
        ops = tuple(
            op._replace(
                weight_bits=FLOAT,
                weight_format="",
                bits=FLOAT,
                format="",
                range="tracked",
                function="relu" if op.function == "sign" else op.function,
            )
            for op in self.ops
        )
        return self.with_ops(ops)

    def without_float(self, bits: int) -> Architecture:
        """Return the same network with all in 32- or 16-bit float at another width, as rounding after training does.

        Two bits of weights are whole numbers then, from -2 to 1.
        """
        if not any(
            is_float(op.bits, op.format) or (op.kind in WEIGHTED and is_float(op.weight_bits, op.weight_format))
            for op in self.ops
        ):
            return self
        return self.with_ops(tuple(in_width(op, bits) for op in self.ops))


def in_width(op: Op, bits: int, *, weights: bool = True, output: bool = True) -> Op:
    """Return an operator with what it has in 32- or 16-bit float, its weights and its output, at another width."""
    if weights and is_float(op.weight_bits, op.weight_format):
        op = op._replace(weight_bits=bits, weight_format="", shared_bits=0)
    if output and is_float(op.bits, op.format):
        op = op._replace(bits=bits, format="")
    return op
