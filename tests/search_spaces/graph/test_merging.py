"""An engine computes once what a graph has twice."""

from __future__ import annotations

from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.merging import merge
from search_spaces.nb201 import make_space
from search_spaces.nb201 import parse


def test_what_was_merged_is_read_by_all_its_readers():
    graph = GraphBuilder((4, 8, 8))
    pools = [graph.pool(0, "avg", kernel=(3, 3), stride=(1, 1), padding=(1, 1)) for _ in range(2)]
    other = graph.pool(0, "max", kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    graph.linear(graph.flatten(graph.add(graph.add(*pools), other)), 2)
    merged = merge(graph.architecture("test", {}))
    assert [op.kind for op in merged.ops] == ["input", "pool", "pool", "add", "add", "flatten", "linear"]
    assert (merged.ops[3].inputs, merged.ops[4].inputs) == ((1, 1), (3, 2))


def test_what_reads_merged_operators_may_be_merged_itself():
    graph = GraphBuilder((4, 8, 8))
    twice = [graph.pool(graph.activation(0), "avg", kernel=(2, 2), stride=(2, 2)) for _ in range(2)]
    graph.linear(graph.flatten(graph.add(*twice)), 2)
    merged = merge(graph.architecture("test", {}))
    assert [op.kind for op in merged.ops] == ["input", "activation", "pool", "add", "flatten", "linear"]


def test_operators_with_weights_of_their_own_are_never_the_same():
    graph = GraphBuilder((4, 8, 8))
    parts = [graph.norm(graph.conv(0, 4)) for _ in range(2)] + [graph.norm(0), graph.norm(0)]
    graph.linear(graph.flatten(graph.concat(*parts)), 2)
    network = graph.architecture("test", {})
    assert merge(network) is network


def test_zeros_of_one_tensor_are_one():
    space = make_space((3, 32, 32), 10)
    cell = "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    merged = merge(space.decode(parse(cell)))
    kinds = [op.kind for op in merged.ops]
    # In each of fifteen cells three zeros, two of node 0 and one of node 1, which is node 0.
    assert kinds.count("zero") == 15


def test_outputs_follow_the_operators_they_are_merged_into():
    graph = GraphBuilder((4, 8, 8))
    pools = [graph.pool(0, "avg", kernel=(8, 8), stride=(8, 8)) for _ in range(2)]
    logits = [graph.linear(graph.flatten(pool), 2) for pool in pools]
    merged = merge(graph.architecture("test", {}, outputs=logits))
    assert [op.kind for op in merged.ops] == ["input", "pool", "flatten", "linear", "linear"]
    assert merged.outputs == (3, 4)
    same = merge(graph.architecture("test", {}, outputs=pools))
    assert same.outputs == (1,)
