"""An oracle of an ONNX file, as any framework exports it: it answers an attack's queries, without activations.

A file is somebody else's: what it may read, reserve and run is bounded before ONNX Runtime sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.external_data_helper
import onnx.shape_inference
from numpy.typing import NDArray
from onnx import TensorProto

from estimators.leakage.evidence import Floats
from nas.audit.answers import SMALLEST
from nas.audit.answers import Kind
from nas.audit.answers import as_logits
from nas.audit.answers import kind_of
from nas.audit.answers import told
from nas.audit.layouts import Layout
from nas.audit.layouts import layout_for
from nas.base.errors import one_line
from nas.base.onnx_runtime import session
from nas.base.reading import contents
from nas.base.reading import parse_json
from nas.base.sizes import at_most_memory
from nas.base.sizes import check_memory
from nas.training.loop import BATCH_IN_CACHE

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
MOST_EXTERNAL = 2**31
"""Bytes of weights in other files: a model beyond it cannot be handed to ONNX Runtime in one piece."""
INPUT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
ANSWERS = ("tensor(float)", "tensor(double)", "tensor(float16)")
EXIT = ("exit", "tensor(int64)")
"""Name and type of the output with the number of the exit that answers, from 0, as `nas export` writes it."""
CLASSES = "classes"
"""Metadata property that holds the names of the classes: a JSON list of texts, in the order of the answers."""


class OnnxNetwork:
    """An ONNX file that answers, run by ONNX Runtime on one thread of the CPU.

    The model takes records `(batch, ...)` and gives logits or probabilities `(batch, classes)`, or one column of two
    classes. An output of predicted classes beside them is not read, and a sequence of maps from class to probability
    (scikit-learn's ZipMap) is read as `(batch, classes)`. Where the batch is fixed, the last one is filled up with
    copies of its last record. Records are cast to the type of the input, and turned to its layout where they fit in one
    way only (`nas.audit.layouts`).

    The first query decides what the answers are (`nas.audit.answers.kind_of`) and how the records lie, so it should be
    about many records; later ones are read alike, whatever they give. A probability that the model gives as 0 becomes
    log(1.2e-38), the smallest normal float32, and those of records beyond it are tied.

    Attributes:
        path: The file.
        classes: Names of the classes where the file holds them, in the order of the answers; else empty.
        metadata: The file's own properties, as texts.
        has_exits: Whether it says which of several exits answers.
        notes: Sentences on how records and answers were read; complete after the first query.
    """

    def __init__(self, path: Path) -> None:
        """Open a file. Weights in other files are read where those lie in its folder.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is no ONNX model that ONNX Runtime runs, keeps weights outside its folder, has
                several inputs or outputs that may be meant, or ends that are no numbers.
            OSError: If the file cannot be read.
        """
        self.path = path
        self.notes: list[str] = []
        model = read_model(path)
        self._engine = _session(model, path)
        self.metadata: Mapping[str, str] = {entry.key: entry.value for entry in model.metadata_props}
        self.classes = self._named(model)
        self._source, self._target = _ends(self._engine, path)
        self.has_exits = any((end.name, end.type) == EXIT for end in self._engine.get_outputs())
        shape = [length if isinstance(length, int) else None for length in self._source.shape]
        if len(shape) < 2 or 0 in shape:
            raise ValueError(
                f"expected an input (batch, ...) in {path}; got {self._source.name!r} of shape {self._source.shape}"
            )
        self._batch, self._shape = shape[0], shape[1:]
        self._kind: Kind | None = None

    def query(self, features: Floats) -> NDArray[np.float32]:
        """Return logits `(records, classes)` about records `(records, ...)`.

        Raises:
            ValueError: If the records' shape is not the model's, the first ones are no whole numbers where it takes
                such, or the answers are not finite logits of two classes or more.
        """
        layout = self._layout(features)
        records = self._cast(layout.turned(features))
        size = self._batch or BATCH_IN_CACHE
        parts = [self._answers(records[start : start + size]) for start in range(0, len(records), size)]
        answers = np.concatenate(parts)
        if self._kind is None:
            self._kind = kind_of(answers)
            self._note(layout.told, told(answers, self._kind, self.path.name))
        return np.asarray(as_logits(answers, self._kind, SMALLEST), np.float32)

    def exits(self, features: Floats) -> NDArray[np.int64]:
        """Return `(records,)`: the number of the exit that answers.

        Raises:
            ValueError: As `query`, and if the numbers are none of exits, or the file has no such output.
        """
        if not self.has_exits:
            raise ValueError(f"expected an output {EXIT[0]!r} of whole numbers in {self.path}; there is none")
        records = self._cast(self._layout(features).turned(features))
        size = self._batch or BATCH_IN_CACHE
        batches = [records[start : start + size] for start in range(0, len(records), size)]
        parts = [np.asarray(self._run(EXIT[0], batch))[: len(batch)] for batch in batches]
        if any(part.shape != (len(batch),) for part, batch in zip(parts, batches, strict=True)):
            raise ValueError(f"expected a number for each record as {EXIT[0]!r} of {self.path}; got {parts[0].shape}")
        return np.concatenate(parts)

    def _layout(self, features: Floats) -> Layout:
        found = layout_for(features.shape[1:], self._shape) if len(features) else ""
        if isinstance(found, str):
            raise ValueError(
                f"expected features (records, ...) for an input {self._source.shape}; got {features.shape}{found}"
            )
        return found

    def _cast(self, records: Floats) -> NDArray[Any]:
        """Return records in the input's type. Changed copies of records are rounded where it takes whole numbers."""
        kind: np.dtype[Any] = np.dtype(INPUT_TYPES[self._source.type])
        if kind.kind == "f":
            return np.asarray(records, kind)
        ends = np.iinfo(kind)
        rounded = np.clip(np.round(records), ends.min, ends.max)
        if self._kind is None and not np.array_equal(rounded, records):
            raise ValueError(
                f"expected features that are whole numbers from {ends.min} to {ends.max}, which is what the input of "
                f"{self.path} takes ({self._source.type}); got {float(records.min()):g} to {float(records.max()):g}: "
                "give the records as the network read them"
            )
        return np.asarray(rounded, kind)

    def _answers(self, batch: NDArray[Any]) -> Floats:
        """Return what the model says of one batch, `(records, classes)`."""
        records = len(batch)
        answers = self._run(self._target.name, batch)
        if isinstance(answers, list):
            answers = self._of_maps(answers)
        answers = np.asarray(answers)
        if answers.ndim == 1:
            answers = answers[:, None]
        wanted = self._batch or records
        if answers.ndim != 2 or len(answers) != wanted or not answers.shape[1]:
            raise ValueError(f"expected answers ({wanted}, classes) of {self.path}; got {answers.shape}")
        if not np.isfinite(answers).all():
            raise ValueError("expected finite logits; the model gave NaN or infinity")
        return answers[:records]

    def _run(self, output: str, batch: NDArray[Any]) -> Any:
        """Return an output of the model about one batch, filled up where its size is fixed."""
        if self._batch is not None:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._batch - len(batch), axis=0)])
        try:
            with at_most_memory(MOST_BYTES):
                return self._engine.run([output], {self._source.name: batch})[0]
        except Exception as error:
            raise ValueError(f"expected a model that takes records {batch.shape}; {one_line(error)}") from error

    def _of_maps(self, rows: list[dict[Any, float]]) -> Floats:
        """Return the probabilities of a ZipMap, in the order of its keys, which are the names of the classes."""
        keys = list(rows[0]) if rows else []
        if any(list(row) != keys for row in rows):
            raise ValueError(f"expected the same classes for each record in {self._target.name!r} of {self.path}")
        self.classes = self.classes or tuple(str(key) for key in keys)
        return np.array([[row[key] for key in keys] for row in rows], np.float32)

    def _named(self, model: onnx.ModelProto) -> tuple[str, ...]:
        """Return the names of the classes that a file holds. What others keep there under this name is no mistake."""
        texts = [entry.value for entry in model.metadata_props if entry.key == CLASSES]
        if not texts:
            return ()
        with suppress(ValueError):
            found = parse_json(texts[0], CLASSES)
            if isinstance(found, list) and all(isinstance(name, str) for name in found):
                return tuple(found)
        self._note(f"{self.path.name}: its property {CLASSES!r} is no JSON list of texts; it was not read")
        return ()

    def _note(self, *lines: str | None) -> None:
        self.notes += [line for line in lines if line is not None]


def _ends(engine: Any, path: Path) -> tuple[Any, Any]:
    """Return the input of the records and the output of the answers."""
    inputs, outputs = engine.get_inputs(), engine.get_outputs()
    answers = [end for end in outputs if end.type in ANSWERS or end.type.startswith("seq(map(")]
    if len(inputs) != 1 or len(answers) != 1:
        names = [[end.name for end in ends] for ends in (inputs, outputs)]
        raise ValueError(
            f"expected one input and one output of logits or probabilities in {path}; got inputs {names[0]} and "
            f"outputs {names[1]}" + (f" of {', '.join(end.type for end in outputs)}" if not answers else "")
        )
    (source,), (target,) = inputs, answers
    if source.type not in INPUT_TYPES:
        raise ValueError(f"expected records of numbers as the input of {path}; got {source.name!r} of {source.type}")
    return source, target


def read_model(path: Path) -> onnx.ModelProto:
    """Read a model of anybody's with all its weights.

    Raises:
        ValueError: If it is none, a tensor is beyond all measure, or weights lie outside its folder.
        OSError: If the file cannot be read.
    """
    check_memory(Path(path).stat().st_size, str(path))
    content = Path(path).read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ValueError(f"expected an ONNX model in {path}; it cannot be read: {one_line(error)}") from error
    _check_sizes(model, path)
    _read_external(model, path)
    return model


def _session(model: onnx.ModelProto, path: Path) -> Any:
    try:
        with at_most_memory(MOST_BYTES):
            return session(model)
    except Exception as error:
        raise ValueError(f"expected an ONNX model that ONNX Runtime runs in {path}; {one_line(error)}") from error


def _read_external(model: onnx.ModelProto, path: Path) -> None:
    """Read the weights that a model keeps in other files, from its own folder alone.

    ONNX Runtime would look for them in the working folder, by a name that the file chose.
    """
    tensors = [tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    places = [_place(tensor, path) for tensor in tensors]
    total = sum(length for _, length in places)
    if total > MOST_EXTERNAL:
        raise ValueError(f"expected at most {MOST_EXTERNAL >> 30} GiB of weights beside {path}; got {total:,} bytes")
    check_memory(2 * total, f"what {path} keeps in other files")
    for tensor, (name, _) in zip(tensors, places, strict=True):
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.resolve().parent))
        except Exception as error:
            raise ValueError(
                f"expected the values of {tensor.name!r} of {path} in {name!r}; {one_line(error)}"
            ) from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _place(tensor: TensorProto, path: Path) -> tuple[str, int]:
    """Return the file in the model's folder that holds a tensor's values, and their length in bytes."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    name, folder = told.get("location", ""), path.resolve().parent
    file = (folder / name).resolve()
    if not name or Path(name).is_absolute() or not file.is_relative_to(folder):
        raise ValueError(
            f"expected the values of {tensor.name!r} in the folder of {path}; it names {name!r}, which is not read"
        )
    if not file.is_file():
        raise ValueError(
            f"expected the values of {tensor.name!r} of {path} in {name!r} beside it; there is no such file, "
            f"{contents(folder)}"
        )
    size = file.stat().st_size
    try:
        offset = int(told.get("offset", "0"))
        length = int(told.get("length", str(size - offset)))
    except ValueError:
        raise ValueError(f"expected whole numbers as the place of {tensor.name!r} of {path}; got {told}") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(
            f"expected the values of {tensor.name!r} of {path} within the {size:,} bytes of {name!r}; it names "
            f"{length:,} bytes from {offset:,}"
        )
    return name, length


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
