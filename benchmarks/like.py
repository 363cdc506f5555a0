"""Searches that begin with the front of an earlier one (`--like`), and the same searches without it.

All are searches by `tpe` in tables of NAS-Bench-201, each with the latency on a Raspberry Pi 4. The earlier one looked
up 50 networks with their 12-epoch errors on CIFAR-10. The later ones, of the same seed, look up errors on CIFAR-100 or
ImageNet-16-120. The hypervolume is that of error and latency, both scaled to the range of the table, below the worst of
each; its share is that of the true front. Medians over the seeds, with the lowest and the highest.

    python benchmarks/like.py            # some minutes: 10 seeds
    python benchmarks/like.py --short    # 2 seeds
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import optuna
from nb201_table import NB201
from nb201_table import OBJECTIVES
from nb201_table import write_table
from numpy.typing import NDArray
from optuna.trial import TrialState
from pruned_values import hypervolume
from report import write_results

from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.schema import GIVEN
from nas.search.storage import find_study
from nas.search.storage import open_study
from nas.search.study import work

EARLIER = "cifar10_test"
LATER = {"CIFAR-100": "cifar100_test", "ImageNet-16-120": "imagenet16_test"}
SAMPLER, TRIALS = "tpe", 50
BUDGETS = (5, 10, 25, 50)


def main(*, short: bool) -> None:
    """Search with and without an earlier front, and print shares of the true hypervolume."""
    if not NB201.exists():
        sys.exit("skipped: no tables of NAS-Bench-201 beside the repository's parent folder")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds = 2 if short else 10
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "earlier.csv", EARLIER)
        for seed in range(seeds):
            search(folder / "earlier.csv", f"earlier-{seed}", seed, folder)
        for table, accuracies in LATER.items():
            path = folder / f"{accuracies}.csv"
            values = write_table(path, accuracies)
            for kind in ("alone", "like CIFAR-10"):
                names = [f"{accuracies}-{kind[:5]}-{seed}".replace(" ", "") for seed in range(seeds)]
                likes = [() if kind == "alone" else (f"earlier-{seed}",) for seed in range(seeds)]
                found = [
                    search(path, run, seed, folder, like)
                    for seed, (run, like) in enumerate(zip(names, likes, strict=True))
                ]
                row = {"table": table, "search": kind, "given": float(np.median([given(run, folder) for run in names]))}
                rows += [{**row, **shares(found, budget, values)} for budget in BUDGETS]
    write_results("like_short" if short else "like", rows, seeds=seeds, sampler=SAMPLER)


def search(path: Path, run: str, seed: int, folder: Path, like: tuple[str, ...] = ()) -> NDArray[np.float64]:
    """Run one search in a table; return error and latency of its networks `(trials, 2)` in order."""
    settings = {"space": "nb201", "evaluator": "table", "data_path": path, "device": "raspi4", "objectives": OBJECTIVES}
    settings |= {"name": run, "sampler": SAMPLER, "seed": seed, "trials": TRIALS, "like": like}
    plan = resolve(parse_config(settings), folder)
    study = open_study(plan)
    work(plan, study)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return np.array([trial.values for trial in done])


def given(run: str, folder: Path) -> int:
    """Count the points that a search was given."""
    return sum(name.startswith(GIVEN) for name in find_study(run, folder).user_attrs)


def shares(found: list[NDArray[np.float64]], budget: int, values: NDArray[np.float64]) -> dict[str, float]:
    """Return what share of the true hypervolume searches found with so many networks.

    Args:
        found: Error and latency of the networks of each search, in order.
        budget: Networks.
        values: `(cells, 2)`: error and latency of all.
    """
    best, worst = values.min(axis=0), values.max(axis=0)
    whole = hypervolume((values - best) / (worst - best), 1.0)
    of_each = [hypervolume((one[:budget] - best) / (worst - best), 1.0) / whole for one in found]
    return {"networks": budget, "share": float(np.median(of_each)), "lowest": min(of_each), "highest": max(of_each)}


if __name__ == "__main__":
    main(short="--short" in sys.argv)
