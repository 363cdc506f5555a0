"""Regression trees as plain data: a number, or `[column, threshold, tree if at most, tree if above]`.

A device file can hold them without a pickle, and anyone can read them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

Tree: TypeAlias = "float | tuple[int, float, Tree, Tree]"
MOST_EXPONENT = 100.0
"""Largest sum of trees: `exp` of it is 10^43, far beyond any correction, and a float holds it."""


def sum_of(trees: Iterable[Tree], features: Sequence[float]) -> float:
    """Follow each tree to its number and add these up.

    >>> sum_of([(0, 2.5, -0.1, (1, 10.0, 0.2, 0.3)), 1.0], [4.0, 12.0])
    1.3
    """
    # Written for speed: a kernel that was not met before is looked at by a hundred trees.
    numbers: list[float] = []
    for tree in trees:
        node = tree
        while isinstance(node, tuple):
            node = node[2] if features[node[0]] <= node[1] else node[3]
        numbers.append(node)
    return sum(numbers)


def read_tree(data: Any) -> Tree:
    """Check a tree that comes from a file.

    Raises:
        ValueError: If a part of it is neither a number that `exp` takes nor a split.
    """
    if _is_number(data) and abs(data) <= MOST_EXPONENT:
        return float(data)
    is_split = isinstance(data, list | tuple) and len(data) == 4 and type(data[0]) is int and data[0] >= 0
    if is_split and _is_number(data[1]):
        return data[0], float(data[1]), read_tree(data[2]), read_tree(data[3])
    span = f"-{MOST_EXPONENT:g} to {MOST_EXPONENT:g}"
    raise ValueError(f"expected a number from {span} or [column, threshold, tree, tree]; got {data!r}")


def check_trees(trees: Iterable[Tree], columns: int) -> None:
    """Refuse trees that look at a column there is none of, or whose sum no `exp` takes.

    Args:
        trees: Those that are added up.
        columns: How many columns there are.

    Raises:
        ValueError: If one looks beyond, or they add up to more than `MOST_EXPONENT`.
    """
    ends = [_ends(tree) for tree in trees]
    if (last := max((column for column, _ in ends), default=-1)) >= columns:
        raise ValueError(f"expected columns from 0 to {columns - 1} in the trees; got {last}")
    if (most := sum(size for _, size in ends)) > MOST_EXPONENT:
        raise ValueError(f"expected trees that add up to at most {MOST_EXPONENT:g}; got {most:g}")


def _ends(tree: Tree) -> tuple[int, float]:
    """Return the last column that a tree looks at, -1 for none, and its largest number's size."""
    if not isinstance(tree, tuple):
        return -1, abs(tree)
    low, high = _ends(tree[2]), _ends(tree[3])
    return max(tree[0], low[0], high[0]), max(low[1], high[1])


def _is_number(value: Any) -> bool:
    """Tell a finite number, one that a float holds, from all else."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def as_lists(tree: Tree) -> Any:
    """Return a tree as `read_tree` takes it from a file.

    >>> as_lists((0, 2.5, -0.1, (1, 10.0, 0.2, 0.3)))
    [0, 2.5, -0.1, [1, 10.0, 0.2, 0.3]]
    """
    return [*tree[:2], as_lists(tree[2]), as_lists(tree[3])] if isinstance(tree, tuple) else tree
