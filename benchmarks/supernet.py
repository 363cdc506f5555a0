"""Does a super-network rank networks as their stand-alone trainings do (`nas search --like supernet`)?

Two tasks: the digits with 300 members, and CIFAR-10 averaged to 16x16 with 1,000 members; space `mobile`, a fixed
recipe, no defence. For each seed the super-network of the search is trained, and networks drawn at random from those
that it screens are predicted by it, and trained on their own, twice from different seeds.

Rows: Kendall's tau between a predictor and the first stand-alone training, for error and for leakage, as the mean over
the seeds, with a 95 % interval by the bootstrap over the networks of each seed. Predictors are the super-network; the
number of weights and that of multiply-accumulates, which cost nothing (the error is taken to fall and the leakage to
rise with them); and the second training, which no predictor can be expected to beat by much.

Times are CPU-seconds of one thread, means over the seeds: of the super-network's training, of one stand-alone training
with its attack, and how many networks are screened in one second.

    python benchmarks/supernet.py            # two processes, half an hour on two quiet cores; needs CIFAR-10
    python benchmarks/supernet.py --short    # a few networks for the digits, under a minute

What was trained is kept beside other benchmarks' files in the temporary folder; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from proxy import cifar10_images
from report import write_results
from scipy.stats import kendalltau
from shared_data import CIFAR10

from nas.base import files
from nas.base import processes
from nas.search import supernet
from nas.search.bench import make_bench
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.training.assess import assess
from nas.training.loop import Diverged
from nas.training.loop import training_version
from nas.training.supernet import screen_with
from nas.training.supernet import train_supernet

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "supernet"
MEASURES = ("error", "leakage")
RESAMPLES = 2000
EVERYWHERE: dict[str, Any] = {"space": "mobile", "defences": ["none"]}
RECIPE: dict[str, Any] = {"dropout": 0.0, "label_smoothing": 0.0, "learning_rate": 3e-3, "weight_decay": 1e-3}
TASKS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits", "members": 300, "recipe": {**RECIPE, "epochs": 40}},
    "cifar10": {"dataset": "npz", "members": 1000, "recipe": {**RECIPE, "epochs": 20}},
}
SEEDS, NETWORKS = 2, 24
PROCESSES = 2
SHORT: dict[str, dict[str, Any]] = {
    "digits": {
        "dataset": "digits",
        "members": 60,
        "references": 2,
        "set": {"stages": [1], "layers": [1], "width_multiplier": [0.25, 0.5], "head_width": [0]},
        "recipe": {**RECIPE, "epochs": 2},
    }
}
SHORT_NETWORKS = 6
SCREENED = 100
"""Networks of which the time of the screening is measured."""

Item = tuple[str, int, str]
"""A task, a seed, and what is done: `screen`, or the place of a network and the number of its training."""


def main() -> None:
    """Train what is not kept yet, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--networks", type=int, default=NETWORKS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    arguments = parser.parse_args()
    short = arguments.short
    seeds, networks = (1, SHORT_NETWORKS) if short else (arguments.seeds, arguments.networks)
    tasks = SHORT if short else _with_images(TASKS)
    screens = [(task, seed, "screen") for task in tasks for seed in range(seeds)]
    alone = [
        (task, seed, f"{place} {training}")
        for training in (1, 2)
        for place in range(networks)
        for task in tasks
        for seed in range(seeds)
    ]
    files.private_folder(CACHE)
    todo = [item for item in (*screens, *alone) if not _path(tasks, item, networks).exists()]
    if short:
        with processes.one_thread():
            for item in todo:
                work((tasks, networks), item)
    else:
        for done, item in enumerate(
            processes.share_out(work, (tasks, networks), todo, workers=arguments.processes), start=1
        ):
            print(f"{done} of {len(todo)}: {' '.join(map(str, item))}", flush=True)
    rows = []
    for task in tasks:
        rows += rows_of(task, [measured(tasks, task, seed, networks) for seed in range(seeds)])
    write_results("supernet_short" if short else "supernet", rows)


def work(shared: tuple[Mapping[str, Any], int], item: Item) -> None:
    """Do one item and keep what it gave."""
    tasks, networks = shared
    task, seed, what = item
    path = _path(tasks, item, networks)
    found = (
        screened(tasks, task, seed, networks)
        if what == "screen"
        else trained(tasks, task, seed, *map(int, what.split()))
    )
    files.write_json(path, found)


def screened(tasks: Mapping[str, Any], task: str, seed: int, networks: int) -> dict[str, Any]:
    """Train a super-network, and predict the networks; also how long both took, and the networks' sizes."""
    plan, pool = _searched(json.dumps(tasks[task]), task, seed)
    bench = make_bench(plan)
    since = time.process_time()
    spec = supernet.spec_of(plan, pool)
    screen = screen_with(spec, train_supernet(spec), plan.attack, bench.bank)
    seconds = time.process_time() - since
    timed = pool[: max(networks, SCREENED)]
    since = time.process_time()
    found = [screen.predict(one.architecture) for one in timed]
    per_second = len(timed) / (time.process_time() - since)
    rows = [
        {
            "error": None if prediction is None else prediction.error,
            "leakage": None if prediction is None else prediction.leakage,
            "weights": sum(kernel.weights for kernel in one.architecture.kernels),
            "macs": sum(kernel.macs for kernel in one.architecture.kernels),
        }
        for one, prediction in zip(pool[:networks], found, strict=False)
    ]
    return {"networks": rows, "seconds": seconds, "per_second": per_second, "pool": len(pool)}


def trained(tasks: Mapping[str, Any], task: str, seed: int, place: int, training: int) -> dict[str, Any]:
    """Train a network on its own, and attack it; what diverged has no figures."""
    plan, pool = _searched(json.dumps(tasks[task]), task, seed)
    bench = replace(make_bench(plan), spreads={})
    since = time.process_time()
    try:
        found = assess(plan.candidate(pool[place].params), replace(bench, seed=1000 * training + seed)).measures
    except Diverged:
        found = {}
    values = {measure: found[measure].value if found else None for measure in MEASURES}
    return {**values, "seconds": time.process_time() - since}


def measured(tasks: Mapping[str, Any], task: str, seed: int, networks: int) -> dict[str, Any]:
    """Put together what is kept of a task and a seed: figures by predictor, of networks that have all of them."""
    screen = files.read_json(_path(tasks, (task, seed, "screen"), networks))
    both = [
        [files.read_json(_path(tasks, (task, seed, f"{place} {training}"), networks)) for place in range(networks)]
        for training in (1, 2)
    ]
    kept = [
        place
        for place, row in enumerate(screen["networks"])
        if None not in (row["error"], both[0][place]["error"], both[1][place]["error"])
    ]
    sizes = {name: np.array([screen["networks"][place][name] for place in kept]) for name in ("weights", "macs")}

    def column(rows: list[dict[str, Any]], measure: str) -> np.ndarray:
        return np.array([rows[place][measure] for place in kept])

    return {
        "truth": {measure: column(both[0], measure) for measure in MEASURES},
        "predictors": {
            "super-network": {measure: column(screen["networks"], measure) for measure in MEASURES},
            "weights": {"error": -sizes["weights"], "leakage": sizes["weights"]},
            "macs": {"error": -sizes["macs"], "leakage": sizes["macs"]},
            "another training": {measure: column(both[1], measure) for measure in MEASURES},
        },
        "supernet_seconds": screen["seconds"],
        "training_seconds": float(np.mean([row["seconds"] for row in both[0]])),
        "screened_per_second": screen["per_second"],
    }


def rows_of(task: str, seeds: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Return a row for each measure and predictor."""
    times = {
        name: float(np.mean([one[name] for one in seeds]))
        for name in ("supernet_seconds", "training_seconds", "screened_per_second")
    }
    rows: list[dict[str, object]] = []
    for measure in MEASURES:
        for predictor in seeds[0]["predictors"]:
            pairs = [(one["predictors"][predictor][measure], one["truth"][measure]) for one in seeds]
            tau, low, high = tau_of(pairs)
            row = {"task": task, "measure": measure, "predictor": predictor, "tau": tau, "low": low, "high": high}
            rows.append({**row, "networks": sum(len(truth) for _, truth in pairs), **times})
    return rows


def tau_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, float]:
    """Return the mean of Kendall's tau over the seeds, with a 95 % interval by the bootstrap over networks."""
    rng = np.random.default_rng(0)

    def mean(chosen: Callable[[int], Any]) -> float:
        taus = []
        for ours, theirs in pairs:
            rows = chosen(len(ours))
            taus.append(kendalltau(ours[rows], theirs[rows]).statistic)
        return float(np.mean(np.nan_to_num(taus)))

    resampled = [mean(lambda count: rng.integers(count, size=count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return mean(np.arange), float(low), float(high)


@lru_cache(maxsize=4)
def _searched(settings: str, task: str, seed: int) -> tuple[Plan, tuple[supernet.Priced, ...]]:
    """Return the plan of a search, and the networks that its super-network screens."""
    named = {"name": f"{task}-{seed}", "seed": seed}
    plan = resolve(parse_config({**EVERYWHERE, **json.loads(settings), **named}), CACHE / "runs")
    return plan, supernet.pool_of(plan)


def _with_images(tasks: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add the file of CIFAR-10's images, and exit with a reason where there are none."""
    if not CIFAR10.exists():
        sys.exit("skipped: no CIFAR-10 beside the repository's parent folder")
    path = CACHE / "cifar16.npz"
    if not path.exists():
        records = cifar10_images()
        files.write_arrays(path, features=records.features, labels=records.labels)
    return {**tasks, "cifar10": {**tasks["cifar10"], "data_path": str(path)}}


def _path(tasks: Mapping[str, Any], item: Item, networks: int) -> Path:
    """File of what an item gave: of these settings, by this version."""
    task, seed, what = item
    count = networks if what == "screen" else 0
    constants = supernet.DRAWN, supernet.LARGEST, supernet.LONGER
    decides = json.dumps([EVERYWHERE, tasks[task], seed, what, count, constants, training_version()], sort_keys=True)
    return CACHE / f"{task}-{hashlib.sha256(decides.encode()).hexdigest()[:16]}.json"


if __name__ == "__main__":
    main()
