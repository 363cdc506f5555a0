"""nas list, with device files of other people."""

from __future__ import annotations

import json
import tomllib

import pytest

from estimators.devices.files import DEVICES
from estimators.devices.files import available_devices

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
