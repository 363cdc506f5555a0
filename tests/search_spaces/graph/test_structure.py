"""Isomorphic graphs share a structure; different ones do not."""

import itertools

import numpy as np

from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.pruning import prune
from search_spaces.graph.structure import structure_of
from search_spaces.nb201 import NAMES
from search_spaces.nb201 import OPERATORS
from search_spaces.nb201 import make_space

SPACE = make_space((3, 8, 8), 10)


def structure(*edges):
    """Return the structure of the cell with the edges 01, 02, 12, 03, 13, 23 as it runs."""
    return structure_of(prune(SPACE.decode(dict(zip(NAMES, edges, strict=True)))))


def test_nodes_that_change_places_change_nothing():
    draws = np.random.default_rng(0)
    for _ in range(40):
        one, two, direct, first, second = (str(op) for op in draws.choice(OPERATORS[1:], 5))
        # No edge between nodes 1 and 2: they may swap, and so the sums are written in another order.
        assert structure(one, two, "none", direct, first, second) == structure(two, one, "none", direct, second, first)


def test_different_cells_differ():
    kinds = ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    cells = [structure(*edges, "nor_conv_3x3", "none", "none") for edges in itertools.product(kinds, repeat=3)]
    assert len(set(cells)) == 3  # 0-2 and 1-2 make a dead sum; 0-1 is a convolution times zero, or a dead pooling
    cells = [structure(*edges, "none", "none", "nor_conv_3x3") for edges in itertools.product(kinds, repeat=3)]
    assert len(set(cells)) == 27


def test_one_number_more_is_another_network():
    def network(bits, stride):
        graph = GraphBuilder((4, 8, 8))
        graph.conv(0, 4, stride=(stride, stride), weight_bits=bits)
        return structure_of(graph.architecture("example", {}))

    assert len({network(8, 1), network(4, 1), network(8, 2), network(8, 1)}) == 3


def test_a_tensor_computed_twice_is_not_one_computed_once():
    def network(*, shared):
        graph = GraphBuilder((4, 8, 8))
        x = graph.conv(0, 4)
        graph.add(graph.activation(x), graph.norm(x if shared else graph.conv(0, 4)))
        return structure_of(graph.architecture("example", {}))

    assert network(shared=True) != network(shared=False)


def test_outputs_and_sparsity_make_another_network():
    def network(outputs, sparsity=0.0):
        graph = GraphBuilder((4,))
        graph.linear(0, 2, sparsity=sparsity)
        graph.linear(graph.activation(0), 2)
        return structure_of(graph.architecture("example", {}, outputs))

    assert network(None) == network((3,))
    assert len({network((3,)), network((1,)), network((1, 3)), network((3,), sparsity=0.5)}) == 4


def test_exits_listed_in_another_place_are_the_same_network():
    def network(early_first):
        graph = GraphBuilder((4,))
        early = graph.linear(0, 2) if early_first else None
        hidden = graph.activation(graph.linear(0, 8))
        early = graph.linear(0, 2) if early is None else early
        return structure_of(graph.architecture("example", {}, (early, graph.linear(hidden, 2))))

    assert network(early_first=True) == network(early_first=False)
