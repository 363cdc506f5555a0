"""What the tests share: one thread, the command line in process, one small run trained once."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from nas import cli
from nas.base.plugins import TRUSTED
from nas.base.plugins import trust
from nas.deploy.timing import time_models
from nas.search import workers
from nas.search.plan import resolve
from nas.search.storage import open_study
from tests import two_exits
from tests.small_search import SMALL
from tests.small_search import snapshot

os.environ["COLUMNS"] = "140"
trust(two_exits.NAME)
torch.set_num_threads(1)

# On a busy machine `nas measure` refuses, as it should: a test of what it prints must not depend on the load.
time_at_any_load = partial(time_models, drift_limit=math.inf)


@dataclass(frozen=True)
class Result:
    """What a command left on its streams, and its exit code."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Run:
    """A finished search: the folder of all runs, the run's name, and what `nas search --json` printed."""

    runs: Path
    name: str
    printed: str

    @property
    def folder(self) -> Path:
        return self.runs / self.name


def command_line(*arguments: object) -> Result:
    """Run `nas` in this process; what it does not turn into an exit code comes through."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        patch.setenv(TRUSTED, os.environ.get(TRUSTED, ""))  # what one command trusts, the next does not
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            logging.captureWarnings(capture=False)
    return Result(code, out.getvalue(), err.getvalue())


def work_here(config, runs, look):
    """Stand in for the worker processes: the same work, in this one."""
    plan = resolve(config, runs)
    workers.engine(config.engine)(plan, open_study(plan))
    look()


@pytest.fixture(scope="session")
def nas() -> Callable[..., Result]:
    """The command line as a function: arguments in, exit code and both streams out."""
    return command_line


@pytest.fixture
def in_process(monkeypatch):
    """Let `nas search` train in this process."""
    monkeypatch.setattr("nas.search.workers.run", work_here)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the project; tests that need it are skipped where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the real data sets in {path.parent.name}/{path.name} beside the project")
    return path


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory) -> Run:
    """A real search of five candidates, made by the command line once; not to be changed (see `own_run`)."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.workers.run", work_here)
        result = command_line("search", *SMALL, "--name", "small", "--json", "--runs", runs)
    assert result.code == 0, result.err
    return Run(runs, "small", result.out)


@pytest.fixture
def own_run(trained_run, tmp_path) -> Run:
    """A copy of `trained_run` that a test may change."""
    runs = shutil.copytree(trained_run.runs, tmp_path / "runs")
    return Run(runs, trained_run.name, trained_run.printed)


@pytest.fixture
def no_training(monkeypatch):
    """Fail a test in which anything is trained or a worker started."""

    def fail(*_):
        raise AssertionError("a training was started")

    for place in (
        "nas.search.workers.run",
        "nas.search.bench.train_teacher",
        "nas.training.bank.train",
        "nas.search.bench.assess",
    ):
        monkeypatch.setattr(place, fail)


@pytest.fixture
def interrupted(monkeypatch):
    """Press Ctrl-C where the workers would start, and keep the settings they were to get."""
    seen = []

    def stop(config, *_):
        seen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.search.workers.run", stop)
    return seen


@pytest.fixture
def refused(nas, tmp_path, no_training):
    """Run a command that must be refused; returns its one line."""

    def run(*arguments, runs=tmp_path / "runs"):
        before = snapshot(tmp_path)
        result = nas(*arguments, "--runs", runs)
        assert (result.code, result.out) == (2, "")
        assert re.fullmatch(r"nas: [^\n]+\n", result.err)
        assert snapshot(tmp_path) == before
        return result.err[len("nas: ") : -1]

    return run


@pytest.fixture
def picked(nas, own_run):
    """Pick from a run of one's own; returns what was printed as JSON."""

    def pick(*flags):
        result = nas("pick", "small", *flags, "--json", "--runs", own_run.runs)
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)

    return pick
