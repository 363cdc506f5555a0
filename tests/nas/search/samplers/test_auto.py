"""The sampler that is picked when a search begins: by what rule, and that it stays."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler

from nas.base.plugins import TRUSTED
from nas.runs.report import settings_lines
from nas.search.samplers import auto
from nas.search.samplers.cost_aware import CostAwareSampler
from nas.search.samplers.tpe import _Bounded
from nas.search.sampling import sampler_of
from nas.search.schema import SAMPLER
from nas.search.storage import open_study
from tests.small_search import elsewhere
from tests.small_search import planned
from tests.small_search import record_of
from tests.small_search import run_here
from tests.small_search import tiny_space
from tests.small_search import with_settings
from tests.small_search import without_training


@pytest.fixture(scope="module")
def mlp_plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"), sampler="auto", trials=24)


@pytest.fixture
def plan(mlp_plan, tmp_path, monkeypatch):
    without_training(monkeypatch)
    return elsewhere(mlp_plan, tmp_path / "run")


RULE = [
    ({"trials": 10}, "random", "10 trainings are too few to learn from: others begin after 10"),
    ({"trials": 11}, "cost_aware", "latency_ms is known before a training, and 11 trainings are few"),
    ({"trials": 100}, "cost_aware", "latency_ms is known before a training, and 100 trainings are few"),
    ({"trials": 101}, "tpe", "101 trainings are more than 100"),
    (
        {"objectives": ("error", "flash_kib_high")},
        "cost_aware",
        "flash_kib_high is known before a training, and 24 trainings are few",
    ),
    (
        {"objectives": ("error", "leakage"), "budgets": {"error": 0.3, "macs": 1e5}},
        "cost_aware",
        "macs is known before a training, and 24 trainings are few",
    ),
    (
        {"objectives": ("error", "mean_latency_ms"), "budgets": {"leakage": 0.6}},
        "tpe",
        "no objective and no budget is a cost that is known before a training",
    ),
]


@pytest.mark.parametrize(("changes", "sampler", "reason"), RULE)
def test_the_rule(plan, changes, sampler, reason):
    assert auto.pick(with_settings(plan, **changes)) == (sampler, reason)


def test_a_space_of_ones_own_may_be_slow_to_describe(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUSTED, "tiny_spaces.three")
    sampler, reason = auto.pick(planned(tmp_path / "runs", space=tiny_space(tmp_path), trials=24))
    assert (sampler, reason[:26]) == ("tpe", "cost_aware describes thous")


def test_without_a_study_it_is_what_it_picks(plan):
    kinds = {10: RandomSampler, 24: CostAwareSampler, 200: _Bounded}
    for trials, kind in kinds.items():
        assert type(auto.make_sampler(with_settings(plan, trials=trials), 0)) is kind


def test_a_search_says_what_was_picked_and_is_that_of_its_explicit_choice(plan, tmp_path):
    plan = with_settings(plan, trials=13)
    study = run_here(plan)
    line = "sampler cost_aware, picked by auto: latency_ms is known before a training, and 13 trainings are few"
    assert line in settings_lines(study)
    explicit = run_here(with_settings(elsewhere(plan, tmp_path / "explicit"), sampler="cost_aware"))
    assert record_of(study) == record_of(explicit)
    assert SAMPLER not in explicit.user_attrs
    assert not [line for line in settings_lines(explicit) if line.startswith("sampler ")]


def test_what_was_picked_stays_when_a_search_goes_on_with_more_trials(plan, tmp_path):
    whole = run_here(with_settings(elsewhere(plan, tmp_path / "whole"), sampler="random", trials=14))
    first = with_settings(plan, trials=8)
    assert auto.pick(first)[0] == "random"
    run_here(first)
    gone_on = run_here(with_settings(plan, trials=14))
    assert auto.pick(with_settings(plan, trials=14))[0] == "cost_aware"
    assert gone_on.user_attrs[SAMPLER]["sampler"] == "random"
    assert record_of(gone_on) == record_of(whole)


def test_what_other_settings_picked_does_not_count(plan):
    """As when a process died while it wrote down the study, and the search was begun again by a sampler's name."""
    study = open_study(with_settings(plan, sampler="tpe"))
    study.set_user_attr(SAMPLER, {"by": "auto", "sampler": "random", "reason": ""})
    assert type(sampler_of(with_settings(plan, sampler="tpe"), study, study.ask())()) is _Bounded


def test_a_study_of_somebody_elses_cannot_have_a_module_run(plan):
    study = open_study(plan)
    study.set_user_attr(SAMPLER, {"by": "auto", "sampler": "somebodys.module", "reason": ""})
    with pytest.raises(ValueError, match=r"names the module 'somebodys.module', whose code would run here"):
        sampler_of(plan, study, study.ask())()
