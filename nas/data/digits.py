"""Handwritten digits, 1,797 grey images of 8 x 8; ships with scikit-learn, needs no file."""

from __future__ import annotations

import numpy as np

from nas.data.shared.layouts import refuse_options
from nas.records import Records
from nas.records import Source

NEEDS_PATH = False


def load(source: Source) -> Records:
    """Load the digits: features `(1797, 1, 8, 8)`, 0 to 1.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI (1998), its test part.
    """
    refuse_options(source, "test_path", "drop_columns", "layout", "record_shape", "image_size")
    from sklearn.datasets import load_digits  # noqa: PLC0415 (1.4 s that no other data set should wait for)

    digits = load_digits()
    return Records(
        features=np.ascontiguousarray(digits.images[:, np.newaxis] / 16, dtype=np.float32),
        labels=digits.target.astype(np.int64),
        classes=tuple(str(name) for name in digits.target_names),
    )
