"""One network, layer by layer: the parts add up to the metrics, and each says what bounds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from estimators.cost import energy_mj
from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.cost import peak_ram_kib
from estimators.devices.corrections import Residual
from estimators.devices.device import Memory
from estimators.devices.device import deployed
from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from estimators.models.by_layer import INPUT
from estimators.models.by_layer import by_layer
from nas.base.plugins import load
from search_spaces.graph.builder import GraphBuilder
from tests.small_network import at_most

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"


def residual_block():
    """5x5 depthwise and a shortcut, every figure easy: 8 channels of 8x8 at 8 bits are half a KiB."""
    graph = GraphBuilder((8, 8, 8), bits=8)
    x = graph.activation(graph.depthwise(0, kernel=(5, 5), padding=(2, 2), weight_bits=8), bits=8)
    x = graph.activation(graph.conv(x, 8, weight_bits=8), bits=8)
    x = graph.activation(graph.add(0, x), bits=8)
    graph.linear(graph.flatten(graph.pool(x, "avg", kernel=(8, 8), stride=(8, 8))), 10, bias=True, weight_bits=8)
    return graph.architecture("block", {})


def networks():
    generator = np.random.default_rng(0)
    found = [residual_block()]
    cells = load("search_spaces", "nb201", "make_space")((3, 32, 32), 10)
    found.append(cells.decode(cells.parse(CELL)))
    for name, shape in (("conv", (3, 16, 16)), ("mlp", (30,)), ("tests.two_exits", (3, 8, 8))):
        space = load("search_spaces", name, "make_space")(shape, 10)
        found.append(space.decode(space.reference))
        point = {
            key: choice.choices[generator.integers(len(choice.choices))]
            for key, choice in space.distributions.items()
            if hasattr(choice, "choices")
        }
        found.append(space.decode({**space.reference, **point}))
    return found


NETWORKS = networks()


def runnable(network, device):
    """What is wider than the device computes, narrowed to its widest."""
    return at_most(network, max(device.weight_bits))


def check_sums(network, device):
    layers = by_layer(network, device)
    assert sum(layer.latency_ms for layer in layers) == pytest.approx(latency_ms.estimate(network, device).value)
    assert sum(layer.flash_kib for layer in layers) == pytest.approx(flash_kib.estimate(network, device).value)
    assert max(layer.ram_kib for layer in layers) == pytest.approx(peak_ram_kib.estimate(network, device).value)
    if device.energy is None:
        assert {layer.energy_mj for layer in layers} == {None}
    else:
        total = sum(layer.energy_mj for layer in layers)
        assert total == pytest.approx(energy_mj.estimate(network, device).value)
    return layers


@pytest.mark.parametrize("name", available_devices())
def test_layers_add_up_to_the_metrics_on_every_device(name):
    device = load_device(name)
    # Some devices were calibrated on cells without depthwise layers, and refuse them.
    networks = [
        net for net in NETWORKS if {k.kind for k in deployed(net, device).kernels} <= device.latency.coefficients.keys()
    ]
    assert NETWORKS[1] in networks
    for network in networks:
        layers = check_sums(runnable(network, device), device)
        assert layers[0].kind == "engine"
        assert sorted(layer.kernel for layer in layers[1:]) == list(range(len(layers) - 1))


def test_they_add_up_with_everything_a_device_may_have():
    device = load_device("stm32l4r5")
    latency = replace(
        device.latency,
        overhead_ms=0.7,
        cycles_per_kernel={"conv": 500.0, "pointwise": 900.0},
        cycles_per_byte={"pointwise": 50.0, "linear": 3.0},
        weight_cache_kib=0.1,
        cycles_per_streamed_byte=7.0,
        residual=Residual(columns=("cycles_per_mac.conv",), trees=([0, 1e3, 0.3, -0.2],)),
    )
    memory = Memory(in_place=("add",), arena_factor=1.3, ram_kib_per_kernel=0.2, flash_kib_per_kernel=0.4)
    device = replace(device, latency=latency, memory=memory)
    for network in NETWORKS:
        engine = check_sums(network, device)[0]
        factor = (
            latency_ms.estimate(network, device).value
            / latency_ms.estimate(network, replace(device, latency=replace(latency, residual=None))).value
        )
        assert abs(factor - 1) > 0.1
        assert engine.latency_ms == pytest.approx(0.7 * factor)


def test_each_layer_says_what_it_is():
    layers = by_layer(residual_block(), load_device("stm32l4r5"))
    assert [layer.kind for layer in layers] == [
        "engine", "depthwise", "pointwise", "add", "pool", "flatten", "linear"
    ]  # fmt: skip
    depthwise, add, flatten = layers[1], layers[3], layers[5]
    assert (depthwise.shape, depthwise.window, depthwise.macs) == ((8, 8, 8), (5, 5), 8 * 25 * 64)
    assert (depthwise.weight_bits, depthwise.input_bits) == (8, 8)
    # 200 weights; 512 elements in and out, a byte each.
    assert (depthwise.weight_bytes, depthwise.tensor_bytes, depthwise.output_kib) == (200, 1024, 0.5)
    assert (add.weight_bits, add.macs, add.tensor_bytes) == (None, 0, 1536)
    assert (flatten.tensor_bytes, flatten.output_kib, flatten.latency_ms) == (0, 0, 0)


def test_each_layer_says_which_tensors_are_in_memory():
    device = replace(load_device("stm32l4r5"), memory=Memory())
    layers = by_layer(residual_block(), device)[1:]
    assert [layer.live for layer in layers] == [
        (INPUT, 0), (INPUT, 0, 1), (INPUT, 1, 2), (2, 3), (3,), (3, 5)
    ]  # fmt: skip
    sizes = {INPUT: 0.5, **{layer.kernel: layer.output_kib for layer in layers}}
    for layer in layers:
        assert layer.ram_kib - device.engine_ram_kib == pytest.approx(sum(sizes[tensor] for tensor in layer.live))


def test_a_layer_is_bound_by_what_most_of_its_time_goes_to():
    device = load_device("stm32l4r5")
    by_kind = {layer.kind: layer.bound for layer in by_layer(residual_block(), device)}
    # Depthwise layers are priced by their elements there, pooling and sums are in the other coefficients.
    assert by_kind == {
        "engine": "nothing",
        "depthwise": "memory",
        "pointwise": "compute",
        "add": "nothing",
        "pool": "nothing",
        "flatten": "nothing",
        "linear": "compute",
    }
    slow = replace(
        device.latency, overhead_ms=1.0, cycles_per_kernel={"linear": 1e6}, cycles_per_byte={"pointwise": 1e3}
    )
    by_kind = {layer.kind: layer.bound for layer in by_layer(residual_block(), replace(device, latency=slow))}
    assert (by_kind["engine"], by_kind["linear"], by_kind["pointwise"]) == ("overhead", "overhead", "memory")
    streaming = replace(device.latency, weight_cache_kib=0.0, cycles_per_streamed_byte=1e5)
    by_kind = {layer.kind: layer.bound for layer in by_layer(residual_block(), replace(device, latency=streaming))}
    assert (by_kind["linear"], by_kind["pool"]) == ("memory", "nothing")


def test_rows_stand_in_the_order_that_needs_least_memory():
    graph = GraphBuilder((1, 10, 10), bits=8)
    slim = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)
    wide = graph.activation(graph.conv(0, 8, weight_bits=8), bits=8)
    wide = graph.activation(graph.conv(wide, 1, weight_bits=8), bits=8)
    graph.activation(graph.concat(slim, wide), bits=8)
    device = replace(load_device("stm32h747"), memory=Memory())
    layers = by_layer(graph.architecture("two branches", {}), device)
    assert [layer.kernel for layer in layers] == [None, 1, 2, 0, 3]


def test_what_the_engine_leaves_out_has_no_row():
    device = load_device("stm32h747")
    assert "zero" in {kernel.kind for kernel in NETWORKS[1].kernels}
    assert "zero" not in {layer.kind for layer in by_layer(NETWORKS[1], device)}
    graph = GraphBuilder((8, 8, 8), bits=8)
    graph.conv(0, 64, kernel=(3, 3), weight_bits=8)
    graph.pool(0, "avg", kernel=(8, 8), stride=(8, 8))
    network = graph.architecture("dead", {})
    assert [layer.kind for layer in by_layer(network, device)] == ["engine", "pool"]
    eager = by_layer(network, replace(device, prune_dead_ops=False))
    assert sorted(layer.kind for layer in eager) == ["conv", "engine", "pool"]


def test_an_accelerators_layers_state_their_dataflow():
    layers = by_layer(runnable(residual_block(), load_device("eyeriss_like")), load_device("eyeriss_like"))
    assert {layer.dataflow for layer in layers if layer.macs} <= {
        "row_stationary", "weight_stationary", "output_stationary"
    }  # fmt: skip
    assert {layer.dataflow for layer in layers if not layer.macs} == {""}


def test_the_logits_of_an_exit_are_in_memory_until_the_end():
    graph = GraphBuilder((10,), bits=8)
    early = graph.activation(graph.linear(0, 4, weight_bits=8), "identity", bits=8)
    x = graph.activation(graph.linear(0, 20, weight_bits=8), bits=8)
    late = graph.activation(graph.linear(x, 4, weight_bits=8), "identity", bits=8)
    layers = by_layer(
        graph.architecture("exits", {}, outputs=(early, late)), replace(load_device("stm32l4r5"), memory=Memory())
    )
    assert [(layer.kernel, layer.live) for layer in layers[1:]] == [(0, (INPUT, 0)), (1, (INPUT, 0, 1)), (2, (0, 1, 2))]
