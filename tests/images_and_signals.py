"""Well-known layouts of images and signals, rebuilt small, with something to learn in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nas.data.uci_har import SIGNALS

HAR_CLASSES = ("WALKING", "WALKING_UPSTAIRS", "SITTING")


def pixels(labels, *shape, seed=0):
    """Noise in uint8, brighter by class: `(records, *shape)`."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 100, size=(len(labels), *shape))
    return (noise + 50 * np.reshape(labels, (-1,) + (1,) * len(shape))).astype(np.uint8)


def write_keras(path, train=60, test=20, classes=3, side=28):
    """`mnist.npz` of Keras: grey images without an axis for the channel."""
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        labels = (np.arange(count) % classes).astype(np.uint8)
        arrays |= {f"x_{part}": pixels(labels, side, side, seed=count), f"y_{part}": labels}
    np.savez(path, **arrays)
    return arrays


def write_medmnist(path, colour=True, counts=(60, 12, 24), classes=3, side=28):
    """A file of MedMNIST: three parts, channels last, labels `(records, 1)`."""
    arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        labels = (np.arange(count) % classes).astype(np.uint8)
        shape = (side, side, 3) if colour else (side, side)
        arrays |= {f"{part}_images": pixels(labels, *shape, seed=count), f"{part}_labels": labels[:, np.newaxis]}
    np.savez(path, **arrays)
    return arrays


def write_image_folder(folder, counts=(12, 12), parts=("",), side=(10, 8), mode="RGB", suffix=".png"):
    """A folder per class, `cat` and `dog` and so on, in each part's folder; returns the pixels by name."""
    written = {}
    names = ("cat", "dog", "emu")[: len(counts)]
    for number, part in enumerate(parts):
        for label, (name, count) in enumerate(zip(names, counts, strict=True)):
            here = Path(folder) / part / name
            here.mkdir(parents=True, exist_ok=True)
            shape = side if mode == "L" else (*side, len(mode))
            for index, image in enumerate(pixels([label] * count, *shape, seed=100 * number + label)):
                path = here / f"{index:03}{suffix}"
                Image.fromarray(image).save(path)
                written[path.relative_to(folder).as_posix()] = image
    return written


def write_uci_har(folder, windows=30, below="UCI HAR Dataset"):
    """The published folder, with few windows of few people; returns the signals of both parts."""
    root = Path(folder) / below
    found = {}
    for number, part in enumerate(("train", "test")):
        generator = np.random.default_rng(number)
        labels = np.arange(windows) % len(HAR_CLASSES) + 1
        people = np.arange(windows) // 3 + 1 + 100 * number
        signals = generator.normal(size=(windows, 9, 128)) + labels[:, np.newaxis, np.newaxis]
        (root / part / "Inertial Signals").mkdir(parents=True)
        for place, name in enumerate(SIGNALS):
            rows = "\n".join(" " + "  ".join(f"{value: .7e}" for value in row) for row in signals[:, place])
            (root / part / "Inertial Signals" / f"{name}_{part}.txt").write_text(rows + "\n")
        (root / part / f"y_{part}.txt").write_text("".join(f"{label}\n" for label in labels))
        (root / part / f"subject_{part}.txt").write_text("".join(f"{person}\n" for person in people))
        found[part] = signals
    (root / "activity_labels.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(HAR_CLASSES, start=1)))
    return found
