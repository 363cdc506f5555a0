"""An .npz under the usual names: whole, in parts, and in two files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from nas.records import Source
from nas.records import load_records
from nas.records import split
from tests.images_and_signals import pixels
from tests.images_and_signals import write_keras
from tests.images_and_signals import write_medmnist


def load(path, **given):
    return load_records(Source("npz", path, **given))


def refused(path, *words, **given):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load(path, **given)
    assert all(word in str(caught.value) for word in words), caught.value


def written(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        ("features", "labels"), ("x", "y"), ("X", "y"), ("X", "Y"), ("data", "target"), ("images", "labels"),
        ("x_train", "y_train"), ("train_images", "train_labels"), ("train_x", "train_y"), ("X_train", "label_train"),
    ],
)  # fmt: skip
def test_usual_names_are_understood(features, labels, tmp_path):
    path = written(tmp_path / "x.npz", **{features: np.eye(4), labels: [3, 5, 3, 5]})
    records = load(path)
    assert (records.classes, records.labels.tolist()) == (("3", "5"), [0, 1, 0, 1])
    assert (records.rows.tolist(), records.names) == ([1, 2, 3, 4], None)
    assert np.array_equal(records.features, np.eye(4))


def test_the_file_of_keras(tmp_path):
    arrays = write_keras(tmp_path / "mnist.npz")
    records = load(tmp_path / "mnist.npz")
    assert (records.features.shape, records.features.dtype) == ((80, 1, 28, 28), np.uint8)
    assert np.array_equal(records.features[:60, 0], arrays["x_train"])
    assert np.array_equal(records.features[60:, 0], arrays["x_test"])
    assert records.labels.tolist() == [*arrays["y_train"], *arrays["y_test"]]
    assert np.flatnonzero(records.held_out).tolist() == list(range(60, 80))
    assert (records.names[59], records.rows[59], records.names[60], records.rows[60]) == ("x_train", 60, "x_test", 1)
    assert records.notes == (
        "x_train, x_test (80, 28, 28) are read as images of 28 x 28, grey, without an axis for the channel",
    )
    sets = split(records, seed=0)
    assert sorted(sets.test.rows.tolist()) == list(range(1, 21))
    assert set(sets.test.names) == {"x_test"}
    # What a network of this search is given: the images as the user has them.
    again = sets.preprocessing.standardised(sets.preprocessing.arrangement.apply(arrays["x_test"]))
    np.testing.assert_allclose(sets.test.features, again[sets.test.rows - 1], rtol=1e-5)


@pytest.mark.parametrize("colour", [False, True])
def test_the_files_of_medmnist(colour, tmp_path):
    arrays = write_medmnist(tmp_path / "med.npz", colour=colour)
    records = load(tmp_path / "med.npz")
    channels = 3 if colour else 1
    assert records.features.shape == (96, channels, 28, 28)
    val = arrays["val_images"].reshape(12, 28, 28, channels)
    assert np.array_equal(records.features[60:72].transpose(0, 2, 3, 1), val)
    assert records.labels[60:72].tolist() == arrays["val_labels"][:, 0].tolist()
    assert np.flatnonzero(records.held_out).tolist() == list(range(72, 96))
    assert records.names[[0, 60, 72]].tolist() == ["train_images", "val_images", "test_images"]
    assert records.notes[-1] == "the validation part joins the training part; a search divides them anew"
    assert len(split(records, seed=0).test) == 24


def test_validation_alone_beside_training_holds_nothing_out(tmp_path):
    path = written(tmp_path / "x.npz", x_train=np.eye(4), y_train=[0, 1, 0, 1], x_val=np.eye(4)[:2], y_val=[0, 1])
    records = load(path)
    assert (len(records), records.held_out) == (6, None)


def test_a_test_part_in_a_file_of_its_own(tmp_path):
    path = written(tmp_path / "x.npz", x=np.eye(4), y=[0, 1, 0, 1])
    for name, features, labels in (("a.npz", "x", "y"), ("b.npz", "x_test", "y_test"), ("c.npz", "data", "target")):
        test = written(tmp_path / name, **{features: 2 * np.eye(4)[:2], labels: [0, 1]})
        records = load(path, test_path=test)
        assert np.flatnonzero(records.held_out).tolist() == [4, 5]
        assert records.names.tolist() == ["x"] * 4 + [f"{name}:{features}"] * 2
        assert records.rows.tolist() == [1, 2, 3, 4, 1, 2]
        assert records.features[5].tolist() == [0, 2, 0, 0]
    write_keras(tmp_path / "both.npz")
    refused(tmp_path / "both.npz", "expected no test part in", "beside --test-path", test_path=path)
    held = written(tmp_path / "held.npz", x=np.eye(4), y=[0, 1, 0, 1], held_out=np.arange(4) < 2)
    refused(held, "expected no test part in", test_path=path)
    refused(path, "expected one part in", test_path=held)
    refused(path, "there is no such path", test_path=tmp_path / "absent.npz")
    # Of a file of several parts the test part counts.
    whole = written(tmp_path / "w.npz", x=pixels([0, 1], 28, 28), y=[0, 1])
    assert load(whole, test_path=tmp_path / "both.npz").held_out.sum() == 20


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_test": np.eye(4), "y_test": [0, 1, 0, 1]}, ["expected records to train on", "x_test (4, 4)"]),
        (
            {"x_test": np.eye(4), "y_test": [0, 1, 0, 1], "y_train": [0, 1], "body_train": np.eye(2)},
            ["expected an array of features to 'y_train'", "'body_train' (2, 2)", "x/y, data/target"],
        ),
        ({"x_train": np.eye(4), "x_test": np.eye(4)}, ["expected an array of labels to 'x_train'"]),
        ({"x": np.eye(4), "X": np.eye(4), "y": [0, 1, 0, 1]}, ["one array of features; 'x' and 'X' could both be it"]),
        ({"x": np.eye(4), "y": [0, 1, 0, 1], "labels": [0, 1, 0, 1]}, ["one array of labels", "'y' and 'labels'"]),
        ({"x": np.eye(4), "x_train": np.eye(4), "y": [0, 1, 0, 1]}, ["one array of features", "'x_train'"]),
        ({"a": np.eye(4), "b": [0, 1, 0, 1]}, ["expected arrays of features", "it holds 'a' (4, 4), 'b' (4,)"]),
        ({}, ["it holds nothing"]),
        (
            {"x_train": np.eye(4), "y_train": [0, 1, 0, 1], "x_test": np.eye(3), "y_test": [0, 1, 0]},
            ["one shape and type in all parts", "x_train (4, 4) float64", "x_test (3, 3) float64"],
        ),
        (
            {"x_train": pixels([0, 1], 9, 9), "y_train": [0, 1], "x_test": pixels([0], 9, 9) / 255, "y_test": [0]},
            ["one shape and type in all parts", "uint8", "float64"],
        ),
        (
            {"x_train": np.eye(2), "y_train": [0, 1], "x_test": np.eye(2), "y_test": ["a", "b"]},
            ["labels of one kind in all parts"],
        ),
        ({"x_train": np.eye(2), "y_train": [0, 1, 0]}, ["labels (2,)", "x_train (2, 2)", "labels (3,)"]),
        (
            {"x_train": np.eye(2), "y_train": [0, 1], "x_test": np.eye(2), "y_test": [0, 1], "groups_train": [0, 1]},
            ["expected groups in all parts or none; x_test has none"],
        ),
        (
            {"x_train": np.eye(2), "y_train": [0, 1], "x_test": np.eye(2), "y_test": [0, 1], "held_out": [True, False]},
            ["'held_out' or a test part, not both"],
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_there_is(arrays, words, tmp_path):
    refused(written(tmp_path / "x.npz", **arrays), "x.npz", *words)


def test_people_of_all_parts_are_groups(tmp_path):
    path = written(
        tmp_path / "x.npz",
        x_train=np.eye(4), y_train=[0, 1, 0, 1], subject_train=[7, 7, 8, 8],
        x_test=np.eye(4)[:2], y_test=[0, 1], subject_test=[8, 9],
    )  # fmt: skip
    records = load(path, group_column="subject")
    assert records.groups.tolist() == [0, 0, 1, 1, 1, 2]
    assert load(path).groups is None
    assert load(path).notes == ("not read in x.npz: 'subject_train', 'subject_test'",)
    refused(path, "expected an array of 'patient' to 'x_train'", group_column="patient")


def test_a_label_array_of_any_name(tmp_path):
    path = written(tmp_path / "x.npz", x=np.eye(4), coarse=[0, 1, 0, 1], y=[5, 6, 7, 8])
    assert load(path, label_column="coarse").classes == ("0", "1")
    assert load(path).classes == ("5", "6", "7", "8")


def test_settings_reach_the_array_and_others_are_refused(tmp_path):
    path = written(tmp_path / "x.npz", x=np.zeros((4, 3, 3, 3)) + np.eye(4)[:, :3, None, None], y=[0, 1, 0, 1])
    assert load(path, layout="channels-last").features[0, :, 0, 0].tolist() == [1, 1, 1]
    assert load(path, layout="channels-first").features[0, :, 0, 0].tolist() == [1, 0, 0]
    refused(path, "--layout channels-first or channels-last", "x.npz")
    refused(path, "no --image-size", image_size=(3, 3))
    refused(path, "no --drop-column", drop_columns=("a",))


def test_an_array_of_a_hostile_name_or_header_is_listed_and_no_more(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a\x1b[31m.npy", b"no array")
        archive.writestr("b.npy", b"\x93NUMPY\x01\x00\x05\x00{'a':")
    refused(tmp_path / "x.npz", r"'a\x1b[31m', 'b'")
