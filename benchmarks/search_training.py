"""Samplers on real trainings: the front that each finds in so many CPU-seconds, with trainings stopped early or not.

Three objectives: error, leakage and latency. Digits in the space `conv`, 300 members; CIFAR-10 at 16 x 16 in the space
`mobile`, 1,000 members. One process and one thread for each search; its CPU-seconds are all that the process used:
sampling, pricing, training, attack and writing, without the reference bank, which all searches of a seed share. The
hypervolume is that of error, chance-corrected leakage and the logarithm of the latency, each scaled to the range of all
trained candidates of all searches, below the worst; candidates over the ceiling of the error do not count. Medians over
the seeds at shares of the CPU-seconds that the shortest search of all used, with the lowest and the highest, and after
the same shares of the trainings: the longer a training takes, the less counts a sampler's own time.

`cost_aware` is held against the best of the others: what they reach with all the seconds it has to reach with a
quarter.

    python benchmarks/search_training.py --data digits     # half an hour on two cores; one that was stopped goes on
    python benchmarks/search_training.py --data cifar10    # a day on two cores
    python benchmarks/search_training.py --short           # digits, one seed, 4 trials of two samplers, a minute
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume
from optuna.trial import TrialState
from report import write_results
from shared_data import SHARED
from shared_data import cifar10
from space_search import lines_of

from nas.base import files
from nas.base import processes
from nas.runs.front_and_knee import exceeded_by
from nas.search.bench import Evaluated
from nas.search.bench import evaluate
from nas.search.config import BY_RUNGS
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.schema import limits_of
from nas.search.storage import open_study
from nas.search.study import Proposal
from nas.search.study import looks_at
from nas.search.study import open_bench
from nas.search.study import work
from nas.training.bank import build_bank

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "search_training"
OBJECTIVES = ("error", "leakage", "latency_ms")
OURS, RUNGS = "cost_aware", ", stopped early"
SEARCHES = ("random", "nsga2", "tpe", OURS, f"tpe{RUNGS}", f"{OURS}{RUNGS}")
SHORT_SEARCHES = ("random", OURS)
SEEDS, SHARES = 5, (0.125, 0.25, 0.5, 1.0)
TASKS: dict[str, dict[str, Any]] = {
    "digits": {"space": "conv", "dataset": "digits", "members": 300, "trials": 60, "recipe": {"epochs": 20}},
    "cifar10": {"space": "mobile", "members": 1000, "trials": 60, "recipe": {"epochs": 20}},
}


@dataclass(frozen=True, eq=False)
class Found:
    """What one search found, in the order in which it was found.

    Attributes:
        seconds: `(within,)`: CPU-seconds of the search until then.
        trainings: `(within,)`: how many trainings had ended then.
        values: `(within, 3)`: the objectives; candidates over the ceiling of the error are left out of all three.
        total: CPU-seconds of the whole search.
        trained: How many trainings ended.
        stopped: How many were stopped early.
    """

    seconds: NDArray[np.float64]
    trainings: NDArray[np.float64]
    values: NDArray[np.float64]
    total: float
    trained: int
    stopped: int


def main() -> None:
    """Search with every sampler from every seed, and compare hypervolumes at equal CPU-seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--data", choices=tuple(TASKS), default="digits")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    if arguments.data == "cifar10" and not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    names, seeds = (SHORT_SEARCHES, 1) if arguments.short else (SEARCHES, arguments.seeds)
    settings = {**TASKS[arguments.data], "objectives": list(OBJECTIVES)}
    if arguments.data == "cifar10":
        settings |= {"dataset": "npz", "data_path": cifar10(10_000)}
    if arguments.short:
        settings |= {"trials": 4}
    kind = f"{arguments.data}_short" if arguments.short else arguments.data
    asked = list(itertools.product(range(seeds), names))
    with ProcessPoolExecutor(processes.cores()) as pool:
        found = dict(zip(asked, pool.map(partial(search, CACHE / kind, settings), asked), strict=True))
    rows = compared({name: [found[seed, name] for seed in range(seeds)] for name in names}, settings["trials"])
    facts = {} if arguments.short else verdict(rows)
    write_results(f"search_training_{kind}", rows, seeds=seeds, trials=settings["trials"], **facts)


def search(runs: Path, settings: dict[str, Any], asked: tuple[int, str]) -> Found:
    """Run one search, or read what was run of it before."""
    seed, name = asked
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, stopped_early = name.removesuffix(RUNGS), name.endswith(RUNGS)
    run = f"{sampler}-{'rungs-' if stopped_early else ''}{seed}"
    more = {"name": run, "sampler": sampler, "seed": seed, "fidelity": BY_RUNGS if stopped_early else "off"}
    # A folder of its own for each search tells its teachers from those of others.
    plan = resolve(parse_config({**settings, **more}), runs / run)
    fetch_bank(plan, runs / f"references-{seed}")
    study = open_study(plan)
    log = plan.folder / "cpu_seconds.jsonl"
    work(plan, study, timed(plan, study, log))
    print(f"  {run}: {len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))} trained", flush=True)
    return read(study, log)


def fetch_bank(plan: Plan, shared: Path) -> None:
    """Train the references of a seed once for all its searches."""
    build_bank(plan.bank, shared)
    files.private_folder(plan.cache_folder)
    for path, own in zip(plan.bank.paths(shared), plan.bank.paths(plan.cache_folder), strict=True):
        shutil.copyfile(path, own)


def timed(plan: Plan, study: optuna.Study, log: Path) -> Callable[[Proposal], Evaluated]:
    """Return what trains and attacks a candidate, and notes the CPU-seconds since the last one ended."""
    bench = open_bench(plan, study)
    since = time.process_time()

    def evaluator(proposal: Proposal) -> Evaluated:
        nonlocal since
        looks = looks_at(plan, study, proposal) if plan.config.fidelity == BY_RUNGS else None
        try:
            return evaluate(plan, bench, proposal.candidate, looks)
        finally:
            now = time.process_time()
            files.append_json(log, {"trial": proposal.trial.number, "seconds": now - since})
            since = now

    return evaluator


def read(study: optuna.Study, log: Path) -> Found:
    """Return what a search has found and when."""
    trials, limits = study.get_trials(deepcopy=False), limits_of(study.user_attrs)
    total, count, seconds, trainings, values = 0.0, 0, [], [], []
    for line in lines_of(log):
        total += line["seconds"]
        trial = trials[line["trial"]]
        count += trial.state == TrialState.COMPLETE
        if trial.state == TrialState.COMPLETE and not exceeded_by(study, trial, limits):
            seconds.append(total)
            trainings.append(count)
            values.append(trial.values)
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    stopped = sum(str(trial.user_attrs.get("rejected", "")).startswith("stopped") for trial in trials)
    return Found(
        np.array(seconds), np.array(trainings), np.array(values).reshape(-1, len(OBJECTIVES)), total, complete, stopped
    )


def compared(found: dict[str, Sequence[Found]], trials: int) -> list[dict[str, object]]:
    """One row for a search and a share of the seconds."""
    searches = [one for of_name in found.values() for one in of_name]
    every = scaled_by(np.concatenate([one.values for one in searches]))
    lowest, span = every.min(axis=0), np.ptp(every, axis=0)
    whole = min(one.total for one in searches)

    def reached(one: Found, counted: NDArray[np.float64], end: float) -> float:
        return volume((scaled_by(one.values[counted <= end]) - lowest) / np.where(span > 0, span, 1))

    rows: list[dict[str, object]] = []
    for name, of_name in found.items():
        for share in SHARES:
            volumes = [reached(one, one.seconds, share * whole) for one in of_name]
            after_trainings = [reached(one, one.trainings, share * trials) for one in of_name]
            row = {"search": name, "share": share, "cpu_seconds": share * whole}
            row |= {"hypervolume": float(np.median(volumes)), "lowest": min(volumes), "highest": max(volumes)}
            rows.append(row | {"trainings": share * trials, "after_trainings": float(np.median(after_trainings))})
        rows[-1] |= {
            "trained": float(np.median([one.trained for one in of_name])),
            "stopped": float(np.median([one.stopped for one in of_name])),
        }
    return rows


def scaled_by(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put objectives on the scales that they are compared on."""
    return np.column_stack([values[:, 0], np.maximum(values[:, 1], 0.5), np.log(values[:, 2])])


def volume(points: NDArray[np.float64]) -> float:
    """Return the share of the unit cube that points dominate."""
    return float(compute_hypervolume(points, np.ones(points.shape[1]))) if len(points) else 0.0


def verdict(rows: list[dict[str, object]]) -> dict[str, object]:
    """Hold `cost_aware`, with trainings stopped early or not, against the best of the others."""
    at = {(row["search"], row["share"]): row["hypervolume"] for row in rows}
    best = max(at[name, 1.0] for name in SEARCHES if not name.startswith(OURS) and not name.endswith(RUNGS))
    told: dict[str, object] = {}
    for name in (OURS, f"{OURS}{RUNGS}"):
        share = next((share for share in SHARES if at[name, share] >= best), None)
        says = "met" if share is not None and share <= 0.25 else "not met"
        when = f"with {share:g} of the seconds" if share else f"not with all of them ({at[name, 1.0]:.3f})"
        told[name] = f"{says}: what the best other reaches with all seconds ({best:.3f}) it reaches {when}"
    return told


if __name__ == "__main__":
    main()
