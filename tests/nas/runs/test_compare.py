"""Candidates side by side: what differs, by how much, and what the noise tells apart."""

from __future__ import annotations

import optuna
import pytest

from estimators.estimate import Estimate
from estimators.estimate import flat
from nas.runs import compare
from nas.runs.run import open_run
from nas.search.schema import CONFIG


def made_up(*measures, objectives=("error", "leakage", "latency_ms"), budgets=()):
    """A study with a trained trial for each set of numbers."""
    study = optuna.create_study(directions=["minimize"])
    study.set_user_attr(CONFIG, {"objectives": list(objectives), "budgets": dict.fromkeys(budgets, 1.0)})
    for attrs in measures:
        study.add_trial(optuna.trial.create_trial(value=0.0, user_attrs=attrs))
    return study, study.trials


FIRST = {
    "macs": 30_000,
    **flat({"latency_ms": Estimate(0.5, 0.3, 0.9)}),
    **flat({"error": Estimate(0.20, 0.17, 0.23), "leakage": Estimate(0.60, 0.56, 0.64)}),
}
SECOND = {
    "macs": 10_000,
    **flat({"latency_ms": Estimate(0.4, 0.3, 0.5)}),
    **flat({"error": Estimate(0.21, 0.17, 0.25), "leakage": Estimate(0.50, 0.47, 0.53)}),
}


def test_differences_by_hand():
    study, (first, second) = made_up(FIRST, SECOND)
    error, leakage, latency, macs = compare.differences(
        study, first, second, ["error", "leakage", "latency_ms", "macs"]
    )
    # MOVER: the root of the squared distances to the ends that lie apart, 0.04 and 0.03 down, 0.04 and 0.03 up.
    assert (error.change.value, error.change.low, error.change.high) == pytest.approx((0.01, -0.04, 0.06))
    assert (leakage.change.value, leakage.change.low, leakage.change.high) == pytest.approx((-0.10, -0.15, -0.05))
    assert (error.tied, leakage.tied) == (True, False)
    assert (latency.tied, macs.tied) == (None, None)
    assert macs.change == Estimate.exact(-20_000)
    assert macs.row == {"metric": "macs", "change": -20_000, "tied": None}
    assert compare.in_words(error) == "error +1.0 (-4.0 to +6.0) percentage points, tied"
    assert compare.in_words(macs) == "macs -20,000"


def test_a_candidate_is_tied_with_itself_and_nothing_is_gained():
    study, (first,) = made_up(FIRST)
    found = compare.differences(study, first, first, ["error", "leakage"])
    assert [one.change.value for one in found] == [0, 0]
    assert all(one.tied for one in found)


def test_a_difference_of_an_extrapolated_number_is_marked():
    study, (first, second) = made_up(FIRST, {**SECOND, "latency_ms_extrapolated": True})
    (found,) = compare.differences(study, first, second, ["latency_ms"])
    assert found.change.extrapolated
    assert compare.told(found).splitlines()[0] == "-0.100*"


def test_what_all_candidates_have_is_compared_and_single_classes_where_they_are_asked_for():
    more = {"class_error_a": 0.1, "class_error_b": 0.2, "name": "text", "energy_mj": 1.0}
    study, trials = made_up(
        {**FIRST, **more}, {**SECOND, "class_error_a": 0.2, "class_error_b": 0.2}, budgets=("class_error_a",)
    )
    assert compare.metrics_of(study, trials) == ["error", "leakage", "macs", "latency_ms", "class_error_a"]


def test_a_walk_looks_at_leakage_first_and_at_the_objectives():
    study, trials = made_up(FIRST, SECOND, objectives=("macs", "leakage_high", "error"))
    assert compare.walked_by(study, trials) == ["leakage", "error", "latency_ms", "macs"]


def test_parameters_that_differ_are_those_that_make_a_difference(trained_run):
    opened = open_run("small", trained_run.runs)
    trials = opened.study.trials
    found = compare.parameters(opened.study, trials)
    space_params = [name for name in found if name in opened.architecture(trials[0]).params]
    assert space_params
    for place, trial in enumerate(trials):
        network = opened.architecture(trial)
        for name in space_params:
            others = {opened.architecture(other).params[name] for other in trials} - {network.params[name]}
            space = compare.report.space_of(opened.study)
            changed = {space.decode({**network.params, name: value}).key for value in others} - {network.key}
            assert (found[name][place] is not None) == bool(changed), name
    assert {name for name in found if name.startswith("recipe.")} == {
        "recipe.learning_rate", "recipe.weight_decay", "recipe.dropout", "recipe.label_smoothing",
    }  # fmt: skip
    assert found["recipe.dropout"] == [trial.params["dropout"] for trial in trials]
    assert found["defence"] == [trial.params["defence"] for trial in trials]


def test_a_candidate_differs_from_itself_in_nothing(trained_run):
    opened = open_run("small", trained_run.runs)
    trial = opened.study.trials[0]
    assert compare.parameters(opened.study, [trial, trial]) == {}
