"""Fit a device's cycle model to a table of measured networks, robust against rows that are wrong.

Phones and small computers are noisy: on a Raspberry Pi 4 one network in ten is measured more than 31 % away from what
the others predict, while three in four are within 10 % (estimators/devices/raspi4.toml). What counts here is therefore
how many networks are predicted within 10 %, the measure of nn-Meter (Zhang et al., 2021), not how badly the others are
missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from estimators.devices.device import Device
from estimators.devices.trees import Tree
from estimators.devices.trees import sum_of
from estimators.fitting.boosting import grow
from estimators.fitting.least_squares import CLOSE
from estimators.fitting.least_squares import close_of
from estimators.fitting.least_squares import interval_of
from estimators.fitting.least_squares import solve
from estimators.models.counts import COLUMNS
from estimators.models.counts import Floats

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""How strongly coefficients are pulled to a relative's proportions; cross-validation chooses among them."""
FOLDS = 10
ROUNDS = 12
"""Rounds of reweighting; chosen, not tuned."""
NO_WEIGHT = 1e-4
FEW_NETWORKS = 100
"""With this many different networks, trees are tried and the choice of a relative no longer matters."""
PAYS = 0.015
"""Trees are kept if they bring at least this share more of the left-out rows within 10 %."""
LEAST_GAIN = 1e-3
"""Two ways to predict that differ by less in `far` are a tie, however sure the difference is; chosen, not tuned."""
ALL_COLUMNS = (*COLUMNS, ("overhead", ""))
Place: TypeAlias = tuple[int, int]
LeftOut: TypeAlias = dict[Place, dict[tuple[str, float], Floats]]

# Rough cycles of a processor without vectors; only their ratios matter, and only where few networks were measured.
GENERIC: Mapping[str, Mapping[str, float]] = {
    "cycles_per_mac": {"conv": 1.0, "pointwise": 1.5, "depthwise": 4.0, "linear": 1.5},
    "cycles_per_element": {
        "pool": 10.0,
        "add": 4.0,
        "scale": 4.0,
        "norm": 2.0,
        "activation": 2.0,
        "concat": 2.0,
        "zero": 2.0,
    },
}
GENERIC_PER_ELEMENT, GENERIC_PER_KERNEL, GENERIC_OVERHEAD = 4.0, 1e4, 2e6


@dataclass(frozen=True, eq=False)
class CycleModel:
    """Cycles per unit of each column, a learned correction if it helps, and the errors on networks left out.

    Attributes:
        coefficients: `(columns,)`, in the order of `ALL_COLUMNS`.
        trees: Logarithm of the factor that corrects a prediction, as a sum of trees over all columns but the overhead;
            empty where it does not pay.
        ratios: `(rows,)`, measured over predicted, each row predicted without its group.
        relative: The known device whose proportions fill in for what the rows do not tell.
        strength: How strongly they do.
        counting: Place of the counts that it multiplies among those that were offered.
        rivals: By this place, the ratios of the best model of each of the counts offered, without trees.
    """

    coefficients: Floats
    trees: tuple[Tree, ...]
    ratios: Floats
    relative: str
    strength: float
    counting: Place
    rivals: Mapping[Place, Floats]

    @property
    def interval(self) -> float:
        """Relative half-width that holds 90 % of measurements."""
        return interval_of(self.ratios)

    @property
    def close(self) -> float:
        """Share of left-out rows predicted within 10 % of the measurement."""
        return close_of(self.ratios)

    def predict(self, counts: Floats) -> Floats:
        """Return `(rows,)` cycles for counts `(rows, columns)`."""
        return counts @ self.coefficients * _factors(self.trees, counts)


def with_overhead(counts: Floats) -> Floats:
    """Append the column of ones that the overhead is multiplied by."""
    return np.column_stack([counts, np.ones(len(counts))])


def generic_relative() -> Floats:
    """Return `(columns,)` rough cycles of a processor without measurements."""
    per_kind = [GENERIC.get(table, {}).get(kind, GENERIC_PER_ELEMENT) for table, kind in COLUMNS]
    kernels = [table == "cycles_per_kernel" for table, _ in COLUMNS]
    return np.array([*np.where(kernels, GENERIC_PER_KERNEL, per_kind), GENERIC_OVERHEAD])


def relative_of(device: Device) -> Floats:
    """Return `(columns,)` cycles of a known device; a tenth of the rough ones, to its scale, where it has fewer."""
    latency, generic = device.latency, generic_relative()
    tables: Mapping[str, Mapping[str, float]] = {
        "cycles_per_mac": latency.cycles_per_mac,
        "cycles_per_element": latency.cycles_per_element,
        "cycles_per_kernel": latency.cycles_per_kernel,
    }
    own = np.array(
        [*(tables[table].get(kind, 0.0) for table, kind in COLUMNS), latency.overhead_ms * device.clock_mhz * 1e3]
    )
    scale = latency.cycles_per_mac.get("conv", 0.0) / GENERIC["cycles_per_mac"]["conv"]
    known: Floats = np.maximum(own, 0.1 * scale * generic)
    return known


def fit_cycle_model(
    offered: Sequence[Sequence[Floats]], cycles: Floats, groups: NDArray[np.int_], relatives: Mapping[str, Floats]
) -> CycleModel:
    """Fit the model that predicts most networks closely, judged on groups of networks left out together.

    The coefficients are non-negative and pulled to the proportions of a relative. Which counts describe what runs,
    which relative, how strongly, and whether trees correct the sum is decided by cross-validation. Each row is judged
    by what the rows outside its fold choose (after Varma and Simon, 2006, without fitting anew), so that the choice
    flatters the errors less.

    Args:
        offered: `(rows, columns)` with the overhead's, for each opinion of what the engine runs. Of opinions that are
            equally likely before measuring, the one that predicts best is taken. Each is a sequence: its first counts
            are the likeliest, and others are taken only if they predict better by more than chance (`is_better`).
        cycles: `(rows,)`, measured.
        groups: `(rows,)`, equal for rows of the same graph: a network measured twice never predicts itself.
        relatives: `(columns,)` cycles of known devices, by name; the first is used alone where rows are many.

    Raises:
        ValueError: If there are fewer than two groups, or a measurement is not above 0.
    """
    networks = len(np.unique(groups))
    if networks < 2 or not (np.isfinite(cycles).all() and (cycles > 0).all()):
        raise ValueError("expected measurements above 0 of at least two different networks")
    tried = dict(list(relatives.items())[:1]) if networks >= FEW_NETWORKS else relatives
    left_out = _left_out(offered, cycles, groups, tried)
    place, name, strength = _chosen(left_out)
    counts = offered[place[0]][place[1]]
    model = CycleModel(
        coefficients=fit_robustly(counts, cycles, tried[name], strength),
        trees=(),
        ratios=_judged(left_out, groups),
        relative=name,
        strength=strength,
        counting=place,
        rivals={place: min(ratios.values(), key=far) for place, ratios in left_out.items()},
    )
    if networks < FEW_NETWORKS:
        return model
    corrected = _corrected(counts, cycles, groups, model, relatives)
    return corrected if corrected.close >= close_of(left_out[place][name, strength]) + PAYS else model


def _left_out(
    offered: Sequence[Sequence[Floats]], cycles: Floats, groups: NDArray[np.int_], relatives: Mapping[str, Floats]
) -> LeftOut:
    """Return the ratios of each row without its fold, by place of the counts, relative and strength."""
    found: LeftOut = {}
    for one, likely in enumerate(offered):
        for other, counts in enumerate(likely):
            found[one, other] = {
                (name, strength): _without_fold(counts, cycles, groups, relative, strength)
                for name, relative in relatives.items()
                for strength in STRENGTHS
            }
    return found


def _without_fold(
    counts: Floats, cycles: Floats, groups: NDArray[np.int_], relative: Floats, strength: float
) -> Floats:
    ratios = np.empty(len(cycles))
    for out in folds_of(groups):
        coefficients = fit_robustly(counts[~out], cycles[~out], relative, strength)
        ratios[out] = cycles[out] / _at_least(counts[out] @ coefficients)
    return ratios


def _chosen(left_out: LeftOut) -> tuple[Place, str, float]:
    """Return the place of the counts that predict best, with the best relative and strength for them."""
    best = {place: min(ratios.items(), key=lambda item: far(item[1])) for place, ratios in left_out.items()}
    likely: dict[int, Place] = {}
    for place, (_, ratios) in best.items():
        known = likely.setdefault(place[0], place)
        if is_better(ratios, best[known][1]):
            likely[place[0]] = place
    chosen = min(likely.values(), key=lambda place: (round(far(best[place][1]) / LEAST_GAIN), place[0]))
    return chosen, *best[chosen][0]


def _judged(left_out: LeftOut, groups: NDArray[np.int_]) -> Floats:
    """Return `(rows,)` ratios, each by what the rows outside its fold choose."""
    ratios = np.empty(len(groups))
    for out in folds_of(groups):
        others = {place: {one: found[~out] for one, found in of.items()} for place, of in left_out.items()}
        place, name, strength = _chosen(others)
        ratios[out] = left_out[place][name, strength][out]
    return ratios


def is_better(ratios: Floats, than: Floats) -> bool:
    """Tell whether one way to predict networks left out beats another one, the likelier, by more than chance.

    The mean difference of `far` over the rows must exceed its standard error and `LEAST_GAIN`. A tie leaves the
    likelier one.

    Args:
        ratios: `(rows,)`, measured over predicted.
        than: The same rows, predicted the likelier way.
    """
    gains = _farness(than) - _farness(ratios)
    return bool(gains.mean() > max(LEAST_GAIN, gains.std(ddof=1) / np.sqrt(len(gains))))


def far(ratios: Floats) -> float:
    """Return the share of predictions that are not within 10 %, those near the limit in part (0 best, 1 worst)."""
    return float(np.mean(_farness(ratios)))


def _farness(ratios: Floats) -> Floats:
    squares = np.log(ratios) ** 2
    farness: Floats = squares / (squares + CLOSE**2)
    return farness


def folds_of(groups: NDArray[np.int_], folds: int = FOLDS) -> Iterator[NDArray[np.bool_]]:
    """Deal groups to at most so many folds, and yield `(rows,)` which rows each leaves out."""
    different, index = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(0).permutation(len(different)) % folds
    for fold in np.unique(dealt):
        yield dealt[index] == fold


def fit_robustly(counts: Floats, cycles: Floats, relative: Floats, strength: float) -> Floats:
    """Fit by weights that fall with the error (Geman and McClure, 1987): far rows do not move the fit.

    It starts from the relative, scaled to the median row, and narrows what counts as far.
    """
    coefficients: Floats = relative * float(np.exp(np.median(np.log(cycles / (counts @ relative)))))
    for _ in range(ROUNDS):
        errors = np.log(_at_least(counts @ coefficients) / cycles)
        close = max(CLOSE, float(np.median(np.abs(errors))))
        weights = 1 / (1 + (errors / close) ** 2) ** 2
        # A row that took a hundredth of the prediction has a huge relative error however small its weight.
        weights[weights < NO_WEIGHT] = 0
        coefficients = solve(counts, cycles, relative, strength, weights)
    return coefficients


def _corrected(
    counts: Floats, cycles: Floats, groups: NDArray[np.int_], model: CycleModel, relatives: Mapping[str, Floats]
) -> CycleModel:
    relative = relatives[model.relative]
    ratios = np.empty(len(cycles))
    for out in folds_of(groups):
        coefficients = fit_robustly(counts[~out], cycles[~out], relative, model.strength)
        trees = _trees(counts[~out], cycles[~out], coefficients)
        ratios[out] = cycles[out] / (_at_least(counts[out] @ coefficients) * _factors(trees, counts[out]))
    return replace(model, trees=_trees(counts, cycles, model.coefficients), ratios=ratios)


def _trees(counts: Floats, cycles: Floats, coefficients: Floats) -> tuple[Tree, ...]:
    errors = np.log(cycles / _at_least(counts @ coefficients))
    # What is off by more than a third is no pattern that trees should learn.
    return grow(counts[:, :-1], np.clip(errors, -0.3, 0.3))


def _factors(trees: tuple[Tree, ...], counts: Floats) -> Floats:
    return np.exp([sum_of(trees, row) for row in counts.tolist()])


def _at_least(cycles: Floats) -> Floats:
    """Keep a prediction above 0: a type that only the network left out has may have been found to cost nothing."""
    return np.maximum(cycles, 1.0)
