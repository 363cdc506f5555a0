"""Read what an audit is to attack from files: a network as ONNX, or what any framework's network said.

One .npz describes the audit: `labels` and `is_member`, and `logits`, or `features` for the ONNX file that gives them.
With `reference_logits` `(references, records, classes)` and `trained_on` `(references, records)` there are shadows,
trained by the user; `population_features`, `population_labels` (and `population_logits` without an ONNX file) are
records that nobody trained on. `recipe` and `reference_recipe`, JSON objects of settings, say how network and
references were trained.
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
    """Read a network's answers, or ask it, and say who is a member.

    Args:
        model: An ONNX file; None where the .npz has logits.
        records: The .npz.
        shadows: ONNX files of the references, in the order of `trained_on`; they answer queries of changed records.

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
    """Refuse members and non-members that share a record: it is both, and every attack is measured wrongly.

    Args:
        features: `(records, ...)`; compared byte by byte, through a hash.
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
            f"expected members and non-members without a record in common; {len(shared)} non-members equal a member, "
            f"first rows {member} and {other}: leave them out of one side"
        )


def check_recipe(target: Mapping[str, Any], shadows: Mapping[str, Any]) -> None:
    """Refuse shadows that were not trained as the network was: what they say of members is about another training.

    Args:
        target: The network's settings; empty where nothing is known.
        shadows: The shadows'; empty where nothing is known.

    Raises:
        ValueError: If both are known and differ, with each difference.
    """
    if not (target and shadows):
        return
    differing = [
        f"{name}: network {target.get(name)!r}, shadows {shadows.get(name)!r}"
        for name in sorted(target.keys() | shadows.keys())
        if target.get(name) != shadows.get(name)
    ]
    if differing:
        raise ValueError(
            f"expected shadows trained by the network's recipe; {'; '.join(differing)}: train them as the network was"
        )


def check_sizes(trained_on: Mask, is_member: Mask) -> None:
    """Refuse shadows that saw fewer of the records than the network, or more: leakage falls with their number.

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
            f"expected shadows trained on as many of the records as the network, {wanted}; shadow {off[0]} was trained "
            f"on {found[off[0]]}: train each on a random half of as many members as non-members"
        )


def _bank(arrays: Arrays, shadows: Sequence[Path], is_member: Mask) -> Bank | None:
    if "trained_on" not in arrays:
        if shadows or "reference_logits" in arrays:
            raise ValueError("expected 'trained_on' beside the references: which records each was trained on")
        return None
    trained_on = _mask(arrays["trained_on"], "trained_on")
    oracles = tuple(of_onnx(existing(path, "an ONNX file")) for path in shadows)
    if "reference_logits" in arrays:
        logits = arrays["reference_logits"]
    elif oracles:
        logits = np.stack([_answers(arrays, "reference_logits", "features", oracle) for oracle in oracles])
    else:
        raise ValueError("expected 'reference_logits', or ONNX files of the references, beside 'trained_on'; got none")
    bank = Bank(logits, trained_on, arrays["labels"], oracles)
    if trained_on.shape[1:] == is_member.shape:
        check_sizes(trained_on, is_member)
    return bank


def _population(arrays: Arrays, oracle: Oracle | None) -> Population | None:
    if "population_features" not in arrays:
        if lone := [name for name in ("population_labels", "population_logits") if name in arrays]:
            raise ValueError(f"expected 'population_features' beside {lone[0]!r}; got none")
        return None
    if "population_labels" not in arrays:
        raise ValueError("expected 'population_labels' beside 'population_features'; got none")
    logits = _answers(arrays, "population_logits", "population_features", oracle)
    return Population(arrays["population_features"], arrays["population_labels"], logits)


def _answers(arrays: Arrays, given: str, asked: str, oracle: Oracle | None) -> NDArray[Any]:
    """Return logits that are there, or ask the network for them."""
    if given in arrays:
        return arrays[given]
    if oracle is None or asked not in arrays:
        raise ValueError(f"expected {given!r} in the .npz, or {asked!r} and an ONNX file; got {sorted(arrays)}")
    return oracle.query(arrays[asked])


def _features(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Return records as the network takes them: two that are equal in float32 are equal to it."""
    values = as_float32(arrays[name], repr(name))
    if values.ndim < LEAST_DIMENSIONS or not values.size:
        raise ValueError(f"expected {name!r} (records, ...); got {values.shape}")
    return values


def _check_length(features: NDArray[np.float32], records: int) -> None:
    if len(features) != records:
        raise ValueError(f"expected 'features' of {records} records, as there are labels; got {features.shape}")


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
