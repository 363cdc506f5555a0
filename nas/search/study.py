"""The search on an Optuna study: the only module that knows Optuna's Trial.

One candidate's way: `propose` samples until a candidate survives screening, `evaluate.assess` trains and attacks it,
`record` tells the study. Every engine uses these three; `work` is the plain loop over them.

What makes a killed search go on as if nothing had happened:

- A running trial is held by a lock that dies with its process. A trial whose lock is free is taken up again with the
  parameters it was sampled with, so no trial is lost and none is repeated.
- The sampler is made anew for each trial and each parameter from the run's seed, the trial's number and the parameter's
  name. It remembers nothing that the study does not, and a resumed study samples what an uninterrupted one would have.
- A candidate's training seed comes from the run's seed and the candidate's key.

A training that does not get its memory says nothing about the candidate, the first time: its trial is taken up again,
here or by another process. After the second time it is rejected, or the search would never get past it. The same holds
for a training whose process died of a signal: whoever started that process notes it (`note_death`). A process that
ends together with the one that started it leaves no note: a power failure or `kill -9` of a search counts for nothing.

A training that raises is another matter: its trial is told as failed, the error goes on to the caller, and a search
that is started again goes on with other candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from functools import partial

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial
from optuna.trial import TrialState

from estimators.devices.fields import CannotRun
from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.estimate import number_in
from estimators.estimate import number_of
from nas.base import files
from nas.base import memory
from nas.base.clock import Clock
from nas.base.clock import since_start
from nas.base.errors import storage_lost
from nas.pricing.limits import over
from nas.search.bench import Evaluated
from nas.search.bench import evaluate
from nas.search.bench import looked_up
from nas.search.bench import make_bench
from nas.search.claims import Hold
from nas.search.claims import claim
from nas.search.claims import first_with_key
from nas.search.claims import wait_for_others
from nas.search.config import BY_RUNGS
from nas.search.config import PARENTS
from nas.search.config import SUPERNET
from nas.search.ledger import DUPLICATE
from nas.search.outages import patiently
from nas.search.parents import start_of
from nas.search.plan import Plan
from nas.search.rungs import Rung
from nas.search.rungs import Stopped
from nas.search.rungs import reason_in
from nas.search.rungs import row_of
from nas.search.rungs import rungs_of
from nas.search.sampling import suggest
from nas.search.schema import BETWEEN
from nas.search.schema import BROKEN_OFF
from nas.search.schema import CAN_RUN
from nas.search.schema import DEFENCE_PARAMETERS
from nas.search.schema import EXITS
from nas.search.schema import INHERITED
from nas.search.schema import NEVER_PREDICTED
from nas.search.schema import PREDICTED
from nas.search.schema import WEIGHTS
from nas.search.schema import inherited_in
from nas.search.schema import limits_of
from nas.search.supernet import screen_of
from nas.training.assess import Assessment
from nas.training.assess import Begin
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import Looks
from nas.training.loop import Diverged
from nas.training.loop import TrainSetup

# Candidates refused in a row (over budget or seen before) after which a space counts as exhausted.
REFUSALS_IN_A_ROW = 500
TRIES = 2
"""Trainings of one candidate that may break off, for want of memory or with their process, before it is rejected."""
DEATHS_IN_A_ROW = 10
"""Processes that may die one after the other, nothing trained in between, before a search is given up."""
ENDED = "its trial has ended"
log = logging.getLogger("nas")


class OutOfMemory(Exception):  # noqa: N818 - an outcome, as Diverged is
    """A training did not get its memory; the study knows of it, and the search goes on."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A candidate that survived screening, and the trial that stands for it; held until it is recorded."""

    trial: Trial
    candidate: Candidate
    hold: Hold


def propose(plan: Plan, study: optuna.Study) -> Proposal | None:
    """Sample until a candidate survives screening; None when the study has its trials or the space has no more.

    Each refused candidate stays in the study as a pruned trial with its costs and the reason.
    """
    for _ in range(REFUSALS_IN_A_ROW):
        ended, proposal = patiently(partial(_propose_once, plan, study))
        if ended or proposal is not None:
            return proposal
    return None


def _propose_once(plan: Plan, study: optuna.Study) -> tuple[bool, Proposal | None]:
    """Claim one trial and screen its candidate; also tell whether there is no trial to claim."""
    claimed = claim(plan, study)
    if claimed is None:
        return True, None
    trial, hold = claimed
    plan.notice(trial.number)
    with _unless_given_away(trial, hold):
        return False, _screened(plan, study, trial, hold)
    return False, None


def _screened(plan: Plan, study: optuna.Study, trial: Trial, hold: Hold) -> Proposal | None:
    """Sample a claimed trial and screen its candidate; None if it was refused, which the study has been told."""
    if given_up := reason_in(trial.user_attrs) or _given_up(trial.user_attrs.get(BROKEN_OFF, [])):
        _prune(study, trial, hold, given_up)
        return None
    candidate = plan.candidate(suggest(plan, trial))
    trial.set_user_attr("key", candidate.key)
    if candidate.defence_parameters:
        trial.set_user_attr(DEFENCE_PARAMETERS, dict(candidate.defence_parameters))
    refusal = _refusal(plan, study, trial, candidate)
    if refusal is None:
        return Proposal(trial, candidate, hold)
    _prune(study, trial, hold, refusal)
    return None


def proposals(plan: Plan, study: optuna.Study) -> Iterator[Proposal]:
    """Propose until the study has its trials and no other machine has one under way that may come to nothing."""
    while True:
        while proposal := propose(plan, study):
            yield proposal
        if not patiently(partial(wait_for_others, plan, study)):
            return


def record(plan: Plan, study: optuna.Study, proposal: Proposal, evaluated: Evaluated) -> None:
    """Tell the study what a candidate's training and attack gave, and which weights were measured.

    If its trial was given to another machine in the meantime, that is dropped: the other one tells.
    """
    with _unless_given_away(proposal.trial, proposal.hold):
        patiently(partial(_record, plan, study, proposal, evaluated))


def _record(plan: Plan, study: optuna.Study, proposal: Proposal, evaluated: Evaluated) -> None:
    measures = dict(evaluated.measures)
    if by_exit := plan.by_exit(proposal.candidate, evaluated.exits):
        measures |= by_exit.means
        if len(by_exit.rows) > 1:
            proposal.trial.set_user_attr(EXITS, by_exit.rows)
    _note(study, proposal.trial, measures)
    if evaluated.weights is not None:
        proposal.trial.set_user_attr(WEIGHTS, evaluated.weights)
    if evaluated.never_predicted:
        proposal.trial.set_user_attr(NEVER_PREDICTED, list(evaluated.never_predicted))
    numbers = proposal.trial.user_attrs  # its costs among them, since it was screened
    _tell(study, proposal.trial, [number_in(numbers, name) for name in plan.config.objectives])
    proposal.hold.end()


def reject(study: optuna.Study, proposal: Proposal, reason: str) -> None:
    """Tell the study that a candidate was not trained to the end, and why: pruned, without invented values."""
    with _unless_given_away(proposal.trial, proposal.hold):
        patiently(partial(_prune, study, proposal.trial, proposal.hold, reason))


def fail(study: optuna.Study, proposal: Proposal, reason: str) -> None:
    """Tell the study that a candidate's training raised an error: a bug, not an outcome."""
    with _unless_given_away(proposal.trial, proposal.hold):
        patiently(partial(_fail, study, proposal, reason))


def _fail(study: optuna.Study, proposal: Proposal, reason: str) -> None:
    proposal.trial.set_user_attr("failed", reason)
    _tell(study, proposal.trial, state=TrialState.FAIL)
    proposal.hold.end()


def break_off(study: optuna.Study, proposal: Proposal, reason: str) -> None:
    """Note that a training broke off: its trial is taken up again, or rejected if that was the last try.

    The tries are counted in the trial, so that other processes and later runs count on.

    Args:
        study: The study.
        proposal: What was trained.
        reason: What kind of end it was, and which: `out of memory: ...` or `died: SIGSEGV`.
    """
    broken_off = [*proposal.trial.user_attrs.get(BROKEN_OFF, []), reason]
    with _unless_given_away(proposal.trial, proposal.hold):
        patiently(partial(_break_off, study, proposal, broken_off))


def _break_off(study: optuna.Study, proposal: Proposal, broken_off: Sequence[str]) -> None:
    proposal.trial.set_user_attr(BROKEN_OFF, broken_off)
    if given_up := _given_up(broken_off):
        _prune(study, proposal.trial, proposal.hold, given_up)
    else:
        proposal.hold.release()


def note_death(study: optuna.Study, number: int, name: str) -> bool:
    """Note that the process that worked on a trial died of a signal; whoever takes the trial up tries again or rejects.

    Args:
        study: The study.
        number: The trial's number.
        name: The signal's name.

    Returns:
        Whether the trial was under way. If it had ended before, the process did not die of it.
    """
    trial = study.get_trials(deepcopy=False)[number]
    if trial.state != TrialState.RUNNING:
        return False
    broken_off = [*trial.user_attrs.get(BROKEN_OFF, []), f"died: {name}"]
    try:
        # Not by an Optuna Trial: to make one of a trial under way would sample for it.
        study._storage.set_trial_user_attr(trial._trial_id, BROKEN_OFF, broken_off)  # noqa: SLF001
    except UpdateFinishedTrialError:  # another process took it up at once, and was faster
        return False
    return True


def work(plan: Plan, study: optuna.Study, evaluator: Callable[[Proposal], Evaluated] | None = None) -> None:
    """Search until the study has its trials: one worker, one thread of work; others may share the study.

    Args:
        plan: The search.
        study: Its study.
        evaluator: Gives a candidate's figures; None: its training and attack, or the plan's table.
    """
    clock = Clock({"start-up": since_start()})
    evaluated_by = evaluator or patiently(partial(_evaluator, plan, study))
    clock.lap("bank")
    for proposal in proposals(plan, study):
        clock.lap("sampling and screening")
        try:
            with failing(study, proposal):
                evaluated = evaluated_by(proposal)
        except Diverged as error:
            clock.lap("training")
            reject(study, proposal, f"diverged: {error}")
        except Stopped as error:
            clock.lap("training")
            reject(study, proposal, str(error))
        except OutOfMemory:
            clock.lap("training")
            memory.free()
        else:
            clock.lap("saving", evaluated.seconds)
            record(plan, study, proposal, evaluated)
            clock.lap("storage")
        files.append_json(plan.timings, clock.line(proposal.trial.number))
    clock.lap("sampling and screening")
    files.append_json(plan.timings, clock.line(None))


def _evaluator(plan: Plan, study: optuna.Study) -> Callable[[Proposal], Evaluated]:
    """Return what gives a candidate's figures: its training and attack, or the plan's table."""
    table = plan.table
    if table is not None:
        return lambda proposal: looked_up(table, proposal.candidate)
    bench = open_bench(plan, study)
    evaluated = _trained_by(plan, study, bench)
    return evaluated if SUPERNET not in plan.config.like else _predicted_first(plan, bench, evaluated)


def _trained_by(plan: Plan, study: optuna.Study, bench: Bench) -> Callable[[Proposal], Evaluated]:
    """Return what trains and attacks a candidate."""
    if plan.config.inherit == PARENTS:
        return lambda proposal: evaluate(plan, bench, proposal.candidate, begin=begin_at(plan, study, proposal))
    if plan.config.fidelity == BY_RUNGS:
        return lambda proposal: evaluate(plan, bench, proposal.candidate, looks_at(plan, study, proposal))
    return lambda proposal: evaluate(plan, bench, proposal.candidate)


def _predicted_first(
    plan: Plan, bench: Bench, evaluated: Callable[[Proposal], Evaluated]
) -> Callable[[Proposal], Evaluated]:
    """Let a super-network predict each candidate before its training, and write that down apart from its figures."""
    screen = screen_of(plan, bench)

    def predicted(proposal: Proposal) -> Evaluated:
        found = screen.predict(proposal.candidate.architecture)
        for measure, name in PREDICTED.items() if found else ():
            try:
                patiently(partial(proposal.trial.set_user_attr, name, getattr(found, measure)))
            except UpdateFinishedTrialError:
                raise Stopped(ENDED) from None
        return evaluated(proposal)

    return predicted


def begin_at(plan: Plan, study: optuna.Study, proposal: Proposal) -> Begin:
    """Return what lets a candidate's training start from the weights of an earlier one, and writes down from whose."""

    def begin(setup: TrainSetup) -> TrainSetup:
        known = inherited_in(proposal.trial.user_attrs)
        start = patiently(partial(start_of, plan, study, proposal.candidate, setup, known))
        try:
            patiently(partial(proposal.trial.set_user_attr, INHERITED, start.row.model_dump()))
        except UpdateFinishedTrialError:
            raise Stopped(ENDED) from None
        return setup if start.begin is None else start.begin(setup)

    return begin


def looks_at(plan: Plan, study: optuna.Study, proposal: Proposal) -> Looks:
    """Return the looks at a candidate's training, which end it at the first rung where it is not among the best.

    What was decided before its training was broken off stays decided.
    """
    decided = proposal.trial.user_attrs
    rungs = {rung.epochs: rung for rung in rungs_of(proposal.candidate) if rung.name not in decided}

    def judge(epochs: int, found: Assessment) -> None:
        patiently(partial(_judge, plan, study, proposal, rungs[epochs], found))

    return Looks(tuple(rungs), judge)


def _judge(plan: Plan, study: optuna.Study, proposal: Proposal, rung: Rung, found: Assessment) -> None:
    """Write down what a training gave at a rung and whether it goes on.

    Raises:
        Stopped: If it does not, or its trial was given to another machine, which tells.
    """
    trial, objectives = proposal.trial, plan.config.objectives
    numbers = {**trial.user_attrs, **flat(_with_means(plan, proposal.candidate, found.measures, found.exits))}
    kept = {name: number_in(numbers, name) for name in dict.fromkeys([*objectives, "error", "leakage"])}
    # The failed trial of a machine that fell silent stands in the study once more.
    rows = {
        one.number: one.user_attrs[rung.name]
        for one in study.get_trials(deepcopy=False)
        if rung.name in one.user_attrs and one.state != TrialState.FAIL
    }
    row = rows.pop(trial.number, None)  # written before an outage that this is tried again after
    if row is None:
        others = [[one[name] for name in objectives] for one in rows.values()]
        row = row_of(rung, proposal.candidate, kept, [kept[name] for name in objectives], others)
        try:
            trial.set_user_attr(rung.name, row)
        except UpdateFinishedTrialError:
            raise Stopped(ENDED) from None
    if reason := reason_in({rung.name: row}):
        raise Stopped(reason)


def _with_means(
    plan: Plan, candidate: Candidate, measures: Mapping[str, Estimate], exits: Sequence[int]
) -> Mapping[str, Estimate]:
    """Add the mean costs over records to what was measured, where they are known."""
    by_exit = plan.by_exit(candidate, exits)
    return {**measures, **by_exit.means} if by_exit else measures


def open_bench(plan: Plan, study: optuna.Study) -> Bench:
    """Put together what candidates are measured with, and note in the study how far trainings lie apart.

    A study that an earlier version began has intervals without that, and keeps to them: its candidates are compared.
    """
    bench = make_bench(plan)
    if BETWEEN in study.user_attrs or not bench.spreads:
        return bench
    if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return replace(bench, spreads={})
    study.set_user_attr(BETWEEN, {name: asdict(spread) for name, spread in bench.spreads.items()})
    return bench


@contextmanager
def failing(study: optuna.Study, proposal: Proposal) -> Iterator[None]:
    """Tell the study that a trial failed if the block raises what is neither an outcome nor the machine's fault.

    A full disk or Ctrl-C says nothing about the candidate: its trial is taken up again, as after a kill. Any other
    error would come again, and the search would never get past it.

    Raises:
        OutOfMemory: If the block did not get its memory.
        RuntimeError: From that other error, whatever its type: it is a bug, not a mistake of the user's.
    """
    try:
        yield
    except (Diverged, Stopped):
        raise
    except BaseException as error:
        if memory.is_shortage(error):
            break_off(study, proposal, f"out of memory: {memory.reason(error)}")
            raise OutOfMemory(memory.reason(error)) from None
        if isinstance(error, storage_lost(OSError, KeyboardInterrupt, SystemExit)):
            proposal.hold.release()
            raise
        fail(study, proposal, f"{type(error).__name__}: {error}")
        raise RuntimeError(f"the training of trial {proposal.trial.number} failed: {error}") from error


def _given_up(broken_off: Sequence[str]) -> str | None:
    """Say why a candidate is not trained once more after so many trainings broke off, None while it is.

    >>> _given_up(["died: SIGSEGV"])
    >>> _given_up(["died: SIGSEGV", "died: SIGSEGV"])
    'died twice: SIGSEGV'
    >>> _given_up(["out of memory: 20 GiB", "died: SIGKILL"])
    'died: SIGKILL, after out of memory: 20 GiB'
    """
    if len(broken_off) < TRIES:
        return None
    ends = [reason.partition(": ") for reason in broken_off[-TRIES:]]
    if len({kind for kind, _, _ in ends}) == 1:
        return f"{ends[0][0]} twice: {', '.join(dict.fromkeys(reason for _, _, reason in ends))}"
    return f"{broken_off[-1]}, after {broken_off[-2]}"


def _prune(study: optuna.Study, trial: Trial, hold: Hold, reason: str) -> None:
    trial.set_user_attr("rejected", reason)
    _tell(study, trial, state=TrialState.PRUNED)
    hold.end()


def _tell(
    study: optuna.Study, trial: Trial, values: Sequence[float] | None = None, state: TrialState | None = None
) -> None:
    """Tell a trial's end.

    Raises:
        UpdateFinishedTrialError: If it has one.
    """
    try:
        study.tell(trial, values, state)
    except ValueError:  # Optuna's, if it finds out before it writes
        if study._storage.get_trial(trial._trial_id).state.is_finished():  # noqa: SLF001 - study.trials reads all of them
            raise UpdateFinishedTrialError(f"trial {trial.number} has ended") from None
        raise


@contextmanager
def _unless_given_away(trial: Trial, hold: Hold) -> Iterator[None]:
    """Drop what the block tells of a trial that has ended: it was given to another machine, and its end is no news."""
    try:
        yield
    except storage_lost(KeyboardInterrupt, SystemExit):
        hold.release()
        raise
    except UpdateFinishedTrialError:
        # After an outage it may have been told already, and the answer was lost.
        if trial.storage.get_trial(trial._trial_id).state == TrialState.FAIL:  # noqa: SLF001 - the study reads all of them
            log.warning(
                "nas: candidate %d was given to another machine, because this one gave no sign of life; its result "
                "here is dropped",
                trial.number,
            )
        hold.end()


def _refusal(plan: Plan, study: optuna.Study, trial: Trial, candidate: Candidate) -> str | None:
    """Price a candidate and say why it is not to be trained, or None."""
    try:
        costs = plan.prices(candidate.architecture)
    except CannotRun as error:
        # Nothing was priced; without a violated constraint samplers would take the trial for feasible.
        trial.set_constraint(CAN_RUN, 1.0)
        return f"cannot run on {plan.device.name}: {error}"
    _note(study, trial, costs)
    if told := [limit.told(number) for limit, number in over(flat(costs), limits_of(study.user_attrs))]:
        return f"over a limit: {', '.join(told)}"
    first = first_with_key(study, trial.number, candidate.key)
    return None if first is None else f"{DUPLICATE} {first}"


def _note(study: optuna.Study, trial: Trial, estimates: Mapping[str, Estimate]) -> None:
    """Write numbers with their intervals to a trial and set the constraint of each that has a limit.

    A constraint is the excess as a share of the limit: samplers add up what a trial violates, and a tenth of an error
    would be nothing beside a hundred KiB.
    """
    already, numbers = trial.constraints, flat(estimates)
    for name, number in numbers.items():
        trial.set_user_attr(name, number)
    for limit in limits_of(study.user_attrs):
        limited = number_of(numbers, limit.metric)
        if limited is not None and limit.metric not in already:
            trial.set_constraint(limit.metric, limit.excess(limited))
