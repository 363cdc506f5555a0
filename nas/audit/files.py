"""Read the network under audit from files: as ONNX, or as the logits that any framework wrote.

One .npz describes the audit: `labels` and `is_member`, and `logits`, or `features` for the ONNX file that gives them.
`reference_logits` `(references, records, classes)` and `trained_on` `(references, records)` describe shadow models that
the user trained. `population_features` and `population_labels` (and `population_logits` without an ONNX file) are
records that no network was trained on. `recipe` and `reference_recipe` are JSON objects with the training settings of
network and references.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import Oracle
from estimators.leakage.evidence import Population
from nas.audit.oracles import of_onnx
from nas.base.reading import as_float32
from nas.base.reading import existing
from nas.base.reading import parse_json
from nas.base.reading import read_npz

REQUIRED = ("labels", "is_member")
OPTIONAL = (
    "logits",
    "features",
    "reference_logits",
    "trained_on",
    "population_features",
    "population_labels",
    "population_logits",
    "recipe",
    "reference_recipe",
)
LEAST_DIMENSIONS = 2
Arrays = Mapping[str, NDArray[Any]]


def read(model: Path | None, records: Path, shadows: Sequence[Path] = ()) -> tuple[Evidence, Mask]:
    """Read a network's logits, or compute them, and which records are members.

    Args:
        model: An ONNX file; None if the .npz has logits.
        records: The .npz.
        shadows: ONNX files of the references, in the order of `trained_on`; attacks can ask them about changed records.

    Raises:
        ValueError: If a file cannot be read, arrays are missing or do not fit each other, members and non-members share
            a record, or the references were not trained as the network was.
    """
    arrays = read_npz(existing(records, "an .npz that describes an audit"), REQUIRED, OPTIONAL)
    is_member = _mask(arrays["is_member"], "is_member")
    if is_member.shape != arrays["labels"].shape or is_member.ndim != 1:
        raise ValueError(
            f"expected labels (records,) and is_member (records,); got {arrays['labels'].shape} and {is_member.shape}"
        )
    arrays |= {name: _features(arrays, name) for name in ("features", "population_features") if name in arrays}
    features = arrays.get("features")
    if features is not None:
        _check_length(features, len(is_member))
        check_disjoint(features, is_member)
    oracle = None if model is None else of_onnx(existing(model, "an ONNX file"))
    check_recipe(_recipe(arrays, "recipe"), _recipe(arrays, "reference_recipe"))
    evidence = Evidence(
        logits=_answers(arrays, "logits", "features", oracle),
        labels=arrays["labels"],
        bank=_bank(arrays, shadows, is_member),
        features=features,
        oracle=oracle,
        population=_population(arrays, oracle),
    )
    return evidence, is_member


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


def _bank(arrays: Arrays, shadows: Sequence[Path], is_member: Mask) -> Bank | None:
    if "trained_on" not in arrays:
        if shadows or "reference_logits" in arrays:
            raise ValueError(
                "expected 'trained_on', the records that each reference was trained on; got references without it"
            )
        return None
    trained_on = _mask(arrays["trained_on"], "trained_on")
    oracles = tuple(of_onnx(existing(path, "an ONNX file")) for path in shadows)
    if "reference_logits" in arrays:
        logits = arrays["reference_logits"]
    elif oracles:
        logits = np.stack([_answers(arrays, "reference_logits", "features", oracle) for oracle in oracles])
    else:
        raise ValueError(
            "expected 'reference_logits' or ONNX files of the references, as there is 'trained_on'; got none"
        )
    bank = Bank(logits, trained_on, arrays["labels"], oracles)
    if trained_on.shape[1:] == is_member.shape:
        check_sizes(trained_on, is_member)
    return bank


def _population(arrays: Arrays, oracle: Oracle | None) -> Population | None:
    if "population_features" not in arrays:
        if lone := [name for name in ("population_labels", "population_logits") if name in arrays]:
            raise ValueError(f"expected 'population_features', as there is {lone[0]!r}; got none")
        return None
    if "population_labels" not in arrays:
        raise ValueError("expected 'population_labels', as there is 'population_features'; got none")
    logits = _answers(arrays, "population_logits", "population_features", oracle)
    return Population(arrays["population_features"], arrays["population_labels"], logits)


def _answers(arrays: Arrays, given: str, asked: str, oracle: Oracle | None) -> NDArray[Any]:
    """Return the logits of the file, or ask the network for them."""
    if given in arrays:
        return arrays[given]
    if oracle is None or asked not in arrays:
        raise ValueError(f"expected {given!r} in the .npz, or {asked!r} and an ONNX file; got {sorted(arrays)}")
    return oracle.query(arrays[asked])


def _features(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Return records in float32, the precision in which the network reads and compares them."""
    values = as_float32(arrays[name], repr(name))
    if values.ndim < LEAST_DIMENSIONS or not values.size:
        raise ValueError(f"expected {name!r} (records, ...); got {values.shape}")
    return values


def _check_length(features: NDArray[np.float32], records: int) -> None:
    if len(features) != records:
        raise ValueError(f"expected 'features' of {records} records, one for each label; got {features.shape}")


def _mask(values: NDArray[Any], name: str) -> Mask:
    if values.dtype.kind not in "biu" or not np.isin(values, (0, 1)).all():
        raise ValueError(f"expected {name!r} as booleans, or 0 and 1; got {values.dtype}")
    return values.astype(np.bool_)


def _recipe(arrays: Arrays, name: str) -> dict[str, Any]:
    if name not in arrays:
        return {}
    found = parse_json(str(arrays[name]), f"expected a JSON object as {name!r}")
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object as {name!r}; got {found!r}")
    return found
