"""Audit the exported file of a candidate as it ships: the file answers, through its own runtime.

Shadow models are written as files of the same precision and asked the same way: an attack learns from them how such a
file answers, not how a network in PyTorch does. What an attacker reads out of the file is what the file holds: the
numbers that its last layer reads are there for whoever has it.

Attacks change records as the network reads them, standardised. A file takes them as the user has them, so they are
turned back; those of pixels are rounded, because the file takes whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Oracle
from nas.audit.onnx_oracle import read_model
from nas.base.files import digest_of
from nas.base.onnx_runtime import session
from nas.preprocessing.preprocessing import Preprocessing
from search_spaces.network import Network

AT_ONCE = 256
"""Records asked about together."""
SAME, STEPS = 0.99, 255
"""A file is a candidate's if so many of its answers are, within so small a part of their range, those of the file that
is written of the candidate now."""
LOGITS, EXIT = "logits", "exit"
Write: TypeAlias = Callable[[Network, str], onnx.ModelProto]
"""Writes a network as an ONNX model in a precision, as `nas export` does."""


@dataclass(frozen=True, eq=False)
class Artefact:
    """An exported file under audit.

    Attributes:
        name: The file's, without its folder.
        digest: Its SHA-256 in hex.
        precision: What it computes in.
        oracle: The file; it takes records as the network reads them.
        of_shadow: Writes a shadow model as such a file, and asks it.
    """

    name: str
    digest: str
    precision: str
    oracle: Oracle
    of_shadow: Callable[[Network], Oracle]


def open_artefact(path: Path, network: Network, records: Floats, behind: Preprocessing, write: Write) -> Artefact:
    """Open a file and make sure that it is the candidate's.

    Args:
        path: The file.
        network: The candidate, in eval mode.
        records: `(records, ...)`, standardised, to compare answers on.
        behind: What the candidate was trained behind.
        write: Writes it, and its shadow models.

    Raises:
        ValueError: If the file cannot be read, `nas export` did not write it, or it is of another network.
        OSError: If the file cannot be read.
    """
    model = read_model(path)
    held = {entry.key: entry.value for entry in model.metadata_props}
    if "key" not in held or "precision" not in held:
        raise ValueError(f"expected a file that nas export wrote, which names its network; {path} names none")
    if held["key"] != (key := network.architecture.key):
        raise ValueError(f"expected a file of the network {key}; {path} is of {held['key']}")
    precision = held["precision"]
    oracle, own = oracle_of(model, behind), oracle_of(write(network, precision), behind)
    theirs, ours = oracle.query(records), own.query(records)
    step = (ours.max() - ours.min()) / STEPS
    share = 0.0 if theirs.shape != ours.shape else float((np.abs(theirs - ours).max(axis=1) <= step).mean())
    if share < SAME:
        raise ValueError(
            f"expected the answers of the candidate's {precision} file; those of {path} are the same for {share:.0%} "
            f"of {len(records)} records: it was written of other weights, or changed since"
        )
    return Artefact(
        path.name, digest_of(path), precision, oracle, lambda shadow: oracle_of(write(shadow, precision), behind)
    )


def oracle_of(model: onnx.ModelProto, behind: Preprocessing) -> Oracle:
    """Make an oracle of a file that `nas export` wrote.

    Args:
        model: The file.
        behind: What its network was trained behind, which is the file's first part.
    """
    engine = session(model)
    ends = {end.name for end in engine.get_outputs()}
    inside = None if EXIT in ends else _with_activations(model)
    watched = None if inside is None else session(inside[0])

    def asked(source: Any, output: str, features: Floats) -> NDArray[Any]:
        given = behind.as_given(behind.restored(features))
        batches = [given[start : start + AT_ONCE] for start in range(0, len(given), AT_ONCE)]
        return np.concatenate([source.run([output], {"records": batch})[0] for batch in batches])

    return Oracle(
        lambda features: asked(engine, LOGITS, features),
        None if inside is None else lambda features: asked(watched, inside[1], features),
        None if EXIT not in ends else lambda features: asked(engine, EXIT, features),
    )


def _with_activations(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str] | None:
    """Return a file that also shows what its last linear layer reads, and the name of that; None without such one."""
    layers = [node for node in model.graph.node if node.op_type == "Gemm"]
    if not layers:
        return None
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    name = layers[-1].input[0]
    watched.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return watched, name
