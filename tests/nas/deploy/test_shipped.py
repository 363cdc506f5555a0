"""The folder that goes out: what was measured, and a script that checks the files without the program."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nas.base.files import digest_of
from nas.deploy import shipped
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import unchanged

ENTRY = {"sha256": "a" * 64, "bytes": 1234, "here_ms": None, "error": 0.25, "error_low": 0.2, "error_high": 0.3}


@pytest.fixture(scope="module")
def folder(trained_run, nas, tmp_path_factory):
    """The files that `nas export` left, alone in a folder."""
    runs = shutil.copytree(trained_run.runs, tmp_path_factory.mktemp("shipped") / "runs")
    pick = Path(json.loads(nas("pick", trained_run.name, "--runs", runs, "--json").out)["folder"])
    result = nas("export", pick)
    assert (result.code, result.err) == (0, "")
    return pick


@pytest.fixture
def alone(folder, tmp_path):
    """Copies of those files that a test may change."""
    for name in ("shipped.json", "verify.npz", "verify.py", "float32.onnx", "int8.onnx"):
        shutil.copy(folder / name, tmp_path)
    return tmp_path


def verified(folder):
    """Run the script as its user does: -I keeps the program that wrote it out of reach."""
    call = [sys.executable, "-I", str(folder / "verify.py")]
    result = subprocess.run(call, cwd=folder.parent, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout.splitlines(), result.stderr


def test_the_files_are_checked_by_the_script_alone(alone):
    assert verified(alone) == (0, ["float32.onnx: ok", "int8.onnx: ok"], "")


def test_a_missing_and_another_file_are_named(alone):
    (alone / "float32.onnx").unlink()
    with (alone / "int8.onnx").open("ab") as stream:
        stream.write(b"\0")
    code, lines, _ = verified(alone)
    assert code == 1
    assert lines[0] == "float32.onnx: missing"
    assert lines[1].startswith("int8.onnx: another file: SHA-256 is ")


def test_other_answers_of_the_same_file_are_named(alone):
    with np.load(alone / "verify.npz") as arrays:
        values = dict(arrays)
    values["int8.onnx"] = values["int8.onnx"][::-1]
    np.savez(alone / "verify.npz", **values)
    code, lines, _ = verified(alone)
    assert (code, lines[0]) == (1, "float32.onnx: ok")
    assert lines[1].startswith("int8.onnx: the same file, but ONNX Runtime ")


def test_a_folder_without_its_description_cannot_be_checked(alone):
    (alone / "shipped.json").unlink()
    code, lines, error = verified(alone)
    assert (code, lines) == (2, [])
    assert error.startswith("cannot check this folder: ")


def test_the_script_imports_nothing_of_the_program():
    names = {
        line.split()[1].split(".")[0] for line in shipped._script().splitlines() if line.startswith(("import", "from"))
    }
    assert names <= {*sys.stdlib_module_names, "numpy", "onnxruntime"}


def test_the_card_has_a_row_for_each_file(folder):
    card = (folder / "card.md").read_text()
    assert card.count("## As shipped\n") == 1
    for name in ("float32.onnx", "int8.onnx"):
        assert f"| {name} | `{digest_of(folder / name)[:16]}` | {(folder / name).stat().st_size:,} |" in card


def test_a_later_export_keeps_what_is_said_of_files_that_are_still_there(folder, nas, tmp_path):
    run = shutil.copytree(folder.parents[1], tmp_path / "runs" / "small")
    shutil.copytree(folder.parents[2] / ".cache", tmp_path / "runs" / ".cache")
    pick = run / "picks" / folder.name
    assert nas("export", pick, "--precision", "int8").code == 0
    told = json.loads((pick / "shipped.json").read_text())
    assert [entry["name"] for entry in told["files"]] == ["float32.onnx", "int8.onnx"]
    assert verified(pick)[0] == 0
    (pick / "float32.onnx").write_bytes(b"another")
    assert nas("export", pick, "--precision", "int8").code == 0
    told = json.loads((pick / "shipped.json").read_text())
    assert [entry["name"] for entry in told["files"]] == ["int8.onnx"]
    assert "float32.onnx" not in (pick / "card.md").read_text().partition("## As shipped")[2]
    assert "path" not in told["files"][0]


def test_a_table_takes_the_place_of_an_earlier_one_and_leaves_the_rest():
    card = "# Candidate\n\ntext\n\n## What goes in\n\nrecords\n"
    once = shipped.with_table(card, [{"name": "a.onnx", **ENTRY}])
    assert once.startswith(card.rstrip())
    assert "| a.onnx | `aaaaaaaaaaaaaaaa` | 1,234 | 0.250 (0.200 to 0.300) | - | - | - |" in once
    twice = shipped.with_table(once + "\n## Later\n\nmore\n", [{"name": "b.onnx", **ENTRY}])
    assert "a.onnx" not in twice
    assert twice.index("b.onnx") < twice.index("## Later\n\nmore")
    assert shipped.with_table(once, [{"name": "a.onnx", **ENTRY}]) == once


def test_random_records_are_as_a_file_takes_them():
    pixels = Preprocessing(
        Arrangement((4, 6, 3), (2, 0, 1), (3, 4, 6)), np.full(3, 0.5), np.full(3, 0.25), True, (), ("a", "b")
    )
    records = shipped.probes(pixels)
    assert (records.shape, records.dtype) == ((shipped.PROBES, 4, 6, 3), np.uint8)
    assert np.array_equal(records, shipped.probes(pixels))
    table = unchanged((2,))
    table = Preprocessing(table.arrangement, np.float32([100, -5]), np.float32([2, 0.1]), False, (), ("a", "b"))
    records = shipped.probes(table)
    assert (records.shape, records.dtype) == ((shipped.PROBES, 2), np.float32)
    assert np.abs((records - [100, -5]) / [2, 0.1]).max() <= shipped.FAR + 1e-3
    np.testing.assert_allclose(records.mean(0), [100, -5], atol=1)
