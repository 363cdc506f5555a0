"""`nas export` and `nas measure` as a user calls them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import onnx
import pytest

from estimators.devices.files import load_device
from estimators.estimate import Estimate
from nas.deploy import deployed as deploying
from nas.deploy.judging import Judgement
from nas.deploy.timing import Timing


@pytest.fixture(scope="module")
def pick(trained_run, nas, tmp_path_factory):
    """A folder that `nas pick` wrote, in a copy of its run."""
    runs = shutil.copytree(trained_run.runs, tmp_path_factory.mktemp("picked") / "runs")
    result = nas("pick", trained_run.name, "--runs", runs, "--json")
    return Path(json.loads(result.out)["folder"])


@pytest.fixture
def own_pick(pick, tmp_path):
    """The same in a folder that a test may change."""
    run = shutil.copytree(pick.parents[1], tmp_path / "runs" / "small")
    return run / "picks" / pick.name


@pytest.fixture
def timed(monkeypatch):
    """Stand in for the timing, 0.5 ms for any model; returns the models that were timed."""
    seen = []

    def measure(models, *, rounds):
        seen.extend(models)
        return [Timing(0.5, 0.4, 0.75, 0.01, rounds)] * len(models)

    monkeypatch.setattr(deploying, "time_models", measure)
    return seen


def test_a_pick_is_exported_into_its_folder_with_its_agreement(nas, own_pick):
    result = nas("export", own_pick)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    first = [line for line in lines if not line.startswith("  ")][:2]
    prices = [line for line in lines if line.startswith("  on stm32h747: ")]
    assert sum(line.endswith(", as the search priced it") for line in prices) == 1
    for line, price, name in zip(first, prices, ("float32", "int8"), strict=True):
        assert re.match(r"  on stm32h747: [\d.]+ ms \(extrapolated\), [\d.]+ KiB of flash[,;]", price)
        assert line.startswith(f"written to {own_pick / name}.onnx: ")
        more = r"[+-]0\.\d{3} \([+-]0\.\d{3} to [+-]0\.\d{3}\)"
        told = rf"[\d.]+% of \d+ records get PyTorch's class; error 0\.\d{{3}}, {more}; loss AUC 0\.\d{{3}}, {more}"
        assert re.fullmatch(told, line.partition(" KiB, ")[2])
        onnx.checker.check_model(onnx.load(own_pick / f"{name}.onnx"))
    assert sum(re.match(r"  [\d.]+ KiB of numbers and [\d.]+ KiB around them", line) is not None for line in lines) == 2
    assert sum(line.startswith("  on this machine: ") for line in lines) == 2
    # The copy has no reference networks beside it.
    assert lines[-1].startswith(
        "the search's attack was not repeated on the files: the search's reference networks are"
    )
    assert lines[-2] == f"python {own_pick / 'verify.py'} checks the files, with NumPy and ONNX Runtime alone"


def test_the_attack_of_the_search_is_repeated_on_each_file(nas, pick, tmp_path):
    told = json.loads(nas("export", pick, "--output", tmp_path, "--json").out)
    assert told["not_attacked"] is None
    for exported in told["files"]:
        assert exported["leakage_low"] <= exported["leakage"] <= exported["leakage_high"]
        assert abs(exported["leakage_increase"]) <= 0.02
        assert exported["bytes"] == Path(exported["path"]).stat().st_size
    printed = nas("export", pick, "--output", tmp_path).out
    assert printed.count("; leakage 0.") == 2
    assert "not repeated" not in printed


def test_one_precision_into_another_folder_as_json(nas, own_pick, tmp_path):
    result = nas("export", own_pick, "--precision", "int8", "--output", tmp_path / "out", "--json")
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    described = json.loads((own_pick / "architecture.json").read_text())
    (exported,) = told["files"]
    path = tmp_path / "out" / "int8.onnx"
    assert (told["key"], told["trained"]) == (described["key"], True)
    assert told["records"] >= 100
    assert (exported["path"], exported["precision"]) == (str(path), "int8")
    assert 0.99 <= exported["agreement"] <= 1
    assert exported["size_kib"] == path.stat().st_size / 1024
    for name in ("error", "error_increase", "loss_auc", "loss_auc_increase"):
        assert exported[f"{name}_low"] <= exported[name] <= exported[f"{name}_high"]
    assert 0 <= exported["error"] <= 1
    assert abs(exported["error_increase"]) <= 0.02
    assert not (own_pick / "float32.onnx").exists()


def test_a_pick_becomes_c_sources_that_are_judged(nas, own_pick):
    result = nas("export", own_pick, "--format", "c99", "--json")
    assert (result.code, result.err) == (0, "")
    (code,) = json.loads(result.out)["files"]
    folder = own_pick / f"{code['precision']}_c99"
    assert code["path"] == str(folder)
    names = {"main.c", "network.h", "network.c", "weights.h", "weights.c", "kernels.h", "kernels.c"}
    assert {path.name for path in folder.iterdir()} == names
    assert f"#define NETWORK_RAM_BYTES {code['ram_bytes']}\n" in (folder / "network.h").read_text()
    assert code["ram_bytes"] == code["planned_bytes"]
    assert 0.95 <= code["agreement"] <= 1
    assert code["error_increase_low"] <= code["error_increase"] <= code["error_increase_high"]
    told = nas("export", own_pick, "--format", "c99").out
    memory = f"{code['ram_bytes']:,} bytes of memory, as planned, {code['flash_bytes']:,} bytes of weights"
    assert told.startswith(f"written to {folder}: {memory}, {code['agreement']:.1%} of ")


def test_c_sources_are_in_the_precision_of_the_network_or_in_eight_bits(nas, tmp_path):
    point = {"depth": 1, "first_bits": 4, "layer1_activation_bits": 8, "last_bits": 32}
    task = ("--space", "mlp", "--input-shape", "6", "--classes", "3")
    given = (json.dumps(point), *task, "--output", tmp_path, "--format", "c99")
    result = nas("export", *given, "--precision", "float32")
    assert result.code == 2
    assert "expected mixed or int8 as the precision of this network's C99 code; got float32" in result.err
    assert not any(tmp_path.iterdir())
    assert nas("export", *given).code == nas("export", *given, "--precision", "int8").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"mixed_c99", "int8_c99"}


def test_an_unknown_format_is_refused(nas, own_pick):
    result = nas("export", own_pick, "--format", "c89")
    assert (result.code, result.out) == (2, "")
    assert "no format 'c89'; there are ['onnx', 'c99', 'executorch']" in result.err


def test_a_file_that_errs_more_is_refused_and_the_flag_that_accepts_it_is_named(nas, own_pick, monkeypatch):
    worse = Judgement(
        0.99, Estimate(0.2, 0.1, 0.3), Estimate(0.05, 0.01, 0.1), Estimate(0.5, 0.4, 0.6), Estimate(0, 0, 0)
    )
    monkeypatch.setattr("nas.deploy.judging.judge", lambda *_: worse)
    result = nas("export", own_pick, "--precision", "int8")
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(
        r"nas: expected the int8 file to err on at most 0\.02 more of \d+ validation records than the network "
        r"\(--max-error-increase\); got 0\.050 \(0\.010 to 0\.100\): the file is not written\n",
        result.err,
    )
    assert not list(own_pick.glob("*.onnx"))
    result = nas("export", own_pick, "--precision", "int8", "--max-error-increase", "0.05")
    assert (result.code, result.err) == (0, "")
    assert "error 0.200, +0.050 (+0.010 to +0.100); loss AUC 0.500, " in result.out
    assert [path.name for path in own_pick.glob("*.onnx")] == ["int8.onnx"]


def test_a_file_that_leaks_more_is_refused_and_the_flag_that_accepts_it_is_named(nas, own_pick, monkeypatch):
    worse = Judgement(
        1.0, Estimate(0.2, 0.1, 0.3), Estimate(0, 0, 0), Estimate(0.6, 0.5, 0.7), Estimate(0.1, 0.01, 0.2)
    )
    monkeypatch.setattr("nas.deploy.judging.judge", lambda *_: worse)
    result = nas("export", own_pick, "--precision", "int8")
    assert (result.code, result.out) == (2, "")
    assert "by at most 0.02 (--max-leakage-increase); got 0.100 (0.010 to 0.200)" in result.err
    assert nas("export", own_pick, "--precision", "int8", "--max-leakage-increase", "0.1").code == 0


@pytest.mark.parametrize("flag", ["--max-error-increase", "--max-leakage-increase"])
def test_a_tolerance_that_is_none_is_refused(nas, own_pick, flag):
    for value in ("nan", "-0.1", "2"):
        result = nas("export", own_pick, flag, value)
        assert (result.code, result.out) == (2, "")
        assert result.err == f"nas: expected {flag} from 0 to 1; got {float(value)}\n"


def test_a_folder_that_is_named_like_a_file_is_refused(nas, tmp_path):
    result = nas("export", "mlperf-ds-cnn", "--output", tmp_path / "keyword.onnx")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("nas: expected a folder for --output, for files named by their precision; got ")
    assert list(tmp_path.iterdir()) == []


def test_random_weights_are_said_to_be_random(nas, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = nas("export", '{"depth": 2}', "--precision", "float32")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("written to float32.onnx: ")
    assert result.out.endswith("; random weights, for timing only\n")
    assert (tmp_path / "float32.onnx").exists()


@pytest.mark.parametrize("command", ["export", "measure"])
def test_what_cannot_be_exported_or_measured_is_one_line(nas, tmp_path, timed, command):
    for arguments, line in (
        (("{}", "--precision", "int2"), "no precision 'int2'; there are ['float32', 'int8', 'mixed', 'int4'"),
        ((tmp_path,), "expected a folder that nas pick wrote, with architecture.json and weights.safetensors; got "),
        (("nothing",), "expected JSON, a file, RUN:NUMBER or the name of a network (nas list networks); got 'not"),
    ):
        result = nas(command, *arguments, "--runs", tmp_path)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"nas: {line}")
        assert result.err.count("\n") == 1
    assert not timed
    assert not list(tmp_path.iterdir())


def test_a_network_is_timed_and_held_against_the_device(nas, timed):
    result = nas("measure", '{"depth": 2}', "--device", "host", "--rounds", "3", "--json")
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    host = load_device("host")
    assert (told["device"], told["device_engine"]) == ("host", host.engine)
    assert told["engine"].startswith("ONNX Runtime 1.")
    by_precision = {timing["precision"]: timing for timing in told["timings"]}
    assert list(by_precision) == ["float32", "int8"]
    assert len(timed) == 2
    for timing in by_precision.values():
        assert (timing["latency_ms"], timing["low"], timing["high"], timing["repetitions"]) == (0.5, 0.4, 0.75, 3)
    predicted = by_precision[host.precision]
    estimated = json.loads(nas("estimate", '{"depth": 2}', "--device", "host", "--json").out)
    assert predicted["predicted"]["value"] == pytest.approx(estimated["latency_ms"])
    # Against the fastest round: what the machine takes when left alone.
    assert predicted["error"] == pytest.approx(estimated["latency_ms"] / 0.4 - 1)
    integer = json.loads(nas("estimate", '{"depth": 2}', "--device", "host_int8", "--json").out)
    assert by_precision["int8"]["predicted"]["value"] == pytest.approx(integer["latency_ms"])
    board = json.loads(nas("measure", '{"depth": 2}', "--device", "stm32h747", "--json").out)["timings"]
    assert board[0]["predicted"] is None
    assert board[1]["predicted"] is not None


def test_what_was_timed_is_printed_with_what_the_prediction_stands_on(nas, timed):
    host = load_device("host")
    printed = nas("measure", "--device", "host", "--precision", host.precision).out
    assert len(timed) == 1
    assert "on this machine, ONNX Runtime 1." in printed.splitlines()[0]
    assert "0.500" in printed
    assert "0.400 to 0.750" in printed
    assert f"latency on host: {host.engine}, " in printed
    # A prediction for another engine is not passed off as an error.
    assert ("another engine than ONNX Runtime" in printed) == (not host.engine.startswith("ONNX Runtime"))


def test_a_device_of_neither_precision_predicts_nothing(nas, timed):
    printed = nas("measure", "--device", "stm32h747", "--precision", "float32").out
    assert printed.endswith("no prediction: stm32h747 was measured in int8 only\n")
    assert len(timed) == 1


def test_without_executorch_a_program_for_it_is_refused_before_any_file(nas, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    result = nas("export", '{"depth": 2}', "--format", "executorch", "--output", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == "nas: expected ExecuTorch, to write a program for it; pip install 'gecko-nas[edge]'\n"
    assert not list(tmp_path.iterdir())


def test_a_program_for_executorch_is_in_float_alone(nas, tmp_path):
    result = nas("export", '{"depth": 2}', "--format", "executorch", "--precision", "int8", "--output", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == "nas: expected float32, the one precision of --format executorch; got int8\n"
    assert not list(tmp_path.iterdir())
