"""Networks as an engine in integers runs them: what is rounded, and that nothing else about them changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.devices.device import deployed
from estimators.devices.files import load_device
from nas.base import plugins
from nas.spaces import as_run
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.integers import in_integers
from search_spaces.graph.integers import stays_float

SHAPES = {"mlp": (12,), "conv": (3, 8, 8), "nb201": (3, 32, 32)}


def graph_of(write, bits=32):
    graph = GraphBuilder((2, 6, 6), bits=bits)
    write(graph)
    return graph.architecture("example", {})


def test_what_an_engine_fuses_is_rounded_once():
    def write(graph):
        x = graph.activation(graph.norm(graph.conv(0, 3)), "relu")  # 1 conv, 2 norm, 3 activation: one kernel
        x = graph.activation(graph.norm(graph.conv(x, 3)), "hardswish")  # 4, 5, 6: no engine fuses this activation
        graph.linear(graph.flatten(x), 4)  # 7 flatten, 8 linear: the logits

    network = graph_of(write)
    assert stays_float(network) == {1, 2, 4, 8}
    found = in_integers(network, 8)
    assert [op.bits for op in found.ops] == [8, 32, 32, 8, 32, 8, 8, 8, 32]
    assert [op.weight_bits for op in found.ops if op.kind in ("conv", "linear")] == [8, 8, 8]


def test_what_is_in_fewer_bits_stays_so():
    def write(graph):
        x = graph.activation(graph.norm(graph.conv(0, 3, weight_bits=2)), "sign", bits=1)
        graph.linear(graph.flatten(graph.activation(graph.norm(graph.conv(x, 3)), bits=4)), 4)

    found = in_integers(graph_of(write, bits=16), 8)
    assert [op.weight_bits for op in found.ops if op.kind in ("conv", "linear")] == [2, 8, 8]
    assert [op.bits for op in found.ops] == [16, 32, 32, 1, 32, 32, 4, 4, 32]
    assert found.ops[7].kind == "flatten"


@pytest.mark.parametrize("name", sorted(SHAPES))
@settings(max_examples=8, derandomize=True, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_converter_makes_the_same_of_it(name, seed):
    device = load_device("host_int8")
    space = plugins.load("search_spaces", name, "make_space")(SHAPES[name], 10)
    params = sample(space.distributions, np.random.default_rng(seed))
    for network in (space.decode(params), space.decode(params).as_float()):
        found = in_integers(network, 8)
        assert deployed(found, device).ops == deployed(network, device).ops
        assert in_integers(found, 8) is found
        weights = [op.weight_bits for op in found.ops if op.kind in ("conv", "depthwise", "linear")]
        assert max(weights, default=8) <= 8
        assert as_run(space, 8).decode(params).key == in_integers(space.decode(params), 8).key


def test_keys_of_spaces_for_other_devices_are_what_they_were():
    space = space_named("conv", (3, 8, 8), 10)
    assert as_run(space, None) is space
    assert as_run(space, 8).decode(space.reference).key != space.decode(space.reference).key
    assert as_run(space, 8).distributions == space.distributions


def test_sixteen_bits_of_float_are_float():
    def write(graph):
        graph.linear(graph.flatten(graph.activation(graph.conv(0, 3, weight_bits="bf16"), bits="fp16")), 4)

    found = in_integers(graph_of(write, bits="fp16"), 8)
    assert [(op.bits, op.weight_bits) for op in found.ops if op.kind in ("input", "conv")] == [(8, 32), (32, 8)]
    assert {op.format + op.weight_format for op in found.ops} == {""}


def test_widths_that_cannot_be_trained_are_refused_and_wide_ones_stay_in_float():
    space = space_named("mlp", (8,), 3)
    assert as_run(space, 16) is as_run(space, 32) is space
    with pytest.raises(ValueError, match=r"^expected a device that gives one of \[8, 4, 3, 2, 1\] bits to .*; got 5$"):
        as_run(space, 5)
