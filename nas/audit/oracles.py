"""Oracles, which answer an attack's queries: a trained network (with activations), or an ONNX file (without)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor
from torch import nn

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Oracle
from nas.base.errors import one_line
from nas.base.onnx_runtime import session
from nas.base.sizes import at_most_memory
from nas.base.sizes import check_memory
from nas.training.answers import answers_of
from nas.training.loop import BATCH_IN_CACHE
from nas.training.loop import compute_device
from nas.training.loop import logits_of

# Sums of probabilities in float32 are within 1e-6 of 1, those of a softmax computed in float16 within this.
SUM_TOLERANCE = 1e-3
# What ONNX raises on models whose shapes do not fit.
BROKEN_MODEL = (
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    RuntimeError,
    ValueError,
    LookupError,
)
# Of one tensor, the whole batch of it; and of what ONNX Runtime may reserve on top of all else.
MOST_ELEMENTS, MOST_BYTES = 2**27, 2**32


def of_network(network: nn.Module) -> Oracle:
    """Make an oracle of a trained network; it answers in float32, on `compute_device`, to which the network moves.

    Its activations are what the last `nn.Linear` (`QuantLinear` is one) to run reads, after whatever rounds it: the
    numbers that the deployed layer multiplies with. Where that layer's output is the logits, as in every network of the
    search spaces, they give the gradient of the loss by its deployed weights. A network without a linear layer has no
    activations.

    Args:
        network: In eval mode, with all its parts, when the oracle is made and whenever it is asked.

    Raises:
        ValueError: If the network or a part of it is in train mode. The oracle raises it too, also of a network with
            several outputs, and `nas.training.loop.Diverged` if a logit is not finite.
    """
    _check_eval(network)
    network.to(compute_device())

    def query(features: Floats) -> NDArray[np.float32]:
        _check_eval(network)
        return logits_of(network, _tensor(features))

    def activations(features: Floats) -> NDArray[np.float32]:
        _check_eval(network)
        return _read_by_last_linear(network, _tensor(features))

    return Oracle(query, activations if _linears(network) else None)


def of_onnx(path: Path) -> Oracle:
    """Make an oracle of an ONNX file, run by ONNX Runtime on one thread of the CPU. It has no activations.

    The model takes float32 records `(batch, ...)` and gives logits `(batch, classes)`. Where the batch is fixed, the
    last one is filled up with copies of its last record. Probabilities, which is what answers in [0, 1] that sum to 1
    for every record asked about are taken for, become their logarithms: logits of the same softmax. A probability that
    the model gives as 0 becomes log(1.2e-38), the smallest normal float32, and those of records beyond it are tied.

    Args:
        path: The file, weights included.

    Raises:
        ValueError: If the file is no ONNX model that ONNX Runtime runs, keeps weights in other files, has several
            inputs or outputs or others than float32. The oracle raises it if the records' shape is not the model's, or
            the answer not finite logits of two classes or more.
        OSError: If the file cannot be read.
    """
    engine = _opened(path)
    inputs, outputs = engine.get_inputs(), engine.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        names = [[end.name for end in ends] for ends in (inputs, outputs)]
        raise ValueError(f"expected one input and one output in {path}; got inputs {names[0]} and outputs {names[1]}")
    (source,) = inputs
    if not source.type == outputs[0].type == "tensor(float)":
        raise ValueError(f"expected records and logits of float32 in {path}; got {source.type} and {outputs[0].type}")
    shape = [length if isinstance(length, int) else None for length in source.shape]
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"expected an input (batch, ...) in {path}; got {source.name!r} of shape {source.shape}")

    def query(features: Floats) -> NDArray[np.float32]:
        if not _fits(features.shape[1:], shape[1:]) or not len(features):
            raise ValueError(f"expected features (records, ...) for an input {source.shape}; got {features.shape}")
        records = np.asarray(features, np.float32)
        size = shape[0] or BATCH_IN_CACHE
        starts = range(0, len(records), size)
        parts = [_answers(engine, source.name, records[start : start + size], shape[0]) for start in starts]
        return _as_logits(np.concatenate(parts))

    return Oracle(query)


def _check_eval(network: nn.Module) -> None:
    training = [name or "the network" for name, module in network.named_modules() if module.training]
    if training:
        raise ValueError(f"expected a network in eval mode; {training[0]} is in train mode: call .eval() first")


def _tensor(features: Floats) -> Tensor:
    return torch.tensor(features, dtype=torch.float32, device=compute_device())


def _linears(network: nn.Module) -> list[nn.Linear]:
    """List the network's own linear layers; those of its answers stand behind the logits."""
    behind = set() if (answers := answers_of(network)) is None else set(answers.modules())
    return [module for module in network.modules() if isinstance(module, nn.Linear) and module not in behind]


def _read_by_last_linear(network: nn.Module, features: Tensor) -> NDArray[np.float32]:
    """Return `(records, units)`; whichever layer runs last in a pass is the last one."""
    parts: list[NDArray[np.float32]] = []
    read: list[Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read[:] = inputs[:1]

    def keep(*_: object) -> None:
        if not read or read[0].ndim != 2:
            got = [tuple(values.shape) for values in read]
            raise ValueError(f"expected the last linear layer to read (records, units); it read {got or 'nothing'}")
        parts.append(read.pop().float().cpu().numpy())

    hooks = [module.register_forward_pre_hook(note) for module in _linears(network)]
    hooks.append(network.register_forward_hook(keep))
    try:
        logits_of(network, features)
    finally:
        for hook in hooks:
            hook.remove()
    return np.concatenate(parts)


def _opened(path: Path) -> Any:
    """Return an ONNX Runtime session of a file that holds all its weights."""
    check_memory(Path(path).stat().st_size, str(path))
    content = Path(path).read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ValueError(f"expected an ONNX model in {path}; it cannot be read: {one_line(error)}") from error
    # ONNX Runtime would look for them in the working folder, by a name that the file chose.
    elsewhere = [tensor.name for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    if elsewhere:
        raise ValueError(f"expected an ONNX model in one file; {path} keeps {elsewhere[0]!r} in another")
    _check_sizes(model, path)
    try:
        with at_most_memory(MOST_BYTES):
            return session(model)
    except Exception as error:
        raise ValueError(f"expected an ONNX model that ONNX Runtime runs in {path}; {one_line(error)}") from error


def _check_sizes(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a model with a tensor beyond all measure, before ONNX Runtime reserves it.

    A file of 317 bytes may ask for gigabytes: a constant is written as its shape and one number.
    """
    tensors = [(tensor.name, list(tensor.dims)) for tensor in _tensors(model)]
    with suppress(*BROKEN_MODEL):  # ONNX Runtime refuses it, with its reason
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        values = (*graph.value_info, *graph.input, *graph.output)
        tensors += [(value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]) for value in values]
    for name, shape in tensors:
        if (size := prod(length or 1 for length in shape)) > MOST_ELEMENTS:
            raise ValueError(
                f"expected tensors of at most {MOST_ELEMENTS:,} elements in {path}; {name!r} has {shape}, {size:.3g}"
            )


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Yield every tensor in a protobuf message, those of subgraphs and functions included."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(part)


def _fits(shape: tuple[int, ...], expected: list[int | None]) -> bool:
    if len(shape) != len(expected):
        return False
    return all(wanted in (None, length) for length, wanted in zip(shape, expected, strict=True))


def _answers(engine: onnxruntime.InferenceSession, name: str, batch: Floats, fixed: int | None) -> Floats:
    """Return what a model says of one batch, `(records, classes)`."""
    records = len(batch)
    if fixed is not None:
        batch = np.concatenate([batch, np.repeat(batch[-1:], fixed - records, axis=0)])
    try:
        with at_most_memory(MOST_BYTES):
            (answers,) = engine.run(None, {name: batch})
    except Exception as error:
        raise ValueError(f"expected a model that takes records {batch.shape}; {one_line(error)}") from error
    if answers.ndim != 2 or len(answers) != len(batch) or answers.shape[1] < 2:
        raise ValueError(f"expected logits ({len(batch)}, classes) of two classes or more; got {answers.shape}")
    if not np.isfinite(answers).all():
        raise ValueError("expected finite logits; the model gave NaN or infinity")
    return np.asarray(answers[:records])


def _as_logits(answers: Floats) -> NDArray[np.float32]:
    """Return logits `(records, classes)` in float32, of logits or of probabilities.

    >>> [_as_logits(np.array([answers])).round().tolist() for answers in ([1.0, 0.0], [2.0, 0.0])]
    [[[0.0, -87.0]], [[2.0, 0.0]]]
    """
    sums = answers.sum(axis=1)
    if answers.min() >= 0 and answers.max() <= 1 + SUM_TOLERANCE and np.abs(sums - 1).max() <= SUM_TOLERANCE:
        answers = np.log(np.maximum(answers, np.finfo(np.float32).tiny))
    return np.asarray(answers, np.float32)
