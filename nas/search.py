"""The search on an Optuna study: the only module that knows Optuna's Trial.

One candidate's way: `propose` samples until a candidate survives screening, `evaluate.assess` trains and attacks it,
`record` tells the study. Every engine uses these three; `work` is the plain loop over them.

What makes a killed search go on as if nothing had happened:

- A running trial is held by a lock that dies with its process. A trial whose lock is free is taken up again with the
  parameters it was sampled with, so no trial is lost and none is repeated.
- The sampler is made anew for each trial from the run's seed and the number of trials so far. It remembers nothing
  that the study does not, and a resumed study samples what an uninterrupted one would have.
- A candidate's training seed comes from the run's seed and the candidate's key.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
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
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from torch import Tensor

from estimators.estimate import Estimate
from nas import files
from nas.bank import build_bank
from nas.bank import code_version
from nas.config import SearchConfig
from nas.evaluate import Bench
from nas.evaluate import Candidate
from nas.evaluate import assess
from nas.evaluate import train_teacher
from nas.plan import Plan
from nas.plan import over_budget
from nas.plan import price
from nas.storage import identity
from nas.training import Diverged
from nas.training import TrainSetup
from nas.training import plain_setup
from nas.training import seed_from
from search_spaces.graph import ParamValue

# Candidates refused in a row (over budget or seen before) after which a space counts as exhausted.
REFUSALS_IN_A_ROW = 500
# How long a trial may take to say which candidate it is, before the others stop waiting for it.
SECONDS_TO_NAME_A_CANDIDATE = 60


@dataclass(frozen=True, eq=False)
class Proposal:
    """A candidate that survived screening, and the trial that stands for it; locked until it is recorded."""

    trial: Trial
    candidate: Candidate
    lock: FileLock


def make_sampler(config: SearchConfig, trials: int) -> BaseSampler:
    """Return the sampler for one trial. Its random stream depends on the run's seed and the number of trials alone."""
    seed = seed_from(config.seed, trials)
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
        claimed = _take_up(plan, study) or _ask(plan, study)
        if claimed is None:
            return None
        trial, lock = claimed
        candidate = plan.candidate(_suggest(trial, plan.distributions))
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
        nas.training.Diverged: If its training diverged.
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


def is_held(plan: Plan, trial: FrozenTrial) -> bool:
    """Tell whether a live process works on a running trial; trials of other machines count as held."""
    if trial.user_attrs.get("host", socket.gethostname()) != socket.gethostname():
        return True
    lock = _lock(plan, trial.number)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


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


def _ask(plan: Plan, study: optuna.Study) -> tuple[Trial, FileLock] | None:
    """Start a new trial unless enough are trained or under way."""
    trials = study.get_trials(deepcopy=False)
    spoken_for = sum(trial.state in (TrialState.COMPLETE, TrialState.RUNNING) for trial in trials)
    if spoken_for >= plan.config.trials:
        return None
    study.sampler = make_sampler(plan.config, len(trials))
    trial = study.ask()
    lock = _lock(plan, trial.number)
    lock.acquire(timeout=0)
    trial.set_user_attr("host", socket.gethostname())
    return trial, lock


def _take_up(plan: Plan, study: optuna.Study) -> tuple[Trial, FileLock] | None:
    """Claim a trial of this machine whose process is gone."""
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_ours(frozen):
            continue
        lock = _lock(plan, frozen.number)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        study.sampler = make_sampler(plan.config, frozen.number)
        trial = Trial(study, frozen._trial_id)  # noqa: SLF001 - the constructor takes the id and nothing else gives it
        if study.get_trials(deepcopy=False)[frozen.number].state == TrialState.RUNNING:
            return trial, lock
        _release(lock)
    return None


def _is_ours(frozen: FrozenTrial) -> bool:
    """Tell whether a running trial was started on this machine, or died before it could say where."""
    host = frozen.user_attrs.get("host")
    started = frozen.datetime_start
    if host is None and started is not None:
        return (datetime.now(started.tzinfo) - started).total_seconds() > SECONDS_TO_NAME_A_CANDIDATE
    return bool(host == socket.gethostname())


def _suggest(trial: Trial, distributions: Mapping[str, BaseDistribution]) -> dict[str, ParamValue]:
    return {name: _suggest_one(trial, name, distribution) for name, distribution in distributions.items()}


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
    costs = price(plan, candidate.architecture)
    _note(plan, trial, costs)
    if excess := over_budget(costs, plan.config.budgets):
        return f"over budget: {', '.join(excess)}"
    first = _first_with_key(study, trial.number, candidate.key)
    return None if first is None else f"duplicate of trial {first}"


def _first_with_key(study: optuna.Study, number: int, key: str) -> int | None:
    """Return the first earlier trial of the same candidate.

    Of two trials with one key the lower number trains it. For that to hold across processes, a trial waits until every
    earlier running one has said which candidate it is.
    """
    give_up = time.monotonic() + SECONDS_TO_NAME_A_CANDIDATE
    while True:
        earlier = study.get_trials(deepcopy=False)[:number]
        for trial in earlier:
            if trial.user_attrs.get("key") == key and trial.state != TrialState.FAIL:
                return trial.number
        unnamed = any(trial.state == TrialState.RUNNING and "key" not in trial.user_attrs for trial in earlier)
        if not unnamed or time.monotonic() > give_up:
            return None
        time.sleep(0.02)


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


def _lock(plan: Plan, number: int) -> FileLock:
    """Return the lock that a process holds while it works on a trial.

    It lies in the machine's temporary folder, not in the run's, because two processes of one machine may work on one
    study from different folders. The operating system frees it when its process dies, however it dies.
    """
    study = hashlib.sha256(f"{identity(plan.config.storage, plan.folder)}\x1f{plan.config.name}".encode()).hexdigest()[
        :16
    ]
    folder = Path(tempfile.gettempdir()) / f"gecko-nas-{getpass.getuser()}" / study
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"trial-{number}.lock")


def _release(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _cached_teacher(plan: Plan, setup: TrainSetup) -> Tensor:
    """Return a teacher's logits, training it once per study: candidates that differ only in bits share theirs."""
    teacher = plan.teacher or Candidate(setup.architecture, setup.recipe)
    seed = seed_from(plan.config.seed, teacher.key)
    name = hashlib.sha256(f"{plan.data.fingerprint} {teacher.key} {seed} {code_version()}".encode()).hexdigest()[:16]
    path = plan.cache_folder / f"teacher-{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            training = plain_setup(teacher.architecture, setup.features, setup.targets, teacher.recipe, seed)
            files.write_arrays(path, logits=train_teacher(training).cpu().numpy())
    return torch.from_numpy(files.read_array(path, "logits")).to(setup.features.device)
