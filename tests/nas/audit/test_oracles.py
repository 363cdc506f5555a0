"""Oracles of trained networks and of ONNX files."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper
from torch import nn

from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from nas.audit.oracles import of_network
from nas.audit.oracles import of_onnx
from nas.base import plugins
from nas.deploy.onnx_file import to_onnx
from nas.spaces import sample
from nas.training.loop import Diverged
from search_spaces.graph.builder import GraphBuilder
from search_spaces.layers.quantize import quantize_weight
from search_spaces.network import build

RECORDS = np.random.default_rng(0).normal(0, 1, (70, 6)).astype(np.float32)


def small(bits=32):
    """A network of two linear layers whose hidden numbers are rounded to `bits` bits, and its description."""
    graph = GraphBuilder((6,))
    x = graph.activation(graph.linear(0, 8, bias=True), "relu", bits=bits)
    graph.linear(x, 3, bias=True, weight_bits=bits)
    architecture = graph.architecture("example", {})
    network = build(architecture, dropout=0.5)
    with torch.no_grad():
        network.train()(torch.from_numpy(RECORDS))
    return architecture, network.eval()


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


@pytest.mark.parametrize("bits", [32, 8, 4, 2, 1])
def test_logits_are_the_last_layer_of_the_activations(bits):
    _, network = small(bits)
    oracle = of_network(network)
    logits, activations = oracle.query(RECORDS), oracle.activations(RECORDS)
    assert logits.dtype == activations.dtype == np.float32
    assert (logits.shape, activations.shape) == ((70, 3), (70, 8))
    if bits < 32:
        assert len(np.unique(activations)) <= 2**bits
    layer = network.op3_linear
    levels, scale = quantize_weight(layer.weight, bits) if bits < 32 else (layer.weight, torch.ones(3, 1))
    weight, bias = (levels * scale).detach().numpy(), layer.bias.detach().numpy()
    np.testing.assert_allclose(activations @ weight.T + bias, logits, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_array_equal(oracle.query(RECORDS[:64]), network(torch.from_numpy(RECORDS[:64])))


@pytest.mark.parametrize("name", plugins.available("search_spaces", "make_space"))
def test_every_space_is_seen_through_to_its_classifier(name):
    shape = (20,) if name == "mlp" else (3, 8, 8)
    space = plugins.load("search_spaces", name, "make_space")(shape, 10)
    architecture = space.decode(sample(space.distributions, np.random.default_rng(2)))
    features = np.random.default_rng(3).normal(0, 1, (5, *shape))
    oracle = of_network(build(architecture).eval())
    inputs = architecture.ops[architecture.ops[-1].inputs[0]].size
    assert (oracle.query(features).shape, oracle.activations(features).shape) == ((5, 10), (5, inputs))
    evidence = Evidence(oracle.query(features), np.arange(5), features=features, oracle=oracle)
    assert evidence.holds >= {"queries", "activations"}


def test_the_order_of_execution_decides_which_layer_is_last():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Linear(6, 4)

        def forward(self, records):
            return self.last(self.first(records).relu())

    assert of_network(Crossed().eval()).activations(RECORDS).shape == (70, 4)


def test_a_network_without_linear_layers_shows_its_logits_alone():
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()).eval()
    oracle = of_network(network)
    assert oracle.activations is None
    assert oracle.query(np.zeros((2, 1, 2, 2))).shape == (2, 3)


def test_batches_of_one_answer_as_many_do():
    _, network = small(4)
    oracle = of_network(network)
    for ask in (oracle.query, oracle.activations):
        one_by_one = np.concatenate([ask(RECORDS[n : n + 1]) for n in range(70)])
        np.testing.assert_allclose(one_by_one, ask(RECORDS), rtol=1e-5, atol=1e-6)


def test_the_network_is_left_as_it_was():
    _, network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    oracle = of_network(network)
    oracle.activations(RECORDS)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_train_mode_is_refused_now_and_later():
    _, network = small()
    oracle = of_network(network)
    network.op3_dropout.train()  # a part is enough
    for ask in (lambda _: of_network(network), oracle.query, oracle.activations):
        with pytest.raises(ValueError, match=r"expected a network in eval mode; op3_dropout is in train mode"):
            ask(RECORDS)
    network.train()
    with pytest.raises(ValueError, match=r"the network is in train mode: call \.eval\(\) first"):
        of_network(network)


def test_what_cannot_be_read_is_refused():
    _, network = small()
    oracle = of_network(network)
    with torch.no_grad():
        network.op3_linear.bias[0] = np.inf
    for ask in (oracle.query, oracle.activations):
        with pytest.raises(Diverged):
            ask(RECORDS)
    with pytest.raises(
        ValueError, match=r"expected the last linear layer to read \(records, units\); it read \[\(2, 1"
    ):
        of_network(nn.Sequential(nn.Linear(3, 2), nn.Flatten()).eval()).activations(np.zeros((2, 1, 3)))
    unused = nn.Sequential(nn.Flatten()).eval()
    unused[0].register_module("linear", nn.Linear(2, 2).eval())
    with pytest.raises(ValueError, match="it read nothing"):
        of_network(unused).activations(RECORDS)


@pytest.mark.parametrize("bits", [32, 4])
def test_an_onnx_file_answers_as_pytorch_does(bits, tmp_path):
    architecture, network = small(bits)
    path = saved(tmp_path / "model.onnx", to_onnx(architecture, network, "float32", torch.from_numpy(RECORDS)))
    oracle = of_onnx(path)
    assert oracle.activations is None
    answers = oracle.query(RECORDS.astype(np.float64))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, of_network(network).query(RECORDS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fixed", [1, 5, 200])
def test_a_fixed_batch_is_filled_up(fixed, tmp_path):
    model, weight = linear_model(source=(fixed, 6), target=(fixed, 3))
    oracle = of_onnx(saved(tmp_path / "model.onnx", model))
    np.testing.assert_allclose(oracle.query(RECORDS), RECORDS @ weight, rtol=1e-5, atol=1e-6)


def test_probabilities_become_logits_of_the_same_softmax(tmp_path):
    model, weight = linear_model("Softmax")
    oracle = of_onnx(saved(tmp_path / "model.onnx", model))
    logits = RECORDS.astype(np.float64) @ weight
    wanted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(oracle.query(RECORDS), wanted, rtol=0, atol=1e-5)
    sure = oracle.query(RECORDS * 1000)
    assert np.isfinite(sure).all()
    assert sure.min() == np.log(np.finfo(np.float32).tiny)


@pytest.mark.parametrize("answers", [[[0.5, 0.6]], [[1.5, -0.5]], [[0.5, 0.5], [0.5, 0.4]]])
def test_logits_are_not_taken_for_probabilities(answers, tmp_path):
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], source=("n", 2), target=("n", 2))
    oracle = of_onnx(saved(tmp_path / "model.onnx", model))
    np.testing.assert_array_equal(oracle.query(np.array(answers)), np.float32(answers))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(range(256)), b"\x08\x08"])
def test_a_file_that_is_no_model_is_refused(content, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an ONNX model .*bad\.onnx") as refusal:
        of_onnx(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(FileNotFoundError):
        of_onnx(tmp_path / "missing.onnx")


def test_weights_in_another_file_are_refused_wherever_they_are_named(tmp_path):
    model, _ = linear_model()
    weight = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weight, "../secret.bin")
    weight.ClearField("raw_data")
    with pytest.raises(ValueError, match=r"expected an ONNX model in one file; .* keeps 'w' in another"):
        of_onnx(saved(tmp_path / "model.onnx", model))
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["inner"], value=weight)],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
    with pytest.raises(ValueError, match="keeps 'w' in another"):
        of_onnx(saved(tmp_path / "model.onnx", model_of(nodes)))


def test_models_with_other_ends_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    model, _ = linear_model()
    model.graph.output.append(model.graph.output[0])
    model.graph.output[1].name = "y0"
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y0"]))
    with pytest.raises(ValueError, match=r"one input and one output .* inputs \['x'\] and outputs \['y', 'y0'\]"):
        of_onnx(saved(path, model))
    add = helper.make_node("Identity", ["x"], ["y"])
    with pytest.raises(ValueError, match=r"records and logits of float32 .* got tensor\(double\)"):
        of_onnx(saved(path, model_of([add], target=("n", 6), kind=TensorProto.DOUBLE)))
    with pytest.raises(ValueError, match=r"expected an input \(batch, \.\.\.\) .* of shape \[6\]"):
        of_onnx(saved(path, model_of([add], source=(6,), target=(6,))))
    with pytest.raises(ValueError, match="expected an ONNX model that ONNX Runtime runs"):
        of_onnx(saved(path, model_of([helper.make_node("NoSuchOperator", ["x"], ["y"])])))


@pytest.mark.parametrize("shape", [(4, 5), (4, 6, 1), (4,), (0, 6)])
def test_records_of_another_shape_are_refused(shape, tmp_path):
    oracle = of_onnx(saved(tmp_path / "model.onnx", linear_model()[0]))
    with pytest.raises(ValueError, match=r"expected features \(records, \.\.\.\) for an input \['batch', 6\]; got \("):
        oracle.query(np.zeros(shape))


def test_answers_that_are_no_logits_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    oracle = of_onnx(saved(path, linear_model("Log")[0]))
    with pytest.raises(ValueError, match="expected finite logits"):
        oracle.query(RECORDS)
    column = model_of([helper.make_node("ReduceMax", ["x"], ["y"], axes=[1])], target=("batch", 1))
    with pytest.raises(ValueError, match=r"expected logits \(64, classes\) of two classes or more; got \(64, 1\)"):
        of_onnx(saved(path, column)).query(RECORDS)
    # An input of any shape: the model itself says what it cannot take.
    free = linear_model(source=("batch", "any"))[0]
    with pytest.raises(ValueError, match=r"expected a model that takes records \(4, 5\); "):
        of_onnx(saved(path, free)).query(np.zeros((4, 5)))


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
        of_onnx(path)


def test_a_file_that_computes_how_much_it_asks_for_is_held_by_the_system(tmp_path):
    path = tmp_path / "bomb.onnx"
    path.write_bytes(bomb(2**31, known=False).SerializeToString())
    oracle = of_onnx(path)
    with pytest.raises(ValueError, match="expected a model that takes records"):
        oracle.query(np.ones((3, 2), np.float32))


def test_an_input_beyond_all_measure_is_refused(tmp_path):
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], (10**12, 2), (10**12, 2))
    (tmp_path / "wide.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"'x' has \[1000000000000, 2\]"):
        of_onnx(tmp_path / "wide.onnx")


def test_an_oracle_is_what_evidence_expects():
    assert isinstance(of_network(small()[1]), Oracle)


def test_a_network_or_file_with_several_outputs_is_refused(tmp_path):
    graph = GraphBuilder((6,))
    architecture = graph.architecture("example", {}, (graph.linear(0, 3), graph.linear(0, 3)))
    network = build(architecture).eval()
    features = np.zeros((2, 6), np.float32)
    oracle = of_network(network)
    for ask in (oracle.query, oracle.activations):
        with pytest.raises(ValueError, match="expected a network with one output; got 2"):
            ask(features)
    path = saved(tmp_path / "exits.onnx", to_onnx(architecture, network, "float32", torch.zeros(1, 6)))
    with pytest.raises(ValueError, match=r"expected one input and one output .* outputs \['logits', 'logits_1'\]"):
        of_onnx(path)
