import importlib
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from estimators.cost import energy_mj
from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.cost import peak_ram_kib
from estimators.device import Calibration
from estimators.device import Device
from estimators.device import Energy
from estimators.device import Latency
from estimators.device import available_devices
from estimators.device import load_device
from nas.plugins import available
from nas.plugins import load
from search_spaces.graph import Architecture
from search_spaces.graph import GraphBuilder
from search_spaces.network import build

METRICS = available("estimators.cost", "estimate")
CONDITIONAL = available("estimators.cost", "applies")
BITS = (1, 2, 4, 8, 32)

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
    # 108 bytes of weights + 4 channels * (4 scale + 4 bias) = 140 bytes = 0.13671875 KiB, + 20 KiB of engine
    "flash_kib": (20.13671875, 20.13671875, 20.13671875),
    # 300 bytes in + 400 bytes out = 0.68359375 KiB, + 10 KiB of engine
    "peak_ram_kib": (10.68359375, 10.68359375, 10.68359375),
    # 10,800 * 2 + 700 elements * 0.5 + 50 = 22,000 cycles; 100,000 of them make a millisecond: 0.22 ms + 0.5 ms
    "latency_ms": (0.72, 0.648, 0.792),
    # 50 mW * 0.72 ms = 36 microjoules, give or take 10 % of time and 20 % of power
    "energy_mj": (0.036, 0.0252, 0.0468),
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
    """Points of both spaces, each distribution drawn uniformly, and the network with every kind."""
    found = {"every kind": every_kind(), "one layer": one_layer()}
    generator = np.random.default_rng(0)
    for name, shape in (("conv", (3, 16, 16)), ("conv", (1, 8, 8)), ("mlp", (30,))):
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
    changed = Architecture(architecture.space, architecture.params, architecture.ops)
    changed.__dict__["kernels"] = tuple(change(kernel) for kernel in architecture.kernels)
    return changed


# Conformance: every metric, every device, every kind of network.


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_a_price_is_positive_and_finite(metric, device):
    for name, network in NETWORKS.items():
        estimate = price(metric, network, load_device(device))
        assert estimate.value > 0, name
        assert math.isfinite(estimate.high), name
        assert 0 <= estimate.low <= estimate.value <= estimate.high, name


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_a_price_never_falls_when_bits_grow(metric, device):
    for name, network in NETWORKS.items():
        prices = [price(metric, at_bits(network, bits, bits), load_device(device)).value for bits in BITS]
        assert prices == sorted(prices), (name, prices)
        weights = [price(metric, at_bits(network, bits, 8), load_device(device)).value for bits in BITS]
        assert weights == sorted(weights), (name, weights)
        tensors = [price(metric, at_bits(network, 8, bits), load_device(device)).value for bits in BITS]
        assert tensors == sorted(tensors), (name, tensors)


def at_bits(network, weight_bits, bits):
    ops = tuple(replace(op, weight_bits=weight_bits, bits=bits) for op in network.ops)
    return Architecture(network.space, network.params, ops)


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_one_operator_with_more_bits_makes_nothing_cheaper(metric, device):
    network, chip = every_kind(), load_device(device)
    before = price(metric, network, chip).value
    for index, op in enumerate(network.ops):
        for wider in (replace(op, bits=32), replace(op, weight_bits=32)):
            ops = (*network.ops[:index], wider, *network.ops[index + 1 :])
            assert price(metric, Architecture("wider", {}, ops), chip).value >= before, (index, op.kind)


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_an_operator_without_a_rule_is_refused_by_name(metric, device):
    strange = with_kernels(one_layer(), lambda kernel: kernel._replace(kind="attention"))
    with pytest.raises(ValueError, match="attention"):
        price(metric, strange, load_device(device))


@pytest.mark.parametrize(("metric", "device"), PAIRS)
def test_a_price_depends_on_the_graph_alone_and_changes_nothing(metric, device):
    network = every_kind()
    first = price(metric, network, load_device(device))
    assert price(metric, network, load_device(device)) == first
    assert network == every_kind()


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
    free = (nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool2d, nn.MaxPool2d)
    return dict.fromkeys(free, lambda module, inputs, output: None)


# Peak memory.


def peak_bytes(network, device=HAND):
    return (peak_ram_kib.estimate(network, device).value - device.engine_ram_kib) * 1024


def test_two_branches_run_in_the_better_order():
    graph = GraphBuilder((1, 10, 10), bits=8)  # 100 bytes
    wide = graph.activation(graph.conv(0, 4, weight_bits=8), bits=8)  # 400
    wide = graph.activation(graph.conv(wide, 1, weight_bits=8), bits=8)  # 100
    slim = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)  # 300
    graph.activation(graph.concat(wide, slim), bits=8)  # 400
    network = graph.architecture("hand", {})
    # As listed: input + 400, then 100 + 400 + 100 = 600, then 100 + 100 + 300, then 100 + 300 + 400 = 800.
    # The slim branch first would hold its 300 beside 400 + 100. The join needs 800 whatever comes before.
    assert peak_bytes(network) == 800
    order, peak = peak_ram_kib.best_order(network, HAND)
    assert peak == 800
    assert order == (0, 1, 2, 3)


def test_the_listed_order_is_not_taken_for_granted():
    graph = GraphBuilder((1, 10, 10), bits=8)  # 100 bytes
    slim = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)  # 300
    wide = graph.activation(graph.conv(0, 8, weight_bits=8), bits=8)  # 800
    wide = graph.activation(graph.conv(wide, 1, weight_bits=8), bits=8)  # 100
    graph.activation(graph.concat(slim, wide), bits=8)  # 400
    # As listed, 300 wait beside 100 + 800. The other way round the peak is 100 + 800 + 100 while the input waits.
    assert peak_ram_kib.best_order(graph.architecture("hand", {}), HAND) == ((1, 2, 0, 3), 1000)


def test_a_shortcut_keeps_its_tensor_alive():
    graph = GraphBuilder((2, 10, 10), bits=8)  # 200 bytes
    x = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)  # 300
    x = graph.activation(graph.conv(x, 2, weight_bits=8), bits=8)  # 200
    graph.activation(graph.add(0, x), bits=8)  # 200
    assert peak_bytes(graph.architecture("hand", {})) == 200 + 300 + 200


def test_a_view_takes_no_memory_and_a_float_tensor_four_times_as_much():
    graph = GraphBuilder((2, 10, 10), bits=8)
    x = graph.activation(graph.conv(0, 1, weight_bits=8), bits=4)  # 100 elements, stored in 8 bits
    graph.linear(graph.flatten(x), 50, weight_bits=8)  # 50 floats: 200 bytes
    assert peak_bytes(graph.architecture("hand", {})) == max(200 + 100, 100 + 200)
    float_first = GraphBuilder((2, 10, 10))
    float_first.activation(float_first.conv(0, 1), bits=8)
    assert peak_bytes(float_first.architecture("hand", {})) == 800 + 100


@st.composite
def small_graphs(draw):
    """At most nine operators that run, with branches, joins, views and results that nobody reads."""
    graph = GraphBuilder((draw(st.integers(1, 9)), 2, 2), bits=8)
    images = [0]
    for _ in range(draw(st.integers(1, 7))):
        if len(graph.architecture("small", {}).kernels) > 5:
            break
        kind = draw(st.sampled_from(["conv", "conv", "conv", "concat", "add", "norm", "view"]))
        source = draw(st.sampled_from(images))
        if kind == "conv":
            x = graph.conv(source, draw(st.integers(1, 12)), weight_bits=8)
            images.append(graph.activation(x, bits=draw(st.sampled_from([8, 8, 32]))))
        elif kind == "concat":
            images.append(graph.concat(source, draw(st.sampled_from(images))))
        elif kind == "norm":
            images.append(graph.norm(source, bits=8))
        elif kind == "view":
            graph.activation(graph.linear(graph.flatten(source), draw(st.integers(1, 30))), bits=8)
        else:
            same = [image for image in images if graph.ops[image].shape == graph.ops[source].shape]
            images.append(graph.activation(graph.add(source, draw(st.sampled_from(same))), bits=8))
    if draw(st.booleans()):
        graph.linear(graph.flatten(images[-1]), 3)
    return graph.architecture("small", {})


def tensor_of(network, op):
    """The operator whose tensor holds an operator's output: views hold none of their own."""
    views = {kernel.output: kernel.inputs[0] for kernel in network.kernels if kernel.kind == "flatten"}
    while op in views:
        op = views[op]
    return op


def step(network, memory, left, index):
    """Run one kernel: bytes while it runs, and the tensors still needed by the kernels left and at the end."""
    memory = memory | {tensor_of(network, network.kernels[index].output)}
    used = sum(network.ops[op].size * (1 if network.ops[op].bits <= 8 else 4) for op in memory)
    needed = {tensor_of(network, source) for later in left for source in network.kernels[later].inputs}
    return used, memory & (needed | {tensor_of(network, len(network.ops) - 1)})


def simulate(network, order):
    """Peak in bytes of an order; refuses one that cannot run."""
    memory, made, peak = {0}, {0}, network.ops[0].size
    assert sorted(order) == list(range(len(network.kernels)))
    for position, index in enumerate(order):
        assert made.issuperset(network.kernels[index].inputs)
        used, memory = step(network, memory, order[position + 1 :], index)
        made, peak = made | {network.kernels[index].output}, max(peak, used)
    return peak


def brute_force(network, memory=frozenset({0}), made=frozenset({0}), left=None):
    """Smallest peak over every topological order, none skipped."""
    kernels = network.kernels
    left = tuple(range(len(kernels))) if left is None else left
    peaks = []
    for index in left:
        if made.issuperset(kernels[index].inputs):
            rest = tuple(other for other in left if other != index)
            used, kept = step(network, memory, rest, index)
            peaks.append(max(used, brute_force(network, kept, made | {kernels[index].output}, rest)))
    return min(peaks) if left else network.ops[0].size


@settings(max_examples=100, deadline=None, derandomize=True)
@given(small_graphs())
def test_the_best_order_equals_brute_force_over_all_orders(network):
    order, peak = peak_ram_kib.best_order(network, HAND)
    assert len(network.kernels) <= 9
    assert peak == brute_force(network)
    assert simulate(network, order) == peak
    assert peak_bytes(network) == peak


def test_many_blocks_with_two_branches_are_searched_piece_by_piece():
    graph = GraphBuilder((4, 8, 8), bits=8)
    x = 0
    for _ in range(40):
        left = graph.activation(graph.conv(x, 4, weight_bits=8), bits=8)
        right = graph.activation(graph.conv(x, 16, weight_bits=8), bits=8)
        right = graph.activation(graph.conv(right, 4, weight_bits=8), bits=8)
        x = graph.activation(graph.add(left, right), bits=8)
    network = graph.architecture("deep", {})
    order, peak = peak_ram_kib.best_order(network, HAND)
    assert simulate(network, order) == peak == 256 + 1024 + 256
