"""A team's own table becomes a device file, whatever is wrong with some of its rows."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from estimators.cost import energy_mj
from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.cost import peak_ram_kib
from estimators.devices.device import deployed
from estimators.devices.files import load_device
from estimators.devices.files import parse_device
from estimators.models.latency import inference_ms
from nas.calibration import fit as calibrating
from nas.calibration.fit import calibrate
from nas.calibration.measurements import About
from nas.calibration.measurements import noise_ceiling
from nas.commands.calibrate import describe
from nas.runs.tables import TableRow
from nas.spaces import random_points
from search_spaces import mlp
from search_spaces.graph.merging import merge
from search_spaces.graph.pruning import is_constant
from search_spaces.graph.pruning import prune
from search_spaces.nb201 import NAMES
from search_spaces.nb201 import OPERATORS
from search_spaces.nb201 import make_space

SPACE = make_space((3, 8, 8), 10)
ABOUT = About("bench", core="Arm Cortex-A72", clock_mhz=1500, engine="Engine 1.0")
CORE_MACS_MS = 2.5e-6
POOL_MS = 4e-6


def networks(count, seed=0, empty=0.0):
    draws = np.random.default_rng(seed)
    share = [empty, *[(1 - empty) / 4] * 4]
    return [
        SPACE.decode(dict(zip(NAMES, [str(op) for op in draws.choice(OPERATORS, 6, p=share)], strict=True)))
        for _ in range(count)
    ]


def true_ms(network, *, prunes=True):
    """A machine that takes 0.2 ms, and then time by MACs and by elements pooled."""
    kernels = (prune(network) if prunes else network).kernels
    pooled = sum(kernel.input_size + kernel.output_size for kernel in kernels if kernel.kind == "pool")
    return 0.2 + CORE_MACS_MS * sum(kernel.macs for kernel in kernels) + POOL_MS * pooled


def table(measured, **columns):
    """Rows of networks with their latencies, and other columns given by functions of the latency."""
    rows = []
    for line, (network, time_ms) in enumerate(measured, start=2):
        more = {name: str(column(time_ms)) for name, column in columns.items()}
        rows.append(TableRow(line, network, {"latency_ms": str(time_ms), **more}))
    return rows


def rows_of(count, seed=0, noise=0.0, empty=0.0, **columns):
    factors = np.exp(np.random.default_rng(seed + 1).normal(0, noise, count))
    measured = [
        (network, true_ms(network) * factor)
        for network, factor in zip(networks(count, seed, empty), factors, strict=True)
    ]
    return table(measured, **columns)


def device_of(rows, about=ABOUT):
    text, findings = calibrate(rows, about)
    return parse_device(about.name, tomllib.loads(text)), findings


def far_off(device, seed=9):
    """Largest relative error on networks that no table has."""
    return max(abs(inference_ms(network, device).value / true_ms(network) - 1) for network in networks(40, seed))


def test_a_clean_table_gives_the_machine_back():
    device, findings = device_of(rows_of(40))
    assert far_off(device) < 0.03
    assert findings.close == 1
    assert (findings.networks, findings.rows) == (40, 40)
    assert device.calibration.error_mean < 0.03
    assert (device.core, device.engine, device.precision, device.clock_mhz) == (
        "Arm Cortex-A72",
        "Engine 1.0",
        "float32",
        1500,
    )


def test_what_was_measured_bounds_what_is_no_extrapolation():
    rows = rows_of(20)
    device, _ = device_of(rows)
    times = sorted(float(row.cells["latency_ms"]) for row in rows)
    assert device.calibration.fastest_ms == pytest.approx(times[0], rel=1e-3)
    assert device.calibration.slowest_ms == pytest.approx(times[-1], rel=1e-3)
    asked = [times[0] / 3, times[0] * 1.01, times[-1] / 1.01, times[-1] * 3]
    assert [device.calibration.distance(time_ms) for time_ms in asked] == pytest.approx([3, 1, 1, 3], rel=1e-3)
    assert device.calibration.within_10_percent == 1


def test_the_interval_holds_nine_of_ten_measurements_of_new_networks():
    device, _ = device_of(rows_of(60, noise=0.08))
    new = rows_of(200, seed=50, noise=0.08)
    held = 0
    for row in new:
        predicted = latency_ms.estimate(row.architecture, device)
        held += predicted.low <= float(row.cells["latency_ms"]) <= predicted.high
    assert 0.8 <= held / 200 <= 0.98


def test_outliers_ten_times_off_are_named_and_do_not_move_the_fit():
    rows = rows_of(40)
    for index, factor in ((3, 10.0), (17, 0.1), (30, 10.0)):
        time_ms = float(rows[index].cells["latency_ms"]) * factor
        rows[index] = replace(rows[index], cells={"latency_ms": str(time_ms)})
    device, findings = device_of(rows)
    assert [line for line, _ in findings.outliers] == [5, 19, 32]
    assert [round(ratio, 1) for _, ratio in findings.outliers] == pytest.approx([10, 0.1, 10], rel=0.1)
    assert far_off(device) < 0.03


def test_missing_values_are_left_out_and_named():
    rows = rows_of(40)
    for index, text in ((0, ""), (5, "nan"), (6, "-1"), (7, "inf")):
        rows[index] = replace(rows[index], cells={"latency_ms": text})
    device, findings = device_of(rows)
    assert findings.missing == (2, 7, 8, 9)
    assert findings.rows == 36
    assert far_off(device) < 0.03


def test_rows_that_repeat_word_for_word_count_once():
    rows = rows_of(30)
    device, findings = device_of([*rows, replace(rows[4], line=40), replace(rows[4], line=41)])
    assert findings.duplicates == (40, 41)
    assert (findings.rows, findings.ceiling) == (30, None)
    assert far_off(device) < 0.03


def test_a_network_measured_again_never_predicts_itself_and_shows_the_noise():
    rows = rows_of(30)
    again = [
        TableRow(100 + row.line, row.architecture, {"latency_ms": str(float(row.cells["latency_ms"]) * factor)})
        for row, factor in zip(rows, [1.05] * 15 + [1.3] * 15, strict=True)
    ]
    _, findings = device_of([*rows, *again])
    assert (findings.networks, findings.repeated) == (30, 60)
    assert findings.ceiling == pytest.approx(0.5)


def test_isomorphic_cells_are_one_network():
    first = {"edge_0_1": "nor_conv_1x1", "edge_0_2": "nor_conv_3x3", "edge_1_2": "none"}
    second = {"edge_0_3": "none", "edge_1_3": "avg_pool_3x3", "edge_2_3": "skip_connect"}
    swapped = {**first, **second, "edge_0_1": "nor_conv_3x3", "edge_0_2": "nor_conv_1x1"}
    swapped |= {"edge_1_3": "skip_connect", "edge_2_3": "avg_pool_3x3"}
    extra = table(
        [(network, true_ms(network)) for network in (SPACE.decode({**first, **second}), SPACE.decode(swapped))]
    )
    _, findings = device_of([*rows_of(20), *extra])
    assert (findings.rows, findings.networks, findings.repeated) == (22, 21, 2)


@pytest.mark.parametrize(("factor", "unit", "name"), [(1e-3, "s", "seconds"), (1e5, "us", "microseconds")])
def test_another_unit_is_detected_and_named(factor, unit, name):
    rows = table([(network, true_ms(network) * factor) for network in networks(20)])
    with pytest.raises(ValueError, match=f"look like {name} \\(add --latency-unit {unit}"):
        calibrate(rows, ABOUT)


def test_the_unit_said_is_the_unit_used():
    rows = table([(network, true_ms(network) / 1e3) for network in networks(30)])
    device, _ = device_of(rows, replace(ABOUT, latency_unit="s"))
    assert far_off(device) < 0.03


def test_too_few_networks_are_refused_with_how_many_are_needed():
    with pytest.raises(ValueError, match=r"at least 8 different networks .* got 3 in 3 usable rows of 3"):
        calibrate(rows_of(3), ABOUT)
    seven = rows_of(7)
    with pytest.raises(ValueError, match="got 7 in 8"):
        calibrate([*seven, replace(seven[0], line=99, cells={"latency_ms": "77"})], ABOUT)


def test_a_text_that_is_no_number_is_refused_by_its_line():
    rows = rows_of(20)
    rows[2] = replace(rows[2], cells={"latency_ms": "12 ms"})
    with pytest.raises(ValueError, match="line 4: expected a number as latency_ms; got '12 ms'"):
        calibrate(rows, ABOUT)


def test_a_table_without_latencies_is_refused():
    with pytest.raises(ValueError, match=r"expected a column 'latency_ms'; got \['time'\]"):
        calibrate([TableRow(2, networks(1)[0], {"time": "1"})], ABOUT)


@pytest.mark.parametrize("prunes", [True, False])
def test_whether_dead_operators_run_is_found_out(prunes):
    measured = [(network, true_ms(network, prunes=prunes)) for network in networks(60, empty=0.4)]
    device, findings = device_of(table([(network, time_ms) for network, time_ms in measured if time_ms > 0.3]))
    assert findings.prunes is prunes
    assert device.prune_dead_ops is prunes


def as_run(network, *, prunes, merges):
    network = prune(network) if prunes else network
    return merge(network) if merges else network


def busy_ms(network, *, prunes, merges):
    """A machine whose poolings and additions take as long as its convolutions."""
    kernels = as_run(network, prunes=prunes, merges=merges).kernels
    started = sum(kernel.kind in {"pool", "add"} for kernel in kernels)
    return 0.2 + CORE_MACS_MS * sum(kernel.macs for kernel in kernels) + 0.02 * started


def pooled(count, seed=0):
    """Cells where poolings repeat and some operators are dead."""
    draws = np.random.default_rng(seed)
    cells = [draws.choice(OPERATORS, 6, p=[0.25, 0.1, 0.15, 0.1, 0.4]) for _ in range(count)]
    found = [SPACE.decode(dict(zip(NAMES, [str(op) for op in cell], strict=True))) for cell in cells]
    return [network for network in found if not is_constant(network)]


@pytest.mark.parametrize(("prunes", "merges"), [(True, True), (True, False), (False, True), (False, False)])
def test_what_an_engine_leaves_out_is_found_out(prunes, merges):
    rows = table([(network, busy_ms(network, prunes=prunes, merges=merges)) for network in pooled(60)])
    device, findings = device_of(rows)
    assert (findings.prunes, findings.merges) == (prunes, merges)
    assert (device.prune_dead_ops, device.merge_repeated_ops) == (prunes, merges)
    assert len(findings.opinions) == 4
    (taken,) = [one for one in findings.opinions if (one.prunes, one.merges) == (prunes, merges)]
    assert not taken.worse
    others = [one for one in findings.opinions if one is not taken]
    assert all(one.error_mean > 2 * taken.error_mean and one.worse for one in others)
    new = [(network, busy_ms(network, prunes=prunes, merges=merges)) for network in pooled(40, seed=3)]
    assert np.mean([abs(inference_ms(network, device).value / time_ms - 1) for network, time_ms in new]) < 0.03


def test_where_rows_are_the_same_either_way_the_known_device_says_what_runs():
    """Perceptrons: nothing is dead and nothing repeats."""
    chains = {network.key: network for network in random_points(mlp.make_space((30,), 10), 30, seed=0)}.values()
    rows = table([(network, true_ms(network)) for network in chains])
    device, findings = device_of(rows)
    assert (findings.prunes, findings.merges, len(findings.opinions)) == (None, None, 1)
    assert (device.prune_dead_ops, device.merge_repeated_ops) == (True, False)
    device, _ = device_of(rows, replace(ABOUT, like="host"))
    assert (device.prune_dead_ops, device.merge_repeated_ops) == (False, True)


def test_merging_that_costs_nothing_is_not_assumed():
    rows = table(
        [(network, 0.2 + CORE_MACS_MS * sum(k.macs for k in prune(network).kernels)) for network in pooled(30)]
    )
    _, findings = device_of(rows)
    assert findings.merges is False


def test_what_is_claimed_of_other_networks_is_less_than_what_the_rows_show():
    device, findings = device_of(rows_of(30, noise=0.06))
    assert 0.3 < findings.close_low < findings.close
    assert device.calibration.within_10_percent_low == pytest.approx(findings.close_low, rel=1e-3)


def energy_of(network, *, pooling_mw):
    """1 W, but while it pools."""
    kernels = prune(network).kernels
    pooling_ms = POOL_MS * sum(kernel.input_size + kernel.output_size for kernel in kernels if kernel.kind == "pool")
    return 1.0 * (true_ms(network) - pooling_ms) + pooling_mw * 1e-3 * pooling_ms


def energies(count, pooling_mw, seed=0, noise=0.02):
    factors = np.exp(np.random.default_rng(seed + 9).normal(0, noise, count))
    return [
        replace(row, cells={**row.cells, "energy_mj": str(energy_of(row.architecture, pooling_mw=pooling_mw) * factor)})
        for row, factor in zip(rows_of(count, seed), factors, strict=True)
    ]


def test_a_power_that_differs_between_networks_gives_the_energy_nanojoules_of_its_own():
    device, findings = device_of(energies(40, pooling_mw=12_000))
    assert findings.energy.by_counts
    assert findings.energy.error_mean < 0.5 * findings.energy.error_mean_otherwise
    assert device.energy.consumption.nj_per_element["pool"] > 0
    assert device.energy.energy_interval == pytest.approx(findings.energy.interval, rel=1e-3)
    new = networks(40, seed=50)
    ratios = [energy_mj.estimate(one, device).value / energy_of(one, pooling_mw=12_000) for one in new]
    assert np.mean(np.abs(np.array(ratios) - 1)) < 0.05
    by_power = replace(device, energy=replace(device.energy, consumption=None))
    worse = [energy_mj.estimate(one, by_power).value / energy_of(one, pooling_mw=12_000) for one in new]
    assert np.mean(np.abs(np.array(worse) - 1)) > 0.08


def test_a_constant_power_stays_a_power():
    device, findings = device_of(energies(40, pooling_mw=1_000))
    assert not findings.energy.by_counts
    assert device.energy.consumption is None
    assert (findings.energy.rows, findings.energy.networks) == (40, 40)
    assert findings.energy.power_mw == pytest.approx(1_000, rel=0.02)
    assert findings.energy.close == 1
    assert findings.energy.close_low == pytest.approx(0.1 ** (1 / 20))


def test_the_interval_of_the_energy_holds_nine_of_ten_new_networks():
    device, _ = device_of(energies(60, pooling_mw=1_000, noise=0.08))
    new = energies(200, pooling_mw=1_000, seed=70, noise=0.08)
    held = 0
    for row in new:
        predicted = energy_mj.estimate(row.architecture, device)
        held += predicted.low <= float(row.cells["energy_mj"]) <= predicted.high
    assert 0.82 <= held / 200 <= 0.97


def told_of(findings, *columns):
    """Return the lines of the report that speak of columns or of the energy."""
    return [line for line in describe(findings) if line.startswith(columns) or "energy" in line]


def test_few_energies_give_no_power_and_that_is_said():
    rows = energies(20, pooling_mw=1_000)
    few = [*rows[:7], *(replace(row, cells={"latency_ms": row.cells["latency_ms"]}) for row in rows[7:])]
    device, findings = device_of(few)
    assert (device.energy, findings.energy) == (None, None)
    told = "energy_mj is not used: expected at least 8 different networks with one; got 7"
    assert told_of(findings) == [told]
    enough = device_of([*rows[:8], *few[8:]])[1]
    assert (enough.too_few, enough.energy.networks) == ((), 8)
    # The same network again is no eighth one.
    again = {**few[6].cells, "energy_mj": str(1.01 * float(few[6].cells["energy_mj"]))}
    assert told_of(device_of([*few, TableRow(99, few[6].architecture, again)])[1]) == [told]


def test_a_table_without_energies_says_nothing_of_them():
    for rows in (rows_of(20), rows_of(20, energy_mj=lambda _: "")):
        findings = device_of(rows)[1]
        assert (findings.too_few, told_of(findings)) == ((), [])


def test_energies_that_are_no_numbers_above_0_or_far_off_are_counted_as_none():
    failed = device_of(rows_of(20, energy_mj=lambda _: "0"))[1]
    assert told_of(failed) == ["energy_mj is not used: expected at least 8 different networks with one; got 0"]
    rows = rows_of(8, energy_mj=lambda time_ms: 2.5 * time_ms)
    rows[3] = replace(rows[3], cells={**rows[3].cells, "energy_mj": str(float(rows[3].cells["energy_mj"]) * 1000)})
    assert told_of(device_of(rows)[1]) == [
        f"left out of the energy (power far from the median): line {rows[3].line} (1e+03 times the median)",
        "energy_mj is not used: expected at least 8 different networks with one; got 7",
    ]


def test_few_networks_with_their_memory_change_no_engine_and_that_is_said():
    rows = [
        replace(row, cells=row.cells | ({"ram_kib": "900", "flash_kib": "900"} if index < 7 else {}))
        for index, row in enumerate(rows_of(20))
    ]
    device, findings = device_of(rows)
    assert (device.engine_ram_kib, device.engine_flash_kib) == (0, 0)
    assert told_of(findings, "ram_kib", "flash_kib") == [
        f"{column} is not used: expected at least 8 different networks with one; got 7"
        for column in ("ram_kib", "flash_kib")
    ]


def test_an_energy_in_another_unit_is_left_out_of_the_energy_and_named():
    rows = rows_of(20, energy_mj=lambda time_ms: 2.5 * time_ms)
    rows[3] = replace(rows[3], cells={**rows[3].cells, "energy_mj": str(float(rows[3].cells["energy_mj"]) * 1000)})
    device, findings = device_of(rows)
    assert findings.energy.outliers == ((rows[3].line, pytest.approx(1000, rel=0.1)),)
    assert (findings.rows, findings.energy.rows) == (20, 19)
    assert findings.energy.interval < 0.2
    told = f"left out of the energy (power far from the median): line {rows[3].line} (1e+03 times the median)"
    assert told in describe(findings)
    assert device.energy.active_power_mw == pytest.approx(2500, rel=0.05)


def test_energy_memory_and_flash_are_calibrated_where_the_table_has_them():
    bare = load_device("host")
    rows = []
    for row in rows_of(20, energy_mj=lambda time_ms: 2.5 * time_ms):
        more = {
            "ram_kib": str(peak_ram_kib.estimate(row.architecture, bare).value + 11),
            "flash_kib": str(flash_kib.estimate(row.architecture, bare).value + 70),
        }
        rows.append(replace(row, cells={**row.cells, **more}))
    device, _ = device_of(rows)
    network = networks(1, seed=77)[0]
    # 2.5 mJ per ms is 2.5 W.
    assert device.energy.active_power_mw == pytest.approx(2500)
    assert energy_mj.estimate(network, device).value == pytest.approx(2.5 * true_ms(network), rel=0.03)
    assert device.engine_ram_kib == pytest.approx(11, abs=0.01)
    assert device.engine_flash_kib == pytest.approx(70, abs=0.01)


def test_an_integer_device_prices_a_float_network_as_its_converter_leaves_it():
    device, _ = device_of(rows_of(20), replace(ABOUT, precision="int8"))
    network = networks(1)[0]
    assert {op.bits for op in deployed(network, device).ops} == {8}
    assert flash_kib.estimate(network, device).value < 0.3 * flash_kib.estimate(network, load_device("host")).value


def test_what_a_known_device_shares_is_taken_from_it():
    about = replace(ABOUT, precision="int8", like="stm32h747")
    rows = table([(network.without_float(8), true_ms(network)) for network in networks(20)])
    device, _ = device_of(rows, about)
    known = load_device("stm32h747")
    assert (device.weight_bits, device.memory, device.ram_kib) == (known.weight_bits, known.memory, known.ram_kib)


def test_a_type_that_no_network_has_is_refused():
    device, _ = device_of(rows_of(20))
    assert "depthwise" not in device.latency.cycles_per_mac
    assert "concat" not in device.latency.cycles_per_element


def test_networks_to_measure_next_are_new_and_tell_most():
    only_pools = [SPACE.decode(dict.fromkeys(NAMES, "avg_pool_3x3"))]
    rest = [network for network in networks(400) if "nor_conv_3x3" not in network.params.values()]
    rows = table([(network, true_ms(network)) for network in only_pools + rest[:20]])
    _, findings = device_of(rows)
    proposed = [json.loads(text) for text in findings.next_to_measure]
    assert len(proposed) == calibrating.NEXT
    assert len({tuple(params.values()) for params in proposed}) == calibrating.NEXT
    # The table has no 3x3 convolution inside a cell.
    assert sum("nor_conv_3x3" in params.values() for params in proposed) >= 3
    assert all(SPACE.decode(params) for params in proposed)


def test_learned_trees_travel_in_the_file(monkeypatch):
    monkeypatch.setattr("estimators.fitting.cycle_model.FEW_NETWORKS", 50)

    def stepped_ms(network):
        convolutions = sum(kernel.kind == "conv" for kernel in network.kernels)
        return true_ms(network) * (1.25 if convolutions > 40 else 1.0)

    measured = [(network, stepped_ms(network)) for network in networks(150)]
    device, findings = device_of(table(measured))
    assert findings.trees > 0
    new = networks(60, seed=5)
    errors = [abs(inference_ms(network, device).value / stepped_ms(network) - 1) for network in new]
    assert np.mean(np.array(errors) < 0.1) > 0.9
    monkeypatch.setattr("estimators.fitting.cycle_model.PAYS", 2.0)
    without, findings = device_of(table(measured))
    assert findings.trees == 0
    worse = [abs(inference_ms(network, without).value / stepped_ms(network) - 1) for network in new]
    assert np.mean(worse) > 1.5 * np.mean(errors)


def test_the_noise_ceiling_by_hand():
    # Groups: 10 and 10.5 agree; 10 and 20 do not; a network measured once says nothing.
    share, repeated = noise_ceiling(np.array([10.0, 10.5, 10.0, 20.0, 7.0]), np.array([0, 0, 1, 1, 2]))
    assert (share, repeated) == (0.5, 4)
    assert noise_ceiling(np.array([1.0, 2.0]), np.array([0, 1])) == (None, 0)


def test_the_file_says_how_often_repeats_agree_where_enough_are_repeated():
    rows = rows_of(20)
    for repeats, told in ((8, None), (12, 1.0)):  # 16 and 24 rows whose network was measured more than once
        again = [
            TableRow(row.line + 100, row.architecture, {"latency_ms": str(1.01 * float(row.cells["latency_ms"]))})
            for row in rows[:repeats]
        ]
        device, findings = device_of([*rows, *again])
        assert findings.repeated == 2 * repeats
        assert device.calibration.repeated_within_10_percent == told
