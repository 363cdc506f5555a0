"""Windows, strides and poolings that fit any input, and layers with their precision."""

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from search_spaces.graph.blocks import Layer
from search_spaces.graph.blocks import class_maps
from search_spaces.graph.blocks import conv_layer
from search_spaces.graph.blocks import halved
from search_spaces.graph.blocks import summand
from search_spaces.graph.blocks import vector
from search_spaces.graph.blocks import window
from search_spaces.graph.builder import GraphBuilder

LENGTHS, SIDES, STEPS = st.integers(1, 60), st.integers(1, 11), st.integers(1, 3)


@settings(derandomize=True, deadline=None)
@given(height=st.integers(2, 60), width=LENGTHS, side=SIDES, step=STEPS)
def test_a_padded_window_keeps_lengths_as_tensorflow_does(height, width, side, step):
    graph = GraphBuilder((2, height, width))
    kernel, padding = window(graph, 0, (side, side), (step, step))
    x = graph.conv(0, 3, kernel=kernel, stride=(step, step), padding=padding)
    for found, length in zip(graph.ops[x].shape[1:], (height, width), strict=True):
        longer = side % 2 == 0 and step == 1  # equal zeros on both sides are one too many
        assert found == -(-length // step) + longer


@settings(derandomize=True, deadline=None)
@given(length=LENGTHS, side=SIDES, step=STEPS)
def test_an_unpadded_window_has_zeros_only_where_too_little_would_be_left(length, side, step):
    graph = GraphBuilder((2, 1, length))
    (_, of_window), (vertical, horizontal) = window(graph, 0, (side, side), (1, step), padded=False)
    left = (length - side) // step + 1
    assert (of_window, vertical) == (side, 0)
    if left >= 2:
        assert horizontal == 0
    else:
        assert (0, horizontal) == window(graph, 0, (side, side), (1, step))[1]


def test_a_window_of_a_signal_is_one_row_high_and_as_long_as_its_first_side():
    assert window(GraphBuilder((3, 1, 40)), 0, (10, 4)) == ((1, 10), (0, 5))
    assert window(GraphBuilder((3, 2, 40)), 0, (10, 4)) == ((10, 4), (5, 2))


@pytest.mark.parametrize(
    ("shape", "side", "padded", "expected"),
    [
        ((2, 32, 32), 2, True, (16, 16)),
        ((2, 13, 7), 2, True, (7, 4)),
        ((2, 13, 7), 2, False, (6, 3)),
        ((2, 111, 55), 3, False, (55, 27)),
        ((2, 112, 56), 3, True, (56, 28)),
        ((2, 1, 24), 3, True, (1, 12)),
        ((2, 3, 8), 2, True, (3, 4)),
        ((2, 4, 4), 3, False, (2, 2)),
    ],
)
def test_a_pooling_halves_long_axes_and_leaves_short_ones(shape, side, padded, expected):
    graph = GraphBuilder(shape)
    assert graph.ops[halved(graph, 0, "max", side, padded=padded)].shape == (2, *expected)


def test_nothing_is_pooled_where_no_axis_is_long_enough():
    graph = GraphBuilder((2, 3, 1))
    assert halved(graph, 0, "max", 2) == 0
    assert len(graph.ops) == 1


def test_layers_without_a_norm_have_biases():
    for norm in (False, True):
        graph = GraphBuilder((2, 8, 8))
        conv_layer(graph, 0, 4, Layer(32, 32, norm=norm), sides=(3, 3), stride=2)
        summand(graph, graph.conv(0, 4), Layer(32, 4, norm=norm))
        assert graph.ops[1].bias != norm
        kinds = [op.kind for op in graph.ops]
        assert kinds == ["input", "conv", *["norm"] * norm, "activation", "conv", "norm" if norm else "activation"]
        # What feeds a sum keeps eight bits.
        assert (graph.ops[-1].bits, graph.ops[-1].function) == (8, "" if norm else "identity")


@pytest.mark.parametrize(
    ("weight_bits", "bits", "normed"),
    [(32, 32, False), (8, 8, False), ("bf16", 8, False), (4, 32, True), (8, 1, True), ("ternary", 32, True)],
)
def test_layers_of_few_bits_have_a_norm(weight_bits, bits, normed):
    assert Layer(weight_bits, bits, norm=False).normed_if_few_bits().norm == normed
    assert Layer(weight_bits, bits, norm=True).normed_if_few_bits().norm


def test_heads_make_vectors():
    graph = GraphBuilder((6, 13, 5))
    assert graph.ops[vector(graph, 0, "avg")].shape == graph.ops[vector(graph, 0, "max")].shape == (6,)
    assert graph.ops[vector(graph, 0, "flatten", 12)].shape == (6 * 6 * 5,)
    logits = class_maps(graph, 0, 3, 8)
    assert (graph.ops[logits].shape, graph.ops[logits].bits) == ((3,), 8)
    small = GraphBuilder((6, 1, 1))
    assert [op.kind for op in small.ops[vector(small, 0, "avg") :]] == ["flatten"]
