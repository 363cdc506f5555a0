"""A search that chooses the defence beside architecture and bits, against searches with one fixed defence each.

Location-30 in the space `mlp` with 1,000 members, CIFAR-10 at 16 x 16 in the space `conv` with 500, error and leakage
as objectives. Every search trains as many candidates, from the same seeds; teachers, folds and ensembles are trained
once for a search and counted beside. The hypervolume is the share of the area between no error, no leakage (an AUC of
0.5) and an error of 1, an AUC of 1 that a front dominates. Leakage is the search's own estimate for every front. As in
`--defences all`, masks are left out: that estimate reads what they hide, and not what the network remembers. Medians
over the seeds, with the lowest and the highest, and in how many seeds the search over all defences has the larger
hypervolume.

    python benchmarks/defence_search.py            # an hour or two on two cores; a search that was stopped goes on
    python benchmarks/defence_search.py --data location30
    python benchmarks/defence_search.py --short    # Location-30, one seed, 6 candidates, three defences; a minute
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import TrialState
from proxy import cifar10_images
from pruned_values import hypervolume
from report import write_results
from shared_data import SHARED

from nas.base import files
from nas.base import processes
from nas.runs.front_and_knee import front
from nas.runs.report import defence_of
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.search.study import work
from nas.training.bank import build_bank

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "defence_search"
SEEDS, TRIALS, EPOCHS = 3, 30, 20
MEMBERS = {"location30": 1000, "cifar10": 500}
ALL = "all"
SHORT_DEFENCES = ("none", "gecko", "relaxloss")
MOST_ABOVE_CHANCE = 0.5


@dataclass(frozen=True)
class Found:
    """What one search found.

    Attributes:
        hypervolume: Of its front, from 0 to 1; higher is better.
        candidates: How many were trained.
        trainings: Of candidates and of what teaches them, each once.
        lowest_error: On the front; 1 where all candidates are over the ceiling of the error.
        defences: Those on the front, by name.
    """

    hypervolume: float
    candidates: int
    trainings: int
    lowest_error: float
    defences: tuple[str, ...]


def main() -> None:
    """Search with each choice of defences from each seed, and compare hypervolumes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--data", choices=("location30", "cifar10"), help="One data set; both, if left out.")
    arguments = parser.parse_args()
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    short = arguments.short
    seeds, trials = (1, 6) if short else (SEEDS, TRIALS)
    names = SHORT_DEFENCES if short else parse_config({"defences": [ALL]}).defences
    rows = []
    for data in ("location30",) if short else (arguments.data,) if arguments.data else ("location30", "cifar10"):
        settings = {**task(data), "trials": trials, "recipe": {"epochs": EPOCHS}}
        choices = [names, *((name,) for name in names)]
        found: dict[tuple[str, ...], list[Found]] = {chosen: [] for chosen in choices}
        asked = list(itertools.product(range(seeds), choices))
        with ProcessPoolExecutor(processes.cores()) as pool:
            for (_, chosen), one in zip(asked, pool.map(partial(search, data, settings), asked), strict=True):
                found[chosen].append(one)
        rows += [row_of(data, chosen, found[chosen], found[names]) for chosen in choices]
    name = "defence_search_short" if short else "defence_search" + (f"_{arguments.data}" if arguments.data else "")
    write_results(name, rows, seeds=seeds, candidates=trials)


def task(data: str) -> dict[str, Any]:
    """Return the settings of a data set."""
    shared = {"members": MEMBERS[data], "objectives": ["error", "leakage"]}
    if data == "location30":
        return {**shared, "space": "mlp", "dataset": "location30", "data_path": SHARED / "location30"}
    images, path = cifar10_images(), CACHE / "cifar10.npz"
    if not path.exists():
        files.write_arrays(path, features=images.features, labels=images.labels)
    return {**shared, "space": "conv", "dataset": "npz", "data_path": path}


def search(data: str, settings: dict[str, Any], asked: tuple[int, Sequence[str]]) -> Found:
    """Run the search from a seed over some defences, or read it where it was run before."""
    seed, defences = asked
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    chosen = defences[0] if len(defences) == 1 else ALL
    name = f"{data}-{chosen}-{seed}"
    # A folder of its own for each search tells its teachers from those of others.
    # Those of the short version choose among fewer.
    runs = CACHE / f"{name}-{settings['trials']}"
    plan = resolve(parse_config({**settings, "name": name, "defences": list(defences), "seed": seed}), runs)
    fetch_bank(plan)
    study = open_study(plan)
    work(plan, study)
    best = front(study)
    above_chance = [(error, max(leakage - 0.5, 0.0)) for error, leakage in (trial.values for trial in best)]
    trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    print(f"  {name}: {len(trained)} trained", flush=True)
    return Found(
        hypervolume=hypervolume(np.array(above_chance).reshape(-1, 2), MOST_ABOVE_CHANCE) / MOST_ABOVE_CHANCE,
        candidates=len(trained),
        trainings=len(trained) + len(list(plan.cache_folder.glob("teacher-*.npz"))),
        lowest_error=min((error for error, _ in above_chance), default=1.0),
        defences=tuple(sorted({defence_of(study, trial) for trial in best})),
    )


def fetch_bank(plan: Plan) -> None:
    """Train the references of a seed once for all its searches."""
    shared = CACHE / "references"
    build_bank(plan.bank, shared)
    files.private_folder(plan.cache_folder)
    for path, own in zip(plan.bank.paths(shared), plan.bank.paths(plan.cache_folder), strict=True):
        shutil.copyfile(path, own)


def row_of(data: str, chosen: Sequence[str], found: Sequence[Found], of_all: Sequence[Found]) -> dict[str, object]:
    """One line for a choice of defences: medians over the seeds, and how the search over all compares, seed by seed."""
    volumes = [one.hypervolume for one in found]
    row = {
        "data": data,
        "defences": chosen[0] if len(chosen) == 1 else ALL,
        "hypervolume": float(np.median(volumes)),
        "lowest": min(volumes),
        "highest": max(volumes),
        "trainings_per_candidate": sum(one.trainings for one in found) / sum(one.candidates for one in found),
        "lowest_error": float(np.median([one.lowest_error for one in found])),
    }
    if found is of_all:
        return row | {"on_front": ", ".join(sorted({name for one in found for name in one.defences}))}
    pairs = zip(of_all, found, strict=True)
    return row | {"all_is_larger_in_seeds": sum(every.hypervolume > one.hypervolume for every, one in pairs)}


if __name__ == "__main__":
    main()
