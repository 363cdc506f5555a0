"""The whole way: a raw file, a search, a pick, an exported file, and the classes that it names for the raw file."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import onnx
import pytest
import torch

from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import auc_interval
from nas.audit.onnx_oracle import OnnxNetwork
from nas.preprocessing.stored import to_json
from nas.runs.networks import read_pick
from nas.runs.networks import read_preprocessing
from nas.runs.run import open_run
from nas.training.loop import logits_of
from tests.conftest import command_line
from tests.conftest import work_here

NAMES = np.array(["sitting", "standing", "two"])
COUNT = 240
SEARCH = (
    "--members", 70, "--references", 2, "--trials", 1, "--epochs", 15, "--workers", 1, "--defences", "none",
    "--no-error-ceiling",
)  # fmt: skip


def write_table(path):
    """A table with an offset that single precision cannot hold, missing numbers and text."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    time = 1.7e9 + 40 * labels + 10 * rng.normal(size=COUNT)
    age = [f"{age:.2f}" if rng.random() > 0.1 else "" for age in 30 + 10 * labels + 8 * rng.normal(size=COUNT)]
    colour = np.where(rng.random(COUNT) < 0.6, np.array(["red", "green", "blue"])[labels], "red")
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["time", "age", "colour", "state"])
        writer.writerows(zip(time, age, colour, NAMES[labels], strict=True))


def write_images(path):
    """Colour images with the channels last; each class is bright in another channel."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    images = rng.integers(0, 150, (COUNT, 8, 10, 3))
    images[np.arange(COUNT), :, 2:7, labels] += 60
    np.savez(path, images=images.astype(np.uint8), labels=NAMES[labels])


def write_signals(path):
    """Nine channels of 32 steps in another unit each; each class has another mean in the first one."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    signals = rng.normal(size=(COUNT, 9, 32)) * 50 + 1000
    signals[:, 0] += 60 * labels[:, None]
    np.savez(path, x=signals.astype(np.float32), y=NAMES[labels])


CASES = {
    "table": (write_table, "raw.csv", ["--dataset", "csv", "--label-column", "state", "--space", "mlp"]),
    "images": (write_images, "raw.npz", ["--dataset", "npz", "--space", "conv", "--device", "stm32l4r5"]),
    "signals": (write_signals, "raw.npz", ["--dataset", "npz", "--space", "conv", "--device", "host"]),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A search on raw data, its pick, and the files that were exported of it."""
    folder = tmp_path_factory.mktemp(request.param)
    write, name, settings = CASES[request.param]
    write(folder / name)
    runs = ("--runs", folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.workers.run", work_here)
        result = command_line("search", "--name", "a", "--data-path", folder / name, *settings, *SEARCH, *runs)
    assert result.code == 0, result.err
    assert command_line("pick", "a", *runs).code == 0
    pick = folder / "runs" / "a" / "picks" / "0"
    exported = command_line("export", pick, "--max-error-increase", "1", "--max-leakage-increase", "1", "--json")
    assert exported.code == 0, exported.err
    return request.param, folder / name, open_run("a", folder / "runs"), pick, json.loads(exported.out)


def predicted(*arguments):
    result = command_line("predict", *arguments, "--json")
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def column_flags(kind):
    return ["--label-column", "state"] if kind == "table" else []


def test_from_the_raw_file_to_the_class_the_error_is_the_studys_to_the_record(case):
    kind, raw, run, pick, _ = case
    _, network = read_pick(pick)
    wrong = {}
    for name in ("members", "non_members", "validation", "reserve", "test"):
        part = getattr(run.data, name)
        answers = logits_of(network, torch.from_numpy(part.features)).argmax(1)
        wrong |= dict(zip(part.rows.tolist(), answers != part.labels, strict=True))
    measured = run.trained(0).user_attrs["error"]
    assert np.mean([wrong[row] for row in run.data.validation.rows.tolist()]) == measured
    assert 0 < measured < 0.67  # neither perfect nor guessing: a wrong unit would be seen
    for asked in ([pick], [pick / "float32.onnx", "--data-path", raw, *column_flags(kind)]):
        told = predicted(*asked)
        assert told["records"] == COUNT
        found = {int(one["record"]): one["class"] != one["label"] for one in told["predictions"]}
        assert {row: found[row] for row in wrong} == wrong
        assert told["error"]["value"] == np.mean(list(found.values()))
        assert [one["class"] for one in told["by_class"]] == NAMES.tolist()
        assert sum(one["records"] for one in told["by_class"]) == COUNT


def test_each_file_takes_raw_records_and_says_what_they_are(case):
    kind, raw, run, pick, exported = case
    behind = read_preprocessing(pick, run.architecture(run.trained(0)))
    assert {one["precision"] for one in exported["files"]} >= {"float32", "int8"}
    for one in exported["files"]:
        model = onnx.load(one["path"])
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert facts["preprocessing"] == to_json(behind)
        assert json.loads(facts["classes"]) == NAMES.tolist()
        if kind == "table":
            assert json.loads(facts["columns"])[:3] == ["time", "age", "age is missing"]
        told = predicted(one["path"], "--data-path", raw, *column_flags(kind))
        assert abs(told["error"]["value"] - run.trained(0).user_attrs["error"]) < 0.25
    floats = next(one for one in exported["files"] if one["precision"] == "float32")
    assert floats["error"] == run.trained(0).user_attrs["error"]
    card = (pick / "card.md").read_text()
    assert all(f"| {name} |" in card for name in NAMES)
    shape = {"table": "6 features", "images": "8 x 10 x 3 pixels", "signals": "9 x 32 numbers"}[kind]
    assert shape in card


def test_an_audit_of_ones_own_file_finds_on_raw_records_what_it_finds_on_standardised_ones(case):
    _, _, run, pick, _ = case
    architecture, network = read_pick(pick)
    behind = read_preprocessing(pick, architecture)
    oracle = OnnxNetwork(pick / "float32.onnx")
    scores, raw_scores = [], []
    for name in ("members", "non_members"):
        ours, raw = getattr(run.data, name), run.sets[name]
        scores.append(log_probabilities(logits_of(network, torch.from_numpy(ours.features)), ours.labels))
        raw_scores.append(log_probabilities(oracle.query(behind.as_given(raw.features)), raw.labels))
    is_member = np.repeat([True, False], [len(part) for part in scores])
    aucs = [auc_interval(np.concatenate(found), is_member).value for found in (scores, raw_scores)]
    # Of 4,900 pairs those that are near to equal change with the size of the batches, too.
    assert aucs[0] == pytest.approx(run.trained(0).user_attrs["loss_auc"], abs=2e-3)
    assert aucs[1] == pytest.approx(aucs[0], abs=2e-3)


def test_a_table_is_written_a_row_for_each_record(case, tmp_path):
    kind, raw, _, pick, _ = case
    told = predicted(pick, "--output", tmp_path / "out.csv")
    assert told["output"] == str(tmp_path / "out.csv")
    assert "predictions" not in told
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["record"] for row in rows] == [str(row + 1) for row in range(COUNT)]
    assert {row["class"] for row in rows} <= set(NAMES)
    assert all(1 / 3 <= float(row["probability"]) <= 1 for row in rows)
    printed = command_line("predict", pick, *(["--data-path", raw] if kind == "signals" else []))
    assert "220 more records; --output FILE.csv writes all" in printed.out
    assert f"on {COUNT} records" in printed.out


def test_records_without_a_class_are_predicted_too(case, tmp_path):
    kind, raw, _, pick, _ = case
    other = tmp_path / raw.name
    if kind == "table":
        with raw.open() as stream:
            rows = [row[:-1] for row in csv.reader(stream)]
        with other.open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    else:
        with np.load(raw) as arrays:
            np.savez(other, features=arrays["images" if kind == "images" else "x"])
    with_class, without = predicted(pick), predicted(pick / "float32.onnx", "--data-path", other)
    assert "error" not in without
    assert [one["class"] for one in without["predictions"]] == [one["class"] for one in with_class["predictions"]]


def test_what_cannot_be_asked_is_one_line(case, tmp_path):
    _, raw, _, pick, _ = case
    bare = tmp_path / "bare.onnx"
    model = onnx.load(pick / "float32.onnx")
    kept = [entry for entry in model.metadata_props if entry.key != "preprocessing"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, bare)
    strange = tmp_path / "strange.onnx"
    entry = model.metadata_props.add()
    entry.key, entry.value = "preprocessing", "[" * 10_000
    onnx.save(model, strange)
    old = shutil.copytree(pick, tmp_path / "old")
    (old / "preprocessing.json").unlink()
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x=np.zeros((5, 2, 2, 2), np.float32))
    for arguments, line in (
        ([bare, "--data-path", raw], "expected an ONNX file that nas export wrote of a pick, with its preprocessing"),
        ([strange, "--data-path", raw], f"expected a preprocessing in the metadata of {strange}: it is nested too"),
        ([old], f"expected what the network was trained behind in {old / 'preprocessing.json'}; there is none"),
        ([tmp_path / "none.onnx", "--data-path", raw], "expected an ONNX file or a folder that nas pick wrote at"),
        ([pick / "float32.onnx"], "expected --dataset, or a folder or a file that ends in"),
        ([pick / "float32.onnx", "--data-path", wrong], "expected x (records, "),
    ):
        result = command_line("predict", *arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"nas: {line}")
        assert result.err.count("\n") == 1
    result = command_line("export", old)
    assert result.code == 2
    assert "pick the candidate again" in result.err


def test_records_in_another_unit_are_doubted(case, tmp_path):
    kind, raw, _, pick, _ = case
    if kind != "signals":
        pytest.skip("a table and pixels have no other unit here")
    with np.load(raw) as arrays:
        np.savez(tmp_path / "raw.npz", x=arrays["x"] / 1000, y=np.where(arrays["y"] == "two", "2", arrays["y"]))
    told = predicted(pick / "float32.onnx", "--data-path", tmp_path / "raw.npz")
    assert any("are in another unit, standardised already" in note for note in told["notes"])
    assert any(
        "of classes that the network does not know, ['2'], and count as errors" in note for note in told["notes"]
    )


def test_signals_far_from_zero_keep_their_digits_to_the_label(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    signals = 1e7 + 0.05 * rng.normal(size=(200, 3, 32)) + 0.1 * labels[:, None, None]
    np.savez(tmp_path / "far.npz", x=signals, y=labels)
    monkeypatch.setattr("nas.search.workers.run", work_here)
    runs = ("--runs", tmp_path / "runs")
    flags = ("--dataset", "npz", "--data-path", tmp_path / "far.npz", "--name", "far", "--device", "host")
    searched = command_line("search", *flags, *SEARCH, *runs)
    assert searched.code == 0, searched.err
    assert command_line("pick", "far", *runs).code == 0
    pick = tmp_path / "runs" / "far" / "picks" / "0"
    assert command_line("export", pick, "--precision", "float32").code == 0
    told = predicted(pick / "float32.onnx", "--data-path", tmp_path / "far.npz")
    assert told["error"]["value"] < 0.1  # in single precision neighbours are 1 apart
