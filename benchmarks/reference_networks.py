"""Published networks as int8 graphs: the four of MLPerf Tiny (Banbury et al., 2021) and those of ST's model zoo.

ST's follow the papers and the model definitions of the zoo (STMicroelectronics/stm32ai-modelzoo, 2024, folder
`image_classification/src/models`), with five classes (its flowers) where nothing else is said. The MACs by operator
type of ten equal those of ST's table, the weights and biases of all fifteen its `weights_flash_kib`
(`benchmarks/peak_ram.py` prints both). The two binary/int8 hybrids are left out: how the engine holds their binary
tensors is not published.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.builder import GraphBuilder

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
    return resnet_v1(8, 10)


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
    return mobilenet_v1(0.25, 96, classes=2)


def mobilenet_v1(width: float, resolution: int, channels: int = 3, classes: int = 5) -> Architecture:
    """MobileNet v1 (Howard et al., 2017)."""
    graph = GraphBuilder((channels, resolution, resolution), bits=BITS)
    x = _conv(graph, 0, int(32 * width), (2, 2))
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    for features, stride in plan:
        x = _separable(graph, x, int(features * width), (stride, stride))
    _head(graph, _average(graph, x), classes)
    params = {"width": width, "resolution": resolution, "channels": channels, "classes": classes}
    return graph.architecture("mobilenet_v1", params)


def mobilenet_v2(width: float, resolution: int) -> Architecture:
    """MobileNet v2 (Sandler et al., 2018), five classes; the last convolution has 1280 channels whatever the width."""
    graph = GraphBuilder((3, resolution, resolution), bits=BITS)
    x = _conv(graph, 0, _to_eights(32 * width), (2, 2))
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, features, blocks, first_stride in stages:
        for stride in (first_stride, *[1] * (blocks - 1)):
            x = _inverted(graph, x, expansion, _to_eights(int(features * width)), stride)
    _head(graph, _average(graph, _pointwise(graph, x, 1280)), 5)
    return graph.architecture("mobilenet_v2", {"width": width, "resolution": resolution})


def resnet_v1(depth: int, classes: int) -> Architecture:
    """The CIFAR ResNet (He et al., 2016) of `depth` = 6n + 2 layers, with projections where the size changes."""
    if depth % 6 != 2:
        raise ValueError(f"expected a depth of 6n + 2; got {depth}")
    graph = GraphBuilder((3, 32, 32), bits=BITS)
    x = _conv(graph, 0, 16)
    for channels, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, *[1] * (depth // 6 - 1)):
            x = _residual(graph, x, channels, stride)
    _head(graph, _average(graph, x), classes)
    return graph.architecture("resnet_v1", {"depth": depth, "classes": classes})


def squeezenet(resolution: int) -> Architecture:
    """SqueezeNet v1.1 (Iandola et al., 2016), five classes; as ST's MACs say, windows are padded to halve the size."""
    graph = GraphBuilder((3, resolution, resolution), bits=BITS)
    x = _rectified(graph, graph.conv(0, 64, kernel=(3, 3), stride=(2, 2), padding=(1, 1), bias=True, weight_bits=BITS))
    for squeezes in ((16, 16), (32, 32), (48, 48, 64, 64)):
        x = graph.pool(x, "max", kernel=(3, 3), stride=(2, 2), padding=(1, 1))
        for squeeze in squeezes:
            x = _fire(graph, x, squeeze)
    x = _rectified(graph, graph.conv(x, 5, bias=True, weight_bits=BITS))
    graph.flatten(_average(graph, x))
    return graph.architecture("squeezenet", {"resolution": resolution})


def fd_mobilenet(widths: Sequence[float], resolution: int, classes: int = 5) -> Architecture:
    """FD-MobileNet (Qin et al., 2018), one width for the first convolution and one for each of eleven blocks.

    As in ST's zoo nothing stands between a block's depthwise and pointwise convolution, and the depthwise has a bias.
    """
    graph = GraphBuilder((3, resolution, resolution), bits=BITS)
    x = _conv(graph, 0, int(32 * widths[0]), (2, 2))
    plan = ((64, 2), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 4, (1024, 1))
    for width, (features, stride) in zip(widths[1:], plan, strict=True):
        steps = (stride, stride)
        x = graph.depthwise(x, kernel=(3, 3), stride=steps, padding=(1, 1), bias=True, weight_bits=BITS)
        x = _pointwise(graph, graph.activation(x, "identity", bits=BITS), int(features * width))
    graph.flatten(graph.conv(_average(graph, x), classes, bias=True, weight_bits=BITS))
    return graph.architecture("fd_mobilenet", {"resolution": resolution, "classes": classes})


def st_mnist(classes: int = 36) -> Architecture:
    """ST's network for 28x28 grey characters: two separable blocks and a pointwise convolution."""
    graph = GraphBuilder((1, 28, 28), bits=BITS)
    x = _depthwise(graph, _conv(graph, 0, 16, (2, 2)))
    x = _depthwise(graph, _conv(graph, x, 32), (2, 2))
    _head(graph, _average(graph, _pointwise(graph, x, 64)), classes)
    return graph.architecture("st_mnist", {"classes": classes})


REFERENCE_NETWORKS = {
    "ad": anomaly_detection,
    "ic": image_classification,
    "kws": keyword_spotting,
    "vww": visual_wake_words,
}

ST_WIDTHS = (0.5, 0.75, 0.625, 0.5, 0.375, *[0.25] * 7)

ST_NETWORKS: Mapping[str, Callable[[], Architecture]] = {
    "mobilenet_v1_0.25_224": partial(mobilenet_v1, 0.25, 224),
    "mobilenet_v1_0.5_224": partial(mobilenet_v1, 0.5, 224),
    "mobilenet_v1_0.25_96": partial(mobilenet_v1, 0.25, 96),
    "mobilenet_v1_0.25_96_gray": partial(mobilenet_v1, 0.25, 96, 1),
    "mobilenet_v2_0.35_128": partial(mobilenet_v2, 0.35, 128),
    "mobilenet_v2_0.35_224": partial(mobilenet_v2, 0.35, 224),
    "resnet_v1_8_cifar10": partial(resnet_v1, 8, 10),
    "resnet_v1_32_cifar100": partial(resnet_v1, 32, 100),
    "squeezenet_v1.1_128": partial(squeezenet, 128),
    "squeezenet_v1.1_224": partial(squeezenet, 224),
    "fdmobilenet_0.25_224": partial(fd_mobilenet, [0.25] * 12, 224),
    "fdmobilenet_0.25_128": partial(fd_mobilenet, [0.25] * 12, 128),
    "st_fdmobilenet_v1_224": partial(fd_mobilenet, ST_WIDTHS, 224),
    "st_fdmobilenet_v1_128": partial(fd_mobilenet, ST_WIDTHS, 128),
    "st_mnist_28": st_mnist,
}
"""ST's networks as `stm32h747_int8_measured.csv` calls them."""


def _conv(graph: GraphBuilder, x: int, channels: int, stride: Pair = (1, 1), *, activation: bool = True) -> int:
    x = graph.conv(x, channels, kernel=(3, 3), stride=stride, padding=(1, 1), weight_bits=BITS)
    return graph.activation(graph.norm(x), "relu" if activation else "identity", bits=BITS)


def _separable(graph: GraphBuilder, x: int, channels: int, stride: Pair = (1, 1)) -> int:
    return _pointwise(graph, _depthwise(graph, x, stride), channels)


def _depthwise(graph: GraphBuilder, x: int, stride: Pair = (1, 1)) -> int:
    return _rectified(
        graph, graph.norm(graph.depthwise(x, kernel=(3, 3), stride=stride, padding=(1, 1), weight_bits=BITS))
    )


def _pointwise(graph: GraphBuilder, x: int, channels: int) -> int:
    return _rectified(graph, graph.norm(graph.conv(x, channels, weight_bits=BITS)))


def _rectified(graph: GraphBuilder, x: int) -> int:
    return graph.activation(x, bits=BITS)


def _inverted(graph: GraphBuilder, x: int, expansion: int, channels: int, stride: int) -> int:
    before = graph.ops[x].shape[0]
    wide = x if expansion == 1 else _pointwise(graph, x, expansion * before)
    wide = _depthwise(graph, wide, (stride, stride))
    slim = graph.activation(graph.norm(graph.conv(wide, channels, weight_bits=BITS)), "identity", bits=BITS)
    if stride != 1 or channels != before:
        return slim
    return graph.activation(graph.add(x, slim), "identity", bits=BITS)


def _residual(graph: GraphBuilder, x: int, channels: int, stride: int) -> int:
    main = _conv(graph, _conv(graph, x, channels, (stride, stride)), channels, activation=False)
    if stride != 1:
        x = graph.conv(x, channels, stride=(stride, stride), bias=True, weight_bits=BITS)
        x = graph.activation(x, "identity", bits=BITS)
    return _rectified(graph, graph.add(main, x))


def _fire(graph: GraphBuilder, x: int, squeeze: int) -> int:
    x = _rectified(graph, graph.conv(x, squeeze, bias=True, weight_bits=BITS))
    narrow = _rectified(graph, graph.conv(x, 4 * squeeze, bias=True, weight_bits=BITS))
    wide = graph.conv(x, 4 * squeeze, kernel=(3, 3), padding=(1, 1), bias=True, weight_bits=BITS)
    return graph.concat(narrow, _rectified(graph, wide))


def _average(graph: GraphBuilder, x: int) -> int:
    """Average over the whole image."""
    size = graph.ops[x].shape[1:]
    return graph.pool(x, "avg", kernel=(size[0], size[1]), stride=(size[0], size[1]))


def _to_eights(channels: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth (Sandler et al., 2018)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _head(graph: GraphBuilder, x: int, classes: int) -> int:
    return graph.linear(graph.flatten(x), classes, bias=True, weight_bits=BITS)
