"""An oracle of an ONNX file: what other tools export is read as it was meant, and what it may not do is refused."""

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from nas.audit.onnx_oracle import OnnxNetwork
from nas.audit.oracles import of_network
from nas.deploy.onnx_file import to_onnx
from nas.training.loop import exits_of
from nas.training.loop import logits_of
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build
from tests.small_network import RECORDS
from tests.small_network import small


def saved(path, model):
    path.write_bytes(model.SerializeToString())
    return path


def model_of(nodes, source=("batch", 6), target=("batch", 3), constants=(), kind=TensorProto.FLOAT):
    ends = [helper.make_tensor_value_info(n, kind, s) for n, s in (("x", source), ("y", target))]
    graph = helper.make_graph(nodes, "example", ends[:1], ends[1:], initializer=list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear_model(*after, **shapes):
    weight = np.random.default_rng(1).normal(0, 1, (6, 3)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y0"])]
    nodes += [helper.make_node(kind, [f"y{n}"], [f"y{n + 1}"]) for n, kind in enumerate(after)]
    nodes[-1].output[0] = "y"
    return model_of(nodes, constants=[numpy_helper.from_array(weight, "w")], **shapes), weight


@pytest.mark.parametrize("bits", [32, 4])
def test_an_onnx_file_answers_as_pytorch_does(bits, tmp_path):
    architecture, network = small(bits)
    path = saved(tmp_path / "model.onnx", to_onnx(architecture, network, "float32", torch.from_numpy(RECORDS)))
    oracle = OnnxNetwork(path)
    answers = oracle.query(RECORDS.astype(np.float64))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, of_network(network).query(RECORDS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fixed", [1, 5, 200])
def test_a_fixed_batch_is_filled_up(fixed, tmp_path):
    model, weight = linear_model(source=(fixed, 6), target=(fixed, 3))
    oracle = OnnxNetwork(saved(tmp_path / "model.onnx", model))
    np.testing.assert_allclose(oracle.query(RECORDS), RECORDS @ weight, rtol=1e-5, atol=1e-6)


def test_probabilities_become_logits_of_the_same_softmax(tmp_path):
    model, weight = linear_model("Softmax")
    oracle = OnnxNetwork(saved(tmp_path / "model.onnx", model))
    logits = RECORDS.astype(np.float64) @ weight
    wanted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(oracle.query(RECORDS), wanted, rtol=0, atol=1e-5)
    sure = oracle.query(RECORDS * 1000)
    assert np.isfinite(sure).all()
    assert sure.min() == np.log(np.finfo(np.float32).tiny)


@pytest.mark.parametrize("answers", [[[0.5, 0.6]], [[1.5, -0.5]], [[0.5, 0.5], [0.5, 0.4]]])
def test_logits_are_not_taken_for_probabilities(answers, tmp_path):
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], source=("n", 2), target=("n", 2))
    oracle = OnnxNetwork(saved(tmp_path / "model.onnx", model))
    np.testing.assert_array_equal(oracle.query(np.array(answers)), np.float32(answers))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(range(256)), b"\x08\x08"])
def test_a_file_that_is_no_model_is_refused(content, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an ONNX model .*bad\.onnx") as refusal:
        OnnxNetwork(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(FileNotFoundError):
        OnnxNetwork(tmp_path / "missing.onnx")


# Weights in other files.


def with_weights_at(path, location, *, content=None, **entries):
    """A linear model whose weights lie in another file, and those weights."""
    model, weight = linear_model()
    raw = weight.tobytes()
    (path.parent / "w.bin").write_bytes(b"head" + raw + b"tail" if content is None else content)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location, **{"offset": 4, "length": len(raw), **entries})
    tensor.ClearField("raw_data")
    return saved(path, model), weight


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "deeper/../w.bin", "deeper/w.bin"])
def test_weights_beside_the_model_are_read(location, tmp_path, monkeypatch):
    folder = tmp_path / "theirs"
    (folder / "deeper").mkdir(parents=True)
    path, weight = with_weights_at(folder / "model.onnx", location)
    (folder / "deeper" / "w.bin").write_bytes((folder / "w.bin").read_bytes())
    monkeypatch.chdir(tmp_path)  # not the folder that ONNX Runtime would look in
    (tmp_path / "w.bin").write_bytes(b"x" * 1000)
    for name in (path, path.relative_to(tmp_path)):
        np.testing.assert_allclose(OnnxNetwork(name).query(RECORDS), RECORDS @ weight, rtol=1e-5, atol=1e-6)


def test_weights_outside_the_models_folder_are_refused_wherever_they_are_named(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "out").symlink_to(tmp_path)
    for location in (
        "../secret.bin",
        str(tmp_path / "secret.bin"),
        "link.bin",
        "out/secret.bin",
        "a/../../secret.bin",
        "",
    ):
        path, _ = with_weights_at(folder / "model.onnx", location)
        with pytest.raises(ValueError, match=r"expected the values of 'w' in the folder of .*; it names '"):
            OnnxNetwork(path)
    weight = linear_model()[0].graph.initializer[0]
    onnx.external_data_helper.set_external_data(weight, "../secret.bin")
    weight.ClearField("raw_data")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["inner"], value=weight)],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
    with pytest.raises(ValueError, match=r"expected the values of 'w' in the folder of"):
        OnnxNetwork(saved(folder / "model.onnx", model_of(nodes)))


@pytest.mark.parametrize(
    ("location", "entries", "message"),
    [
        ("none.bin", {}, r"in 'none\.bin' beside it; there is no such file, .* holds \['model\.onnx', 'w\.bin'\]"),
        (".", {}, "there is no such file"),
        ("w.bin", {"offset": 60}, "within the 80 bytes of 'w.bin'; it names 72 bytes from 60"),
        ("w.bin", {"offset": -4}, "it names 72 bytes from -4"),
        ("w.bin", {"length": 10**15}, "it names 1,000,000,000,000,000 bytes from 4"),
        ("w.bin", {"length": 8}, "expected an ONNX model that ONNX Runtime runs"),
    ],
)
def test_weights_that_are_not_where_the_model_says_are_refused(location, entries, message, tmp_path):
    path, _ = with_weights_at(tmp_path / "model.onnx", location, **entries)
    with pytest.raises(ValueError, match=message) as refusal:
        OnnxNetwork(path)
    assert "\n" not in str(refusal.value)


def test_more_weights_elsewhere_than_onnx_runtime_takes_are_refused_unread(tmp_path):
    path, _ = with_weights_at(tmp_path / "model.onnx", "w.bin", offset=0, length=3 * 2**30)
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(3 * 2**30)  # a file that takes no room
    with pytest.raises(ValueError, match=r"expected at most 2 GiB of weights beside .*; got 3,221,225,472 bytes"):
        OnnxNetwork(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe of POSIX")
def test_weights_in_a_pipe_are_not_waited_for(tmp_path):
    path, _ = with_weights_at(tmp_path / "model.onnx", "pipe.bin")
    os.mkfifo(tmp_path / "pipe.bin")
    with pytest.raises(ValueError, match="there is no such file"):
        OnnxNetwork(path)


# Ends as others export them.


def with_label(probabilities, kind=TensorProto.INT64):
    """A model of scikit-learn's kind: the class that is predicted, and probabilities, whatever they are."""
    weight = np.random.default_rng(1).normal(0, 1, (6, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y0"]),
        helper.make_node("Softmax", ["y0"], ["p"]),
        helper.make_node("ArgMax", ["y0"], ["label"], axis=1, keepdims=0),
    ]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 6])
    label = helper.make_tensor_value_info("label", kind, [None])
    if probabilities == "map":
        nodes.append(helper.make_node("ZipMap", ["p"], ["z"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]))
        of_map = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        answers = helper.make_value_info("z", helper.make_sequence_type_proto(of_map))
    else:
        answers = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 3])
    graph = helper.make_graph(nodes, "svc", [source], [label, answers], [numpy_helper.from_array(weight, "w")])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8), weight


@pytest.mark.parametrize("probabilities", ["tensor", "map"])
def test_probabilities_beside_a_predicted_class_are_read(probabilities, tmp_path):
    model, weight = with_label(probabilities)
    network = OnnxNetwork(saved(tmp_path / "sklearn.onnx", model))
    logits = RECORDS.astype(np.float64) @ weight
    wanted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(network.query(RECORDS), wanted, rtol=0, atol=1e-5)
    assert network.classes == (("a", "b", "c") if probabilities == "map" else ())
    assert network.notes == ["sklearn.onnx: recognised as probabilities, and turned into logits of the same softmax"]


def test_models_with_other_ends_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    model, _ = linear_model()
    model.graph.output.append(model.graph.output[0])
    model.graph.output[1].name = "y0"
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y0"]))
    with pytest.raises(ValueError, match=r"one input and one output .* inputs \['x'\] and outputs \['y', 'y0'\]"):
        OnnxNetwork(saved(path, model))
    label, _ = with_label("tensor")
    del label.graph.output[1]
    with pytest.raises(ValueError, match=r"outputs \['label'\] of tensor\(int64\)"):
        OnnxNetwork(saved(path, label))
    texts = model_of([helper.make_node("Cast", ["x"], ["y"], to=1)], target=("n", 6))
    texts.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ValueError, match=r"expected records of numbers .* got 'x' of tensor\(string\)"):
        OnnxNetwork(saved(path, texts))
    add = helper.make_node("Identity", ["x"], ["y"])
    with pytest.raises(ValueError, match=r"expected an input \(batch, \.\.\.\) .* of shape \[6\]"):
        OnnxNetwork(saved(path, model_of([add], source=(6,), target=(6,))))
    with pytest.raises(ValueError, match="expected an ONNX model that ONNX Runtime runs"):
        OnnxNetwork(saved(path, model_of([helper.make_node("NoSuchOperator", ["x"], ["y"])])))


def test_a_file_with_early_exits_answers_as_its_network(tmp_path):
    graph = GraphBuilder((6,))
    exits = (graph.linear(0, 3), graph.linear(graph.activation(0, "tanh"), 3))
    architecture = replace(graph.architecture("example", {}, exits), exit_threshold=0.5)
    network, records = build(architecture).eval(), torch.randn(70, 6, generator=torch.Generator().manual_seed(0))
    opened = OnnxNetwork(saved(tmp_path / "network.onnx", to_onnx(architecture, network, "float32", records)))
    assert 0 < exits_of(network, records).mean() < 1
    np.testing.assert_allclose(opened.query(records.numpy()), logits_of(network, records), atol=1e-5)


def cast_model(kind, source=("n", 6)):
    """A model that takes numbers of a type, whatever its input is called, and gives twice what it got."""
    nodes = [
        helper.make_node("Cast", ["serving_default_x:0"], ["f"], to=1),
        helper.make_node("Add", ["f", "f"], ["out"]),
    ]
    ends = [
        helper.make_tensor_value_info(*end)
        for end in (("serving_default_x:0", kind, source), ("out", TensorProto.FLOAT, source))
    ]
    graph = helper.make_graph(nodes, "cast", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT16", "UINT8", "INT8", "INT32", "INT64"])
@pytest.mark.parametrize("batch", ["n", 1])
def test_records_are_cast_to_the_inputs_type(kind, batch, tmp_path):
    records = np.random.default_rng(0).integers(0, 100, (9, 6)).astype(np.float32)
    oracle = OnnxNetwork(saved(tmp_path / "model.onnx", cast_model(getattr(TensorProto, kind), (batch, 6))))
    np.testing.assert_array_equal(oracle.query(records), 2 * records)


def test_fractions_for_whole_numbers_are_refused_at_first_and_rounded_in_changed_copies(tmp_path):
    path = saved(tmp_path / "model.onnx", cast_model(TensorProto.UINT8))
    for wrong in (RECORDS, np.full((4, 6), 256.0), np.full((4, 6), 0.5)):
        with pytest.raises(ValueError, match=r"whole numbers from 0 to 255, .*\(tensor\(uint8\)\); got "):
            OnnxNetwork(path).query(wrong)
    oracle = OnnxNetwork(path)
    oracle.query(np.full((4, 6), 7.0))
    np.testing.assert_array_equal(oracle.query(np.array([[0.4, 0.6, -3, 300, 254.6, 2]])), [[0, 2, 0, 510, 510, 4]])


def test_answers_in_double_become_logits(tmp_path):
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], ("n", 2), ("n", 2), kind=TensorProto.DOUBLE)
    answers = np.array([[3.0, -1.0], [0.5, 2.0]])
    found = OnnxNetwork(saved(tmp_path / "model.onnx", model)).query(answers)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, answers)


@pytest.mark.parametrize(("after", "kind"), [((), "log odds"), (("Sigmoid",), "the probability")])
@pytest.mark.parametrize("rank", [1, 2])
def test_one_column_is_that_of_two_classes(after, kind, rank, tmp_path):
    weight = np.random.default_rng(1).normal(0, 3, (6, 1)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y0"])]
    nodes += [helper.make_node(name, [f"y{n}"], [f"y{n + 1}"]) for n, name in enumerate(after)]
    nodes += [helper.make_node("Squeeze", [nodes[-1].output[0], "axis"], ["flat"])] if rank == 1 else []
    nodes[-1].output[0] = "y"
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([1]), "axis")]
    model = model_of(nodes, target=("batch", 1)[:rank], constants=constants)
    network = OnnxNetwork(saved(tmp_path / "model.onnx", model))
    found = network.query(RECORDS)
    odds = (RECORDS.astype(np.float64) @ weight)[:, 0]
    assert found.shape == (70, 2)
    near = np.abs(odds) < 8  # a sigmoid in float32 knows no more of what is nearly 1
    np.testing.assert_allclose((found[:, 1] - found[:, 0])[near], odds[near], atol=2e-3)
    assert network.notes[0].startswith(f"model.onnx: recognised as {kind} of the second of two classes"[:40])
    # A later query about a few records is read as the first was, whatever it gives.
    few = RECORDS[np.argsort(np.abs(odds))[:1]]
    np.testing.assert_allclose(network.query(few), found[np.argsort(np.abs(odds))[:1]], atol=1e-6)


def test_a_sigmoid_that_rounds_to_one_is_sure_but_not_beyond_measure(tmp_path):
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], ("n", 1), ("n", 1))
    given = np.array([[1.0], [1 - 6e-8], [0.5], [1e-30], [0.0]], np.float32)
    odds = np.diff(OnnxNetwork(saved(tmp_path / "model.onnx", model)).query(given), axis=1)[:, 0]
    assert (np.diff(odds) < 0).all()
    np.testing.assert_allclose(odds, [17.3, 16.6, 0, -69.1, -87.3], atol=0.1)


# Layouts.


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((2, 3, 4), ("n", 3, 4, 2)), ((3, 4, 2), ("n", 2, 3, 4)), ((5, 3), ("n", 3, 5)), ((3, 4), ("n", 1, 3, 4))],
)
def test_records_of_another_layout_are_turned_and_it_is_said(shape, wanted, tmp_path):
    nodes = [helper.make_node("Flatten", ["x"], ["y"], axis=1)]
    network = OnnxNetwork(saved(tmp_path / "model.onnx", model_of(nodes, wanted, ("n", None))))
    records = np.random.default_rng(0).normal(size=(6, *shape))
    orders = {(2, 3, 4): (0, 2, 3, 1), (3, 4, 2): (0, 3, 1, 2), (5, 3): (0, 2, 1), (3, 4): (0, 1, 2)}
    expected = records.transpose(orders[shape]).reshape(6, -1)
    np.testing.assert_allclose(network.query(records), expected, rtol=1e-6)
    (note,) = network.notes
    assert str(shape) in note
    assert str(wanted[1:]) in note


# Names of classes.


@pytest.mark.parametrize(
    ("text", "names"),
    [('["cat", "dog", "eel"]', ("cat", "dog", "eel")), ("{0: 'cat'}", ()), ("[1, 2, 3]", ()), ("[" * 99, ())],
)
def test_names_of_classes_are_read_from_the_metadata(text, names, tmp_path):
    model, _ = linear_model()
    helper.set_model_props(model, {"classes": text, "author": "x"})
    network = OnnxNetwork(saved(tmp_path / "model.onnx", model))
    assert network.classes == names
    assert [("no JSON list of texts" in note) for note in network.notes] == ([] if names else [True])


@pytest.mark.parametrize("shape", [(4, 5), (4, 6, 2), (4,), (0, 6)])
def test_records_of_another_shape_are_refused(shape, tmp_path):
    oracle = OnnxNetwork(saved(tmp_path / "model.onnx", linear_model()[0]))
    with pytest.raises(ValueError, match=r"expected features \(records, \.\.\.\) for an input \['batch', 6\]; got \("):
        oracle.query(np.zeros(shape))


def test_answers_that_are_no_logits_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    oracle = OnnxNetwork(saved(path, linear_model("Log")[0]))
    with pytest.raises(ValueError, match="expected finite logits"):
        oracle.query(RECORDS)
    # An input of any shape: the model itself says what it cannot take.
    free = linear_model(source=("batch", "any"))[0]
    with pytest.raises(ValueError, match=r"expected a model that takes records \(4, 5\); "):
        OnnxNetwork(saved(path, free)).query(np.zeros((4, 5)))


def bomb(elements, *, known=True):
    """A model of a few hundred bytes with a constant of so many elements, its shape written down or computed."""
    one = helper.make_tensor("one", TensorProto.INT64, [], [1])
    filled = helper.make_tensor("filled", TensorProto.FLOAT, [1], [1])
    computing = [
        helper.make_node("Size", ["x"], ["all"]),
        helper.make_node("Clip", ["all", "one", "one"], ["count"]),
        helper.make_node("Mul", ["size", "count"], ["computed"]),
    ]
    nodes = [
        *([] if known else computing),
        helper.make_node("ConstantOfShape", ["size" if known else "computed"], ["large"], value=filled),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    size = helper.make_tensor("size", TensorProto.INT64, [1], [elements])
    return model_of(nodes, ("batch", 2), ("batch", 2), [size, *([] if known else [one])])


@pytest.mark.parametrize("elements", [2**28, 900_000_000, 10**15])
def test_a_small_file_that_asks_for_gigabytes_is_refused_before_it_gets_them(elements, tmp_path):
    path = tmp_path / "bomb.onnx"
    path.write_bytes(bomb(elements).SerializeToString())
    assert path.stat().st_size < 400
    with pytest.raises(ValueError, match=rf"^expected tensors of at most 134,217,728 elements in {path}; 'large' has"):
        OnnxNetwork(path)


def test_a_file_that_computes_how_much_it_asks_for_is_held_by_the_system(tmp_path):
    path = tmp_path / "bomb.onnx"
    path.write_bytes(bomb(2**31, known=False).SerializeToString())
    oracle = OnnxNetwork(path)
    with pytest.raises(ValueError, match="expected a model that takes records"):
        oracle.query(np.ones((3, 2), np.float32))


def test_an_input_beyond_all_measure_is_refused(tmp_path):
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], (10**12, 2), (10**12, 2))
    (tmp_path / "wide.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"'x' has \[1000000000000, 2\]"):
        OnnxNetwork(tmp_path / "wide.onnx")
