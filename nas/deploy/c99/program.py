"""What the C code of a network computes, step by step: the tensors and where they lie, the weights, the roundings.

The C sources are written from it, and `nas.deploy.c99.reference` runs it in NumPy. Roundings and whole numbers are
those of the ONNX files (`nas.deploy.scales`, `nas.deploy.folding`): a layer of integers gives ONNX Runtime's numbers
bit for bit. Operators run in the order with the least memory, fused as an engine fuses them, so that no tensor is
stored but those that `peak_ram_kib` counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from estimators.devices.device import Calibration
from estimators.devices.device import Device
from estimators.devices.device import Latency
from estimators.models.flash import kernel_bytes
from estimators.models.memory import best_order
from nas.deploy.c99.layout import Life
from nas.deploy.c99.layout import peak_of
from nas.deploy.c99.layout import placed
from nas.deploy.c99.packing import pack
from nas.deploy.c99.packing import stored_bits
from nas.deploy.folding import folded
from nas.deploy.folding import gain_and_shift
from nas.deploy.folding import in_whole_numbers
from nas.deploy.folding import per_channel
from nas.deploy.scales import Scale
from nas.deploy.scales import all_scales
from nas.deploy.scales import becomes_sign
from nas.deploy.scales import moved_scales
from nas.deploy.scales import quantizer_of
from nas.deploy.scales import ranges_of
from nas.deploy.scales import trained_scales
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import unchanged
from nas.training.answers import answers_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import in_width
from search_spaces.graph.integers import SATURATING
from search_spaces.graph.integers import folded_norms
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import VIEW_KINDS
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT
from search_spaces.graph.precision import HALF
from search_spaces.layers.quantize import HalfRounding

Singles: TypeAlias = NDArray[np.float32]

STORAGE = Device(
    name="c99",
    description="What nas export --format c99 stores: packed weights, tensors in 8 bits or float32, and no engine",
    core="any",
    clock_mhz=1.0,
    engine="reference kernels in C99",
    precision="int1 to int8",
    weight_bits=(1, 2, 4, 8, 32),
    activation_bits=(8, 32),
    engine_ram_kib=0.0,
    engine_flash_kib=0.0,
    latency=Latency({}, {}, {(8, 8): 1.0}, 0.0, 0.0, {}),
    calibration=Calibration("nothing was timed", 1, 0.0, 0.0),
)
"""How the C code stores a network, as a device: `peak_ram_kib` and `flash_kib` on it are what the code must take."""

FUNCTIONS = ("relu", "relu6", "hardswish", "tanh", "hardsigmoid")
POOLS = ("max", "avg")
LARGEST_SUM = 2**31 - 1
MOST_WEIGHTS = 2**28


@dataclass(frozen=True)
class Tensor:
    """Numbers of one record in memory.

    Attributes:
        shape: Channels, height, width; a vector has height and width 1.
        offset: Its first byte in the array.
        scale: How its numbers are stored in uint8; None: as float32.
        holder: Number of the tensor whose bytes it looks at: its own, but for a view.
    """

    shape: tuple[int, int, int]
    offset: int
    scale: Scale | None
    holder: int

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * (4 if self.scale is None else 1)


@dataclass(frozen=True, eq=False)
class Stage:
    """What is done with each number that a kernel has computed, before it is stored.

    Attributes:
        function: One of `FUNCTIONS`; `affine`, with gain and shift; `bf16` or `fp16`, rounding to 16 bits; `sign`; or
            `levels`: rounding to the scale's.
        scale: Of `levels`.
        divisor: Of `levels`: what a number is divided by to count in the scale's steps: the step, or 1 where the number
            counts in steps already.
        gain: Of `affine`: `(channels,)`.
        shift: Of `affine`: `(channels,)`.
    """

    function: str
    scale: Scale | None = None
    divisor: float = 1.0
    gain: Singles | None = None
    shift: Singles | None = None


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a layer.

    Attributes:
        bits: 1, 2, 4 or 8 of whole numbers; 32 of floats.
        values: `(channels, channels read, rows, columns)`, levels or floats.
        repeats: What a sum of whole numbers is multiplied by before the bias is added.
        multiplier: `(channels,)`, what sums are multiplied by; None of floats.
        whole_bias: `(channels,)`, added to sums of whole numbers; None where there is none.
        bias: `(channels,)`, added to sums of floats; None where there is none.
    """

    bits: int
    values: NDArray[Any]
    repeats: int = 1
    multiplier: Singles | None = None
    whole_bias: NDArray[np.int32] | None = None
    bias: Singles | None = None

    @property
    def packed(self) -> NDArray[Any]:
        """What is stored of the values: bytes of levels, or floats."""
        return self.values.reshape(-1) if self.bits == FLOAT else pack(self.values, self.bits)


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel.

    Attributes:
        op: The operator that it computes; of a norm or an activation alone, the stages compute it.
        inputs: Numbers of the tensors that it reads.
        output: Number of the tensor that it writes.
        stages: What follows for each number.
        weights: Of a layer, else None.
    """

    op: Op
    inputs: tuple[int, ...]
    output: int
    stages: tuple[Stage, ...]
    weights: Weights | None = None


@dataclass(frozen=True, eq=False)
class Program:
    """A network as C code computes it.

    Attributes:
        architecture: The network.
        precision: In what it was asked for.
        behind: What a record passes through first.
        reading: What follows for each number of a record, before it is stored as tensor 0.
        tensors: By number.
        steps: In the order in which they run.
        outputs: For each exit, the number of the tensor of its logits; one without early exits.
        planned_bytes: The largest sum of tensors that live at one time: what `peak_ram_kib` counts, less the logits of
            early exits that were asked.
        ram_bytes: Bytes of the array that holds the tensors.
        flash_bytes: Weights, scales and biases, as `flash_kib` counts them.
    """

    architecture: Architecture
    precision: str
    behind: Preprocessing
    reading: tuple[Stage, ...]
    tensors: Mapping[int, Tensor]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    planned_bytes: int
    ram_bytes: int
    flash_bytes: int


def to_program(
    architecture: Architecture,
    network: nn.Module,
    precision: str,
    records: TorchTensor,
    preprocessing: Preprocessing | None = None,
) -> Program:
    """Say what the C code of a network computes.

    Args:
        architecture: The graph.
        network: What `search_spaces.network.build` made of it, trained, in eval mode.
        precision: `int8`: what is in float is calibrated to 8 bits. Any other of `nas.deploy.onnx_file.PRECISIONS`: as
            it was trained, layers in float stay in float.
        records: `(records, *input_shape)`, calibration records, standardised. Read for `int8` alone.
        preprocessing: What the network was trained behind; None: it reads records as they are.

    Raises:
        ValueError: If something of the network has no rule in C, with what it is.
    """
    if network.training:
        raise ValueError("expected a network in eval mode; got one in train mode: call .eval() first")
    check(architecture, network)
    scales = trained_scales(architecture, network)
    if precision == "int8":
        scales = all_scales(architecture, network, scales, ranges_of(architecture, network, records))
    else:
        scales = moved_scales(architecture, network, scales)
    behind = preprocessing or unchanged(architecture.input_shape)
    return _Compiler(architecture, network, precision, scales).program(behind)


def check(architecture: Architecture, network: nn.Module) -> None:
    """Refuse what has no rule in C.

    Raises:
        ValueError: With what it is.
    """
    if (answers := answers_of(network)) is not None:
        raise ValueError(
            f"the answers of this network's defence cannot be written in C99: {type(answers).__name__} has no rule "
            "there, and code without them would say more than was measured"
        )
    known = (*WEIGHTED, *CONSTANT, *VIEW_KINDS, "input", "pool", "norm", "activation", "add", "concat", "scale")
    for op in architecture.ops:
        if op.kind not in known:
            raise ValueError(f"no rule for the operator {op.kind!r} in C99; there are {sorted(known)}")
        functions = {"pool": POOLS, "activation": (*FUNCTIONS, "identity", "sign")}.get(op.kind, ("",))
        if op.function not in functions:
            raise ValueError(f"no rule for the {op.kind} {op.function!r} in C99; there are {list(functions)}")


class _Compiler:
    """Turns operators into steps. Operators are called by their numbers in the graph, tensors by those that make them.

    Attributes:
        running: The graph without what adds nothing: its bits are those in which tensors are stored.
        numbers: For each operator of `running`, its number in the graph.
        outputs: For each exit, the operator of `running` that gives its logits.
        holders: For each of them, the one whose tensor holds its output: a view looks at another one's.
    """

    def __init__(
        self, architecture: Architecture, network: nn.Module, precision: str, scales: Mapping[int, Scale]
    ) -> None:
        self.architecture, self.network, self.precision, self.scales = architecture, network, precision, scales
        self.folded = folded_norms(architecture)
        self.running, self.numbers, self.outputs = self._simplified()
        self.holders = self._holders()

    def program(self, behind: Preprocessing) -> Program:
        running = self.running
        order = self._order()
        lives = self._lives(order)
        offsets, ram = placed(lives)
        tensors = {}
        for index, op in enumerate(running.ops):
            if (holder := self.holders[index]) in offsets:  # else it is computed on the way to another one
                channels, *sides = op.shape
                height, width = sides or (1, 1)
                tensors[index] = Tensor((channels, height, width), offsets[holder], self._scale(holder), holder)
        steps = [
            self._step(kernel.ops, kernel.inputs)
            for kernel in (running.kernels[place] for place in order)
            if kernel.kind not in VIEW_KINDS
        ]
        return Program(
            self.architecture,
            self.precision,
            behind,
            tuple(self._rounding(0)),
            tensors,
            tuple(steps),
            self.outputs,
            peak_of(lives),
            ram,
            sum(kernel_bytes(kernel, STORAGE) for kernel in running.kernels),
        )

    def _order(self) -> tuple[int, ...]:
        """Return the order of the kernels: the one with the least memory, but as written where that needs no more.

        An early exit then answers before what is written behind it runs.
        """
        order, peak = best_order(self.running, STORAGE)
        written = tuple(range(len(order)))
        return written if peak_of(self._lives(written)) <= peak else order

    def _simplified(self) -> tuple[Architecture, tuple[int, ...], tuple[int, ...]]:
        """Return the graph without sums with zeros, and without what no output depends on."""
        ops = self.architecture.ops
        root, zeros = list(range(len(ops))), set()
        for index, op in enumerate(ops):
            rest = [root[source] for source in op.inputs if root[source] not in zeros]
            if op.kind in CONSTANT or (op.kind == "add" and not rest):
                zeros.add(index)
            elif op.kind == "add" and len(rest) == 1 and self._same(index, rest[0]):
                root[index] = rest[0]
        waiting = [root[output] for output in self.architecture.outputs]
        needed = {0, *waiting}
        while waiting:
            index = waiting.pop()
            sources = () if index in zeros else [root[source] for source in ops[index].inputs]
            waiting += set(sources) - needed
            needed.update(sources)
        numbers = sorted(needed)
        place = {index: position for position, index in enumerate(numbers)}
        kept = []
        for index in numbers:
            op = ops[index]._replace(bits=8 if index in self.scales else FLOAT, format="")
            if index in zeros:
                op = Op("zero", (0,), op.shape, bits=op.bits)
            elif index:
                op = op._replace(inputs=tuple(place[root[source]] for source in op.inputs))
            kept.append(in_width(op, 8, output=False) if self._is_whole(op) else op)
        outputs = tuple(place[root[output]] for output in self.architecture.outputs)
        return self.architecture.rewired(tuple(kept), tuple(sorted(set(outputs)))), tuple(numbers), outputs

    def _same(self, index: int, source: int) -> bool:
        """Tell whether a sum with zeros is what it adds them to: it is not rounded anew."""
        rounds = any(getattr(self.network, f"op{index}_{name}", None) is not None for name in ("half", "quantizer"))
        return not rounds and self.scales.get(index) in (None, self.scales.get(source))

    def _is_whole(self, op: Op) -> bool:
        return op.kind in WEIGHTED and (self.precision == "int8" or op.weight_bits < HALF)

    def _scale(self, place: int) -> Scale | None:
        return self.scales.get(self.numbers[place])

    def _holders(self) -> list[int]:
        holders = list(range(len(self.running.ops)))
        for index, op in enumerate(self.running.ops):
            if op.kind in VIEW_KINDS:
                holders[index] = holders[op.inputs[0]]
        return holders

    def _lives(self, order: Sequence[int]) -> dict[int, Life]:
        """Return how long tensors live, in steps of the order.

        The last exit's logits are read when all is computed, those of others as soon as the exits before were asked.
        """
        running, holders = self.running, self.holders
        sizes = {0: prod(running.ops[0].shape) * running.ops[0].bits // 8}
        first, last = {0: 0}, {0: 0}
        for step, place in enumerate(order):
            kernel = running.kernels[place]
            output = holders[kernel.output]
            first.setdefault(output, step)
            sizes.setdefault(output, kernel.output_size * kernel.output_bits // 8)
            read = () if kernel.kind in CONSTANT else kernel.inputs
            last.update(dict.fromkeys((output, *(holders[source] for source in read)), step))
        asked = 0
        for output in self.outputs:
            asked = max(asked, first[holders[output]])
            last[holders[output]] = max(last[holders[output]], asked)
        last[holders[self.outputs[-1]]] = len(order)
        return {tensor: Life(sizes[tensor], first[tensor], last[tensor]) for tensor in sizes}

    def _step(self, ops: tuple[int, ...], inputs: tuple[int, ...]) -> Step:
        anchor = self.running.ops[ops[0]]
        numbers = [self.numbers[place] for place in ops]
        stages = [stage for number in numbers for stage in self._stages(number)]
        weights = None
        if anchor.kind in WEIGHTED:
            weights, stages = self._weighted(numbers[0], anchor, inputs[0], stages)
        return Step(anchor, inputs, ops[-1], tuple(stages), weights)

    def _stages(self, number: int) -> list[Stage]:
        """Return what an operator does with each number, and how its output is rounded."""
        op, stages = self.architecture.ops[number], []
        if op.kind == "norm" and number not in self.folded.values():
            gain, shift = gain_and_shift(getattr(self.network, f"op{number}_norm"))
            stages.append(Stage("affine", gain=gain.astype(np.float32), shift=shift.astype(np.float32)))
        saturates = op.function in SATURATING and number in self.scales
        if op.kind == "activation" and op.function in FUNCTIONS and not saturates:
            stages.append(Stage(op.function))
        return stages + self._rounding(number)

    def _rounding(self, number: int) -> list[Stage]:
        stages = []
        if isinstance(rounding := getattr(self.network, f"op{number}_half", None), HalfRounding):
            stages.append(Stage(rounding.format))
        quantizer = quantizer_of(self.network, number)
        if quantizer is not None and quantizer.bits == 1:
            stages.append(Stage("sign"))
        if (scale := self.scales.get(number)) is not None:
            stages.append(Stage("levels", scale, scale.step))
        return stages

    def _weighted(self, number: int, op: Op, source: int, stages: list[Stage]) -> tuple[Weights, list[Stage]]:
        """Return the weights of a layer, and its stages: where the first one rounds, sums are counted in its steps."""
        norm = self.folded.get(number)
        label = f"op{number}_{op.kind}"
        layer = folded(getattr(self.network, label), None if norm is None else getattr(self.network, f"op{norm}_norm"))
        bias = None if layer.bias is None else layer.bias.astype(np.float32)
        if not self._is_whole(op):
            return Weights(FLOAT, _four_axes(layer.weight.astype(np.float32)), bias=bias), stages
        scale = self._scale(self.holders[source])
        downwards = becomes_sign(self.architecture, number if norm is None else norm)
        whole = in_whole_numbers(layer, scale, downwards=downwards)
        bits = stored_bits(op.weight_bits)
        turned = per_channel(layer.signs, layer.weight)
        levels = np.rint(whole.levels * turned / layer.repeats)
        if bits == 1:  # which has no zero; the sum of a channel without weights is nothing beside its bias
            levels = np.where(levels < 0, -1, 1)
        values, signs = _four_axes(levels.astype(np.int8)), layer.signs.astype(np.float32)
        if whole.accumulator is None:
            return Weights(bits, values, 1, whole.steps * np.float32(layer.repeats) * signs, bias=bias), stages
        multiplier = whole.accumulator
        if stages and (rounded := stages[0].scale) is not None:
            multiplier = multiplier / np.float32(rounded.step)
            stages = [Stage("levels", rounded, 1.0), *stages[1:]]
        whole_bias = None if whole.bias is None else (whole.bias * layer.signs).astype(np.int32)
        weights = Weights(bits, values, layer.repeats, multiplier * signs, whole_bias)
        _check_sums(weights, scale, label)
        return weights, stages


def _four_axes(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(values.shape + (1,) * (4 - values.ndim))


def _check_sums(weights: Weights, scale: Scale | None, label: str) -> None:
    """Refuse a layer whose sums may not fit into 32 bits.

    Raises:
        ValueError: With the layer.
    """
    assert scale is not None
    if weights.values.size > MOST_WEIGHTS:
        raise ValueError(
            f"expected at most {MOST_WEIGHTS:,} weights in a layer for C99; {label} has {weights.values.size:,}"
        )
    reach = max(abs(limit - scale.zero) for limit in scale.limits)
    sums = np.abs(weights.values.astype(np.int64)).reshape(len(weights.values), -1).sum(1) * reach * weights.repeats
    largest = int((sums + (0 if weights.whole_bias is None else np.abs(weights.whole_bias.astype(np.int64)))).max())
    if largest > LARGEST_SUM:
        raise ValueError(f"expected sums of 32 bits for C99; those of {label} may reach {largest:,}")
