"""Any .npz with `features` and `labels`, and if need be `groups` and `held_out`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.base.labels import classes_of
from nas.base.reading import as_classes
from nas.base.reading import as_float32
from nas.base.reading import existing
from nas.base.reading import read_npz
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True


def load(source: Source) -> Records:
    """Load an .npz, never unpickling.

    - `features`: `(records, features)` or `(records, channels, height, width)`, numbers. Images in uint8 stand for 0 to
      1.
    - `labels`: `(records,)`, integers or strings, or one-hot; the classes are those that occur (`nas.base.labels`).
    - `groups`, or the array that `source.group_column` names: `(records,)`, integers or strings.
    - `held_out`: `(records,)` bool, the official test part.

    Raises:
        ValueError: If the file is missing, no .npz, holds Python objects, or its arrays do not fit together.
    """
    path = existing(source.path, "an .npz file")
    group_name = source.group_column or "groups"
    required = ["features", "labels", *([group_name] if source.group_column else [])]
    arrays = read_npz(path, required, [name for name in (group_name, "held_out") if name not in required])
    try:
        labels, classes = classes_of(arrays["labels"], "labels")
        groups = arrays.get(group_name)
        return Records(
            features=_features(arrays["features"]),
            labels=labels,
            classes=classes,
            groups=None if groups is None else as_classes(groups, group_name)[0],
            held_out=arrays.get("held_out"),
        )
    except ValueError as error:
        raise ValueError(f"{error} (in {path})") from None


def _features(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 4 and values.shape[3] in (1, 3, 4) and values.shape[1] == values.shape[2] > 4:
        raise ValueError(
            f"expected images (records, channels, height, width); got {values.shape}, which looks like channels last: "
            "transpose(0, 3, 1, 2)"
        )
    if values.ndim == 4 and values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    return as_float32(values, "features")
