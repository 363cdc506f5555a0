"""Networks and records from files: what is read, and what is refused with what to do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper
from scipy.special import expit
from scipy.special import softmax

from estimators.leakage.scores import scaled_logit
from nas.audit import files as audit_input
from nas.audit.oracles import of_network
from nas.base import files
from nas.base.onnx_runtime import session
from nas.deploy.onnx_file import to_onnx
from search_spaces.graph.builder import GraphBuilder
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
    given = read(tmp_path, population_features=np.ones((5, 6)), population_labels=np.zeros(5, int),
                               population_logits=np.zeros((5, CLASSES)))  # fmt: skip
    assert given.evidence.holds == {"bank", "population"}
    assert given.is_member.sum() == RECORDS // 2
    assert given.classes == given.notes == ()


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
    evidence = audit_input.read(tmp_path / "target.onnx", tmp_path / "records.npz", shadows).evidence
    assert evidence.holds == {"bank", "queries"}
    np.testing.assert_allclose(evidence.logits, of_network(network).query(given["features"]), rtol=1e-4, atol=1e-5)


def test_exits_are_read_from_arrays_and_files(tmp_path):
    graph = GraphBuilder((6,))
    ends = (graph.linear(0, CLASSES), graph.linear(graph.activation(0, "tanh"), CLASSES))
    architecture = replace(graph.architecture("example", {}, ends), exit_threshold=0.45)
    networks = [build(architecture, seed=seed).eval() for seed in range(3)]
    paths = [tmp_path / f"{number}.onnx" for number in range(3)]
    for path, network in zip(paths, networks, strict=True):
        path.write_bytes(to_onnx(architecture, network, "float32", torch.zeros(1, 6)).SerializeToString())
    given = arrays(logits=None, reference_logits=None)
    files.write_arrays(tmp_path / "records.npz", **given)
    asked = audit_input.read(paths[0], tmp_path / "records.npz", paths[1:]).evidence
    expected = [of_network(network).exits(given["features"]) for network in networks]
    assert 0 < np.mean(expected) < 1
    np.testing.assert_array_equal(asked.exits, expected[0])
    np.testing.assert_array_equal(asked.bank.exits, expected[1:])
    assert asked.holds == {"bank", "queries", "exits"}
    written = read(tmp_path, exits=expected[0], reference_exits=np.stack(expected[1:])).evidence
    np.testing.assert_array_equal(written.exits, asked.exits)
    assert written.holds == {"bank", "exits"}
    assert read(tmp_path, exits=expected[0]).evidence.holds == {"bank"}
    with pytest.raises(ValueError, match=r"expected exits \(40,\) of integers from 0; got \(3,\)"):
        read(tmp_path, exits=np.zeros(3, int))


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


# Answers, labels and references as users have them.


def shares(logits):
    return softmax(logits, axis=-1)


def odds(evidence):
    return scaled_logit(evidence.logits, evidence.labels)


def test_probabilities_are_recognised_in_each_array_by_itself(tmp_path):
    plain = arrays()
    population = {"population_features": np.ones((5, 6)), "population_labels": np.zeros(5, int)}
    more = {**population, "population_logits": np.random.default_rng(1).normal(size=(5, CLASSES))}
    wanted = read(tmp_path, **more).evidence
    changes = {
        "logits": shares(plain["logits"]).astype(np.float32),
        "reference_logits": shares(plain["reference_logits"]),
        "population_logits": shares(more["population_logits"]).astype(np.float16),
    }
    for name, values in changes.items():
        given = read(tmp_path, **{**more, name: values})
        assert given.notes == (f"{name}: recognised as probabilities, and turned into logits of the same softmax",)
        found = given.evidence
        np.testing.assert_allclose(odds(found), odds(wanted), atol=1e-4)
        for one, other in zip(found.bank.logits, wanted.bank.logits, strict=True):
            np.testing.assert_allclose(scaled_logit(one, found.labels), scaled_logit(other, found.labels), atol=1e-4)
        np.testing.assert_allclose(odds(found.population), odds(wanted.population), atol=0.01)
    both = plain["reference_logits"].copy()
    both[1] = shares(both[1])
    given = read(tmp_path, reference_logits=both)
    assert given.notes == (
        "reference_logits[1]: recognised as probabilities, and turned into logits of the same softmax",
    )
    np.testing.assert_allclose(given.evidence.bank.logits[0], plain["reference_logits"][0])


@pytest.mark.parametrize("axis", [True, False])
@pytest.mark.parametrize("turn", [lambda odds: odds, expit])
def test_one_column_is_that_of_two_classes(tmp_path, axis, turn):
    rng = np.random.default_rng(0)
    own, references = rng.normal(size=RECORDS), rng.normal(size=(2, RECORDS))
    given = read(
        tmp_path,
        labels=np.arange(RECORDS) % 2,
        logits=turn(own)[:, None] if axis else turn(own),
        reference_logits=turn(references)[..., None] if axis else turn(references),
    )
    signs = 2 * (np.arange(RECORDS) % 2) - 1
    np.testing.assert_allclose(odds(given.evidence), signs * own, atol=1e-9)
    np.testing.assert_allclose(np.diff(given.evidence.bank.logits, axis=-1)[..., 0], references, atol=1e-9)
    assert [note.startswith(("logits: recognised", "reference_logits: recognised")) for note in given.notes] == [
        True
    ] * 2


def test_a_network_among_its_own_references_is_refused_by_name(tmp_path):
    plain = arrays()
    for written in (lambda x: x, shares, lambda x: x.astype(np.float32)):
        references = plain["reference_logits"].copy()
        references[1] = written(plain["logits"])
        if written is shares:
            references[0] = shares(references[0])
        with pytest.raises(
            ValueError, match=r"other networks than the audited one; reference 1, counted from 0, gives"
        ):
            read(tmp_path, reference_logits=references)


def test_texts_as_labels_are_numbered_by_the_names_of_the_classes(tmp_path):
    names = np.array(["cat", "ant", "bee"])
    labels = arrays()["labels"]
    given = read(tmp_path, labels=names[labels], classes=names)
    np.testing.assert_array_equal(given.evidence.labels, labels)
    np.testing.assert_array_equal(given.evidence.bank.labels, labels)
    assert (given.classes, given.notes) == (("cat", "ant", "bee"), ())
    given = read(tmp_path, labels=names[labels])
    np.testing.assert_array_equal(given.evidence.labels, np.array([2, 0, 1])[labels])
    assert given.classes == ("ant", "bee", "cat")
    assert "sorted order" in given.notes[0]
    given = read(tmp_path, labels=1 + labels[:, None])
    np.testing.assert_array_equal(given.evidence.labels, labels)
    given = read(tmp_path, labels=np.eye(CLASSES)[labels])
    np.testing.assert_array_equal(given.evidence.labels, labels)
    with pytest.raises(ValueError, match="a name of its own for each of 3 columns"):
        read(tmp_path, classes=names[:2])
    with pytest.raises(ValueError, match=r"'classes' \(classes,\) of texts or numbers; got float64"):
        read(tmp_path, classes=np.ones(3))


def exported(path, seed, **properties):
    space = make_space((6,), CLASSES)
    architecture = space.decode(space.reference).as_float()
    model = to_onnx(architecture, build(architecture, seed=seed).eval(), "float32", torch.zeros(1, 6))
    helper.set_model_props(model, properties)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_onnx_file_may_name_the_classes_and_the_npz_beats_it(tmp_path):
    model = exported(tmp_path / "own.onnx", 3, classes='["cat", "ant", "bee"]')
    labels = arrays()["labels"]
    texts = np.array(["cat", "ant", "bee"])[labels]
    common = {"logits": None, "reference_logits": None, "trained_on": None}
    files.write_arrays(tmp_path / "records.npz", **arrays(**common, labels=texts))
    given = audit_input.read(model, tmp_path / "records.npz")
    np.testing.assert_array_equal(given.evidence.labels, labels)
    assert given.classes == ("cat", "ant", "bee")
    files.write_arrays(tmp_path / "records.npz", **arrays(**common, classes=np.array(["x", "y", "z"])))
    given = audit_input.read(model, tmp_path / "records.npz")
    assert given.classes == ("x", "y", "z")
    assert given.notes == ("classes: the names in the .npz were taken, not those in own.onnx",)
    two = exported(tmp_path / "two.onnx", 3, classes='["cat", "ant"]')
    files.write_arrays(tmp_path / "records.npz", **arrays(**common))
    given = audit_input.read(two, tmp_path / "records.npz")
    assert given.classes == ()
    assert given.notes == ("classes: 2 names for 3 columns of logits; they were not read",)


def test_a_network_among_the_files_of_its_references_is_refused_by_name(tmp_path):
    paths = [exported(tmp_path / f"{name}.onnx", seed) for name, seed in (("own", 3), ("s0", 4), ("s1", 3))]
    files.write_arrays(tmp_path / "records.npz", **arrays(logits=None, reference_logits=None))
    with pytest.raises(
        ValueError, match=r"reference 1 \(.*s1\.onnx\), counted from 0, gives the network's own answers"
    ):
        audit_input.read(paths[0], tmp_path / "records.npz", paths[1:])


def test_networks_see_unchanged_records_first_even_where_logits_are_given(tmp_path):
    """An input of whole numbers takes rounded copies later, and one column is judged by many records."""
    records = np.random.default_rng(0).integers(0, 200, (RECORDS, 6)).astype(np.float32)
    weight = numpy_helper.from_array(np.random.default_rng(1).normal(0, 0.05, (6, 1)).astype(np.float32), "w")
    ends = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, ("n", 6)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 1)),
    ]
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=1), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(nodes, "own", ends[:1], ends[1:], initializer=[weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    paths = [tmp_path / f"{name}.onnx" for name in ("own", "s0", "s1")]
    for path in paths:
        path.write_bytes(model.SerializeToString())
    rng = np.random.default_rng(2)
    changes = {"labels": np.arange(RECORDS) % 2, "logits": rng.normal(size=(RECORDS, 2)), "features": records}
    files.write_arrays(tmp_path / "a.npz", **arrays(**changes, reference_logits=rng.normal(size=(2, RECORDS, 2))))
    evidence = audit_input.read(paths[0], tmp_path / "a.npz", paths[1:]).evidence
    for oracle in (evidence.oracle, *evidence.bank.oracles):
        answers = oracle.query(records[:1] + 0.3)
        np.testing.assert_allclose(answers, oracle.query(records[:1]))
    scaled = {**changes, "features": records / 255, "reference_logits": None, "trained_on": None}
    files.write_arrays(tmp_path / "a.npz", **arrays(**scaled))
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        audit_input.read(paths[0], tmp_path / "a.npz")


# People, and records without labels.


def test_groups_are_read(tmp_path):
    groups = np.arange(RECORDS) // 2
    np.testing.assert_array_equal(read(tmp_path, groups=groups).groups, groups)
    assert read(tmp_path).groups is None


def test_groups_may_be_bytes_of_any_script(tmp_path):
    names = np.char.encode(np.array([f"é{number // 2}" for number in range(RECORDS)]), "utf-8")
    assert read(tmp_path, groups=names).groups[:3].tolist() == ["é0", "é0", "é1"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(RECORDS, int), "each group among members or among non-members; 1 are among both, the first is 0"),
        (np.zeros(RECORDS + 1, int), r"expected 'groups' \(40,\) of texts or whole numbers; got int64 \(41,\)"),
        (np.zeros(RECORDS), r"expected 'groups' \(40,\) of texts or whole numbers; got float64"),
    ],
)
def test_groups_that_are_none_are_refused(tmp_path, groups, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, groups=groups)


def test_without_labels_the_networks_own_classes_stand_in(tmp_path):
    given = read(tmp_path, labels=None, population_features=np.ones((5, 6)), population_labels=np.zeros(5, int),
                 population_logits=np.zeros((5, CLASSES)))  # fmt: skip
    assert not given.is_labelled
    np.testing.assert_array_equal(given.evidence.labels, arrays()["logits"].argmax(axis=1))
    assert given.evidence.holds == {"bank"}
    assert "no labels" in given.notes[0]
    assert read(tmp_path).is_labelled
