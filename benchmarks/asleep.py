"""Workers of a search whose trials sleep instead of train: what is left is the work of storage, sampler and prices.

Each worker is a process of its own and a machine of its own: it has its own cache folder, so it sees no lock of another
one (`nas.search.storage.here`). All are forked from one process that has imported the search and done nothing else, so
they share its memory and start at once; 64 that import PyTorch each would need minutes and tens of gigabytes. What a
worker does is what one process of `nas worker` does: it reads the settings, opens the study, and calls `work`.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna

from estimators.estimate import Estimate
from nas.search import claims
from nas.search import outages
from nas.search import signs
from nas.search.bench import Evaluated
from nas.search.config import SearchConfig
from nas.search.config import parse_config
from nas.search.outages import patiently
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.search.study import Proposal
from nas.search.study import work
from nas.training.assess import MEASURED

NAME = "asleep"
# A search over a small data set: nothing of it is trained but the quick models that tell what its records are worth.
SETTINGS = {"name": NAME, "space": "mlp", "members": 120, "references": 2, "workers": 1, "error_ceiling": False}


@dataclass(frozen=True)
class Task:
    """What all workers of one search have in common.

    Attributes:
        folder: Where they keep their caches and their log.
        settings: The search's, with its storage.
        seconds: How long a trial sleeps at the mean; each sleeps from half to one and a half of it, by its key.
        between_signs: Seconds between two signs of life; None: as users have it.
        silence: Seconds after which a silent machine loses its trial; None: as users have it.
    """

    folder: Path
    settings: Mapping[str, Any]
    seconds: float
    between_signs: float | None = None
    silence: float | None = None

    @property
    def log(self) -> Path:
        """The file that each evaluation appends to."""
        return self.folder / "log.jsonl"

    @property
    def config(self) -> SearchConfig:
        """The settings of the search."""
        return parse_config({**SETTINGS, **self.settings})


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nas.search.study"])  # not this module: Python 3.11 would not find it there
    return context


@dataclass(frozen=True)
class Crew:
    """The workers of a search, dead ones too.

    Attributes:
        context: Forks them.
        members: Machine and process of each.
    """

    context: ForkServerContext = field(default_factory=_context)
    members: list[tuple[str, BaseProcess]] = field(default_factory=list)

    def start(self, machine: str, task: Task) -> BaseProcess:
        """Start a worker on a machine."""
        process = self.context.Process(target=worker, args=(task, machine), daemon=True)
        process.start()
        self.members.append((machine, process))
        return process

    def at_work(self) -> list[tuple[str, BaseProcess]]:
        """Return those that have not ended."""
        return [(machine, process) for machine, process in self.members if process.is_alive()]

    def stop(self) -> None:
        """Kill what is left."""
        for _, process in self.members:
            process.kill()
            process.join()


def worker(task: Task, machine: str) -> None:
    """Work on a search until it has its trials; run in a process of its own."""
    os.environ["XDG_CACHE_HOME"] = str(task.folder / machine)
    sys.stderr = (task.folder / f"{machine}.err").open("a", buffering=1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if task.between_signs is not None and task.silence is not None:
        signs.SECONDS_BETWEEN_SIGNS, signs.SECONDS_OF_SILENCE = task.between_signs, task.silence
        claims.SECONDS_TO_NAME_A_CANDIDATE = task.silence
        claims.SECONDS_BETWEEN_LOOKS = outages.SECONDS_BETWEEN_TRIES = task.between_signs
    plan = resolve(task.config, task.folder / machine / "runs")
    work(plan, patiently(partial(open_study, plan)), partial(sleep, task, machine))


def sleep(task: Task, machine: str, proposal: Proposal) -> Evaluated:
    """Sleep in place of a training, and note when that began and ended."""
    key = proposal.candidate.key
    digest = hashlib.sha256(key.encode()).digest()
    _note(task.log, "begin", machine, key)
    time.sleep(task.seconds * (0.5 + digest[0] / 255))
    _note(task.log, "end", machine, key)
    return Evaluated(figures_of(key), {"training": task.seconds}, digest.hex())


def figures_of(key: str) -> dict[str, Estimate]:
    """Return numbers between 0 and 1 that follow from a key, in place of what a training measures."""
    digests = {name: hashlib.sha256(f"{name} {key}".encode()).digest()[0] / 255 for name in MEASURED}
    return {name: Estimate(value, 0.0, 1.0) for name, value in digests.items()}


def events(log: Path) -> list[dict[str, Any]]:
    """Return what evaluations noted: what happened, on which machine, to which key, and when."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def _note(log: Path, event: str, machine: str, key: str) -> None:
    line = json.dumps({"event": event, "machine": machine, "key": key, "time": time.time()}) + "\n"
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())  # in one piece: processes are killed at any moment
    finally:
        os.close(handle)
