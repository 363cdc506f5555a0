"""TPE over what a search samples: as Optuna's own on a small study, of a bounded number of trials on a large one."""

from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from optuna.trial import create_trial

from nas.search.samplers import tpe
from nas.spaces import sample

DISTRIBUTIONS = {
    "width": IntDistribution(1, 64, log=True),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "fixed": CategoricalDistribution(["one"]),
}
PLAN = SimpleNamespace(distributions=DISTRIBUTIONS)


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


@pytest.mark.parametrize("count", [5, 10, 40])
def test_of_a_small_study_it_asks_what_optunas_asks(count):
    plain = TPESampler(seed=3, multivariate=True, constant_liar=True)
    assert asked(study_of(count), tpe.make_sampler(PLAN, 3)) == asked(study_of(count), plain)


def test_a_trial_that_ended_before_it_was_sampled_changes_nothing(monkeypatch):
    study = study_of(40)
    expected = asked(study, tpe.make_sampler(PLAN, 3))
    study.add_trial(create_trial(state=TrialState.PRUNED))
    sampler, ways = tpe.make_sampler(PLAN, 3), []
    monkeypatch.setattr(TPESampler, "sample_independent", lambda *arguments: ways.append("alone"))
    assert asked(study, sampler).keys() == expected.keys()
    assert ways == []


def test_of_a_large_study_it_learns_from_the_front_and_the_latest(monkeypatch):
    monkeypatch.setattr(tpe, "LEARNT_FROM", 30)
    study, seen = study_of(80), []
    split = optuna.samplers._tpe.sampler._split_trials

    def looked_at(study, trials, n_below):
        seen.append({trial.number for trial in trials})
        return split(study, trials, n_below)

    monkeypatch.setattr("optuna.samplers._tpe.sampler._split_trials", looked_at)
    first = asked(study, tpe.make_sampler(PLAN, 3))
    front = {trial.number for trial in study.best_trials}
    rest = [number for number in range(80) if number not in front]
    assert seen == [front | set(rest[-(30 - len(front)) :])]
    assert min(front) < min(seen[0] - front)
    assert asked(study, tpe.make_sampler(PLAN, 3)) == first  # in another process, too
