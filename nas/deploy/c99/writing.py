"""The C99 sources of a network: what a program of `nas.deploy.c99.program` says, as text."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from importlib import resources
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.deploy.c99.program import Program
from nas.deploy.c99.program import Stage
from nas.deploy.c99.program import Step
from nas.deploy.c99.program import Tensor
from nas.deploy.c99.program import Weights
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import groups_of
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT

SAME_FOR_ALL = ("kernels.h", "kernels.c", "main.c")
"""Files of `sources/`, which are written as they are."""
COMMAND = "cc -std=c99 -O2 -Wall -Wextra -Werror main.c network.c weights.c kernels.c -lm -o network"
RECORDS = {"uint8": "uint8_t", "float32": "float", "float64": "double"}
READERS = {"uint8": "gecko_read_uint8", "float32": "gecko_read_float", "float64": "gecko_read_double"}
PER_LINE = 12


def sources(program: Program) -> dict[str, str]:
    """Return the C99 sources of a network, by the names of their files.

    Args:
        program: What they are to compute.

    Raises:
        ValueError: If a weight or a step is not finite.
    """
    writer = _Writer(program)
    calls = writer.calls()
    written = {
        "network.h": _header(program),
        "network.c": _network(writer.descriptions, calls),
        "weights.h": _declared(writer.constants),
        "weights.c": _defined(writer.constants),
    }
    folder = resources.files("nas.deploy.c99") / "sources"
    return written | {name: (folder / name).read_text(encoding="utf-8") for name in SAME_FOR_ALL}


@dataclass(frozen=True)
class _Constant:
    """An array of weights: the type of its elements, its name, and its elements as text."""

    kind: str
    name: str
    texts: list[str]

    def alignment(self) -> int:
        """Return what sorts arrays by the bytes of their elements, the largest first."""
        return int(self.kind == "uint8_t")


@dataclass
class _Writer:
    """Collects what the code of a network stands on.

    Attributes:
        program: What the code computes.
        descriptions: Structures, as text.
        constants: Arrays of weights.
    """

    program: Program
    descriptions: list[str] = field(default_factory=list)
    constants: list[_Constant] = field(default_factory=list)

    def calls(self) -> list[str]:
        """Return the calls that compute the network."""
        for number, tensor in self.program.tensors.items():
            self.descriptions.append(_tensor(number, tensor))
        *early, last = self.program.outputs
        calls, written, exits = [self._reading()], {0}, 0
        for step in self.program.steps:
            calls += [f"/* {_described(step.op, step.weights)} */", *self._step(step)]
            written.add(step.output)
            while exits < len(early) and self.program.tensors[early[exits]].holder in written:
                calls += self._exit(exits, early[exits])
                exits += 1
        return [*calls, f"gecko_values(memory, &tensor{last}, logits);", f"return {len(early)};"]

    def _exit(self, number: int, tensor: int) -> list[str]:
        """Return the lines that answer at an early exit if it is sure."""
        threshold = _single(self.program.architecture.exit_threshold)
        return [
            f"if (gecko_is_sure(memory, &tensor{tensor}, {threshold})) {{",
            f"    gecko_values(memory, &tensor{tensor}, logits);",
            f"    return {number};",
            "}",
        ]

    def _reading(self) -> str:
        behind = self.program.behind
        lengths = [behind.arrangement.shape[axis] for axis in behind.arrangement.axes]
        steps = [int(np.prod(behind.arrangement.shape[axis + 1 :], dtype=np.int64)) for axis in behind.arrangement.axes]
        own = [_static("uint32_t", "record_lengths", lengths), _static("uint32_t", "record_strides", steps)]
        fields = [f".axes = {len(lengths)}", ".lengths = record_lengths", ".strides = record_strides"]
        if behind.mean.any() or (behind.deviation != 1).any():
            precise = behind.input_type == np.float64
            kind, prefix = ("double", "precise_") if precise else ("float", "")
            for name, values in (("mean", behind.mean), ("deviation", behind.deviation)):
                texts = [repr(float(value)) if precise else _single(value) for value in values]
                own.append(_array(f"static const {kind} record_{name}", len(texts), texts))
                fields.append(f".{prefix}{name} = record_{name}")
        own.append(_structure("gecko_reading", "reading", fields))
        self.descriptions += own
        reader = READERS[behind.input_type.name]
        return f"{reader}(memory, &reading, record, &tensor0, {self._stages(0, self.program.reading)});"

    def _step(self, step: Step) -> list[str]:
        output, stages = step.output, self._stages(step.output, step.stages)
        ending = f"&tensor{output}, {stages});"
        inputs = [f"&tensor{number}" for number in step.inputs]
        op = step.op
        if op.kind in WEIGHTED and step.weights is not None:
            self._layer(output, op, step.weights)
            return [f"gecko_run_layer(memory, &layer{output}, {inputs[0]}, {ending}"]
        if op.kind == "pool":
            self.descriptions.append(_structure("gecko_window", f"window{output}", _window(op)))
            kernel = "gecko_max_pool" if op.function == "max" else "gecko_mean_pool"
            return [f"{kernel}(memory, &window{output}, {inputs[0]}, {ending}"]
        if op.kind in ("add", "scale"):
            return [f"gecko_{op.kind}(memory, {inputs[0]}, {inputs[1]}, {ending}"]
        if op.kind == "zero":
            return [f"gecko_zeros(memory, {ending}"]
        calls, channel = [], 0
        for number, text in zip(step.inputs, inputs, strict=True):
            calls.append(f"gecko_copy(memory, {text}, {channel}, {ending}")
            channel += self.program.tensors[number].shape[0]
        return calls

    def _layer(self, output: int, op: Op, weights: Weights) -> None:
        fields = [
            f".window = {{{', '.join(_window(op))}}}",
            f".groups = {groups_of(op)}",
            f".repeats = {weights.repeats}",
        ]
        if weights.bits == FLOAT:
            fields.append(f".weights = {self._constant('float', output, 'weights', weights.packed)}")
        else:
            fields.append(f".bits = {weights.bits}")
            fields.append(f".levels = {self._constant('uint8_t', output, 'levels', weights.packed)}")
        for kind, name in (("int32_t", "whole_bias"), ("float", "multiplier"), ("float", "bias")):
            if (values := getattr(weights, name)) is not None:
                fields.append(f".{name} = {self._constant(kind, output, name, values)}")
        self.descriptions.append(_structure("gecko_layer", f"layer{output}", fields))

    def _stages(self, output: int, stages: Sequence[Stage]) -> str:
        """Describe the stages of a tensor and return them as the last arguments of a call."""
        if not stages:
            return "NULL, 0"
        rows = []
        for place, stage in enumerate(stages):
            fields = [f".function = GECKO_{stage.function.upper()}"]
            if (scale := stage.scale) is not None:
                fields += [f".divisor = {_single(stage.divisor)}", f".step = {_single(scale.step)}"]
                fields += [f".zero = {scale.zero}", f".low = {scale.limits[0]}", f".high = {scale.limits[1]}"]
            for name in ("gain", "shift"):
                if (values := getattr(stage, name)) is not None:
                    fields.append(f".{name} = {self._constant('float', output, f'{name}{place}', values)}")
            rows.append(f"{{{', '.join(fields)}}}")
        self.descriptions.append(_array(f"static const gecko_stage stages{output}", len(rows), rows, each=1))
        return f"stages{output}, {len(stages)}"

    def _constant(self, kind: str, output: int, name: str, values: NDArray[Any]) -> str:
        texts = [_single(value) for value in values] if kind == "float" else [str(value) for value in values.tolist()]
        self.constants.append(_Constant(kind, f"{name}{output}", texts))
        return f"network_weights.{name}{output}"


def _declared(constants: Sequence[_Constant]) -> str:
    """Return weights.h: all constants in one structure, bytes last, so that no gaps are left between them."""
    members = [f"    {one.kind} {one.name}[{len(one.texts)}];" for one in sorted(constants, key=_Constant.alignment)]
    structure = [
        "typedef struct {",
        *members,
        "} network_constants;",
        "",
        "extern const network_constants network_weights;",
    ]
    guards = ["#ifndef NETWORK_WEIGHTS_H", "#define NETWORK_WEIGHTS_H", "", "#include <stdint.h>", ""]
    return _joined(*guards, *(structure if members else ()), "", "#endif")


def _defined(constants: Sequence[_Constant]) -> str:
    """Return weights.c."""
    lines = []
    for one in sorted(constants, key=_Constant.alignment):
        lines += [f"    .{one.name} = {{", *(f"    {line}" for line in _lines(one.texts)), "    },"]
    definition = ["const network_constants network_weights = {", *lines, "};"] if lines else []
    return _joined('#include "weights.h"', "", *definition)


def _header(program: Program) -> str:
    kind = RECORDS[program.behind.input_type.name]
    shape = " x ".join(map(str, program.behind.arrangement.shape))
    return f"""\
/* Network {program.architecture.key}, {program.precision}. Compile it on a computer, with main.c to try it:

       {COMMAND}

   On a microcontroller leave main.c out. Nothing is allocated. Tensors take NETWORK_RAM_BYTES of static memory, of
   which {program.planned_bytes} are in use at the worst moment; weights, scales and biases are {program.flash_bytes}
   bytes of constants. */

#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#define NETWORK_RECORD_VALUES {int(np.prod(program.behind.arrangement.shape))} /* {shape}, the last axis fastest */
#define NETWORK_CLASSES {program.architecture.num_classes}
#define NETWORK_RAM_BYTES {program.ram_bytes}

typedef {kind} network_record;

/* Computes the logits of one record, NETWORK_CLASSES of them. The record is as the data have it, in their own unit.
   Returns the number of the exit that answers, 0 of a network without early exits: what lies behind it is not run. */
int network_run(const network_record *record, float *logits);

#endif
"""


def _network(descriptions: Iterable[str], calls: Iterable[str]) -> str:
    return (
        _joined(
            '#include "network.h"', "", "#include <stddef.h>", "", '#include "kernels.h"', '#include "weights.h"', ""
        )
        + _joined("static uint8_t memory[NETWORK_RAM_BYTES];")
        + "\n".join(descriptions)
        + _joined("", "int network_run(const network_record *record, float *logits)", "{")
        + _joined(*(f"    {call}" for call in calls), "}")
    )


def _described(op: Op, weights: Weights | None) -> str:
    told = op.kind + (f" {op.function}" if op.function else "")
    if weights is None:
        return told
    window = f" {op.kernel[0]}x{op.kernel[1]}" if op.kind != "linear" else ""
    return f"{told}{window}, {op.shape[0]} channels, weights of {weights.bits} bits"


def _tensor(number: int, tensor: Tensor) -> str:
    fields = [f".offset = {tensor.offset}"]
    fields += [f".{name} = {side}" for name, side in zip(("channels", "height", "width"), tensor.shape, strict=True)]
    if tensor.scale is not None:
        fields += [f".step = {_single(tensor.scale.step)}", f".zero = {tensor.scale.zero}"]
    return _structure("gecko_tensor", f"tensor{number}", fields)


def _window(op: Op) -> list[str]:
    sides = (*op.kernel, *op.stride, *op.padding)
    names = ("rows", "columns", "down", "right", "above", "left")
    return [f".{name} = {side}" for name, side in zip(names, sides, strict=True)]


def _structure(kind: str, name: str, fields: Iterable[str]) -> str:
    return f"static const {kind} {name} = {{{', '.join(fields)}}};"


def _static(kind: str, name: str, values: Sequence[int]) -> str:
    return f"static const {kind} {name}[{len(values)}] = {{{', '.join(map(str, values))}}};"


def _array(declared: str, size: int, texts: Sequence[str], each: int = PER_LINE) -> str:
    return _joined(f"\n{declared}[{size}] = {{", *_lines(texts, each), "};")


def _lines(texts: Sequence[str], each: int = PER_LINE) -> list[str]:
    return [f"    {', '.join(texts[start : start + each])}," for start in range(0, len(texts), each)]


def _joined(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _single(value: Any) -> str:
    """Write a number so that C reads the same float32.

    >>> _single(0.1), _single(3), _single(1e-30)
    ('0.100000001f', '3.0f', '1e-30f')
    """
    number = float(np.float32(value))
    if not isfinite(number):
        raise ValueError(f"expected finite weights and steps to write as C99; got {number}")
    text = f"{number:.9g}"
    return f"{text}f" if set(text) & set(".e") else f"{text}.0f"
