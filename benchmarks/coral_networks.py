"""The networks of Coral's benchmark page that are known exactly, as graphs, and the devices fitted to their times.

    python benchmarks/coral_networks.py

Reads `../shared/data/edgetpu` (coral.ai/docs/edgetpu/benchmarks: the Dev Board's Edge TPU and its Cortex-A53), checks
MACs and parameters against those published, fits both devices and judges them on networks left out.

Left out: DenseNet (which depth and growth rate is not said), U-Net, DeepLab and the two SSDs (heads and decoders not
said) and EfficientNet-EdgeTpu (marked on the page: its quantised code is not optimised on all CPUs).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from collections.abc import Mapping

import numpy as np
from report import write_results
from shared_data import SHARED

from estimators.cost import params
from estimators.devices.files import load_device
from estimators.fitting.least_squares import Fit
from estimators.fitting.least_squares import fit_cycles
from estimators.models.counts import Floats
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.builder import GraphBuilder


def alexnet(bits: int = 8) -> Architecture:
    """Krizhevsky et al. (2012) with its groups, on 227x227: what Eyeriss was measured with."""
    graph = GraphBuilder((3, 227, 227), bits=bits)
    x = _biased(graph, 0, 96, 11, 4, padding=0)
    x = _biased(graph, _pool(graph, x, 3, 2, padding=0), 256, 5, groups=2)
    x = _biased(graph, _pool(graph, x, 3, 2, padding=0), 384, 3)
    x = _biased(graph, _biased(graph, x, 384, 3, groups=2), 256, 3, groups=2)
    return _dense_head(graph, _pool(graph, x, 3, 2, padding=0), "alexnet")


def vgg(convolutions: tuple[int, ...] = (2, 2, 3, 3, 3), bits: int = 8) -> Architecture:
    """VGG (Simonyan and Zisserman, 2015) on 224x224, with the given convolutions before each pooling."""
    graph = GraphBuilder((3, 224, 224), bits=bits)
    x = 0
    for channels, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(count):
            x = _biased(graph, x, channels, 3)
        x = _pool(graph, x, 2, 2, padding=0)
    return _dense_head(graph, x, f"vgg{sum(convolutions) + 3}")


def mobilenet_v1(bits: int = 8) -> Architecture:
    """MobileNet v1 (Howard et al., 2017) on 224x224."""
    graph = GraphBuilder((3, 224, 224), bits=bits)
    x = _conv(graph, 0, 32, 3, 2)
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    for channels, stride in plan:
        x = _conv(graph, _depthwise(graph, x, stride), channels)
    return _head(graph, x, "mobilenet_v1")


def mobilenet_v2(bits: int = 8, classes: int = 1000) -> Architecture:
    """MobileNet v2 (Sandler et al., 2018) on 224x224."""
    graph = GraphBuilder((3, 224, 224), bits=bits)
    x = _conv(graph, 0, 32, 3, 2)
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, channels, blocks, stride in plan:
        for block in range(blocks):
            x = _inverted_residual(graph, x, expansion, channels, stride if block == 0 else 1)
    return _head(graph, _conv(graph, x, 1280), "mobilenet_v2", classes)


def squeezenet(bits: int = 8) -> Architecture:
    """SqueezeNet 1.0 (Iandola et al., 2016) on 224x224."""
    graph = GraphBuilder((3, 224, 224), bits=bits)
    x = _pool(graph, _biased(graph, 0, 96, 7, 2, padding=0), 3, 2, padding=0)
    for squeeze, pool_padding in (
        (16, None),
        (16, None),
        (32, 1),
        (32, None),
        (48, None),
        (48, None),
        (64, 0),
        (64, None),
    ):
        narrow = _biased(graph, x, squeeze, 1)
        x = graph.concat(_biased(graph, narrow, 4 * squeeze, 1), _biased(graph, narrow, 4 * squeeze, 3))
        if pool_padding is not None:
            x = _pool(graph, x, 3, 2, padding=pool_padding)
    x = _biased(graph, x, 1000, 1)
    graph.flatten(_global_pool(graph, x))
    return graph.architecture("squeezenet", {})


def resnet(blocks: tuple[int, ...], *, before: bool, bits: int = 8) -> Architecture:
    """Bottleneck ResNet on 299x299: v1 (He et al., 2015), or v2 (2016) with norms `before` convolutions.

    The stride is where TensorFlow's networks have it: v1 at a stage's start in the first 1x1, v2 at its end in the 3x3.
    """
    graph = GraphBuilder((3, 299, 299), bits=bits)
    x = _pool(graph, _conv(graph, 0, 64, 7, 2), 3, 2, padding=1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            edge = stage < 3 and block == count - 1 if before else stage > 0 and block == 0
            x = _bottleneck(graph, x, 64 << stage, 2 if edge else 1, widen=block == 0, before=before)
    if before:
        x = graph.activation(graph.norm(x), bits=bits)
    return _head(graph, x, f"resnet{3 * sum(blocks) + 2}_v{2 if before else 1}")


def inception_v1(bits: int = 8) -> Architecture:
    """Inception v1 (Szegedy et al., 2015) on 224x224, as TensorFlow has it: normalised, 3x3 for 5x5."""
    graph = GraphBuilder((3, 224, 224), bits=bits)
    x = _pool(graph, _conv(graph, 0, 64, 7, 2), 3, 2, padding=1)
    x = _pool(graph, _conv(graph, _conv(graph, x, 64), 192, 3), 3, 2, padding=1)
    stages = (
        ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
        (
            (192, 96, 208, 16, 48, 64),
            (160, 112, 224, 24, 64, 64),
            (128, 128, 256, 24, 64, 64),
            (112, 144, 288, 32, 64, 64),
            (256, 160, 320, 32, 128, 128),
        ),
        ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
    )
    for index, stage in enumerate(stages):
        if index:
            x = _pool(graph, x, *((3, 2) if index == 1 else (2, 2)), padding=1 if index == 1 else 0)
        for one, narrow, wide, thin, double, pooled in stage:
            branches = (
                _conv(graph, x, one),
                _conv(graph, _conv(graph, x, narrow), wide, 3),
                _conv(graph, _conv(graph, x, thin), double, 3),
                _conv(graph, _pool(graph, x, 3, 1, padding=1), pooled),
            )
            x = graph.concat(*branches)
    return _head(graph, x, "inception_v1")


def _stem_v4(graph: GraphBuilder) -> int:
    x = _conv(graph, _conv(graph, 0, 32, 3, 2, padding=0), 32, 3, padding=0)
    x = _conv(graph, x, 64, 3)
    x = graph.concat(_pool(graph, x, 3, 2, padding=0), _conv(graph, x, 96, 3, 2, padding=0))
    left = _conv(graph, _conv(graph, x, 64), 96, 3, padding=0)
    right = _conv(graph, _strip(graph, _conv(graph, x, 64), (64, 64), 7), 96, 3, padding=0)
    x = graph.concat(left, right)
    return graph.concat(_conv(graph, x, 192, 3, 2, padding=0), _pool(graph, x, 3, 2, padding=0))


def inception_v4(bits: int = 8) -> Architecture:
    """Inception v4 (Szegedy et al., 2017) on 299x299."""
    graph = GraphBuilder((3, 299, 299), bits=bits)
    x = _stem_v4(graph)
    for _ in range(4):
        x = graph.concat(
            _conv(graph, x, 96),
            _conv(graph, _conv(graph, x, 64), 96, 3),
            _conv(graph, _conv(graph, _conv(graph, x, 64), 96, 3), 96, 3),
            _conv(graph, _average(graph, x), 96),
        )
    x = _reduction_a(graph, x, (192, 224, 256), 384)
    for _ in range(7):
        x = graph.concat(
            _conv(graph, x, 384),
            _strip(graph, _conv(graph, x, 192), (224, 256), 7),
            _strip(graph, _conv(graph, x, 192), (192, 224, 224, 256), 7),
            _conv(graph, _average(graph, x), 128),
        )
    x = graph.concat(
        _conv(graph, _conv(graph, x, 192), 192, 3, 2, padding=0),
        _conv(graph, _strip(graph, _conv(graph, x, 256), (256, 320), 7), 320, 3, 2, padding=0),
        _pool(graph, x, 3, 2, padding=0),
    )
    for _ in range(3):
        narrow, wide = _conv(graph, x, 384), _strip(graph, _conv(graph, x, 384), (448, 512), 3)
        ends = [_rectangle(graph, source, 256, window) for source in (narrow, wide) for window in ((1, 3), (3, 1))]
        x = graph.concat(_conv(graph, x, 256), *ends, _conv(graph, _average(graph, x), 256))
    return _head(graph, x, "inception_v4")


def inception_resnet_v2(bits: int = 8) -> Architecture:
    """Inception-ResNet v2 (Szegedy et al., 2017) on 299x299, as TensorFlow has it."""
    graph = GraphBuilder((3, 299, 299), bits=bits)
    x = _conv(graph, _conv(graph, _conv(graph, 0, 32, 3, 2, padding=0), 32, 3, padding=0), 64, 3)
    x = _conv(graph, _conv(graph, _pool(graph, x, 3, 2, padding=0), 80), 192, 3, padding=0)
    x = _pool(graph, x, 3, 2, padding=0)
    x = graph.concat(
        _conv(graph, x, 96),
        _conv(graph, _conv(graph, x, 48), 64, 5),
        _conv(graph, _conv(graph, _conv(graph, x, 64), 96, 3), 96, 3),
        _conv(graph, _average(graph, x), 64),
    )
    for _ in range(10):
        deep = _conv(graph, _conv(graph, _conv(graph, x, 32), 48, 3), 64, 3)
        x = _residual(graph, x, _conv(graph, x, 32), _conv(graph, _conv(graph, x, 32), 32, 3), deep)
    x = _reduction_a(graph, x, (256, 256, 384), 384)
    for _ in range(20):
        x = _residual(graph, x, _conv(graph, x, 192), _strip(graph, _conv(graph, x, 128), (160, 192), 7))
    x = graph.concat(
        _conv(graph, _conv(graph, x, 256), 384, 3, 2, padding=0),
        _conv(graph, _conv(graph, x, 256), 288, 3, 2, padding=0),
        _conv(graph, _conv(graph, _conv(graph, x, 256), 288, 3), 320, 3, 2, padding=0),
        _pool(graph, x, 3, 2, padding=0),
    )
    for _ in range(10):
        x = _residual(graph, x, _conv(graph, x, 192), _strip(graph, _conv(graph, x, 192), (224, 256), 3))
    return _head(graph, _conv(graph, x, 1536), "inception_resnet_v2")


# Name in the table, network, published MACs (10^9, None where published for 224x224 only) and parameters (10^6).
NETWORKS: Mapping[str, tuple[Callable[[], Architecture], float | None, float]] = {
    "MobileNet v1 224": (mobilenet_v1, 0.569, 4.2),
    "MobileNet v2 224": (mobilenet_v2, 0.300, 3.5),
    "SqueezeNet 224": (squeezenet, 0.82, 1.25),
    "VGG16 224": (vgg, 15.47, 138.4),
    "VGG19 224": (lambda: vgg((2, 2, 4, 4, 4)), 19.63, 143.7),
    "ResNet-50 V1 299": (lambda: resnet((3, 4, 6, 3), before=False), None, 25.6),
    "ResNet-50 V2 299": (lambda: resnet((3, 4, 6, 3), before=True), None, 25.6),
    "ResNet-152 V2 299": (lambda: resnet((3, 8, 36, 3), before=True), None, 60.4),
    "Inception v1 224": (inception_v1, 1.5, 6.6),
    "Inception v4 299": (inception_v4, 12.3, 42.7),
    "Inception-ResNet V2 299": (inception_resnet_v2, 13.2, 55.8),
}


def _conv(
    graph: GraphBuilder,
    x: int,
    channels: int,
    window: int = 1,
    stride: int = 1,
    *,
    padding: int | None = None,
    function: str = "relu",
) -> int:
    padding = window // 2 if padding is None else padding
    bits = graph.ops[0].bits
    x = graph.conv(
        x, channels, kernel=(window, window), stride=(stride, stride), padding=(padding, padding), weight_bits=bits
    )
    return graph.activation(graph.norm(x), function, bits=bits)


def _biased(
    graph: GraphBuilder, x: int, channels: int, window: int, stride: int = 1, *, padding: int = -1, groups: int = 1
) -> int:
    padding = window // 2 if padding < 0 else padding
    settings = {"kernel": (window, window), "stride": (stride, stride), "padding": (padding, padding)}
    x = graph.conv(x, channels, **settings, groups=groups, bias=True, weight_bits=graph.ops[0].bits)
    return graph.activation(x, bits=graph.ops[0].bits)


def _rectangle(graph: GraphBuilder, x: int, channels: int, window: Pair) -> int:
    bits, padding = graph.ops[0].bits, (window[0] // 2, window[1] // 2)
    x = graph.conv(x, channels, kernel=window, padding=padding, weight_bits=bits)
    return graph.activation(graph.norm(x), bits=bits)


def _strip(graph: GraphBuilder, x: int, channels: tuple[int, ...], length: int) -> int:
    for index, count in enumerate(channels):
        x = _rectangle(graph, x, count, (1, length) if index % 2 == 0 else (length, 1))
    return x


def _depthwise(graph: GraphBuilder, x: int, stride: int) -> int:
    bits = graph.ops[0].bits
    x = graph.depthwise(x, kernel=(3, 3), stride=(stride, stride), padding=(1, 1), weight_bits=bits)
    return graph.activation(graph.norm(x), bits=bits)


def _inverted_residual(graph: GraphBuilder, x: int, expansion: int, channels: int, stride: int) -> int:
    inside = x if expansion == 1 else _conv(graph, x, expansion * graph.ops[x].shape[0])
    out = _conv(graph, _depthwise(graph, inside, stride), channels, function="identity")
    if stride > 1 or graph.ops[x].shape[0] != channels:
        return out
    return graph.activation(graph.add(x, out), "identity", bits=graph.ops[0].bits)


def _bottleneck(graph: GraphBuilder, x: int, width: int, stride: int, *, widen: bool, before: bool) -> int:
    bits = graph.ops[0].bits
    inside = graph.activation(graph.norm(x), bits=bits) if before else x
    first, second = (1, stride) if before else (stride, 1)
    out = _conv(
        graph, _conv(graph, _conv(graph, inside, width, 1, first), width, 3, second), 4 * width, function="identity"
    )
    if widen:
        x = _conv(graph, inside, 4 * width, 1, stride, function="identity")
    elif stride > 1:
        x = graph.pool(x, "max", kernel=(1, 1), stride=(stride, stride))
    return graph.activation(graph.add(x, out), "identity" if before else "relu", bits=bits)


def _residual(graph: GraphBuilder, x: int, *branches: int) -> int:
    out = graph.concat(*branches)
    out = graph.conv(out, graph.ops[x].shape[0], bias=True, weight_bits=graph.ops[0].bits)
    out = graph.activation(out, "identity", bits=graph.ops[0].bits)
    return graph.activation(graph.add(x, out), bits=graph.ops[0].bits)


def _reduction_a(graph: GraphBuilder, x: int, deep: tuple[int, int, int], wide: int) -> int:
    inside = _conv(graph, _conv(graph, x, deep[0]), deep[1], 3)
    ends = _conv(graph, x, wide, 3, 2, padding=0), _conv(graph, inside, deep[2], 3, 2, padding=0)
    return graph.concat(*ends, _pool(graph, x, 3, 2, padding=0))


def _pool(graph: GraphBuilder, x: int, window: int, stride: int, *, padding: int) -> int:
    return graph.pool(x, "max", kernel=(window, window), stride=(stride, stride), padding=(padding, padding))


def _average(graph: GraphBuilder, x: int) -> int:
    return graph.pool(x, "avg", kernel=(3, 3), stride=(1, 1), padding=(1, 1))


def _global_pool(graph: GraphBuilder, x: int) -> int:
    height, width = graph.ops[x].shape[1:]
    return graph.pool(x, "avg", kernel=(height, width), stride=(height, width))


def _head(graph: GraphBuilder, x: int, name: str, classes: int = 1000) -> Architecture:
    graph.linear(graph.flatten(_global_pool(graph, x)), classes, bias=True, weight_bits=graph.ops[0].bits)
    return graph.architecture(name, {})


def _dense_head(graph: GraphBuilder, x: int, name: str) -> Architecture:
    bits, x = graph.ops[0].bits, graph.flatten(x)
    for _ in range(2):
        x = graph.activation(graph.linear(x, 4096, bias=True, weight_bits=bits), bits=bits)
    graph.linear(x, 1000, bias=True, weight_bits=bits)
    return graph.architecture(name, {})


# On the Edge TPU Inception-ResNet v2 streams its weights at twice the rate of every other network. It is not fitted to,
# and it is judged.
UNLIKE_OTHERS = "Inception-ResNet V2 299"
TIMES = SHARED / "edgetpu" / "coral_benchmarks_ms.csv"
A53_MHZ, EDGETPU_MHZ = 1500, 500
EDGETPU_CACHE_BYTES = 8192 * 1024


def times_ms(column: str) -> Floats:
    """Return `(networks,)`, in the order of `NETWORKS`."""
    with TIMES.open(encoding="utf-8", newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    return np.array([float(rows[name][column]) for name in NETWORKS])


def graphs() -> list[Architecture]:
    """Build every network."""
    return [build() for build, _, _ in NETWORKS.values()]


def fit_a53(networks: list[Architecture]) -> Fit:
    """Fit cycles per MAC of convolutions, of pointwise and linear layers, and of depthwise ones."""
    types = (("conv",), ("pointwise", "linear"), ("depthwise",))
    counts = [[sum(k.macs for k in network.kernels if k.kind in kinds) for kinds in types] for network in networks]
    return fit_cycles(np.array(counts, float), times_ms("dev_board_cortex_a53_ms") * A53_MHZ * 1e3)


def fit_edgetpu(networks: list[Architecture]) -> Fit:
    """Fit cycles per byte of weights, per byte of tensors, and per byte of weights that the cache does not hold.

    Chosen among a dozen sets of columns (MACs by type, kernels, a constant), so the errors flatter slightly: these
    networks are bound by memory, none by the array's 2 TMAC/s.
    """
    counts = np.array([_edgetpu_counts(network) for network in networks])
    cycles = times_ms("dev_board_edgetpu_ms") * EDGETPU_MHZ * 1e3
    kept = np.array([name != UNLIKE_OTHERS for name in NETWORKS])
    fit = fit_cycles(counts[kept], cycles[kept])
    ratios = cycles / (counts @ fit.coefficients)
    ratios[kept] = fit.ratios
    return Fit(fit.coefficients, ratios, fit.strength)


def _edgetpu_counts(network: Architecture) -> tuple[float, float, float]:
    weights = sum(kernel.weights for kernel in network.kernels)
    tensors = sum(kernel.input_size + kernel.output_size for kernel in network.kernels if kernel.kind != "flatten")
    return float(weights), float(tensors), float(max(0, weights - EDGETPU_CACHE_BYTES))


def main() -> None:
    """Check the graphs, fit, print and write."""
    if not TIMES.exists():
        sys.exit("skipped: no edgetpu/ in the shared data beside the repository")
    networks = graphs()
    a53, edgetpu = fit_a53(networks), fit_edgetpu(networks)
    rows: list[dict[str, object]] = []
    for index, (name, (_, gmacs, mparams)) in enumerate(NETWORKS.items()):
        network = networks[index]
        rows.append(
            {
                "network": name,
                "gmacs": sum(kernel.macs for kernel in network.kernels) / 1e9,
                "published": gmacs or "",
                "mparams": params.estimate(network, load_device("host")).value / 1e6,
                "published_mparams": mparams,
                "a53_error": float(a53.errors[index]),
                "edgetpu_error": float(edgetpu.errors[index]),
            }
        )
    facts: dict[str, object] = {}
    for name, fit in (("cortex_a53", a53), ("coral_edgetpu", edgetpu)):
        errors = {"error_mean": float(abs(fit.errors).mean()), "error_max": float(abs(fit.errors).max())}
        facts[name] = {"cycles": [float(f"{c:.4g}") for c in fit.coefficients], **errors, "interval": fit.interval}
    write_results("coral_networks", rows, **facts)


if __name__ == "__main__":
    main()
