"""Read the network under audit from files: as ONNX, or as the logits that any framework wrote.

One .npz describes the audit: `labels` and `is_member`, and `logits`, or `features` for the ONNX file that gives them.
Without `labels` the network's own classes stand in for them, and the attacks that read no label can run.
`classes` are the names of the logits' columns, in order. `groups` `(records,)` says which records are one person's.
`reference_logits` `(references, records, classes)` and `trained_on` `(references, records)` describe shadow models
that the user trained. `population_features` and `population_labels` (and `population_logits` without an ONNX file) are
records that no network was trained on. `recipe` and `reference_recipe` are JSON objects with the training settings of
network and references.

Probabilities are recognised among the answers (`nas.audit.answers`), and labels are understood in several forms
(`nas.audit.labels`); what was done is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import Oracle
from estimators.leakage.evidence import Population
from nas.audit.answers import Kind
from nas.audit.answers import as_logits
from nas.audit.answers import kind_of
from nas.audit.answers import told
from nas.audit.labels import Numbered
from nas.audit.labels import check_order
from nas.audit.labels import numbered
from nas.audit.onnx_oracle import OnnxNetwork
from nas.audit.people import check_whole
from nas.audit.twins import twin_of
from nas.base.reading import as_float32
from nas.base.reading import existing
from nas.base.reading import parse_json
from nas.base.reading import read_npz

REQUIRED = ("is_member",)
OPTIONAL = (
    "labels",
    "classes",
    "groups",
    "logits",
    "features",
    "reference_logits",
    "trained_on",
    "exits",
    "reference_exits",
    "population_features",
    "population_labels",
    "population_logits",
    "recipe",
    "reference_recipe",
)
LEAST_DIMENSIONS, REFERENCE_AXES = 2, 3
FIRST = 256
"""Records that a network is asked about to see what it gives."""
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Given:
    """What a user's files hold.

    Attributes:
        evidence: The network's answers, and what else attacks may use.
        is_member: `(records,)`: which records the network was trained on.
        classes: The name of each column of the logits; empty where none is known.
        notes: Sentences on how answers, labels and records were read.
        groups: `(records,)`, equal for records of one person or other group; None where the file has none.
        is_labelled: Whether the evidence has the records' true classes.
    """

    evidence: Evidence
    is_member: Mask
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    groups: NDArray[Any] | None = None
    is_labelled: bool = True


def read(model: Path | None, records: Path, shadows: Sequence[Path] = ()) -> Given:
    """Read a network's logits, or compute them, and which records are members.

    Args:
        model: An ONNX file; None if the .npz has logits.
        records: The .npz.
        shadows: ONNX files of the references, in the order of `trained_on`; attacks can ask them about changed records.

    Raises:
        ValueError: If a file cannot be read, arrays are missing or do not fit each other, members and non-members share
            a record, the references were not trained as the network was, or the network is one of them.
    """
    arrays = read_npz(existing(records, "an .npz that describes an audit"), REQUIRED, OPTIONAL)
    is_member = _mask(arrays["is_member"], "is_member")
    is_labelled = "labels" in arrays
    labels_shape = arrays["labels"].shape if is_labelled else is_member.shape
    if is_member.ndim != 1 or labels_shape[:1] != is_member.shape:
        raise ValueError(
            f"expected labels (records,) and is_member (records,); got {labels_shape} and {is_member.shape}"
        )
    groups = _groups(arrays, is_member)
    arrays |= {name: _features(arrays, name) for name in ("features", "population_features") if name in arrays}
    features = arrays.get("features")
    if features is not None:
        _check_length(features, len(is_member))
        check_disjoint(features, is_member)
    network = None if model is None else OnnxNetwork(existing(model, "an ONNX file"))
    check_recipe(_recipe(arrays, "recipe"), _recipe(arrays, "reference_recipe"))
    notes: list[str] = []
    logits = _answers(arrays, "logits", "features", network, notes)
    if is_labelled:
        found = _numbered(arrays, logits.shape[-1] if logits.ndim else 0, network, notes)
    else:
        notes.append("no labels: the network's own classes stand in for them, and only attacks that read none can run")
        found = Numbered({"labels": _own_classes(logits, len(is_member))}, (), ())
        arrays = {name: values for name, values in arrays.items() if not name.startswith("population")}
    evidence = Evidence(
        logits=logits,
        labels=found.labels["labels"],
        bank=_bank(arrays, found.labels["labels"], shadows, is_member, notes),
        features=features,
        oracle=None if network is None else Oracle(network.query),
        population=_population(arrays, found, network, notes),
        exits=_exits(arrays, network),
    )
    if is_labelled:
        check_order(evidence.logits, found.labels["labels"], found.classes)
    check_apart(evidence, shadows)
    from_files = [] if network is None else network.notes
    return Given(
        evidence,
        is_member,
        found.classes,
        tuple(dict.fromkeys([*from_files, *notes, *found.notes])),
        groups,
        is_labelled,
    )


def check_disjoint(features: NDArray[Any], is_member: Mask) -> None:
    """Refuse members and non-members that share a record: such a record is both, and every AUC would be wrong.

    Args:
        features: `(records, ...)`; compared by a hash of their bytes.
        is_member: `(records,)`.

    Raises:
        ValueError: If a record is on both sides, with the first pair of rows.
    """
    rows = np.ascontiguousarray(features + 0.0).reshape(len(features), -1)  # which makes 0 of -0, too
    hashes = [hashlib.sha256(row.tobytes()).digest() for row in rows]
    first = {digest: row for row, digest in reversed(list(enumerate(hashes))) if is_member[row]}
    shared = [(first[digest], row) for row, digest in enumerate(hashes) if not is_member[row] and digest in first]
    if shared:
        member, other = shared[0]
        raise ValueError(
            f"expected no record among both members and non-members; {len(shared)} non-members equal a member, first "
            f"rows {member} and {other}: remove them from one side"
        )


def check_recipe(target: Mapping[str, Any], shadows: Mapping[str, Any]) -> None:
    """Refuse shadow models that were not trained like the network: their members behave differently.

    Args:
        target: The network's settings; empty if unknown.
        shadows: The shadow models' settings; empty if unknown.

    Raises:
        ValueError: If both are known and differ; the message names each difference.
    """
    if not (target and shadows):
        return
    differing = [
        f"{name}: network {target.get(name)!r}, shadow models {shadows.get(name)!r}"
        for name in sorted(target.keys() | shadows.keys())
        if target.get(name) != shadows.get(name)
    ]
    if differing:
        raise ValueError(
            f"expected shadow models trained with the network's recipe; they differ in {'; '.join(differing)}"
        )


def check_sizes(trained_on: Mask, is_member: Mask) -> None:
    """Refuse shadow models trained on fewer or more records than the network: leakage falls as that number grows.

    Args:
        trained_on: `(references, records)`.
        is_member: `(records,)`.

    Raises:
        ValueError: If a reference's number of records is more than one percent off.
    """
    wanted, found = int(is_member.sum()), trained_on.sum(axis=1)
    off = np.flatnonzero(np.abs(found - wanted) > 0.01 * wanted)
    if off.size:
        raise ValueError(
            f"expected shadow models trained on as many of the records as the network, {wanted}; shadow model {off[0]} "
            f"was trained on {found[off[0]]}: train each on a random half of equally many members and non-members"
        )


def check_apart(evidence: Evidence, shadows: Sequence[Path] = ()) -> None:
    """Refuse a network that is one of its own references: its members would be known from itself.

    Args:
        evidence: With a bank, if there is one.
        shadows: The references' files, for the message; empty if they are arrays.

    Raises:
        ValueError: If it answers as one of them does on nearly all records, with which.
    """
    if evidence.bank is None or (twin := twin_of(evidence.logits, list(evidence.bank.logits))) is None:
        return
    name = f"reference {twin}" + (f" ({shadows[twin]})" if shadows else "")
    raise ValueError(
        f"expected references that are other networks than the audited one; {name}, counted from 0, gives the "
        "network's own answers on nearly all records: leave it out of 'trained_on' and of the references"
    )


def _numbered(arrays: Arrays, columns: int, network: OnnxNetwork | None, notes: list[str]) -> Numbered:
    """Return labels by the columns of the logits. Names in the .npz beat those in the ONNX file."""
    names = () if network is None else network.classes
    if "classes" in arrays:
        given = arrays["classes"]
        if given.ndim != 1 or given.dtype.kind not in "biuUS":
            raise ValueError(f"expected 'classes' (classes,) of texts or numbers; got {given.dtype} {given.shape}")
        decoded = np.char.decode(given, "utf-8", "replace") if given.dtype.kind == "S" else given
        names = tuple(str(name).strip() for name in decoded.tolist())
        if network is not None and network.classes and network.classes != names:
            notes.append(f"classes: the names in the .npz were taken, not those in {network.path.name}")
    elif names and len(names) != columns:
        notes.append(f"classes: {len(names)} names for {columns} columns of logits; they were not read")
        names = ()
    labels = {name: arrays[name] for name in ("labels", "population_labels") if name in arrays}
    return numbered(labels, columns, names)


def _bank(
    arrays: Arrays, labels: NDArray[np.int64], shadows: Sequence[Path], is_member: Mask, notes: list[str]
) -> Bank | None:
    if "trained_on" not in arrays:
        if shadows or "reference_logits" in arrays:
            raise ValueError(
                "expected 'trained_on', the records that each reference was trained on; got references without it"
            )
        return None
    trained_on = _mask(arrays["trained_on"], "trained_on")
    networks = [OnnxNetwork(existing(path, "an ONNX file")) for path in shadows]
    if "reference_logits" in arrays:
        logits = _given(arrays, "reference_logits", notes)
        for network in networks:
            _introduce(network, arrays)
    elif networks:
        logits = np.stack([_answers(arrays, "reference_logits", "features", network, notes) for network in networks])
    else:
        raise ValueError(
            "expected 'reference_logits' or ONNX files of the references, as there is 'trained_on'; got none"
        )
    notes += [note for network in networks for note in network.notes]
    exits = arrays.get("reference_exits")
    if exits is None and networks and "features" in arrays and all(network.has_exits for network in networks):
        exits = np.stack([network.exits(arrays["features"]) for network in networks])
    bank = Bank(logits, trained_on, labels, tuple(Oracle(network.query) for network in networks), exits)
    if trained_on.shape[1:] == is_member.shape:
        check_sizes(trained_on, is_member)
    return bank


def _exits(arrays: Arrays, network: OnnxNetwork | None) -> NDArray[Any] | None:
    """Return which exit answered for each record, where the file or the network says it."""
    if "exits" in arrays or network is None or not network.has_exits or "features" not in arrays:
        return arrays.get("exits")
    return network.exits(arrays["features"])


def _population(arrays: Arrays, found: Numbered, network: OnnxNetwork | None, notes: list[str]) -> Population | None:
    if "population_features" not in arrays:
        if lone := [name for name in ("population_labels", "population_logits") if name in arrays]:
            raise ValueError(f"expected 'population_features', as there is {lone[0]!r}; got none")
        return None
    if "population_labels" not in arrays:
        raise ValueError("expected 'population_labels', as there is 'population_features'; got none")
    logits = _answers(arrays, "population_logits", "population_features", network, notes)
    return Population(arrays["population_features"], found.labels["population_labels"], logits)


def _answers(arrays: Arrays, given: str, asked: str, network: OnnxNetwork | None, notes: list[str]) -> NDArray[Any]:
    """Return the logits of the file, or ask the network for them."""
    if given in arrays:
        if network is not None:
            _introduce(network, arrays)
        return _given(arrays, given, notes)
    if network is None or asked not in arrays:
        raise ValueError(f"expected {given!r} in the .npz, or {asked!r} and an ONNX file; got {sorted(arrays)}")
    return network.query(arrays[asked])


def _introduce(network: OnnxNetwork, arrays: Arrays) -> None:
    """Let a network see unchanged records first, which decide how it is read, where their logits are given."""
    if "features" in arrays:
        network.query(arrays["features"][:FIRST])


def _given(arrays: Arrays, name: str, notes: list[str]) -> NDArray[Any]:
    """Return an array of answers as logits, each network's judged by itself. What is no number is refused later."""
    values = arrays[name]
    usual = REFERENCE_AXES if name == "reference_logits" else REFERENCE_AXES - 1
    is_readable = values.dtype.kind == "f" and values.size and values.ndim in (usual - 1, usual)
    if not is_readable or not np.isfinite(values).all():
        return values
    if values.ndim == usual - 1:  # one column is often written without its axis
        values = values[..., None]
    if values.ndim != REFERENCE_AXES:
        return _turned(values, kind_of(values), name, notes)
    kinds = [kind_of(one) for one in values]
    if len(set(kinds)) == 1:
        return _turned(values, kinds[0], name, notes)
    return np.stack(
        [_turned(one, kind, f"{name}[{row}]", notes) for row, (one, kind) in enumerate(zip(values, kinds, strict=True))]
    )


def _turned(values: NDArray[Any], kind: Kind, name: str, notes: list[str]) -> NDArray[Any]:
    if said := told(values, kind, name):
        notes.append(said)
    return as_logits(values, kind)


def _features(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Return records in float32, the precision in which the network reads and compares them."""
    values = as_float32(arrays[name], repr(name))
    if values.ndim < LEAST_DIMENSIONS or not values.size:
        raise ValueError(f"expected {name!r} (records, ...); got {values.shape}")
    return values


def _check_length(features: NDArray[np.float32], records: int) -> None:
    if len(features) != records:
        raise ValueError(f"expected 'features' of {records} records, one for each label; got {features.shape}")


def _own_classes(logits: NDArray[Any], records: int) -> NDArray[np.int64]:
    if logits.ndim != LEAST_DIMENSIONS or len(logits) != records or not logits.shape[1]:
        raise ValueError(f"expected logits ({records}, classes); got {logits.shape}")
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def _groups(arrays: Arrays, is_member: Mask) -> NDArray[Any] | None:
    if "groups" not in arrays:
        return None
    groups = arrays["groups"]
    if groups.shape != is_member.shape or groups.dtype.kind not in "biuUS":
        raise ValueError(
            f"expected 'groups' ({len(is_member)},) of texts or whole numbers; got {groups.dtype} {groups.shape}"
        )
    groups = np.char.decode(groups, "utf-8", "backslashreplace") if groups.dtype.kind == "S" else groups
    check_whole(groups, is_member)
    return groups


def _mask(values: NDArray[Any], name: str) -> Mask:
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise ValueError(f"expected {name!r} as booleans, or 0 and 1; got {values.dtype}")
    is_column = name == "is_member" and values.ndim == LEAST_DIMENSIONS and values.shape[1] == 1
    return (values[:, 0] if is_column else values).astype(np.bool_)


def _recipe(arrays: Arrays, name: str) -> dict[str, Any]:
    if name not in arrays:
        return {}
    found = parse_json(str(arrays[name]), f"expected a JSON object as {name!r}")
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object as {name!r}; got {found!r}")
    return found
