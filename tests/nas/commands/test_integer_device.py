"""A search on a device that runs all in integers: what is priced is what is trained, measured, kept and written."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from nas.base.onnx_runtime import session
from nas.runs.run import open_run
from nas.search.storage import load_study
from nas.training.assess import outputs
from search_spaces.layers.quantize import QuantLinear
from search_spaces.network import build
from tests.conftest import Run
from tests.conftest import command_line
from tests.conftest import work_here
from tests.small_search import SMALL


@pytest.fixture(scope="module")
def integer_run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.workers.run", work_here)
        flags = ("--device", "host_int8", "--trials", "3", "--epochs", "8")
        result = command_line("search", *SMALL, *flags, "--name", "small", "--runs", runs)
    assert result.code == 0, result.err
    return Run(runs, "small", result.out)


def trained(run):
    return [trial for trial in run.study.trials if trial.values]


def test_the_measured_logits_are_those_of_the_integer_network(nas, integer_run, tmp_path):
    run = open_run("small", integer_run.runs)
    validation = run.data.validation
    for trial in trained(run):
        network = run.network(trial)
        assert {type(module) for name, module in network.named_modules() if name.endswith("_linear")} == {QuantLinear}
        layers = [kernel for kernel in run.architecture(trial).kernels if kernel.macs]
        assert all(max(layer.weight_bits, layer.input_bits) <= 8 for layer in layers)
        assert nas("pick", "small", "--number", trial.number, "--runs", integer_run.runs).code == 0
        pick = integer_run.folder / "picks" / str(trial.number)
        told = nas("export", pick, "--precision", "int8", "--output", tmp_path, "--max-error-increase", "0", "--json")
        assert told.code == 0, told.err
        (file,) = json.loads(told.out)["files"]
        assert file["as_priced"] is True
        assert file["costs"]["latency_ms"] == pytest.approx(trial.user_attrs["latency_ms"])
        # The file computes in integers, and answers as the network that the search measured.
        model = onnx.load(tmp_path / "int8.onnx")
        ours, theirs = outputs(network, validation.features), answers(model, run)
        apart = np.abs(ours - theirs).max(axis=1)
        assert np.median(apart) < 0.005 * ours.std()  # a number on a border of rounding may fall to either side
        wrong = float((theirs.argmax(axis=1) != validation.labels).mean())
        assert wrong == pytest.approx(trial.user_attrs["error"], abs=1.5 / len(validation))
        # The same weights in float answer otherwise: the comparison could tell.
        plain = build(run.architecture(trial).as_float()).eval()
        plain.load_state_dict(network.state_dict(), strict=False)
        with torch.no_grad():
            in_float = plain(torch.from_numpy(validation.features)).numpy()
        assert np.median(np.abs(in_float - ours).max(axis=1)) > 0.02 * ours.std()


def answers(model, run):
    """Logits of a file about the validation records as a user has them."""
    records = run.sets["validation"].features
    found = session(model)
    return found.run(None, {found.get_inputs()[0].name: records.astype(np.float32)})[0]


def test_it_is_said(nas, integer_run):
    line = "what is in float is trained and measured in 8 bits, as host_int8 runs it"
    assert line in integer_run.printed.splitlines()
    assert line in nas("show", "small", "--runs", integer_run.runs).out.splitlines()
    told = json.loads(nas("show", "small", "--json", "--runs", integer_run.runs).out)
    assert all("32" not in row["bits"] for row in told["front"])


def test_a_candidate_costs_by_its_name_what_the_search_said(nas, integer_run):
    study = load_study("small", integer_run.folder, None)
    for trial in study.trials:
        told = json.loads(nas("estimate", f"small:{trial.number}", "--json", "--runs", integer_run.runs).out)
        assert told["latency_ms"] == pytest.approx(trial.user_attrs["latency_ms"])


def test_a_search_that_trained_in_float_is_not_continued_in_integers(nas, integer_run, tmp_path):
    journal = integer_run.folder / "journal.log"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        line.get("user_attr", {}).get("origin", {}).pop("float_becomes_bits", None)
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "journal.log").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    flags = ("--device", "host_int8", "--trials", "4", "--epochs", "8")
    told = nas("search", *SMALL, *flags, "--name", "small", "--runs", tmp_path)
    assert (told.code, told.out) == (2, "")
    assert "the networks: were trained in float, now in the 8 bits that host_int8 makes of it" in told.err
    assert nas("show", "small", "--runs", tmp_path).code == 0


@pytest.mark.parametrize("bits", [0, 33, "8", True, 8.0])
def test_a_pick_of_a_wrong_width_is_refused(nas, integer_run, tmp_path, bits):
    run = open_run("small", integer_run.runs)
    number = trained(run)[0].number
    assert nas("pick", "small", "--number", number, "--runs", integer_run.runs).code == 0
    written = json.loads((integer_run.folder / "picks" / str(number) / "architecture.json").read_text())
    assert written["float_becomes_bits"] == 8
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps({**written, "float_becomes_bits": bits}))
    told = nas("estimate", path)
    assert (told.code, told.out) == (2, "")
    assert told.err == f"nas: expected a width of 1 to 32 bits as float_becomes_bits; got {bits!r}\n"
