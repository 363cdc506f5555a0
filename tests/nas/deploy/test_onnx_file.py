import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from nas.base import plugins
from nas.base.onnx_runtime import session
from nas.data import digits
from nas.defences.confidence_rounding import RoundedConfidences
from nas.deploy.judging import agreement
from nas.deploy.onnx_file import PRECISIONS
from nas.deploy.onnx_file import own_precision
from nas.deploy.onnx_file import to_onnx
from nas.deploy.scales import Scale
from nas.deploy.scales import becomes_sign
from nas.deploy.scales import scale_of_range
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.arrangement import plain
from nas.preprocessing.columns import Column
from nas.preprocessing.columns import encoded
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import scaled
from nas.preprocessing.preprocessing import unchanged
from nas.preprocessing.stored import from_json
from nas.records import Source
from nas.records import split
from nas.spaces import sample
from nas.training.answers import answering
from nas.training.exits import leaving
from nas.training.loop import exits_of
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.integers import in_integers
from search_spaces.layers.quantize import quantized
from search_spaces.layers.quantize import sign
from search_spaces.network import build
from tests.networks import everything
from tests.networks import normal
from tests.networks import shaken
from tests.networks import written
from tests.xnor_popcount import xnor_popcount_conv2d
from tests.xnor_popcount import xnor_popcount_linear

SPACES = plugins.available("search_spaces", "make_space")
SHAPES = {"mlp": (20,)}


def logits(model, records):
    return session(model).run(None, {"records": records.numpy()})[0]


def expected(network, records):
    with torch.no_grad():
        return network(records).numpy()


def kinds(model):
    return Counter(node.op_type for node in model.graph.node)


def kernels(model, tmp_path):
    """What ONNX Runtime runs after its fusions."""
    path = tmp_path / "optimised.onnx"
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session(model, optimized_model_filepath=str(path), graph_optimization_level=level)
    return kinds(onnx.load(path))


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_every_operator_computes_what_pytorch_computes(tmp_path):
    architecture, records = written(everything), normal(32, 2, 6, 6)
    network = shaken(architecture)
    model = to_onnx(architecture, network, "float32", records)
    np.testing.assert_allclose(logits(model, records), expected(network, records), rtol=0, atol=1e-5)
    count = kinds(model)
    # Of five norms, only the one behind the pooling follows no weights.
    assert count["BatchNormalization"] == 1
    assert count["Conv"] == 4
    assert count["Gemm"] == 2
    assert not {"QuantizeLinear", "Round"} & count.keys()


def test_every_operator_has_an_integer_form(tmp_path):
    architecture, records = written(everything), normal(64, 2, 6, 6)
    network = shaken(architecture)
    model = to_onnx(architecture, network, "int8", records)
    wanted = expected(network, records)
    # Some dozen roundings to 1/255 of a range each; a wrong scale or zero point is off by a multiple of the deviation.
    assert np.abs(logits(model, records) - wanted).max() < 0.35 * wanted.std()
    found = kernels(model, tmp_path)
    assert (found["QLinearConv"], found["QGemm"], found["QLinearAdd"], found["QLinearMul"]) == (4, 2, 2, 1)
    assert (found["QLinearConcat"], found["QLinearAveragePool"], found["MaxPool"]) == (1, 1, 2)
    assert not {"Conv", "Gemm", "MatMul"} & found.keys()


@pytest.mark.parametrize(
    ("name", "shape"), [*((name, SHAPES.get(name, (3, 8, 8))) for name in SPACES), ("conv", (3, 1, 24))]
)
@settings(max_examples=6, derandomize=True, deadline=None)
@given(seed=st.integers(0, 1000))
def test_float32_is_pytorch_on_random_points_of_every_space(name, shape, seed):
    space = plugins.load("search_spaces", name, "make_space")(shape, 10)
    architecture = space.decode(sample(space.distributions, np.random.default_rng(seed)))
    records = normal(48, *shape, seed=seed)
    for described in (architecture, architecture.as_float()):
        network = shaken(described, records)
        model = to_onnx(described, network, "float32", records)
        wanted = expected(network, records)
        differing = np.abs(logits(model, records) - wanted).max(1) > 1e-4 * max(1, np.abs(wanted).max())
        # A number within float's last digit of a rounding's border may fall to either side: then a level differs.
        assert differing.mean() <= (0.05 if described is architecture else 0)


@pytest.mark.parametrize(("weights", "bits"), [(8, 8), (4, 4), (3, 3), (2, 2), ("ternary", 2), (1, 1)])
@pytest.mark.parametrize("learned", ["tracked", "learned"])
def test_networks_of_few_bits_are_integers_exactly(weights, bits, learned, tmp_path):
    def write(graph):
        x = graph.conv(0, 6, kernel=(3, 3), padding=(1, 1), weight_bits=weights)
        x = graph.activation(graph.norm(x), bits=bits, range=learned)
        x = graph.depthwise(x, kernel=(3, 3), padding=(1, 1), weight_bits=weights)
        x = graph.activation(graph.norm(x), "identity", bits=bits, range=learned)
        x = graph.pool(x, "max", kernel=(2, 2), stride=(2, 2))
        graph.linear(graph.flatten(x), 5, bias=True, weight_bits=max(bits, 8))

    architecture, records = written(write, bits=8), normal(64, 2, 6, 6)
    network = shaken(architecture, records)
    model = to_onnx(architecture, network, "int8", records)
    # A bias is a whole number of its accumulator's units. That moves the logits by half a unit at most, and a record's
    # tensor across a border of rounding where it lies as close.
    half = constants(model)["op9_linear_bias_scale"].max() / 2
    differing = np.abs(logits(model, records) - expected(network, records)).max(1) > half + 1e-5
    assert differing.mean() < 0.1
    found = kernels(model, tmp_path)
    assert (found["QLinearConv"], found["QGemm"]) == (2, 1)
    assert not {"Conv", "Gemm"} & found.keys()
    for key, levels in constants(model).items():
        if key.endswith("conv_weight_levels"):
            assert levels.dtype == np.int8
            assert max(len(np.unique(channel)) for channel in levels) <= (3 if weights == "ternary" else 2**bits)


def of_one_bit(space):
    """The space's reference with one bit wherever it offers that, and 8 where it offers more alone."""
    bits = {name: choices.choices for name, choices in space.distributions.items() if name.endswith("_bits")}
    return space.decode({**space.reference, **{name: 1 if 1 in some else 8 for name, some in bits.items()}})


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", SPACES)
def test_an_exported_layer_of_one_bit_has_two_values_a_channel_and_is_an_xnor_and_a_popcount(name, precision):
    """G1 of Gecko: what ships is binary, not a float network that was called so."""
    shape = SHAPES.get(name, (3, 8, 8))
    space = plugins.load("search_spaces", name, "make_space")(shape, 4)
    if not any(name.endswith("_bits") for name in space.distributions):
        pytest.skip("a space without bits to choose")
    architecture = of_one_bit(space)
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=0.01)
    network = train(plain_setup(architecture, normal(48, *shape), torch.arange(48) % 4, recipe, seed=0))
    found = constants(to_onnx(architecture, network, precision, normal(48, *shape)))
    binary = [index for index, op in enumerate(architecture.ops) if op.weight_bits == 1]
    assert binary
    for index in binary:
        op = architecture.ops[index]
        layer = network.get_submodule(f"op{index}_{op.kind}")
        weight = found[f"op{index}_{op.kind}_weight" + ("_levels" if precision == "int8" else "")]
        per_channel = weight.reshape(len(weight), -1).astype(np.float64)
        for channel, trained in zip(per_channel, layer.weight.detach().flatten(1), strict=True):
            alpha = np.abs(channel).max()
            assert alpha > 0
            values = {-alpha, alpha} if (trained < 0).any() and (trained >= 0).any() else {channel[0]}
            assert set(np.unique(channel)) == values
        # A norm behind the layer may turn all signs of a channel round.
        signs = np.sign(weight).astype(np.float32)
        levels, scale = (part.detach().numpy() for part in quantized(layer))
        turned = (signs * levels).reshape(len(signs), -1)
        assert (turned == turned[:, :1]).all()
        inputs = sign(normal(5, *architecture.ops[op.inputs[0]].shape, seed=index))
        bias = None if layer.bias is None else layer.bias.detach().numpy()
        given = inputs.numpy(), signs, scale.reshape(-1) * turned[:, 0], bias
        windows = {"stride": op.stride, "padding": op.padding, "groups": layer.groups} if op.kind != "linear" else {}
        integer = xnor_popcount_linear if op.kind == "linear" else xnor_popcount_conv2d
        np.testing.assert_array_equal(integer(*given, **windows), expected(layer, inputs))


def warmed(architecture, records):
    """A network whose norms and quantisers have seen records until they agree with each other."""
    network = build(architecture, seed=1)
    for seed, module in enumerate(network.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data = 1 + 0.3 * normal(module.num_features, seed=seed)
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(12):
            network.train()(records)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "shape", "seed"),
    [
        ("mlp", (20,), 3),
        ("conv", (3, 8, 8), 3),
        ("conv", (3, 1, 24), 0),
        ("nb201", (3, 8, 8), 1),
        ("resnet", (3, 8, 8), 0),
        ("squeeze", (3, 8, 8), 0),
        ("vgg", (3, 8, 8), 0),
        ("ds_cnn", (3, 8, 8), 1),
    ],
)
def test_what_is_trained_for_an_integer_device_is_its_int8_file(name, shape, seed):
    space = plugins.load("search_spaces", name, "make_space")(shape, 10)
    plain = space.decode(sample(space.distributions, np.random.default_rng(seed))).as_float()
    records, apart = normal(64, *shape, seed=seed), []
    for architecture in (in_integers(plain, 8), plain):
        network = warmed(architecture, records)
        wanted = expected(network, records)
        found = logits(to_onnx(architecture, network, "int8", records), records)
        apart.append(np.abs(found - wanted).max(1) / wanted.std())
    trained, afterwards = apart
    # Where no number lies on a border of rounding, the file gives the same logits; deep networks have many numbers. One
    # that is made integer after its training gives the same logits for no record.
    assert trained.min() < 0.0005 < 0.003 < afterwards.min()
    assert np.median(trained) < np.median(afterwards) / 2


def test_each_output_channel_has_its_own_scale():
    architecture = written(lambda graph: graph.linear(0, 4, bias=True), shape=(4,))
    network = build(architecture).eval()
    # The last channel's bias would be 2e12 units of its weights.
    weight = [[1.0, 0.25, 0, 0], [0.01, 0, 0.0025, 0], [0, 0, 0, 0], [1e-9, 0, 0, 0]]
    network.op1_linear.weight.data = torch.tensor(weight)
    network.op1_linear.bias.data = torch.tensor([0.1, 0.002, 3.0, -3.0])
    records = torch.tensor([[0.0, 0.0, 0.0, 51.0]])
    found = constants(to_onnx(architecture, network, "int8", records))
    # 1 and 0.01 are level 127 of their channels; the input's step is 51 / 255.
    assert found["op1_linear_weight_levels"].tolist() == [[127, 32, 0, 0], [127, 0, 32, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found["op1_linear_weight_scale"][:2], [1 / 127, 0.01 / 127], rtol=1e-6)
    assert found["op0_rounded_step"] == np.float32(0.2)
    units = found["op1_linear_bias_levels"] * found["op1_linear_bias_scale"]
    np.testing.assert_allclose(units, [0.1, 0.002, 3.0, -3.0], rtol=0.01)
    np.testing.assert_allclose(found["op1_linear_bias_scale"][:2], [0.2 / 127, 0.002 / 127], rtol=1e-6)


def test_a_sign_is_never_lost_to_an_eight_bit_range():
    """A channel a thousand times smaller than the largest would round to 0, which counts as +1."""

    def write(graph):
        x = graph.conv(0, 2, bias=True, weight_bits=1)
        graph.linear(graph.flatten(graph.activation(x, bits=1)), 2, weight_bits=8)

    architecture = written(write, shape=(1, 2, 2), bits=8)
    network = build(architecture).eval()
    network.op1_conv.weight.data = torch.tensor([[[[1000.0]]], [[[1e-3]]]])
    network.op1_conv.bias.data = torch.zeros(2)
    records = normal(64, 1, 2, 2)
    model = to_onnx(architecture, network, "int8", records)
    np.testing.assert_allclose(logits(model, records), expected(network, records), atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bits", [32, 8, 4])
def test_relu6_ends_at_six(bits, precision):
    def write(graph):
        x = graph.activation(graph.linear(0, 4, weight_bits=8), "relu6", bits=bits, range="learned")
        graph.linear(x, 3, weight_bits=8)

    architecture = written(write, shape=(4,), bits=8)
    network = build(architecture).eval()
    network.op0_quantizer.magnitude.fill_(12.7)
    network.op1_linear.weight.data = torch.eye(4)
    if bits < 32:
        network.op2_quantizer.log_step.data = torch.tensor(8 / (2**bits - 1)).log()  # levels on both sides of 6
    records = torch.tensor([[-3.0, 5.2, 5.8, 9.0], [12.0, 6.1, 0.4, -0.1]])
    model = to_onnx(architecture, network, precision, records)
    np.testing.assert_allclose(logits(model, records), expected(network, records), atol=0.02)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_bias_is_rounded_so_that_no_sign_changes(kind):
    def write(graph):
        x = graph.linear(graph.flatten(0), 2, bias=True, weight_bits=1)
        x = graph.conv(0, 2, bias=True, weight_bits=1) if kind == "conv" else x
        x = graph.activation(x, bits=1)
        graph.linear(graph.flatten(x) if kind == "conv" else x, 2, bias=True, weight_bits=8)

    architecture = written(write, shape=(1, 1, 1), bits=8)
    network = build(architecture).eval()
    network.op0_quantizer.magnitude.fill_(127.0)  # a step of 1
    layer = network.get_submodule("op3_conv" if kind == "conv" else "op2_linear")
    layer.weight.data.fill_(1.0)  # a level of 127, so 127 units for each input level
    layer.bias.data = torch.tensor([-2 - 0.3 / 127, -2 + 0.3 / 127])
    records = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    model = to_onnx(architecture, network, "int8", records)
    np.testing.assert_allclose(logits(model, records), expected(network, records), atol=0.01)


def test_calibration_records_set_the_range_that_training_did_not():
    architecture = written(lambda graph: graph.linear(0, 3), shape=(4,))
    network = build(architecture).eval()
    wide = to_onnx(architecture, network, "int8", torch.tensor([[-1.0, 0, 0, 4.1]]))
    assert constants(wide)["op0_rounded_step"] == np.float32(0.02)
    assert constants(wide)["op0_rounded_zero"] == 50
    with pytest.raises(ValueError, match="expected calibration records for int8; got none"):
        to_onnx(architecture, network, "int8", torch.zeros(0, 4))


def test_a_range_is_that_of_all_records_not_of_the_last_batch():
    architecture = written(lambda graph: graph.linear(0, 3), shape=(4,))
    records = torch.zeros(200, 4)
    records[3, 1], records[70, 2] = -1.0, 4.1
    found = constants(to_onnx(architecture, build(architecture).eval(), "int8", records))
    assert found["op0_rounded_step"] == np.float32(0.02)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_norm_is_not_folded_into_what_others_read_too(precision):
    def write(graph):
        x = graph.conv(0, 4, kernel=(3, 3))
        graph.linear(graph.flatten(graph.add(x, graph.norm(x))), 5)

    architecture, records = written(write), normal(32, 2, 6, 6)
    network = shaken(architecture)
    model = to_onnx(architecture, network, precision, records)
    assert kinds(model)["BatchNormalization"] == 1
    wanted = expected(network, records)
    assert np.abs(logits(model, records) - wanted).max() < (1e-4 if precision == "float32" else 0.1) * wanted.std()


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
@settings(max_examples=50, derandomize=True)
def test_a_scale_covers_its_range_and_says_zero_exactly(one, other):
    low, high = min(one, other), max(one, other)
    scale = scale_of_range(low, high)
    assert 0 <= scale.zero <= 255
    assert scale.range[0] <= low + 0.51 * scale.step
    assert scale.range[1] >= high - 0.51 * scale.step
    assert scale_of_range(0.0, 0.0) == Scale(1.0, 0)


def test_concatenated_tensors_share_the_wider_range(tmp_path):
    def write(graph):
        small = graph.activation(graph.conv(0, 2, bias=True), "relu")
        large = graph.conv(0, 2, bias=True)
        graph.linear(graph.flatten(graph.concat(small, large)), 5)

    architecture, records = written(write), normal(64, 2, 6, 6)
    network = build(architecture).eval()
    network.op3_conv.weight.data *= 20
    model = to_onnx(architecture, network, "int8", records)
    wanted = expected(network, records)
    assert np.abs(logits(model, records) - wanted).max() < 0.2 * wanted.std()
    assert kernels(model, tmp_path)["QLinearConcat"] == 1


def test_dead_operators_are_left_out():
    def write(graph):
        graph.conv(0, 7)
        graph.linear(graph.flatten(0), 5)

    architecture = written(write)
    model = to_onnx(architecture, build(architecture).eval(), "float32", normal(1, 2, 6, 6))
    assert kinds(model) == {"Flatten": 1, "Gemm": 1}
    assert not any("conv" in name for name in constants(model))


@pytest.fixture(scope="module")
def trained():
    """A convolutional network and a binary one, trained on the digits for a few seconds."""
    data = split(digits.load(Source("digits")), seed=0)
    space = plugins.load("search_spaces", "conv", "make_space")((1, 8, 8), 10)
    few = {"first_bits": 8, "last_bits": 8, "block1_weight_bits": 4, "block1_activation_bits": 4}
    networks = {}
    for name, changes in (("float", {}), ("few bits", few)):
        architecture = space.decode({**space.reference, **changes, "block1_residual": True, "block2_kind": "separable"})
        members = torch.from_numpy(data.members.features)
        recipe = Recipe(epochs=8)
        setup = plain_setup(architecture, members, torch.from_numpy(data.members.labels), recipe, seed=0)
        networks[name] = (architecture, train(setup))
    return data, networks


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["float", "few bits"])
def test_a_trained_network_agrees_with_pytorch(trained, name, precision):
    data, networks = trained
    architecture, network = networks[name]
    calibration, check = (torch.from_numpy(part.features) for part in (data.reserve, data.validation))
    model = to_onnx(architecture, network, precision, calibration)
    assert agreement(model, network, check) >= 0.99
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert (facts["space"], facts["key"], facts["precision"]) == ("conv", architecture.key, precision)
    assert re.match(r"\d+\.\d+", facts["version"])


def test_agreement_counts_what_differs(trained):
    data, networks = trained
    architecture, network = networks["float"]
    check = torch.from_numpy(data.validation.features)
    other = build(architecture, seed=9).eval()
    model = to_onnx(architecture, other, "float32", check)
    same = expected(other, check).argmax(1) == expected(network, check).argmax(1)
    assert agreement(model, network, check) == pytest.approx(same.mean(), abs=0.011)
    assert same.mean() < 0.5


def test_mistakes_are_named():
    architecture = written(lambda graph: graph.linear(0, 3), shape=(4,))
    network, records = build(architecture).eval(), normal(2, 4)
    with pytest.raises(ValueError, match=r"no precision 'int4'; there are \['float32', 'int8', 'mixed'\]"):
        to_onnx(architecture, network, "int4", records)
    with pytest.raises(ValueError, match="expected a network in eval mode"):
        to_onnx(architecture, network.train(), "float32", records)


# Answers: what a defence shows of a network.


@pytest.mark.parametrize("digits", range(4))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounded_confidences_are_in_the_file(precision, digits):
    architecture = plugins.load("search_spaces", "mlp", "make_space")((20,), 4)
    architecture = architecture.decode(architecture.reference)
    network = build(architecture, seed=1).eval()
    records = 3 * normal(200, 20)
    # what the file says before the answers, so that only the answers are compared
    bare = logits(to_onnx(architecture, network, precision, records), records)
    told = to_onnx(architecture, answering(network, RoundedConfidences(digits)), precision, records)
    answered = logits(told, records)
    expected = RoundedConfidences(digits)(torch.from_numpy(bare)).numpy()
    np.testing.assert_array_equal(answered.argmax(1), bare.argmax(1))
    # a confidence that lies on the edge of a level may fall to either side of it
    same = np.isclose(answered, expected, atol=1e-4).all(axis=1)
    assert same.mean() > 0.99
    assert agreement(told, network, records) > 0.97
    assert len({tuple(row) for row in np.exp(answered).round(5)}) <= (4 if digits == 0 else 200)


def test_equal_logits_give_the_first_class_in_the_file_too():
    architecture = written(lambda graph: graph.linear(0, 3, bias=False), shape=(3,))
    network = build(architecture).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.eye(3))
    answering(network, RoundedConfidences(1))
    records = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0], [-1.0, -1.0, -2.0]])
    model = to_onnx(architecture, network, "float32", records)
    np.testing.assert_allclose(logits(model, records), network(records).detach().numpy(), atol=1e-4)
    assert logits(model, records).argmax(1).tolist() == [0, 1, 0]


def test_answers_that_cannot_be_written_are_refused():
    class Secret(nn.Module):
        def forward(self, logits):
            return logits

    architecture = written(lambda graph: graph.linear(0, 3, bias=False), shape=(3,))
    network = answering(build(architecture).eval(), Secret())
    with pytest.raises(ValueError, match="cannot be written as ONNX: Secret has no write_onnx"):
        to_onnx(architecture, network, "float32", normal(2, 3))


def answers(model, records):
    """The logits of every exit, which the file has inside."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    names = sorted({name for node in model.graph.node for name in node.output if re.fullmatch(r"exit\d_logits", name)})
    shape = ["batch", *(dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim[1:])]
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, shape) for name in names)
    return session(shown).run(names, {"records": records.numpy()})


@settings(max_examples=25, derandomize=True, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_a_file_computes_every_exit_and_answers_by_the_rule(seed, threshold):
    space = plugins.load("search_spaces", "tests.two_exits", "make_space")((3, 8, 8), 10)
    architecture = space.decode(sample(space.distributions, np.random.default_rng(seed)))
    architecture = replace(architecture, exit_threshold=threshold)
    records = normal(64, 3, 8, 8, seed=seed)
    for described in (architecture, architecture.as_float()):
        network = shaken(described, records)
        with torch.no_grad():
            wanted = [logits.numpy() for logits in network(records)]
        for precision in PRECISIONS:
            model = to_onnx(described, network, precision, records)
            assert [output.name for output in model.graph.output] == ["logits", "exit"]
            found = answers(model, records)
            answer, exit_number = session(model).run(["logits", "exit"], {"records": records.numpy()})
            by_rule = leaving([torch.from_numpy(logits) for logits in found], threshold).numpy()
            np.testing.assert_array_equal(exit_number, by_rule)
            assert (exit_number.dtype, exit_number.shape) == (np.int64, (64,))
            np.testing.assert_array_equal(answer, np.stack(found)[by_rule, np.arange(64)])
            assert [logits.shape for logits in found] == [(64, 10), (64, 10)]
            few = min(op.bits for op in described.ops) < 8
            for ours, theirs in zip(found, wanted, strict=True):
                off = np.abs(ours - theirs).max(1) / max(1e-3, theirs.std())
                if precision == "float32":  # a number on a rounding's border may fall to either side
                    assert (off > 1e-3).mean() <= (0.05 if described is architecture else 0)
                elif not few:  # signs and few levels jump where 8 bits round: their exact forms are tested above
                    assert np.median(off) < 0.15


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_output_may_go_on_and_share_its_tensor_with_another(precision):
    graph = GraphBuilder((6,))
    first = graph.linear(0, 4, bias=True)
    second = graph.activation(first, "identity")
    third = graph.linear(graph.activation(second, "relu"), 4)
    architecture = graph.architecture("example", {}, (first, second, third))
    network, records = build(architecture).eval(), normal(128, 6)
    model = to_onnx(architecture, network, precision, records)
    assert [output.name for output in model.graph.output] == ["logits", "exit"]
    with torch.no_grad():
        wanted = [logits.numpy() for logits in network(records)]
    for ours, theirs in zip(answers(model, records), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 if precision == "float32" else 0.1 * theirs.std())


def test_a_sign_is_asked_of_an_output_only_by_its_reader():
    graph = GraphBuilder((6,), bits=8)
    early = graph.linear(0, 3, weight_bits=8)
    late = graph.linear(graph.activation(early, bits=1), 3, weight_bits=8)
    both, one = (graph.architecture("example", {}, outputs) for outputs in ((early, late), (late,)))
    assert (becomes_sign(both, early), becomes_sign(one, early)) == (False, True)
    records = normal(64, 6)
    network = shaken(both, records)
    with torch.no_grad():
        wanted = network(records)[0].numpy()
    found = answers(to_onnx(both, network, "int8", records), records)
    assert np.abs(found[0] - wanted).max() < 0.05 * wanted.std()


@pytest.mark.parametrize("threshold", [0.0, 0.35, 1.0])
def test_agreement_is_that_of_the_exits_that_answer(threshold):
    graph = GraphBuilder((6,))
    exits = (graph.linear(0, 4), graph.linear(graph.activation(0, "tanh"), 4))
    architecture = replace(graph.architecture("example", {}, exits), exit_threshold=threshold)
    network, records = build(architecture).eval(), normal(200, 6)
    model = to_onnx(architecture, network, "float32", records)
    assert agreement(model, network, records) == 1.0
    left = exits_of(network, records)
    assert {0.0: left.max() == 0, 0.35: 0 < left.mean() < 1, 1.0: left.min() == 1}[threshold]
    # The share falls by the records that the changed exit answers for.
    for number, layer in enumerate((network.op1_linear, network.op3_linear)):
        kept = layer.weight.data.clone()
        layer.weight.data = -layer.weight.data
        assert (agreement(model, network, records) < 1) == bool((left == number).any())
        layer.weight.data = kept


def test_a_mask_in_a_file_changes_no_exit():
    """The rule reads what the network computes inside: with no digits every masked confidence is 1."""
    graph = GraphBuilder((6,))
    exits = (graph.linear(0, 4), graph.linear(graph.activation(0, "tanh"), 4))
    architecture = replace(graph.architecture("example", {}, exits), exit_threshold=0.35)
    plain, masked = build(architecture).eval(), answering(build(architecture).eval(), RoundedConfidences(0))
    records = normal(200, 6)
    found = []
    for network in (plain, masked):
        model = to_onnx(architecture, network, "float32", records)
        logits, exit_number = session(model).run(["logits", "exit"], {"records": records.numpy()})
        np.testing.assert_allclose(logits, logits_of(network, records), atol=1e-4)
        np.testing.assert_array_equal(exit_number, exits_of(network, records))
        found.append(exit_number)
    np.testing.assert_array_equal(*found)
    assert 0 < found[0].mean() < 1


def test_a_kind_without_an_onnx_rule_is_refused(monkeypatch):
    architecture = written(lambda graph: graph.linear(0, 3), shape=(4,))
    network = build(architecture).eval()
    network.op1_lookup = network.op1_linear
    strange = architecture.with_ops(architecture.ops)
    ops = (architecture.ops[0], architecture.ops[1]._replace(kind="lookup"))
    object.__setattr__(strange, "ops", ops)  # an Architecture refuses an unknown kind itself
    with pytest.raises(ValueError, match="no rule for the operator 'lookup' in the ONNX export"):
        to_onnx(strange, network, "float32", normal(2, 4))
    monkeypatch.setattr("nas.deploy.onnx_file.WEIGHTED", frozenset({"lookup"}))
    with pytest.raises(ValueError, match="no rule for the operator 'lookup' in the ONNX export"):
        to_onnx(strange, network, "float32", normal(2, 4))


# What stands before the network.


def behind_of(arrangement, raw, columns=()):
    """What a network would be trained behind, if these were the members."""
    features = arrangement.apply(raw)
    values = scaled(features)
    axes = (0, *range(2, values.ndim))
    precise = values.dtype
    moments = values.mean(axes).astype(precise), values.std(axes).astype(precise)
    return Preprocessing(arrangement, *moments, raw.dtype == np.uint8, columns, ("no", "maybe", "yes")), features


def drawn(kind, *shape):
    rng = np.random.default_rng(0)
    if kind == np.uint8:
        return rng.integers(0, 256, (50, *shape)).astype(np.uint8)
    return (rng.normal(size=(50, *shape)) * 50 + 1000).astype(kind)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("arrangement", "kind"),
    [
        (Arrangement((6, 4, 3), (2, 0, 1), (3, 6, 4)), np.uint8),
        (Arrangement((24,), (0,), (2, 3, 4)), np.uint8),
        (Arrangement((7, 9), (1, 0), (9, 1, 7)), np.float32),
        (plain((5,)), np.float32),
        (plain((5,)), np.float64),
    ],
    ids=["channels last", "rows of pixels", "signals with time first", "numbers", "precise numbers"],
)
def test_the_file_standardises_bit_for_bit_as_the_training_did(arrangement, kind, precision):
    raw = drawn(kind, *arrangement.shape)
    behind, features = behind_of(arrangement, raw)

    def layers(graph):
        x = graph.activation(graph.linear(graph.flatten(0), 8, bias=True), "relu", bits=8)
        graph.linear(x, 3, weight_bits=4)

    architecture = written(layers, shape=arrangement.input_shape)
    network = shaken(architecture, torch.from_numpy(behind.standardised(features)))
    standardised = torch.from_numpy(behind.standardised(features))
    wanted = logits(to_onnx(architecture, network, precision, standardised), standardised)
    model = to_onnx(architecture, network, precision, standardised, behind)
    (source,) = model.graph.input
    assert source.type.tensor_type.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    assert [axis.dim_value for axis in source.type.tensor_type.shape.dim][1:] == list(arrangement.shape)
    np.testing.assert_array_equal(session(model).run(None, {"records": raw})[0], wanted)
    np.testing.assert_array_equal(session(model).run(None, {"records": raw[:1]})[0], wanted[:1])


def test_a_change_of_a_second_in_a_timestamp_is_not_lost():
    # Encoded by its column, 1.7e9 + t is t: single precision is enough for the file.
    columns = (Column("time", origin=1.7e9),)
    cells = {"time": [1.7e9 + second for second in range(100)]}
    behind, features = behind_of(plain((1,)), encoded(columns, cells), columns)
    assert behind.input_type == np.float32
    architecture = written(lambda graph: graph.linear(0, 3), shape=(1,))
    model = to_onnx(architecture, build(architecture).eval(), "float32", torch.zeros(0), behind)
    found = session(model).run(None, {"records": behind.as_given(features)})[0]
    wanted = logits(
        to_onnx(architecture, build(architecture).eval(), "float32", torch.zeros(0)),
        torch.from_numpy(behind.standardised(features)),
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert len(np.unique(found[:, 0])) == 100


def test_the_file_holds_what_it_was_trained_behind():
    columns = (Column("a", fill=1.0, indicator=True), Column("b", "category", ("x", "y, or z")))
    behind, _ = behind_of(plain((4,)), drawn(np.float64, 4), columns)
    architecture = written(lambda graph: graph.linear(0, 3), shape=(4,))
    network = build(architecture).eval()
    facts = {entry.key: entry.value for entry in to_onnx(architecture, network, "float32", None, behind).metadata_props}
    assert json.loads(facts["classes"]) == ["no", "maybe", "yes"]
    assert json.loads(facts["columns"]) == ["a", "a is missing", "b=x", "b=y, or z"]
    again = from_json(facts["preprocessing"], "the file")
    assert (again.columns, again.classes) == (behind.columns, behind.classes)
    np.testing.assert_array_equal(again.mean, behind.mean)
    # Random weights stand behind nothing, and their answers mean nothing.
    assert not {"classes", "preprocessing"} & {
        entry.key for entry in to_onnx(architecture, network, "float32", None).metadata_props
    }
    with pytest.raises(ValueError, match=r"^expected a preprocessing to records \(4,\); got \(5,\)$"):
        to_onnx(architecture, network, "float32", None, unchanged((5,)))


# Networks in float and in few bits.


def test_a_mixed_network_is_written_as_it_was_trained(tmp_path):
    """Layers of 8 bits beside those in float, which ONNX Runtime would make int8 with all channels on one scale."""

    def layers(graph):
        x = graph.activation(graph.norm(graph.conv(0, 8, kernel=(3, 3))), "relu", bits=8)
        x = graph.activation(graph.norm(graph.conv(x, 8, weight_bits=8)), "relu", bits=8)
        x = graph.pool(x, "max", kernel=(2, 2), stride=(2, 2))
        x = graph.activation(graph.norm(graph.conv(x, 8, kernel=(2, 2), weight_bits=4)), "relu", bits=8)
        x = graph.activation(graph.norm(graph.conv(x, 8)), "relu", bits=8)
        graph.linear(graph.flatten(x), 5, bias=True, weight_bits=8)

    records = normal(64, 2, 6, 6)
    architecture = written(layers, bits=8)
    assert own_precision(architecture) == "mixed"
    network = shaken(architecture, records)
    network.op11_conv.weight.data[0] *= 100  # on one scale, nothing would be left of the other channels
    with torch.no_grad():
        wanted = expected(network, records)
    model = to_onnx(architecture, network, "mixed", None)
    answers = session(model).run(None, {"records": records.numpy()})[0]
    # But for a number that falls to the other side of a rounding's edge, the same.
    assert np.median(np.abs(answers - wanted)) < 1e-5
    assert (answers.argmax(1) == wanted.argmax(1)).mean() > 0.95
    found = kernels(model, tmp_path)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (2, 2)
    weights = {name: value.dtype for name, value in constants(model).items() if "weight" in name}
    assert weights["op1_conv_weight"] == np.float32
    assert weights["op4_conv_weight_levels"] == np.int8


@pytest.mark.parametrize(
    ("write", "precision"),
    [
        (lambda graph: graph.linear(graph.activation(graph.linear(0, 4), "relu"), 2), "float32"),
        (lambda graph: graph.linear(graph.activation(graph.linear(0, 4), "relu", bits=8), 2), "mixed"),
        (lambda graph: graph.linear(graph.activation(graph.linear(0, 4, weight_bits=8), "relu"), 2), "mixed"),
    ],
)
def test_the_precision_of_a_network_is_that_of_its_layers(write, precision):
    assert own_precision(written(write, shape=(3,))) == precision


def test_a_network_of_few_bits_throughout_is_int8():
    def layers(graph):
        x = graph.activation(graph.linear(0, 4, weight_bits=4), "relu", bits=2)
        graph.linear(x, 2, weight_bits=8)

    assert own_precision(written(layers, shape=(3,), bits=8)) == "int8"
