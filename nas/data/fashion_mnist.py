"""Fashion-MNIST, 70,000 grey images of 28 x 28, 10 classes; a folder with its IDX files, packed (.gz) or not."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.base.reading import existing
from nas.base.reading import find_files
from nas.base.reading import read_bytes
from nas.data.shared.layouts import refuse_options
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FOLDERS = (".", "FashionMNIST/raw")
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def load(source: Source) -> Records:
    """Load Fashion-MNIST: features `(70000, 1, 28, 28)` uint8; the last 10,000 are held out.

    The four files lie in the folder itself or in torchvision's `FashionMNIST/raw`.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms" (2017).

    Raises:
        ValueError: If the folder or a file is missing, or a file is no IDX file of the right kind and length.
    """
    refuse_options(source, "test_path", "drop_columns", "layout", "record_shape", "image_size")
    root = existing(source.path, "the folder of Fashion-MNIST")
    files = find_files(root, FOLDERS, FILES, "the four files of Fashion-MNIST", ("", ".gz"))
    train_images, train_labels, test_images, test_labels = files
    images = [_read_idx(path, (28, 28)) for path in (train_images, test_images)]
    labels = [_read_idx(path, ()) for path in (train_labels, test_labels)]
    for pixels, classes, path in zip(images, labels, (train_labels, test_labels), strict=True):
        if len(pixels) != len(classes) or not (classes < len(CLASSES)).all():
            raise ValueError(f"expected {len(pixels)} labels from 0 to {len(CLASSES) - 1} in {path}; got others")
    return Records(
        features=np.concatenate(images)[:, np.newaxis],
        labels=np.concatenate(labels).astype(np.int64),
        classes=CLASSES,
        held_out=np.repeat([False, True], [len(pixels) for pixels in images]),
    )


def _read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an IDX file of bytes: `(records, *shape)`."""
    data = read_bytes(path, "an IDX file")
    start = 8 + 4 * len(shape)
    # Two zeros, type 8 (unsigned bytes), the number of axes; then the length of each axis.
    head = np.frombuffer(data[:start], dtype=">u4") if len(data) >= start else np.zeros(2, dtype=">u4")
    count = int(head[1])
    if head.tolist() != [0x801 + len(shape), count, *shape]:
        raise ValueError(
            f"expected an IDX file of bytes (records, {', '.join(map(str, shape))}) at {path}; got another"
        )
    if len(data) != start + count * prod(shape):
        raise ValueError(
            f"expected {start + count * prod(shape)} bytes in {path}, for {count} records; got {len(data)}"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(count, *shape)
