"""Whether a sampler that is told a dummy value for every rejected candidate finds a better front than one that is not.

Searches in the cells of NAS-Bench-201 whose error, size and latency others have computed or measured, so no network is
trained: the error on CIFAR-10's validation records after 12 epochs, the parameters, the latency on a Raspberry Pi 4.
Half of all cells exceed the limit of the latency. A cell that does, or that was seen before, is rejected and does not
count as trained. The objectives are the error and the latency, or the error and the parameters: a rejected cell may
look good in the objective that is known.

- *pruned*: what this program does. A rejected trial is pruned; its latency stands as a violated constraint.
- *dummy value*: the rejected trial is told as finished, with an error of 1 and its true cost, without a constraint.
- *random*: random search with the same rejections.

Hypervolume is that of the trained cells below an error of 1 and the largest cost of a cell within the limit, as a share
of what all cells within the limit reach together.

    python benchmarks/pruned_values.py             # 8 seeds: a minute and a half
    python benchmarks/pruned_values.py --short     # 2 seeds, 12 trained cells
"""

from __future__ import annotations

import csv
import gzip
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import Trial
from optuna.trial import TrialState
from report import write_results
from scipy.stats import wilcoxon
from shared_data import SHARED

from nas.search.samplers import random
from nas.search.samplers import tpe
from nas.training.schedule import seed_from
from search_spaces import nb201

TABLES = SHARED / "nb201"
PRUNED, DUMMY, RANDOM = "pruned", "dummy value", "random"
WAYS = (PRUNED, DUMMY, RANDOM)
SEEDS, TRAINED = 8, (15, 30)
WORST_ERROR = 1.0


@dataclass(frozen=True)
class Cell:
    """What is known of a cell: its error, and its costs by name."""

    error: float
    costs: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Task:
    """What is minimised beside the error, over which cells, with which limit of the latency in milliseconds."""

    cost: str
    table: Mapping[str, Cell]
    limit: float

    @property
    def reference(self) -> float:
        """The largest cost of a cell within the limit."""
        return max(cell.costs[self.cost] for cell in self.table.values() if self.allows(cell))

    def allows(self, cell: Cell) -> bool:
        """Tell whether a cell is within the limit."""
        return cell.costs["latency_ms"] <= self.limit


def main(*, short: bool = False) -> None:
    """Search in every way with every seed, and report."""
    if not TABLES.exists():
        sys.exit("skipped: no tables of NAS-Bench-201 beside the repository's parent folder")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    table = measured()
    limit = float(np.median([cell.costs["latency_ms"] for cell in table.values()]))
    seeds, counts = (2, (12,)) if short else (SEEDS, TRAINED)
    rows: list[dict[str, object]] = []
    for cost in ("latency_ms", "params"):
        rows += compared(Task(cost, table, limit), seeds, counts)
    write_results("pruned_values_short" if short else "pruned_values", rows, seeds=seeds, limit_ms=limit)


def compared(task: Task, seeds: int, counts: tuple[int, ...]) -> list[dict[str, object]]:
    """Search in every way: one row for each way and number of trained cells."""
    every = np.array([(cell.error, cell.costs[task.cost]) for cell in task.table.values() if task.allows(cell)])
    most = hypervolume(every, task.reference)
    found = {way: [search(task, way, seed, max(counts)) for seed in range(seeds)] for way in WAYS}
    rows = []
    for count in counts:
        shares = {
            way: np.array([hypervolume(trained[:count], task.reference) / most for trained, _ in found[way]])
            for way in WAYS
        }
        rejected = {way: float(np.median([number for _, number in found[way]])) for way in WAYS}
        rows += [row(task, way, count, shares, rejected[way]) for way in WAYS]
    return rows


def measured() -> dict[str, Cell]:
    """Read all cells by their text."""
    errors = {row["cell"]: 1 - float(row["cifar10_val"]) / 100 for row in rows_of("accuracy_12ep")}
    params = {row["arch"]: float(row["params_all_c10"]) for row in rows_of("macs_params")}
    return {
        row["cell"]: Cell(errors[row["cell"]], {"latency_ms": float(row["raspi4"]), "params": params[row["arch"]]})
        for row in rows_of("latency_ms")
    }


def rows_of(name: str) -> list[dict[str, str]]:
    """Read one table."""
    with gzip.open(TABLES / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def search(task: Task, way: str, seed: int, count: int) -> tuple[NDArray[np.float64], int]:
    """Search until so many cells are trained: their error and cost `(cells, 2)`, and how many were rejected."""
    sampler = random if way == RANDOM else tpe
    study = optuna.create_study(directions=["minimize", "minimize"])
    # All that a sampler reads of a search's plan.
    sampled = SimpleNamespace(distributions=dict.fromkeys(nb201.NAMES, CategoricalDistribution(nb201.OPERATORS)))
    trained: dict[str, tuple[float, float]] = {}
    rejected = 0
    while len(trained) < count:
        study.sampler = sampler.make_sampler(sampled, seed_from(seed, len(trained) + rejected))
        trial = study.ask()
        name = cell_of([trial.suggest_categorical(edge, nb201.OPERATORS) for edge in nb201.NAMES])
        cell = task.table[name]
        if way != DUMMY:
            trial.set_constraint("latency_ms", cell.costs["latency_ms"] / task.limit - 1)
        if task.allows(cell) and name not in trained:
            trained[name] = (cell.error, cell.costs[task.cost])
            study.tell(trial, list(trained[name]))
        else:
            rejected += 1
            tell_rejected(study, trial, way, cell.costs[task.cost])
    return np.array(list(trained.values())), rejected


def tell_rejected(study: optuna.Study, trial: Trial, way: str, cost: float) -> None:
    """Tell the study that a cell was not trained, with a dummy value or without."""
    if way == DUMMY:
        study.tell(trial, [WORST_ERROR, cost])
    else:
        study.tell(trial, state=TrialState.PRUNED)


def cell_of(operators: list[str]) -> str:
    """Write a cell as the tables do; the edges come node by node.

    >>> cell_of(["none"] * 6)
    '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'
    """
    named = [f"{operator}~{source}" for operator, (source, _) in zip(operators, nb201.EDGES, strict=True)]
    return f"|{named[0]}|+|{'|'.join(named[1:3])}|+|{'|'.join(named[3:])}|"


def hypervolume(points: NDArray[np.float64], most_cost: float) -> float:
    """Return the area that points `(points, 2)` of error and cost dominate below the worst error and the largest cost.

    >>> hypervolume(np.array([[0.5, 5.0], [0.75, 2.5]]), 10.0)
    3.125
    """
    area, best = 0.0, WORST_ERROR
    for error, cost in points[np.lexsort(points.T)]:
        area += max(best - error, 0.0) * max(most_cost - cost, 0.0)
        best = min(best, float(error))
    return float(area)


def row(
    task: Task, way: str, count: int, shares: Mapping[str, NDArray[np.float64]], rejected: float
) -> dict[str, object]:
    """Report one way: the share of the hypervolume, and how sure it is that it differs from what this program does."""
    ours, these = shares[PRUNED], shares[way]
    return {
        "objectives": f"error, {task.cost}",
        "way": way,
        "trained": count,
        "hypervolume": float(np.median(these)),
        "lowest": float(these.min()),
        "highest": float(these.max()),
        "difference": float(np.median(these - ours)),
        "p": None if np.array_equal(ours, these) else float(wilcoxon(these, ours).pvalue),
        "rejected": rejected,
    }


if __name__ == "__main__":
    main(short="--short" in sys.argv)
