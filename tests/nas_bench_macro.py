"""The 6,561 networks of NAS-Bench-Macro (Su et al., 2021, arXiv:2103.11922) as graphs.

A key has one digit for each of eight layers: 0 identity, 1 inverted residual of expansion 3 and kernel 3, 2 of
expansion 6 and kernel 5. Three stages of 2, 3 and 3 layers; the first layer of each doubles the channels and halves the
image, an identity there being a strided 1x1 convolution. The layout was read from the authors' published definition.
"""

from search_spaces.graph.builder import GraphBuilder

STAGES = (2, 3, 3)
INVERTED = {"1": (3, 3), "2": (6, 5)}


def describe(key):
    graph = GraphBuilder((3, 32, 32))
    channels = 32
    x = graph.activation(graph.norm(graph.conv(0, channels, kernel=(3, 3), padding=(1, 1))))
    digits = iter(key)
    for layers in STAGES:
        channels *= 2
        for layer in range(layers):
            x = _layer(graph, x, next(digits), channels, stride=1 if layer else 2)
    x = graph.activation(graph.norm(graph.conv(x, 1280)))
    _, height, width = graph.ops[x].shape
    x = graph.pool(x, "avg", kernel=(height, width), stride=(height, width))
    graph.linear(graph.flatten(x), 10, bias=True)
    return graph.architecture("nas_bench_macro", {"key": key})


def _layer(graph, source, digit, channels, stride):
    if digit == "0":
        return source if stride == 1 else graph.norm(graph.conv(source, channels, stride=(2, 2)))
    expansion, kernel = INVERTED[digit]
    x = graph.activation(graph.norm(graph.conv(source, expansion * graph.ops[source].shape[0])))
    x = graph.depthwise(x, kernel=(kernel, kernel), stride=(stride, stride), padding=(kernel // 2, kernel // 2))
    x = graph.norm(graph.conv(graph.activation(graph.norm(x)), channels))
    return graph.add(x, source) if stride == 1 else x
