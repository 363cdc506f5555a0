"""New records are read as those that a network was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nas.deploy import predicting
from nas.deploy.predicting import Predictions
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import NewRecords
from nas.records import Source

LAST = Arrangement((4, 6, 3), (2, 0, 1), (3, 4, 6))


def behind(arrangement=LAST, classes=("cat", "dog"), *, pixels=True):
    ends = np.full(arrangement.input_shape[0], 0.4, np.float32), np.full(arrangement.input_shape[0], 0.2, np.float32)
    return Preprocessing(arrangement, *ends, pixels, (), classes)


def test_a_folder_of_images_without_classes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.full((8, 12), 100, np.uint8)).save(tmp_path / "b.png")  # grey, and of another size
    found = predicting.read_records(Source("images", tmp_path), behind())
    assert (found.places, found.labels) == (("a.png", "b.png"), None)
    np.testing.assert_array_equal(behind().as_given(found.features)[0], pixels)
    np.testing.assert_array_equal(found.features[1], 100)
    (tmp_path / "dog").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / name).rename(tmp_path / "dog" / name)
    assert predicting.read_records(Source("images", tmp_path), behind()).labels == ("dog", "dog")
    assert predicting.read_records(Source("images", tmp_path), behind(classes=("a", "b"))).labels is None
    with pytest.raises(ValueError, match="as the network was trained on"):
        predicting.read_records(Source("images", tmp_path), behind(pixels=False))


@pytest.mark.parametrize("name", ["features", "x_test", "test_images"])
def test_arrays_are_read_in_the_order_they_were_trained_in(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3))
    path = tmp_path / "a.npz"
    np.savez(path, **{name: pixels})
    found = predicting.read_records(Source("npz", path), behind())
    np.testing.assert_array_equal(found.features, pixels.transpose(0, 3, 1, 2))
    assert (found.features.dtype, found.labels) == (np.uint8, None)
    np.savez(path, **{name: pixels.reshape(5, -1)})
    np.testing.assert_array_equal(predicting.read_records(Source("npz", path), behind()).features, found.features)
    for values in (pixels + 1000, pixels / 7, pixels.transpose(0, 3, 1, 2)):
        np.savez(path, **{name: values})
        with pytest.raises(ValueError, match="as the network was trained on"):
            predicting.read_records(Source("npz", path), behind())


def test_errors_are_counted_for_each_class():
    records = NewRecords(np.zeros((4, 3)), ("1", "2", "3", "4"), ("a", "a", "b", "new"))
    found = Predictions(records, ("a", "b"), np.array([0, 1, 1, 1]), np.full(4, 0.9))
    assert found.wrong.tolist() == [False, True, False, True]
    assert found.error.value == 0.5
    assert {name: (count, error.value) for name, (count, error) in found.errors_by_class.items()} == {
        "a": (2, 0.5), "b": (1, 0.0), "new": (1, 1.0)
    }  # fmt: skip
    assert found.rows()[3] == {"record": "4", "class": "b", "probability": 0.9, "label": "new"}


def test_answers_for_other_classes_are_refused():
    records = NewRecords(np.zeros((2, 3, 4, 6), np.uint8), ("1", "2"))
    with pytest.raises(ValueError, match=r"expected answers \(2, 2\), for the classes .+; got \(2, 5\)"):
        predicting.predict(records, behind(), lambda raw: np.zeros((len(raw), 5), np.float32))
