"""What every sampler keeps to: valid points, and nothing that it knows beside the study."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from optuna.trial import TrialState

from nas.base import plugins
from nas.runs.progress import count
from nas.search.claims import claim
from nas.search.rungs import Stopped
from nas.search.rungs import reason_in
from nas.search.storage import open_study
from search_spaces.space import check_point
from tests.small_search import elsewhere
from tests.small_search import planned
from tests.small_search import run_here
from tests.small_search import with_settings
from tests.small_search import without_training

SAMPLERS = plugins.available("nas.search.samplers", "make_sampler")


@pytest.fixture(scope="module")
def mlp_plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("plan"))


@pytest.fixture(params=SAMPLERS)
def searched(request, mlp_plan, tmp_path, monkeypatch):
    """A plan with a sampler, and its study after 14 candidates, more than any sampler draws at random first."""
    without_training(monkeypatch)
    plan = with_settings(elsewhere(mlp_plan, tmp_path / "run"), sampler=request.param, trials=14)
    return plan, run_here(plan)


@pytest.mark.parametrize("name", SAMPLERS)
def test_it_goes_on_beside_trials_that_were_stopped_at_a_rung(name, mlp_plan, tmp_path, monkeypatch):
    """Two thirds of the study have no values; they are no duplicates, feasible, and not asked for again."""
    without_training(monkeypatch)
    row = {"epochs": 1, "of": 9, "place": 3, "among": 4, "goes_on": False, "error": 0.5, "leakage": 0.5}

    @contextmanager
    def stopping(_study, proposal):
        if proposal.trial.number % 3:
            proposal.trial.set_user_attr("rung_1", {**row, "latency_ms": 1.0})
            raise Stopped(reason_in(proposal.trial.user_attrs))
        yield

    monkeypatch.setattr("nas.search.study.failing", stopping)
    plan = with_settings(elsewhere(mlp_plan, tmp_path / "run"), sampler=name, trials=14)
    study = run_here(plan)
    trials = study.get_trials()
    keys = [trial.user_attrs["key"] for trial in trials if "duplicate" not in trial.user_attrs.get("rejected", "")]
    counts = count(trials)
    assert counts.rejected == 0
    assert len(set(keys)) == len(keys)
    assert counts.stopped > counts.trained >= 10
    assert 13 < counts.spent <= 14
    for trial in trials:
        check_point(plan.distributions, trial.params, "the plan")
        assert all(value <= 0 for value in trial.constraints.values())
    assert asked(plan) == asked(plan)


def asked(plan):
    """Return the number of the trial under way and what is sampled together for it, as whoever takes it up is told."""
    trial, hold = claim(with_settings(plan, trials=15), open_study(plan))
    hold.release()
    return trial.number, trial.relative_params


def test_it_samples_points_of_the_space(searched):
    plan, study = searched
    trained = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trained) == 14
    for trial in trained:
        check_point(plan.distributions, trial.params, "the plan")
    assert len({trial.user_attrs["key"] for trial in trained}) == 14


def test_it_remembers_nothing_that_is_not_in_the_study(searched):
    plan, _ = searched
    assert asked(plan) == asked(plan)


def test_another_seed_samples_other_candidates(searched):
    plan, study = searched
    other = run_here(with_settings(plan, name="other", seed=plan.config.seed + 1))
    keys = [{trial.user_attrs["key"] for trial in one.get_trials()} for one in (study, other)]
    assert keys[0] != keys[1]
