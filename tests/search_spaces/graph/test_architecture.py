import json
import pickle
from dataclasses import replace

import pytest

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import weights_of
from search_spaces.graph.builder import GraphBuilder


def residual():
    """Input 8 bit -> conv 3x3/2 -> norm -> relu 4 bit -> depthwise -> norm 8 bit -> add -> relu 1 bit -> pool."""
    graph = GraphBuilder((2, 6, 6), bits=8)
    x = graph.conv(0, 4, kernel=(3, 3), stride=(2, 2), padding=(1, 1), weight_bits=8)
    x = graph.activation(graph.norm(x), bits=4)
    y = graph.norm(graph.depthwise(x, kernel=(3, 3), padding=(1, 1), weight_bits=2), bits=8)
    x = graph.activation(graph.add(y, x), bits=1)
    x = graph.flatten(graph.pool(x, "max", kernel=(3, 3), stride=(3, 3)))
    graph.linear(x, 5, bias=True)
    return graph.architecture("example", {"width": 4})


def test_shapes_follow_from_the_operators():
    assert [op.shape for op in residual().ops] == [(2, 6, 6), *[(4, 3, 3)] * 7, (4, 1, 1), (4,), (5,)]
    graph = GraphBuilder((3, 9, 5))
    graph.conv(0, 6, kernel=(3, 5), stride=(2, 1), padding=(0, 2), groups=3)
    graph.concat(1, 1)
    assert [op.shape for op in graph.ops[1:]] == [(6, 4, 5), (12, 4, 5)]


def test_kernels_by_hand():
    kernels = residual().kernels
    assert [(kernel.kind, kernel.ops, kernel.inputs) for kernel in kernels] == [
        ("conv", (1, 2, 3), (0,)),
        ("depthwise", (4, 5), (3,)),
        ("add", (6, 7), (5, 3)),
        ("pool", (8,), (7,)),
        ("flatten", (9,), (8,)),
        ("linear", (10,), (9,)),
    ]
    assert [kernel.weights for kernel in kernels] == [4 * 2 * 9, 4 * 9, 0, 0, 0, 4 * 5]
    assert [kernel.macs for kernel in kernels] == [72 * 9, 36 * 9, 0, 0, 0, 20]
    assert [(kernel.weight_bits, kernel.input_bits, kernel.output_bits) for kernel in kernels] == [
        (8, 8, 4),
        (2, 4, 8),
        (32, 8, 1),
        (32, 1, 1),
        (32, 1, 1),
        (32, 1, 32),
    ]
    assert [(kernel.input_size, kernel.output_size) for kernel in kernels] == [
        (72, 36),
        (36, 36),
        (72, 36),
        (36, 4),
        (4, 4),
        (4, 5),
    ]
    assert [kernel.bias for kernel in kernels] == [True, True, False, False, False, True]


def test_a_tensor_read_twice_ends_its_kernel():
    graph = GraphBuilder((1, 4, 4))
    x = graph.conv(0, 2)
    y = graph.activation(graph.norm(x))
    graph.add(x, y)
    assert [kernel.ops for kernel in graph.architecture("example", {}).kernels] == [(1,), (2, 3), (4,)]


@pytest.mark.parametrize(
    ("kind", "groups", "shape", "expected"),
    [("conv", 2, (6, 1, 1), 6 * 2 * 15), ("depthwise", 1, (4, 1, 1), 4 * 15), ("linear", 1, (7,), 28)],
)
def test_weights_by_hand(kind, groups, shape, expected):
    assert weights_of(Op(kind, (0,), shape, kernel=(3, 5), groups=groups), in_channels=4) == expected


def test_only_operators_with_weights_have_weights():
    with pytest.raises(ValueError, match=r"one of \['conv', 'depthwise', 'linear'\]; got 'pool'"):
        weights_of(Op("pool", (0,), (1,)), 1)


def test_key_names_the_network_not_the_point():
    network = residual()
    assert Architecture("other", {}, network.ops).key == network.key
    assert Architecture("example", json.loads(json.dumps(network.params)), network.ops).key == network.key
    assert len(network.key) == 16


def test_key_is_stable_across_versions():
    # A study's records hold keys: a change here orphans them.
    graph = GraphBuilder((4,), bits=8)
    graph.linear(0, 2, bias=True, weight_bits=1)
    assert graph.architecture("example", {}).key == "f56920486e390d83"


def test_two_bits_of_weights_have_two_keys_and_ternary_keeps_the_first_one():
    def key(weight_bits):
        graph = GraphBuilder((4,), bits=8)
        graph.linear(0, 2, bias=True, weight_bits=weight_bits)
        return graph.architecture("example", {}).key

    # All two-bit weights were ternary when this key was first written.
    assert key("ternary") == "101882659fc5a2b8"
    assert key(2) != key("ternary")


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        ({"weight_bits": 8, "weight_format": "bf16"}, "'bf16'"),
        ({"format": "x"}, "'x'"),
    ],
)
def test_a_format_has_its_bits(fields, got):
    with pytest.raises(ValueError, match=f"expected formats of .* bits in operator 1 .linear.; got .*{got}"):
        Architecture("example", {}, (Op("input", (), (2,)), Op("linear", (0,), (2,), **fields)))


def test_tensors_are_not_ternary():
    with pytest.raises(ValueError, match=r"in one of \[32, .*, 1\]; operator 1 .linear. writes 'ternary'"):
        Architecture("example", {}, (Op("input", (), (2,)), Op("linear", (0,), (2,), bits=2, format="ternary")))


@pytest.mark.parametrize("field", [name for name in Op._fields if name not in ("kind", "inputs")])
def test_every_field_of_an_operator_changes_the_key(field):
    changed = {
        "shape": (3,),
        "bias": True,
        "function": "x",
        "range": "learned",
        "groups": 2,
        "weight_bits": 8,
        "bits": 8,
        "sparsity": 0.5,
        "weight_format": "fp16",
        "format": "fp16",
    }
    value = changed.get(field, (7, 7))
    common = {"shape": (2,)}
    if field.endswith("format"):  # sixteen bits of the one format or the other
        common |= {"weight_bits": 16, "weight_format": "bf16", "bits": 16, "format": "bf16"}
    ops = (Op("input", (), (2,)), Op("linear", (0,), **common))
    other = (ops[0], Op("linear", (0,), **(common | {field: value})))
    assert Architecture("example", {}, ops).key != Architecture("example", {}, other).key


def two_exits(outputs=(3, 5)):
    """Input -> linear -> relu; a linear exit (3); relu -> relu -> a linear exit (5)."""
    graph = GraphBuilder((4,), bits=8)
    x = graph.activation(graph.linear(0, 4, weight_bits=8), bits=8)
    graph.linear(x, 3, weight_bits=8)
    graph.linear(graph.activation(x, "tanh", bits=8), 3, weight_bits=8)
    return graph.architecture("example", {}, outputs)


def test_the_last_operator_is_the_output_unless_others_are_named():
    network = two_exits(None)
    assert (network.outputs, two_exits((5,)).outputs, two_exits((5, 3)).outputs) == ((5,), (5,), (3, 5))
    assert network == two_exits((5,))
    assert network.key == two_exits((5,)).key
    assert len({two_exits(outputs).key for outputs in ((5,), (3,), (3, 5))}) == 3
    assert two_exits().num_classes == 3


def test_outputs_stay_when_bits_change():
    network = two_exits()
    assert network.as_float().outputs == network.without_float(8).outputs == (3, 5)
    assert network.with_ops(network.ops[:4], (3,)).outputs == (3,)


@pytest.mark.parametrize("outputs", [(6,), (-1,), (3, 3), (5, 3)])
def test_outputs_that_are_no_ascending_operators_are_refused(outputs):
    ops = two_exits().ops
    with pytest.raises(ValueError, match="expected ascending indices of 6 operators as outputs; got"):
        Architecture("example", {}, ops, outputs)


def test_exits_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"expected outputs of one shape, .*; got \[\(4,\), \(3,\)\]"):
        two_exits((2, 5))


def test_a_norm_is_not_folded_into_an_output():
    graph = GraphBuilder((4,))
    x = graph.linear(0, 3)
    y = graph.norm(x)
    folded, apart = (graph.architecture("example", {}, outputs) for outputs in (None, (x, y)))
    assert [kernel.ops for kernel in folded.kernels] == [(1, 2)]
    assert [kernel.ops for kernel in apart.kernels] == [(1,), (2,)]


def test_an_exit_that_no_operator_reads_is_not_dead():
    assert not two_exits().has_dead_ops
    assert two_exits((5,)).has_dead_ops


def test_a_sparsity_changes_the_key_and_reaches_the_kernel():
    def network(**settings):
        graph = GraphBuilder((2, 4, 4))
        x = graph.depthwise(graph.conv(0, 4, **settings), kernel=(3, 3), **settings)
        graph.linear(graph.flatten(x), 3, **settings)
        return graph.architecture("example", {})

    dense, sparse = network(), network(sparsity=0.75)
    assert (dense.key, network(sparsity=0.0).key) == ("cde5c97c6a2f21e3",) * 2
    assert len({network(sparsity=share).key for share in (0.0, 0.5, 0.75)}) == 3
    assert [kernel.sparsity for kernel in sparse.kernels] == [0.75, 0.75, 0.0, 0.75]
    assert [kernel.weights for kernel in sparse.kernels] == [kernel.weights for kernel in dense.kernels]
    assert sparse.as_float().key == sparse.key


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(sparsity):
    graph = GraphBuilder((4,))
    graph.linear(0, 3, sparsity=sparsity)
    with pytest.raises(ValueError, match=r"expected a sparsity from 0 to below 1, .*; operator 1 \(linear\) has"):
        graph.architecture("example", {})
    with pytest.raises(ValueError, match=r"operator 1 \(norm\) has 0.5"):
        Architecture("example", {}, (Op("input", (), (1,)), Op("norm", (0,), (1,), sparsity=0.5)))


def test_a_range_that_nothing_uses_leaves_no_trace():
    def network(bits, range):
        graph = GraphBuilder((4,))
        graph.activation(graph.norm(0, bits=bits, range=range), bits=bits, range=range)
        return graph.architecture("example", {}).key

    for bits in (32, 1):
        assert network(bits, "learned") == network(bits, "tracked")
    assert network(8, "learned") != network(8, "tracked")


def test_an_average_keeps_eight_bits_and_a_maximum_its_input():
    graph = GraphBuilder((2, 4, 4))
    one, four, whole = graph.activation(0, bits=1), graph.activation(0, bits=4), graph.activation(0)
    bits = [
        [graph.ops[graph.pool(x, function, kernel=(2, 2), stride=(2, 2))].bits for x in (one, four, whole)]
        for function in ("max", "avg")
    ]
    assert bits == [[1, 4, 32], [8, 8, 32]]


def test_one_bit_means_sign_and_its_float_twin_relu():
    network = residual()
    assert network.ops[7].function == "sign"
    twin = network.as_float()
    assert {op.bits for op in twin.ops} == {op.weight_bits for op in twin.ops} == {32}
    assert twin.ops[7].function == "relu"
    assert [op.shape for op in twin.ops] == [op.shape for op in network.ops]


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ((), "expected the first operator to be 'input'"),
        ((Op("conv", (), (1, 1, 1)),), "expected the first operator to be 'input'"),
        ((Op("input", (), (1,)), Op("attention", (0,), (1,))), "no operator 'attention'; there are"),
        ((Op("input", (), (1,)), Op("norm", (1,), (1,))), r"expected operator 1 \(norm\) to read earlier ones; got"),
        ((Op("input", (), (1,)), Op("norm", (), (1,))), r"expected operator 1 \(norm\) to read earlier ones; got"),
    ],
)
def test_a_broken_graph_is_refused(ops, message):
    with pytest.raises(ValueError, match=message):
        Architecture("example", {}, ops)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda graph: graph.linear(0, 2), "expected a vector before 'linear'"),
        (lambda graph: graph.conv(0, 2, kernel=(9, 1)), "does not fit"),
        (lambda graph: graph.conv(graph.flatten(0), 2), "expected an image"),
        (lambda graph: graph.add(0, graph.conv(0, 5)), "expected equal shapes for 'add'"),
        (lambda graph: graph.concat(0, graph.conv(0, 5, kernel=(2, 1))), "expected equal heights and widths"),
    ],
)
def test_operators_that_do_not_fit_are_refused(write, message):
    with pytest.raises(ValueError, match=message):
        write(GraphBuilder((2, 4, 4)))


def test_a_copy_holds_what_describes_a_network_and_nothing_that_was_found_from_it():
    network = GraphBuilder((4,)).architecture("example", {"width": 4})
    assert network.kernels == ()
    network.shared["metric"] = ("device", 1.0)
    copy = pickle.loads(pickle.dumps(network))
    assert copy == network
    assert set(vars(copy)) == {"space", "params", "ops", "outputs", "exit_threshold"}


def test_a_rewired_network_is_the_one_that_would_be_checked():
    network = two_exits()
    assert network.rewired(network.ops[:4], (3,)) == network.with_ops(network.ops[:4], (3,))
    surer = replace(network, exit_threshold=0.9)
    assert surer.rewired(surer.ops, surer.outputs) == surer
    assert surer.rewired(surer.ops[:4], (3,)).exit_threshold == 0  # a single output decides nothing


def test_operators_written_again_are_those_written_twice():
    def block(graph, source):
        x = graph.activation(graph.norm(graph.conv(source, 4, kernel=(3, 3), padding=(1, 1))))
        return graph.add(graph.add(x, graph.zero(source)), source)

    copied, written = GraphBuilder((4, 6, 6)), GraphBuilder((4, 6, 6))
    first = block(copied, 0)
    second = copied.again(1, 0)
    third = copied.again(first + 1, first)
    x = 0
    for _ in range(3):
        x = block(written, x)
    assert copied.ops == written.ops
    assert (second, third) == (2 * first, x)
