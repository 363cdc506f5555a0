"""Is the leakage of a front real? Audits of members of the fronts of `cost_aware` and of TPE, side by side.

A sampler that follows the search's quick estimate of the leakage may find where that estimate errs, and a front is
chosen among noisy numbers: both make it look better than it is. From each front of `search_training.py` that a sampler
found with all its trials, five members are taken, evenly from the lowest error to the highest. Each is audited with 16
shadow models of its own recipe: the stronger of online LiRA and online RMIA. *Too low* is the audit's AUC less the
search's. One row for each sampler and seed; the difference between the samplers is compared over the seeds, with
Student's 95 % interval.

    python benchmarks/front_audits.py            # digits, five seeds; after search_training.py some 20 minutes
    python benchmarks/front_audits.py --short    # one seed, 4 trials, two members
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.trial import FrozenTrial
from report import write_results
from search_training import CACHE
from search_training import OBJECTIVES
from search_training import OURS
from search_training import TASKS
from search_training import search
from versions import interval

from estimators.estimate import number_in
from nas.audit.attack_all import EFFORTS
from nas.audit.candidate import audited_leakage
from nas.audit.candidate import subject_of
from nas.audit.proxy_check import proxy_of
from nas.audit.shadows import train_missing
from nas.base import processes
from nas.runs.front_and_knee import front
from nas.runs.run import open_run

SAMPLERS = ("tpe", OURS)
SEEDS, MEMBERS = 5, 5


def main() -> None:
    """Search, audit members of the fronts, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    seeds, count = (1, 2) if short else (SEEDS, MEMBERS)
    settings: dict[str, Any] = {**TASKS["digits"], "objectives": list(OBJECTIVES)} | ({"trials": 4} if short else {})
    runs = CACHE / ("digits_short" if short else "digits")
    asked = [(seed, name) for name in SAMPLERS for seed in range(seeds)]
    with ProcessPoolExecutor(processes.cores()) as pool:
        list(pool.map(partial(search, runs, settings), asked))
    rows = [audited(runs, name, seed, count) for seed, name in asked]
    name = "front_audits_short" if short else "front_audits"
    write_results(name, rows, seeds=seeds, **({} if short else verdict(rows)))


def audited(runs: Path, name: str, seed: int, count: int) -> dict[str, object]:
    """Audit members of the front of one search: a row."""
    torch.set_num_threads(1)
    run = open_run(f"{name}-{seed}", runs / f"{name}-{seed}")
    best = front(run.study)
    chosen = spread(best, count)
    subjects = [subject_of(run, trial.number) for trial in chosen]
    for _ in train_missing([subject.spec for subject in subjects], EFFORTS["standard"]):
        pass
    proxies = np.array([proxy_of(trial).value for trial in chosen])
    audits = np.array([audited_leakage(subject).value for subject in subjects])
    print(f"  {run.name}: {len(chosen)} audited", flush=True)
    return {
        "sampler": name,
        "seed": seed,
        "on_front": len(best),
        "audited_members": len(chosen),
        "error": float(np.mean([number_in(trial.user_attrs, "error") for trial in chosen])),
        "search_auc": float(proxies.mean()),
        "audited_auc": float(audits.mean()),
        "too_low": float((audits - proxies).mean()),
        "largest_too_low": float((audits - proxies).max()),
    }


def spread(best: Sequence[FrozenTrial], count: int) -> list[FrozenTrial]:
    """Choose members of a front evenly from the lowest error to the highest; all, if there are no more."""
    by_error = sorted(best, key=lambda trial: (number_in(trial.user_attrs, "error"), trial.number))
    places = np.linspace(0, len(by_error) - 1, min(count, len(by_error))).round().astype(int)
    return [by_error[place] for place in dict.fromkeys(places.tolist())]


def verdict(rows: Sequence[dict[str, object]]) -> dict[str, object]:
    """Compare by how much the searches' leakages of the samplers are too low, seed by seed."""
    theirs, ours = (np.array([row["too_low"] for row in rows if row["sampler"] == name]) for name in SAMPLERS)
    told = {
        name: "{:+.3f} +- {:.3f}".format(*interval(one)) for name, one in zip(SAMPLERS, (theirs, ours), strict=True)
    }
    more, half = interval(ours - theirs)
    word = "not paid for" if more <= half else "paid for by the estimate"
    return {**told, "difference": f"{word}: {more:+.3f} +- {half:.3f}"}


if __name__ == "__main__":
    main()
