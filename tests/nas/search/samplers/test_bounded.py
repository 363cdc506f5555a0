"""Samplers that learn from a bounded number of trials: as Optuna's own on a small study, of some of a large one."""

from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import GPSampler
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from optuna.trial import create_trial

from nas.search.samplers import gp
from nas.search.samplers import tpe
from nas.spaces import sample

DISTRIBUTIONS = {
    "width": IntDistribution(1, 64, log=True),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "fixed": CategoricalDistribution(["one"]),
}
PLAN = SimpleNamespace(distributions=DISTRIBUTIONS)
OPTUNAS = {tpe: (TPESampler, {"multivariate": True, "constant_liar": True}), gp: (GPSampler, {})}
each_sampler = pytest.mark.parametrize("sampler", OPTUNAS, ids=["tpe", "gp"])


def study_of(count, seed=0):
    rng = np.random.default_rng(seed)
    study = optuna.create_study(directions=["minimize", "minimize"])
    for _ in range(count):
        params = sample(DISTRIBUTIONS, rng)
        values = [params["width"] / 64, abs(np.log10(params["rate"]) + 2) + (params["kind"] != "b")]
        study.add_trial(create_trial(params=params, distributions=DISTRIBUTIONS, values=values))
    return study


def asked(study, sampler):
    """Ask for one candidate, and leave the study as it is."""
    again = optuna.create_study(directions=study.directions, sampler=sampler)
    again.add_trials(study.get_trials())
    return again.ask(DISTRIBUTIONS).params


@pytest.fixture
def learnt_from(monkeypatch):
    """Note the numbers of the trials that a sampler learns from, ask by ask."""
    seen = []
    split, learn = optuna.samplers._tpe.sampler._split_trials, GPSampler._sample_relative_impl

    def tpe_learns(study, trials, n_below):
        seen.append({trial.number for trial in trials})
        return split(study, trials, n_below)

    def gp_learns(sampler, study, trials, *others):
        seen.append({trial.number for trial in trials})
        return learn(sampler, study, trials, *others)

    monkeypatch.setattr("optuna.samplers._tpe.sampler._split_trials", tpe_learns)
    monkeypatch.setattr(GPSampler, "_sample_relative_impl", gp_learns)
    return seen


@each_sampler
@pytest.mark.parametrize("count", [5, 10, 40])
def test_of_a_small_study_it_asks_what_optunas_asks(sampler, count):
    optunas, settings = OPTUNAS[sampler]
    assert asked(study_of(count), sampler.make_sampler(PLAN, 3)) == asked(study_of(count), optunas(seed=3, **settings))


@each_sampler
def test_a_trial_that_ended_before_it_was_sampled_changes_nothing(sampler, monkeypatch):
    study = study_of(40)
    expected = asked(study, sampler.make_sampler(PLAN, 3))
    study.add_trial(create_trial(state=TrialState.PRUNED))
    made, ways = sampler.make_sampler(PLAN, 3), []
    monkeypatch.setattr(OPTUNAS[sampler][0], "sample_independent", lambda *arguments: ways.append(arguments))
    assert asked(study, made).keys() == expected.keys()
    assert ways == []


@each_sampler
def test_of_a_large_study_it_learns_from_the_front_and_the_latest(sampler, monkeypatch, learnt_from):
    monkeypatch.setattr(sampler, "LEARNT_FROM", 30)
    study = study_of(80)
    first = asked(study, sampler.make_sampler(PLAN, 3))
    front = {trial.number for trial in study.best_trials}
    rest = [number for number in range(80) if number not in front]
    assert learnt_from == [front | set(rest[-(30 - len(front)) :])]
    assert min(front) < min(learnt_from[0] - front)
    assert asked(study, sampler.make_sampler(PLAN, 3)) == first  # in another process, too
