"""The trained candidates of a study as one table."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from estimators.estimate import Estimate
from estimators.estimate import from_flat
from nas.runs.candidates import LONGEST_NAME
from nas.runs.candidates import MOST_METRICS
from nas.runs.candidates import Candidate
from nas.runs.candidates import candidates_of
from nas.runs.candidates import numbers_of
from nas.runs.report import architecture_of
from nas.runs.run import open_run
from nas.search.schema import LIMITS
from search_spaces.compressions import exits
from search_spaces.compressions import sparsity
from search_spaces.graph.builder import GraphBuilder
from tests.made_up_runs import changed


@pytest.fixture(scope="module")
def run(trained_run):
    return open_run(trained_run.name, trained_run.runs)


def made_of(architecture):
    return Candidate(0, {}, architecture, "none", {}, {}, (), is_best=False)


def network(*widths_and_bits):
    graph = GraphBuilder((4,))
    place = 0
    for width, bits in widths_and_bits:
        place = graph.linear(place, width, weight_bits=bits)
    return graph.architecture("test", {})


def test_every_trained_candidate_is_there_with_its_numbers_and_network(run):
    found = candidates_of(run.study)
    trials = run.study.get_trials(states=(TrialState.COMPLETE,))
    assert [row.number for row in found.rows] == [trial.number for trial in trials]
    assert {row.number for row in found.best} == {trial.number for trial in run.study.best_trials}
    for row, trial in zip(found.rows, trials, strict=True):
        assert row.architecture == architecture_of(run.study, trial)
        assert row.params == trial.params
        assert row.numbers == {name: from_flat(trial.user_attrs, name) for name in found.metrics}
        assert [row.numbers[name].value for name in found.objectives] == trial.values
    assert found.metrics[:3] == found.objectives == ("error", "leakage", "latency_ms")
    assert found.values("params").tolist() == [trial.user_attrs["params"] for trial in trials]


def test_the_front_is_sorted_by_the_first_objective(run):
    best = candidates_of(run.study).best
    errors = [row.numbers["error"].value for row in best]
    assert errors == sorted(errors)


def test_an_objective_may_be_an_end_of_an_interval(run):
    trial = run.study.best_trials[0]
    found = numbers_of(run.study, trial, ["leakage_high", "leakage"])
    assert found["leakage_high"] == Estimate.exact(trial.user_attrs["leakage_high"])
    assert found["leakage"].high == trial.user_attrs["leakage_high"]


def test_candidates_over_a_limit_say_so(run):
    limit = {"metric": "error", "value": 0.0, "reason": "your budget", "kind": "budget"}
    found = candidates_of(changed(run, attrs={LIMITS: [limit]}).study)
    assert all("error" in row.over[0] and "> 0" in row.over[0] for row in found.rows)


def test_a_study_without_trained_candidates_is_an_empty_table(run):
    found = candidates_of(changed(run, trials=0).study)
    assert (found.rows, found.best, found.metrics) == ((), [], run.config.objectives)


def test_attributes_of_others_are_bounded(run):
    more = {f"other_{number}": 0.5 for number in range(100)} | {"x" * (LONGEST_NAME + 1): 0.5, "note": "x" * 10_000_000}
    found = candidates_of(changed(run, more=more).study)
    assert len(found.metrics) == MOST_METRICS
    assert max(map(len, found.metrics)) <= LONGEST_NAME
    assert set(found.objectives) < set(found.metrics)


def test_bits_are_weighted_by_the_weights_that_have_them():
    assert made_of(network((8, 8), (2, 2))).mean_weight_bits == (8 * 32 + 2 * 16) / 48


def test_zeros_and_exits_are_counted():
    plain = network((8, 8), (8, 8), (2, 8))
    assert (made_of(plain).zeros, made_of(plain).early_exits) == (0.0, 0)
    assert made_of(sparsity.compress(plain, 0.5, "unstructured", "uniform")).zeros == pytest.approx(0.5, abs=0.2)
    assert made_of(exits.compress(plain, 1, "even", 0, 0.9)).early_exits == 1
