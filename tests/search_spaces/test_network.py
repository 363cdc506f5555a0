import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.builder import GraphBuilder
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.network import build


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_of(write, shape=(2, 6, 6), bits=32, **settings):
    graph = GraphBuilder(shape, bits=bits)
    write(graph)
    return build(graph.architecture("example", {}), **settings)


def names(network):
    return [name for name, _ in network.named_children()]


def branches(graph):
    x = graph.activation(graph.norm(graph.conv(0, 4, kernel=(3, 3), stride=(2, 2), padding=(1, 1), bias=True)))
    y = graph.depthwise(x, kernel=(3, 3), padding=(1, 1))
    x = graph.concat(graph.add(x, y), x)
    x = graph.pool(x, "avg", kernel=(3, 2), stride=(1, 1), padding=(1, 0))
    graph.linear(graph.flatten(x), 5, bias=True)


def test_a_network_computes_its_graph():
    network, images = network_of(branches).eval(), normal(3, 2, 6, 6)
    weights = dict(network.named_parameters())
    x = functional.conv2d(images, weights["op1_conv.weight"], weights["op1_conv.bias"], stride=2, padding=1)
    x = (x / (1 + network.op2_norm.eps) ** 0.5).relu()  # a fresh batch norm holds mean 0 and variance 1
    y = functional.conv2d(x, weights["op4_depthwise.weight"], padding=1, groups=4)
    x = torch.cat([x + y, x], dim=1)
    x = functional.avg_pool2d(x, (3, 2), (1, 1), (1, 0), count_include_pad=False).flatten(1)
    x = functional.linear(x, weights["op9_linear.weight"], weights["op9_linear.bias"])
    torch.testing.assert_close(network(images), x)
    assert network.architecture.num_classes == 5


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("relu", functional.relu),
        ("relu6", functional.relu6),
        ("hardswish", functional.hardswish),
        ("hardsigmoid", functional.hardsigmoid),
        ("tanh", torch.tanh),
        ("identity", lambda x: x),
        ("sign", torch.sign),
    ],
)
def test_activations(function, expected):
    bits = 1 if function == "sign" else 32
    network = network_of(lambda graph: graph.activation(0, function, bits=bits), shape=(7,))
    values = 8 * normal(4, 7)
    assert torch.equal(network(values), expected(values))


def test_a_map_is_scaled_channel_by_channel():
    def write(graph):
        factors = graph.activation(graph.pool(0, "avg", kernel=(6, 6), stride=(6, 6)), "hardsigmoid")
        graph.scale(0, factors)

    images = 8 * normal(4, 2, 6, 6)
    factors = (images.mean((2, 3)) / 6 + 0.5).clamp(0, 1)
    torch.testing.assert_close(network_of(write)(images), images * factors[:, :, None, None])


def test_factors_are_one_for_each_channel():
    graph = GraphBuilder((2, 6, 6))
    for factors in (0, graph.pool(0, "avg", kernel=(6, 3), stride=(6, 3)), graph.conv(0, 3, kernel=(6, 6))):
        with pytest.raises(ValueError, match=r"expected an image .* and factors \(channels, 1, 1\) for 'scale'"):
            graph.scale(0, factors)


def test_batch_norm_fits_the_rank():
    assert isinstance(network_of(lambda graph: graph.norm(0)).op1_norm, nn.BatchNorm2d)
    assert isinstance(network_of(lambda graph: graph.norm(0), shape=(3,)).op1_norm, nn.BatchNorm1d)


def quantised(graph):
    x = graph.conv(0, 4, groups=2, weight_bits=4)
    x = graph.activation(graph.norm(x), bits=4, range="learned")
    y = graph.norm(graph.depthwise(x, kernel=(3, 3), padding=(1, 1), weight_bits=1), bits=8)
    x = graph.activation(graph.add(x, y), bits=2)
    x = graph.concat(x, graph.activation(x, "tanh", bits=8))
    x = graph.pool(graph.pool(x, "max", kernel=(2, 2), stride=(2, 2)), "avg", kernel=(3, 3), stride=(3, 3))
    graph.linear(graph.flatten(x), 5, bias=True, weight_bits=2)


def test_tensors_are_rounded_where_the_graph_says():
    network = network_of(quantised, bits=8)
    found = {
        name: (module.bits, module.signed, module.range)
        for name, module in network.named_modules()
        if isinstance(module, ActivationQuantizer)
    }
    # Not again after max pooling and flatten: they make no new values. The parts of a concat have scales of their own.
    assert found == {
        "op0_quantizer": (8, True, "tracked"),
        "op3_quantizer": (4, False, "learned"),
        "op5_quantizer": (8, True, "tracked"),
        "op7_quantizer": (2, False, "tracked"),
        "op8_quantizer": (8, True, "tracked"),
        "op9_quantizer": (8, True, "tracked"),
        "op11_quantizer": (8, True, "tracked"),
    }
    layers = (network.op1_conv, network.op4_depthwise, network.op13_linear)
    assert [layer.weight_bits for layer in layers] == [4, 1, 2]
    assert [network.op1_conv.groups, network.op4_depthwise.groups] == [2, 4]


def test_what_only_moves_values_is_rounded_when_it_narrows():
    ops = (Op("input", (), (2, 4, 4)), Op("flatten", (0,), (32,), bits=8))
    network = build(Architecture("example", {}, ops))
    assert names(network) == ["op0_input", "op1_flatten", "op1_quantizer"]


def test_the_input_is_rounded_to_its_bits():
    network = network_of(lambda graph: graph.flatten(0), bits=8)
    assert len(network(normal(9, 2, 6, 6)).unique()) <= 256
    assert len(network_of(lambda graph: graph.flatten(0))(normal(9, 2, 6, 6)).unique()) > 256


def test_eval_mode_changes_nothing_and_repeats():
    network, images = network_of(quantised, bits=8, dropout=0.5), normal(8, 2, 6, 6)
    network(images)
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = network(images), network(images)
    assert torch.equal(first, second)
    torch.testing.assert_close(network(images[:3]), first[:3])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_memory_format_does_not_change_the_network():
    images = normal(4, 2, 6, 6)
    plain = network_of(quantised, bits=8).eval()(images)
    last = network_of(quantised, bits=8).eval().to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images.contiguous(memory_format=torch.channels_last)), plain)


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second, third = (network_of(branches, seed=seed).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["op1_conv.weight"], third["op1_conv.weight"])


def test_dropout_zeroes_inputs_of_the_last_operator_with_weights_while_training():
    def two_layers(graph):
        graph.linear(graph.linear(0, 400, bias=True), 400)

    network = network_of(two_layers, shape=(3,), dropout=0.25)
    assert names(network) == ["op0_input", "op1_linear", "op2_dropout", "op2_linear"]
    with torch.no_grad():
        network.op1_linear.weight.zero_()
        network.op1_linear.bias.fill_(1.0)
        network.op2_linear.weight.copy_(torch.eye(400))
    torch.manual_seed(0)
    values = network(normal(50, 3)).unique(return_counts=True)
    assert values[0].tolist() == pytest.approx([0, 1 / 0.75])
    assert values[1][0].item() / (50 * 400) == pytest.approx(0.25, abs=0.02)
    assert network.eval()(normal(2, 3)).unique().tolist() == [1.0]


def test_bad_dropout_is_refused():
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match="expected dropout from 0 to below 1; got"):
            network_of(branches, dropout=dropout)
    with pytest.raises(ValueError, match="the network has none"):
        network_of(lambda graph: graph.activation(0), dropout=0.1)


def test_dropout_stands_before_a_convolution_that_classifies():
    def maps(graph):
        x = graph.conv(graph.activation(graph.conv(0, 4)), 3, bias=True)
        graph.flatten(graph.pool(x, "avg", kernel=(6, 6), stride=(6, 6)))

    network = network_of(maps, shape=(2, 6, 6), dropout=0.5)
    assert [name for name in names(network) if "dropout" in name] == ["op3_dropout"]


def test_a_tensor_is_let_go_after_its_last_use():
    def line(graph):
        first = graph.activation(0, "tanh")
        second = graph.activation(first, "tanh")
        graph.activation(graph.add(graph.activation(second, "tanh"), second), "tanh")

    network = network_of(line, shape=(3,))
    alive, seen = {}, {}

    def note(name):
        def hook(_module, _inputs, output):
            alive[name] = weakref.ref(output)

        return hook

    def look(name):
        def hook(_module, _inputs):
            seen[name] = {other for other, tensor in alive.items() if tensor() is not None}

        return hook

    for name, module in network.named_children():
        module.register_forward_pre_hook(look(name))
        module.register_forward_hook(note(name))
    with torch.inference_mode():
        network(normal(2, 3))
    assert seen["op3_activation"] - {"op0_input"} == {"op2_activation"}
    assert seen["op4_add"] - {"op0_input"} == {"op2_activation", "op3_activation"}
    assert seen["op5_activation"] - {"op0_input"} == {"op4_add"}


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (Op("attention", (0,), (2, 4, 4)), "no operator 'attention'; there are"),
        (Op("activation", (0,), (2, 4, 4), function="gelu"), "no activation 'gelu'; there are"),
        (Op("pool", (0,), (2, 4, 4), function="median"), "no pool 'median'; there are"),
    ],
)
def test_an_operator_without_a_module_is_refused(op, message):
    network = Architecture("example", {}, (Op("input", (), (2, 4, 4)), Op("flatten", (0,), (32,))))
    object.__setattr__(network, "ops", (network.ops[0], op))  # an Architecture refuses an unknown kind itself
    with pytest.raises(ValueError, match=message):
        build(network)


def exits(graph):
    """Exit 3 reads the first activation; exit 6 the second, and the first exit's logits."""
    x = graph.activation(graph.linear(0, 4), "tanh")
    early = graph.linear(x, 3, bias=True)
    return early, graph.linear(graph.concat(graph.activation(x, "tanh"), early), 3)


def exits_network(**settings):
    graph = GraphBuilder((5,))
    return build(graph.architecture("example", {}, exits(graph)), **settings)


def test_a_network_with_several_outputs_gives_all_of_them_in_order():
    network, records = exits_network().eval(), normal(6, 5)
    weights = dict(network.named_parameters())
    x = functional.linear(records, weights["op1_linear.weight"]).tanh()
    early = functional.linear(x, weights["op3_linear.weight"], weights["op3_linear.bias"])
    late = functional.linear(torch.cat([x.tanh(), early], dim=1), weights["op6_linear.weight"])
    answers = network(records)
    assert isinstance(answers, tuple)
    torch.testing.assert_close(answers, (early, late))


def test_an_output_that_is_not_the_last_operator():
    graph = GraphBuilder((5,))
    early, _ = exits(graph)
    network = build(graph.architecture("example", {}, (early,))).eval()
    answers = network(normal(6, 5))
    assert torch.equal(answers, exits_network().eval()(normal(6, 5))[0])


def test_dropout_stands_before_the_last_operator_with_weights_of_each_exit():
    assert [name for name in names(exits_network(dropout=0.5)) if "dropout" in name] == ["op3_dropout", "op6_dropout"]


def test_a_concat_of_few_bits_is_on_one_scale():
    def parts(bits):
        def write(graph):
            small = graph.activation(graph.conv(0, 2, bias=True), bits=bits)
            graph.concat(small, graph.activation(graph.conv(0, 3, bias=True), bits=bits), range="learned")

        return write

    network, tensors = network_of(parts(4)), []
    network.op3_conv.weight.data *= 20
    network.op5_concat.register_forward_hook(lambda _module, _inputs, output: tensors.append(output))
    values = network(normal(64, 2, 6, 6))
    assert values.unique().numel() <= 16 < tensors[0].unique().numel()
    assert network.op5_quantizer.range == "learned"
    # Signs are on one scale as they are.
    assert "op5_quantizer" not in names(network_of(parts(1)))
    assert "op5_quantizer" not in names(network_of(parts(32)))
