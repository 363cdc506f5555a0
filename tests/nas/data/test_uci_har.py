"""UCI HAR as it is published, rebuilt small, and its real windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.data.uci_har import SIGNALS
from nas.records import Records
from nas.records import Source
from nas.records import load_records
from nas.records import split
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import conv
from tests.images_and_signals import HAR_CLASSES
from tests.images_and_signals import write_uci_har
from tests.real_data import write_har


def load(folder, **given):
    return load_records(Source("uci_har", folder, **given))


def refused(folder, *words, **given):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load(folder, **given)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("below", ["UCI HAR Dataset", ""])
def test_nine_signals_with_people_names_and_the_official_test_part(below, tmp_path):
    signals = write_uci_har(tmp_path, below=below)
    records = load(tmp_path)
    assert records.features.shape == (60, 9, 1, 128)
    np.testing.assert_allclose(records.features[:30, :, 0], signals["train"], atol=1e-5)
    np.testing.assert_allclose(records.features[30:, :, 0], signals["test"], atol=1e-5)
    assert records.classes == HAR_CLASSES
    assert records.labels[:4].tolist() == [0, 1, 2, 0]
    assert records.groups[[0, 2, 3, 29, 30]].tolist() == [1, 1, 2, 10, 101]
    assert np.flatnonzero(records.held_out).tolist() == list(range(30, 60))
    assert (records.names[29], records.rows[29], records.names[30], records.rows[30]) == ("train", 30, "test", 1)
    assert np.array_equal(records.arrangement.apply(records.features[:, :, 0]), records.features)
    sets = split(records, seed=0)
    people = [set(part.groups) for part in (sets.members, sets.non_members, sets.validation, sets.reserve, sets.test)]
    assert sum(map(len, people)) == len(set.union(*people))
    assert people[-1] == set(range(101, 111))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train/y_train.txt", lambda text: text[2:], ["subject_train.txt", "29 whole numbers"]),
        ("train/y_train.txt", lambda text: "4" + text[1:], ["labels from 1 to 3", "1 to 4"]),
        ("train/y_train.txt", lambda text: "0" + text[1:], ["labels from 1 to 3", "0 to 3"]),
        ("train/y_train.txt", lambda text: "1.5" + text[1:], ["whole numbers", "y_train.txt"]),
        ("train/y_train.txt", lambda text: "", ["1 numbers divided by spaces", "y_train.txt", "got none"]),
        ("train/y_train.txt", lambda text: " \n", ["1 numbers divided by spaces", "y_train.txt", "got none"]),
        ("test/subject_test.txt", lambda text: "x" + text[1:], ["numbers divided by spaces", "subject_test.txt"]),
        ("test/Inertial Signals/body_gyro_y_test.txt", lambda text: text.split("\n", 1)[1], ["30 rows", "got 29"]),
        ("test/Inertial Signals/body_gyro_y_test.txt", lambda text: "nan" + text[15:], ["body_gyro_y_test.txt", "NaN"]),
        (
            "test/Inertial Signals/body_gyro_y_test.txt",
            lambda text: text.replace("\n", " 1\n"),
            ["128 numbers", "got 129"],
        ),
        ("activity_labels.txt", lambda text: "WALKING 1\n", ["a number from 1 and a name", "activity_labels.txt"]),
        ("activity_labels.txt", lambda text: text + "3 SITTING\n", ["a number from 1 and a name"]),
        ("activity_labels.txt", lambda text: "", ["a number from 1", "activity_labels.txt"]),
    ],
)
def test_files_that_do_not_fit_are_named(name, change, words, tmp_path):
    write_uci_har(tmp_path)
    path = tmp_path / "UCI HAR Dataset" / name
    path.write_text(change(path.read_text()))
    refused(tmp_path, *words)


def test_missing_files_are_named_and_other_settings_refused(tmp_path):
    write_uci_har(tmp_path)
    (tmp_path / "UCI HAR Dataset" / "test" / "Inertial Signals" / f"{SIGNALS[4]}_test.txt").unlink()
    refused(tmp_path, "missing: ['test/Inertial Signals/body_gyro_y_test.txt']")
    refused(tmp_path, "no --layout for the data set 'uci_har'", layout="channels-last")


def test_real_windows_are_learnt_without_dividing_neighbours(shared_data, tmp_path):
    # Windows overlap by half and stand as they were recorded: blocks of them stay together.
    write_har(shared_data, tmp_path / "har.npz")
    with np.load(tmp_path / "har.npz") as arrays:
        windows = arrays["x"]
    records = load_records(Source("npz", tmp_path / "har.npz", group_column="block"))
    assert isinstance(records, Records)
    assert (records.input_shape, records.num_classes) == ((9, 1, 128), 6)
    assert np.array_equal(records.features[:, :, 0], windows)
    sets = split(records, seed=0)
    blocks = [set(part.groups) for part in (sets.members, sets.non_members, sets.validation, sets.reserve, sets.test)]
    assert sum(map(len, blocks)) == len(set.union(*blocks))
    space = conv.make_space(records.input_shape, records.num_classes)
    members, labels = torch.from_numpy(sets.members.features), torch.from_numpy(sets.members.labels)
    recipe = Recipe(epochs=4, batch_size=32, learning_rate=0.01)
    network = train(plain_setup(space.decode(space.reference), members, labels, recipe, 0))
    wrong = logits_of(network, torch.from_numpy(sets.validation.features)).argmax(axis=1) != sets.validation.labels
    assert wrong.mean() < 0.6  # whoever always says the same is wrong in .8
