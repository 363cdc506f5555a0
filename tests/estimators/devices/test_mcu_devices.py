"""The microcontrollers' files hold what the benchmarks compute from published measurements."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.cost import energy_mj
from estimators.cost import latency_ms
from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from estimators.devices.files import require_engine
from estimators.devices.files import same_engine
from estimators.models.latency import inference_ms
from search_spaces.graph.builder import GraphBuilder

ROOT = Path(__file__).resolve().parents[3]
NEEDED = ("stm32/stm32h747_int8_measured.csv", "mlperf_tiny/mlperf_tiny_v1.0-1.2.csv")
MCUS = ("psoc62", "stm32f746", "stm32g0b1", "stm32h747", "stm32h7a3", "stm32l4r5", "stm32u575")
POWERED = ("stm32h7a3", "stm32l4r5", "stm32u575")


def benchmark(name, shared_data):
    missing = [file for file in NEEDED if not (shared_data / file).exists()]
    if missing:
        pytest.skip(f"needs {missing} in {shared_data}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def latency(shared_data):
    return benchmark("latency_mcu", shared_data)


@pytest.fixture(scope="module")
def judged(latency):
    return latency.judge_shipped()


@pytest.fixture(scope="module")
def energy(shared_data):
    return benchmark("energy_mcu", shared_data)


def mixed(channels, side=16):
    """A network with every kind that the tables price apart, its layers as wide as `channels`."""
    graph = GraphBuilder((3, side, side), bits=8)
    x = graph.conv(0, channels, kernel=(3, 3), padding=(1, 1), weight_bits=8)
    x = graph.activation(graph.norm(x), bits=8)
    x = graph.depthwise(x, kernel=(3, 3), padding=(1, 1), weight_bits=8)
    x = graph.activation(graph.norm(x), bits=8)
    x = graph.conv(x, channels, weight_bits=8)
    x = graph.activation(graph.norm(x), bits=8)
    graph.linear(graph.flatten(graph.pool(x, "avg", kernel=(side, side), stride=(side, side))), 10, weight_bits=8)
    return graph.architecture("mixed", {})


def test_the_files_hold_what_the_benchmark_fits(judged):
    assert set(judged) == set(MCUS)
    for name, found in judged.items():
        table = load_device(name).latency
        per_mac, per_element = table.cycles_per_mac, table.cycles_per_element
        held = [per_mac["conv"], per_mac["pointwise"], per_element["depthwise"], per_mac["linear"]]
        held += [per_element["norm"], table.cycles_per_other_output.get("conv")]
        fitted = found.fit.coefficients
        assert held[: len(fitted)] == pytest.approx(fitted, rel=1e-3), name
        assert per_mac["depthwise"] == 0


def test_the_files_hold_what_other_boards_lend_them(latency):
    assert load_device("stm32h747").latency.cycles_per_mac["linear"] == pytest.approx(
        latency.linear_on_stm32h7a3(), abs=6e-4
    )
    for board, names in (("CY8CPROTO_062_4343W", MCUS[0:1] + MCUS[5:]), ("NUCLEO_H7A3ZI", (MCUS[1], *MCUS[3:5]))):
        factor = latency.float_cycles(latency.FAMILIES[1], board)
        for name in names:
            assert load_device(name).latency.relative_cycles[32, 32] == pytest.approx(factor, abs=6e-3), name


def test_the_files_hold_what_the_cortex_m33_lends(latency):
    for name, core in latency.LENT.items() | {("stm32u575", "m4")}:
        table, in_float = load_device(name).latency, latency.float_table(core)
        lent = latency.lent(table.cycles_per_mac["conv"])
        assert table.cycles_per_element["norm"] == pytest.approx(lent["norm"], rel=1e-3), name
        assert table.cycles_per_other_output == {"conv": pytest.approx(lent["other outputs"], rel=1e-3)}, name
        held = table.float_kernels
        assert held.cycles_per_mac["conv"] == held.cycles_per_mac["pointwise"]
        assert held.cycles_per_mac["conv"] == pytest.approx(in_float["conv"], rel=1e-3), name
        assert held.cycles_per_mac["linear"] == pytest.approx(in_float["linear"], rel=1e-3), name
        assert held.cycles_per_window_element == {"conv": pytest.approx(in_float["window element"], rel=1e-3)}, name


def test_the_files_state_the_errors_on_networks_that_no_board_has_seen(judged):
    for name, found in judged.items():
        device = load_device(name)
        errors = np.abs(1 / found.unseen - 1)
        assert len(errors) == device.calibration.networks
        assert errors.mean() == pytest.approx(device.calibration.error_mean, abs=6e-4), name
        assert errors.max() == pytest.approx(device.calibration.error_max, abs=6e-4), name
        assert found.interval == pytest.approx(device.latency.interval, abs=6e-4), name


def test_every_device_beats_one_cycles_per_mac_constant_by_far(judged):
    for name, found in judged.items():
        errors, constant = np.abs(found.fit.errors), np.abs(1 / found.constant - 1)
        assert errors.mean() < 0.5 * constant.mean(), name
        # The errors of the STM32U575 are of kinds left out whole, in two precisions; those of the others, of networks.
        assert errors.mean() < (0.2 if name == "stm32u575" else 0.15), name


def test_the_stm32h747_reaches_its_goal_without_any_network_of_the_same_kind(judged):
    found = judged["stm32h747"]
    assert np.abs(found.fit.errors).mean() < 0.05
    assert np.abs(found.fit.errors).max() < 0.09
    assert np.abs(1 / found.unseen - 1).mean() < 0.05


def test_what_is_left_out_does_not_reach_its_own_prediction(latency, monkeypatch):
    family, system = latency.FAMILIES[1], "NUCLEO_L4R5ZI_int8"
    before, measured = latency.judge(family, system), latency.measured_cycles
    wrong = measured(family)
    wrong[list(family.systems).index(system), 2] *= 2
    monkeypatch.setattr(latency, "measured_cycles", lambda asked: wrong if asked is family else measured(asked))
    after = latency.judge(family, system)
    # Were the measurement in its own fit, the prediction would follow it and the ratio would not double.
    for ratios in ("constant", "unseen"):
        assert getattr(after, ratios)[2] == pytest.approx(2 * getattr(before, ratios)[2])
        assert getattr(after, ratios)[1] != pytest.approx(getattr(before, ratios)[1], rel=1e-4)
    assert after.fit.ratios[2] == pytest.approx(2 * before.fit.ratios[2])
    assert after.fit.ratios[1] != pytest.approx(before.fit.ratios[1], rel=1e-4)


def test_unseen_means_on_no_other_board_either(latency, monkeypatch):
    family, system = latency.FAMILIES[1], "NUCLEO_L4R5ZI_int8"
    before, prior, cycles = latency.judge(family, system), latency.h747_prior(family), latency.measured_cycles(family)
    cycles[:, 2] *= [2, 1, 3, 2, 3, 2]  # every board but this one
    monkeypatch.setattr(latency, "measured_cycles", lambda _: cycles)
    monkeypatch.setattr(latency, "h747_prior", lambda _: prior)
    after = latency.judge(family, system)
    assert after.unseen[2] == pytest.approx(before.unseen[2])
    assert after.fit.ratios[2] != pytest.approx(before.fit.ratios[2], rel=0.05)


def test_a_fit_at_one_strength_is_that_of_the_product(latency):
    counts = np.array([[4.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
    cycles = counts @ [2.0, 5.0]
    assert latency.solve(counts, cycles, np.ones(2), 0.0) == pytest.approx([2.0, 5.0])
    # One network, cycles twice the prior's: the prior's ratios, scaled.
    assert latency.solve(counts[:1], 2 * counts[:1] @ [1.0, 3.0], np.array([1.0, 3.0]), 1.0) == pytest.approx([2, 6])


def test_measured_times_lie_within_the_intervals(latency):
    for family in latency.FAMILIES:
        for system in family.systems:
            name = latency.SHIPPED.get((family.engine, system))
            for task in family.tasks if name else ():
                found = latency_ms.estimate(latency.REFERENCE_NETWORKS[task](), load_device(name))
                measured = float(latency.mlperf_rows(family, system)[task]["latency_ms"])
                assert found.low < measured < found.high, (name, task)


def test_the_files_hold_the_power_measured(energy):
    found = energy.power_of_shipped()
    assert set(found) == set(POWERED) == {name for name in MCUS if load_device(name).energy}
    for name, fit in found.items():
        stated = load_device(name).energy
        assert stated.active_power_mw == pytest.approx(fit.coefficients[0], abs=0.06)
        assert stated.interval == pytest.approx(fit.interval, abs=6e-4)


def test_the_median_error_of_energy_is_under_eight_percent(energy):
    errors = []
    for family in energy.FAMILIES:
        for system in family.systems:
            if energy.powers_mw(family, system):
                errors += list(np.abs(1 / energy.energy_ratios(family, system)[1] - 1))
    assert len(errors) > 30
    assert np.median(errors) < 0.08


def test_a_power_left_out_is_not_in_its_own_prediction(energy):
    # The mean of 20 and 30 mW predicts 10 mW: measured over predicted 10/25.
    assert energy.judge_power(np.array([10.0, 20.0, 30.0])).ratios == pytest.approx([10 / 25, 20 / 20, 30 / 15])


@pytest.mark.parametrize("name", MCUS)
@settings(max_examples=10, derandomize=True)
@given(st.integers(1, 64), st.integers(1, 16))
def test_time_grows_with_width_and_with_the_image(name, channels, side):
    device = load_device(name)
    time = inference_ms(mixed(channels, side), device).value
    assert 0 < time < inference_ms(mixed(channels + 1, side), device).value
    assert time < inference_ms(mixed(channels, side + 1), device).value


def test_a_network_priced_by_hand():
    # 16x16, 4 channels. conv: 3*4*9*256 = 27,648 MACs; depthwise reads and writes 2*1,024 elements; pointwise:
    # 4*4*256 = 4,096 MACs; linear: 40 MACs. Cycles over 120,000 per millisecond.
    cycles = 27_648 * 1.585 + 2_048 * 38.956 + 4_096 * 1.150 + 40 * 2.333
    network, device = mixed(4), load_device("stm32l4r5")
    assert inference_ms(network, device).value == pytest.approx(cycles / 120e3)
    # 41.6 mW times milliseconds are microjoules.
    assert energy_mj.estimate(network, device).value == pytest.approx(41.6 * cycles / 120e3 / 1e3)


def test_newer_cores_take_fewer_cycles():
    network = mixed(16)
    cycles = [
        inference_ms(network, load_device(name)).value * load_device(name).clock_mhz * 1e3
        for name in ("stm32g0b1", "stm32l4r5", "stm32u575", "stm32h7a3")
    ]
    assert cycles == sorted(cycles, reverse=True)
    # A Cortex-M0+ has no dual 16-bit MAC: several times a Cortex-M4.
    assert 3 < cycles[0] / cycles[1] < 10


def test_memory_is_that_of_the_chip():
    kib = {name: (load_device(name).ram_kib, load_device(name).flash_kib) for name in MCUS}
    assert kib["stm32g0b1"] == (144, 512)
    assert kib["stm32f746"] == (320, 1024)
    assert kib["stm32u575"] == (786, 2048)


@pytest.mark.parametrize("engine", ["X-CUBE-AI", "x-cube-ai 9", "X-CUBE-AI 9.0", " X-CUBE-AI 9.0.0 "])
def test_the_engine_measured_is_accepted(engine):
    require_engine(load_device("stm32l4r5"), engine)


@pytest.mark.parametrize("engine", ["TensorFlow Lite Micro", "X-CUBE-AI 8.1.0", "X-CUBE", "X-CUBE-AI 9.0.0.1", "", "9"])
def test_another_engine_is_refused(engine):
    with pytest.raises(ValueError, match="says nothing about") as raised:
        require_engine(load_device("stm32l4r5"), engine)
    text = str(raised.value)
    assert "'stm32l4r5' was measured with 'X-CUBE-AI 9.0.0'" in text
    assert repr(engine) in text
    assert "587, 53, 35 or 25 ms" in text
    assert "none (there are [" in text
    assert "\n" not in text


def test_the_refusal_names_the_devices_that_have_the_engine():
    with pytest.raises(ValueError, match=r"devices with that engine: \['psoc62', 'stm32f746', 'stm32g0b1'\]"):
        require_engine(load_device("stm32h747"), "Bosch HALE")
    assert [name for name in available_devices() if same_engine(load_device(name), "bosch hale 1.0")] == [
        "psoc62",
        "stm32f746",
        "stm32g0b1",
    ]
