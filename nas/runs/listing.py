"""What runs there are in a folder, and how far each is; one that cannot be read is listed with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optuna.trial import TrialState

from nas.base import errors
from nas.base import locks
from nas.runs.progress import count
from nas.runs.run import Run
from nas.runs.run import open_run
from nas.search.config import load_config
from nas.search.storage import lock_folder
from nas.search.storage import run_names


@dataclass(frozen=True, slots=True)
class Listed:
    """One run.

    Attributes:
        name: Name of its folder.
        state: `running` while a process of this machine works on it, `finished` when it has its candidates, `stopped`,
            or `damaged` if it cannot be read.
        trained: Candidates that were trained.
        wanted: Candidates that were asked for when it was last started.
        dataset: The data set.
        space: The search space.
        device: The device.
        objectives: The metrics that it minimises.
        problem: Why it cannot be read; None if it can.
    """

    name: str
    state: str
    trained: int | None = None
    wanted: int | None = None
    dataset: str | None = None
    space: str | None = None
    device: str | None = None
    objectives: tuple[str, ...] = ()
    problem: str | None = None


def list_runs(runs: Path) -> list[Listed]:
    """Describe every run in a folder, sorted by name. Nothing is changed; no module that a run names is imported."""
    return [_listed(name, runs) for name in run_names(runs)]


def _listed(name: str, runs: Path) -> Listed:
    try:
        run = open_run(str(runs / name), runs)
        config, now = run.config, load_config(runs / name / "config.toml", {})
        counts = count(run.study.get_trials(deepcopy=False))
        state = "running" if _is_running(run, now.storage) else "stopped"
    except errors.storage_lost(ValueError, OSError) as error:
        return Listed(name, "damaged", problem=errors.one_line(error))
    state = "finished" if state == "stopped" and counts.spent + 1 > now.trials else state
    return Listed(
        name, state, counts.trained, now.trials, config.dataset, config.space, config.device, tuple(config.objectives)
    )


def _is_running(run: Run, storage: str | None) -> bool:
    running = run.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if not running:
        return False
    folder = lock_folder(run.study, storage, run.folder)
    return any(locks.is_held(folder / f"trial-{trial.number}.lock") for trial in running)
