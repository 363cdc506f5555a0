"""Features of networks, by hand and over every space."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.base import plugins
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.features import features


def residual():
    """A 3 x 3 convolution past which a 1 x 1 one leads, then a pooling and a linear layer."""
    graph = GraphBuilder((4, 8, 8))
    main = graph.conv(graph.activation(0), 4, kernel=(3, 3), padding=(1, 1))
    both = graph.add(graph.conv(main, 4), graph.conv(0, 4))
    graph.linear(graph.flatten(graph.pool(both, "avg", kernel=(8, 8), stride=(8, 8))), 2)
    return graph.architecture("example", {})


def test_paths_by_hand():
    found = features(residual())
    # Through both convolutions: 3 x 3, 1 x 1, linear; past them: 1 x 1, linear. Each passes the pooling.
    assert found["longest path"] == {"windows": 1, "products": 2, "pools": 1, "layers": 3}
    assert found["shortest path"] == {"windows": 0, "products": 2, "pools": 1, "layers": 2}
    assert found["mean path"] == {"windows": 0.5, "products": 2, "pools": 1, "layers": 2.5}
    assert found["paths"] == pytest.approx({"number": math.log(2), "spread": 0.5})


def test_sizes_and_operators_by_hand():
    found = features(residual())
    macs = 64 * 4 * 4 * 9 + 2 * 64 * 4 * 4 + 4 * 2
    assert found["sizes"]["macs"] == pytest.approx(math.log1p(macs))
    assert found["sizes"]["weights"] == pytest.approx(math.log1p(4 * 4 * 9 + 2 * 4 * 4 + 8))
    assert found["operators"]["pointwise 1x1"] == pytest.approx(math.log(3))
    assert found["operators"]["conv 3x3"] == pytest.approx(math.log(2))
    assert found["precision"] == {"weights 32": 1.0, "32": 1.0}


def test_dead_operators_change_nothing():
    space = space_named("nb201")
    alive = {"edge_0_1": "none", "edge_0_2": "none", "edge_0_3": "nor_conv_3x3", "edge_1_2": "none"}
    cell = {**alive, "edge_1_3": "none", "edge_2_3": "none"}
    other = features(space.decode({**cell, "edge_1_2": "skip_connect"}))
    assert features(space.decode(cell)) == other


@pytest.mark.parametrize("name", plugins.available("search_spaces", "make_space"))
def test_features_of_every_space_are_numbers_and_tell_networks_apart(name):
    space, rng = space_named(name), np.random.default_rng(3)
    networks = [space.describe(sample(space.distributions, rng)) for _ in range(12)]
    found = [features(network) for network in networks]
    assert all(math.isfinite(value) for one in found for group in one.values() for value in group.values())
    assert len({str(one) for one in found}) >= len({network.key for network in networks}) - 2
    assert len({tuple(one) for one in found}) == 1  # the same groups
