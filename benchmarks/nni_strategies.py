"""NNI's own strategies on a space of ours: regularised evolution, TPE and random.

The first is that of Real et al. (2019), the second that of Bergstra et al. (2011). Each is NNI 3.0's code and looks
for the lowest of one number, since NNI knows no several objectives: here the mean of error and latency, both scaled to
the range of the table. The front is that of all networks it looked at. On the 15,625 cells of NAS-Bench-201: 12-epoch
CIFAR-100 errors and Raspberry Pi 4 latencies, shares of the true hypervolume at growing numbers of networks, medians
over the seeds.

    python benchmarks/nni_strategies.py            # a minute: 10 seeds of 400 networks
    python benchmarks/nni_strategies.py --short    # 2 seeds of 50 networks

Three of NNI's own traits decide how they are run:

- `nni/nas/strategy/hpo.py` sleeps for a second after each network. So TPE is NNI's tuner, asked and told as there.
- That strategy minimises unless it is told otherwise, the others maximise: they are told the negative number.
- Its regularised evolution starts with 100 random networks. A population of 20 stands beside it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TypeAlias

import numpy as np
from nb201_table import NB201
from nb201_table import write_table
from numpy.typing import NDArray
from pruned_values import cell_of
from pruned_values import hypervolume
from report import write_results

from nas.nni.check import check
from nas.nni.importing import imported
from nas.nni.space_json import point_in
from nas.nni.space_json import to_nni
from search_spaces.graph.architecture import Params
from search_spaces.nb201 import NAMES
from search_spaces.nb201 import make_space
from search_spaces.space import Distributions

Evaluate: TypeAlias = Callable[[Params], float | None]
"""From a point to the number that is minimised; None where it has none, as of a network that is not allowed."""
BUDGETS = (25, 50, 100, 200, 400)


@dataclass(frozen=True)
class Tried:
    """A point that a strategy looked at, and what it was told of it."""

    params: Params
    value: float | None


def regularised_evolution(
    distributions: Distributions,
    evaluate: Evaluate,
    budget: int,
    seed: int,
    *,
    population: int = 100,
    tournament: int = 25,
) -> list[Tried]:
    """Search by NNI's `RegularizedEvolution`; its defaults are NNI's.

    Args:
        distributions: What is searched.
        evaluate: What is minimised.
        budget: How many points it may look at. It looks at fewer where it finds no new one in 500 tries.
        seed: Seed of the strategy.
        population: Points that stay; as many random ones come first.
        tournament: Points of these, the best of which is changed.

    Returns:
        The points in order.
    """
    made = _nni("nni.nas.strategy").RegularizedEvolution
    strategy = made(population_size=population, sample_size=min(tournament, population), seed=seed)
    return _explore(strategy, distributions, evaluate, budget)


def random_search(distributions: Distributions, evaluate: Evaluate, budget: int, seed: int) -> list[Tried]:
    """Search by NNI's `Random`, which tries no point twice. For the arguments see `regularised_evolution`."""
    return _explore(_nni("nni.nas.strategy").Random(seed=seed), distributions, evaluate, budget)


def tpe(distributions: Distributions, evaluate: Evaluate, budget: int, seed: int) -> list[Tried]:
    """Search by NNI's `TpeTuner`, which its TPE strategy wraps. For the arguments see `regularised_evolution`."""
    tuner = _nni("nni.algorithms.hpo.tpe_tuner").TpeTuner("minimize", seed)
    tuner.update_search_space(to_nni(distributions))
    tried = []
    for number in range(budget):
        drawn = tuner.generate_parameters(number)
        params = point_in(distributions, drawn)
        value = evaluate(params)
        tried.append(Tried(params, value))
        if value is not None:
            tuner.receive_trial_result(number, drawn, value)
        tuner.trial_end(number, value is not None)
    return tried


STRATEGIES: dict[str, Callable[[Distributions, Evaluate, int, int], list[Tried]]] = {
    "regularised evolution": regularised_evolution,
    "regularised evolution, population 20": lambda *a: regularised_evolution(*a, population=20, tournament=5),
    "tpe": tpe,
    "random": random_search,
}


def _explore(strategy: Any, distributions: Distributions, evaluate: Evaluate, budget: int) -> list[Tried]:
    """Let a strategy of NNI's look at points on NNI's sequential engine."""
    nni, spaces = _nni("nni"), _nni("nni.nas.space")
    nni.silence_stdout()
    tried: list[Tried] = []

    def look(point: Any) -> None:
        value = evaluate(point.params)
        tried.append(Tried(dict(point.params), value))
        if value is not None:
            nni.report_final_result(-value)  # NNI's strategies maximise

    evaluator = _nni("nni.nas.evaluator").FunctionalEvaluator(look)
    space = spaces.RawFormatModelSpace(_nni("nas.nni.mutables").PointSpace(distributions), evaluator)
    strategy(space, _nni("nni.nas.execution").SequentialExecutionEngine(max_model_count=budget))
    return tried


def _nni(module: str) -> Any:
    """Import a module of NNI's, or one that needs it.

    Raises:
        ValueError: If NNI cannot run here.
    """
    check("NNI's strategies")
    return imported(module)


def main(*, short: bool) -> None:
    """Search with every strategy and print shares of the true hypervolume."""
    if not NB201.exists():
        sys.exit("skipped: no tables of NAS-Bench-201 beside the repository's parent folder")
    _nni("nni.nas.strategy")  # so that its import is not counted
    seeds, budgets = (2, BUDGETS[:2]) if short else (10, BUDGETS)
    with tempfile.TemporaryDirectory() as folder:
        table = scaled_table(Path(folder) / "cells.csv")
    whole = hypervolume(np.array(list(table.values())), 1.0)
    rows: list[dict[str, object]] = []
    for name, strategy in STRATEGIES.items():
        found = [search(strategy, table, budgets[-1], seed) for seed in range(seeds)]
        for budget in budgets:
            shares = [hypervolume(points[:budget], 1.0) / whole for points, _ in found]
            row = {"strategy": name, "networks": budget, "share": float(np.median(shares))}
            rows.append(row | {"lowest": min(shares), "highest": max(shares)})
        rows[-1]["cpu_seconds_per_search"] = float(np.median([seconds for _, seconds in found]))
    write_results(
        "nni_strategies_short" if short else "nni_strategies", rows, seeds=seeds, networks_in_table=len(table)
    )


def scaled_table(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return error and latency of each cell by its text, both from 0 for the best in the table to 1 for the worst."""
    values = write_table(path)
    cells = [line.rpartition(",")[0].rpartition(",")[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    best, worst = values.min(axis=0), values.max(axis=0)
    return dict(zip(cells, (values - best) / (worst - best), strict=True))


def search(
    strategy: Callable[[Distributions, Evaluate, int, int], list[Tried]],
    table: dict[str, NDArray[np.float64]],
    budget: int,
    seed: int,
) -> tuple[NDArray[np.float64], float]:
    """Search the table for the least mean; return error and latency `(cells, 2)` in order, and the CPU time in s."""

    def values_of(params: Params) -> NDArray[np.float64]:
        return table[cell_of([str(params[name]) for name in NAMES])]

    begin = time.process_time()
    distributions = make_space((3, 32, 32), 10).distributions
    tried = strategy(distributions, lambda params: float(values_of(params).mean()), budget, seed)
    return np.array([values_of(one.params) for one in tried]), time.process_time() - begin


if __name__ == "__main__":
    main(short="--short" in sys.argv)
