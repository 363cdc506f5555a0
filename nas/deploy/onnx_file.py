"""A trained network as ONNX: in float32, or in int8 as ONNX Runtime's integer kernels take it.

Every operator of the graph becomes the ONNX operator of the same meaning. A batch norm is folded into the weights
before it, as an engine would; it stays where it follows none. Three precisions:

- `float32`: float weights, a few-bit layer's levels times their scale. A tensor that the network was trained to round
  is rounded here too, or a 4-bit network would compute something else; in float (Div, Clip, Round, Mul), because ONNX
  Runtime takes a QuantizeLinear and DequantizeLinear pair around a convolution as leave to make its weights int8, all
  channels on one scale. Time a float network as `architecture.as_float()`, which rounds nothing.
- `int8`: the QDQ layout. Weights are int8 with one scale per output channel (few-bit weights exactly), biases
  int32, tensors uint8 with one scale. A tensor the network rounds keeps its own step; any other gets the range that the
  calibration records show. Logits that no operator reads, and what a linear layer hands to a tanh or hardswish, stay in
  float.

- `mixed`: the network as it was trained and priced: layers and tensors of 8 and fewer bits as in `int8`, those in float
  as in `float32`. Nothing is calibrated.

The first operators are the preprocessing that the network was trained behind: the file takes a user's records, in their
own unit, type and order of axes. In `int8` the standardised tensor is what is quantised.

Early exits are all computed, and the file says which one answers (`nas.training.exits.leaving`, written as operators):
an engine that is to stop at an exit runs the operators up to `exit0_logits`, `exit1_logits`, ... one after the other.

A tensor of fewer than 8 bits is a uint8 tensor whose integers are clipped to its levels: the same numbers, and the
convolution before it still runs in integers. A sign is a comparison in float; the convolution before it is stored on so
fine a scale that only its sign survives.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper
from torch import Tensor
from torch import nn

from nas.base.onnx_runtime import IR_VERSION
from nas.base.onnx_runtime import OPSET
from nas.deploy.folding import Folded
from nas.deploy.folding import array
from nas.deploy.folding import folded
from nas.deploy.folding import in_whole_numbers
from nas.deploy.scales import Scale
from nas.deploy.scales import all_scales
from nas.deploy.scales import becomes_sign
from nas.deploy.scales import moved_scales
from nas.deploy.scales import quantizer_of
from nas.deploy.scales import ranges_of
from nas.deploy.scales import trained_scales
from nas.preprocessing.preprocessing import PIXEL
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import unchanged
from nas.preprocessing.stored import to_json
from nas.training.answers import answers_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import groups_of
from search_spaces.graph.integers import SATURATING
from search_spaces.graph.integers import folded_norms
from search_spaces.graph.operators import FOLDED
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT
from search_spaces.graph.precision import HALF
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.layers.quantize import HalfRounding

PRECISIONS = ("float32", "int8", "mixed")
FUNCTIONS: Mapping[str, str] = {"relu": "Relu", "hardswish": "HardSwish", "tanh": "Tanh", "hardsigmoid": "HardSigmoid"}
ATTRIBUTES: Mapping[str, Mapping[str, float]] = {"hardsigmoid": {"alpha": 1 / 6, "beta": 0.5}}
"""What makes ONNX's function the one that was trained, where its own default is another."""


def to_onnx(
    architecture: Architecture,
    network: nn.Module,
    precision: str,
    records: Tensor,
    preprocessing: Preprocessing | None = None,
) -> onnx.ModelProto:
    """Write a network as an ONNX model: input `records` `(batch, *shape)`, output `logits` `(batch, classes)`.

    The shape is that of the user's records (`Preprocessing.arrangement`), and so is the type. With early exits there is
    a second output, `exit` `(batch,)` int64: the number of the exit that answers, from 0.

    Args:
        architecture: The graph.
        network: What `search_spaces.network.build` made of it, trained, in eval mode.
        precision: One of `PRECISIONS`.
        records: `(records, *input_shape)`, calibration records, standardised: they set the 8-bit ranges that training
            did not. Read for `int8` alone.
        preprocessing: What the network was trained behind; None: it reads records as they are.

    Raises:
        ValueError: If the precision is unknown, the network is in train mode, there are no calibration records, or an
            operator, or the answers of the network's defence, have no ONNX rule.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}; there are {list(PRECISIONS)}")
    if network.training:
        raise ValueError("expected a network in eval mode; got one in train mode: call .eval() first")
    scales = trained_scales(architecture, network)
    if precision == "int8":
        scales = all_scales(architecture, network, scales, ranges_of(architecture, network, records))
    if precision == "mixed":
        scales = moved_scales(architecture, network, scales)
    behind = preprocessing or unchanged(architecture.input_shape)
    if behind.arrangement.input_shape != architecture.input_shape:
        raise ValueError(
            f"expected a preprocessing to records {architecture.input_shape}; got {behind.arrangement.input_shape}"
        )
    writer = _Writer(architecture, network, scales, behind, precision)
    model: onnx.ModelProto = helper.make_model(
        writer.graph(),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gecko-nas",
        producer_version=metadata.version("gecko-nas"),
    )
    helper.set_model_props(model, {**_facts(architecture, precision), **described(behind)})
    onnx.checker.check_model(model, full_check=True)
    return model


def own_precision(architecture: Architecture) -> str:
    """Return the precision in which a file computes a network as it was trained and priced."""
    layers = [(kernel.weight_bits, kernel.input_bits) for kernel in architecture.kernels if kernel.macs]
    widths = {bits for layer in layers for bits in layer}
    if min(widths, default=FLOAT) >= HALF:
        return "float32"
    return "mixed" if max(widths) >= HALF else "int8"


class _Writer:
    """Writes nodes and constants; `names[i]` is the float tensor that holds the output of operator i."""

    def __init__(
        self,
        architecture: Architecture,
        network: nn.Module,
        scales: Mapping[int, Scale],
        behind: Preprocessing,
        precision: str,
    ) -> None:
        self.architecture, self.network, self.scales = architecture, network, scales
        self.behind, self.precision = behind, precision
        self.folded = folded_norms(architecture)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.names: list[str] = []
        # Unrounded outputs of integer convolutions and the smallest step among their channels.
        self.accumulators: dict[str, float] = {}

    def graph(self) -> onnx.GraphProto:
        for index, op in enumerate(self.architecture.ops):
            self.names.append(self._rounded(index, self._computed(index, op)))
        shapes = {"records": self.behind.arrangement.shape, "logits": (self.architecture.num_classes,)}
        if len(self.architecture.outputs) > 1:
            shapes["exit"] = ()
            tensor = self._of_exits()
        else:
            tensor = self.names[self.architecture.outputs[0]]
        if (answers := answers_of(self.network)) is not None:
            tensor = self._answered(answers, tensor)
        self._name(tensor, "logits", taken=["records"])
        nodes = _reaching(self.nodes, [*shapes][1:])
        read = {name for node in nodes for name in node.input}
        kinds = {"records": helper.np_dtype_to_tensor_dtype(self.behind.input_type), "exit": TensorProto.INT64}
        ends = [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), ["batch", *shape])
            for name, shape in shapes.items()
        ]
        return helper.make_graph(
            nodes,
            self.architecture.space,
            ends[:1],
            ends[1:],
            initializer=[value for name, value in self.constants.items() if name in read],
        )

    def _of_exits(self) -> str:
        """Write which exit answers, as output `exit`, and return the tensor of its logits.

        Backwards: each exit that is sure takes the place of those behind it.
        """
        places, taken = self.architecture.outputs, ["records"]
        for number, index in enumerate(places):
            self._name(self.names[index], f"exit{number}_logits", taken)
            taken.append(f"exit{number}_logits")
        *early, logits = taken[1:]
        threshold = self._constant("exit_threshold", np.float32(self.architecture.exit_threshold))
        exit_number = self._constant(f"exit{len(early)}", np.array([[len(early)]], np.int64))
        for number, of_exit in reversed(list(enumerate(early))):
            shares = self._node("Softmax", [of_exit], f"exit{number}_shares", axis=1)
            largest = self._node("ReduceMax", [shares], f"exit{number}_largest", axes=[1], keepdims=1)
            is_sure = self._node("GreaterOrEqual", [largest, threshold], f"exit{number}_is_sure")
            logits = self._node("Where", [is_sure, of_exit, logits], f"exit{number}_or_later")
            own = self._constant(f"exit{number}", np.array([[number]], np.int64))
            exit_number = self._node("Where", [is_sure, own, exit_number], f"exit{number}_or_later_number")
        self._node("Squeeze", [exit_number, self._constant("exit_axis", np.array([1], np.int64))], "exit")
        return logits

    def _answered(self, answers: nn.Module, logits: str) -> str:
        """Write what the logits pass through before anyone sees them: the file must answer as what was measured."""
        write = getattr(answers, "write_onnx", None)
        if write is None:
            raise ValueError(
                f"the answers of this network's defence cannot be written as ONNX: {type(answers).__name__} has no "
                "write_onnx, and a file without them would say more than was measured"
            )
        answered: str = write(self._node, self._constant, logits)
        return answered

    def _name(self, tensor: str, name: str, taken: Collection[str]) -> None:
        """Give a tensor the name by which callers ask for it."""
        if tensor in taken:  # callers know it by another name already
            self._node("Identity", [tensor], name)
            return
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if given == tensor else given for given in names]
        self.names = [name if given == tensor else given for given in self.names]

    def _computed(self, index: int, op: Op) -> str:
        """Write an operator and return the name of its output before rounding."""
        inputs = [self.names[source] for source in op.inputs]
        label = f"op{index}_{op.kind}"
        if op.kind == "input":
            return self._preprocessed("records")
        if op.kind in WEIGHTED:
            return self._weighted(index, op, label)
        if op.kind == "activation":
            return self._activation(index, op, inputs[0], label)
        if op.kind == "norm":
            return inputs[0] if index in self.folded.values() else self._norm(inputs[0], label)
        if op.kind == "pool":
            return self._pool(op, inputs[0], label)
        return self._plain(op, inputs, label)

    def _preprocessed(self, name: str) -> str:
        """Write what makes a user's record one that the network reads: `nas.preprocessing`, operation by operation."""
        behind, kind = self.behind, self.behind.input_type
        if list(behind.arrangement.axes) != sorted(behind.arrangement.axes):
            name = self._node("Transpose", [name], "moved", perm=[0, *(axis + 1 for axis in behind.arrangement.axes)])
        if tuple(behind.arrangement.shape[axis] for axis in behind.arrangement.axes) != behind.arrangement.input_shape:
            shape = self._constant("record_shape", np.array([-1, *behind.arrangement.input_shape]))
            name = self._node("Reshape", [name, shape], "reshaped")
        if behind.pixels:
            kind = np.dtype(np.float32)
            name = self._node("Cast", [name], "pixels", to=TensorProto.FLOAT)
            name = self._node("Div", [name, self._constant("pixel", np.float32(PIXEL))], "scaled")
        if behind.mean.any() or (behind.deviation != 1).any():
            alone = (1, -1) + (1,) * (len(behind.arrangement.input_shape) - 1)
            for operator, values, label in (("Sub", behind.mean, "centred"), ("Div", behind.deviation, "standardised")):
                constant = self._constant(f"{label}_by", values.astype(kind).reshape(alone))
                name = self._node(operator, [name, constant], label)
        return name if kind == np.float32 else self._node("Cast", [name], "single", to=TensorProto.FLOAT)

    def _plain(self, op: Op, inputs: list[str], label: str) -> str:
        plain = {"add": "Add", "concat": "Concat", "flatten": "Flatten", "zero": "Mul", "scale": "Mul"}
        if op.kind not in plain:
            raise ValueError(f"no rule for the operator {op.kind!r} in the ONNX export")
        if op.kind == "zero":
            inputs.append(self._constant("nothing", np.float32(0)))
        return self._node(plain[op.kind], inputs, label, **({"axis": 1} if op.kind in ("concat", "flatten") else {}))

    def _weighted(self, index: int, op: Op, label: str) -> str:
        norm = getattr(self.network, f"op{self.folded[index]}_norm") if index in self.folded else None
        layer = folded(getattr(self.network, label), norm)
        source = self.scales.get(op.inputs[0])
        if self.precision == "int8" or (self.precision == "mixed" and op.weight_bits < HALF):
            downwards = becomes_sign(self.architecture, self.folded.get(index, index))
            inputs, smallest = self._integer_weights(label, layer, source, downwards=downwards)
            if op.kind != "linear" and source is not None:
                self.accumulators[label] = smallest
        else:
            inputs = [self._constant(f"{label}_weight", layer.weight.astype(np.float32))]
            if layer.bias is not None:
                inputs.append(self._constant(f"{label}_bias", layer.bias.astype(np.float32)))
        inputs = [self.names[op.inputs[0]], *inputs]
        if op.kind == "linear":
            return self._node("Gemm", inputs, label, transB=1)
        if op.kind in ("conv", "depthwise"):
            return self._node("Conv", inputs, label, group=groups_of(op), **_window(op))
        raise ValueError(f"no rule for the operator {op.kind!r} in the ONNX export")

    def _integer_weights(
        self, label: str, layer: Folded, source: Scale | None, *, downwards: bool
    ) -> tuple[list[str], float]:
        """Write int8 weights and the bias, and return their names and the smallest unit of the sums, 0 in float."""
        whole = in_whole_numbers(layer, source, downwards=downwards)
        inputs = [self._dequantised(f"{label}_weight", whole.levels, whole.steps, np.int8)]
        if whole.accumulator is None:
            bias = layer.bias
            return inputs + ([] if bias is None else [self._constant(f"{label}_bias", bias.astype(np.float32))]), 0.0
        if whole.bias is not None:
            inputs.append(self._dequantised(f"{label}_bias", whole.bias, whole.accumulator, np.int32))
        return inputs, float(whole.accumulator.min())

    def _dequantised(self, name: str, levels: NDArray[Any], steps: NDArray[Any], kind: type) -> str:
        constants = [
            self._constant(f"{name}_levels", levels),
            self._constant(f"{name}_scale", steps.astype(np.float32)),
        ]
        if kind != np.int32:  # a bias needs none; without that of the weights ONNX Runtime computes a Gemm in float
            constants.append(self._constant(f"{name}_zero", np.zeros(len(steps), kind)))
        return self._node("DequantizeLinear", constants, name, axis=0)

    def _norm(self, source: str, label: str) -> str:
        norm = getattr(self.network, label)
        given = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        constants = [self._constant(f"{label}_{n}", array(value)) for n, value in enumerate(given)]
        return self._node("BatchNormalization", [source, *constants], label, epsilon=norm.eps)

    def _activation(self, index: int, op: Op, source: str, label: str) -> str:
        if op.function in ("identity", "sign") or (op.function in SATURATING and index in self.scales):
            return source
        if op.function == "relu6":
            ends = [self._constant("nothing", np.float32(0)), self._constant("six", np.float32(6))]
            return self._node("Clip", [source, *ends], label)
        if op.function not in FUNCTIONS:
            raise ValueError(f"no rule for the activation {op.function!r} in the ONNX export")
        return self._node(FUNCTIONS[op.function], [source], label, **ATTRIBUTES.get(op.function, {}))

    def _pool(self, op: Op, source: str, label: str) -> str:
        if op.function == "max":
            return self._node("MaxPool", [source], label, **_window(op))
        if op.function != "avg":
            raise ValueError(f"no rule for the pooling {op.function!r} in the ONNX export")
        counted = int(getattr(self.network, label).count_include_pad)
        return self._node("AveragePool", [source], label, count_include_pad=counted, **_window(op))

    def _rounded(self, index: int, name: str) -> str:
        """Write what rounds an operator's output, if anything does."""
        label = f"op{index}_rounded"
        if isinstance(rounding := getattr(self.network, f"op{index}_half", None), HalfRounding):
            kind = TensorProto.BFLOAT16 if rounding.format == "bf16" else TensorProto.FLOAT16
            name = self._node("Cast", [name], f"{label}_half", to=kind)
            name = self._node("Cast", [name], f"{label}_single", to=TensorProto.FLOAT)
        if isinstance(quantizer := quantizer_of(self.network, index), ActivationQuantizer) and quantizer.bits == 1:
            name = self._sign(name, label)
        if index not in self.scales:
            return name
        scale = self.scales[index]
        if self.precision == "float32" or self._follows_float(index):
            name = self._rounded_in_float(name, scale, label if self.precision == "float32" else f"{label}_float")
        return name if self.precision == "float32" else self._stored(name, scale, label)

    def _follows_float(self, index: int) -> bool:
        """Tell whether a tensor to store comes out of a layer that is to stay in float.

        ONNX Runtime takes 8 bits before and behind such a layer as leave to make its weights int8, all channels on one
        scale. Between a rounding in float and the storing it does not see the layer.
        """
        ops = self.architecture.ops
        while ops[index].kind in FOLDED:
            (index,) = ops[index].inputs
        return self.precision == "mixed" and ops[index].kind in WEIGHTED and ops[index].weight_bits >= HALF

    def _rounded_in_float(self, name: str, scale: Scale, label: str) -> str:
        step = self._constant(f"{label}_step", np.float32(scale.step))
        ends = [self._constant(f"count{n}", np.float32(n)) for n in (limit - scale.zero for limit in scale.limits)]
        name = self._node("Div", [name, step], f"{label}_steps")
        name = self._node("Clip", [name, *ends], f"{label}_clipped")
        name = self._node("Round", [name], f"{label}_levels")
        return self._node("Mul", [name, step], label)

    def _sign(self, name: str, label: str) -> str:
        if name in self.accumulators:
            name = self._stored(name, Scale(self.accumulators[name], 128), f"{label}_sum")
        zero, plus, minus = (
            self._constant(text, np.float32(value)) for text, value in (("nothing", 0), ("plus", 1), ("minus", -1))
        )
        positive = self._node("GreaterOrEqual", [name, zero], f"{label}_positive")
        return self._node("Where", [positive, plus, minus], f"{label}_sign")

    def _stored(self, name: str, scale: Scale, label: str) -> str:
        """Store a tensor in 8 bits and read it back."""
        given = [
            self._constant(f"{label}_step", np.float32(scale.step)),
            self._constant(f"{label}_zero", np.uint8(scale.zero)),
        ]
        name = self._node("QuantizeLinear", [name, *given], f"{label}_levels")
        if scale.limits != (0, 255):
            ends = [self._constant(f"level{limit}", np.uint8(limit)) for limit in scale.limits]
            name = self._node("Clip", [name, *ends], f"{label}_clipped")
        return self._node("DequantizeLinear", [name, *given], label)

    def _node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _constant(self, name: str, value: Any) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name


def _reaching(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Leave out the nodes that no output depends on: ONNX Runtime would run them."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _window(op: Op) -> dict[str, list[int]]:
    return {"kernel_shape": list(op.kernel), "strides": list(op.stride), "pads": [*op.padding, *op.padding]}


def described(behind: Preprocessing) -> dict[str, str]:
    """Return the metadata that tell how a user's records are to be given, and what the answers mean; JSON each."""
    if not behind.classes:
        return {}
    features = [name for column in behind.columns for name in column.features]
    about = {"classes": behind.classes, "columns": features}
    return {"preprocessing": to_json(behind)} | {name: json.dumps(value) for name, value in about.items() if value}


def _facts(architecture: Architecture, precision: str) -> dict[str, str]:
    exits = {"exit_threshold": json.dumps(architecture.exit_threshold)} if len(architecture.outputs) > 1 else {}
    return exits | {
        "space": architecture.space,
        "key": architecture.key,
        "params": json.dumps(dict(architecture.params)),
        "precision": precision,
        "version": metadata.version("gecko-nas"),
    }
