"""Accesses and energies by hand, in bits and picojoules, and the roofs that a kernel's cycles meet."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.cost import energy_mj
from estimators.devices.device import Calibration
from estimators.devices.device import Device
from estimators.devices.device import Energy
from estimators.devices.device import Hierarchy
from estimators.devices.device import Latency
from estimators.devices.device import LevelEnergies
from estimators.devices.fields import cheapest_holding
from estimators.models.accelerator import DATAFLOWS
from estimators.models.accelerator import LEVELS
from estimators.models.accelerator import accessed_bits
from estimators.models.accelerator import layer_energies
from estimators.models.accelerator import shape_of
from estimators.models.accelerator import technology_scale
from estimators.models.latency import inference_ms
from estimators.models.latency import kernel_cycles
from estimators.models.latency import occupied_macs
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.builder import GraphBuilder

CHIP = Hierarchy(
    pj_per_bit=LevelEnergies(register_file=0.1, array=0.2, buffer=0.6, dram=20.0),
    mac_pj={"8": 1.5, "4/8": 0.9, "4": 0.5},
    rows=4,
    columns=2,
    register_words=12,
    buffer_kib=100.0,
    accumulator_bits=16,
    dataflows=("weight_stationary",),
)
DEVICE = Device(
    name="chip",
    description="numbers for the head",
    core="c",
    clock_mhz=100.0,
    engine="e",
    precision="int8",
    weight_bits=(4, 8),
    activation_bits=(4, 8, 32),
    engine_ram_kib=0.0,
    engine_flash_kib=0.0,
    latency=Latency(
        cycles_per_mac={"conv": 2.0, "pointwise": 2.0, "depthwise": 5.0, "linear": 2.0},
        cycles_per_element={"add": 1.0, "pool": 1.0},
        cycles_per_kernel={},
        relative_cycles={"8": 1.0, "4/8": 0.75, "4": 0.5},
        overhead_ms=0.0,
        interval=0.1,
    ),
    calibration=Calibration(source="s", networks=1, error_mean=0.0, error_max=0.0),
    energy=Energy(interval=0.3, hierarchy=CHIP),
)


def conv_network(bits=8, weight_bits=8, groups=1):
    """3x3 convolution of a 2x4x4 image to 4x4x4: 72 weights, 32 inputs, 64 outputs, 1,152 MACs, 18 to an output."""
    graph = GraphBuilder((2, 4, 4), bits=bits)
    x = graph.conv(0, 4, kernel=(3, 3), padding=(1, 1), weight_bits=weight_bits, groups=groups)
    graph.activation(x, bits=bits)
    return graph.architecture("hand", {})


def linear_network():
    graph = GraphBuilder((10,), bits=8)
    graph.activation(graph.linear(0, 6, weight_bits=8), bits=8)
    return graph.architecture("hand", {})


def with_latency(**changes):
    return replace(DEVICE, latency=replace(DEVICE.latency, **changes))


def with_chip(**changes):
    return replace(DEVICE, energy=replace(DEVICE.energy, hierarchy=replace(CHIP, **changes)))


def bits_of(network, dataflow, chip=CHIP):
    kernel = network.kernels[0]
    return accessed_bits(kernel, shape_of(kernel, network), dataflow, DEVICE, chip)


def test_accesses_of_a_weight_stationary_convolution():
    # Weights: 576 bits, used 16 times, all of them in one register. Inputs: 256 bits, 36 uses, each across 2 columns.
    # Sums: 64 of 16 bits, 18 products, 4 added down a column, so 4.5 visits to the buffer, the first a write only.
    moved = bits_of(conv_network(), "weight_stationary")
    assert moved["register_file"] == pytest.approx(576 * 16 + 256 * 36)
    assert moved["array"] == pytest.approx(576 * 1 + 256 * 36 + 1024 * 4.5 * 3)
    assert moved["buffer"] == pytest.approx(576 * 1 + 256 * 18 + 1024 * 2 * 3.5)
    assert moved["dram"] == pytest.approx(576 + 256 + 64 * 8)


def test_accesses_of_an_output_stationary_convolution():
    # Sums stay: 2 x 17 accesses of a register. Weights are read for each of 16 pixels, shared by 4 of them.
    moved = bits_of(conv_network(), "output_stationary")
    assert moved["register_file"] == pytest.approx(576 * 16 + 256 * 36 + 1024 * 2 * 17)
    assert moved["array"] == pytest.approx(576 * 16 + 256 * 36)
    assert moved["buffer"] == pytest.approx(576 * 4 + 256 * 18)


def test_accesses_of_a_row_stationary_convolution():
    # 12 words hold 4 rows of 3 weights: 2 filters of 2 channels. A weight: 4 columns of outputs in its register, 2 rows
    # of outputs side by side. An input: 3 x 2 uses, 3 rows. A sum: 3 x 2 products, 3 rows; 1 of 1 sets.
    moved = bits_of(conv_network(), "row_stationary")
    assert moved["register_file"] == pytest.approx(576 * 16 + 256 * 36 + 1024 * 2 * 3 * 5)
    assert moved["array"] == pytest.approx(576 * 4 + 256 * 6 + 1024 * 2)
    assert moved["buffer"] == pytest.approx(576 * 2 + 256 * 2)


def test_an_input_is_shared_by_the_filters_of_its_group_alone():
    graph = GraphBuilder((4, 4, 4), bits=8)
    graph.activation(graph.depthwise(0, kernel=(3, 3), padding=(1, 1), weight_bits=8), bits=8)
    # 576 MACs of 36 weights on 64 inputs: 9 uses each, every one of them a read of the buffer. 9 products, 4 a column.
    moved = bits_of(graph.architecture("hand", {}), "weight_stationary")
    assert moved["buffer"] == pytest.approx(36 * 8 + 64 * 8 * 9 + 64 * 16 * 2 * (9 / 4 - 1))
    grouped = GraphBuilder((4, 4, 4), bits=8)
    grouped.activation(grouped.conv(0, 8, kernel=(1, 1), groups=4, weight_bits=8), bits=8)
    # 2 filters to a group, one in each column: 2 uses of an input for one read. No sum has a second product.
    assert bits_of(grouped.architecture("hand", {}), "weight_stationary")["buffer"] == pytest.approx(8 * 8 + 64 * 8)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_fully_connected_weight_is_read_once_from_everywhere(dataflow):
    network = linear_network()
    moved = bits_of(network, dataflow)
    assert moved["dram"] == 60 * 8 + 10 * 8 + 6 * 8
    assert moved["buffer"] >= 60 * 8 + 10 * 8
    assert moved["register_file"] >= 60 * 8 * 1 + 60 * 8


def test_what_exceeds_half_the_buffer_is_read_again():
    # 72 bytes of weights and 32 of inputs. Half of 0.03125 KiB holds 16: weights in 5 parts, inputs in 2. Reading the
    # weights for each part of the inputs costs 72 bytes more, the inputs for each part of the weights 128.
    small = replace(CHIP, buffer_kib=0.03125)
    extra = (
        bits_of(conv_network(), "weight_stationary", small)["dram"]
        - bits_of(conv_network(), "weight_stationary")["dram"]
    )
    assert extra == 72 * 8


def test_a_layers_energy_is_its_macs_its_accesses_and_its_time():
    device = with_chip(static_power_mw=50.0)
    (layer,) = layer_energies(conv_network(), device)
    moved = bits_of(conv_network(), "weight_stationary")
    assert layer.mac_mj == pytest.approx(1152 * 1.5e-9)
    assert layer.level_mj["dram"] == pytest.approx(moved["dram"] * 20e-9)
    assert layer.level_mj["buffer"] == pytest.approx(moved["buffer"] * 0.6e-9)
    # 2,304 cycles at 100 MHz are 23.04 us, at 50 mW 1.152 uJ.
    assert layer.static_mj == pytest.approx(1.152e-3)
    parts = layer.mac_mj + layer.static_mj + sum(layer.level_mj.values())
    assert layer.energy_mj == pytest.approx(parts)
    estimate = energy_mj.estimate(conv_network(), device)
    assert estimate.value == pytest.approx(parts)
    assert estimate.high == pytest.approx(parts * 1.3)


@pytest.mark.parametrize(
    ("weight_bits", "bits", "pj"), [(8, 8, 1.5), (4, 8, 0.9), (4, 4, 0.5), (1, 3, 0.5), (5, 4, 1.5)]
)
def test_a_mac_costs_what_its_bits_do(weight_bits, bits, pj):
    (layer,) = layer_energies(conv_network(bits, weight_bits), DEVICE)
    assert layer.mac_mj == pytest.approx(1152 * pj * 1e-9)


def test_each_layer_runs_the_cheapest_dataflow_and_says_what_others_cost():
    device = with_chip(dataflows=tuple(DATAFLOWS))
    (layer,) = layer_energies(conv_network(), device)
    alone = {name: layer_energies(conv_network(), with_chip(dataflows=(name,)))[0].energy_mj for name in DATAFLOWS}
    assert dict(layer.by_dataflow) == pytest.approx(alone)
    assert layer.dataflow == min(alone, key=alone.get)
    assert layer.energy_mj == min(alone.values())


def test_kernels_without_macs_pay_for_passing_through():
    graph = GraphBuilder((2, 4, 4), bits=8)
    graph.flatten(graph.pool(0, "max", kernel=(2, 2), stride=(2, 2)))
    pool, flatten = layer_energies(graph.architecture("hand", {}), DEVICE)
    assert pool.level_mj["dram"] == pytest.approx((32 + 8) * 8 * 20e-9)
    assert pool.level_mj["buffer"] == pytest.approx((32 + 8) * 8 * 0.6e-9)
    assert (pool.dataflow, pool.mac_mj) == ("", 0.0)
    assert flatten.energy_mj == 0


def test_what_cannot_be_priced_is_refused():
    with pytest.raises(ValueError, match="32/8 bits in the energy of 'chip'"):
        layer_energies(
            conv_network(weight_bits=32), replace(DEVICE, latency=with_latency(relative_cycles={32: 1.0}).latency)
        )
    with pytest.raises(ValueError, match="no dataflow 'sideways'; there are"):
        layer_energies(conv_network(), with_chip(dataflows=("sideways",)))
    with pytest.raises(ValueError, match="'chip' has no memory hierarchy"):
        layer_energies(conv_network(), replace(DEVICE, energy=Energy(interval=0.1, active_power_mw=3.0)))


@pytest.mark.parametrize("energy", [{}, {"active_power_mw": 1.0, "hierarchy": CHIP}])
def test_energy_is_a_power_or_a_hierarchy(energy):
    with pytest.raises(ValueError, match="either 'active_power_mw' or 'hierarchy'"):
        Energy(interval=0.1, **energy)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 24),
    filters=st.integers(1, 40),
    size=st.integers(3, 20),
    window=st.sampled_from([1, 3, 5]),
    dataflow=st.sampled_from(sorted(DATAFLOWS)),
)
def test_no_level_is_read_less_than_the_one_above_and_dram_no_less_than_the_data(
    channels, filters, size, window, dataflow
):
    graph = GraphBuilder((channels, size, size), bits=8)
    x = graph.conv(0, filters, kernel=(window, window), padding=(window // 2, window // 2), weight_bits=8)
    graph.activation(x, bits=8)
    network = graph.architecture("drawn", {})
    kernel = network.kernels[0]
    moved = bits_of(network, dataflow)
    assert moved["dram"] >= 8 * (kernel.weights + kernel.input_size + kernel.output_size)
    assert moved["buffer"] >= 8 * (kernel.weights + kernel.input_size)
    assert moved["register_file"] >= 2 * 8 * kernel.macs * (1 - 1e-9)
    assert moved["array"] >= 8 * (kernel.weights + kernel.input_size)


def test_technology_scaling_is_the_published_polynomial():
    # Published to two digits, at 0.8 V and relative to 45 nm.
    scales = {node: technology_scale(node, 0.8, from_volts=0.8) for node in (65, 45, 32, 20, 16, 7)}
    assert scales == pytest.approx({65: 1.24, 45: 1.0, 32: 0.66, 20: 0.22, 16: 0.17, 7: 0.094}, rel=0.03)
    assert technology_scale(65, 1.0) == pytest.approx((3.755 - 4.398 + 1.975) / (1.103 * 0.81 - 0.362 * 0.9 + 0.2767))
    there = technology_scale(16, 0.7, from_nanometres=65, from_volts=1.1)
    assert there * technology_scale(65, 1.1, from_nanometres=16, from_volts=0.7) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"no technology of 28 nm; there are \[65, 45"):
        technology_scale(28, 0.9)
    with pytest.raises(ValueError, match=r"0.5 to 1.3 volts; got 5"):
        technology_scale(45, 5)


def cycles(network, device):
    return sum(kernel_cycles(kernel, device) for kernel in network.kernels)


def test_a_kernel_takes_the_longer_of_computing_and_moving():
    # 1,152 MACs at 2 cycles; 72 + 32 + 64 bytes.
    assert cycles(conv_network(), with_latency(cycles_per_byte={"conv": 10.0})) == 2304
    assert cycles(conv_network(), with_latency(cycles_per_byte={"conv": 20.0})) == 168 * 20
    assert cycles(conv_network(), with_latency(cycles_per_byte={"linear": 20.0})) == 2304
    roofs = {"cycles_per_byte": {"conv": 20.0}, "cycles_per_weight_byte": {"conv": 50.0}}
    assert cycles(conv_network(), with_latency(**roofs)) == 72 * 50 + 96 * 20
    # 4-bit weights halve their bytes; sums of 32 bits leave at 4 bytes each.
    assert cycles(conv_network(weight_bits=4), with_latency(cycles_per_byte={"conv": 20.0})) == (36 + 96) * 20
    assert cycles(conv_network(), with_latency(cycles_per_byte={"conv": 20.0}, accumulator_bits=32)) == (104 + 256) * 20


def test_elements_and_the_kernels_own_cost_come_on_top_of_the_roof():
    device = with_latency(
        cycles_per_byte={"conv": 20.0}, cycles_per_element={"conv": 3.0}, cycles_per_kernel={"conv": 7.0}
    )
    assert cycles(conv_network(), device) == 168 * 20 + 96 * 3 + 7


def test_an_array_that_a_layer_does_not_fill_is_paid_for():
    (kernel,) = conv_network().kernels
    assert occupied_macs(kernel, (18, 4)) == 1152
    assert occupied_macs(kernel, (36, 4)) == 2304
    assert occupied_macs(kernel, (10, 8)) == 2304
    assert cycles(conv_network(), with_latency(array=(36, 8))) == 4 * 2304


def test_weights_beyond_the_cache_are_streamed():
    # 72 bytes of weights, 51.2 of them cached: 20.8 bytes at 5 cycles, 100 cycles a microsecond.
    device = with_latency(weight_cache_kib=0.05, cycles_per_streamed_byte=5.0)
    more_ms = inference_ms(conv_network(), device).value - inference_ms(conv_network(), DEVICE).value
    assert more_ms == pytest.approx(20.8 * 5 / 100e3)
    roomy = with_latency(weight_cache_kib=1.0, cycles_per_streamed_byte=5.0)
    assert inference_ms(conv_network(), roomy) == inference_ms(conv_network(), DEVICE)


@pytest.mark.parametrize(
    ("weight_bits", "bits", "relative"), [(8, 8, 1), (4, 8, 0.75), (4, 4, 0.5), (2, 6, 0.75), (6, 4, 1), (3, 3, 0.5)]
)
def test_a_layer_is_computed_at_the_cheapest_pair_that_holds_it(weight_bits, bits, relative):
    assert cycles(conv_network(bits, weight_bits), DEVICE) == 2304 * relative


def test_other_widths_are_refused_where_the_device_says_so():
    device = with_latency(other_widths="refuse")
    assert cycles(conv_network(8, 4), device) == 2304 * 0.75
    with pytest.raises(ValueError, match=r"no rule for 2/8 bits in the latency table of 'chip'; there are .*'4/8'"):
        cycles(conv_network(8, 2), device)


@pytest.mark.parametrize("table", [{"8": 0.5, "4": 1.0}, {"4/8": 1.1, "8": 1.0}, {"8/4": 1.1, "8": 1.0}])
def test_narrow_pairs_are_never_dearer(table):
    with pytest.raises(ValueError, match="do not fall as bits grow"):
        with_latency(relative_cycles=table)


@pytest.mark.parametrize("key", ["8/", "8/4/2", "0", "33", "4.5", "eight", "-1", True])
def test_a_pair_is_two_integers_or_one(key):
    with pytest.raises(ValueError, match="8 or 4/8"):
        with_latency(relative_cycles={key: 1.0})


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    st.dictionaries(st.tuples(st.integers(1, 8), st.integers(1, 8)), st.floats(0.1, 9), min_size=1, max_size=5),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_the_pair_found_is_the_cheapest_of_all_that_hold(table, weight_bits, bits):
    holding = [value for pair, value in table.items() if pair[0] >= weight_bits and pair[1] >= bits]
    assert cheapest_holding(table).get((weight_bits, bits)) == (min(holding) if holding else None)


def test_levels_are_those_of_the_device():
    assert set(LEVELS) == {name for name in vars(CHIP.pj_per_bit) if not name.startswith("__")}
    assert isinstance(conv_network().kernels[0], Kernel)
