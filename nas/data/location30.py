"""Location-30: check-ins of 5,010 people in Bangkok, 446 binary features, 30 classes; the file `bangkok` or an .npz."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.base.reading import as_float32
from nas.base.reading import contents
from nas.base.reading import existing
from nas.base.reading import read_bytes
from nas.base.reading import read_npz
from nas.data.shared.layouts import refuse_options
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True
FEATURES = 446
CLASSES = 30
ROW = re.compile(rb"\d{1,2}(?:,[01]){%d}" % FEATURES)
NAMES = ("bangkok", "location30.npz")


def load(source: Source) -> Records:
    """Load Location-30 from the published text file, an .npz, or a folder that holds `bangkok` or `location30.npz`.

    A row of the text file is a label, 1 to 30, and 446 values 0 or 1, all of them quoted or not. An .npz has `features`
    and `labels`, counted from 0 or 1.

    Source: Shokri et al., "Membership Inference Attacks against Machine Learning Models" (2017), data published as
    privacytrustlab/datasets.

    Raises:
        ValueError: If the path is missing, or the file holds anything else.
    """
    refuse_options(source, "test_path", "drop_columns", "layout", "record_shape", "image_size")
    path = _file(existing(source.path, f"Location-30, one of {list(NAMES)} or a folder with it"))
    features, labels = _from_npz(path) if path.suffix == ".npz" else _from_text(path)
    if features.ndim != 2 or features.shape[1] != FEATURES or labels.shape != features.shape[:1] or not labels.size:
        raise ValueError(f"expected {FEATURES} features and a label in each row of {path}; got {features.shape}")
    if features.dtype.kind not in "biuf" or not np.isin(features, (0, 1)).all():
        raise ValueError(f"expected features 0 or 1 in {path}; got others")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise ValueError(f"expected {CLASSES} classes in {path}; got labels up to {labels.max() + 1}, from 1")
    names = tuple(str(number) for number in range(1, CLASSES + 1))
    return Records(as_float32(features, "features"), labels.astype(np.int64), names)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = [path / name for name in NAMES if (path / name).is_file()]
    if not found:
        raise ValueError(f"expected one of {list(NAMES)} in {path}; {contents(path)}")
    return found[0]


def _from_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    arrays = read_npz(path, ["features", "labels"])
    labels = arrays["labels"]
    if labels.dtype.kind not in "iu" or not labels.size:
        raise ValueError(f"expected integer labels in {path}; got {labels.dtype} {labels.shape}")
    return arrays["features"], labels.astype(np.int64) - (labels.min() > 0)


def _from_text(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = read_bytes(path, "Location-30").replace(b'"', b"").split()
    for number, row in enumerate(rows, start=1):
        if not ROW.fullmatch(row):
            got = row.decode("latin-1")[:40]
            raise ValueError(f"expected a label and {FEATURES} values 0 or 1 in row {number} of {path}; got {got!r}")
    labels = np.array([row.partition(b",")[0] for row in rows], dtype=np.int64)
    # What follows the label is one digit and one comma after the other.
    bits = np.frombuffer(b"".join(row.partition(b",")[2] + b"," for row in rows), dtype=np.uint8)
    return bits[::2].reshape(-1, FEATURES) - ord("0"), labels - 1
