"""Gradient boosting whose trees are plain data, so that a device file can hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor

from estimators.devices.trees import Tree

# Chosen, not tuned: scikit-learn's defaults for the first three, and leaves that one mistaken row cannot fill alone.
TREES, DEPTH, RATE, LEAF = 100, 3, 0.1, 5
SUBSAMPLE, FEATURE_SHARE = 0.7, 0.5
"""Shares of rows and columns that each tree sees, so that no tree follows single rows; chosen, not tuned."""


def grow(features: NDArray[np.float64], targets: NDArray[np.float64], seed: int = 0) -> tuple[Tree, ...]:
    """Boost small trees (Friedman, 2001) whose sum approximates the targets.

    Args:
        features: `(rows, columns)`.
        targets: `(rows,)`.
        seed: Seed of the choice of rows and columns that each tree sees.
    """
    boosted = GradientBoostingRegressor(
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        min_samples_leaf=LEAF,
        subsample=SUBSAMPLE,
        max_features=FEATURE_SHARE,
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
