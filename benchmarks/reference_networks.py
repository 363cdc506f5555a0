"""The four reference networks of MLPerf Tiny (Banbury et al., 2021) as int8 graphs."""

from __future__ import annotations

from search_spaces.graph import Architecture
from search_spaces.graph import GraphBuilder
from search_spaces.graph import Pair

BITS = 8


def anomaly_detection() -> Architecture:
    """The autoencoder of the `ad` task: 640 to 640 features through a bottleneck of 8."""
    graph = GraphBuilder((640,), bits=BITS)
    x = 0
    for features in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = graph.linear(x, features, weight_bits=BITS)
        x = graph.activation(graph.norm(x), bits=BITS)
    graph.linear(x, 640, bias=True, weight_bits=BITS)
    return graph.architecture("mlperf_tiny", {"task": "ad"})


def image_classification() -> Architecture:
    """The ResNet-8 of the `ic` task, on 32x32 colour images."""
    graph = GraphBuilder((3, 32, 32), bits=BITS)
    x = _conv(graph, 0, 16)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        main = _conv(graph, _conv(graph, x, channels, (stride, stride)), channels, activation=False)
        if stride != 1:
            shortcut = graph.conv(x, channels, stride=(stride, stride), bias=True, weight_bits=BITS)
            x = graph.activation(shortcut, "identity", bits=BITS)
        x = graph.activation(graph.add(main, x), bits=BITS)
    _head(graph, graph.pool(x, "avg", kernel=(8, 8), stride=(8, 8)), 10)
    return graph.architecture("mlperf_tiny", {"task": "ic"})


def keyword_spotting() -> Architecture:
    """The depthwise-separable network of the `kws` task, on 49x10 spectrograms."""
    graph = GraphBuilder((1, 49, 10), bits=BITS)
    x = graph.conv(0, 64, kernel=(10, 4), stride=(2, 2), padding=(5, 1), weight_bits=BITS)
    x = graph.activation(graph.norm(x), bits=BITS)
    for _ in range(4):
        x = _separable(graph, x, 64)
    _head(graph, graph.pool(x, "avg", kernel=(25, 5), stride=(25, 5)), 12)
    return graph.architecture("mlperf_tiny", {"task": "kws"})


def visual_wake_words() -> Architecture:
    """The MobileNet v1, a quarter wide, of the `vww` task, on 96x96 colour images."""
    graph = GraphBuilder((3, 96, 96), bits=BITS)
    x = _conv(graph, 0, 8, (2, 2))
    plan = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
    for channels, stride in plan:
        x = _separable(graph, x, channels, (stride, stride))
    _head(graph, graph.pool(x, "avg", kernel=(3, 3), stride=(3, 3)), 2)
    return graph.architecture("mlperf_tiny", {"task": "vww"})


REFERENCE_NETWORKS = {
    "ad": anomaly_detection,
    "ic": image_classification,
    "kws": keyword_spotting,
    "vww": visual_wake_words,
}


def _conv(graph: GraphBuilder, x: int, channels: int, stride: Pair = (1, 1), *, activation: bool = True) -> int:
    x = graph.conv(x, channels, kernel=(3, 3), stride=stride, padding=(1, 1), weight_bits=BITS)
    return graph.activation(graph.norm(x), "relu" if activation else "identity", bits=BITS)


def _separable(graph: GraphBuilder, x: int, channels: int, stride: Pair = (1, 1)) -> int:
    x = graph.depthwise(x, kernel=(3, 3), stride=stride, padding=(1, 1), weight_bits=BITS)
    x = graph.activation(graph.norm(x), bits=BITS)
    x = graph.conv(x, channels, weight_bits=BITS)
    return graph.activation(graph.norm(x), bits=BITS)


def _head(graph: GraphBuilder, x: int, classes: int) -> int:
    return graph.linear(graph.flatten(x), classes, bias=True, weight_bits=BITS)
