"""An estimate unlike all that was measured says so, and its interval is wider the farther it lies."""

import importlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.cost import enclave_latency_ms
from estimators.cost import energy_mj
from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.cost import macs
from estimators.cost import params
from estimators.cost import peak_ram_kib
from estimators.cost import split_energy_mj
from estimators.cost import split_latency_ms
from estimators.devices.device import Enclave
from estimators.devices.device import FloatKernels
from estimators.devices.device import Link
from estimators.devices.device import LinkPower
from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.models.extrapolation import OTHER_KIND
from estimators.models.extrapolation import summed
from estimators.models.extrapolation import timed
from estimators.models.extrapolation import unlike
from search_spaces.graph.builder import GraphBuilder

ROOT = Path(__file__).resolve().parents[3]
DEVICES = {name: load_device(name) for name in available_devices()}
RANGED = [name for name, device in DEVICES.items() if device.calibration.fastest_ms]
MEMORY = ("stm32h747", "stm32u575")


def network(window=(3, 3), bits=8, channels=4, side=10):
    """A convolution of 3 channels and a linear layer."""
    graph = GraphBuilder((3, side, side), bits=bits)
    x = graph.conv(0, channels, kernel=window, weight_bits=bits)
    x = graph.activation(graph.norm(x), bits=bits)
    graph.linear(graph.flatten(x), 10, weight_bits=bits)
    return graph.architecture("example", {})


def usual(device):
    """A network of layers that every device with a range was measured with."""
    return network(bits=min(max(device.weight_bits), device.calibration.widest_bits or 32))


def widths(estimate):
    """Return the ends over the value."""
    return estimate.low / estimate.value, estimate.high / estimate.value


# Conformance: every device that states a range.


@pytest.mark.parametrize("name", RANGED)
def test_within_the_range_an_interval_is_what_cross_validation_found(name):
    device = DEVICES[name]
    found, interval = device.calibration, device.latency.interval
    for time_ms in (found.fastest_ms, (found.fastest_ms * found.slowest_ms) ** 0.5, found.slowest_ms):
        estimate = timed(time_ms, usual(device), device)
        assert not estimate.extrapolated
        assert widths(estimate) == pytest.approx((max(0.0, 1 - interval), 1 + interval))


@pytest.mark.parametrize("name", RANGED)
@settings(max_examples=10, derandomize=True, deadline=None)
@given(st.floats(1.001, 1e4), st.floats(1.001, 10), st.booleans())
def test_outside_it_is_wider_and_wider(name, distance, more, slower):
    device = DEVICES[name]
    example = usual(device)
    near_ms, far_ms = (
        device.calibration.slowest_ms * factor if slower else device.calibration.fastest_ms / factor
        for factor in (distance * (1 + device.latency.interval), distance * more * (1 + device.latency.interval))
    )
    inside = timed(device.calibration.fastest_ms, example, device)
    near, far = (timed(time_ms, example, device) for time_ms in (near_ms, far_ms))
    assert near.extrapolated
    assert far.extrapolated
    assert near.value == near_ms  # the value itself is kept
    assert widths(far)[1] > widths(near)[1] > widths(inside)[1]
    assert widths(far)[0] <= widths(near)[0] <= widths(inside)[0]


@pytest.mark.parametrize("name", available_devices())
def test_counts_are_exact_and_memory_says_whether_it_was_measured(name):
    device = DEVICES[name]
    example = usual(device)
    for metric in (macs, params):
        found = metric.estimate(example, device)
        assert found.low == found.value == found.high
        assert not found.extrapolated
    for metric in (peak_ram_kib, flash_kib):
        found = metric.estimate(example, device)
        measured = name in MEMORY
        assert (device.calibration.memory_networks > 0) is measured
        assert found.extrapolated is not measured
        assert found.low <= found.value <= found.high
    ram = peak_ram_kib.estimate(example, device)
    assert ram.low < ram.value < ram.high


# By hand.


def chip(**calibration):
    """The STM32H747 with an interval of 20 % and a range of 2 to 8 ms."""
    device = DEVICES["stm32h747"]
    stated = {"fastest_ms": 2.0, "slowest_ms": 8.0, "windows": (), "widest_bits": None, **calibration}
    latency = replace(device.latency, interval=0.2)
    return replace(device, latency=latency, calibration=replace(device.calibration, **stated))


def test_an_interval_grows_with_the_root_of_the_distance():
    # 0.375 ms, 0.45 ms with its interval, is four times faster than 1.8 ms: twice as wide, * 0.8 / 2 and * 1.2 * 2.
    near = timed(0.375, network(), chip(fastest_ms=1.8))
    assert (near.low, near.value, near.high, near.extrapolated) == (
        pytest.approx(0.15),
        0.375,
        pytest.approx(0.9),
        True,
    )
    # 86.4 ms is nine times slower than 8 ms and the interval of 20 %.
    far = timed(86.4, network(), chip())
    assert (far.low, far.high) == pytest.approx((86.4 * 0.8 / 3, 86.4 * 1.2 * 3))
    assert timed(4.0, network(), chip()) == Estimate(4.0, 3.2, 4.8)


def test_a_time_whose_interval_reaches_the_range_is_not_outside():
    # A network that was measured may be predicted as a little faster than the fastest.
    assert not timed(2.0 / 1.19, network(), chip()).extrapolated
    assert timed(2.0 / 1.21, network(), chip()).extrapolated
    assert not timed(8.0 * 1.19, network(), chip()).extrapolated
    assert timed(8.0 * 1.21, network(), chip()).extrapolated


def test_an_interval_that_ends_at_zero_does_not_make_every_slow_network_a_measured_one():
    device = chip()
    wide = replace(device, latency=replace(device.latency, interval=1.5))
    assert not timed(8.0 * 2.49, network(), wide).extrapolated
    far = timed(8.0 * 10, network(), wide)
    assert far.extrapolated
    assert far.high == pytest.approx(80 * 2.5 * 2)  # four times beyond 20 ms


def test_nothing_runs_in_no_time_for_sure():
    assert timed(0.0, network(), chip()) == Estimate.exact(0.0)


def test_a_device_without_a_range_extrapolates_nothing():
    assert not timed(1e-6, network(), chip(fastest_ms=None, slowest_ms=None)).extrapolated
    assert timed(1e-6, network(), chip(slowest_ms=None)).extrapolated
    assert not timed(1e6, network(), chip(slowest_ms=None)).extrapolated


def test_a_kind_of_layer_that_was_not_measured_is_extrapolated_at_any_time():
    windows = chip(windows=("3x3",))
    assert not timed(4.0, network(), windows).extrapolated
    found = timed(4.0, network(window=(5, 1)), windows)
    assert found == Estimate(4.0, 4 * 0.8 / OTHER_KIND, 4 * 1.2 * OTHER_KIND, extrapolated=True)
    bits = chip(widest_bits=8)
    assert not timed(4.0, network(), bits).extrapolated
    assert timed(4.0, network(bits=32), bits) == found
    assert unlike(network(window=(5, 1), bits=32), replace(windows.calibration, widest_bits=8)) == [
        "layers of more than 8 bits",
        "windows of 5x1",
    ]
    # Both at once, and faster than all: a factor for the kind, and one for the distance.
    assert timed(2 / 4.8, network(window=(5, 1)), windows).high == pytest.approx(2 / 4.8 * 1.2 * 2 * OTHER_KIND)


def scaled(kind):
    """A map and its factors, multiplied or, with factors as large as the map, added."""
    graph = GraphBuilder((4, 10, 10), bits=8)
    x = graph.activation(graph.norm(graph.conv(0, 4, weight_bits=8)), bits=8)
    if kind == "scale":
        x = graph.scale(x, graph.pool(x, "avg", kernel=(10, 10), stride=(10, 10)), bits=8)
    else:
        x = graph.activation(graph.add(x, graph.pool(x, "avg", kernel=(1, 1), stride=(1, 1))), "identity", bits=8)
    graph.linear(graph.flatten(x), 10, weight_bits=8)
    return graph.architecture("example", {})


def test_without_figures_of_its_own_a_scale_costs_what_an_addition_does_and_is_extrapolated():
    # At 10 cycles for an element read or written: 400 + 4 + 400 of the scale, 3 * 400 of the sum, beside 100 cycles for
    # each of the two. What else the networks do is free.
    tables = {
        "cycles_per_mac": dict.fromkeys(("pointwise", "linear"), 0.0),
        "cycles_per_element": {"pool": 0.0, "add": 10.0},
        "cycles_per_kernel": {"add": 100.0},
    }
    free = {"overhead_ms": 0.0, "cycles_per_other_output": {}, "float_kernels": None}
    bare = chip(fastest_ms=None, slowest_ms=None)
    device = replace(bare, latency=replace(bare.latency, **tables, **free))
    times = {kind: latency_ms.estimate(scaled(kind), device) for kind in ("scale", "add")}
    cycles_per_ms = device.clock_mhz * 1e3
    assert times["scale"].value == pytest.approx((804 * 10 + 100) / cycles_per_ms)
    assert times["add"].value == pytest.approx((1200 * 10 + 100) / cycles_per_ms)
    assert (times["scale"].extrapolated, times["add"].extrapolated) == (True, False)
    assert widths(times["scale"])[1] == pytest.approx(1.2 * OTHER_KIND)
    own = {"cycles_per_element": {"pool": 0.0, "add": 10.0, "scale": 5.0}}
    measured = latency_ms.estimate(scaled("scale"), replace(device, latency=replace(device.latency, **own)))
    assert measured.value == pytest.approx(804 * 5 / cycles_per_ms)
    assert not measured.extrapolated


@pytest.mark.parametrize("name", available_devices())
def test_every_device_prices_a_scale(name):
    device = DEVICES[name]
    metrics = [latency_ms, peak_ram_kib, flash_kib, *([energy_mj] if device.energy is not None else [])]
    found = [metric.estimate(scaled("scale"), device) for metric in metrics]
    assert all(estimate.value > 0 for estimate in found)
    assert found[0].extrapolated


def test_pointwise_layers_and_poolings_have_no_window_of_their_own():
    graph = GraphBuilder((3, 10, 10), bits=8)
    x = graph.activation(graph.conv(0, 4, weight_bits=8), bits=8)
    graph.linear(graph.flatten(graph.pool(x, "avg", kernel=(5, 5), stride=(5, 5))), 10, weight_bits=8)
    assert unlike(graph.architecture("example", {}), chip(windows=("3x3",)).calibration) == []


def test_what_stands_on_a_time_carries_it_on():
    link = Link(
        server=chip(),
        bandwidth_mbit_s=1e-3,
        round_trip_ms=1.0,
        interval=0.1,
        power=LinkPower(transmit_mw=1.0, receive_mw=1.0, idle_mw=1.0, interval=0.1),
    )
    secure = Enclave(
        secure_ram_kib=64.0, engine_ram_kib=2.0, slow_down=1.5, switch_us=30.0, copy_us_per_kib=20.0, interval=0.25
    )
    metrics = (latency_ms, energy_mj, split_latency_ms, split_energy_mj, enclave_latency_ms)
    for fastest_ms, extrapolated in ((1e-3, False), (2.0, True)):
        device = replace(chip(fastest_ms=fastest_ms), energy=DEVICES["stm32h7a3"].energy, link=link, enclave=secure)
        found = [metric.estimate(network(), device) for metric in metrics]
        assert [one.extrapolated for one in found] == [extrapolated] * len(metrics)
        time, energy = found[:2]
        relative = device.energy.interval
        # Errors of time and power are independent: their relative sizes add as squares.
        above, below = time.high / time.value - 1, 1 - time.low / time.value
        assert energy.high / energy.value - 1 == pytest.approx(math.hypot(above, relative))
        assert 1 - energy.low / energy.value == pytest.approx(min(1.0, math.hypot(below, relative)))


def test_a_sum_is_extrapolated_if_one_part_is():
    part = Estimate(1.0, 0.5, 2.0, extrapolated=True)
    assert summed(Estimate(2.0, 1.5, 2.5), part) == Estimate(3.0, 2.0, 4.5, extrapolated=True)
    assert not summed(Estimate.exact(1.0), Estimate.exact(2.0)).extrapolated
    assert flat({"latency_ms": part})["latency_ms_extrapolated"] is True


def test_a_window_costs_what_it_says_by_hand():
    # 4 channels of 6x10 through 5x1 windows: 240 outputs, 1,200 window elements, 3,600 MACs. Linear: 2,400 MACs.
    device = DEVICES["stm32h747"]
    latency = replace(
        device.latency,
        cycles_per_mac={"conv": 2.0, "linear": 3.0},
        cycles_per_element={"norm": 0.0},
        cycles_per_other_output={"conv": 50.0},
        float_kernels=FloatKernels(
            cycles_per_mac={"conv": 7.0, "linear": 11.0}, cycles_per_window_element={"conv": 13.0}
        ),
    )
    device = replace(device, clock_mhz=1.0, latency=latency)

    def cycles(bits, window):
        return latency_ms.estimate(network(window=window, bits=bits), device).value * 1e3

    assert cycles(8, (5, 1)) == pytest.approx(3_600 * 2 + 240 * 50 + 2_400 * 3)
    assert cycles(32, (5, 1)) == pytest.approx(3_600 * 7 + 1_200 * 13 + 240 * 50 + 2_400 * 11)
    # 3x3 windows: 4 channels of 8x8, 256 outputs, 2,304 elements, 6,912 MACs; nothing for another window.
    assert cycles(8, (3, 3)) == pytest.approx(6_912 * 2 + 2_560 * 3)
    assert cycles(32, (3, 3)) == pytest.approx(6_912 * 7 + 2_304 * 13 + 2_560 * 11)


def test_scratch_is_no_larger_than_the_tensors_allow_and_floats_need_none():
    device = DEVICES["stm32h747"]
    memory = replace(device.memory, in_place=(), scratch_kib=2.0, scratch_per_tensor=1.5, ram_kib_per_kernel=0.0)
    device = replace(device, engine_ram_kib=1.0, memory=memory)
    # 300 bytes in and 256 out: 556 bytes of tensors, 834 of scratch, and 1 KiB.
    assert peak_ram_kib.estimate(network(), device).value == pytest.approx((556 + 834) / 1024 + 1)
    assert peak_ram_kib.estimate(network(bits=32), device).value == pytest.approx(4 * 556 / 1024 + 1)
    # 30x30: 2,700 and 3,136 bytes; the scratch is at its limit.
    assert peak_ram_kib.estimate(network(side=30), device).value == pytest.approx((2_700 + 3_136) / 1024 + 2 + 1)


def test_of_two_intervals_of_memory_the_wider_counts():
    device = DEVICES["stm32h747"]
    memory = replace(device.memory, ram_interval=0.1, ram_interval_kib=4.0, flash_interval=0.1, flash_interval_kib=30.0)
    device = replace(device, memory=memory)
    small = peak_ram_kib.estimate(network(), device)
    assert small.high - small.value == pytest.approx(4.0)
    large = peak_ram_kib.estimate(network(side=200), device)
    assert large.high - large.value == pytest.approx(0.1 * large.value)
    assert large.value > 40
    flash = flash_kib.estimate(network(), device)
    assert flash.high - flash.value == pytest.approx(30.0)


# Measured: ST's float networks for human activity, which no fit has seen.


@pytest.fixture(scope="module")
def latency(shared_data):
    if not (shared_data / "mlperf_tiny" / "mlperf_tiny_v1.0-1.2.csv").exists():
        pytest.skip(f"needs mlperf_tiny in {shared_data}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("latency_mcu")


def test_two_networks_of_st_lie_within_the_interval_of_a_fit_without_their_kind(latency):
    device = DEVICES["stm32u575"]
    conv, linear, window = map(float, latency.fit_float("ign"))
    kernels = FloatKernels(
        cycles_per_mac={"conv": conv, "pointwise": conv, "linear": linear}, cycles_per_window_element={"conv": window}
    )
    device = replace(device, latency=replace(device.latency, float_kernels=kernels))
    found = {row.name: row for row in latency.IN_FLOAT if row.name.startswith("ign")}
    assert [row.latency_ms for row in found.values()] == [2.25, 8.17]
    for row in found.values():
        estimate = latency_ms.estimate(row.build(), device)
        assert estimate.low < row.latency_ms < estimate.high, row.name
        assert abs(estimate.value / row.latency_ms - 1) < 0.3
        ram = peak_ram_kib.estimate(row.build(), device)
        assert ram.low < row.ram_kib < ram.high, row.name


def test_without_windows_and_float_kernels_they_are_five_times_too_fast(latency):
    # What the same device said before: the control of the test above.
    device = DEVICES["stm32u575"]
    plain = replace(device, latency=replace(device.latency, float_kernels=None, cycles_per_other_output={}))
    for row in latency.IN_FLOAT[:2]:
        assert row.latency_ms / latency_ms.estimate(row.build(), plain).value > 5


def test_a_kind_left_out_reaches_no_fit(latency, monkeypatch):
    before = latency.fit_m33("ign"), latency.fit_float("ign")
    wrong = [replace(row, latency_ms=9.0) if row.kind == "ign" else row for row in latency.IN_INT8]
    monkeypatch.setattr(latency, "IN_INT8", wrong)
    assert latency.fit_m33("ign") == pytest.approx(before[0])
    assert latency.fit_m33() != pytest.approx(latency.fit_m33("ign"), rel=0.01)
