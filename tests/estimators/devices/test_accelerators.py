"""The accelerators' files hold what the benchmarks compute from published tables, and keep what they promise."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from estimators.cost import energy_mj
from estimators.devices.files import load_device
from estimators.models.accelerator import DATAFLOWS
from estimators.models.accelerator import layer_energies
from estimators.models.latency import inference_ms
from estimators.models.latency import kernel_cycles
from search_spaces.graph.builder import GraphBuilder

ROOT = Path(__file__).resolve().parents[3]
FITTED = ("bitfusion_like", "bit_serial_fpga")


def benchmark(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def networks():
    return benchmark("coral_networks")


@pytest.fixture(scope="module")
def accelerators(shared_data):
    missing = [name for name in ("bitfusion", "haq") if not (shared_data / name).exists()]
    if missing:
        pytest.skip(f"needs {missing} in {shared_data}")
    return benchmark("accelerators")


@pytest.fixture(scope="module")
def fits(accelerators):
    tables = {"bitfusion_like": accelerators.bitfusion(), "bit_serial_fpga": accelerators.haq()}
    return {name: (table, accelerators.cross_validate(table, load_device(name))) for name, table in tables.items()}


def test_the_networks_have_the_published_macs_and_parameters(networks):
    for name, (build, gmacs, mparams) in networks.NETWORKS.items():
        kernels = build().kernels
        # Published figures have two or three digits; the norms' parameters are not in these counts.
        assert sum(k.weights for k in kernels) / 1e6 == pytest.approx(mparams, rel=0.02), name
        if gmacs is not None:
            assert sum(k.macs for k in kernels) / 1e9 == pytest.approx(gmacs, rel=0.006), name


@pytest.mark.parametrize("name", FITTED)
def test_shapes_left_out_are_ranked_and_the_file_says_how_far_off_they_are(accelerators, fits, name):
    table, fitted = fits[name]
    row = accelerators.judged("cycles", fitted.predicted, table.cycles)
    device = load_device(name)
    assert row["spearman"] >= 0.97
    assert device.calibration.error_mean == pytest.approx(row["error_mean"], rel=0.05)
    assert device.calibration.error_max == pytest.approx(row["error_max"], rel=0.05)
    assert device.latency.interval == pytest.approx(row["interval"], rel=0.05)


@pytest.mark.parametrize("name", FITTED)
def test_the_file_holds_the_fit_and_the_product_prices_by_it(accelerators, fits, name):
    table, fitted = fits[name]
    device = load_device(name)
    rows = np.arange(0, len(table.kernels), 7)
    priced = np.array([kernel_cycles(table.kernels[row], device) for row in rows])
    modelled = fitted.model.cycles(accelerators.columns_of(table, device))[rows]
    # Boosted trees part ways on another processor where two splits are equally good; the sum of both stays.
    assert np.mean(np.abs(priced / modelled - 1) <= 0.02) > 0.95
    assert priced.sum() == pytest.approx(modelled.sum(), rel=0.02)


def test_the_energies_of_shapes_left_out_are_ranked_and_the_file_holds_their_fit(accelerators, fits):
    table, fitted = fits["bitfusion_like"]
    device = load_device("bitfusion_like")
    picojoules, predicted = accelerators.cross_validate_energy(table, device, fitted)
    row = accelerators.judged("energy", predicted, table.energy_mj)
    assert row["spearman"] >= 0.97
    assert device.energy.interval == pytest.approx(row["interval"], rel=0.05)
    chip = device.energy.hierarchy
    assert chip.pj_per_bit.dram == pytest.approx(picojoules[3], rel=0.05)
    assert chip.mac_pj[8, 8] == pytest.approx(picojoules[4], rel=0.05)
    assert chip.static_power_mw == pytest.approx(picojoules[5] * 500e6 * 1e-9, rel=0.05)


@pytest.mark.parametrize("name", FITTED)
def test_four_bits_never_promise_more_than_is_allowed(accelerators, networks, fits, name):
    shares = accelerators.narrowest_share(fits[name][0], load_device(name))
    assert min(shares[key] for key in ("device_layer", "device_sum", "device_network")) >= 0.4 - 1e-9
    # The tables themselves go lower: HAQ's sum over MobileNet v2 is .397, single layers a quarter.
    assert shares["table_layer"] == pytest.approx(0.25, abs=0.01)
    assert shares["table_sum"] == pytest.approx({"bitfusion_like": 0.410, "bit_serial_fpga": 0.397}[name], abs=0.001)


def test_whole_networks_gain_from_few_bits_but_far_less_than_bit_operations_say(networks):
    for name in FITTED:
        wide, narrow = (inference_ms(networks.mobilenet_v2(bits), load_device(name)).value for bits in (8, 4))
        assert 0.4 <= narrow / wide < 0.9, name
    wide, narrow = (
        energy_mj.estimate(networks.mobilenet_v2(bits), load_device("bitfusion_like")).value for bits in (8, 4)
    )
    assert 0.4 <= narrow / wide < 0.9
    same = [inference_ms(networks.mobilenet_v2(bits), load_device("eyeriss_like")).value for bits in (4, 8, 16)]
    assert len(set(same)) == 1


def test_an_eyeriss_spends_on_registers_in_convolutions_and_on_dram_in_linear_layers(networks):
    # Chen et al. (2016), on AlexNet.
    network, device = networks.alexnet(16), load_device("eyeriss_like")
    layers = [(network.kernels[layer.kernel].kind, layer) for layer in layer_energies(network, device)]
    totals = {}
    for kind, layer in layers:
        for level, level_mj in layer.level_mj.items():
            totals[kind, level] = totals.get((kind, level), 0.0) + level_mj
    assert max(("register_file", "array", "buffer", "dram"), key=lambda level: totals["conv", level]) == "register_file"
    assert totals["linear", "dram"] > 0.9 * sum(mj for (kind, _), mj in totals.items() if kind == "linear")
    assert {layer.dataflow for kind, layer in layers if kind == "conv"} == {"row_stationary"}
    assert all(layer.by_dataflow.keys() == DATAFLOWS.keys() for kind, layer in layers if kind in {"conv", "linear"})


def test_an_eyerisss_constants_are_the_published_ones(accelerators):
    chip = load_device("eyeriss_like").energy.hierarchy
    mac_pj = chip.mac_pj[16, 16]
    assert mac_pj == pytest.approx(accelerators.mac_pj_65nm(), rel=0.01)
    levels = [getattr(chip.pj_per_bit, level) * 16 / mac_pj for level in ("register_file", "array", "buffer", "dram")]
    assert levels == pytest.approx([1, 2, 6, 200])
    rows = accelerators.eyeriss()
    assert math.sqrt(math.prod(row["measured_cycles_per_mac"] for row in rows)) == pytest.approx(0.01269, rel=1e-3)
    assert np.mean([row["unexplained_mw"] for row in rows]) == pytest.approx(chip.static_power_mw, rel=0.01)
    left_out = accelerators.eyeriss_left_out(rows)
    device = load_device("eyeriss_like")
    assert device.latency.interval == pytest.approx(left_out["time_interval"], rel=0.01)
    assert device.energy.interval == pytest.approx(left_out["energy_interval"], rel=0.01)
    assert device.calibration.error_max == pytest.approx(left_out["time_error_max"], rel=0.01)


@pytest.mark.parametrize(("name", "fit"), [("cortex_a53", "fit_a53"), ("coral_edgetpu", "fit_edgetpu")])
def test_the_dev_boards_files_hold_their_fits(networks, shared_data, name, fit):
    if not networks.TIMES.exists():
        pytest.skip(f"needs edgetpu/ in {shared_data}")
    found, device = getattr(networks, fit)(networks.graphs()), load_device(name)
    latency = device.latency
    held = {
        "cortex_a53": [latency.cycles_per_mac[kind] for kind in ("conv", "pointwise", "depthwise")],
        "coral_edgetpu": [
            latency.cycles_per_weight_byte.get("conv"),
            latency.cycles_per_byte.get("conv"),
            latency.cycles_per_streamed_byte,
        ],
    }[name]
    assert held == pytest.approx(found.coefficients, rel=1e-3)
    assert latency.interval == pytest.approx(found.interval, rel=1e-3)
    assert device.calibration.error_mean == pytest.approx(abs(found.errors).mean(), rel=1e-3)
    assert device.calibration.error_max == pytest.approx(abs(found.errors).max(), rel=1e-3)


def test_the_edge_tpu_prices_its_networks_as_fitted(networks, shared_data):
    if not networks.TIMES.exists():
        pytest.skip(f"needs edgetpu/ in {shared_data}")
    times, device = networks.times_ms("dev_board_edgetpu_ms"), load_device("coral_edgetpu")
    for name, network, measured_ms in zip(networks.NETWORKS, networks.graphs(), times, strict=True):
        if name != networks.UNLIKE_OTHERS:
            assert inference_ms(network, device).value == pytest.approx(measured_ms, rel=0.12), name


def test_a_device_of_many_pairs_of_bits_names_the_widths():
    graph = GraphBuilder((3, 8, 8))
    graph.activation(graph.conv(0, 4, kernel=(3, 3), weight_bits=2))
    with pytest.raises(ValueError, match=r"there are 64 pairs of weights in \[1, .*, 8\] and inputs in \[1, .*, 8\]$"):
        inference_ms(graph.architecture("wide", {}), load_device("bit_serial_fpga"))


def test_an_integer_accelerator_refuses_float_layers():
    graph = GraphBuilder((3, 8, 8))
    graph.activation(graph.conv(0, 4, kernel=(3, 3)))
    network = graph.architecture("float", {})
    for name in (*FITTED, "eyeriss_like", "coral_edgetpu", "cortex_a53"):
        with pytest.raises(ValueError, match=f"no rule for 32 bits in the latency table of '{name}'"):
            inference_ms(network, load_device(name))
