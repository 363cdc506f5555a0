"""Train the candidates on a run's front again, from other seeds, and keep in the study what each training gave.

A repetition is the whole training of a candidate: its first stage, its teachers, and all whose weights it starts from
are trained anew too. Data, attack and reference bank are those of the search. Its seed comes from the run's seed, the
candidate's key and the number of the repetition, so a repetition gives the same whoever trains it, and when.

What is trained follows from the first trainings alone, never from what other repetitions gave: a mean over trainings
that go on until they please would be lucky again. Each repetition is kept in the study as soon as it is done, as an
attribute of its own, and a command that was killed goes on with those that are missing. Locks keep two commands on one
machine from training the same one. Two machines on one database may; both get the same numbers, and one training is
lost.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import cache
from functools import partial
from pathlib import Path
from typing import TypeAlias

import optuna

from estimators.estimate import flat
from nas.base import locks
from nas.base import memory
from nas.base import processes
from nas.pricing.by_exit import MEAN_OF
from nas.runs.front_and_knee import first_front
from nas.runs.front_and_knee import knee_of
from nas.search.bench import from_other_seeds
from nas.search.bench import make_bench
from nas.search.config import TABLE
from nas.search.config import SearchConfig
from nas.search.like import ends_first
from nas.search.outages import patiently
from nas.search.parents import line_of
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.schema import Repetition
from nas.search.schema import repetitions_in
from nas.search.storage import load_study
from nas.search.storage import lock_folder
from nas.training.assess import Begin
from nas.training.assess import Bench
from nas.training.assess import assess
from nas.training.between import SPREAD_OF
from nas.training.by_class import CLASS_ERROR
from nas.training.inheritance import started
from nas.training.loop import Diverged

SHARE = 10
"""Of so many trainings of a search, one more confirms its front, unless its settings say otherwise."""
MOST_OF_A_SHARE = 10
"""Further trainings that the share of a search gives to one candidate; more would hardly make an interval narrower."""
Item: TypeAlias = tuple[int, int]
"""A further training: the candidate's number, and that of the repetition, from 1."""
Task: TypeAlias = tuple[int, int, bool]
"""The same, and whether to wait for another process that is at work on it."""


@dataclass(frozen=True, eq=False)
class Job:
    """Whose candidates are trained again.

    Attributes:
        config: The run's settings, with its storage.
        folder: Where the run leaves its files.
    """

    config: SearchConfig
    folder: Path


@dataclass(frozen=True, eq=False)
class _Opened:
    plan: Plan
    study: optuna.Study
    bench: Bench


def members(study: optuna.Study) -> list[int]:
    """Return the candidates to train again, those that matter most first: by their numbers.

    They are the front by the first trainings. First comes its knee, which `nas pick` takes, then the lowest in each
    objective, then the others, spread over the front however few are taken.
    """
    best = first_front(study)
    if not best:
        return []
    lowest = [min(best, key=lambda trial: (trial.values[place], trial.number)) for place in range(len(best[0].values))]
    ordered = [knee_of(best), *lowest, *(best[place] for place in ends_first(len(best)))]
    return list(dict.fromkeys(trial.number for trial in ordered))


def missing(study: optuna.Study, repeats: int, most: int | None = None) -> list[Item]:
    """Return the trainings that are missing for so many repetitions of each candidate on the front, in rounds.

    Args:
        study: The study.
        repeats: How many of each are wanted.
        most: How many candidates are trained again; None: all on the front.
    """
    known = repetitions_in(study.user_attrs)
    every = ((number, repetition) for repetition in range(1, repeats + 1) for number in members(study)[:most])
    return [(number, repetition) for number, repetition in every if repetition not in known.get(number, {})]


def wanted_by(study: optuna.Study, config: SearchConfig) -> list[Item]:
    """Return the trainings by which a search of these settings confirms its front, less those that are done.

    Args:
        study: Its study.
        config: `confirm` repetitions of each candidate on the front; None: a tenth of `trials` in all, rounded up.
    """
    if config.evaluator == TABLE:
        return []
    if config.confirm is not None:
        return missing(study, config.confirm)
    done = sum(map(len, repetitions_in(study.user_attrs).values()))
    left = max(0, -(-config.trials // SHARE) - done)
    return missing(study, MOST_OF_A_SHARE)[:left]


def train(job: Job, items: Sequence[Item], *, workers: int | None = None) -> Iterator[Item]:
    """Train candidates again and keep what it gave in the study; yield each training when it is done.

    What another process is at work on is waited for, at the end.

    Args:
        job: Whose candidates.
        items: The trainings.
        workers: Processes with one thread each; None: one for each core.

    Raises:
        OSError: If a training did not get its memory.
    """
    study, left = _study_of(job), set(items)
    for patient in (False, True):
        work = [(*item, patient) for item in items if item in left]
        for number, repetition, _ in _shared_out(job, work, workers):
            if patient or _is_done(study, number, repetition):
                left.remove((number, repetition))
                yield number, repetition


def describe(items: Sequence[Item]) -> str:
    """Say which candidates are trained again, and how often.

    >>> describe([(18, 1), (23, 1), (18, 2)])
    '3 further trainings to confirm the front: 18 (twice), 23 (once)'
    """
    counts = Counter(number for number, _ in items)
    times = {1: "once", 2: "twice"}
    told = ", ".join(f"{number} ({times.get(count, f'{count} times')})" for number, count in counts.items())
    return f"{len(items)} further training{'' if len(items) == 1 else 's'} to confirm the front: {told}"


def _shared_out(job: Job, work: Sequence[Task], workers: int | None) -> Iterator[Task]:
    crew = min(workers or processes.cores(), len(work))
    if crew > 1:
        yield from processes.share_out(_in_a_worker, job, work, workers=crew)
    elif work:
        with processes.one_thread():
            opened = _open(job)
        for item in work:
            with processes.one_thread():
                _repeat(opened, *item)
            yield item


def _in_a_worker(job: Job, item: Task) -> None:
    _repeat(_open_once(job), *item)


def _open(job: Job) -> _Opened:
    plan = replace(resolve(job.config, job.folder.parent), folder=job.folder)
    return _Opened(plan, _study_of(job), make_bench(plan))


_open_once = cache(_open)


def _study_of(job: Job) -> optuna.Study:
    return patiently(partial(load_study, job.config.name, job.folder, job.config.storage))


def _is_done(study: optuna.Study, number: int, repetition: int) -> bool:
    return repetition in repetitions_in(patiently(lambda: study.user_attrs)).get(number, {})


def _repeat(opened: _Opened, number: int, repetition: int, patient: bool) -> None:
    """Train a candidate once more, unless that is done or another process is at it and nobody wants to wait."""
    plan, study = opened.plan, opened.study
    path = lock_folder(study, plan.config.storage, plan.folder) / f"repetition-{number}-{repetition}.lock"
    with locks.held(path, patient=patient) as mine:
        if not mine or _is_done(study, number, repetition):
            return
        found = _trained(opened, number, repetition).model_dump(mode="json", exclude_defaults=True)
        patiently(partial(study.set_user_attr, f"confirmed_{number}_{repetition}", found))
        path.unlink(missing_ok=True)


def _trained(opened: _Opened, number: int, repetition: int) -> Repetition:
    plan, bench = opened.plan, from_other_seeds(opened.plan, opened.bench, repetition)
    trial = opened.study.get_trials(deepcopy=False)[number]
    *forebears, candidate = [plan.candidate(one.params) for one in line_of(opened.study, trial)]
    begin: Begin | None = None
    try:
        for forebear in forebears:
            network = assess(forebear, bench, begin=begin).network
            begin = partial(started, parent=forebear.architecture, weights=network.state_dict())
        found = assess(candidate, bench, begin=begin)
    except Diverged as error:
        return Repetition(diverged=str(error)[:200] or "diverged")
    except (MemoryError, RuntimeError) as error:
        if not memory.is_shortage(error):
            raise
        reason = f"not enough memory to train candidate {number} again: {memory.reason(error)}"
        raise OSError(errno.ENOMEM, reason) from None
    by_exit = plan.by_exit(candidate, found.exits)
    measures = {**found.measures, **(by_exit.means if by_exit else {})}
    kept = {name: one for name, one in measures.items() if name in (*SPREAD_OF, *MEAN_OF)}
    kept |= {name: one for name, one in measures.items() if name.startswith(CLASS_ERROR)}
    return Repetition(measures=flat(kept))
