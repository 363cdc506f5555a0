import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from search_spaces.compressions import sparsity
from search_spaces.graph.builder import GraphBuilder


def network():
    graph = GraphBuilder((4, 8, 8))
    x = graph.conv(0, 8, kernel=(3, 3), padding=(1, 1))
    x = graph.depthwise(x, kernel=(3, 3), padding=(1, 1))
    x = graph.conv(x, 16, weight_bits=1)
    graph.linear(graph.flatten(x), 10, weight_bits=2)
    return graph.architecture("example", {})


def zeros(architecture):
    return [op.sparsity for op in architecture.ops if op.kind in ("conv", "depthwise", "linear")]


def test_depthwise_and_one_bit_layers_stay_dense():
    assert zeros(sparsity.compress(network(), 0.5, "unstructured", "uniform")) == [0.5, 0.0, 0.0, 0.5]


def test_groups_lie_along_the_input_channels():
    graph = GraphBuilder((6, 8, 8))
    x = graph.conv(0, 8, kernel=(2, 2))  # six input channels are no groups of four
    graph.conv(x, 8)
    found = sparsity.compress(graph.architecture("example", {}), 0.9, "1:4", "uniform")
    assert [(op.sparsity, op.pattern) for op in found.ops] == [(0.0, ""), (0.0, ""), (0.75, "1:4")]


def test_erk_by_hand():
    # Layers of 2 x 2 and 8 x 8: raw densities 4/4 and 16/64. Of 68 weights 34 are to stay: scale (4 * 1 + 64 / 4) =
    # 20, 34 / 20 = 1.7 would give the first more than all. It stays dense, and the other has 30 of 64.
    assert sparsity.erk({1: (2, 2), 2: (8, 8)}, 0.5) == {1: 1.0, 2: pytest.approx(30 / 64)}


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 5)), min_size=1, max_size=6),
    density=st.floats(0.05, 1),
)
def test_erk_keeps_the_density_of_all_weights(shapes, density):
    sizes = dict(enumerate(shapes))
    found = sparsity.erk(sizes, density)
    weights = {index: a * b * c for index, (a, b, c) in sizes.items()}
    assert all(0 <= share <= 1 for share in found.values())
    kept = sum(found[index] * weights[index] for index in sizes)
    assert kept == pytest.approx(density * sum(weights.values()), rel=1e-6)
