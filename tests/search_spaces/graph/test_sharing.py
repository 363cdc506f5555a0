"""Which part of a shared tensor a network takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.sharing import Share
from search_spaces.graph.sharing import is_covered
from search_spaces.graph.sharing import part_of
from search_spaces.graph.sharing import shares_of
from search_spaces.graph.sharing import together


def network(width, side):
    graph = GraphBuilder((2, 8, 8))
    x = graph.norm(graph.conv(0, width, kernel=(side, side), padding=(side // 2, side // 2)))
    x = graph.norm(graph.depthwise(x, kernel=(side, 1), padding=(side // 2, 0)))
    graph.linear(graph.flatten(graph.pool(x, "avg", kernel=(8, 8), stride=(8, 8))), 3, bias=True)
    return graph.architecture("example", {})


def names(_network):
    return ("one", "two", "three")


def test_a_network_takes_the_weights_of_its_layers_and_norms():
    assert shares_of(network(5, 3), names) == {
        "op1_conv.weight": Share("one.weight", (5, 2, 3, 3)),
        "op2_norm.weight": Share("one.norm.weight", (5,)),
        "op2_norm.bias": Share("one.norm.bias", (5,)),
        "op3_depthwise.weight": Share("two.weight", (5, 1, 3, 1)),
        "op4_norm.weight": Share("two.norm.weight", (5,)),
        "op4_norm.bias": Share("two.norm.bias", (5,)),
        "op7_linear.weight": Share("three.weight", (3, 5)),
        "op7_linear.bias": Share("three.bias", (3,)),
    }


def test_a_layer_without_a_name_is_refused():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        shares_of(network(5, 3), lambda _network: ("one",))


def test_a_part_is_the_first_channels_and_the_middle_of_the_window():
    whole = np.arange(4 * 3 * 5 * 7).reshape(4, 3, 5, 7)
    assert np.array_equal(whole[part_of(whole.shape, (2, 3, 3, 3))], whole[:2, :, 1:4, 2:5])
    assert np.array_equal(whole[part_of(whole.shape, (4, 1, 1, 7))], whole[:, :1, 2:3, :])


def test_tensors_that_serve_several_networks_are_as_large_as_the_largest_part_of_each():
    wide, large = (shares_of(one, names) for one in (network(9, 1), network(4, 7)))
    shapes = together([wide, large])
    assert shapes["one.weight"] == (9, 2, 7, 7)
    assert shapes["three.weight"] == (3, 9)
    assert is_covered(wide, shapes)
    assert is_covered(shares_of(network(9, 7), names), shapes)
    assert not is_covered(shares_of(network(10, 3), names), shapes)
    assert not is_covered(shares_of(network(4, 3), lambda _network: ("one", "two", "another")), shapes)


@given(st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=4))
def test_what_was_put_together_covers_each_and_no_axis_can_be_shorter(parts):
    networks = [{"own": Share(f"axes{len(part)}", tuple(part))} for part in parts]
    shapes = together(networks)
    assert all(is_covered(one, shapes) for one in networks)
    for name, shape in shapes.items():
        for axis in range(len(shape)):
            shorter = {**shapes, name: (*shape[:axis], shape[axis] - 1, *shape[axis + 1 :])}
            assert not all(is_covered(one, shorter) for one in networks)
