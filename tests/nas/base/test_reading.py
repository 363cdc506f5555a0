"""Files that somebody else made: read whole, or refused in one line before anything of their size is made."""

from __future__ import annotations

import gzip
import io
import os
import re
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from nas.base import files
from nas.base import reading
from nas.base import sizes

GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"
HEADERS = {
    "beyond 64 bits": GOOD.replace("3, 2", f"{2**70}, 2"),
    "beyond any integer that is read": GOOD.replace("3, 2", "9" * 5000),
    "a product beyond 64 bits": GOOD.replace("3, 2", f"{2**62}, {2**62}"),
    "more than the file has": GOOD.replace("3, 2", "1000000000, 2"),
    "less than the file has": GOOD.replace("3, 2", "2, 2"),
    "below zero": GOOD.replace("3, 2", "-3, -2"),
    "no integers": GOOD.replace("3, 2", "3.0, 2"),
    "no notation": "{'descr': '<f4', 'fortran_order'",
    "no dictionary": "[1, 2]",
    "a sum": "1+1",
    "nothing": "",
    "nested": "(" * 500,
    "signs": "-" * 3000 + "1",
    "another key": GOOD.replace("descr", "describe"),
    "no type": GOOD.replace("<f4", "x"),
    "a type of a gigabyte": GOOD.replace("<f4", "<U268435456"),
    "a type of no size": GOOD.replace("<f4", "<V0"),
    "a type with parts": GOOD.replace("'<f4'", "[('a', '<f4'), ('b', 'O')]"),
    "too long": GOOD + " " * 20_000,
}


def npz(path, header, body=bytes(24), version=1):
    told = len(header).to_bytes(2 if version == 1 else 4, "little")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", b"\x93NUMPY" + bytes([version, 0]) + told + header.encode() + body)
    return path


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_lies_or_does_not_parse_is_one_line(tmp_path, what):
    path = npz(tmp_path / "a.npz", HEADERS[what])
    for read in (lambda: reading.read_npz(path, ["logits"]), lambda: files.read_array(path, "logits")):
        with pytest.raises(ValueError, match=rf"^expected an \.npz with 'logits' (at|in) {re.escape(str(path))}[:;] "):
            read()


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_does_not_lie_is_read(tmp_path, version):
    path = npz(tmp_path / "a.npz", GOOD, version=version)
    assert np.array_equal(reading.read_npz(path, ["logits"])["logits"], np.zeros((3, 2), np.float32))


@pytest.mark.parametrize("version", [3, 9])
def test_a_version_of_the_format_that_is_not_known_is_refused(tmp_path, version):
    with pytest.raises(ValueError, match="version"):
        reading.read_npz(npz(tmp_path / "a.npz", GOOD, version=version), ["logits"])


def test_an_entry_that_is_no_array_is_not_unpacked_as_bytes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("logits", b"any bytes")
    with pytest.raises(ValueError, match="magic string"):
        reading.read_npz(tmp_path / "a.npz", ["logits"])


@pytest.fixture
def bomb(tmp_path):
    """An .npz of a few hundred kilobytes that unpacks to 320 MiB, header and all."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (80 * 2**20,)})
    archive = zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("logits.npy", "w") as entry:
        entry.write(stream.getvalue())
        for _ in range(320):
            entry.write(bytes(2**20))
    return tmp_path / "bomb.npz"


def test_a_packed_bomb_is_refused_unopened(bomb, monkeypatch):
    assert bomb.stat().st_size < 2**20
    monkeypatch.setattr(npy, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match=r"grows to 0.313 GiB or more, over 200 times its packed size"):
        reading.read_npz(bomb, ["logits"])


def test_arrays_beyond_the_memory_are_refused_unread(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", logits=np.zeros(1000))
    monkeypatch.setattr(sizes, "ALWAYS", 100)
    monkeypatch.setattr(sizes.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(ValueError, match="of memory are free"):
        reading.read_npz(tmp_path / "a.npz", ["logits"])


def test_a_gzip_bomb_is_refused_before_it_is_unpacked_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "ALWAYS", 10_000)
    with gzip.open(tmp_path / "a.gz", "wb") as stream:
        stream.write(bytes(10**7))
    with pytest.raises(ValueError, match="over 200 times its packed size"):
        reading.read_bytes(tmp_path / "a.gz", "an IDX file")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")  # noqa: PTH110
def test_a_device_that_never_ends_is_no_file():
    with pytest.raises(ValueError, match=r"^expected a CSV file at /dev/zero; it is a device, no file$"):
        reading.existing(reading.Path("/dev/zero"), "a CSV file")


@pytest.mark.parametrize("levels", [51, 900, 100_000])
def test_json_and_toml_nested_beyond_all_measure_are_refused(tmp_path, levels):
    with pytest.raises(ValueError, match=r"^expected JSON in x: it is nested "):
        reading.parse_json("[" * levels + "]" * levels, "expected JSON in x")
    (tmp_path / "a.toml").write_text(f"a = {'[' * levels}{']' * levels}\n")
    with pytest.raises(ValueError, match=rf"^expected TOML in {tmp_path / 'a.toml'}: it is nested "):
        reading.read_toml(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text(".".join(["a"] * min(levels, 5000)) + " = 1\n")
    with pytest.raises(ValueError, match="nested"):
        reading.read_toml(tmp_path / "b.toml")


def test_integers_that_are_too_long_to_read_are_one_line(tmp_path):
    (tmp_path / "a.toml").write_text(f"a = {'9' * 5000}\n")
    with pytest.raises(ValueError, match=rf"^expected TOML in {tmp_path / 'a.toml'}: Exceeds the limit"):
        reading.read_toml(tmp_path / "a.toml")


def test_a_text_larger_than_any_that_belongs_here_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "MOST_TEXT", 100)
    (tmp_path / "a.json").write_text("[" + "1," * 100 + "1]")
    with pytest.raises(ValueError, match="is larger than"):
        files.read_json(tmp_path / "a.json")
