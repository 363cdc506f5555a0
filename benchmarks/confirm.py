"""By how much are the numbers of a front too good that are those of single trainings, and those of a confirmed one?

On two data sets, from several seeds: a search, then `REPEATS` further trainings of each candidate on its front, as
`nas confirm` makes them, and one more that nothing is chosen by and no mean holds (*held out*).

*Before* is by how much the mean of all further trainings of a candidate lies above the number of its first one, which
put it on the front. *After* is by how much the held-out training lies above the confirmed mean, on the front that is
left. Both are given for the mean over the front, for its knee, and for the candidate with the lowest such number on it:
each is chosen anew after confirming. *Error on test records* holds the test error of the held-out training against the
error on validation records, first or confirmed: what is lucky about the validation records stays. Means over the seeds
with Student's 95 % interval.

    python benchmarks/confirm.py            # some 20 minutes on two cores; needs Location-30
    python benchmarks/confirm.py --short    # the digits, few of all, some seconds

Searches and trainings are kept in the temporary folder; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial
from report import write_results
from shared_data import SHARED
from versions import interval

from nas.base import files
from nas.base import processes
from nas.runs.confirm import Job
from nas.runs.confirm import missing
from nas.runs.confirm import train
from nas.runs.confirmed import confirmed_of
from nas.runs.confirmed import with_confirmed
from nas.runs.front_and_knee import first_front
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import knee_of
from nas.search.bench import from_other_seeds
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.search.study import open_bench
from nas.search.study import work
from nas.training.assess import assess
from nas.training.assess import outputs
from nas.training.loop import Diverged
from nas.training.loop import training_version

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "confirm"
REPEATS, SEEDS = 3, 8
MEASURES, ON_TEST = ("error", "leakage"), "error on test records"
WHERE = ("front", "knee", "lowest")
TASKS: dict[str, dict[str, Any]] = {
    "digits": {"space": "mlp", "members": 300, "trials": 30},
    "location30": {
        "space": "mlp",
        "dataset": "location30",
        "data_path": SHARED / "location30",
        "members": 1000,
        "trials": 30,
    },
}
SHORT: dict[str, dict[str, Any]] = {
    "digits": {
        "space": "mlp",
        "members": 120,
        "references": 4,
        "trials": 5,
        "defences": ["none"],
        "error_ceiling": False,
        "recipe": {"epochs": 3},
        "set": {"depth": 1},
    }
}
Found = dict[str, dict[str, float]]
"""What one search gave: by the place of `WHERE` and the measure, `before` and `after`."""


def main() -> None:
    """Search, confirm and hold out for every seed, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    if not arguments.short and not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    tasks, seeds, repeats = (SHORT, 2, 1) if arguments.short else (TASKS, arguments.seeds, REPEATS)
    version = hashlib.sha256(training_version().encode()).hexdigest()[:8]
    folder = files.private_folder(CACHE / f"{version}{'-short' if arguments.short else ''}")
    asked = list(itertools.product(tasks.items(), range(seeds)))
    one = partial(searched, folder, repeats)
    if arguments.short:  # processes would take longer to start than to train
        found = [one(what) for what in asked]
    else:
        with ProcessPoolExecutor(processes.cores()) as pool:
            found = list(pool.map(one, asked))
    rows = []
    for name in tasks:
        mine = [told for ((task, _), _), told in zip(asked, found, strict=True) if task == name and told]
        rows += summary(name, mine)
    write_results("confirm_short" if arguments.short else "confirm", rows, seeds=seeds, repeats=repeats)


def searched(folder: Path, repeats: int, asked: tuple[tuple[str, Mapping[str, Any]], int]) -> Found:
    """Search, train the front again and hold one training out; or read what was done of it before."""
    (name, settings), seed = asked
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A folder of its own for each search tells its teachers from those of others.
    run = f"{name}-{seed}"
    plan = resolve(parse_config({**settings, "name": run, "seed": seed}), folder / run)
    study = open_study(plan)
    work(plan, study)
    for _ in train(Job(plan.config, plan.folder), missing(study, repeats), workers=1):
        pass
    held = held_out(plan, study, repeats + 1)
    print(f"  {run}: {len(first_front(study))} on the front, {len(front(study))} when it is confirmed", flush=True)
    return biases(study, held)


def held_out(plan: Plan, study: optuna.Study, repetition: int) -> dict[int, dict[str, float]]:
    """Train each candidate on the front by first trainings once more, beside the study: its numbers, by candidate.

    One that diverges is left out.
    """
    path = plan.folder / f"held-out-{repetition}.json"
    known: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    bench = from_other_seeds(plan, open_bench(plan, study), repetition)
    test = plan.data.test
    for trial in first_front(study):
        if str(trial.number) in known:
            continue
        try:
            found = assess(plan.candidate(trial.params), bench)
        except Diverged:
            known[str(trial.number)] = {}
            continue
        wrong = outputs(found.network, test.features).argmax(axis=1) != test.labels
        numbers = {name: found.measures[name].value for name in MEASURES}
        known[str(trial.number)] = {**numbers, ON_TEST: float(wrong.mean())}
        files.write_json(path, known)
    return {int(number): numbers for number, numbers in known.items() if numbers}


def biases(study: optuna.Study, held: Mapping[int, Mapping[str, float]]) -> Found:
    """Return by how much the numbers of a front are too low, before and after confirming.

    Args:
        study: With further trainings of its front.
        held: Numbers of the training of each candidate on it that the study does not hold.

    Returns:
        `before` and `after`, by `WHERE MEASURE`, and under `members` how many candidates are on the front; empty if
        one of the fronts is.
    """
    single = [trial for trial in with_confirmed(study, first_front(study)) if trial.number in held]
    left = {trial.number for trial in front(study)}
    first = {trial.number: trial for trial in first_front(study)}
    after = [trial for trial in single if trial.number in left]
    before = [first[trial.number] for trial in single]
    if not after:
        return {}
    fresh = {trial.number: _fresh(trial, held[trial.number]) for trial in single}
    told: Found = {"members": {"before": len(before), "after": len(after)}}
    told["another knee"] = {"after": float(knee_of(before).number != knee_of(after).number)}
    for measure, where in itertools.product((*MEASURES, ON_TEST), WHERE):
        number = measure if measure in MEASURES else "error"
        told[f"{where} {measure}"] = {
            "before": _too_low(before, where, number, {one: numbers[measure] for one, numbers in fresh.items()}),
            "after": _too_low(after, where, number, {one: numbers[measure] for one, numbers in held.items()}),
        }
    return told


def _fresh(trial: FrozenTrial, held: Mapping[str, float]) -> dict[str, float]:
    """Return the means over all further trainings of a candidate, of the test error that of the held-out one."""
    found = confirmed_of(trial)
    values = {name: found.measures[name].values if found and found.trainings else () for name in MEASURES}
    return {name: float(np.mean([*values.get(name, ()), held[name]])) for name in (*MEASURES, ON_TEST) if name in held}


def _too_low(trials: Sequence[FrozenTrial], where: str, number: str, truth: Mapping[int, float]) -> float:
    """Return by how much a number of candidates lies below what other trainings gave."""
    if where == "knee":
        trials = [knee_of(trials)]
    elif where == "lowest":
        trials = [min(trials, key=lambda trial: (trial.user_attrs[number], trial.number))]
    return float(np.mean([truth[trial.number] - trial.user_attrs[number] for trial in trials]))


def summary(name: str, found: Sequence[Found]) -> list[dict[str, object]]:
    """Return a row for each place and measure, with means and half-widths over the searches."""
    rows: list[dict[str, object]] = []
    for measure, where in itertools.product((*MEASURES, ON_TEST), WHERE):
        row: dict[str, object] = {"part": "too low", "data": name, "where": where, "measure": measure}
        for when in ("before", "after"):
            row[when], row[f"{when}_half_width"] = interval(
                np.array([one[f"{where} {measure}"][when] for one in found])
            )
        rows.append(row)
    changed = {
        "searches": len(found),
        "members_before": float(np.mean([one["members"]["before"] for one in found])),
        "members_after": float(np.mean([one["members"]["after"] for one in found])),
        "another_knee": float(np.mean([one["another knee"]["after"] for one in found])),
    }
    return [*rows, {"part": "front", "data": name, **changed}]


if __name__ == "__main__":
    main()
