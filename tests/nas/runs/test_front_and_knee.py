"""Choosing: the front, the knee, limits, and the nearest miss."""

from __future__ import annotations

import re
from dataclasses import asdict

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.pricing.limits import BUDGET
from nas.pricing.limits import CEILING
from nas.pricing.limits import DEVICE
from nas.pricing.limits import Limit
from nas.runs.front_and_knee import choose
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import is_metric
from nas.runs.front_and_knee import knee_index
from nas.runs.front_and_knee import limits_to_pick_by
from nas.runs.front_and_knee import nearest
from nas.runs.front_and_knee import non_dominated
from nas.search.schema import LIMITS
from nas.search.schema import MEMORY
from nas.search.storage import CONFIG

few = settings(max_examples=40, deadline=None, derandomize=True)
# Whole numbers and scales that are powers of two keep every step exact.
tables = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-20, 20).map(float))
)
OBJECTIVES = ("error", "leakage", "latency_ms")


def study_of(*rows, budgets=None, attrs=None):
    """A study with a trained candidate for each row of (error, leakage, latency_ms, params)."""
    budgets = budgets or {}
    study = optuna.create_study(directions=["minimize"] * 3)
    study.set_user_attr(CONFIG, {"budgets": budgets, "objectives": ["error", "leakage", "latency_ms"]})
    for name, kept in (attrs or {}).items():
        study.set_user_attr(name, [asdict(limit) for limit in kept])
    for error, leakage, latency_ms, params in rows:
        trial = study.ask()
        measured = {"error": error, "leakage": leakage, "latency_ms": latency_ms, "params": params}
        for name, value in measured.items():
            trial.set_user_attr(name, value)
        for name, limit in budgets.items():
            trial.set_constraint(name, measured[name] - limit)
        trial.set_user_attr("leakage_low", leakage - 0.1)
        trial.set_user_attr("key", "0123")
        study.tell(trial, [error, leakage, latency_ms])
    return study


def picked(study, maximum, prefer, **flags):
    return choose(study, limits_to_pick_by(study, maximum, **flags), prefer)


# Candidate 3 is beaten by candidate 1 in everything; params is no objective.
ROWS = ((0.1, 0.9, 9.0, 500.0), (0.2, 0.6, 5.0, 400.0), (0.9, 0.5, 1.0, 300.0), (0.3, 0.7, 6.0, 100.0))


@few
@given(tables, st.randoms(use_true_random=False))
def test_the_knee_moves_with_its_row(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    assert (table[order][knee_index(table[order])] == table[knee_index(table)]).all() or tied(table)


def tied(table):
    scaled = (table - table.min(0)) / np.where(np.ptp(table, axis=0) > 0, np.ptp(table, axis=0), 1)
    distances = np.sort((scaled**2).sum(axis=1))
    return len(table) > 1 and np.isclose(distances[0], distances[1])


@few
@given(tables, st.integers(-3, 6), st.integers(-9, 9), st.data())
def test_units_do_not_move_the_knee(table, power, shift, data):
    column = data.draw(st.integers(0, table.shape[1] - 1))
    changed = table.copy()
    changed[:, column] = changed[:, column] * 2.0**power + shift
    assert knee_index(changed) == knee_index(table)


@few
@given(tables)
def test_the_knee_is_never_beaten_where_it_is_the_only_nearest(table):
    assert non_dominated(table)[knee_index(table)] or tied(table)


@few
@given(tables)
def test_non_dominated_is_what_the_definition_says(table):
    def beats(other, row):
        return all(other <= row) and any(other < row)

    assert non_dominated(table).tolist() == [not any(beats(other, row) for other in table) for row in table]


@few
@given(tables, st.randoms(use_true_random=False))
def test_non_dominated_moves_with_its_rows(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    assert (non_dominated(table[order]) == non_dominated(table)[order]).all()


def test_the_knee_by_hand():
    # Scaled by their ranges the rows are (0, 1), (0.25, 0.5) and (1, 0): the second is 0.56 from the best of both.
    assert knee_index([[10.0, 3.0], [12.0, 2.0], [18.0, 1.0]]) == 1
    assert knee_index([[7.0, 7.0]]) == 0


def test_the_front_is_what_optuna_calls_best_and_is_sorted_by_the_first_objective():
    study = study_of(*reversed(ROWS))
    assert [trial.values[0] for trial in front(study)] == [0.1, 0.2, 0.9]
    assert {trial.number for trial in front(study)} == {trial.number for trial in study.best_trials}


def test_a_candidate_over_budget_is_not_on_the_front_and_not_picked():
    study = study_of(*ROWS, budgets={"leakage": 0.65})
    assert [trial.number for trial in front(study)] == [1, 2]
    assert picked(study, {}, "error").trial.number == 1
    # What is said now beats what the search was told.
    assert picked(study, {"leakage": 0.95}, "error").trial.number == 0


def test_all_over_budget_names_the_nearest():
    choice = picked(study_of(*ROWS, budgets={"leakage": 0.4}), {}, None)
    assert (choice.trial.number, choice.failed) == (2, ("leakage 0.5 > 0.4",))


def test_without_limits_the_knee_is_picked_and_said():
    choice = picked(study_of(*ROWS), {}, None)
    assert choice.trial.number == 1  # (0.125, 0.25, 0.5) of the ranges; the others are 1 or more away in one objective
    assert choice.reason.startswith("knee of the front: ")
    assert choice.failed == ()


def test_a_preference_is_minimised_within_the_limits():
    study = study_of(*ROWS)
    assert picked(study, {}, "params").trial.number == 3
    assert picked(study, {"latency_ms": 5.0}, "error").trial.number == 1  # a limit that is met exactly is met
    choice = picked(study, {"latency_ms": 4.9}, "error")
    assert (choice.trial.number, choice.reason) == (2, "lowest error (0.9) of the 1 candidates within the limits")


def test_limits_that_exclude_the_front_give_the_front_of_what_is_left():
    rows = (*ROWS, (0.4, 0.8, 7.0, 90.0))  # beaten by candidate 3 in every objective, and smaller
    choice = picked(study_of(*rows), {"params": 100.0}, None)
    assert choice.trial.number == 3
    assert choice.reason.startswith("knee of the front within the limits: ")


def test_limits_nobody_meets_give_the_candidate_with_the_smallest_worst_excess():
    # Relative excess over (0.1, 0.5): 0 and 0.8; 1 and 0.2; 8 and 0; 2 and 0.4.
    choice = picked(study_of(*ROWS), {"error": 0.1, "leakage": 0.5}, None)
    assert (choice.trial.number, choice.failed) == (0, ("leakage 0.9 > 0.5",))
    # Over (0.12, 0.5): 0 and 0.8; 0.67 and 0.2. The worst counts, not the sum.
    choice = picked(study_of(*ROWS), {"error": 0.12, "leakage": 0.5}, None)
    assert (choice.trial.number, choice.failed) == (1, ("error 0.2 > 0.12", "leakage 0.6 > 0.5"))


def test_an_unknown_metric_is_refused_with_those_there_are():
    study = study_of(*ROWS)
    known = "; there are ['error', 'latency_ms', 'leakage', 'params']"
    for limits, prefer in (({"speed": 1.0}, None), ({}, "speed")):
        with pytest.raises(ValueError, match="no metric 'speed' in this run ") as caught:
            picked(study, limits, prefer)
        assert str(caught.value).endswith(known)  # the end of an interval is none


@pytest.mark.parametrize(
    ("wrong", "metric"),
    [("error_hihg", "error"), ("eror_low", "error"), ("latency_high", "latency_ms"), ("leakage_upper", "leakage")],
)
def test_a_misspelt_end_of_an_interval_is_refused_with_those_it_resembles(wrong, metric):
    study = study_of(*ROWS)
    for limits, prefer in (({wrong: 1.0}, None), ({}, wrong)):
        told = re.escape(f"no metric '{wrong}' in this run (ends: {metric}_low, {metric}_high); there are [")
        with pytest.raises(ValueError, match=told):
            picked(study, limits, prefer)


def test_nothing_trained_is_nothing_to_pick():
    study = optuna.create_study(directions=["minimize"])
    study.ask()
    with pytest.raises(
        ValueError, match=r"^expected a trained candidate to pick; no candidate has finished training yet$"
    ):
        picked(study, {}, None)


def test_a_metric_is_a_number_that_is_no_end_of_an_interval():
    trial = optuna.trial.create_trial(value=0.0, user_attrs={"a": 1, "a_low": 0, "b_low": 2, "key": "x", "done": True})
    assert [name for name in trial.user_attrs if is_metric(trial, name)] == ["a", "b_low"]


# Limits that nobody typed.

CHIP = Limit("params", 350.0, "the chip has room for 350", DEVICE)
USEFUL = Limit("error", 0.25, "a line does as well", CEILING)
SMALL = Limit("params", 320.0, "your budget", BUDGET)


def numbers(study, maximum, **flags):
    return {limit.metric: limit.value for limit in limits_to_pick_by(study, maximum, **flags)}


def test_a_limit_of_the_device_holds_whatever_is_allowed_unless_it_is_looked_beyond():
    study = study_of(*ROWS, attrs={LIMITS: [CHIP], MEMORY: [CHIP]})
    assert picked(study, {}, "error").trial.number == 3
    assert numbers(study, {"params": 450.0}) == {"params": 350.0}
    assert numbers(study, {"params": 310.0}) == {"params": 310.0}
    assert picked(study, {"params": 450.0}, "error", device_limits=False).trial.number == 1
    assert picked(study, {}, "error", device_limits=False).trial.number == 0


def test_what_a_search_looked_beyond_a_pick_keeps():
    study = study_of(*ROWS, attrs={LIMITS: [], MEMORY: [CHIP]})
    choice = picked(study, {}, "error")
    assert (choice.trial.number, choice.limits) == (3, (CHIP,))
    assert picked(study, {}, "error", device_limits=False).limits == ()


def test_a_limit_on_the_error_takes_the_place_of_the_ceiling():
    study = study_of(*ROWS, attrs={LIMITS: [USEFUL]})
    assert picked(study, {}, "latency_ms").trial.number == 1
    assert picked(study, {"error": 0.95}, "latency_ms").trial.number == 2
    assert picked(study, {"latency_ms": 5.0}, "latency_ms").trial.number == 1
    assert picked(study, {}, "latency_ms", error_ceiling=False).trial.number == 2


def test_the_knee_is_taken_within_the_ceiling():
    # Without it the knee of the three is candidate 1, which the ceiling leaves out.
    tight = Limit("error", 0.15, "a line does as well", CEILING)
    assert picked(study_of(*ROWS), {}, None).trial.number == 1
    assert picked(study_of(*ROWS, attrs={LIMITS: [tight]}), {}, None).trial.number == 0


def test_a_studys_own_budget_holds_until_another_is_given():
    study = study_of(*ROWS, attrs={LIMITS: [SMALL], MEMORY: [CHIP]})
    assert numbers(study, {}) == {"params": 320.0}
    assert numbers(study, {"params": 340.0}) == {"params": 340.0}
    assert numbers(study, {"params": 900.0}) == {"params": 350.0}


def test_why_a_candidate_is_over_is_said_with_the_reason():
    choice = picked(study_of(*ROWS, attrs={LIMITS: [Limit("error", 0.01, "a line does as well", CEILING)]}), {}, None)
    assert choice.failed == ("error 0.1 > 0.01 (a line does as well)",)


def test_the_nearest_come_first_by_their_worst_excess():
    limits = (Limit("error", 0.1, "x", BUDGET), Limit("leakage", 0.5, "x", BUDGET))
    # Relative excess: 0 and 0.8; 1 and 0.2; 8 and 0; 2 and 0.4.
    study = study_of(*ROWS)
    assert [trial.number for trial in nearest(study, study.trials, limits)] == [0, 1, 3, 2]


# Limits that a candidate has to meet when it is trained anew.


def finished(*rows, attrs=None):
    """A study with a candidate for each row of (error, leakage, its upper end, latency_ms, its upper end)."""
    study = optuna.create_study(directions=["minimize"] * 3)
    study.set_user_attr(CONFIG, {"budgets": {}, "objectives": ["error", "leakage", "latency_ms"]})
    for name, kept in (attrs or {}).items():
        study.set_user_attr(name, [limit.row for limit in kept])
    for error, leakage, leakage_high, latency, latency_high in rows:
        trial = study.ask()
        numbers = {"error": error, "error_low": 0.0, "error_high": 1.0, "leakage": leakage, "leakage_low": 0.5}
        numbers |= {"leakage_high": leakage_high, "latency_ms": latency, "latency_ms_low": latency}
        for name, value in {**numbers, "latency_ms_high": latency_high, "key": "0123"}.items():
            trial.set_user_attr(name, value)
        study.tell(trial, [error, leakage, latency])
    return study


# The upper end of leakage is 0.6 + 1.645 / 1.960 of 0.04, so 0.6336 at 95 %; that of 10 ms is 12 ms, as given.
FIRST = (0.1, 0.60, 0.64, 10.0, 12.0)
SECOND = (0.2, 0.58, 0.60, 10.0, 10.0)


@pytest.mark.parametrize(
    ("limits", "confidence", "number"),
    [
        ({"leakage": 0.61}, None, 0),
        ({"leakage": 0.61}, 0.95, 1),
        ({"leakage": 0.6337}, 0.95, 0),
        ({"leakage": 0.6335}, 0.95, 1),
        ({"leakage": 0.6335}, 0.9, 0),
        ({"latency_ms": 12.0}, 0.95, 0),  # the 90 % interval's own end
        ({"latency_ms": 11.9}, 0.95, 1),
        ({"latency_ms": 11.9}, 0.90, 0),
        ({"latency_ms": 12.1}, 0.99, 1),
    ],
)
def test_a_limit_at_a_confidence_is_met_by_the_upper_end(limits, confidence, number):
    study = finished(FIRST, SECOND)
    choice = choose(study, limits_to_pick_by(study, limits, confidence=confidence), "error")
    assert (choice.trial.number, choice.failed) == (number, ())


def test_what_no_candidate_meets_at_a_confidence_is_told_with_it():
    study = finished(FIRST)
    (limit,) = limits_to_pick_by(study, {"leakage": 0.61}, confidence=0.95)
    assert limit.line == "limit leakage=0.61 at 95 % confidence: your budget"
    choice = choose(study, [limit], None)
    assert choice.failed == ("leakage 0.6336 at 95 % confidence > 0.61",)
    assert "confidence" not in Limit("leakage", 0.61, "your budget", BUDGET).row
    assert limit.row["confidence"] == 0.95


def test_a_confidence_is_about_budgets_and_memory_and_not_about_the_ceiling():
    chip = Limit("latency_ms", 11.0, "the chip is slow", DEVICE)
    study = finished(FIRST, SECOND, attrs={LIMITS: [USEFUL], MEMORY: [chip]})
    limits = {limit.metric: limit for limit in limits_to_pick_by(study, {"leakage": 0.7}, confidence=0.95)}
    assert {name: limit.confidence for name, limit in limits.items()} == {
        "error": None,
        "latency_ms": 0.95,
        "leakage": 0.95,
    }
    assert choose(study, list(limits.values()), "error").trial.number == 1


def test_a_limit_on_an_end_is_about_that_end_and_claims_no_confidence():
    # The end of a 95 % interval holds 97.5 % on one side: it must not be said to hold 99, nor a lower end anything.
    study = finished(FIRST)
    kept = limits_to_pick_by(study, {"leakage_low": 0.55, "leakage_high": 0.64, "latency_ms": 13.0}, confidence=0.99)
    assert {limit.metric: limit.confidence for limit in kept} == {
        "leakage_low": None,
        "leakage_high": None,
        "latency_ms": 0.99,
    }
    assert kept[1].line == "limit leakage_high=0.64: your budget"
    assert choose(study, kept, "error").failed == ()


def test_a_class_that_is_called_like_an_end_is_limited_with_confidence():
    (limit,) = limits_to_pick_by(finished(FIRST), {"class_error_risk_high": 0.5}, confidence=0.95)
    assert limit.confidence == 0.95


# Weights and orders.


def test_weights_are_of_metrics_scaled_to_their_range_on_the_front():
    # On the front (0, 1, 2) error is 0, 0.125, 1 of its range, leakage 1, 0.25, 0 and latency 1, 0.5, 0.
    study = study_of(*ROWS)
    choice = choose(study, [], None, weights={"error": 1.0, "leakage": 1.0})
    assert choice.trial.number == 1  # sums are 1, 0.375, 1
    assert choice.reason == (
        "lowest weighted sum on the front (error 1, leakage 1), each metric scaled to its range there"
    )
    assert choose(study, [], None, weights={"error": 6.0, "leakage": 1.0}).trial.number == 0  # 1, 1, 6: a draw
    assert choose(study, [], None, weights={"error": 7.0, "leakage": 1.0}).trial.number == 0  # 1, 1.125, 7
    assert choose(study, [], None, weights={"error": 1.0, "leakage": 4.0}).trial.number == 2  # 4, 1.125, 1
    assert choose(study, [], None, weights={"params": 1.0}).trial.number == 2  # of the front; 3 is not on it


@few
@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10), st.integers(-3, 3))
def test_a_weighted_choice_is_not_beaten_and_depends_on_the_ratio_of_weights_alone(error, leakage, latency, power):
    study, weights = study_of(*ROWS), {"error": error, "leakage": leakage, "latency_ms": latency}
    found = choose(study, [], None, weights=weights).trial.number
    assert found in {0, 1, 2}
    assert (
        choose(study, [], None, weights={name: one * 2.0**power for name, one in weights.items()}).trial.number == found
    )


def test_an_order_keeps_what_the_noise_does_not_tell_apart():
    # The intervals of leakage reach 0.1 down and nothing up: 0.6 is tied with 0.55, and 0.9 is not.
    rows = ((0.1, 0.9, 9.0, 500.0), (0.2, 0.6, 5.0, 400.0), (0.9, 0.55, 1.0, 300.0))
    study = study_of(*rows)
    choice = choose(study, [], None, order=["leakage", "error"])
    assert choice.trial.number == 1
    assert choice.reason == (
        "by the order leakage, error on the front: 2 of 3 have the lowest leakage (0.55) or are tied with it; "
        "lowest error (0.2) of 2"
    )
    assert choose(study, [], None, order=["leakage"]).trial.number == 2  # the last metric decides by its value
    # Error has no interval here, so the first alone is left and the second metric decides nothing.
    choice = choose(study, [], None, order=["error", "leakage"])
    assert (choice.trial.number, choice.reason) == (
        0,
        "by the order error, leakage on the front: lowest error (0.1) of 3",
    )


def test_costs_and_ends_of_intervals_have_no_ties_in_an_order_but_equal_numbers():
    study = study_of((0.2, 0.6, 5.0, 400.0), (0.3, 0.55, 5.0, 400.0), (0.1, 0.7, 5.1, 400.0))
    assert choose(study, [], None, order=["latency_ms", "error"]).trial.number == 0
    assert choose(study, [], None, order=["leakage_low", "error"]).trial.number == 1


def test_weights_and_orders_keep_to_the_limits_and_name_unknown_metrics():
    study = study_of(*ROWS)
    kept = limits_to_pick_by(study, {"latency_ms": 5.0})
    assert choose(study, kept, None, order=["error", "leakage"]).trial.number == 1
    assert choose(study, kept, None, weights={"error": 9.0, "leakage": 1.0}).reason.startswith(
        "lowest weighted sum on the front within the limits (error 9, leakage 1)"
    )
    for wish in ({"weights": {"speed": 1.0}}, {"order": ["error", "speed"]}):
        with pytest.raises(ValueError, match="no metric 'speed' in this run"):
            choose(study, [], None, **wish)
