"""nas list, with device files of other people."""

from __future__ import annotations

import json
import re
import shutil
import tomllib

import pytest

from estimators.devices.files import DEVICES
from estimators.devices.files import available_devices
from nas.search.config import load_config
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.search.study import propose

GOOD = (DEVICES / "stm32l4r5.toml").read_text()
CORE = tomllib.loads(GOOD)["core"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of devices of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    return tmp_path / "devices"


@pytest.mark.parametrize("core", ["[/b]", "[red]", "[bold", "a [i] core"])
def test_markup_in_a_name_is_printed_as_it_is(nas, own, core):
    (own / "mine.toml").write_text(GOOD.replace(json.dumps(CORE), json.dumps(core)))
    told = nas("list", "devices")
    assert (told.code, told.err) == (0, "")
    assert core in told.out


def test_control_characters_in_a_name_reach_no_terminal(nas, own):
    (own / "mine\x07.toml").write_text(GOOD.replace(json.dumps(CORE), '"\\u001b[2J red"'))
    told = nas("list", "devices")
    assert told.code == 0
    assert not {"\x1b", "\x07"} & set(told.out)
    assert "\\x1b[2J red" in told.out
    assert "mine\\x07" in told.out


BAD = {"torn": "core = [", "wrong": GOOD.replace("clock_mhz", "clock_ghz"), "deep": f"core = {'[' * 5000}"}


def test_a_bad_file_is_a_line_and_the_others_are_shown(nas, own):
    for name, text in BAD.items():
        (own / f"{name}.toml").write_text(text)
    (own / "bytes.toml").write_bytes(b"\xff\xfe")
    told = nas("list", "devices")
    assert (told.code, told.err) == (0, "")
    assert all(name in told.out for name in available_devices())
    assert "no key 'clock_ghz'" in " ".join(told.out.split())
    rows = json.loads(nas("list", "devices", "--json").out)["devices"]
    assert rows.keys() == set(available_devices())
    assert {name for name, row in rows.items() if "error" in row} == {*BAD, "bytes"}
    assert rows["wrong"]["own"]


def test_a_bad_file_is_a_reason_where_all_devices_are_priced(nas, own):
    (own / "torn.toml").write_text(BAD["torn"])
    told = nas("estimate", "--device", "all")
    assert told.code == 0
    assert "torn cannot run it: cannot read the device file 'devices/torn.toml'" in told.out
    assert nas("estimate", "--engine", "none").err.startswith("nas: the device 'stm32h747' was measured with")


# Networks.


def test_networks_are_listed_with_their_counts(nas, monkeypatch):
    rows = json.loads(nas("list", "networks", "--json").out)["networks"]
    assert list(rows) == sorted(rows)
    expected = {"space": "nb201", "input_shape": [3, 32, 32], "num_classes": 10, "macs": 15_647_360, "params": 129_306}
    assert {name: value for name, value in rows["nb201-0"].items() if name != "source"} == expected
    assert rows["nb201-0"]["source"].startswith("Dong and Yang")
    monkeypatch.setenv("COLUMNS", "200")
    told = nas("list", "networks").out
    assert re.search(r"^nb201-0 +nb201 +3x32x32 +10 +15,647,360 +129,306 +Dong and Yang, ", told, re.MULTILINE)
    assert "\nnb201-0 " in nas("list").out


# Runs.


def test_runs_are_listed_with_how_far_they_are(nas, own_run):
    runs = own_run.runs
    found = json.loads(nas("list", "runs", "--json", "--runs", runs).out)["runs"]
    expected = {"name": "small", "state": "finished", "trained": 5, "wanted": 5, "dataset": "digits", "space": "mlp"}
    expected |= {"device": "stm32h747", "objectives": ["error", "leakage", "latency_ms"], "problem": None}
    assert found == [expected]
    told = nas("list", "runs", "--runs", runs)
    assert re.search(
        r"^small +finished +5 of 5 +digits, mlp +stm32h747 +error leakage latency_ms", told.out, re.MULTILINE
    )


def test_a_damaged_run_is_listed_with_its_reason(nas, own_run):
    shutil.copytree(own_run.folder, own_run.runs / "torn")
    (own_run.runs / "torn" / "config.toml").write_text("name = ")
    (own_run.runs / "empty").mkdir()
    (own_run.runs / "empty" / "config.toml").write_text('name = "empty"\n')
    told = nas("list", "runs", "--json", "--runs", own_run.runs)
    assert (told.code, told.err) == (0, "")
    rows = {row["name"]: row for row in json.loads(told.out)["runs"]}
    assert [rows[name]["state"] for name in ("empty", "small", "torn")] == ["damaged", "finished", "damaged"]
    assert "expected TOML in" in rows["torn"]["problem"]
    assert "no run 'empty'" in rows["empty"]["problem"]
    shown = nas("list", "runs", "--runs", own_run.runs)
    assert "expected TOML in" in " ".join(shown.out.split())


def test_a_run_that_is_worked_on_is_running_and_one_that_waits_is_stopped(nas, own_run):
    runs = own_run.runs
    config = own_run.folder / "config.toml"
    config.write_text(config.read_text().replace("trials = 5", "trials = 9"))
    plan = resolve(load_config(config, {}), runs)
    study = open_study(plan)

    def state():
        return json.loads(nas("list", "runs", "--json", "--runs", runs).out)["runs"][0]["state"]

    assert state() == "stopped"
    proposal = propose(plan, study)
    assert state() == "running"
    proposal.hold.release()  # its process dies
    assert state() == "stopped"


def test_no_runs_are_said_to_be_none(nas, tmp_path):
    assert nas("list", "runs", "--runs", tmp_path).out == f"no runs in {tmp_path}\n"
    assert json.loads(nas("list", "runs", "--json", "--runs", tmp_path).out) == {"runs": []}
