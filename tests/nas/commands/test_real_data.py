"""From a real raw file to the class that the exported network names: the error is the study's, to the record."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nas.runs.run import open_run
from tests.conftest import command_line
from tests.conftest import work_here
from tests.real_data import write_adult
from tests.real_data import write_har

SEARCH = (
    "--members", 400, "--references", 2, "--trials", 1, "--epochs", 10, "--workers", 1, "--defences", "none",
    "--no-error-ceiling", "--device", "stm32l4r5",
)  # fmt: skip
CASES = {
    "adult": (write_adult, "adult.csv", ["--dataset", "csv", "--label-column", "income", "--space", "mlp"]),
    "har": (write_har, "har.npz", ["--dataset", "npz", "--group-column", "block", "--space", "conv"]),
}


@pytest.mark.parametrize("name", CASES)
def test_from_the_raw_file_to_the_label_of_the_exported_network(name, shared_data, tmp_path, monkeypatch):
    write, file, settings = CASES[name]
    write(shared_data, tmp_path / file)
    runs = ("--runs", tmp_path)
    monkeypatch.setattr("nas.search.workers.run", work_here)
    searched = command_line("search", "--name", "real", "--data-path", tmp_path / file, *settings, *SEARCH, *runs)
    assert searched.code == 0, searched.err
    assert command_line("pick", "real", *runs).code == 0
    pick = tmp_path / "real" / "picks" / "0"
    exported = command_line("export", pick, "--precision", "float32", "--json")
    assert exported.code == 0, exported.err
    run = open_run("real", tmp_path)
    error = run.trained(0).user_attrs["error"]
    assert 0 < error < 0.5
    label = ["--label-column", "income"] if name == "adult" else []
    asked = ("--data-path", tmp_path / file, *label, "--json")
    told = json.loads(command_line("predict", pick / "float32.onnx", *asked).out)
    wrong = {int(row["record"]): row["class"] != row["label"] for row in told["predictions"]}
    assert len(wrong) == told["records"]
    assert np.mean([wrong[row] for row in run.data.validation.rows.tolist()]) == error
