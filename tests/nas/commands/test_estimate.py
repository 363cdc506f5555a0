"""`nas estimate` and `nas list devices` as a user calls them: layers, plots, tables, engines, devices of one's own."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from nas.search.storage import load_study

ROOT = Path(__file__).parents[3]
DEVICES = ROOT / "estimators" / "devices"
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
IMAGES = ("--input-shape", "3,16,16")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder of one's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(nas, here):
    """Run a command that must be refused and leave nothing behind; returns its one line."""

    def run(*arguments):
        before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
        result = nas(*arguments)
        assert (result.code, result.out) == (2, "")
        assert re.fullmatch(r"nas: [^\n]+\n", result.err)
        assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
        return result.err[len("nas: ") : -1]

    return run


def told(nas, *arguments):
    result = nas(*arguments, "--json")
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def written(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# One network.


def test_an_estimate_by_hand(nas):
    # 64 inputs, 16 hidden, 10 classes: 64 * 16 + 16 * 10 MACs; with a norm, 2 * 16 + 10 parameters more.
    result = nas("estimate", '{"layer1_width": 16}', "--space", "mlp", "--json", "--check")
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    assert (told["macs"], told["params"]) == (1184, 1184 + 42)
    assert told["bit_operations"] == 1184 * 32 * 32
    assert (told["space"], told["device"], told["bits"]) == ("mlp", "stm32h747", "W 32x2 A 32x2")
    assert told["latency_ms_low"] < told["latency_ms"] < told["latency_ms_high"]
    assert told["architecture"]["layer1_width"] == 16
    expected = {"macs": 1184, "params": 1226}
    assert told["check"] == {"fvcore": expected, "thop": expected, "torch": expected}


def test_an_estimate_on_all_devices(nas):
    told = json.loads(nas("estimate", "--device", "all", "--json").out)
    assert sorted([*told["devices"], *told["refused"]]) == available_devices()
    assert "for 32 bits" in told["refused"]["bitfusion_like"]
    assert told["devices"]["stm32l4r5"]["energy_mj"] > 0
    assert "energy_mj" not in told["devices"]["host"]
    printed = nas("estimate", "--device", "all", "--check")
    assert (printed.code, printed.err) == (0, "")
    assert all(name in printed.out for name in (*available_devices(), "fvcore: ", "thop: ", "torch: "))
    assert re.search(r"\nbitfusion_like cannot run it: [^\n]*for 32 bits[^\n]*\n", printed.out)
    assert printed.out.endswith("all counts agree with these\n")


def test_what_was_searched_what_was_picked_and_what_is_written_by_hand_cost_the_same(nas, own_run, picked):
    chosen = picked()
    row = chosen["picked"]
    common = ("--json", "--runs", own_run.runs)
    by_run = json.loads(nas("estimate", f"small:{row['number']}", *common).out)
    by_file = json.loads(nas("estimate", Path(chosen["folder"]) / "architecture.json", *common).out)
    by_hand = json.loads(nas("estimate", json.dumps(row["architecture"]), "--space", "mlp", *common).out)
    assert by_run == by_file == by_hand
    assert {name: by_run[name] for name in ("macs", "params", "latency_ms", "flash_kib", "peak_ram_kib")} == {
        name: row[name] for name in ("macs", "params", "latency_ms", "flash_kib", "peak_ram_kib")
    }


# What a device has.

WIDE = ('{"layer1_width": 256, "depth": 4}', "--space", "mlp", "--input-shape", "3,64,64")


def test_a_network_that_does_not_fit_is_marked(nas):
    fits = told(nas, "estimate", '{"layer1_width": 16}', "--space", "mlp", "--device", "stm32g0b1")
    assert fits["fits"] is True
    assert [(limit["metric"], limit["value"]) for limit in fits["limits"]] == [
        ("peak_ram_kib", 144),
        ("flash_kib", 512),
    ]
    over = told(nas, "estimate", *WIDE, "--device", "stm32g0b1")
    assert over["fits"] is False
    assert over["flash_kib"] > 512
    line = f"does not fit: needs {over['flash_kib']:,.1f} KiB of flash, stm32g0b1 has 512\n"
    printed = nas("estimate", *WIDE, "--device", "stm32g0b1")
    assert (printed.code, printed.out.count("does not fit")) == (0, 1)
    assert f"\n{line}" in printed.out
    assert line in nas("estimate", *WIDE, "--device", "stm32g0b1", "--by-layer").out
    assert "does not fit" not in nas("estimate", *WIDE, "--device", "cortex_a53").out


def test_of_all_devices_those_that_it_does_not_fit_are_named(nas):
    by_device = told(nas, "estimate", *WIDE, "--device", "all")["devices"]
    fits = {name: costs["fits"] for name, costs in by_device.items()}
    assert fits["host"] is True
    assert fits["stm32g0b1"] is False
    printed = nas("estimate", *WIDE, "--device", "all").out
    for name, costs in by_device.items():
        line = f"\n{name}: does not fit: needs {costs['flash_kib']:,.1f} KiB of flash, {name} has "
        assert (line in printed) == (not costs["fits"])


def test_rows_of_a_table_that_do_not_fit_are_noted(nas, here):
    source = written(
        here / "in.csv",
        "space,architecture",
        'mlp,"{""layer1_width"": 16}"',
        'mlp,"{""layer1_width"": 256}"',
    )
    flags = ("--from", source, "--output", "out.csv", "--device", "stm32g0b1", "--input-shape", "3,64,64")
    assert nas("estimate", *flags, "--classes", "10").code == 0
    first, second = rows_of(here / "out.csv")
    assert float(first["flash_kib"]) > 512
    assert "does not fit: needs " in first["note"]
    assert f"needs {float(second['flash_kib']):,.1f} KiB of flash, stm32g0b1 has 512" in second["note"]


# Layers.


@pytest.mark.parametrize("device", ["stm32l4r5", "host"])
def test_layers_add_up_to_what_estimate_says_without_them(nas, device):
    whole = told(nas, "estimate", "--device", device, *IMAGES)
    split = told(nas, "estimate", "--device", device, "--by-layer", *IMAGES)
    layers = split["layers"]
    assert sum(layer["latency_ms"] for layer in layers) == pytest.approx(whole["latency_ms"])
    assert sum(layer["flash_kib"] for layer in layers) == pytest.approx(whole["flash_kib"])
    assert max(layer["ram_kib"] for layer in layers) == pytest.approx(whole["peak_ram_kib"])
    assert sum(layer["macs"] for layer in layers) == whole["macs"]
    if device == "host":
        assert all(layer["energy_mj"] is None for layer in layers)
    else:
        assert sum(layer["energy_mj"] for layer in layers) == pytest.approx(whole["energy_mj"])
    assert (split["key"], split["device"]) == (whole["key"], device)


def test_layers_say_which_costs_of_the_network_are_extrapolated(nas):
    whole = told(nas, "estimate", "--device", "stm32l4r5", *IMAGES)
    split = told(nas, "estimate", "--device", "stm32l4r5", "--by-layer", *IMAGES)
    assert split["extrapolated"] == whole["extrapolated"]
    assert "peak_ram_kib" in whole["extrapolated"]
    said = "extrapolated: energy_mj, flash_kib, latency_ms, peak_ram_kib of the network; measured were the time of 3 "
    assert said in nas("estimate", "--device", "stm32l4r5", "--by-layer", *IMAGES).out
    # A network like those measured has nothing to say: 8 bits, and a time within the range.
    eight = {f"block{n}_{what}_bits": 8 for n in (1, 2) for what in ("weight", "activation")}
    point = json.dumps({**eight, "first_bits": 8, "last_bits": 8, "stem_width": 32})
    inside = (point, "--input-shape", "3,64,64", "--device", "stm32h747")
    assert told(nas, "estimate", *inside, "--by-layer")["extrapolated"] == []
    assert "extrapolated" not in nas("estimate", *inside, "--by-layer").out


def test_layers_say_what_the_latency_stands_on_and_what_would_help(nas):
    device = load_device("stm32l4r5")
    split = told(nas, "estimate", "--device", "stm32l4r5", "--by-layer", *IMAGES)
    assert {name: split["basis"][name] for name in ("engine", "precision", "error_mean", "error_max", "interval")} == {
        "engine": device.engine,
        "precision": device.precision,
        "error_mean": device.calibration.error_mean,
        "error_max": device.calibration.error_max,
        "interval": device.latency.interval,
    }
    printed = nas("estimate", "--device", "stm32l4r5", "--by-layer", *IMAGES).out
    assert printed.splitlines()[-3:] == split["advice"]
    assert [line.split(":")[0] for line in split["advice"]] == ["time", "RAM", "flash"]
    basis, warning = printed.splitlines()[-5:-3]
    errors = f"3 networks, each left out of the fit: mean error {device.calibration.error_mean:.1%}"
    interval = f"90 % interval +-{device.latency.interval:.1%}"
    assert all(text in basis for text in (device.engine, "int8", "Arm Cortex-M4 at 120 MHz", errors, interval))
    # Some of the network's layers are in floating point.
    assert warning.startswith(
        "some of its layers are of a kind that was not measured on stm32l4r5 (windows of 3x3, 10x4 "
    )
    assert max(map(len, printed.splitlines()[:-6])) <= 140


def test_an_operator_without_figures_is_said_to_be_priced_as_another(nas):
    bits = {"stage1_weight_bits": 8, "stage1_activation_bits": 8, "first_bits": 8, "last_bits": 8, "stages": 1}
    point = json.dumps({**bits, "width_multiplier": 1, "stage1_squeeze": True, "stage1_layers": 4})
    printed = nas("estimate", point, "--space", "mobile", "--device", "stm32u575").out
    said = "some of its operators were not measured on stm32u575 and are priced as others: scale as add: extrapolated"
    assert said in printed


def test_an_accelerators_layers_state_their_dataflow(nas):
    bits = {f"block{n}_{what}_bits": 8 for n in range(1, 5) for what in ("weight", "activation")}
    point = json.dumps({**bits, "first_bits": 8, "last_bits": 8})
    printed = nas("estimate", point, "--device", "bitfusion_like", "--by-layer")
    assert "weight_stationary" in printed.out


@pytest.mark.parametrize("flags", [(), ("--by-layer",)])
def test_a_time_far_from_all_that_were_measured_is_said_to_be(nas, flags):
    device = load_device("raspi4")
    printed = nas("estimate", CELL, "--space", "nb201", "--device", "raspi4", *flags).out
    assert f"latency on raspi4: {device.engine}, " in printed
    assert "outside the range measured" not in printed
    small = ("--space", "nb201", "--device", "raspi4", "--input-shape", "3,4,4")
    printed = nas("estimate", "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", *small, *flags).out
    measured = f"{device.calibration.fastest_ms:.3g} to {device.calibration.slowest_ms:.3g} ms"
    assert f" ms lies outside the range measured on raspi4, {measured}: extrapolated, so " in printed


def test_what_is_extrapolated_is_marked_and_told_in_json(nas):
    where = ("estimate", CELL, "--space", "nb201", "--device", "raspi4")
    printed, found = nas(*where).out, told(nas, *where)
    # Within the range, but nobody measured the memory of a network there.
    assert found["extrapolated"] == ["flash_kib", "peak_ram_kib"]
    assert found["peak_ram_kib_low"] < found["peak_ram_kib"] < found["peak_ram_kib_high"]
    assert (
        "* extrapolated: nothing like it was measured on raspi4, so its interval is a guess\n  measured were "
        in printed
    )
    row = next(line for line in printed.splitlines() if line.startswith("raspi4"))
    assert sorted(cell.endswith("*") for cell in row.split()[1:]) == [False] * 4 + [True] * 2


def test_a_kind_of_layer_that_was_not_measured_is_named(nas):
    # In the range of the STM32H747, but in floating point, which was not measured there.
    printed = nas(
        "estimate", "--device", "stm32h747", '{"first_bits": 32, "stem_width": 32, "depth": 4}', *IMAGES[-2:]
    ).out
    assert "was not measured on stm32h747 (windows of 3x3 and 1x1 and layers of at most 8 bits were)" in printed


# Plots.


@pytest.mark.parametrize(("name", "start"), [("a.png", PNG), ("b.SVG", b"<?xml")])
def test_a_plot_is_written(nas, here, name, start):
    result = nas("estimate", CELL, "--space", "nb201", "--device", "host", "--plot", here / name)
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(f"written to {here / name}\n")
    assert (here / name).read_bytes().startswith(start)
    assert [path.name for path in here.iterdir()] == [name]


def test_an_svg_names_the_layers_and_the_roofs(nas, here):
    nas("estimate", "--device", "stm32l4r5", "--plot", here / "a.svg", *IMAGES)
    text = (here / "a.svg").read_text()
    assert "conv 3x3, op 1" in text
    assert "compute" in text


def test_a_plot_of_another_kind_is_refused(refused, here):
    assert refused("estimate", "--plot", here / "a.pdf") == (
        f"expected --plot with a file ending in .png or .svg; got '{here / 'a.pdf'}'"
    )


# Engines and flags.


def test_the_engine_that_was_measured_is_priced_and_another_is_refused(nas, refused):
    assert nas("estimate", "--device", "stm32l4r5", "--engine", "X-CUBE-AI").code == 0
    line = refused("estimate", "--device", "stm32l4r5", "--engine", "TensorFlow Lite Micro")
    assert line.startswith("the device 'stm32l4r5' was measured with 'X-CUBE-AI 9.0.0', and that says nothing about ")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--by-layer",), "--by-layer"),
        (("--plot", "a.png"), "--plot"),
        (("--engine", "X-CUBE-AI"), "--engine"),
        (("--from", "a.csv", "--output", "b.csv"), "--from"),
        (("--by-layer", "--plot", "a.png"), "--by-layer and --plot"),
    ],
)
def test_what_needs_one_device_is_refused_for_all(refused, flags, named):
    assert refused("estimate", "--device", "all", *flags) == f"expected one device with {named}; got all"


def test_a_cell_is_an_architecture(nas):
    assert told(nas, "estimate", CELL, "--space", "nb201")["architecture"]["edge_2_3"] == "avg_pool_3x3"


# Tables.


def test_a_table_is_priced_row_by_row(nas, here):
    table = written(
        here / "in.csv",
        "id,space,architecture,input_shape,classes",
        f"a,nb201,{CELL},,",
        '"b, twice",conv,{},1x8x8,10',
        '"b, again",conv,{},1x8x8,10',
    )
    result = nas("estimate", "--device", "stm32l4r5", "--from", table, "--output", here / "out.csv")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(f"estimates of 3 architectures on stm32l4r5 written to {here / 'out.csv'}\n")
    assert "X-CUBE-AI 9.0.0" in result.out
    assert "taken for: 1 row of nb201 for 3x32x32, 10 classes; 2 rows of conv for 1x8x8, 10 classes" in result.out
    cell, first, again = rows_of(here / "out.csv")
    assert [row["id"] for row in (cell, first, again)] == ["a", "b, twice", "b, again"]
    assert list(cell)[:3] == ["id", "space", "architecture"]
    assert cell["architecture"] == CELL
    one = told(nas, "estimate", "{}", "--device", "stm32l4r5")
    for name in ("latency_ms", "latency_ms_low", "latency_ms_high", "energy_mj", "energy_mj_low", "peak_ram_kib"):
        assert float(first[name]) == pytest.approx(one[name])
        assert first[name] == again[name]
    assert float(first["flash_kib"]) == pytest.approx(one["flash_kib"])
    assert float(cell["latency_ms"]) > float(first["latency_ms"])


def test_a_table_without_energy_on_a_device_without_a_power(nas, here):
    table = written(here / "in.csv", "architecture", CELL)
    arguments = ("--space", "nb201", "--device", "host", "--from", table, "--output", here / "new" / "out.csv")
    assert told(nas, "estimate", *arguments) == {"device": "host", "rows": 1, "output": str(here / "new" / "out.csv")}
    (row,) = rows_of(here / "new" / "out.csv")
    assert "latency_ms_high" in row
    assert "energy_mj" not in row


def test_wrong_rows_are_named_and_nothing_is_written(refused, here):
    lines = ("space,architecture", "conv,{}", "conv,[]", 'conv,"{""depth"": 99}"')
    task = ("--input-shape", "1,8,8", "--classes", "10")
    common = ("--from", written(here / "in.csv", *lines), "--output", here / "out.csv", *task)
    line = refused("estimate", *common)
    assert line.startswith(f"2 rows of {here / 'in.csv'} are wrong: line 3: ")
    assert "; line 4: not a point of the space 'conv': depth=99, expected 1 to 4; " in line
    float_rows = written(here / "in.csv", "space,architecture", "conv,{}")
    line = refused("estimate", "--device", "bitfusion_like", "--from", float_rows, "--output", here / "out.csv", *task)
    assert re.match(rf"1 row of {float_rows} is wrong: line 2: [^\n]*for 32 bits", line)


def test_columns_that_would_be_overwritten_are_refused(refused, here):
    table = written(here / "in.csv", "space,architecture,input_shape,classes,latency_ms", "conv,{},1x8x8,10,3.5")
    assert refused("estimate", "--from", table, "--output", here / "out.csv") == (
        f"expected {table} without the columns that are added; it has ['latency_ms']: rename them"
    )


def test_half_of_what_a_table_needs_is_refused(refused, here):
    table = written(here / "in.csv", "space,architecture", "conv,{}")
    both = "expected --from and --output together; got "
    assert refused("estimate", "--from", table) == f"{both}--from alone"
    assert refused("estimate", "--output", here / "out.csv") == f"{both}--output alone"
    assert refused("estimate", "{}", "--by-layer", "--from", table, "--output", here / "out.csv") == (
        "expected --from without ARCHITECTURE and --by-layer: it estimates the rows of the table"
    )
    assert "there is no such path" in refused("estimate", "--from", here / "no.csv", "--output", here / "out.csv")
    none = written(here / "none.csv", "architecture", CELL)
    assert refused("estimate", "--from", none, "--output", here / "out.csv") == (
        f"expected a column 'space' in {none}, or --space; there are ['architecture']"
    )


# Devices.


def test_devices_are_listed_with_what_they_stand_on(nas):
    devices = told(nas, "list", "devices")["devices"]
    assert list(devices) == available_devices()
    device = load_device("stm32l4r5")
    assert devices["stm32l4r5"] == {
        "description": device.description,
        "core": "Arm Cortex-M4",
        "clock_mhz": 120.0,
        "engine": "X-CUBE-AI 9.0.0",
        "precision": "int8",
        "weight_bits": [1, 8, 32],
        "activation_bits": [8, 32],
        "ram_kib": 640.0,
        "flash_kib": 2048.0,
        "energy": True,
        "source": device.calibration.source,
        "networks": 3,
        "error_mean": device.calibration.error_mean,
        "error_max": device.calibration.error_max,
        "within_10_percent": None,
        "within_10_percent_low": None,
        "repeated_within_10_percent": None,
        "fastest_ms": device.calibration.fastest_ms,
        "slowest_ms": device.calibration.slowest_ms,
        "interval": device.latency.interval,
        "own": False,
    }
    assert devices["eyeriss_like"]["source"].startswith("built from published constants")
    printed = nas("list", "devices").out
    assert all(re.search(rf"^{name} ", printed, flags=re.MULTILINE) for name in devices)
    assert max(map(len, printed.splitlines())) <= 140
    assert "(own)" not in printed


def results(name):
    """Return the rows of a result file about shipped devices, and its other figures."""
    found = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return [row for row in found["rows"] if row["device"]], found


def test_the_errors_shown_are_those_of_networks_that_no_board_has_seen(nas):
    rows, _ = results("latency_mcu")
    devices, printed = told(nas, "list", "devices")["devices"], nas("list", "devices").out
    assert len(rows) == 7
    for row in rows:
        shown = devices[row["device"]]
        assert shown["error_mean"] == pytest.approx(row["unseen"], abs=6e-4)
        assert shown["error_max"] == pytest.approx(row["unseen worst"], abs=6e-4)
        stated = f"each left out of the fit: mean error {shown['error_mean']:.1%}, largest {shown['error_max']:.1%};"
        assert stated in nas("estimate", "--device", row["device"]).out
        assert f"{shown['error_mean']:.1%}" in printed
        assert ("vww left aside" in shown["source"]) is ("X-CUBE-AI 8" in row["engine"] or "9.0.0" in row["engine"])
    assert "error: of networks that were left out of the fit, as your own are;" in printed


def test_how_often_this_machine_agrees_with_itself_is_shown(nas):
    devices = told(nas, "list", "devices")["devices"]
    for name in ("host", "host_int8"):
        again = devices[name]["repeated_within_10_percent"]
        assert again == load_device(name).calibration.repeated_within_10_percent
        assert f"; within 10 %: {devices[name]['within_10_percent']:.0%}, {again:.0%} of repeats; 90 % interval" in (
            nas("estimate", "--device", name).out
        )
    assert "78% of" in nas("list", "devices").out


def test_what_is_claimed_of_other_networks_is_shown_where_the_file_has_it(nas, here):
    (here / "devices").mkdir()
    text = (DEVICES / "host.toml").read_text(encoding="utf-8")
    text = text.replace("repeated_within_10_percent =", "within_10_percent_low = 0.8779\nrepeated_within_10_percent =")
    (here / "devices" / "claims.toml").write_text(text, encoding="utf-8")
    assert "; within 10 %: 95%, at least 87% of others, 78% of repeats; " in nas("estimate", "--device", "claims").out
    assert told(nas, "list", "devices")["devices"]["claims"]["within_10_percent_low"] == 0.8779
    printed = nas("list", "devices").out
    assert "at least" in printed
    assert "  of others: of other networks of these spaces, with 90 % confidence;" in printed


def test_ones_own_devices_are_listed_marked_and_priced_by_their_name(nas, here):
    (here / "devices").mkdir()
    (here / "devices" / "mine.toml").write_text('base = "stm32l4r5"\nclock_mhz = 60.0\n')
    devices = told(nas, "list", "devices")["devices"]
    assert [name for name, row in devices.items() if row["own"]] == ["mine"]
    assert re.search(r"^\(own\)", nas("list", "devices").out, flags=re.MULTILINE)
    half = told(nas, "estimate", "--device", "mine")
    assert half["latency_ms"] == pytest.approx(2 * told(nas, "estimate", "--device", "stm32l4r5")["latency_ms"])


# Sizes beyond memory.


@pytest.mark.parametrize("shape", ["1000000000000", "3,100000,100000", f"3,8,{10**400}", "0", "-1,8,8"])
@pytest.mark.parametrize("command", [("estimate",), ("export", "{}"), ("measure",)])
def test_records_of_another_size_than_records_have_are_refused(refused, command, shape):
    line = refused(*command, "--space", "mlp", "--input-shape", shape)
    assert line.startswith(("expected records of at most 16,777,216 numbers", "expected whole numbers from 1"))


@pytest.mark.parametrize("command", [("estimate",), ("export", "{}"), ("measure",)])
def test_more_classes_than_anyone_has_are_refused(refused, command):
    assert refused(*command, "--classes", 10**12) == "expected at most 65,536 classes; got 1000000000000"


@pytest.mark.parametrize("command", [("export", "{}"), ("measure",)])
def test_a_network_that_would_take_the_machines_memory_is_priced_and_not_built(nas, refused, command, monkeypatch):
    monkeypatch.setattr("nas.runs.networks.build", lambda *_, **__: pytest.fail("it was built"))
    given = ("--space", "mlp", "--input-shape", "16000000")
    assert nas("estimate", *given).code == 0
    assert refused(*command, *given).startswith("expected a network of at most 134,217,728 weights; got 1,024,000,")


def test_json_nested_beyond_all_measure_is_refused(refused, tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert refused("estimate", tmp_path / "deep.json").endswith("it is nested too deeply")
    assert "nested deeper than 50 levels" in refused("estimate", '{"depth": ' + "[" * 90 + "]" * 90 + "}")


def test_a_candidate_of_a_run_is_priced_on_the_runs_own_device(nas, own_run):
    config = own_run.folder / "config.toml"
    other = "stm32l4r5"
    study = load_study("small", own_run.folder, None)
    study.set_user_attr("config", {**study.user_attrs["config"], "device": other})
    runs = ("--json", "--runs", own_run.runs)
    told = json.loads(nas("estimate", "small:0", *runs).out)
    assert told["device"] == other
    assert told["latency_ms"] == json.loads(nas("estimate", "small:0", "--device", other, *runs).out)["latency_ms"]
    assert json.loads(nas("estimate", "small:0", "--device", "stm32h747", *runs).out)["device"] == "stm32h747"
    assert json.loads(nas("estimate", "{}", *runs).out)["device"] == "stm32h747"
    config.write_text(config.read_text().replace("stm32h747", other))
    assert nas("pick", "small", "--number", "0", *runs).code == 0
    pick = own_run.folder / "picks" / "0" / "architecture.json"
    assert json.loads(nas("estimate", pick, *runs).out)["device"] == other
