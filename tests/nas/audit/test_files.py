"""Networks and records from files: what is read, and what is refused with what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.audit import files as audit_input
from nas.audit.oracles import of_network
from nas.base import files
from nas.base.onnx_runtime import session
from nas.deploy.onnx_file import to_onnx
from search_spaces.mlp import make_space
from search_spaces.network import build

RECORDS, CLASSES = 40, 3


def arrays(**changes):
    rng = np.random.default_rng(0)
    halves = np.stack([np.arange(RECORDS) % 2 == side for side in (0, 1)])
    found = {
        "labels": rng.integers(0, CLASSES, RECORDS),
        "is_member": np.arange(RECORDS) < RECORDS // 2,
        "features": rng.normal(size=(RECORDS, 6)).astype(np.float32),
        "logits": rng.normal(size=(RECORDS, CLASSES)),
        "reference_logits": rng.normal(size=(2, RECORDS, CLASSES)),
        "trained_on": halves,
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def read(tmp_path, **changes):
    files.write_arrays(tmp_path / "theirs.npz", **arrays(**changes))
    return audit_input.read(None, tmp_path / "theirs.npz")


def test_all_that_is_there_is_read(tmp_path):
    evidence, is_member = read(tmp_path, population_features=np.ones((5, 6)), population_labels=np.zeros(5, int),
                               population_logits=np.zeros((5, CLASSES)))  # fmt: skip
    assert evidence.holds == {"bank", "population"}
    assert is_member.sum() == RECORDS // 2


def test_an_onnx_file_answers_as_its_network_does(tmp_path):
    space = make_space((6,), CLASSES)
    architecture = space.decode(space.reference).as_float()
    network = build(architecture, seed=3).eval()
    model = to_onnx(architecture, network, "float32", torch.zeros(1, 6))
    session(model)
    for name in ("target", "first", "second"):
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    given = arrays(logits=None, reference_logits=None)
    files.write_arrays(tmp_path / "records.npz", **given)
    shadows = [tmp_path / "first.onnx", tmp_path / "second.onnx"]
    evidence, _ = audit_input.read(tmp_path / "target.onnx", tmp_path / "records.npz", shadows)
    assert evidence.holds == {"bank", "queries"}
    np.testing.assert_allclose(evidence.logits, of_network(network).query(given["features"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": np.full((RECORDS, CLASSES), np.inf)}, "expected finite logits"),
        ({"labels": np.full(RECORDS, -1)}, "expected labels from 0 to 2; got -1 to -1"),
        ({"is_member": np.arange(RECORDS)}, "expected 'is_member' as booleans, or 0 and 1"),
        ({"is_member": np.ones((RECORDS, 2), bool)}, r"expected labels \(records,\) and is_member \(records,\)"),
        ({"features": np.ones((RECORDS + 1, 6))}, "expected 'features' of 40 records"),
        ({"features": np.array(["a"] * RECORDS)}, "expected numbers as 'features'"),
        ({"logits": None}, "expected 'logits' in the .npz, or 'features' and an ONNX file"),
        ({"trained_on": None}, "expected 'trained_on', the records that each reference was trained on"),
        ({"reference_logits": None}, "expected 'reference_logits' or ONNX files of the references"),
        (
            {"trained_on": np.arange(RECORDS)[None] < [[10], [0]]},
            "shadow models trained on as many of the records as the network, 20; shadow model 0 was trained on 10",
        ),
        (
            {"recipe": np.array('{"lr": 1, "epochs": 3}'), "reference_recipe": np.array('{"lr": 2, "epochs": 4}')},
            "epochs: network 3, shadow models 4; lr: network 1, shadow models 2",
        ),
        ({"recipe": np.array("[1]")}, "expected a JSON object as 'recipe'"),
        ({"population_labels": np.zeros(5, int)}, "expected 'population_features', as there is 'population_labels'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **changes)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_members_that_are_also_non_members_are_named(tmp_path, sign):
    features = arrays()["features"]
    features[3], features[31] = 0.0, sign * 0.0
    with pytest.raises(ValueError, match="1 non-members equal a member, first rows 3 and 31: remove them"):
        read(tmp_path, features=features)


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "theirs.npz", **arrays(labels=np.array([{}] * RECORDS, dtype=object)))
    with pytest.raises(ValueError, match=r"theirs\.npz"):
        audit_input.read(None, tmp_path / "theirs.npz")
