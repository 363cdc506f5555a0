"""CIFAR-10, 60,000 colour images of 32 x 32, 10 classes; a folder with its binary or its Python batches."""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Literal
from typing import TypeAlias
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nas.base.reading import existing
from nas.base.reading import find_files
from nas.base.reading import read_bytes
from nas.base.reading import unreadable
from nas.data.shared.layouts import refuse_options
from nas.records import Records
from nas.records import Source

Order: TypeAlias = Literal["C", "F"]

NEEDS_PATH = True
FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
FOLDERS = (".", "cifar-10-batches-bin", "cifar-10-batches-py")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
KEYS = ("data", "labels", "batch_label", "filenames")
TEXT = (
    "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
)  # fmt: skip
INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")


def load(source: Source) -> Records:
    """Load CIFAR-10: features `(60000, 3, 32, 32)` uint8; the test batch is held out.

    The six batches lie in the folder itself, in `cifar-10-batches-bin` or in torchvision's `cifar-10-batches-py`. The
    Python batches are pickles; they are read as a list of opcodes, nothing in them is executed.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).

    Raises:
        ValueError: If the folder or a batch is missing, or a batch is damaged.
    """
    refuse_options(source, "test_path", "drop_columns", "layout", "record_shape", "image_size")
    root = existing(source.path, "the folder of CIFAR-10")
    files = find_files(root, FOLDERS, FILES, "the six batches of CIFAR-10", (".bin", ""))
    batches = [_read_binary(path) if path.suffix == ".bin" else _read_python(path) for path in files]
    return Records(
        features=np.concatenate([images for images, _ in batches]),
        labels=np.concatenate([labels for _, labels in batches]),
        classes=CLASSES,
        held_out=np.repeat([False, True], [sum(len(labels) for _, labels in batches[:-1]), len(batches[-1][1])]),
    )


def _read_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = np.frombuffer(read_bytes(path, "a binary batch of CIFAR-10"), dtype=np.uint8)
    if data.size == 0 or data.size % (1 + PIXELS):
        raise ValueError(f"expected records of {1 + PIXELS} bytes in {path}; got {data.size} bytes: a truncated file?")
    table = data.reshape(-1, 1 + PIXELS)
    return table[:, 1:].reshape(-1, *SHAPE), _checked(table[:, 0].astype(np.int64), path)


def _read_python(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    stream = read_bytes(path, "a Python batch of CIFAR-10")
    try:
        pixels, order, labels = _walk(stream)
        numbers = np.array(labels, dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise unreadable(path, "a Python batch of CIFAR-10", error) from None
    if not labels or len(pixels) != len(labels) * PIXELS:
        raise ValueError(
            f"expected 'data' with {PIXELS} bytes for each of 'labels' in {path}; "
            f"got {len(pixels)} bytes and {len(labels)} labels"
        )
    table = np.frombuffer(pixels, dtype=np.uint8).reshape((-1, PIXELS), order=order)
    return np.ascontiguousarray(table).reshape(-1, *SHAPE), _checked(numbers, path)


def _walk(stream: bytes) -> tuple[bytes, Order, list[int]]:
    """Pick pixels, their memory order and the labels out of the opcodes of a pickled batch.

    Python 2 wrote bytes as strings, Python 3 writes them as bytes, or in protocol 2 as Latin-1 text. The pixels are the
    longest of them after the key `data`. Up to protocol 4 NumPy writes "in Fortran order" as a boolean just before the
    bytes, in protocol 5 as a letter after them.
    """
    key, typed, pixels, labels = "", False, "", list[int]()
    order: Order = "C"
    said: Order = "C"
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in TEXT:
            text = argument if isinstance(argument, str) else bytes(argument or b"").decode("latin-1")
            key = text if text in KEYS else key
            if key == "data":
                typed = typed or text == "u1"
                order = "F" if text == "F" else order
                pixels, order = (text, said) if len(text) > len(pixels) else (pixels, order)
        elif opcode.name in ("NEWTRUE", "NEWFALSE"):
            said = "F" if opcode.name == "NEWTRUE" else "C"
        elif key == "labels" and opcode.name in INTEGERS:
            labels.append(cast("int", argument))
    if not typed:
        raise ValueError("there is no 'data' of type u1 in it")
    return pixels.encode("latin-1"), order, labels


def _checked(labels: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(
            f"expected labels from 0 to {len(CLASSES) - 1} in {path}; got {labels.min()} to {labels.max()}"
        )
    return labels
