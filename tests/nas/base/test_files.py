"""Files are whole or absent, and reading one executes nothing."""

from __future__ import annotations

import errno
import json
import resource

import numpy as np
import pytest
import torch
from torch import nn

from nas.base import files
from nas.base.weights import read_weights
from nas.base.weights import write_weights


@pytest.fixture
def small_disk():
    """Let no file grow beyond 200 bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path, small_disk):
    path = tmp_path / "deep" / "front.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(OSError, match="File too large") as caught:
        files.write_json(path, {"new": "x" * 5000})
    assert caught.value.filename == str(path)
    assert caught.value.errno == errno.EFBIG
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whatever_breaks_a_write_leaves_nothing(tmp_path, error):
    def fill(stream):
        stream.write(b"half")
        raise error

    with pytest.raises(type(error)):
        files.write(tmp_path / "file", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "file"
    files.write_text(path, "old")
    seen = []

    def fill(stream):
        stream.write(b"ne")
        stream.flush()
        seen.append(path.read_text())
        stream.write(b"w")

    files.write(path, fill)
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_a_folder_that_cannot_be_made_is_an_oserror_with_its_name(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "inside", tmp_path / "file" / "deep" / "inside"):
        with pytest.raises(OSError, match=f"(File exists|Not a directory): '{tmp_path / 'file'}"):
            files.write_text(path, "text")


def test_json_has_no_nan_and_takes_accents(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.append_json(tmp_path / "a.jsonl", float("inf"))
    files.write_json(tmp_path / "b.json", {"é": 0.1})
    assert files.read_json(tmp_path / "b.json") == {"é": 0.1}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^expected JSON in {path}: "):
        files.read_json(path)


def test_lines_are_appended(tmp_path):
    for number in (1, 2):
        files.append_json(tmp_path / "lines", {"trial": number})
    assert [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()] == [{"trial": 1}, {"trial": 2}]


def test_weights_come_back_with_their_buffers(tmp_path):
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    network(torch.randn(8, 3))
    write_weights(tmp_path / "w.safetensors", network)
    found, expected = read_weights(tmp_path / "w.safetensors"), network.state_dict()
    assert found.keys() == expected.keys()
    assert "1.running_mean" in found
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x04N.", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_named(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ValueError, match=f"^expected safetensors in {tmp_path / 'w'}: "):
        read_weights(tmp_path / "w")


def test_arrays_come_back_and_objects_are_refused(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    files.write_arrays(tmp_path / "a.npz", logits=values)
    assert np.array_equal(files.read_array(tmp_path / "a.npz", "logits"), values)
    np.savez(tmp_path / "b.npz", logits=np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"^expected an \.npz with 'logits' in .*: Object arrays cannot be loaded"):
        files.read_array(tmp_path / "b.npz", "logits")
    with pytest.raises(ValueError, match=r"^expected an \.npz with 'masks' in "):
        files.read_array(tmp_path / "a.npz", "masks")


@pytest.mark.parametrize("keep", [0, 1, 30, 200, "npy"])
def test_half_an_npz_and_an_npy_are_named(tmp_path, keep):
    path = tmp_path / "a.npz"
    files.write_arrays(path, logits=np.arange(200.0))
    if keep == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.arange(3.0))
    else:
        path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"^expected an \.npz with 'logits' in {path}: "):
        files.read_array(path, "logits")
