"""From a folder of images and from windows of sensors to a network that is picked, exported and audited."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.images_and_signals import pixels
from tests.images_and_signals import write_image_folder

SMALL = (
    "--members",
    "60",
    "--references",
    "2",
    "--trials",
    "2",
    "--epochs",
    "3",
    "--workers",
    "1",
    "--name",
    "own",
    "--no-error-ceiling",
)


@pytest.mark.usefixtures("in_process")
def test_a_folder_of_images_is_searched_with_one_command(nas, tmp_path):
    write_image_folder(tmp_path / "data", counts=(120, 120), side=(9, 12))
    result = nas(
        "search", "--dataset", "images", "--data-path", tmp_path / "data", *SMALL, "--runs", tmp_path, "--json"
    )
    assert result.code == 0, result.err
    front = json.loads(result.out)["front"]
    assert front
    picked = nas("pick", "own", "--runs", tmp_path, "--json")
    assert picked.code == 0, picked.err


@pytest.mark.usefixtures("in_process")
def test_windows_of_sensors_are_searched_picked_exported_and_audited(nas, tmp_path):
    labels = np.arange(240) % 2
    times = np.arange(40) * np.reshape(1 + labels, (-1, 1, 1)) / 3
    windows = np.sin(times + np.random.default_rng(0).normal(size=(240, 3, 1)))
    np.savez(tmp_path / "windows.npz", x=windows, y=labels)
    given = ("--dataset", "npz", "--data-path", tmp_path / "windows.npz", "--defences", "none")
    result = nas("search", *given, *SMALL, "--runs", tmp_path, "--json")
    assert result.code == 0, result.err
    number = json.loads(result.out)["front"][0]["number"]
    picked = nas("pick", "own", "--runs", tmp_path, "--json")
    assert picked.code == 0, picked.err
    (pick,) = (tmp_path / "own" / "picks").iterdir()
    architecture = json.loads((pick / "architecture.json").read_text())
    assert architecture["input_shape"] == [3, 1, 40]
    exported = nas("export", pick, "--precision", "float32", "--runs", tmp_path)
    assert exported.code == 0, exported.err
    audit = ("audit", "own", "--pick", number, "--attack", "label_augment", "--effort", "quick", "--workers", 1)
    audited = nas(*audit, "--runs", tmp_path)
    assert audited.code == 0, audited.err


def test_a_signal_is_neither_mirrored_nor_cropped(refused, tmp_path):
    np.savez(tmp_path / "windows.npz", x=np.random.default_rng(0).normal(size=(100, 3, 40)), y=np.arange(100) % 2)
    (tmp_path / "search.toml").write_text("[recipe]\naugment = 'flip-crop'\n")
    given = ("--dataset", "npz", "--data-path", tmp_path / "windows.npz")
    line = refused("search", tmp_path / "search.toml", *given)
    assert line == "expected images for augment='flip-crop'; npz has shape (3, 1, 40)"


def test_axes_that_cannot_be_told_are_asked_for_before_anything_is_trained(refused, tmp_path):
    np.savez(tmp_path / "x.npz", x=pixels(np.arange(100) % 2, 4, 32, 4), y=np.arange(100) % 2)
    line = refused("search", "--dataset", "npz", "--data-path", tmp_path / "x.npz")
    assert "expected --layout channels-first or channels-last for x (100, 4, 32, 4)" in line
