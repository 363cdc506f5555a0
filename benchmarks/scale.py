"""How many workers a search on PostgreSQL feeds, and how its time per trial grows with the study.

Trials sleep instead of train (`asleep.py`); all else is a search as users run it, on a PostgreSQL server that this
program starts and that waits for the disk as it does unless told otherwise.

*Workers*: 1, 4, 16 and 64 of them on one study. The time *between* two trials of a worker is what storage, sampler and
prices take, from the end of one sleep to the begin of the next; *share* is the throughput of one worker as a share of
that of a worker alone. How much that is depends on how long a trial takes; the sleep is as long as a short training.
All workers and the server share this machine's cores, which a hundred machines would not.

*Growth*: the same time at a study of 100 trials and of 10,000, measured in one process, and how long it takes to open
the study. CPU seconds are those of this process; the seconds on the clock hold the server's as well. The first
hundred trials are real ones. Those that fill the study up have random parameters and the figures of one of the hundred.

    python benchmarks/scale.py            # some two hours, most of it asleep; a row that is done is kept
    python benchmarks/scale.py --short    # half a minute: two workers, 60 trials
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import postgresql
from asleep import NAME
from asleep import SETTINGS
from asleep import Crew
from asleep import Task
from asleep import events
from asleep import figures_of
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from optuna.trial import create_trial
from report import write_results

from nas.base import files
from nas.search.bench import Evaluated
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.search.study import propose
from nas.search.study import record
from nas.spaces import sample

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "scale"
SAMPLERS = ("random", "tpe")
STORAGES = ("journal", "postgresql")
WORKERS, SECONDS, TRIALS_EACH = (1, 4, 16, 64), 60.0, 6
SIZES, MEASURED_TRIALS, SHORT_TRIALS = (100, 1000, 10_000), 15, 2
Row = dict[str, object]


def main(*, short: bool) -> None:
    """Measure, and print both tables in one."""
    postgresql.need_postgresql()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    workers, seconds, each = ((1, 2), 1.0, 2) if short else (WORKERS, SECONDS, TRIALS_EACH)
    sizes, samplers = ((12, 60), SAMPLERS) if short else (SIZES, SAMPLERS)
    rows: list[Row] = []
    for sampler in samplers[:1] if short else samplers:
        counts = [
            kept(f"workers {sampler} {count} {seconds} {each}", lambda c=count, s=sampler: [fed(c, s, seconds, each)])
            if not short
            else [fed(count, sampler, seconds, each)]
            for count in workers
        ]
        alone = float(str(counts[0][0]["between_s"]))
        rows += [row | {"share": (seconds + alone) / (seconds + float(str(row["between_s"])))} for (row,) in counts]
    for storage in STORAGES:
        found = (
            grown(storage, sizes, samplers, short=True)
            if short
            else kept(f"growth {storage} {sizes} {samplers}", lambda s=storage: grown(s, sizes, samplers))
        )
        rows += [row | {"times": _times(row, found)} for row in found]
    write_results("scale_short" if short else "scale", rows, seconds_per_trial=seconds)


def kept(what: str, measure: Callable[[], list[Row]]) -> list[Row]:
    """Measure, or read what was measured before."""
    digest = hashlib.sha256(f"{what} {json.dumps(SETTINGS)}".encode()).hexdigest()[:16]
    path = CACHE / f"{digest}.json"
    if not path.exists():
        found = measure()
        print(f"  {found}", flush=True)
        files.private_folder(CACHE)
        files.write_json(path, found)
    rows: list[Row] = files.read_json(path)
    return rows


def fed(workers: int, sampler: str, seconds: float, each: int) -> Row:
    """Let so many workers share a study, and return how long they are at work between two sleeps."""
    with tempfile.TemporaryDirectory(prefix="nas-scale-") as folder, postgresql.server(durable=True) as server:
        server.ask("postgres", f"CREATE DATABASE {NAME}")
        settings = {"trials": workers * (each + 1), "sampler": sampler, "storage": server.url(NAME)}
        task, crew = Task(Path(folder), settings, seconds), Crew()
        os.environ["XDG_CACHE_HOME"] = folder
        open_study(resolve(task.config, task.folder / "runs"))
        try:
            for number in range(workers):
                crew.start(str(number), task)
            for _, process in crew.members:
                process.join()
        finally:
            crew.stop()
        if any(process.exitcode for _, process in crew.members):
            raise RuntimeError("\n".join(path.read_text(encoding="utf-8") for path in Path(folder).glob("*.err")))
        between = list(_between(task.log))
    return {
        "what": "workers",
        "storage": "postgresql",
        "sampler": sampler,
        "workers": workers,
        "trials": len(between),
        "between_s": float(np.mean(between)),
    }


def _between(log: Path) -> Iterator[float]:
    """Return the seconds between the end of a sleep and the begin of the same worker's next."""
    ends: dict[str, float] = {}
    for event in events(log):
        if event["event"] == "end":
            ends[event["machine"]] = event["time"]
        elif event["machine"] in ends:
            yield event["time"] - ends[event["machine"]]


def grown(storage: str, sizes: tuple[int, ...], samplers: tuple[str, ...], *, short: bool = False) -> list[Row]:
    """Return how long a trial takes at each size of a study."""
    with tempfile.TemporaryDirectory(prefix="nas-scale-") as folder, postgresql.server(durable=not short) as server:
        os.environ["XDG_CACHE_HOME"] = folder
        server.ask("postgres", f"CREATE DATABASE {NAME}")
        url = None if storage == "journal" else server.url(NAME)
        settings = {"trials": 10 * max(sizes), "sampler": "random", "storage": url}
        plan = resolve(Task(Path(folder), settings, 0.0).config, Path(folder) / "runs")
        study = open_study(plan)
        search(plan, study, min(sizes))
        rows: list[Row] = []
        for size in sizes:
            fill(plan, study, size)
            begin, cpu = time.perf_counter(), time.process_time()
            opened = open_study(plan)
            opening = {"open_s": time.perf_counter() - begin, "open_cpu_s": time.process_time() - cpu}
            for sampler in samplers:
                with_it = replace(plan, config=plan.config.model_copy(update={"sampler": sampler}))
                clock, cpus = search(with_it, opened, SHORT_TRIALS if short else MEASURED_TRIALS)
                row = {"what": "growth", "storage": storage, "sampler": sampler, "trials": size}
                rows.append(row | {"between_s": clock, "cpu_s": cpus, **opening})
    return rows


def search(plan: Plan, study: optuna.Study, trials: int) -> tuple[float, float]:
    """Propose and record so many trials; return the median seconds, and CPU seconds, of each."""
    clocks, cpus = [], []
    for _ in range(trials):
        begin, cpu = time.perf_counter(), time.process_time()
        proposal = propose(plan, study)
        if proposal is None:
            raise RuntimeError("the search proposes nothing")
        key = proposal.candidate.key
        record(plan, study, proposal, Evaluated(figures_of(key), {}, hashlib.sha256(key.encode()).hexdigest()))
        clocks.append(time.perf_counter() - begin)
        cpus.append(time.process_time() - cpu)
    return float(np.median(clocks)), float(np.median(cpus))


def fill(plan: Plan, study: optuna.Study, size: int) -> None:
    """Add trials of random parameters and of other trials' figures until there are so many."""
    rng = np.random.default_rng(size)
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    study.add_trials(_like(plan, complete[rng.integers(len(complete))], rng) for _ in range(size - len(trials)))


def _like(plan: Plan, trial: FrozenTrial, rng: np.random.Generator) -> FrozenTrial:
    key = rng.bytes(8).hex()
    figures = {name: estimate.value for name, estimate in figures_of(key).items()}
    attrs = trial.user_attrs | {"key": key} | figures
    return create_trial(
        params=sample(plan.distributions, rng),
        distributions=dict(plan.distributions),
        values=[float(attrs[name]) for name in plan.config.objectives],
        user_attrs=attrs,
        system_attrs=trial.system_attrs,
    )


def _times(row: Row, rows: list[Row]) -> float:
    """Return how many times as long a trial takes as in the smallest study, by CPU time."""
    same = [one for one in rows if one["sampler"] == row["sampler"]]
    return float(str(row["cpu_s"])) / float(str(same[0]["cpu_s"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    main(short=parser.parse_args().short)
