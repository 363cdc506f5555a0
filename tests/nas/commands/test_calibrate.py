"""nas calibrate, and nas estimate with what it wrote, as a user calls them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from estimators.devices.files import load_device
from nas.calibration import this_machine
from nas.spaces import random_points
from search_spaces import conv
from search_spaces.graph.pruning import prune
from search_spaces.nb201 import make_space
from search_spaces.nb201 import parse

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def cells(count, seed=0):
    draws = np.random.default_rng(seed)
    form = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    return [form.format(*draws.choice(OPS[1:], 6)) for _ in range(count)]


def latency_ms(cell):
    network = prune(make_space((3, 32, 32), 10).decode(parse(cell)))
    return 0.5 + 1e-6 * sum(kernel.macs for kernel in network.kernels)


def write(path, rows):
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"space": "nb201", "architecture": cell, "latency_ms": latency_ms(cell)} for cell in cells(14)]
    write("measured.csv", rows)
    return rows


def test_a_table_becomes_a_device_that_prices_a_table(nas, measured):
    done = nas(
        "calibrate", "--device", "bench", "--from", "measured.csv", "--clock-mhz", "1500", "--engine", "Engine 2"
    )
    assert done.code == 0
    assert "14 rows of 14 different networks" in done.out
    assert "100% predicted within 10 %" in done.out
    assert "devices/bench.toml" in done.out
    new = cells(5, seed=3)
    write("new.csv", [{"space": "nb201", "architecture": cell, "team": "a"} for cell in new])
    done = nas("estimate", "--device", "bench", "--from", "new.csv", "--output", "predicted.csv")
    assert done.code == 0
    with Path("predicted.csv").open(encoding="utf-8") as file:
        predicted = list(csv.DictReader(file))
    assert [row["architecture"] for row in predicted] == new
    assert {row["team"] for row in predicted} == {"a"}
    for row in predicted:
        low, value, high = (float(row[name]) for name in ("latency_ms_low", "latency_ms", "latency_ms_high"))
        assert low < value < high
        assert value == pytest.approx(latency_ms(row["architecture"]), rel=0.15)
    assert "bench" in nas("list", "devices").out


def test_the_report_says_what_it_claims_and_how_it_chose(nas, measured):
    rows = [row | {"energy_mj": 0.4 * row["latency_ms"]} for row in measured]
    write("energies.csv", rows)
    said = nas("calibrate", "--device", "bench", "--from", "energies.csv").out
    lines = said.splitlines()
    # 14 of 14: the 7th root of 0.1 is 0.7197.
    assert "other networks of these spaces: at least 71% within 10 %, with 90 % confidence" in lines
    assert "energy of other networks of these spaces: at least 71% within 10 %, with 90 % confidence" in lines
    assert "energy, 14 rows: 100% predicted within 10 %" in said
    assert "90 % interval of the energy: +-" in said
    assert "energy is a constant power times the time: mean error" in said
    assert "median power: 400 mW, 90 % of networks +-0%" in lines
    assert "repeated operators are computed each time on this engine: 100% within 10 %, mean error" in said
    assert "energy" not in nas("calibrate", "--device", "other", "--from", "measured.csv").out


def test_what_was_found_is_json_too(nas, measured):
    found = json.loads(nas("calibrate", "--device", "bench", "--from", "measured.csv", "--json").out)
    assert found["close_low"] == pytest.approx(0.1 ** (1 / 7))
    assert (found["prunes"], found["merges"], found["energy"]) == (None, False, None)
    assert [(one["prunes"], one["merges"]) for one in found["opinions"]] == [(True, False), (True, True)]
    assert (found["rows"], found["networks"], found["device"]) == (14, 14, "bench")
    assert found["close"] == 1
    assert len(found["next_to_measure"]) == 5


def test_a_device_file_is_not_replaced_unasked(nas, measured):
    assert nas("calibrate", "--device", "bench", "--from", "measured.csv").code == 0
    before = Path("devices/bench.toml").read_text(encoding="utf-8")
    refused = nas("calibrate", "--device", "bench", "--from", "measured.csv", "--core", "Other")
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert Path("devices/bench.toml").read_text(encoding="utf-8") == before
    assert nas("calibrate", "--device", "bench", "--from", "measured.csv", "--core", "Other", "--force").code == 0
    assert 'core = "Other"' in Path("devices/bench.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (lambda rows: rows[:3], [], "at least 8 different networks"),
        (lambda rows: [row | {"latency_ms": row["latency_ms"] / 1e4} for row in rows], [], "--latency-unit s"),
        (lambda rows: [row | {"engine": f"E{index % 2}"} for index, row in enumerate(rows)], [], "of one engine"),
        (lambda rows: [row | {"engine": "TVM"} for row in rows], ["--engine", "TFLM"], "the rows are of 'TVM'"),
        (lambda rows: [row | {"architecture": "|x|"} for row in rows], [], "and 9 more: expected a cell like"),
        (lambda rows: rows, ["--precision", "int4"], "expected as precision one of"),
        (lambda rows: rows, ["--like", "nothing"], "no device 'nothing'"),
        (lambda rows: rows, ["--latency-unit", "h"], "expected as latency unit one of"),
        (lambda rows: [{"space": "nb201", "architecture": row["architecture"]} for row in rows], [], "'latency_ms'"),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(nas, measured, change, flags, message):
    write("wrong.csv", change(measured))
    done = nas("calibrate", "--device", "bench", "--from", "wrong.csv", *flags)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("devices").exists()


@pytest.mark.parametrize("name", ["../bench", "bench.toml", "all", ""])
def test_a_name_that_is_no_devices_is_refused(nas, measured, name):
    refused = nas("calibrate", "--device", name, "--from", "measured.csv")
    assert (refused.code, "as the name of a device" in refused.err) == (2, True)
    assert not Path("devices").exists()


def test_what_the_rows_cannot_tell_is_said(nas, measured):
    said = nas("calibrate", "--device", "raspi4", "--from", "measured.csv").out
    assert "no row has concat, depthwise" in said
    assert "zero" not in said
    assert "with 14 networks the interval is itself uncertain" in said
    assert "1,000 MHz is assumed" in said
    assert "raspi4 now means this device and not the shipped one" in said
    clocked = nas("calibrate", "--device", "other", "--from", "measured.csv", "--clock-mhz", "900").out
    assert "MHz is assumed" not in clocked
    assert "not the shipped one" not in clocked


def test_a_table_with_networks_a_device_cannot_run_says_which(nas, measured):
    assert nas("calibrate", "--device", "bench", "--from", "measured.csv").code == 0
    constant = "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    skips = "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    write("new.csv", [{"space": "nb201", "architecture": cell} for cell in (cells(1, seed=4)[0], constant, skips)])
    assert nas("estimate", "--device", "bench", "--from", "new.csv", "--output", "out.csv").code == 0
    with Path("out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["latency_ms"] != "" for row in rows] == [True, False, True]
    assert "does not depend on its input" in rows[1]["note"]
    assert "outside the range measured" in rows[2]["note"]
    assert rows[0]["note"] == ""
    again = nas("estimate", "--device", "bench", "--from", "new.csv", "--output", "new.csv")
    assert (again.code, "another file as --output" in again.err) == (2, True)


def test_a_network_that_ignores_its_input_is_no_measurement(nas, measured):
    constant = {"space": "nb201", "architecture": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "latency_ms": 0.01}
    write("constant.csv", [*measured, constant])
    found = json.loads(nas("calibrate", "--device", "bench", "--from", "constant.csv", "--json").out)
    assert (found["missing"], found["constant"], found["rows"]) == ([], [16], 14)


def conv_rows(count, shape="3x32x32"):
    """Rows of a lab: parameters alone, measured on records of some shape."""
    space = conv.make_space(tuple(int(length) for length in shape.split("x")), 10)
    networks = {network.key: network for network in random_points(space, count, seed=0)}
    return [
        {
            "space": "conv",
            "architecture": json.dumps(dict(network.params)),
            "latency_ms": 0.5 + 1e-6 * sum(kernel.macs for kernel in network.kernels),
            "input_shape": shape,
            "classes": 10,
        }
        for network in networks.values()
    ]


def test_rows_of_other_shapes_say_them_and_shapes_may_be_mixed(nas, measured):
    rows = [*conv_rows(8), *conv_rows(4, shape="1x16x16")]
    write("lab.csv", rows)
    done = nas("calibrate", "--device", "bench", "--from", "lab.csv")
    assert done.code == 0, done.err
    assert "taken for: 8 rows of conv for 3x32x32, 10 classes; 4 rows of conv for 1x16x16, 10 classes" in done.out
    untold = [{name: row[name] for name in ("space", "architecture", "latency_ms")} for row in rows[:8]]
    write("untold.csv", untold)
    refused = nas("calibrate", "--device", "other", "--from", "untold.csv")
    assert refused.code == 2
    assert "expected columns 'input_shape' and 'classes', or --input-shape --classes" in " ".join(refused.err.split())
    flags = ("--input-shape", "3,32,32", "--classes", "10")
    done = nas("calibrate", "--device", "other", "--from", "untold.csv", *flags)
    assert done.code == 0, done.err
    assert "taken for: 8 rows of conv for 3x32x32, 10 classes" in done.out


def test_a_usual_task_is_said(nas, measured):
    done = nas("calibrate", "--device", "bench", "--from", "measured.csv")
    assert "taken for: 14 rows of nb201 for 3x32x32, 10 classes" in done.out


def test_too_few_networks_say_which_rows_were_left_out_and_why(nas, measured):
    constant = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    rows = [*measured[:5], measured[0], {**measured[1], "latency_ms": ""}, {**measured[2], "latency_ms": 9.0}]
    write("few.csv", [*rows, {**measured[0], "architecture": constant}])
    refused = nas("calibrate", "--device", "bench", "--from", "few.csv")
    assert refused.code == 2
    told = " ".join(refused.err.split())
    assert (
        "got 5 in 6 usable rows of 9: 9 rows of nb201 for 3x32x32, 10 classes; left out (no usable latency): line 8"
        in told
    )
    assert (
        "; left out (the output does not depend on the input): line 10; left out (repeated rows): line 7; one" in told
    )


def test_only_this_machine_measures_itself(nas, measured):
    refused = nas("calibrate", "--device", "bench")
    assert (refused.code, "expected --from" in refused.err) == (2, True)


def test_this_machine_becomes_two_devices(nas, measured, monkeypatch):
    """Few networks and times made up from their size: that the pieces fit together, not how well they predict."""
    monkeypatch.setattr(this_machine, "_patiently", lambda models: [0.01 + 1e-6 * model.ByteSize() for model in models])
    real = this_machine.calibrate_host
    few = {"operators": 16, "points": 4}
    monkeypatch.setattr(this_machine, "calibrate_host", lambda path, report: real(path, report=report, **few))
    found = nas("calibrate", "--device", "host", "--json")
    assert found.code == 0, found.err
    written = json.loads(found.out)
    assert set(written) == {"host", "host_int8"}
    for name, precision in (("host", "float32"), ("host_int8", "int8")):
        device = load_device(name)
        assert (device.precision, device.calibration.networks) == (precision, written[name]["networks"])
        assert "ONNX Runtime" in device.engine
    assert Path("devices/host-measurements.csv").exists()
    assert "--force" in nas("calibrate", "--device", "host").err
