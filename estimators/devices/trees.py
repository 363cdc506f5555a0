"""Regression trees as plain data: a number, or `[column, threshold, tree if at most, tree if above]`.

A device file can hold them without a pickle, and anyone can read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import numpy as np

Tree: TypeAlias = "float | tuple[int, float, Tree, Tree]"


def value_of(tree: Tree, features: Sequence[float]) -> float:
    """Follow a tree to its number.

    >>> value_of((0, 2.5, -0.1, (1, 10.0, 0.2, 0.3)), [4.0, 12.0])
    0.3
    """
    while isinstance(tree, tuple):
        column, threshold, low, high = tree
        tree = low if features[column] <= threshold else high
    return tree


def read_tree(data: Any) -> Tree:
    """Check a tree that comes from a file.

    Raises:
        ValueError: If a part of it is neither a number nor a split.
    """
    if isinstance(data, int | float) and not isinstance(data, bool) and np.isfinite(data):
        return float(data)
    if isinstance(data, list | tuple) and len(data) == 4 and isinstance(data[0], int) and data[0] >= 0:
        return data[0], float(data[1]), read_tree(data[2]), read_tree(data[3])
    raise ValueError(f"expected a number or [column, threshold, tree, tree]; got {data!r}")


def as_lists(tree: Tree) -> Any:
    """Return a tree as `read_tree` takes it from a file.

    >>> as_lists((0, 2.5, -0.1, (1, 10.0, 0.2, 0.3)))
    [0, 2.5, -0.1, [1, 10.0, 0.2, 0.3]]
    """
    return [*tree[:2], as_lists(tree[2]), as_lists(tree[3])] if isinstance(tree, tuple) else tree
