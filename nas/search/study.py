"""The search on an Optuna study: the only module that knows Optuna's Trial.

One candidate's way: `propose` samples until a candidate survives screening, `evaluate.assess` trains and attacks it,
`record` tells the study. Every engine uses these three; `work` is the plain loop over them.

What makes a killed search go on as if nothing had happened:

- A running trial is held by a lock that dies with its process. A trial whose lock is free is taken up again with the
  parameters it was sampled with, so no trial is lost and none is repeated.
- The sampler is made anew for each trial and each parameter from the run's seed, the trial's number and the parameter's
  name. It remembers nothing that the study does not, and a resumed study samples what an uninterrupted one would have.
- A candidate's training seed comes from the run's seed and the candidate's key.

A training that raises is another matter: its trial is told as failed, the error goes on to the caller, and a search
that is started again goes on with other candidates.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import optuna
import psutil
import torch
from filelock import FileLock
from filelock import Timeout
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import BaseGASampler
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from optuna.trial import create_trial
from torch import Tensor

from estimators.devices.fields import CannotRun
from estimators.estimate import Estimate
from nas.base import files
from nas.search.config import SearchConfig
from nas.search.plan import Plan
from nas.search.plan import over_budget
from nas.search.plan import price
from nas.search.storage import here
from nas.search.storage import is_database
from nas.search.storage import lock_folder
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.assess import train_teacher
from nas.training.bank import build_bank
from nas.training.bank import cached_logits
from nas.training.loop import Diverged
from nas.training.loop import TrainSetup
from nas.training.loop import plain_setup
from nas.training.loop import seed_from
from nas.training.loop import training_version
from search_spaces.graph.architecture import ParamValue

# Candidates refused in a row (over budget or seen before) after which a space counts as exhausted.
REFUSALS_IN_A_ROW = 500
CAN_RUN = "can_run"
"""Constraint of candidates that have an operator or bits that the device has no rule for."""
# How long a trial may take to say which candidate it is, before the others stop waiting for it.
SECONDS_TO_NAME_A_CANDIDATE = 60


@dataclass(frozen=True, eq=False)
class Proposal:
    """A candidate that survived screening, and the trial that stands for it; locked until it is recorded."""

    trial: Trial
    candidate: Candidate
    lock: FileLock


def make_sampler(config: SearchConfig, *where: int | str) -> BaseSampler:
    """Return a sampler whose random stream depends on the run's seed and on where it is used, and on nothing else."""
    seed = seed_from(config.seed, *where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        if config.sampler == "nsga2":
            # The default population of 50 is no better than random search for the first hundred trials.
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
        return optuna.samplers.RandomSampler(seed=seed)


def propose(plan: Plan, study: optuna.Study) -> Proposal | None:
    """Sample until a candidate survives screening; None when the study has its trials or the space has no more.

    Each refused candidate stays in the study as a pruned trial with its costs and the reason.
    """
    for _ in range(REFUSALS_IN_A_ROW):
        claimed = _claim(plan, study)
        if claimed is None:
            return None
        trial, lock = claimed
        candidate = plan.candidate(_suggest(plan, trial))
        trial.set_user_attr("key", candidate.key)
        refusal = _refusal(plan, study, trial, candidate)
        if refusal is None:
            return Proposal(trial, candidate, lock)
        reject(study, Proposal(trial, candidate, lock), refusal)
    return None


def record(plan: Plan, study: optuna.Study, proposal: Proposal, measures: Mapping[str, Estimate]) -> None:
    """Tell the study what a candidate's training and attack gave."""
    _note(plan, proposal.trial, measures)
    costs = price(plan, proposal.candidate.architecture)
    study.tell(proposal.trial, [{**costs, **measures}[name].value for name in plan.config.objectives])
    _release(proposal.lock)


def reject(study: optuna.Study, proposal: Proposal, reason: str) -> None:
    """Tell the study that a candidate was not trained to the end, and why: pruned, without invented values."""
    proposal.trial.set_user_attr("rejected", reason)
    study.tell(proposal.trial, state=TrialState.PRUNED)
    _release(proposal.lock)


def evaluate(plan: Plan, bench: Bench, candidate: Candidate) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Assess a candidate and keep its weights in the run's folder; returns measures and seconds by phase.

    Raises:
        nas.training.loop.Diverged: If its training diverged.
    """
    assessment = assess(candidate, bench)
    files.write_weights(weights_path(plan.folder, candidate.key), assessment.network)
    return dict(assessment.measures), dict(assessment.seconds)


def weights_path(folder: Path, key: str) -> Path:
    """File of a trained candidate's weights."""
    return folder / "models" / f"{key}.safetensors"


def work(plan: Plan, study: optuna.Study) -> None:
    """Search until the study has its trials: one worker, one thread of work; others may share the study."""
    clock = Clock(plan.folder)
    bench = make_bench(plan)
    clock.lap("bank")
    while proposal := propose(plan, study):
        clock.lap("sampling and screening")
        try:
            with failing(study, proposal):
                measures, seconds = evaluate(plan, bench, proposal.candidate)
        except Diverged as error:
            clock.lap("training")
            reject(study, proposal, f"diverged: {error}")
        else:
            clock.lap("saving", seconds)
            record(plan, study, proposal, measures)
            clock.lap("storage")
        clock.write(proposal.trial.number)
    clock.lap("sampling and screening")
    clock.write(None)


def make_bench(plan: Plan) -> Bench:
    """Build the reference bank, or fetch it, and put together what every candidate is measured with."""
    bank = build_bank(plan.bank, plan.cache_folder) if plan.needs_bank else None
    return Bench(
        data=plan.data,
        attack=plan.attack,
        bank=bank,
        defences=plan.defences,
        seed=plan.config.seed,
        teach=lambda setup: _cached_teacher(plan, setup),
    )


@contextmanager
def failing(study: optuna.Study, proposal: Proposal) -> Iterator[None]:
    """Tell the study that a trial failed if the block raises what is neither an outcome nor the machine's fault.

    A full disk or Ctrl-C says nothing about the candidate: its trial is taken up again, as after a kill. Any other
    error would come again, and the search would never get past it.

    Raises:
        RuntimeError: From that other error, whatever its type: it is a bug, not a mistake of the user's.
    """
    try:
        yield
    except Diverged:
        raise
    except (OSError, KeyboardInterrupt, SystemExit):
        proposal.lock.release()
        raise
    except BaseException as error:
        proposal.trial.set_user_attr("failed", f"{type(error).__name__}: {error}")
        study.tell(proposal.trial, state=TrialState.FAIL)
        _release(proposal.lock)
        raise RuntimeError(f"the training of trial {proposal.trial.number} failed: {error}") from error


class Clock:
    """Wall time of one worker by phase, appended to the run's `timings.jsonl` after each trial."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "timings.jsonl"
        started = time.time() - psutil.Process().create_time()
        self._seconds: dict[str, float] = {"start-up": started}
        self._since = time.perf_counter()

    def lap(self, phase: str, within: Mapping[str, float] | None = None) -> None:
        """Add the time since the last lap to a phase, less what is known to belong to others."""
        now = time.perf_counter()
        parts = dict(within or {})
        parts[phase] = now - self._since - sum(parts.values())
        for name, seconds in parts.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        self._since = now

    def write(self, trial: int | None) -> None:
        """Append the phases since the last call."""
        files.append_json(self._path, {"worker": os.getpid(), "trial": trial, "seconds": self._seconds})
        self._seconds = {}


def _claim(plan: Plan, study: optuna.Study) -> tuple[Trial, FileLock] | None:
    """Claim a trial whose process is gone, else a new one unless enough are trained or under way.

    One process of a machine at a time: whoever starts a trial has its lock before another looks. A trial says where it
    runs from its first moment, so one whose process dies here is found.
    """
    with _lock(plan, study, "claim"):
        claimed = _take_up(plan, study)
        if claimed is not None or _spoken_for(study.get_trials(deepcopy=False)) >= plan.config.trials:
            return claimed
        if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):  # enqueued by the user
            study.ask().set_user_attr("host", here())
        else:
            study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"host": here()}))
        claimed = _take_up(plan, study)
    if claimed is not None and _spoken_for(study.get_trials(deepcopy=False)[: claimed[0].number]) >= plan.config.trials:
        trial, lock = claimed  # another machine was faster
        trial.set_user_attr("rejected", "enough candidates are under way")
        study.tell(trial, state=TrialState.PRUNED)
        _release(lock)
        return None
    return claimed


def _take_up(plan: Plan, study: optuna.Study) -> tuple[Trial, FileLock] | None:
    """Claim the first running trial that no live process holds."""
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _may_be_free(plan, frozen):
            continue
        lock = _lock(plan, study, f"trial-{frozen.number}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        if study.get_trials(deepcopy=False)[frozen.number].state == TrialState.RUNNING:
            return _trial(plan, study, frozen), lock
        _release(lock)
    return None


def _trial(plan: Plan, study: optuna.Study, frozen: FrozenTrial) -> Trial:
    # A copy has no memory of which trials there were before: samplers would go on learning from those alone.
    fresh = copy.copy(study)
    sampler = make_sampler(plan.config, frozen.number)
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


def _spoken_for(trials: list[FrozenTrial]) -> int:
    return sum(trial.state in (TrialState.COMPLETE, TrialState.RUNNING) for trial in trials)


def _known_for(number: int, started: datetime | None) -> float:
    """Return for how many seconds this process has known of a trial; clocks of other machines may differ."""
    return time.monotonic() - _first_met(number, started)


@cache
def _first_met(_number: int, _started: datetime | None) -> float:
    return time.monotonic()


def _suggest(plan: Plan, trial: Trial) -> dict[str, ParamValue]:
    """Sample every parameter, or fetch those that a process sampled before it died.

    What is sampled jointly is sampled before anything is written, and the rest with a random stream for each parameter,
    so that it does not matter which of them are there already.
    """
    _ = trial.relative_params
    params = {}
    for name, distribution in plan.distributions.items():
        trial.study.sampler = make_sampler(plan.config, trial.number, name)
        params[name] = _suggest_one(trial, name, distribution)
    return params


def _suggest_one(trial: Trial, name: str, distribution: BaseDistribution) -> ParamValue:
    if isinstance(distribution, CategoricalDistribution):
        choice: ParamValue = trial.suggest_categorical(name, distribution.choices)
        return choice
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"no rule for {type(distribution).__name__}; there are categorical, int and float")


def _refusal(plan: Plan, study: optuna.Study, trial: Trial, candidate: Candidate) -> str | None:
    """Price a candidate and say why it is not to be trained, or None."""
    try:
        costs = price(plan, candidate.architecture)
    except CannotRun as error:
        # Nothing was priced; without a violated constraint samplers would take the trial for feasible.
        trial.set_constraint(CAN_RUN, 1.0)
        return f"cannot run on {plan.device.name}: {error}"
    _note(plan, trial, costs)
    if excess := over_budget(costs, plan.config.budgets):
        return f"over budget: {', '.join(excess)}"
    first = _first_with_key(study, trial.number, candidate.key)
    return None if first is None else f"duplicate of trial {first}"


def _first_with_key(study: optuna.Study, number: int, key: str) -> int | None:
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


def _note(plan: Plan, trial: Trial, estimates: Mapping[str, Estimate]) -> None:
    """Write numbers with their intervals to a trial and set the constraint of each that has a budget."""
    already = trial.constraints
    for name, estimate in estimates.items():
        trial.set_user_attr(name, estimate.value)
        if estimate.low < estimate.high:
            trial.set_user_attr(f"{name}_low", estimate.low)
            trial.set_user_attr(f"{name}_high", estimate.high)
        if name in plan.config.budgets and name not in already:
            trial.set_constraint(name, estimate.value - plan.config.budgets[name])


def _lock(plan: Plan, study: optuna.Study, name: str) -> FileLock:
    """Return a lock that the operating system frees when its process dies, however it dies."""
    return FileLock(lock_folder(study, plan.config.storage, plan.folder) / f"{name}.lock")


def _release(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _cached_teacher(plan: Plan, setup: TrainSetup) -> Tensor:
    """Return a teacher's logits, training it once per study: candidates that differ only in bits share theirs."""
    teacher = plan.teacher or Candidate(setup.architecture, setup.recipe)
    seed = seed_from(plan.config.seed, teacher.key)
    what = f"{plan.data.fingerprint} {teacher.key} {seed} {training_version()}"
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = plan.cache_folder / f"teacher-{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    training = plain_setup(teacher.architecture, setup.features, setup.targets, teacher.recipe, seed)
    with FileLock(path.with_suffix(".lock")):
        logits = cached_logits(path, lambda: train_teacher(training).cpu().numpy())
    return torch.from_numpy(logits).to(setup.features.device)
