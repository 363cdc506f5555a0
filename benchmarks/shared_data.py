"""Find and prepare the real data that benchmarks use and the repository does not carry."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from nas.base import files

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CIFAR10 = SHARED / "cifar10" / "cifar10_jpeg.npz"


def cifar10(records: int) -> Path:
    """Decode the first CIFAR-10 training images (kept as JPEG, in shuffled order) into an npz, once.

    Returns:
        An npz with `features` `(records, 3, 32, 32)` uint8 and `labels`. Exits with a reason where the data are absent.
    """
    if not CIFAR10.exists():
        sys.exit(f"skipped: no CIFAR-10 in {CIFAR10.parent.name}/ beside the repository's parent folder")
    path = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / f"cifar10-{records}.npz"
    if not path.exists():
        with np.load(CIFAR10, allow_pickle=False) as stored:
            data, offsets, labels = stored["train_jpeg"], stored["train_offset"], stored["train_label"]
        images = [_decode(data[offsets[row] : offsets[row + 1]].tobytes()) for row in range(records)]
        files.write_arrays(path, features=np.stack(images), labels=labels[:records].astype(np.int64))
    return path


def _decode(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).transpose(2, 0, 1)
