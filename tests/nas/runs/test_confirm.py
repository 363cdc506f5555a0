"""Further trainings of a front: which, from which seeds, each once, and what a killed command leaves."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from estimators.estimate import Estimate
from nas.base import locks
from nas.base import processes
from nas.base.files import digest_of
from nas.runs import confirm
from nas.runs.confirm import Job
from nas.runs.confirm import describe
from nas.runs.confirm import members
from nas.runs.confirm import missing
from nas.runs.confirm import train
from nas.runs.confirm import wanted_by
from nas.runs.front_and_knee import knee_of
from nas.search.bench import from_other_seeds
from nas.search.bench import make_bench
from nas.search.schema import repetitions_in
from nas.search.storage import lock_folder
from nas.search.storage import open_study
from nas.search.storage import weights_path
from nas.training.assess import Bench
from nas.training.loop import Diverged
from nas.training.schedule import seed_from
from tests.confirmed_studies import study_of
from tests.small_search import measures_of
from tests.small_search import planned
from tests.small_search import run_here
from tests.small_search import settings
from tests.small_search import without_training

# The knee is 2, the lowest error is that of 0, the lowest leakage that of 4, which has the lowest latency too.
FRONT = ((0.1, 0.9, 9.0), (0.15, 0.85, 8.0), (0.2, 0.6, 2.0), (0.6, 0.55, 1.5), (0.7, 0.5, 1.0), (0.9, 0.9, 9.5))


def test_the_knee_comes_first_then_the_lowest_of_each_objective_then_the_others():
    study = study_of(*FRONT)
    assert knee_of(study.best_trials).number == 2
    assert members(study) == [2, 0, 4, 1, 3]
    assert members(study_of()) == []


def test_candidates_are_trained_in_rounds():
    study = study_of(*FRONT, again={0: [(0.2, 0.9)], 2: [(0.2, 0.6), None]})
    assert missing(study, 2, most=3) == [(4, 1), (0, 2), (4, 2)]
    assert missing(study, 1) == [(4, 1), (1, 1), (3, 1)]
    assert missing(study_of(*FRONT, again={2: [(0.2, 0.6)]}), 1, most=1) == []


def test_who_is_trained_again_does_not_depend_on_what_it_gave():
    study = study_of(*FRONT, again={2: [(0.9, 0.9)] * 3, 0: [(0.1, 0.5)] * 3})
    assert members(study) == members(study_of(*FRONT))


@pytest.mark.parametrize(
    ("changes", "done", "count"),
    [
        ({"trials": 1}, 0, 1),
        ({"trials": 30}, 0, 3),
        ({"trials": 31}, 0, 4),
        ({"trials": 31}, 3, 1),
        ({"trials": 30}, 4, 0),
        ({"trials": 1000}, 0, 50),  # ten of each are enough
        ({"trials": 30, "confirm": 0}, 0, 0),
        ({"trials": 30, "confirm": 2}, 1, 9),
        ({"evaluator": "table"}, 0, 0),
    ],
)
def test_a_search_spends_a_tenth_more_unless_it_is_told_otherwise(changes, done, count):
    is_table = "evaluator" in changes
    config = SimpleNamespace(**changes) if is_table else settings(**{"confirm": None, **changes})
    assert len(wanted_by(study_of(*FRONT, again={2: [(0.2, 0.6)] * done}), config)) == count


def test_what_is_to_be_trained_is_said():
    assert describe([(2, 1)]) == "1 further training to confirm the front: 2 (once)"
    assert describe([(2, 1), (2, 2), (2, 3)]).endswith("2 (3 times)")


# Trainings, of which none is a real one


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A finished search without trainings, the job to confirm it, and the (candidate, seed, begins) asked for."""
    without_training(monkeypatch)
    plan = planned(tmp_path / "runs", trials=4)
    run_here(plan)
    asked = []

    def assess(candidate, bench, begin=None):
        seed = seed_from(bench.seed, candidate.first_stage.key)
        asked.append((candidate.key, seed, begin is not None))
        return SimpleNamespace(measures=measures_of(str(seed)), exits=(1,), network=torch.nn.Linear(1, 1))

    bench = Bench(plan.data, plan.attack, None, plan.defences, plan.config.seed)
    monkeypatch.setattr(confirm, "assess", assess)
    monkeypatch.setattr(confirm, "make_bench", lambda _: bench)
    return SimpleNamespace(plan=plan, job=Job(plan.config, plan.folder), asked=asked, bench=bench)


def done_in(made_up):
    return repetitions_in(open_study(made_up.plan).user_attrs)


def test_each_training_is_kept_and_none_is_made_twice(made_up):
    study = open_study(made_up.plan)
    items = missing(study, 2)
    assert sorted(train(made_up.job, items, workers=1)) == sorted(items)
    assert missing(study, 2) == []
    assert len(made_up.asked) == len(set(made_up.asked)) == len(items)
    assert list(train(made_up.job, items, workers=1)) == items
    assert len(made_up.asked) == len(items)
    for number, rows in done_in(made_up).items():
        key = study.trials[number].user_attrs["key"]
        seeds = {seed for one, seed, _ in made_up.asked if one == key}
        assert seeds == {seed_from(seed_from(0, "repetition", repetition), key) for repetition in rows}
        assert seed_from(0, key) not in seeds
        assert (
            rows[1].measures["error"] == measures_of(str(seed_from(seed_from(0, "repetition", 1), key)))["error"].value
        )


def test_a_killed_command_loses_the_training_in_progress_alone(made_up, monkeypatch):
    study, whole = open_study(made_up.plan), confirm.assess
    items = missing(study, 2)
    assert len(items) >= 3

    def killed(candidate, bench, begin=None):
        if len(made_up.asked) == 2:
            raise KeyboardInterrupt
        return whole(candidate, bench, begin=begin)

    monkeypatch.setattr(confirm, "assess", killed)
    with pytest.raises(KeyboardInterrupt):
        list(train(made_up.job, items, workers=1))
    assert missing(study, 2) == items[2:]
    assert made_up.asked == [made_up.asked[0], made_up.asked[1]]
    monkeypatch.setattr(confirm, "assess", whole)
    assert list(train(made_up.job, missing(study, 2), workers=1)) == items[2:]
    assert missing(study, 2) == []
    assert len(made_up.asked) == len(set(made_up.asked)) == len(items)


def test_a_search_goes_on_as_if_nobody_had_confirmed_it(made_up, tmp_path):
    plan = made_up.plan
    list(train(made_up.job, missing(open_study(plan), 1), workers=1))
    longer, other = settings(trials=6), planned(tmp_path / "other", trials=6)
    study = run_here(replace(plan, config=longer))
    assert [trial.params for trial in study.trials] == [trial.params for trial in run_here(other).trials]


def test_a_training_that_another_process_makes_is_waited_for_and_not_repeated(made_up):
    study = open_study(made_up.plan)
    items = missing(study, 1)
    number, repetition = items[0]
    path = lock_folder(study, None, made_up.plan.folder) / f"repetition-{number}-{repetition}.lock"
    theirs = {"measures": {"error": 0.125, "leakage": 0.5}}
    lock, finished = locks.take(path), []

    def finish():
        study.set_user_attr(f"confirmed_{number}_{repetition}", theirs)
        lock.release()

    for item in train(made_up.job, items, workers=1):
        finished.append(item)
        if len(finished) == len(items) - 1:
            threading.Timer(0.3, finish).start()
    assert finished == [*items[1:], items[0]]
    assert len(made_up.asked) == len(items) - 1
    assert done_in(made_up)[number][repetition].measures["error"] == 0.125


def test_a_training_that_diverges_is_kept_and_not_tried_again(made_up, monkeypatch):
    def diverges(*_args, **_more):
        raise Diverged("the loss of epoch 1 is nan")

    monkeypatch.setattr(confirm, "assess", diverges)
    study = open_study(made_up.plan)
    items = missing(study, 1)
    list(train(made_up.job, items, workers=1))
    assert {rows[1].diverged for rows in done_in(made_up).values()} == {"the loss of epoch 1 is nan"}
    assert missing(study, 1) == []


def test_a_shortage_of_memory_is_one_line_and_leaves_the_training_to_be_made(made_up, monkeypatch):
    def short(*_args, **_more):
        raise MemoryError

    monkeypatch.setattr(confirm, "assess", short)
    items = missing(open_study(made_up.plan), 1)
    with pytest.raises(OSError, match=f"not enough memory to train candidate {items[0][0]} again"):
        list(train(made_up.job, items, workers=1))
    assert missing(open_study(made_up.plan), 1) == items


def test_all_whose_weights_it_starts_from_are_trained_anew_too(made_up, monkeypatch):
    study = open_study(made_up.plan)
    number = members(study)[0]
    forebear = next(trial for trial in study.trials if trial.number != number)
    monkeypatch.setattr(confirm, "line_of", lambda _study, trial: [forebear, trial])
    list(train(made_up.job, [(number, 1)], workers=1))
    (first, _, begins), (second, _, begins_too) = made_up.asked
    assert (first, second) == (forebear.user_attrs["key"], study.trials[number].user_attrs["key"])
    assert (begins, begins_too) == (False, True)


# Real ones


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A search of one candidate with a teacher."""
    plan = planned(tmp_path_factory.mktemp("runs"), trials=1, members=60, defences=["gecko"], objectives=["error"])
    return SimpleNamespace(plan=plan, study=run_here(plan), job=Job(plan.config, plan.folder))


def test_teachers_and_trainings_of_a_repetition_have_seeds_that_the_search_had_not(real, monkeypatch):
    trial = real.study.trials[0]
    candidate, bench = real.plan.candidate(trial.params), make_bench(real.plan)
    taught, trained = [], []

    def teach(setup, **_more):
        taught.append(setup.seed)
        return torch.zeros(len(setup.features), 10)

    def train_in_stages(setup, _first):
        trained.append(setup.seed)
        raise RuntimeError("enough")

    monkeypatch.setattr("nas.search.bench.train_teacher", teach)
    monkeypatch.setattr("nas.training.assess.train_in_stages", train_in_stages)
    for repetition in (1, 2, 3):
        again = from_other_seeds(real.plan, bench, repetition)
        assert (again.data, again.attack, again.bank, again.spreads) == (bench.data, bench.attack, bench.bank, {})
        with pytest.raises(RuntimeError, match="enough"):
            confirm.assess(candidate, again)
    assert len(set(taught)) == len(set(trained)) == 3
    assert seed_from(real.plan.config.seed, real.plan.teacher.key) not in taught
    assert seed_from(real.plan.config.seed, candidate.key) not in trained


def test_another_training_gives_other_numbers_and_leaves_those_of_the_search(real):
    trial = real.study.trials[0]
    weights = weights_path(real.plan.folder, trial.user_attrs["key"])
    before = digest_of(weights)
    list(train(real.job, [(0, 1), (0, 2)], workers=2))
    rows = repetitions_in(open_study(real.plan).user_attrs)[0]
    errors = {rows[1].measures["loss_auc"], rows[2].measures["loss_auc"], trial.user_attrs["loss_auc"]}
    assert len(errors) == 3
    assert digest_of(weights) == before
    assert open_study(real.plan).trials[0].user_attrs == trial.user_attrs
    with processes.one_thread():
        opened = confirm._open(real.job)
        assert confirm._trained(opened, 0, 2) == rows[2]


def test_intervals_of_a_repetition_are_of_the_records_alone(real):
    list(train(real.job, [(0, 1)], workers=1))
    row = repetitions_in(open_study(real.plan).user_attrs)[0][1].measures
    alone = Estimate(row["error"], row["error_low"], row["error_high"])
    trial = real.study.trials[0].user_attrs
    held = trial["error_high"] - trial["error_low"]
    assert alone.high - alone.low < held
