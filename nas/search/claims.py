"""Which process works on which trial: locks that die with their process, and trials taken up again."""

from __future__ import annotations

import copy
import time
from datetime import datetime
from functools import cache
from pathlib import Path

import optuna
from optuna.samplers import BaseGASampler
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from optuna.trial import create_trial

from nas.base import locks
from nas.search.plan import Plan
from nas.search.sampling import make_sampler
from nas.search.sampling import nothing_ran
from nas.search.storage import here
from nas.search.storage import lock_folder
from nas.search.storage_url import is_database

# How long a trial may take to say which candidate it is, before the others stop waiting for it.
SECONDS_TO_NAME_A_CANDIDATE = 60


def claim(plan: Plan, study: optuna.Study) -> tuple[Trial, locks.Lock] | None:
    """Claim a trial whose process is gone, else a new one unless enough are trained or under way.

    One process of a machine at a time: whoever starts a trial has its lock before another looks. A trial says where it
    runs from its first moment, so one whose process dies here is found.
    """
    with locks.held(_lock(plan, study, "claim")):
        claimed = _take_up(plan, study)
        if claimed is not None or spoken_for(study.get_trials(deepcopy=False)) >= plan.config.trials:
            return claimed
        if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):  # enqueued by the user
            study.ask().set_user_attr("host", here())
        else:
            study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"host": here()}))
        claimed = _take_up(plan, study)
    if claimed is not None and spoken_for(study.get_trials(deepcopy=False)[: claimed[0].number]) >= plan.config.trials:
        trial, lock = claimed  # another machine was faster
        trial.set_user_attr("rejected", "enough candidates are under way")
        study.tell(trial, state=TrialState.PRUNED)
        release(lock)
        return None
    return claimed


def _take_up(plan: Plan, study: optuna.Study) -> tuple[Trial, locks.Lock] | None:
    """Claim the first running trial that no live process holds."""
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _may_be_free(plan, frozen):
            continue
        lock = locks.take(_lock(plan, study, f"trial-{frozen.number}"), patient=False)
        if lock is None:
            continue
        if study.get_trials(deepcopy=False)[frozen.number].state == TrialState.RUNNING:
            return _trial(plan, study, frozen), lock
        release(lock)
    return None


def _trial(plan: Plan, study: optuna.Study, frozen: FrozenTrial) -> Trial:
    # A copy has no memory of which trials there were before: samplers would go on learning from those alone.
    fresh = copy.copy(study)
    blind = nothing_ran(plan, study, frozen.number)
    sampler = make_sampler(plan, frozen.number, nothing_ran=blind)
    if isinstance(sampler, BaseGASampler):
        # Whoever asks first for the parents of a generation is given them in another order than all who ask later.
        sampler.get_parent_population(fresh, sampler.get_trial_generation(fresh, frozen))
    fresh.sampler = sampler
    return Trial(fresh, frozen._trial_id)  # noqa: SLF001 - nothing else gives what the constructor takes


def _may_be_free(plan: Plan, frozen: FrozenTrial) -> bool:
    """Tell whether a lock that is free on this machine means that nobody works on a running trial."""
    host = frozen.user_attrs.get("host")
    if host is None:  # enqueued by the user, and just started, or its process died before it could say where
        return _known_for(frozen.number, frozen.datetime_start) > SECONDS_TO_NAME_A_CANDIDATE
    return not is_database(plan.config.storage) or bool(host == here())


def spoken_for(trials: list[FrozenTrial]) -> int:
    """Count the trials that are trained or under way."""
    return sum(trial.state in (TrialState.COMPLETE, TrialState.RUNNING) for trial in trials)


def _known_for(number: int, started: datetime | None) -> float:
    """Return for how many seconds this process has known of a trial; clocks of other machines may differ."""
    return time.monotonic() - _first_met(number, started)


@cache
def _first_met(_number: int, _started: datetime | None) -> float:
    return time.monotonic()


def first_with_key(study: optuna.Study, number: int, key: str) -> int | None:
    """Return the first earlier trial of the same candidate.

    Of two trials with one key the lower number trains it. For that to hold across processes, a trial waits until every
    earlier running one has said which candidate it is, or has had its time to.
    """
    while True:
        earlier = study.get_trials(deepcopy=False)[:number]
        for trial in earlier:
            if trial.user_attrs.get("key") == key and trial.state != TrialState.FAIL:
                return trial.number
        if not any(_is_choosing(trial) for trial in earlier):
            return None
        time.sleep(0.02)


def _is_choosing(trial: FrozenTrial) -> bool:
    if trial.state != TrialState.RUNNING or "key" in trial.user_attrs:
        return False
    return _known_for(trial.number, trial.datetime_start) < SECONDS_TO_NAME_A_CANDIDATE


def _lock(plan: Plan, study: optuna.Study, name: str) -> Path:
    return lock_folder(study, plan.config.storage, plan.folder) / f"{name}.lock"


def release(lock: locks.Lock) -> None:
    """Give a lock back and take its file away."""
    lock.path.unlink(missing_ok=True)
    lock.release()
