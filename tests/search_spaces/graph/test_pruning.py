"""Which operators of a graph an engine leaves out."""

import pickle

import pytest

from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.pruning import is_constant
from search_spaces.graph.pruning import prune
from search_spaces.nb201 import NAMES
from search_spaces.nb201 import make_space

SPACE = make_space((3, 32, 32), 10)
OPS = {"-": "none", "s": "skip_connect", "1": "nor_conv_1x1", "3": "nor_conv_3x3", "p": "avg_pool_3x3"}


def cell(text):
    """Write a cell by its edges 01, 02, 12, 03, 13, 23."""
    return SPACE.decode(dict(zip(NAMES, [OPS[letter] for letter in text], strict=True)))


def runs(text):
    """Return how many 3x3 convolutions, 1x1 convolutions and poolings of one cell run."""
    whole, fixed = prune(cell(text)), prune(cell("---s--"))
    kinds = [[kernel.kind for kernel in network.kernels] for network in (whole, fixed)]
    counts = [[kinds[i].count(kind) for kind in ("conv", "pointwise", "pool")] for i in (0, 1)]
    return [(whole - rest) // 15 for whole, rest in zip(*counts, strict=True)]


# What regression on measured latencies says (raspi4 of HW-NAS-Bench): time of each operator, by pattern of empty edges.
@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ("333333", [6, 0, 0]),
        ("---3--", [1, 0, 0]),
        ("33313-", [2, 1, 0]),  # node 2 is a sum nobody reads: its edges are dead, 0-1 is still needed by 1-3
        ("31133-", [3, 0, 0]),  # the same with a shortcut in the sum
        ("3-133-", [3, 1, 0]),  # node 2 is a single convolution times zero: it runs
        ("3-1s--", [1, 1, 0]),  # a chain of convolutions times zero runs as a whole
        ("-p-3--", [1, 0, 0]),  # a pooling times zero does not run
        ("--33--", [2, 0, 0]),  # node 1 is zeros, which the dead convolution 1-2 reads
        ("-3333-", [2, 0, 0]),  # node 2 is a dead sum; 1-3 convolves zeros, and runs
        ("1--s-3", [1, 1, 0]),  # 0-1 is multiplied by zero, 2-3 convolves zeros
    ],
)
def test_operators_that_run(edges, expected):
    assert runs(edges) == expected


def test_a_network_that_ignores_its_input_is_a_constant():
    for edges in ("------", "--3---", "----33", "333---"):
        network = prune(cell(edges))
        assert [op.kind for op in network.ops] == ["input", "zero"]
        assert network.num_classes == 10


def test_a_network_without_dead_operators_is_itself():
    network = cell("s1p3s1")
    assert prune(network) is network


def test_a_result_that_nobody_reads_is_left_out_whole():
    graph = GraphBuilder((3, 8, 8))
    x = graph.activation(graph.norm(graph.conv(0, 8)))
    graph.activation(graph.conv(graph.conv(x, 8), 8))
    graph.linear(graph.flatten(x), 4)
    network = prune(graph.architecture("example", {}))
    assert [op.kind for op in network.ops] == ["input", "conv", "norm", "activation", "flatten", "linear"]
    assert network.input_shape == (3, 8, 8)


def test_sums_with_zeros_are_their_other_part():
    graph = GraphBuilder((4, 8, 8))
    left, right = graph.conv(0, 4), graph.zero(0)
    total = graph.add(graph.add(right, left), graph.zero(left))
    graph.linear(graph.flatten(total), 2)
    network = prune(graph.architecture("example", {}))
    assert [(op.kind, op.inputs) for op in network.ops] == [
        ("input", ()),
        ("conv", (0,)),
        ("flatten", (1,)),
        ("linear", (2,)),
    ]


def test_every_exit_is_needed():
    graph = GraphBuilder((4,))
    graph.activation(0)
    early = graph.linear(0, 2)
    graph.zero(0)
    late = graph.linear(graph.linear(0, 4), 2)
    network = prune(graph.architecture("example", {}, outputs=(early, late)))
    assert [op.kind for op in network.ops] == ["input", "linear", "linear", "linear"]
    assert network.outputs == (1, 3)
    assert network.ops[3].inputs == (2,)


def test_an_exit_that_ignores_the_input_is_a_constant_beside_one_that_does_not():
    graph = GraphBuilder((4,))
    early = graph.linear(graph.zero(0), 2, bias=True)
    late = graph.linear(0, 2)
    network = graph.architecture("example", {}, outputs=(early, late))
    assert not is_constant(network)
    assert is_constant(graph.architecture("example", {}, outputs=(early,)))
    pruned = prune(network)
    assert [(op.kind, op.inputs, op.bias) for op in pruned.ops[1:]] == [("zero", (0,), False), ("linear", (0,), False)]
    assert pruned.outputs == (1, 2)


def test_exits_that_are_one_tensor_are_one():
    graph = GraphBuilder((4,))
    early = graph.linear(0, 2)
    late = graph.add(early, graph.zero(early))
    pruned = prune(graph.architecture("example", {}, outputs=(early, late)))
    assert ([op.kind for op in pruned.ops], pruned.outputs) == (["input", "linear"], (1,))


def test_what_runs_for_an_output_that_is_a_sum_with_zeros_may_read_it():
    graph = GraphBuilder((4,))
    x = graph.linear(0, 4)
    graph.add(x, graph.zero(graph.linear(x, 4)))
    network = prune(graph.architecture("example", {}))
    assert [(op.kind, op.inputs) for op in network.ops[1:]] == [("linear", (0,)), ("linear", (1,))]
    assert network.outputs == (1,)


def test_a_network_is_pruned_once_and_copies_are_pruned_anew():
    graph = GraphBuilder((8,))
    graph.linear(graph.add(graph.linear(0, 8), graph.zero(0)), 2)
    network = graph.architecture("example", {})
    pruned = prune(network)
    assert prune(network) is pruned
    again = pickle.loads(pickle.dumps(network))
    assert prune(again) == pruned
    assert prune(again) is not pruned
