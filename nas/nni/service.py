"""The search as an NNI experiment: NNI starts the trainings, here or on other machines, and shows them on its page.

NNI runs in a process of its own (`nas.nni.manager`), with its files in the run's folder. That process ends NNI when
this one ends, however it ends.
"""

from __future__ import annotations

import os
import shlex
import signal
import site
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from typing import NoReturn

import optuna
import psutil
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from nas.base import files
from nas.base import plugins
from nas.base.clock import Clock
from nas.base.clock import since_start
from nas.base.processes import cores
from nas.nni import job
from nas.nni.check import check
from nas.nni.check import check_settings
from nas.search.plan import Plan
from nas.search.study import open_bench

LOG = "manager.log"
# NNI waits this long and longer for its own processes to end.
SECONDS_TO_STOP = 60
# What the home folder lent to NNI linked to once, for everybody who can read the run's folder.
OLD_LINKS = (".ssh", ".kube")


def work(plan: Plan, study: optuna.Study) -> None:
    """Search until the study has its trials; the same as `nas.search.study.work`, with NNI in charge of the trainings.

    Args:
        plan: The resolved settings; `workers` trainings run at a time.
        study: The study, shared with other workers.

    Raises:
        ValueError: If NNI cannot run here, or refuses the user's settings for it.
        ChildProcessError: If NNI failed, or trainings under it did; a later run goes on where this one stopped.
    """
    check()
    if plan.config.nni_config is not None:
        check_settings(plan.config.nni_config)
    folder = plan.folder.resolve() / "nni"
    if any(letter.isspace() for letter in str(folder)):
        raise ValueError(f"expected a run's folder without spaces, NNI does not quote it; got {str(folder)!r}")
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) >= plan.config.trials:
        return
    clock = Clock({"start-up": since_start()})
    open_bench(plan, study)  # trainings find the bank in the cache instead of building it all at once
    clock.lap("bank")
    files.append_json(plan.timings, clock.line(None))
    _prepare(plan, folder)
    with _manager(folder, plan.config.storage) as manager:
        manager.wait()
    _raise_complaint(folder, manager.returncode)


def _prepare(plan: Plan, folder: Path) -> None:
    """Write what NNI's processes need to know."""
    job.write(plan, folder)
    (folder / job.ENDED).unlink(missing_ok=True)
    for name in OLD_LINKS:
        if (folder / name).is_symlink():
            (folder / name).unlink()
    request = {
        "nni_config": None if plan.config.nni_config is None else str(plan.config.nni_config),
        "name": plan.config.name,
        "concurrency": plan.config.workers or cores(),
        "search_space": {name: _for_page(distribution) for name, distribution in plan.distributions.items()},
        "trial_command": shlex.join([sys.executable, "-m", "nas.nni.trial", *plugins.trusted()]),
    }
    files.write_json(folder / job.REQUEST, request)


def _for_page(distribution: BaseDistribution) -> dict[str, Any]:
    """Describe a parameter in NNI's words. They only draw the axes of its page: the study samples."""
    if isinstance(distribution, CategoricalDistribution):
        return {"_type": "choice", "_value": list(distribution.choices)}
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined] # int or float, as in `search`
    if isinstance(distribution, FloatDistribution):
        return {"_type": "loguniform" if distribution.log else "uniform", "_value": [low, high]}
    return {"_type": "randint", "_value": [low, high + 1]}


@contextmanager
def _manager(folder: Path, storage: str | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run NNI's manager for a block. It stops when the pipe to it closes, so it cannot outlive this process."""
    command = [sys.executable, "-m", "nas.nni.manager", str(folder)]
    with (folder / LOG).open("wb") as log, _ending_on_sigterm():
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=_environment(folder, storage),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _stop(process)


def _environment(folder: Path, storage: str | None) -> Mapping[str, str]:
    """NNI keeps a list of experiments in the home folder; give it another one, and the way back.

    The manager finds keys for other machines by that way (`nas.nni.manager`); there is a variable for the settings of
    Kubernetes.
    """
    home = {"HOME": str(folder), job.HOME: str(Path.home()), "PYTHONUSERBASE": site.getuserbase()}
    clusters = Path.home() / ".kube" / "config"
    kubernetes = {"KUBECONFIG": str(clusters)} if clusters.exists() else {}
    return {**kubernetes, **os.environ, **home, **({job.STORAGE: storage} if storage else {})}


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that NNI is stopped and not left behind."""

    def leave(_signal: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the manager to end NNI, and make sure that nothing of it is left."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) == process.pid:
                other.kill()
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue


def _raise_complaint(folder: Path, exit_code: int) -> None:
    ended = folder / job.ENDED
    lines = (folder / LOG).read_text(errors="replace").strip().splitlines() or ["without a word"]
    reason = ended.read_text() if ended.exists() else f"its manager ended with exit code {exit_code}: {lines[-1]}"
    if reason:
        raise ChildProcessError(f"NNI stopped: {reason}; its files are in {folder}, and the same command goes on")
