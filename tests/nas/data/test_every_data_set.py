"""Loaders: every data set in its format, and every damage in one line."""

from __future__ import annotations

import gzip
import pickle
import pickletools
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nas.base import plugins
from nas.data.cifar10 import CLASSES as CIFAR_CLASSES
from nas.records import Records
from nas.records import Source
from nas.records import load_records
from nas.records import split
from tests.images_and_signals import write_image_folder
from tests.images_and_signals import write_uci_har

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
CIFAR_FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
IDX_FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def refused(source: Source, *words: str) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load_records(source)
    message = str(caught.value)
    assert all(word in message for word in words), message
    return message


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} in ../shared/data")
    return SHARED / name


# One tiny, valid data set for each loader


def write_cifar10(folder: Path) -> Source:
    for number, name in enumerate(CIFAR_FILES):
        images, labels = cifar_batch(number)
        (folder / f"{name}.bin").write_bytes(cifar_binary(images, labels))
    return Source("cifar10", folder)


def write_fashion_mnist(folder: Path) -> Source:
    rng = np.random.default_rng(0)
    for names, count in ((IDX_FILES[:2], 40), (IDX_FILES[2:], 20)):
        images = rng.integers(0, 256, size=(count, 28, 28), dtype=np.uint8)
        (folder / names[0]).write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes())
        (folder / names[1]).write_bytes(struct.pack(">II", 2049, count) + bytes(i % 10 for i in range(count)))
    return Source("fashion_mnist", folder)


def write_location30(folder: Path) -> Source:
    bits = np.random.default_rng(0).integers(0, 2, size=(60, 446))
    rows = (",".join(f'"{value}"' for value in (index % 30 + 1, *row)) for index, row in enumerate(bits))
    (folder / "bangkok").write_text("\n".join(rows) + "\n")
    return Source("location30", folder)


def write_npz(folder: Path) -> Source:
    rng = np.random.default_rng(0)
    arrays = {"features": rng.normal(size=(30, 4)), "labels": np.array(["cat", "dog", "ant"])[np.arange(30) % 3]}
    np.savez(folder / "any.npz", **arrays, groups=np.arange(30) // 2, held_out=np.arange(30) < 6)
    return Source("npz", folder / "any.npz")


def write_csv(folder: Path) -> Source:
    lines = ["age,label,income,person", *(f"{20 + row},{'yn'[row % 2]},{row / 8},p{row // 3}" for row in range(30))]
    (folder / "any.csv").write_text("\n".join(lines))
    return Source("csv", folder / "any.csv", group_column="person")


def write_images(folder: Path) -> Source:
    write_image_folder(folder)
    return Source("images", folder)


def write_har(folder: Path) -> Source:
    write_uci_har(folder)
    return Source("uci_har", folder)


def write_parquet(folder: Path) -> Source:
    frame = pd.read_csv(write_csv(folder).path)
    frame.to_parquet(folder / "any.parquet")
    return Source("parquet", folder / "any.parquet", group_column="person")


WRITERS = {
    "cifar10": write_cifar10,
    "csv": write_csv,
    "parquet": write_parquet,
    "digits": lambda folder: Source("digits"),
    "fashion_mnist": write_fashion_mnist,
    "images": write_images,
    "location30": write_location30,
    "npz": write_npz,
    "uci_har": write_har,
}
LOADERS = plugins.available("nas.data", "load")


def test_every_loader_has_a_tiny_data_set_here():
    assert sorted(WRITERS) == LOADERS


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_gives_sound_records_that_can_be_told_apart(name, tmp_path):
    source = WRITERS[name](tmp_path)
    records = load_records(source)
    assert isinstance(records, Records)
    images = records.features.ndim == 4
    assert records.features.dtype in (np.float32, np.uint8 if images else np.float64)
    assert records.features.flags.c_contiguous
    assert records.features.flags.aligned
    assert np.isfinite(records.features).all()
    assert records.labels.dtype == np.int64
    assert all(type(label) is str for label in records.classes)
    assert len(set(records.classes)) == records.num_classes
    again = load_records(source)
    assert np.array_equal(again.features, records.features)
    assert np.array_equal(again.labels, records.labels)


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_says_whether_it_needs_a_path_and_what_it_is(name, tmp_path):
    module = plugins.load("nas.data", name, "__name__")
    assert module == f"nas.data.{name}"
    summary = plugins.load("nas.data", name, "__doc__").splitlines()[0]
    assert summary.endswith(".")
    if not plugins.load("nas.data", name, "NEEDS_PATH"):
        load_records(Source(name))
        return
    refused(Source(name), "got none")
    (tmp_path / "other.txt").write_text("x")
    refused(Source(name, tmp_path / "absent"), str(tmp_path / "absent"), "other.txt")
    refused(Source(name, tmp_path / "other.txt" / "below"), "other.txt is not a folder")
    refused(Source(name, tmp_path / "other.txt"), "other.txt")
    refused(Source(name, tmp_path), str(tmp_path))
    refused(Source(name, Path("x" * 5000)), "File name too long")


@pytest.mark.parametrize("name", sorted(set(LOADERS) - {"digits"}))
def test_damaged_files_are_refused_or_read_never_worse(name, tmp_path):
    source = WRITERS[name](tmp_path)
    rng = np.random.default_rng(0)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()][:2]:
        sound = path.read_bytes()
        for cut in (0, 1, len(sound) // 3, len(sound) - 1):
            path.write_bytes(sound[:cut])
            try_to_load(source)
        for _ in range(20):
            broken = bytearray(sound)
            for place in rng.integers(0, min(len(sound), 400), size=3):
                broken[place] = rng.integers(256)
            path.write_bytes(broken)
            try_to_load(source)
        path.write_bytes(sound)


def try_to_load(source):
    try:
        load_records(source)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)


# Digits


def test_digits_are_those_of_scikit_learn_between_0_and_1():
    records = load_records(Source("digits"))
    assert records.features.shape == (1797, 1, 8, 8)
    assert (records.features.min(), records.features.max()) == (0, 1)
    # The first image is a nought: its second row, of 16 shades.
    assert (records.features[0, 0, 1] * 16).tolist() == [0, 0, 13, 15, 10, 15, 5, 0]
    assert records.labels[:5].tolist() == [0, 1, 2, 3, 4]
    assert records.class_counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


# CIFAR-10


def cifar_batch(number, count=12):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, size=(count, 3072), dtype=np.uint8), [(number + i) % 10 for i in range(count)]


def cifar_binary(images, labels):
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


def python2_batch(images, labels, fortran=False):
    """What Python 2's cPickle wrote in protocol 2: bytes as strings, lists in a mark and an append."""

    def text(value):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    def number(value):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    blob = images.tobytes(order="F" if fortran else "C")
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85q\x08U\x01bq\x09\x87q\x0aRq\x0b"
        b"(K\x01" + number(len(images)) + b"M\x00\x0c\x86q\x0ccnumpy\ndtype\nq\x0dU\x02u1q\x0eK\x00K\x01\x87q\x0fRq\x10"
        b"(K\x03U\x01|q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x12b"
        + (b"\x88" if fortran else b"\x89")
        + text(blob)
        + b"q\x13tq\x14b"
    )
    names = b"]q\x15(" + b"".join(text(b"cat_s_%06d.png" % index) for index in range(len(labels))) + b"e"
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03"
        + text(b"labels") + b"q\x04]q\x05(" + b"".join(map(number, labels)) + b"e" + text(b"data") + array
        + text(b"filenames") + names + b"u."
    )  # fmt: skip


def write_python_batches(folder, dump):
    folder.mkdir(parents=True)
    for number, name in enumerate(CIFAR_FILES):
        (folder / name).write_bytes(dump(*cifar_batch(number)))


def python3(protocol, keys=str, order="C"):
    def dump(images, labels):
        names = [f"cat_s_{index}.png" for index in range(len(labels))]
        pairs = {"data": np.asarray(images, order=order), "labels": labels, "batch_label": 1, "filenames": names}
        return pickle.dumps({keys(key): value for key, value in pairs.items()}, protocol)

    return dump


def test_the_hand_written_batch_is_what_python_2_would_write():
    images, labels = cifar_batch(3)
    read = pickle.loads(python2_batch(images, labels), encoding="latin-1")
    assert np.array_equal(read["data"], images)
    assert read["labels"] == labels


@pytest.mark.parametrize(
    "dump",
    [
        python2_batch,
        lambda images, labels: python2_batch(images, labels, fortran=True),
        *(python3(protocol) for protocol in (2, 3, 4, 5)),
        *(python3(protocol, order="F") for protocol in (2, 4, 5)),
        *(python3(protocol, keys=str.encode) for protocol in (2, 4)),
    ],
)
@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_python_batches_equal_binary_batches(dump, below, tmp_path):
    write_python_batches(tmp_path / "py" / below, dump)
    python = load_records(Source("cifar10", tmp_path / "py"))
    (tmp_path / "bin").mkdir()
    binary = load_records(write_cifar10(tmp_path / "bin"))
    assert np.array_equal(python.features, binary.features)
    assert np.array_equal(python.labels, binary.labels)
    assert np.array_equal(python.held_out, binary.held_out)


def test_labels_pickled_in_several_batches_of_a_thousand_are_all_read(tmp_path):
    def dump(images, labels):
        return python3(2)(np.tile(images, (90, 1)), labels * 90)

    write_python_batches(tmp_path / "py", dump)
    assert len(load_records(Source("cifar10", tmp_path / "py"))) == 6 * 12 * 90


def test_cifar_pixels_lie_where_they_belong(tmp_path):
    source = write_cifar10(tmp_path)
    records = load_records(source)
    images, labels = cifar_batch(2)
    # A record is 1,024 red pixels row by row, then green, then blue.
    assert records.features[24 + 5, 1, 3, 7] == images[5, 1024 + 3 * 32 + 7]
    assert records.labels[24:36].tolist() == labels
    assert records.classes == CIFAR_CLASSES
    assert records.classes[3] == "cat"
    assert np.flatnonzero(records.held_out).tolist() == list(range(60, 72))
    assert records.features.dtype == np.uint8


def test_a_folder_with_the_binary_folder_of_the_archive_is_found(tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    assert len(load_records(Source("cifar10", tmp_path))) == 72


def test_missing_batches_are_named(tmp_path):
    source = write_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    (tmp_path / "test_batch.bin").unlink()
    refused(source, "missing: ['data_batch_3', 'test_batch']", str(tmp_path))


def test_a_truncated_binary_batch_and_a_foreign_label_are_named(tmp_path):
    source = write_cifar10(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1])
    refused(source, "records of 3073 bytes", "data_batch_2.bin", str(len(sound) - 1))
    path.write_bytes(b"\x0a" + sound[1:])
    refused(source, "labels from 0 to 9", "data_batch_2.bin", "10")


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def hostile_batches(mark):
    images, labels = cifar_batch(0)
    sound = python2_batch(images, labels)
    return {
        "empty": b"",
        "bomb": pickle.dumps(Bomb(mark), 2),
        "bomb as data": pickle.dumps({"data": Bomb(mark), "labels": labels}, 4),
        "text": b"data labels",
        "truncated": sound[:5000],
        "no end": sound[:-1],
        "no data": pickle.dumps({"labels": labels}, 2),
        "no labels": pickle.dumps({"data": images}, 2),
        "wide numbers": pickle.dumps({"data": images.astype(np.int32), "labels": labels}, 2),
        "signed numbers": pickle.dumps({"data": images.view(np.int8), "labels": labels}, 2),
        "label too many": pickle.dumps({"data": images, "labels": [*labels, 1]}, 2),
        "label too large": pickle.dumps({"data": images, "labels": [*labels[:-1], 10]}, 2),
        "huge label": pickle.dumps({"data": images, "labels": [*labels[:-1], 2**80]}, 2),
        "not latin": pickle.dumps({"data": ["u1", "\u20ac" * 3072 * 12], "labels": labels}, 2),
        "long claim": b"\x80\x02}(U\x04dataT\xff\xff\xff\x7f" + b"x" * 100,
        "longer claim": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x" * 100,
        "negative claim": b"\x80\x02}(U\x04dataT\xff\xff\xff\xffabc.",
    }


@pytest.mark.parametrize("damage", sorted(hostile_batches(Path())))
def test_a_hostile_python_batch_is_one_clear_line_and_runs_nothing(damage, tmp_path):
    write_python_batches(tmp_path / "py", python2_batch)
    (tmp_path / "py" / "data_batch_4").write_bytes(hostile_batches(tmp_path / "executed")[damage])
    refused(Source("cifar10", tmp_path / "py"), "data_batch_4", "expected")
    assert not (tmp_path / "executed").exists()


def test_the_bomb_would_have_gone_off(tmp_path):
    pickle.loads(hostile_batches(tmp_path / "executed")["bomb as data"])["data"].close()
    assert (tmp_path / "executed").exists()


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    opcodes=st.lists(st.sampled_from([opcode.code for opcode in pickletools.opcodes]), max_size=6),
    tail=st.binary(max_size=40),
)
def test_no_stream_of_opcodes_does_worse_than_a_refusal(opcodes, tail, tmp_path):
    folder = tmp_path / "py"
    if not folder.exists():
        write_python_batches(folder, python2_batch)
    stream = b"\x80\x02}(U\x04data" + "".join(opcodes).encode("latin-1") + tail
    (folder / "data_batch_1").write_bytes(stream)
    refused(Source("cifar10", folder), "data_batch_1")


# Fashion-MNIST


@pytest.mark.parametrize(("below", "packed"), [("", True), ("FashionMNIST/raw", False), ("FashionMNIST/raw", True)])
def test_idx_files_are_found_packed_or_not_and_in_torchvisions_folder(below, packed, tmp_path):
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    plain = load_records(write_fashion_mnist(folder))
    if packed:
        for name in IDX_FILES:
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    records = load_records(Source("fashion_mnist", tmp_path))
    assert np.array_equal(records.features, plain.features)
    assert records.features.shape == (60, 1, 28, 28)
    raw = np.random.default_rng(0).integers(0, 256, size=(40, 28, 28), dtype=np.uint8)
    assert np.array_equal(records.features[:40, 0], raw)
    assert records.labels.tolist() == [i % 10 for i in range(40)] + [i % 10 for i in range(20)]
    assert np.flatnonzero(records.held_out).tolist() == list(range(40, 60))
    assert records.classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (0, lambda data: data[:-1], ["bytes in", "for 40 records; got 31375"]),
        (0, lambda data: data + b"x", ["for 40 records; got 31377"]),
        (0, lambda data: data[:10], ["expected an IDX file of bytes (records, 28, 28)"]),
        (0, lambda data: data[:3] + b"\x01" + data[4:], ["expected an IDX file"]),
        (0, lambda data: data[:11] + b"\x20" + data[12:], ["expected an IDX file"]),
        (1, lambda data: struct.pack(">II", 2049, 39) + data[8:-1], ["expected 40 labels from 0 to 9"]),
        (1, lambda data: data[:-1] + b"\x0a", ["expected 40 labels from 0 to 9"]),
        (1, lambda data: struct.pack(">I", 2051) + data[4:], ["expected an IDX file"]),
    ],
)
def test_damaged_idx_files_are_named(name, damage, words, tmp_path):
    source = write_fashion_mnist(tmp_path)
    path = tmp_path / IDX_FILES[name]
    path.write_bytes(damage(path.read_bytes()))
    refused(source, path.name, *words)


def test_a_truncated_gz_and_a_missing_file_are_named(tmp_path):
    source = write_fashion_mnist(tmp_path)
    path = tmp_path / IDX_FILES[2]
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    refused(source, "missing: ['t10k-images-idx3-ubyte']")
    (tmp_path / f"{path.name}.gz").write_bytes(packed[: len(packed) // 2])
    refused(source, "t10k-images-idx3-ubyte.gz", "end-of-stream")
    (tmp_path / f"{path.name}.gz").write_bytes(b"plain")
    refused(source, "t10k-images-idx3-ubyte.gz", "gzip")


def test_the_real_fashion_mnist():
    records = load_records(Source("fashion_mnist", shared("fashion_mnist")))
    assert records.class_counts.tolist() == [7000] * 10
    assert records.held_out.sum() == 10_000
    assert records.labels[:5].tolist() == [9, 0, 0, 3, 0]
    # Mean and deviation of the training pixels as every tutorial quotes them.
    train = records.features[:60_000]
    assert train.mean() / 255 == pytest.approx(0.2860, abs=1e-4)
    # The file holds pictures twice, within the parts and across them; none may be on two sides.
    splits = split(records, seed=0, members=1000)
    sets = [splits.members, splits.non_members, splits.validation, splits.reserve, splits.test]
    seen = [{row.tobytes() for row in part.features} for part in sets]
    assert [len(part) for part in sets] == [1000, 1000, 1000, 1000, 10_000]
    assert len(set().union(*seen)) == sum(map(len, seen))


# Location-30


def test_location_text_and_npz_agree_quoted_or_not(tmp_path):
    source = write_location30(tmp_path)
    records = load_records(source)
    bits = np.random.default_rng(0).integers(0, 2, size=(60, 446))
    assert np.array_equal(records.features, bits)
    assert records.labels.tolist() == [i % 30 for i in range(60)]
    assert (records.classes[0], records.classes[29]) == ("1", "30")
    path = tmp_path / "plain"
    path.write_text((tmp_path / "bangkok").read_text().replace('"', ""))
    for first in (0, 1):
        np.savez(tmp_path / f"from{first}.npz", features=bits.astype(np.uint8), labels=records.labels + first)
    for other in (path, tmp_path / "from0.npz", tmp_path / "from1.npz", tmp_path / "bangkok"):
        again = load_records(Source("location30", other))
        assert np.array_equal(again.features, records.features)
        assert np.array_equal(again.labels, records.labels)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"1","', '"1","7","', ["in row 1 of"]),
        ('"2","', '"2","x","', ["in row 2 of"]),
        ('"30","', '"31","', ["expected 30 classes", "31"]),
        ('"30","', '"0","', ["expected 30 classes"]),
        ('"3","', '"3";"', ["in row 3 of"]),
    ],
)
def test_a_foreign_location_row_is_named(old, new, words, tmp_path):
    source = write_location30(tmp_path)
    text = (tmp_path / "bangkok").read_text()
    start = text.startswith(old)
    (tmp_path / "bangkok").write_text(text.replace(old, new, 1) if start else text.replace(f"\n{old}", f"\n{new}", 1))
    refused(source, *words)


def test_location_npz_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    for features, labels, word in (
        (np.zeros((4, 445)), np.arange(4), "446 features"),
        (np.full((4, 446), 2), np.arange(4), "0 or 1"),
        (np.full((4, 446), "0"), np.arange(4), "0 or 1"),
        (np.zeros((4, 446)), np.arange(5), "446 features and a label"),
        (np.zeros((4, 446)), np.arange(4.0), "integer labels"),
        (np.zeros((4, 446)), np.arange(4) * 20, "30 classes"),
    ):
        np.savez(path, features=features, labels=labels)
        refused(Source("location30", path), word, "other.npz")


def test_the_real_location30():
    records = load_records(Source("location30", shared("location30")))
    assert records.features.shape == (5010, 446)
    assert (records.class_counts.min(), records.class_counts.max()) == (97, 308)
    splits = split(records, seed=0, members=1000)
    assert len(splits.members) == len(splits.non_members) == 1000
    assert splits.reserve.class_counts.min() >= 2


# npz


def test_npz_keeps_values_names_groups_and_official_part(tmp_path):
    source = write_npz(tmp_path)
    records = load_records(source)
    assert records.classes == ("ant", "cat", "dog")
    assert records.labels[:3].tolist() == [1, 2, 0]
    np.testing.assert_allclose(records.features, np.random.default_rng(0).normal(size=(30, 4)), rtol=1e-6)
    assert records.groups.tolist() == [i // 2 for i in range(30)]
    assert records.held_out.tolist() == [True] * 6 + [False] * 24


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        ([3, 10, 3, 7], ("3", "7", "10"), [0, 2, 0, 1]),
        ([True, False, True, True], ("0", "1"), [1, 0, 1, 1]),
        ([b"b", b"a", b"a", b"b"], ("a", "b"), [1, 0, 0, 1]),
    ],
)
def test_npz_labels_are_numbered_in_order(labels, classes, numbers, tmp_path):
    np.savez(tmp_path / "x.npz", features=np.eye(4), labels=np.array(labels))
    records = load_records(Source("npz", tmp_path / "x.npz"))
    assert records.classes == classes
    assert records.labels.tolist() == numbers


def test_npz_images_in_bytes_stay_bytes_and_tables_become_float(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(40, 3, 8, 6), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", features=np.asfortranarray(images), labels=np.arange(40) % 2)
    records = load_records(Source("npz", tmp_path / "x.npz"))
    assert records.features.dtype == np.uint8
    assert records.features.flags.c_contiguous
    assert np.array_equal(records.features, images)
    np.savez(tmp_path / "x.npz", features=images.reshape(40, -1), labels=np.arange(40) % 2)
    table = load_records(Source("npz", tmp_path / "x.npz")).features
    assert (table.dtype, table.max()) == (np.float32, images.max())


def test_npz_group_array_is_the_one_named(tmp_path):
    people = np.array(["ann", "bob", "cy", "ann"])
    np.savez(tmp_path / "x.npz", features=np.eye(4), labels=[0, 1, 0, 1], person=people, groups=np.arange(4))
    assert load_records(Source("npz", tmp_path / "x.npz", group_column="person")).groups.tolist() == [0, 1, 2, 0]
    assert load_records(Source("npz", tmp_path / "x.npz")).groups.tolist() == [0, 1, 2, 3]
    refused(Source("npz", tmp_path / "x.npz", group_column="patient"), "'patient'", "person")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": np.array([[None]] * 4, dtype=object)}, ["Object arrays cannot be loaded"]),
        ({"labels": np.array(["a", "b", "a", "b"], dtype=object)}, ["Object arrays cannot be loaded"]),
        ({"features": np.array([["a"]] * 4)}, ["expected numbers as features", "U1"]),
        ({"features": np.full((4, 2), 1j)}, ["expected numbers as features", "complex"]),
        ({"features": np.array([[0], [np.nan], [1], [2]])}, ["expected finite numbers as features"]),
        ({"features": np.array([[0], [1e300], [1], [2]])}, ["expected finite numbers as features"]),
        ({"features": np.array([[0], [-1e300], [1], [2]])}, ["expected finite numbers as features"]),
        ({"features": np.zeros((4, 2, 3, 4, 5))}, ["(4, 2, 3, 4, 5)", "(records, channels, height, width)"]),
        ({"features": np.zeros((4, 3, 3, 3), np.uint8)}, ["(4, 3, 3, 3)", "--layout"]),
        ({"features": np.zeros((3, 2))}, ["labels (3,)", "(4,)"]),
        ({"features": np.array(1.0)}, ["labels (1,)", "features ()"]),
        ({"labels": np.array(1)}, ["labels (4,)", "labels ()"]),
        ({"labels": np.array([0.25, 1.5, 0.5, 1.0])}, ["continuous target (4 distinct values)"]),
        ({"labels": np.array([[1, 1], [0, 1], [1, 0], [0, 0]])}, ["multi-label", "1 have several of 2 labels"]),
        ({"labels": np.ones(4, int)}, ["at least two classes", "'1'"]),
        ({"groups": np.zeros(3, int)}, ["groups (4,)"]),
        ({"held_out": np.zeros(4, int)}, ["held_out (4,) bool"]),
    ],
)
def test_npz_that_does_not_fit_is_refused(change, words, tmp_path):
    arrays = {"features": np.eye(4), "labels": np.array([0, 1, 0, 1])}
    np.savez(tmp_path / "x.npz", **(arrays | change))
    refused(Source("npz", tmp_path / "x.npz"), "x.npz", *words)


def test_npz_without_features_lists_what_it_holds(tmp_path):
    np.savez(tmp_path / "x.npz", pixels=np.eye(4), labels=[0, 1, 0, 1])
    refused(Source("npz", tmp_path / "x.npz"), "features to 'labels'", "'pixels' (4, 4), 'labels' (4,)")
    np.save(tmp_path / "x.npy", np.eye(4))
    refused(Source("npz", tmp_path / "x.npy"), "not a zip file")


def test_npz_runs_nothing(tmp_path):
    bomb = np.array([Bomb(tmp_path / "executed")] * 4, dtype=object)
    np.savez(tmp_path / "x.npz", features=bomb, labels=[0, 1, 0, 1])
    refused(Source("npz", tmp_path / "x.npz"), "allow_pickle=False")
    assert not (tmp_path / "executed").exists()


# CSV


def test_csv_reads_numbers_labels_and_groups(tmp_path):
    records = load_records(write_csv(tmp_path))
    assert records.features.shape == (30, 2)
    assert records.features[11].tolist() == [31.0, 1.375]
    assert records.classes == ("n", "y")
    assert records.labels[:4].tolist() == [1, 0, 1, 0]
    assert [len(set(records.groups[start : start + 3])) for start in range(0, 30, 3)] == [1] * 10
    assert len(set(records.groups)) == 10
    # Without a group column the person is a feature like any other, and a doubtful one.
    records = load_records(Source("csv", tmp_path / "any.csv"))
    assert records.columns[2].levels == tuple(f"p{person}" for person in range(10))
    assert any("'person' has 10 texts in 30 records" in note for note in records.notes)


def test_csv_of_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffclass,"a"\r\n"10"," 1e-3 "\r\n\r\n 9 ,"-2"\r\n10,+3\r\n'.encode())
    records = load_records(Source("csv", path, label_column="class"))
    np.testing.assert_allclose(records.features, [[1e-3], [-2], [3]], rtol=1e-6)
    assert records.classes == ("9", "10")
    assert records.labels.tolist() == [1, 0, 1]
    assert records.groups is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("red,2,x", ["column 'a'", "row 3 (line 4)", "'red'", "--drop-column a"]),
        ("1,-inf,x", ["column 'b'", "row 3", "'-inf'"]),
        ("1e39,2,x", ["column 'a'", "row 3", "'1e+39'"]),
        ("1e400,2,x", ["column 'a'", "'inf'"]),
        ("1,2,", ["column 'label'", "row 3", "missing"]),
        ("1,2", ["expected 3 values in row 3 (line 4)", "got 2"]),
        ("1,2,x,4", ["expected 3 values in row 3", "got 4"]),
        ('1,2,"x', ["x.csv", "unexpected end of data"]),
    ],
)
def test_a_bad_csv_value_is_named_with_column_row_and_value(line, words, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"a,b,label\n1,2,x\n3,4,y\n{line}\n5,6,x\n")
    refused(Source("csv", path), "x.csv", *words)


def test_large_numbers_that_cancel_are_read(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b,label\n3e38,3e38,x\n-3e38,3e38,y\n-3e38,-3e38,x\n")
    assert load_records(Source("csv", path)).features[1].tolist() == pytest.approx([-3e38, 3e38])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["expected one column 'label'", "[]"]),
        (b"a,label\n", ["expected records with columns beside the label", "0 records and 1 such"]),
        (b"label\nx\ny\n", ["expected records with columns beside the label", "2 records and 0 such"]),
        (b"a,klass\n1,x\n", ["expected one column 'label'", "['a', 'klass']"]),
        (b"label,label\n1,x\n", ["there are several"]),
        (b"a,label\n1,x\n2,x\n", ["at least two classes; all 2 are of class 'x'", "'label'"]),
        (b"a,label\n1,x\0\n", ["zero byte"]),
        (b"PK\x03\x04 and so on", ["a zip or a spreadsheet"]),
        (b"PAR1 and so on", ["--dataset parquet"]),
        (b"\xff\xfea", ["cannot read it", "utf-16"]),
        (b"a,label\n1,x\n1,y\n", ["expected a column to learn from", "one value: 'a'"]),
        (b"a,label\n" + b"1" * 200_000 + b",x\n", ["field larger than field limit"]),
    ],
)
def test_a_csv_of_another_kind_is_refused(content, words, tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    refused(Source("csv", path), "x.csv", *words)


# Memory


def test_cifar_is_never_held_as_float_before_it_is_split(tmp_path):
    source = write_cifar10(tmp_path)
    for name in CIFAR_FILES:
        path = tmp_path / f"{name}.bin"
        path.write_bytes(path.read_bytes() * 40)
    size = 6 * 12 * 40 * 3073
    tracemalloc.start()
    load_records(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * size


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            [f"{n / 3:.2f}" for n in range(60)],
            "got a continuous target (60 distinct values): Gecko NAS trains classifiers; cut it into classes",
        ),
        (["a;b", "a;b;c", "c"] * 20, "got multi-label data: 67% of the records hold several labels, such as 'a;b'"),
    ],
)
def test_a_column_that_is_no_class_is_named_with_what_to_do(cells, said, tmp_path):
    path = tmp_path / "houses.csv"
    path.write_text("\n".join(["rooms,price", *(f"{n % 7},{cell}" for n, cell in enumerate(cells))]))
    refused(Source("csv", path, "price"), said, "column 'price'", "houses.csv")


def test_one_hot_labels_of_an_npz_are_classes(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.eye(6), labels=np.eye(3)[[0, 1, 2, 0, 1, 2]])
    assert load_records(Source("npz", tmp_path / "x.npz")).labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("name", ["digits", "cifar10", "fashion_mnist", "location30", "uci_har"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("layout", "channels-last"),
        ("record_shape", (1, 8, 8)),
        ("image_size", (8, 8)),
        ("drop_columns", ("a",)),
        ("test_path", Path("test.csv")),
    ],
)
def test_a_published_data_set_refuses_options_that_it_has_no_use_for(tmp_path, name, option, value):
    with pytest.raises(ValueError, match=f"expected no --.* for the data set '{name}'"):
        load_records(replace(WRITERS[name](tmp_path), **{option: value}))


@pytest.mark.parametrize(("option", "value"), [("image_size", (8, 8)), ("layout", "channels-last")])
def test_a_table_refuses_options_of_images(tmp_path, option, value):
    with pytest.raises(ValueError, match=r"expected no --.* for the data set 'csv'"):
        load_records(replace(write_csv(tmp_path), **{option: value}))
