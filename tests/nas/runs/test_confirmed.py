"""Means in the place of lucky numbers: what is replaced, who leaves the front, and what is picked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from estimators.estimate import Estimate
from estimators.estimate import from_flat
from estimators.leakage.statistics.between_trainings import USUAL
from estimators.leakage.statistics.between_trainings import Spread
from estimators.leakage.statistics.between_trainings import repeated
from nas.runs.by_class import estimate_of
from nas.runs.confirmed import CONFIRMED
from nas.runs.confirmed import confirmed_of
from nas.runs.confirmed import dominator
from nas.runs.confirmed import luck
from nas.runs.confirmed import trainings_of
from nas.runs.confirmed import with_confirmed
from nas.runs.front_and_knee import choose
from nas.runs.front_and_knee import first_front
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import left_the_front
from nas.runs.front_and_knee import limits_to_pick_by
from nas.runs.ties import ties_in
from nas.search.schema import CLASSES
from tests.confirmed_studies import around
from tests.confirmed_studies import study_of
from tests.confirmed_studies import train_again

ONE = (0.10, 0.60, 5.0)


def only(study):
    (trial,) = with_confirmed(study, study.trials)
    return trial


def test_the_first_training_is_not_in_the_mean():
    trial = only(study_of(ONE, again={0: [(0.20, 0.70), (0.30, 0.80)]}))
    assert trial.user_attrs["error"] == pytest.approx(0.25)
    assert trial.user_attrs["leakage"] == pytest.approx(0.75)
    assert trial.values == pytest.approx([0.25, 0.75, 5.0])
    found = confirmed_of(trial)
    assert (found.trainings, found.diverged) == (2, 0)
    assert (found.measures["error"].first, found.measures["error"].values) == (0.10, (0.20, 0.30))
    assert luck([trial]) == pytest.approx({"error": 0.15, "leakage": 0.15})


@pytest.mark.parametrize(("between", "spread"), [(None, USUAL), (2.5, Spread(2.5, 0.01, 4))])
def test_intervals_hold_what_the_bank_learned_and_what_the_trainings_show(between, spread):
    trial = only(study_of(ONE, again={0: [(0.20, 0.70), (0.30, 0.80)]}, between=between))
    told = repeated([around(0.20), around(0.30)], spread)
    assert from_flat(trial.user_attrs, "error") == told.anew
    assert confirmed_of(trial).measures["error"].mean == told.mean


def test_an_objective_that_is_an_end_is_that_of_the_mean():
    study = study_of(ONE, again={0: [(0.20, 0.70)]}, objectives=("error_high", "leakage", "latency_ms"))
    trial = only(study)
    assert trial.values[0] == trial.user_attrs["error_high"] == repeated([around(0.20)], USUAL).anew.high


def test_a_study_keeps_what_it_holds_and_candidates_without_further_trainings_are_its_own():
    study = study_of(ONE, (0.2, 0.5, 6.0), again={0: [(0.20, 0.70)]})
    before = [(trial.values, dict(trial.user_attrs)) for trial in study.trials]
    confirmed, single = with_confirmed(study, study.get_trials(deepcopy=False))
    assert [(trial.values, trial.user_attrs) for trial in study.trials] == before
    assert (trainings_of(confirmed), trainings_of(single)) == (1, 0)
    assert single is study.get_trials(deepcopy=False)[1]


def test_what_others_wrote_under_the_same_name_is_not_taken_for_it():
    study = study_of(ONE)
    trial = study.get_trials(deepcopy=False)[0]
    trial.user_attrs[CONFIRMED] = {"trainings": 3}
    assert confirmed_of(trial) is None
    assert trainings_of(trial) == 0


def test_a_training_that_diverged_is_counted_and_not_averaged():
    trial = only(study_of(ONE, again={0: [(0.20, 0.70), None, (0.30, 0.80)]}))
    found = confirmed_of(trial)
    assert (found.trainings, found.diverged) == (2, 1)
    assert trial.user_attrs["error"] == pytest.approx(0.25)
    lost = only(study_of(ONE, again={0: [None]}))
    assert (trainings_of(lost), confirmed_of(lost).diverged) == (0, 1)
    assert lost.user_attrs["error"] == 0.10
    assert luck([lost]) == {}


def test_errors_of_classes_and_costs_of_early_exits_are_means_too():
    study = study_of(ONE)
    raw = study.get_trials(deepcopy=False)[0]
    raw.user_attrs.update({"class_error_a": 0.25, "mean_latency_ms": 4.0, "mean_latency_ms_low": 3.0})
    raw.user_attrs.update({"mean_latency_ms_high": 5.0, "mean_latency_ms_extrapolated": True, "trainings": 2})
    study.set_user_attr(CLASSES, {"names": ["a"], "members": [9], "validation": [4]})
    ends = {"mean_latency_ms_low": 1.0, "mean_latency_ms_high": 3.0}
    train_again(study, 0, 1, (0.2, 0.7), class_error_a=0.5, mean_latency_ms=2.0, **ends)
    train_again(study, 0, 2, (0.2, 0.7), class_error_a=0.75, mean_latency_ms=3.0)
    (trial,) = with_confirmed(study, [raw])
    assert from_flat(trial.user_attrs, "mean_latency_ms") == Estimate(2.5, 2.0, 3.0)
    assert "mean_latency_ms_extrapolated" not in trial.user_attrs
    assert trial.user_attrs["trainings"] == 2
    of_class = estimate_of(study, trial, "class_error_a")
    assert of_class.value == 0.625
    assert of_class.low < 0.4
    assert of_class.high > 0.9


def test_the_row_of_a_confirmed_candidate_is_json():
    row = confirmed_of(only(study_of(ONE, again={0: [(0.20, 0.70)]}))).row
    assert json.loads(json.dumps(row)) == row
    assert row["measures"]["error"].keys() == {"first", "values", "mean", "mean_low", "mean_high"}


# Who leaves the front

# 0 was lucky in both; 1 is what 0 seemed to be.
LUCKY = ((0.10, 0.55, 5.0), (0.12, 0.60, 4.0), (0.40, 0.50, 1.0))
WORSE, SAME = [(0.30, 0.80)] * 3, [(0.12, 0.60)] * 3


def test_a_member_that_another_one_dominates_with_confidence_leaves():
    study = study_of(*LUCKY, again={0: WORSE, 1: SAME})
    assert {trial.number for trial in first_front(study)} == {0, 1, 2}
    assert [trial.number for trial in front(study)] == [1, 2]
    assert list(left_the_front(study)) == [0]
    assert left_the_front(study)[0] == "candidate 1 is as low in every objective, and lower in error beyond the noise"


@pytest.mark.parametrize(
    ("again", "reason"),
    [
        ({0: WORSE}, "nobody else is confirmed"),
        ({1: SAME}, "it is not confirmed itself"),
        ({0: WORSE, 1: [None]}, "the other one diverged"),
        ({0: [(0.125, 0.605)] * 3, 1: SAME}, "within the noise"),
        ({0: [(0.30, 0.59)] * 3, 1: SAME}, "lower in leakage, by however little"),
        ({0: [(0.0, 0.8), (0.3, 0.6), (0.6, 0.7)], 1: SAME}, "its trainings lie far apart"),
    ],
)
def test_without_confidence_nobody_leaves(again, reason):
    study = study_of(*LUCKY, again=again)
    assert {trial.number for trial in front(study)} == {0, 1, 2}, reason
    assert left_the_front(study) == {}


def test_a_cost_alone_dominates_nobody():
    study = study_of((0.10, 0.6, 5.0), (0.11, 0.6, 1.0), again={0: [(0.11, 0.6)] * 5, 1: [(0.11, 0.6)] * 5})
    assert len(front(study)) == 2


def test_a_slower_network_dominates_nobody():
    study = study_of((0.10, 0.55, 3.0), (0.12, 0.50, 5.0), again={0: WORSE, 1: [(0.12, 0.50)] * 3})
    assert len(front(study)) == 2


def test_dominance_has_no_circles():
    rng = np.random.default_rng(0)
    rows = [(*rng.uniform(0.1, 0.9, 2), float(latency)) for latency in rng.uniform(1, 9, 12)]
    study = study_of(*rows, again={number: [tuple(rng.uniform(0.1, 0.9, 2))] * 4 for number in range(12)})
    trials = with_confirmed(study, study.trials)
    beaten = {trial.number for trial in trials if dominator(trial, trials, ("error", "leakage", "latency_ms"))}
    assert 0 < len(beaten) < 12
    assert front(study)


def test_a_member_whose_mean_is_over_a_limit_leaves():
    study = study_of(*LUCKY, budgets={"error": 0.25}, again={0: [(0.26, 0.55)]})
    assert [trial.number for trial in front(study)] == [1]
    assert left_the_front(study) == {0: "over a limit when it is trained again: error 0.26 > 0.25"}


def test_no_candidate_comes_in():
    study = study_of(*LUCKY, (0.13, 0.65, 5.0), again={0: WORSE, 1: WORSE, 2: WORSE})
    assert {trial.number for trial in front(study)} <= {0, 1, 2}


# What is picked


def picked(study, prefer=None, **maximum):
    return choose(study, limits_to_pick_by(study, maximum), prefer).trial.number


def test_the_lowest_mean_is_picked_and_not_a_lucky_candidate_off_the_front():
    # 3 is beaten by 0 as both were measured once; beside the mean of 0 it looks better.
    study = study_of(*LUCKY, (0.13, 0.65, 5.0), again={0: [(0.20, 0.6)] * 3, 1: [(0.18, 0.6)] * 3})
    assert picked(study, "error") == 1
    assert picked(study, "latency_ms") == 2


def test_limits_are_held_against_means():
    study = study_of(*LUCKY, again={0: [(0.30, 0.55)] * 2})
    assert picked(study_of(*LUCKY), "error", error=0.2) == 0
    assert picked(study, "error", error=0.2) == 1
    assert picked(study, error=0.2) == 1


def test_a_candidate_that_is_named_has_its_mean_and_ties_are_of_means():
    study = study_of(*LUCKY, again={0: [(0.30, 0.80)] * 2, 1: [(0.31, 0.8)] * 2})
    one, other, _ = with_confirmed(study, study.trials)
    assert ties_in(study, one, [other]) == {"error": [1], "leakage": [1]}
