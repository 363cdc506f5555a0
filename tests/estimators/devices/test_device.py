import dataclasses
from pathlib import Path

import pytest

from estimators.devices.device import deployed
from estimators.devices.device import stored_width
from estimators.devices.files import DEVICES
from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from estimators.devices.files import own_devices
from nas.base.plugins import load

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
MEASURED = ("stm32/stm32h747_int8_measured.csv", "mlperf_tiny/mlperf_tiny_v1.0-1.2.csv")

GOOD = """
description = "a chip"
core = "c"
clock_mhz = 100
engine = "e 1.0"
precision = "int8"
weight_bits = [1, 8, 32]
activation_bits = [8, 32]
engine_ram_kib = 10.0
engine_flash_kib = 20.0
ram_kib = 64

[latency]
overhead_ms = 0.5
interval = 0.1
cycles_per_mac = { conv = 2.0, linear = 1.0 }
cycles_per_element = { pool = 0.5 }
cycles_per_kernel = { conv = 50.0 }
relative_cycles = { 8 = 1.0, 32 = 3.0 }

[energy]
active_power_mw = 50.0
interval = 0.2

[calibration]
source = "measured"
networks = 3
error_mean = 0.05
error_max = 0.1
"""


@pytest.fixture
def own(tmp_path):
    def write(text):
        path = tmp_path / "chip.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def refusal(name):
    with pytest.raises(ValueError, match="device") as error:
        load_device(name)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_users_own_file_is_read_and_called_as_the_file(own):
    device = load_device(own(GOOD))
    assert device.name == "chip"
    assert device.weight_bits == (1, 8, 32)
    assert device.latency.relative_cycles == {(8, 8): 1.0, (32, 32): 3.0}
    assert device.energy.active_power_mw == 50.0
    assert (device.ram_kib, device.flash_kib) == (64.0, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.clock_mhz = 1.0


def test_energy_may_be_absent(own):
    start, end = GOOD.index("[energy]"), GOOD.index("[calibration]")
    assert load_device(own(GOOD[:start] + GOOD[end:])).energy is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("clock_mhz = 100", "", ["'clock_mhz' is missing"]),
        ("clock_mhz = 100", 'clock_mhz = "100"', ["'clock_mhz'", "number", "'100'"]),
        ("clock_mhz = 100", "clock_mhz = true", ["'clock_mhz'", "number", "True"]),
        ("clock_mhz = 100", "clock_mhz = 0", ["'clock_mhz'", "greater than 0"]),
        ("clock_mhz = 100", "clock_mhz = nan", ["'clock_mhz'", "finite"]),
        ("clock_mhz = 100", "clock_mhz = inf", ["'clock_mhz'", "finite"]),
        ("clock_mhz = 100", "clock_mhz = 1979-05-27", ["'clock_mhz'", "number"]),
        ("clock_mhz = 100", "clock_mhz = 100\nclock_ghz = 1", ["no key 'clock_ghz'"]),
        ("clock_mhz = 100", 'clock_mhz = 100\nname = "x"', ["no key 'name'"]),
        ("overhead_ms = 0.5", "overhead_ms = -0.5", ["'latency.overhead_ms'", "-0.5"]),
        ("overhead_ms = 0.5", "overhead_s = 0.5", ["'latency.overhead_ms' is missing", "no key 'latency.overhead_s'"]),
        ("conv = 2.0", "konv = 2.0", ["'latency.cycles_per_mac'", "konv", "depthwise"]),
        ("conv = 2.0", "pool = 2.0", ["'latency.cycles_per_mac'", "pool", "depthwise"]),
        ("conv = 2.0", "conv = nan", ["'latency.cycles_per_mac.conv'", "finite"]),
        ("[1, 8, 32]", "[8, 1, 32]", ["'weight_bits'", "ascending"]),
        ("[1, 8, 32]", "[]", ["'weight_bits'"]),
        ("[1, 8, 32]", "[8, 64]", ["'weight_bits.1'", "64"]),
        ("8 = 1.0, 32 = 3.0", "8 = 3.0, 32 = 1.0", ["'latency.relative_cycles'", "do not fall"]),
        ("8 = 1.0, 32 = 3.0", "eight = 1.0", ["'latency.relative_cycles.eight'", "integer"]),
        ("active_power_mw = 50.0", "active_power_mw = -1", ["'energy.active_power_mw'", "-1"]),
        ("active_power_mw = 50.0", "active_power_mw = 50.0\nenergy_interval = -1", ["'energy.energy_interval'", "-1"]),
        ("networks = 3", "networks = 2.5", ["'calibration.networks'", "integer"]),
        ("[calibration]", "[calibrated]", ["'calibration' is missing", "no key 'calibrated'"]),
    ],
)
def test_a_wrong_file_is_refused_by_name(own, old, new, words):
    assert old in GOOD
    text = refusal(own(GOOD.replace(old, new)))
    assert "chip" in text
    assert [word for word in words if word not in text] == []


def test_all_problems_are_named_together(own):
    text = refusal(
        own(GOOD.replace("clock_mhz = 100", "").replace("interval = 0.1", "interval = -1").replace("e 1", ""))
    )
    assert "'clock_mhz'" in text
    assert "'latency.interval'" in text


def test_what_cannot_be_read_is_refused(own, tmp_path):
    assert "chip.toml" in refusal(own("clock = "))
    assert "nowhere.toml" in refusal(str(tmp_path / "nowhere.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "bytes.toml" in refusal(str(tmp_path / "bytes.toml"))


def test_an_unknown_device_lists_those_there_are():
    text = refusal("abacus")
    assert all(name in text for name in available_devices())
    assert "'../devices/host'" in refusal("../devices/host")


@pytest.mark.parametrize(("bits", "width"), [(1, 1), (2, 8), (4, 8), (8, 8), (9, 32), (32, 32)])
def test_a_width_is_stored_at_the_next_wider_one(bits, width):
    assert stored_width(bits, (1, 8, 32)) == width


def test_a_width_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"no width for 32 bits; there are \[4, 8\]"):
        stored_width(32, (4, 8))


def test_all_shipped_devices_load_and_say_what_they_stand_on():
    assert {"host", "stm32h747", "stm32l4r5"} <= set(available_devices())
    assert available_devices() == sorted(path.stem for path in DEVICES.glob("*.toml"))
    for name in available_devices():
        device = load_device(name)
        assert device.name == name
        assert device.calibration.error_mean <= device.calibration.error_max
        # An interval of 90 % narrower than the mean error would be a claim that the measurements deny.
        assert device.latency.interval > device.calibration.error_mean


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a place for devices of one's own."""
    (tmp_path / "devices").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "devices"


def test_a_device_in_the_current_folder_is_known_by_its_name(here):
    shipped = available_devices()
    (here / "chip.toml").write_text(GOOD)
    assert own_devices() == ["chip"]
    assert available_devices() == sorted(["chip", *shipped])
    assert load_device("chip").clock_mhz == 100
    assert load_device("devices/chip.toml") == load_device("chip")


def test_ones_own_device_wins_over_the_shipped_one_of_its_name(here):
    shipped = load_device("stm32l4r5")
    (here / "stm32l4r5.toml").write_text(GOOD)
    assert load_device("stm32l4r5").description == "a chip"
    assert available_devices().count("stm32l4r5") == 1
    (here / "stm32l4r5.toml").write_text('base = "stm32l4r5"\nclock_mhz = 60.0\n')
    assert load_device("stm32l4r5") == dataclasses.replace(shipped, clock_mhz=60.0)
    (here / "half.toml").write_text('base = "stm32l4r5.toml"\n')
    assert "no key 'base'" in refusal("half")


def test_a_base_may_be_a_device_of_ones_own(here):
    (here / "chip.toml").write_text(GOOD)
    (here / "slow.toml").write_text('base = "chip"\nclock_mhz = 50.0\n')
    assert (load_device("slow").clock_mhz, load_device("slow").engine) == (50.0, "e 1.0")


def test_a_network_is_converted_once_and_runs_as_it_runs():
    space = load("search_spaces", "nb201", "make_space")((3, 8, 8), 10)
    network = space.decode(space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"))
    first, second = load_device("raspi4"), load_device("pixel2")
    running = deployed(network, first)
    assert running is deployed(network, first)
    assert running is deployed(running, first)
    assert deployed(network, second) is network
    assert len(running.ops) < len(network.ops)
    converted = deployed(network, dataclasses.replace(first, float_becomes_bits=8))
    assert {op.bits for op in converted.ops} == {8}
