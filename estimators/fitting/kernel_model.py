"""A cycle model whose kernels are corrected one by one, learned from the measured sums over networks.

Each kernel's cycles, linear in its counts, are multiplied by `exp` of trees of its own features, one set of trees for a
type as in nn-Meter (Zhang et al., 2021). nn-Meter times every kernel alone; here whole networks are enough, because all
trees are boosted together on the error of the sums: a stage grows one tree for each type, on the error of the networks
that its kernels stand in, weighted by their share of the time, and then solves for the values of all leaves at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.devices.kernel_features import FEATURES
from estimators.devices.kernel_features import features_of
from estimators.devices.trees import Tree
from estimators.fitting.cycle_model import fit_robustly
from estimators.fitting.cycle_model import folds_of
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.cycle_model import with_overhead
from estimators.fitting.least_squares import close_of
from estimators.fitting.least_squares import interval_of
from estimators.models.counts import COLUMNS
from estimators.models.counts import Floats
from estimators.models.counts import counts_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import VIEW_KINDS

# The constants of the boosting are chosen, not tuned. `benchmarks/latency_host.py` shows what comes of them.
STAGES, DEPTH, RATE = 100, 4, 0.2
LEAF = 5
"""Fewest kernels in a leaf: one mistaken measurement cannot fill it alone."""
ROWS, FEATURE_SHARE = 0.7, 0.6
"""Shares of networks and of features that a stage sees, so that its trees do not follow single networks."""
RIDGE = 0.1
"""Pulls the leaves' values to 0, because many leaves share one error per network and few networks determine them."""
STRENGTH = 1e-2
"""How strongly the linear part is pulled to rough proportions: one of the strengths that `cycle_model` tries."""
LEAST_CYCLES = 300.0
"""Added to the linear part of every kernel: trees multiply it, and could not correct a kernel that costs 0."""
LARGEST_ERROR, DOUBTFUL_ERROR, LARGEST_STEP = 1.0, 0.2, 0.3
"""In logarithms. Errors are cut at the first, and count less from the second on, because they may be noise. No stage
changes a leaf by more than the third. Chosen, not tuned: on that table 0.3 in place of the first gave 95.4, 0.1 or 10
in place of the second 95.5 or 95.0, and 0.1 in place of the third 95.4."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """The kernels of many networks, views left out, one below the other.

    Attributes:
        network: `(kernels,)`, the network of each.
        kind: `(kernels,)`, the type of each.
        features: `(kernels, features)`.
        counts: `(networks, columns)`, with the overhead's.
    """

    network: NDArray[np.int_]
    kind: NDArray[np.str_]
    features: NDArray[np.float32]
    counts: Floats


@dataclass(frozen=True, eq=False)
class KernelModel:
    """Cycles per unit of each column, the trees of each type, and the errors on networks left out.

    Attributes:
        coefficients: `(columns,)`, in the order of `cycle_model.ALL_COLUMNS`.
        trees: By type.
        ratios: `(networks,)`, measured over predicted, each predicted without its fold.
    """

    coefficients: Floats
    trees: dict[str, tuple[Tree, ...]]
    ratios: Floats

    @property
    def interval(self) -> float:
        """Relative half-width that holds 90 % of measurements."""
        return interval_of(self.ratios)

    @property
    def close(self) -> float:
        """Share of left-out networks predicted within 10 % of the measurement."""
        return close_of(self.ratios)

    def predict(self, architectures: Sequence[Architecture]) -> Floats:
        """Return `(networks,)` cycles of networks as they run (`estimators.devices.device.deployed`)."""
        kernels = kernels_of(architectures)
        return _sums(kernels, _linear(kernels, self.coefficients) * _factors(kernels, self.trees), self.coefficients)


def kernels_of(architectures: Sequence[Architecture]) -> Kernels:
    """Describe all kernels of networks as they run (`estimators.devices.device.deployed`)."""
    rows = [
        (number, kernel.kind, features)
        for number, network in enumerate(architectures)
        for kernel, features in zip(network.kernels, features_of(network), strict=True)
        if kernel.kind not in VIEW_KINDS
    ]
    network, kind, features = zip(*rows, strict=True)
    return Kernels(
        np.array(network),
        np.array(kind),
        # Trees are grown on single precision; the same numbers are compared later.
        np.array(features, dtype=np.float32),
        with_overhead(np.array([counts_of(network) for network in architectures])),
    )


def fit_kernel_model(
    architectures: Sequence[Architecture], cycles: Floats, groups: NDArray[np.int_], *, folds: int = 4
) -> KernelModel:
    """Fit coefficients and trees, and judge them on networks left out.

    Args:
        architectures: The networks as they run.
        cycles: `(networks,)`, measured.
        groups: `(networks,)`, equal for the same graph: left out together.
        folds: How many fits judge.

    Raises:
        ValueError: If a measurement is not above 0 or their number is another than that of the networks.
    """
    if len(architectures) != len(cycles) or not (np.isfinite(cycles).all() and (cycles > 0).all()):
        raise ValueError(f"expected {len(architectures)} measurements above 0; got {len(cycles)}")
    kernels = kernels_of(architectures)
    ratios = np.empty(len(cycles))
    for out in folds_of(groups, folds):
        coefficients, trees = _fit(_part(kernels, ~out), cycles[~out])
        left = _part(kernels, out)
        predicted = _sums(left, _linear(left, coefficients) * _factors(left, trees), coefficients)
        ratios[out] = cycles[out] / predicted
    coefficients, trees = _fit(kernels, cycles)
    return KernelModel(coefficients, trees, ratios)


def _fit(kernels: Kernels, cycles: Floats) -> tuple[Floats, dict[str, tuple[Tree, ...]]]:
    coefficients = _start(kernels, cycles)
    linear, overhead = _linear(kernels, coefficients), coefficients[-1]
    generator = np.random.default_rng(0)
    logs = np.zeros(len(linear))
    trees: dict[str, list[Tree]] = {}
    for _ in range(STAGES):
        priced = linear * np.exp(logs)
        predicted = _sums(kernels, priced, coefficients)
        errors = np.clip(np.log(cycles / predicted), -LARGEST_ERROR, LARGEST_ERROR)
        seen = generator.random(len(cycles)) < ROWS
        shares = priced / predicted[kernels.network]
        stage = _grown(kernels, errors, shares, seen, generator)
        values = _leaf_values(kernels, stage, errors, shares, overhead_shares=overhead / predicted, seen=seen)
        overhead *= np.exp(values[0])
        coefficients = np.array([*coefficients[:-1], overhead])
        for kind, tree, rows, leaves in stage:
            logs[rows] += values[leaves[tree.apply(kernels.features[rows])]]
            trees.setdefault(kind, []).append(_plain(tree.tree_, 0, values, leaves))
    return coefficients, {kind: tuple(grown) for kind, grown in trees.items()}


def _start(kernels: Kernels, cycles: Floats) -> Floats:
    coefficients = fit_robustly(kernels.counts, cycles, generic_relative(), STRENGTH)
    charged = [LEAST_CYCLES if table == "cycles_per_kernel" else 0.0 for table, _ in COLUMNS]
    # The overhead is corrected later, but only by a factor: leave something to the kernels of the smallest network.
    start: Floats = coefficients + np.array([*charged, min(0.0, 0.6 * cycles.min() - coefficients[-1])])
    return start


def _grown(
    kernels: Kernels, errors: Floats, shares: Floats, seen: NDArray[np.bool_], generator: np.random.Generator
) -> list[tuple[str, Any, NDArray[np.int_], NDArray[np.int_]]]:
    """Grow a tree for each type; return it with its kernels and the place of each node's value, 0 being none's."""
    from sklearn.tree import DecisionTreeRegressor  # noqa: PLC0415 - takes a second, and pricing does not need it

    stage = []
    next_place = 1
    for kind in np.unique(kernels.kind):
        rows = np.flatnonzero(kernels.kind == kind)
        used = rows[seen[kernels.network[rows]]]
        if len(used) < 2 * LEAF:
            continue
        state = int(generator.integers(2**31))
        tree = DecisionTreeRegressor(
            max_depth=DEPTH, min_samples_leaf=LEAF, max_features=FEATURE_SHARE, random_state=state
        )
        tree.fit(kernels.features[used], errors[kernels.network[used]], sample_weight=shares[used] + 1e-9)
        leaves = np.cumsum(tree.tree_.children_left < 0) - 1 + next_place
        next_place = int(leaves[-1]) + 1
        stage.append((str(kind), tree, rows, leaves))
    return stage


def _leaf_values(
    kernels: Kernels,
    stage: Sequence[tuple[str, Any, NDArray[np.int_], NDArray[np.int_]]],
    errors: Floats,
    shares: Floats,
    *,
    overhead_shares: Floats,
    seen: NDArray[np.bool_],
) -> Floats:
    """Solve for the values of all leaves together, the overhead's first, because they share one error per network."""
    places = 1 + max((int(leaves[-1]) for *_, leaves in stage), default=0)
    parts = np.zeros((len(errors), places))
    parts[:, 0] = overhead_shares
    for _, tree, rows, leaves in stage:
        np.add.at(parts, (kernels.network[rows], leaves[tree.apply(kernels.features[rows])]), shares[rows])
    weights = seen / (1 + (errors / DOUBTFUL_ERROR) ** 2)
    weighted = parts * weights[:, None]
    solved = np.linalg.solve(parts.T @ weighted + RIDGE * np.eye(places), weighted.T @ errors)
    # Rounded here, so that the file predicts what the fit saw.
    return np.array([float(f"{value:.3g}") for value in np.clip(RATE * solved, -LARGEST_STEP, LARGEST_STEP)])


def _plain(tree: Any, node: int, values: Floats, leaves: NDArray[np.int_]) -> Tree:
    low, high = int(tree.children_left[node]), int(tree.children_right[node])
    if low < 0:
        return float(values[leaves[node]])
    threshold = float(f"{tree.threshold[node]:.8g}")
    return (
        int(tree.feature[node]),
        threshold,
        _plain(tree, low, values, leaves),
        _plain(tree, high, values, leaves),
    )


def _part(kernels: Kernels, networks: NDArray[np.bool_]) -> Kernels:
    rows = networks[kernels.network]
    number = np.cumsum(networks) - 1
    return Kernels(number[kernels.network[rows]], kernels.kind[rows], kernels.features[rows], kernels.counts[networks])


def _linear(kernels: Kernels, coefficients: Floats) -> Floats:
    """Return `(kernels,)` cycles by counts alone."""
    by_column = dict(zip(COLUMNS, coefficients, strict=False))
    units = {"cycles_per_mac": "macs", "cycles_per_element": "elements"}
    cycles = np.zeros(len(kernels.kind))
    for (table, kind), value in by_column.items():
        rows = kernels.kind == kind
        cycles[rows] += value * (kernels.features[rows, FEATURES.index(units[table])] if table in units else 1.0)
    return cycles


def _factors(kernels: Kernels, trees: dict[str, tuple[Tree, ...]]) -> Floats:
    factors = np.ones(len(kernels.kind))
    for kind, grown in trees.items():
        rows = kernels.kind == kind
        factors[rows] = np.exp(sum(_values(tree, kernels.features[rows]) for tree in grown))
    return factors


def _values(tree: Tree, features: NDArray[np.float32]) -> Floats:
    """Return `(rows,)`, what a tree says of each row."""
    if not isinstance(tree, tuple):
        return np.full(len(features), tree)
    column, threshold, low, high = tree
    left = features[:, column] <= threshold
    values = np.empty(len(features))
    values[left], values[~left] = _values(low, features[left]), _values(high, features[~left])
    return values


def _sums(kernels: Kernels, cycles: Floats, coefficients: Floats) -> Floats:
    sums: Floats = coefficients[-1] + np.bincount(kernels.network, cycles, minlength=len(kernels.counts))
    return sums
