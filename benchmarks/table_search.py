"""Samplers over a table: how much of NAS-Bench-201's true front each finds, in how many seconds.

Every search looks 12-epoch CIFAR-100 errors and Raspberry Pi 4 latencies up (`--evaluator table`), in this process and
on one thread. The hypervolume is that of error and latency, both scaled to the range of the table, below the worst of
each; its share is that of the true front. Medians over the seeds, with the lowest and the highest.

    python benchmarks/table_search.py            # some minutes: 10 seeds of 200 networks
    python benchmarks/table_search.py --short    # 2 seeds of 50 networks
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import TrialState
from pruned_values import hypervolume
from report import write_results
from shared_data import SHARED

from nas.base import plugins
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.search.study import work

NB201 = SHARED / "nb201"
OBJECTIVES = ("error", "latency_ms")
BUDGETS = (25, 50, 100, 200)


def main(*, short: bool) -> None:
    """Search with every sampler and print shares of the true hypervolume."""
    if not NB201.exists():
        sys.exit("skipped: no tables of NAS-Bench-201 beside the repository's parent folder")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds, budgets = (2, BUDGETS[:2]) if short else (10, BUDGETS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.csv"
        values = write_table(path)
        best, worst = values.min(axis=0), values.max(axis=0)
        whole = hypervolume((values - best) / (worst - best), 1.0)
        rows = []
        package = "nas.search.samplers"
        for sampler in plugins.available(package, "make_sampler"):
            if plugins.find(package, sampler, "pick"):  # it is one of the others
                continue
            searches = [search(path, sampler, seed, budgets[-1], Path(folder)) for seed in range(seeds)]
            for budget in budgets:
                points = [(found[:budget] - best) / (worst - best) for found, _ in searches]
                shares = [hypervolume(one, 1.0) / whole for one in points]
                row = {"sampler": sampler, "networks": budget, "share": float(np.median(shares))}
                rows.append(row | {"lowest": min(shares), "highest": max(shares)})
            rows[-1]["seconds_per_search"] = float(np.median([seconds for _, seconds in searches]))
    write_results("table_search_short" if short else "table_search", rows, seeds=seeds, networks_in_table=len(values))


def write_table(path: Path, accuracies: str = "cifar100_test") -> NDArray[np.float64]:
    """Write error and latency of all cells as a search reads them, and return them `(cells, 2)`."""
    accuracy = pd.read_csv(NB201 / "accuracy_12ep.csv.gz")
    latency = pd.read_csv(NB201 / "latency_ms.csv.gz")
    table = accuracy[["arch", "cell", accuracies]].merge(latency[["arch", "raspi4"]], on="arch")
    table["error"] = (1 - table[accuracies] / 100).round(6)
    table = table.rename(columns={"cell": "network", "raspi4": "latency_ms"})
    table[["network", *OBJECTIVES]].to_csv(path, index=False)
    return table[list(OBJECTIVES)].to_numpy()


def search(
    path: Path, sampler: str, seed: int, trials: int, folder: Path, **more: object
) -> tuple[NDArray[np.float64], float]:
    """Run one search, of further settings where some are given.

    Returns:
        Error and latency of its networks `(trials, 2)` in order, and the seconds it took.
    """
    settings = {"space": "nb201", "evaluator": "table", "data_path": path, "device": "raspi4", "objectives": OBJECTIVES}
    settings |= {"name": f"{sampler}-{seed}", "sampler": sampler, "seed": seed, "trials": trials, **more}
    begin = time.perf_counter()
    plan = resolve(parse_config(settings), folder)
    study = open_study(plan)
    work(plan, study)
    seconds = time.perf_counter() - begin
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return np.array([trial.values for trial in done]), seconds  # noqa: PD011 - an Optuna trial, no frame


if __name__ == "__main__":
    main(short="--short" in sys.argv)
