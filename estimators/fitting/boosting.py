"""Gradient boosting whose trees are plain data, so that a device file can hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor

from estimators.devices.trees import Tree

TREES = 100
DEPTH = 3
RATE = 0.1
LEAF = 5


def grow(features: NDArray[np.float64], targets: NDArray[np.float64], seed: int = 0) -> tuple[Tree, ...]:
    """Boost small trees (Friedman, 2001) whose sum approaches the targets.

    Args:
        features: `(rows, columns)`.
        targets: `(rows,)`.
        seed: Decides which rows and columns each tree sees.
    """
    boosted = GradientBoostingRegressor(
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        min_samples_leaf=LEAF,
        subsample=0.7,
        max_features=0.5,
        random_state=seed,
        init="zero",
    )
    boosted.fit(features, targets)
    return tuple(_plain(stage.tree_, 0) for stage in boosted.estimators_[:, 0])


def _plain(tree: Any, node: int) -> Tree:
    low, high = int(tree.children_left[node]), int(tree.children_right[node])
    if low < 0:
        return float(f"{RATE * tree.value[node].item():.4g}")
    # scikit-learn compares in single precision, where a count just above a threshold may be equal to it.
    threshold = float(f"{tree.threshold[node]:.8g}")
    return int(tree.feature[node]), threshold, _plain(tree, low), _plain(tree, high)
