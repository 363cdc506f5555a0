import importlib
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from estimators.cost import energy_mj
from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.devices.device import Calibration
from estimators.devices.device import Device
from estimators.devices.device import Enclave
from estimators.devices.device import Energy
from estimators.devices.device import Latency
from estimators.devices.device import Link
from estimators.devices.device import LinkPower
from estimators.devices.device import SparseKernels
from estimators.devices.device import deployed
from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from nas.base.plugins import available
from nas.base.plugins import load
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.operators import WEIGHTED
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.network import build
from tests.small_network import at_most

METRICS = available("estimators.cost", "estimate")
CONDITIONAL = available("estimators.cost", "applies")
BITS = (1, 2, 4, 8, 32)
# No empty edge: other tools count what an engine leaves out.
CELL = "|nor_conv_3x3~0|+|skip_connect~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|avg_pool_3x3~2|"

SERVER = Device(
    name="server",
    description="the other end of the hand's link",
    core="c",
    clock_mhz=1000.0,
    engine="e",
    precision="float32",
    weight_bits=(32,),
    activation_bits=(32,),
    engine_ram_kib=0.0,
    engine_flash_kib=0.0,
    latency=Latency(
        cycles_per_mac={"conv": 5.0},
        cycles_per_element={},
        cycles_per_kernel={},
        relative_cycles={32: 1.0},
        overhead_ms=0.02,
        interval=0.3,
    ),
    calibration=Calibration(source="s", networks=1, error_mean=0.0, error_max=0.0),
)

HAND = Device(
    name="hand",
    description="numbers that are easy in the head, none of them 0 or 1 where that could hide a mistake",
    core="c",
    clock_mhz=100.0,
    engine="e",
    precision="int8",
    weight_bits=(1, 8, 32),
    activation_bits=(8, 32),
    engine_ram_kib=10.0,
    engine_flash_kib=20.0,
    latency=Latency(
        cycles_per_mac={"conv": 2.0, "pointwise": 3.0, "depthwise": 5.0, "linear": 7.0},
        cycles_per_element={"conv": 0.5, "pool": 4.0, "norm": 6.0, "activation": 8.0, "add": 9.0},
        cycles_per_kernel={"conv": 50.0, "add": 30.0},
        relative_cycles={8: 1.0, 32: 3.0},
        overhead_ms=0.5,
        interval=0.1,
    ),
    calibration=Calibration(source="s", networks=1, error_mean=0.0, error_max=0.0),
    energy=Energy(active_power_mw=50.0, interval=0.2),
    link=Link(
        server=SERVER,
        bandwidth_mbit_s=20.0,
        round_trip_ms=0.1,
        interval=0.5,
        power=LinkPower(transmit_mw=200.0, receive_mw=100.0, idle_mw=10.0, interval=0.1),
    ),
    enclave=Enclave(
        secure_ram_kib=16.0, engine_ram_kib=2.0, slow_down=1.5, switch_us=30.0, copy_us_per_kib=20.48, interval=0.25
    ),
)


def one_layer(weight_bits=8, bits=8, input_bits=8):
    """A 3x3 convolution from 3 to 4 channels of 10x10, norm and relu folded into it."""
    graph = GraphBuilder((3, 10, 10), bits=input_bits)
    x = graph.conv(0, 4, kernel=(3, 3), padding=(1, 1), weight_bits=weight_bits)
    graph.activation(graph.norm(x), bits=bits)
    return graph.architecture("hand", {})


# Value, low, high for `one_layer` on HAND.
REFERENCES = {
    # 4 * 3 channels * 3 * 3 window * 10 * 10 positions
    "macs": (10_800, 10_800, 10_800),
    # 4 * 3 * 3 * 3 weights, a scale and a shift for each of 4 channels
    "params": (116, 116, 116),
    # 10,800 MACs * 8 * 8 bits
    "bit_operations": (691_200, 691_200, 691_200),
    # 108 bytes of weights + 4 channels * (4 scale + 4 bias) = 140 bytes = 0.13671875 KiB, + 20 KiB of engine, which
    # nobody measured: a factor of 3.5 around it
    "flash_kib": (20.13671875, 0.13671875 + 20 / 3.5, 0.13671875 + 70),
    # 300 bytes in + 400 bytes out = 0.68359375 KiB, + 10 KiB of engine; not measured either: a factor of 2.5
    "peak_ram_kib": (10.68359375, 4.2734375, 26.708984375),
    # 10,800 * 2 + 700 elements * 0.5 + 50 = 22,000 cycles; 100,000 of them make a millisecond: 0.22 ms + 0.5 ms
    "latency_ms": (0.72, 0.648, 0.792),
    # 50 mW * 0.72 ms = 36 microjoules, give or take 10 % of time and 20 % of power: the root of 0.01 + 0.04
    "energy_mj": (0.036, 0.036 * (1 - 0.05**0.5), 0.036 * (1 + 0.05**0.5)),
    # All on the server. Up 300 bytes: 2,400 bits at 20,000 a millisecond, 0.12 ms; round trip 0.1 ms; 10,800 MACs * 5
    # at a million cycles a millisecond, 0.054 ms, + 0.02 ms; down 400 bytes: 0.16 ms. Link by 50 %, server by 30 %.
    "split_latency_ms": (0.454, 0.19 + 0.0518, 0.57 + 0.0962),
    # Microjoules: 200 mW * 0.12 + 10 mW * 0.1 + 100 mW * 0.16 = 41 by 50 and 10 %, the root of 0.26; 10 mW * 0.074 =
    # 0.74 by 30 and 10 %, the root of 0.1.
    "split_energy_mj": (
        0.04174,
        0.041 * (1 - 0.26**0.5) + 0.00074 * (1 - 0.1**0.5),
        0.041 * (1 + 0.26**0.5) + 0.00074 * (1 + 0.1**0.5),
    ),
    # The 0.72 ms by 10 %; half of 0.22 ms more, two switches of 0.03 ms, 700 bytes at 0.02 us: 0.184 by 10 + 25 %.
    "enclave_latency_ms": (0.904, 0.648 + 0.1196, 0.792 + 0.2484),
    # 2 KiB of engine, 140 bytes of constants and 700 of tensors are below 16 KiB: all is hidden.
    "exposed_percent": (0.0, 0.0, 0.0),
}


def every_kind():
    """A network with every kind of kernel: pre-activation norms and activations stand alone."""
    graph = GraphBuilder((3, 12, 12), bits=8)
    x = graph.activation(graph.norm(graph.conv(0, 8, kernel=(3, 3), padding=(1, 1), weight_bits=8)), bits=8)
    alone = graph.activation(graph.norm(x), bits=8)
    y = graph.activation(graph.norm(graph.depthwise(alone, kernel=(3, 3), padding=(1, 1), weight_bits=8)), bits=8)
    y = graph.activation(graph.conv(y, 8, bias=True, weight_bits=8), "identity", bits=8)
    x = graph.activation(graph.add(x, y), bits=8)
    x = graph.concat(x, graph.activation(x, "relu6", bits=8))
    x = graph.pool(x, "max", kernel=(2, 2), stride=(2, 2))
    graph.linear(graph.flatten(x), 10, bias=True, weight_bits=8)
    return graph.architecture("every kind", {})


def points():
    """Points of the spaces, each distribution drawn uniformly, and the network with every kind."""
    cells = load("search_spaces", "nb201", "make_space")((3, 8, 8), 10)
    found = {"every kind": every_kind(), "one layer": one_layer(), "cell": cells.decode(cells.parse(CELL))}
    generator = np.random.default_rng(0)
    for name, shape in (("conv", (3, 16, 16)), ("conv", (1, 8, 8)), ("mlp", (30,)), ("tests.two_exits", (3, 8, 8))):
        space = load("search_spaces", name, "make_space")(shape, 10)
        found[f"{name} {shape} reference"] = space.decode(space.reference)
        for index in range(4):
            point = {key: draw(choice, generator) for key, choice in space.distributions.items()}
            found[f"{name} {shape} {index}"] = space.decode(point)
    return found


def draw(distribution, generator):
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return choices[generator.integers(len(choices))]
    if isinstance(distribution.low, int):
        return int(generator.integers(distribution.low, distribution.high + 1))
    return float(generator.uniform(distribution.low, distribution.high))


NETWORKS = points()
PAIRS = [
    (metric, device)
    for metric in METRICS
    for device in available_devices()
    if metric not in CONDITIONAL or load("estimators.cost", metric, "applies")(load_device(device))
]


def price(metric, architecture, device):
    return load("estimators.cost", metric, "estimate")(architecture, device)


def with_kernels(architecture, change):
    changed = architecture.with_ops(architecture.ops)
    changed.__dict__["kernels"] = tuple(change(kernel) for kernel in architecture.kernels)
    return changed


# Conformance: every metric, every device, every kind of network.


def widest(device):
    """The widest layers a device computes: an integer accelerator refuses float ones."""
    return max(device.weight_bits)


def networks_for(device):
    """The networks of whose kernels all have a rule, by name: some devices were calibrated without depthwise layers."""
    rules = device.latency.coefficients.keys()
    found = {name: net for name, net in NETWORKS.items() if {kernel.kind for kernel in net.kernels} <= rules}
    assert "cell" in found
    assert any(len(network.outputs) > 1 for network in found.values())
    return found


def kinds_for(device):
    """The network with every kind, or one with the kinds that the device has rules for."""
    return networks_for(device).get("every kind", at_bits(NETWORKS["cell"], 8, 8))


def runnable(network, device):
    """The same network, what is wider than the device computes narrowed to its widest."""
    wide = widest(device)
    return at_most(network, wide)


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_a_price_is_positive_and_finite(metric, device):
    chip = load_device(device)
    for name, network in networks_for(chip).items():
        estimate = price(metric, runnable(network, chip), chip)
        assert estimate.value > 0, name
        assert math.isfinite(estimate.high), name
        assert 0 <= estimate.low <= estimate.value <= estimate.high, name


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_a_price_never_falls_when_bits_grow(metric, device):
    chip = load_device(device)
    widths = [bits for bits in BITS if bits <= widest(chip)]
    for name, network in networks_for(chip).items():
        prices = [price(metric, at_bits(network, bits, bits), chip).value for bits in widths]
        assert prices == sorted(prices), (name, prices)
        weights = [price(metric, at_bits(network, bits, 8), chip).value for bits in widths]
        assert weights == sorted(weights), (name, weights)
        tensors = [price(metric, at_bits(network, 8, bits), chip).value for bits in widths]
        assert tensors == sorted(tensors), (name, tensors)


def at_bits(network, weight_bits, bits):
    formats = {"weight_format": "", "format": ""}
    ops = tuple(op._replace(weight_bits=weight_bits, bits=bits, **formats) for op in network.ops)
    return network.with_ops(ops)


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_one_operator_with_more_bits_makes_nothing_cheaper(metric, device):
    chip = load_device(device)
    wide = widest(chip)
    network = runnable(kinds_for(chip), chip) if wide > 8 else at_bits(kinds_for(chip), 4, 4)
    before = price(metric, network, chip).value
    for index, op in enumerate(network.ops):
        for wider in (op._replace(bits=wide, format=""), op._replace(weight_bits=wide, weight_format="")):
            ops = (*network.ops[:index], wider, *network.ops[index + 1 :])
            assert price(metric, network.with_ops(ops), chip).value >= before, (index, op.kind)


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_an_operator_without_a_rule_is_refused_by_name(metric, device):
    chip = load_device(device)
    strange = with_kernels(deployed(one_layer(), chip), lambda kernel: kernel._replace(kind="attention"))
    with pytest.raises(ValueError, match="attention"):
        price(metric, strange, chip)


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_a_price_depends_on_the_graph_alone_and_changes_nothing(metric, device):
    network = kinds_for(load_device(device))
    first, before = price(metric, network, load_device(device)), replace(network)
    assert price(metric, network, load_device(device)) == first
    assert network == before


def test_a_network_is_priced_anew_on_each_device():
    slow, network = load_device("stm32l4r5"), kinds_for(load_device("stm32l4r5"))
    fast = replace(slow, clock_mhz=2 * slow.clock_mhz)
    prices = [price(metric, network, chip) for chip in (slow, fast, slow) for metric in ("latency_ms", "energy_mj")]
    assert prices[2:4] == [price(metric, replace(network), fast) for metric in ("latency_ms", "energy_mj")]
    assert prices[2].value < prices[0].value
    assert prices[4:] == prices[:2]


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_no_device_that_ships_makes_anything_of_zeros_among_weights(metric, device):
    chip = load_device(device)
    dense = runnable(kinds_for(chip), chip)
    zeros = {"sparsity": 0.75, "pattern": "1:4", "shared_bits": 4}
    ops = tuple(op._replace(**zeros) if op.kind in WEIGHTED else op for op in dense.ops)
    sparse = dense.with_ops(ops)
    assert sparse.key != dense.key
    assert price(metric, sparse, chip) == price(metric, dense, chip)


def sparse_layer(**zeros):
    dense = one_layer()
    ops = tuple(op._replace(**zeros) if op.kind in WEIGHTED else op for op in dense.ops)
    return dense.with_ops(ops)


HALF = SparseKernels(kinds=("conv",), least=0.5, time_saved=0.8, index_bits=4)


def test_zeros_cost_what_the_devices_file_says():
    chip = replace(HAND, sparsity={"unstructured": HALF})
    # Of 108 weights 54 are left, of 8 bits and 4 of their place: 81 bytes instead of 108.
    half = sparse_layer(sparsity=0.5)
    assert flash_kib.estimate(half, chip).value == pytest.approx(20 + (140 - 27) / 1024)
    # 21,600 cycles of MACs less 0.8 * 0.5 of them.
    assert latency_ms.estimate(half, chip).value == pytest.approx(0.72 - 0.4 * 0.216)
    for network in (sparse_layer(sparsity=0.25), sparse_layer(sparsity=0.5, pattern="2:4")):  # too few, other places
        assert latency_ms.estimate(network, chip).value == pytest.approx(0.72)
        assert flash_kib.estimate(network, chip).value == pytest.approx(20 + 140 / 1024)
    pointwise = replace(HAND, sparsity={"unstructured": replace(HALF, kinds=("pointwise",))})
    assert latency_ms.estimate(half, pointwise).value == pytest.approx(0.72)
    as_others = replace(HAND, sparsity={"unstructured": replace(HALF, index_bits=None)})
    assert flash_kib.estimate(half, as_others).value == pytest.approx(20 + 140 / 1024)


def test_shared_values_are_stored_by_number_where_the_engine_looks_them_up():
    # 108 weights of 4 bits, 16 values of 4 bytes: 54 + 64 bytes instead of 108 of 8 bits.
    shared = sparse_layer(shared_bits=4)
    looked_up = replace(HAND, shared_values=True)
    assert flash_kib.estimate(shared, looked_up).value == pytest.approx(20 + (54 + 64 + 32) / 1024)
    assert flash_kib.estimate(shared, HAND).value == pytest.approx(20 + 140 / 1024)
    both = replace(looked_up, sparsity={"unstructured": HALF})
    # 54 weights of 4 bits and 4 of their place.
    assert flash_kib.estimate(sparse_layer(shared_bits=4, sparsity=0.5), both).value == pytest.approx(
        20 + (54 + 64 + 32) / 1024
    )


def test_every_metric_says_in_its_first_line_what_it_is():
    for metric in METRICS:
        first = importlib.import_module(f"estimators.cost.{metric}").__doc__.splitlines()[0]
        assert first.endswith(".")
        assert len(first) > 20


# References by hand, with units.


def test_every_metric_has_a_reference():
    assert set(REFERENCES) == set(METRICS)


@pytest.mark.parametrize("metric", sorted(REFERENCES))
def test_one_layer_on_one_device_by_hand(metric):
    estimate = price(metric, one_layer(), HAND)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(REFERENCES[metric], rel=1e-12)


def test_bit_operations_multiply_the_bits_of_weights_and_of_inputs():
    assert price("bit_operations", one_layer(weight_bits=4, bits=1, input_bits=2), HAND).value == 10_800 * 4 * 2


def test_params_count_a_bias():
    graph = GraphBuilder((6,))
    graph.linear(0, 3, bias=True)
    assert price("params", graph.architecture("hand", {}), HAND).value == 6 * 3 + 3


def cycles(network, device=HAND):
    return (latency_ms.estimate(network, device).value - device.latency.overhead_ms) * device.clock_mhz * 1e3


def test_each_type_of_kernel_has_its_own_cycles():
    graph = GraphBuilder((4, 6, 6), bits=8)
    x = graph.activation(graph.conv(0, 8, weight_bits=8), bits=8)  # pointwise: 4 * 8 * 36 * 3
    x = graph.activation(graph.depthwise(x, kernel=(3, 3), padding=(1, 1), weight_bits=8), bits=8)  # 8 * 9 * 36 * 5
    y = graph.activation(graph.norm(x), bits=8)  # norm, read from a tensor that is read twice: 576 elements * 6
    x = graph.activation(graph.add(x, y), bits=8)  # reads 2 * 288, writes 288: 864 * 9 + 30
    x = graph.pool(x, "avg", kernel=(6, 6), stride=(6, 6))  # 288 + 8 elements * 4
    graph.linear(graph.flatten(x), 5, weight_bits=8)  # 8 * 5 * 7, and the flatten is a view: nothing
    expected = 4 * 8 * 36 * 3 + 8 * 9 * 36 * 5 + 576 * 6 + 864 * 9 + 30 + 296 * 4 + 8 * 5 * 7
    assert cycles(graph.architecture("hand", {})) == pytest.approx(expected)


def test_an_activation_on_its_own_is_priced():
    graph = GraphBuilder((4, 6, 6), bits=8)
    graph.activation(0, bits=8)
    assert cycles(graph.architecture("hand", {})) == pytest.approx(288 * 8)


@pytest.mark.parametrize(
    ("weight_bits", "input_bits", "relative"), [(1, 1, 1), (8, 8, 1), (1, 8, 1), (32, 8, 3), (8, 32, 3), (16, 1, 3)]
)
def test_a_layer_is_computed_at_the_narrowest_width_that_holds_both(weight_bits, input_bits, relative):
    network = one_layer(weight_bits=weight_bits, input_bits=input_bits)
    assert cycles(network) == pytest.approx(10_800 * 2 * relative + 350 + 50)


def test_a_device_refuses_what_it_has_no_rule_for():
    concat = GraphBuilder((4, 6, 6), bits=8)
    concat.concat(0, 0)
    with pytest.raises(ValueError, match=r"'concat' in the latency table of 'hand'"):
        latency_ms.estimate(concat.architecture("hand", {}), HAND)
    narrow = replace(HAND, latency=replace(HAND.latency, relative_cycles={8: 1.0}))
    with pytest.raises(ValueError, match=r"32/8 bits .* 'hand'"):
        latency_ms.estimate(one_layer(weight_bits=32), narrow)
    with pytest.raises(ValueError, match="no width for 32 bits"):
        flash_kib.estimate(one_layer(weight_bits=32), replace(HAND, weight_bits=(8,)))


def test_energy_needs_a_power():
    assert energy_mj.applies(HAND)
    powerless = replace(HAND, energy=None)
    assert not energy_mj.applies(powerless)
    with pytest.raises(ValueError, match=r"'hand' has no measured power"):
        energy_mj.estimate(one_layer(), powerless)


def flash_bytes(network):
    return (flash_kib.estimate(network, HAND).value - HAND.engine_flash_kib) * 1024


@pytest.mark.parametrize(("bits", "weights"), [(1, 14), (2, 108), (4, 108), (8, 108), (16, 432), (32, 432)])
def test_flash_packs_weights_at_the_width_that_is_stored(bits, weights):
    # 108 weights of 1 bit are 13.5 bytes. Float weights need no scales, so 4 channels lose 4 bytes each.
    constants = 4 * 4 if bits > 8 else 4 * 8
    assert flash_bytes(one_layer(weight_bits=bits)) == pytest.approx(weights + constants)


def test_flash_counts_a_norm_that_nothing_folds():
    graph = GraphBuilder((5, 4, 4), bits=8)
    graph.activation(graph.norm(graph.pool(0, "max", kernel=(2, 2), stride=(2, 2))), bits=8)
    assert flash_bytes(graph.architecture("hand", {})) == pytest.approx(5 * 8)


def test_flash_counts_a_bias_once_and_none_where_there_is_none():
    def linear(bias, norm):
        graph = GraphBuilder((6,), bits=8)
        x = graph.linear(0, 3, bias=bias, weight_bits=8)
        graph.activation(graph.norm(x) if norm else x, bits=8)
        return flash_bytes(graph.architecture("hand", {}))

    assert linear(bias=False, norm=False) == pytest.approx(18 + 3 * 4)
    assert linear(bias=True, norm=False) == linear(bias=True, norm=True) == pytest.approx(18 + 3 * 8)


# Counts that others make of the float twin.


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "one layer"])
def test_fvcore_thop_and_pytorch_count_the_same(name):
    twin = NETWORKS[name].as_float()
    network, record = build(twin).eval(), torch.zeros(1, *twin.input_shape)
    macs = price("macs", twin, HAND).value
    assert price("params", twin, HAND).value == sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(record)
    assert counter.get_total_flops() == 2 * macs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fvcore, thop = map(importlib.import_module, ("fvcore.nn", "thop"))  # both warn as they are imported
        analysis = fvcore.FlopCountAnalysis(network, record).unsupported_ops_warnings(False)
        counts = analysis.by_operator()
        total, params = thop.profile(network, (record,), custom_ops=without_macs(), verbose=False)
    assert counts["conv"] + counts["linear"] == macs
    assert (total, params) == (macs, price("params", twin, HAND).value)


def without_macs():
    """Rules for thop: no MACs for these layers, and those of a convolution for ours, which it knows by its class."""
    free = (nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool2d, nn.MaxPool2d)
    counted = {QuantConv2d: importlib.import_module("thop.vision.basic_hooks").count_convNd}
    return counted | dict.fromkeys(free, lambda module, inputs, output: None)


def test_what_an_engine_leaves_out_takes_no_time_memory_flash_or_energy():
    graph = GraphBuilder((3, 10, 10), bits=8)
    kept = graph.activation(graph.conv(0, 4, kernel=(3, 3), padding=(1, 1), weight_bits=8), bits=8)
    dead = graph.activation(graph.conv(0, 64, weight_bits=8), bits=8)
    graph.pool(dead, "max", kernel=(2, 2), stride=(2, 2))
    graph.pool(kept, "max", kernel=(2, 2), stride=(2, 2))
    network = graph.architecture("hand", {})
    alone = GraphBuilder((3, 10, 10), bits=8)
    kept = alone.activation(alone.conv(0, 4, kernel=(3, 3), padding=(1, 1), weight_bits=8), bits=8)
    alone.pool(kept, "max", kernel=(2, 2), stride=(2, 2))
    bitfusion = load_device("bitfusion_like")
    for chip, metrics in ((HAND, ("latency_ms", "energy_mj", "peak_ram_kib", "flash_kib")), (bitfusion, ["energy_mj"])):
        eager = replace(chip, prune_dead_ops=False)
        for metric in metrics:
            assert price(metric, network, chip) == price(metric, alone.architecture("hand", {}), chip), metric
            assert price(metric, network, eager).value > price(metric, network, chip).value, metric


@pytest.mark.parametrize("metric", ["latency_ms", "energy_mj", "peak_ram_kib", "flash_kib"])
def test_a_float_network_costs_what_its_converter_makes_of_it(metric):
    converting = replace(HAND, float_becomes_bits=8)
    float_network = at_bits(one_layer(), 32, 32)
    assert price(metric, float_network, converting) == price(metric, one_layer(), HAND)
    assert price(metric, float_network, HAND).value > price(metric, float_network, converting).value
