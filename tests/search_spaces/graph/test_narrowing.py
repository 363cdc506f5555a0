from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.narrowing import channels_of
from search_spaces.graph.narrowing import narrowed
from search_spaces.graph.narrowing import widened


def shapes(architecture):
    return [op.shape for op in architecture.ops]


def branches():
    """A stem, a residual depthwise block, two branches behind each other, and a grouped convolution."""
    graph = GraphBuilder((3, 4, 4))
    stem = graph.activation(graph.norm(graph.conv(0, 8)))
    block = graph.add(stem, graph.conv(graph.depthwise(stem, kernel=(3, 3), padding=(1, 1)), 8))
    both = graph.concat(block, graph.conv(stem, 4))
    last = graph.conv(both, 12, groups=4)
    graph.linear(graph.flatten(last), 5)
    return graph.architecture("example", {})


def test_what_is_added_or_filtered_alone_loses_the_same_channels():
    found = channels_of(branches())
    stem, depthwise, added = found.layouts[1], found.layouts[4], found.layouts[6]
    assert stem == depthwise == added == found.layouts[5]


def test_half_of_the_channels_by_hand():
    graph = GraphBuilder((3, 4, 4))
    stem = graph.norm(graph.conv(0, 8))
    x = graph.concat(stem, graph.conv(stem, 6))
    graph.linear(graph.flatten(x), 5)
    network = narrowed(graph.architecture("example", {}), 0.5)
    assert shapes(network) == [(3, 4, 4), (4, 4, 4), (4, 4, 4), (3, 4, 4), (7, 4, 4), (112,), (5,)]
    assert [op.pruned_from for op in network.ops] == [0, 8, 8, 6, 14, 224, 0]
    assert widened(network) == graph.architecture("example", {})


def test_what_a_grouped_convolution_reads_and_writes_stays():
    network = narrowed(branches(), 0.25)
    # The groups of the last convolution read stem and branch, so nothing of it all can go.
    assert shapes(network) == shapes(branches())


def test_a_sum_of_tensors_that_are_cut_up_differently_stays():
    graph = GraphBuilder((3, 4, 4))
    two = graph.concat(graph.conv(0, 2), graph.conv(0, 6))
    graph.linear(graph.flatten(graph.add(two, graph.conv(0, 8))), 5)
    network = graph.architecture("example", {})
    assert narrowed(network, 0.5) == network


def test_one_channel_is_left():
    graph = GraphBuilder((3, 4, 4))
    graph.linear(graph.flatten(graph.conv(0, 2)), 5)
    assert shapes(narrowed(graph.architecture("example", {}), 0.01))[1] == (1, 4, 4)
