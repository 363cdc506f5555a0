"""Which process works on which trial: locks that die with their process, and trials taken up again.

On one machine, and on a journal, a lock tells for certain whether a process is there. On a database a machine does not
see the locks of another one. There a trial whose machine gives no sign of life (`nas.search.signs`) is ended as failed,
and a new trial goes on with its parameters. Of all who want to end it the storage lets one succeed, and the process
that was silent, if it comes back, cannot write into its trial any more.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseGASampler
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from optuna.trial import create_trial

from nas.base import locks
from nas.search import signs
from nas.search.ledger import ledger_of
from nas.search.plan import Plan
from nas.search.sampling import sampler_of
from nas.search.sampling import usual_sampler
from nas.search.schema import BROKEN_OFF
from nas.search.schema import IN_PLACE_OF
from nas.search.schema import RUNGS
from nas.search.schema import given_to
from nas.search.storage import here
from nas.search.storage import lock_folder
from nas.search.storage_url import is_database

# How long a trial may take to say which candidate it is, before the others stop waiting for it.
SECONDS_TO_NAME_A_CANDIDATE = 60
SECONDS_BETWEEN_LOOKS = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """What keeps a trial for this process: a lock on this machine and, on a database, signs of life for the others."""

    lock: locks.Lock
    signs: signs.Signs | None

    def release(self) -> None:
        """Give the trial back, to be taken up again."""
        if self.signs is not None:
            self.signs.leave()
        self.lock.release()

    def end(self) -> None:
        """Leave an ended trial, and take its lock's file away."""
        if self.signs is not None:
            self.signs.stop()
        self.lock.path.unlink(missing_ok=True)
        self.lock.release()


def claim(plan: Plan, study: optuna.Study) -> tuple[Trial, Hold] | None:
    """Claim a trial whose process is gone, else a new one unless enough are trained or under way.

    One process of a machine at a time: whoever starts a trial has its lock before another looks. A trial says where it
    runs from its first moment, so one whose process dies here is found.
    """
    with locks.held(_lock(plan, study, "claim")):
        now = ledger_of(study)
        if _take_over_the_lost(plan, study, now.open):
            now = ledger_of(study)
        claimed = _take_up(plan, study, now.open)
        if claimed is not None or not now.has_room(plan.config.trials):
            return claimed
        if any(trial.state == TrialState.WAITING for trial in now.open):  # enqueued by the user
            study.ask().set_user_attr("host", here(plan.config.storage))
        else:
            study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"host": here(plan.config.storage)}))
        now = ledger_of(study)
        claimed = _take_up(plan, study, now.open)
    if claimed is not None and not now.has_room(plan.config.trials, before=claimed[0].number):
        trial, hold = claimed  # another machine was faster
        trial.set_user_attr("rejected", "enough candidates are under way")
        study.tell(trial, state=TrialState.PRUNED)
        hold.end()
        return None
    return claimed


def wait_for_others(plan: Plan, study: optuna.Study) -> bool:
    """Wait while the last candidates are trained on other machines; tell whether one of them came to nothing.

    Without it nobody would be left to take up what a machine does not bring to its end.
    """
    if ledger_of(study).has_room(plan.config.trials):
        return False  # the space has no more
    while True:
        now = ledger_of(study)
        theirs = [trial for trial in now.open if trial.state == TrialState.RUNNING and _is_elsewhere(plan, trial)]
        if now.has_room(plan.config.trials) or any(map(_is_lost, theirs)):
            return True
        if not theirs:
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _take_over_the_lost(plan: Plan, study: optuna.Study, trials: Sequence[FrozenTrial]) -> bool:
    """End each trial whose machine is silent, and start one of the same parameters, which is free for this machine.

    Args:
        plan: The search.
        study: Its study.
        trials: Those of it that have not finished.

    Returns:
        Whether there was one.
    """
    taken = False
    for frozen in trials:
        if not (_is_elsewhere(plan, frozen) and _is_lost(frozen)):
            continue
        try:
            # Read once more: this process may have been stopped itself since it looked.
            now = study._storage.get_trial(frozen._trial_id)  # noqa: SLF001 - study.trials reads all of them
            if not _is_lost(now) or not study._storage.set_trial_state_values(now._trial_id, TrialState.FAIL):  # noqa: SLF001
                continue
        except UpdateFinishedTrialError:  # it ended after all, or another machine was faster
            continue
        broken_off = now.user_attrs.get(BROKEN_OFF, [])
        if not signs.has_left(now):
            broken_off = [*broken_off, f"lost: {now.user_attrs['host']}"]
        decided = {name: now.user_attrs[name] for name in RUNGS if name in now.user_attrs}
        given = {IN_PLACE_OF: now.user_attrs.get(IN_PLACE_OF, now.number)} if given_to(study.user_attrs, now) else {}
        known = {**({BROKEN_OFF: broken_off} if broken_off else {}), **decided, **given}
        attrs = {"host": here(plan.config.storage), **known}
        again = create_trial(
            state=TrialState.RUNNING, params=now.params, distributions=now.distributions, user_attrs=attrs
        )
        study.add_trial(again)
        taken = True
    return taken


def _is_elsewhere(plan: Plan, frozen: FrozenTrial) -> bool:
    """Tell whether a running trial belongs to a machine whose locks this one does not see."""
    host, mine = frozen.user_attrs.get("host"), here(plan.config.storage)
    return is_database(plan.config.storage) and host is not None and host != mine


def _is_lost(frozen: FrozenTrial) -> bool:
    is_silent = signs.has_left(frozen) or signs.silence(frozen) > signs.SECONDS_OF_SILENCE
    return is_silent and frozen.state == TrialState.RUNNING


def _take_up(plan: Plan, study: optuna.Study, trials: Sequence[FrozenTrial]) -> tuple[Trial, Hold] | None:
    """Claim the first running trial that no live process holds, of those that have not finished."""
    for frozen in trials:
        if frozen.state != TrialState.RUNNING or not _may_be_free(plan, frozen):
            continue
        lock = locks.take(_lock(plan, study, f"trial-{frozen.number}"), patient=False)
        if lock is None:
            continue
        hold = Hold(lock, None)
        now = study._storage.get_trial(frozen._trial_id)  # noqa: SLF001 - study.trials reads all of them
        if now.state == TrialState.RUNNING:
            if is_database(plan.config.storage):
                hold = Hold(lock, signs.Signs(study._storage, frozen))  # noqa: SLF001 - a Trial would sample
            return _trial(plan, study, frozen), hold
        hold.end()
    return None


def _trial(plan: Plan, study: optuna.Study, frozen: FrozenTrial) -> Trial:
    # A copy has no memory of which trials there were before: samplers would go on learning from those alone.
    fresh = copy.copy(study)
    sampler = usual_sampler(plan, study, frozen)()
    if isinstance(sampler, BaseGASampler):  # a trial that is given its point belongs to a generation, too
        # Whoever asks first for the parents of a generation is given them in another order than all who ask later.
        sampler.get_parent_population(fresh, sampler.get_trial_generation(fresh, frozen))
    fresh.sampler = sampler_of(plan, study, frozen)()
    return Trial(fresh, frozen._trial_id)  # noqa: SLF001 - nothing else gives what the constructor takes


def _may_be_free(plan: Plan, frozen: FrozenTrial) -> bool:
    """Tell whether a lock that is free on this machine means that nobody works on a running trial."""
    host = frozen.user_attrs.get("host")
    if host is None:  # enqueued by the user, and just started, or its process died before it could say where
        return _known_for(frozen.number, frozen.datetime_start) > SECONDS_TO_NAME_A_CANDIDATE
    return not _is_elsewhere(plan, frozen)


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
        now = ledger_of(study)
        first = now.first_with_key(number, key)
        if first is not None or not any(_is_choosing(trial) for trial in now.open if trial.number < number):
            return first
        time.sleep(0.02)


def _is_choosing(trial: FrozenTrial) -> bool:
    if trial.state != TrialState.RUNNING or "key" in trial.user_attrs:
        return False
    return _known_for(trial.number, trial.datetime_start) < SECONDS_TO_NAME_A_CANDIDATE


def _lock(plan: Plan, study: optuna.Study, name: str) -> Path:
    return lock_folder(study, plan.config.storage, plan.folder) / f"{name}.lock"
