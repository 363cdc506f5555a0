"""The sampler that knows costs, with a study of one's own: an error to find out and a cost that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from nas.search.samplers import cost_aware
from nas.search.samplers.cost_aware import CostAwareSampler
from nas.search.samplers.cost_aware import mutated
from nas.search.surrogate.known import Known
from nas.search.surrogate.known import by_choice
from search_spaces.space import check_point

DISTRIBUTIONS = {
    "width": IntDistribution(1, 40),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "unused": FloatDistribution(0, 1),
}
features = by_choice(DISTRIBUTIONS)


def cost(params):
    return params["width"] * (2 if params["kind"] == "c" else 1) / 80


def error(params):
    """Wide ones are good, at a rate of 1e-2 and of kind b."""
    away = (np.log10(params["rate"]) + 2) ** 2 / 4
    return 0.1 + 0.5 / (1 + params["width"] / 4) + 0.3 * min(away, 1) + {"a": 0.1, "b": 0.0, "c": 0.05}[params["kind"]]


def look(params):
    return Known((None, cost(params)), features(params), tuple(params[name] for name in ("width", "rate", "kind")))


def search(sampler, trials=30, look=look):
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)

    def objective(trial):
        trial.suggest_int("width", 1, 40)
        trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("kind", ["a", "b", "c"])
        trial.suggest_float("unused", 0, 1)
        return error(trial.params), cost(trial.params)

    study.optimize(objective, n_trials=trials)
    return study


def volume(study):
    values = np.array([trial.values for trial in study.get_trials(states=(TrialState.COMPLETE,))])
    return compute_hypervolume(values, np.ones(2))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.setattr(cost_aware, "POOL", 800)


def test_it_finds_more_than_random_search_with_twice_the_trials():
    ours = [volume(search(CostAwareSampler(DISTRIBUTIONS, look, seed=seed))) for seed in range(3)]
    random = [volume(search(RandomSampler(seed=seed), trials=60)) for seed in range(3)]
    assert min(ours) > max(random)


def test_it_asks_for_the_same_in_any_process():
    study = search(CostAwareSampler(DISTRIBUTIONS, look, seed=1), trials=20)
    asked = []
    for earlier in (0, 5):
        sampler = CostAwareSampler(DISTRIBUTIONS, look, seed=1)
        trial = study.get_trials()[-1]
        for number in range(earlier):  # whatever it was asked before
            sampler.sample_relative(study, study.get_trials()[number + 10], DISTRIBUTIONS)
        asked.append(sampler.sample_relative(study, trial, DISTRIBUTIONS))
    assert asked[0] == asked[1]
    check_point(DISTRIBUTIONS, asked[0], "the study")


def test_it_never_asks_for_what_is_not_worth_a_trial():
    def picky(params):
        return look(params) if cost(params) <= 0.2 else None

    study = search(CostAwareSampler(DISTRIBUTIONS, picky, seed=0))
    assert max(trial.values[1] for trial in study.get_trials()) <= 0.2


def test_it_asks_for_no_candidate_twice():
    coarse = {**DISTRIBUTIONS, "rate": CategoricalDistribution([1e-2]), "width": IntDistribution(1, 8)}

    def few(params):
        return Known((None, cost(params)), by_choice(coarse)(params), (params["width"], params["kind"]))

    study = optuna.create_study(directions=["minimize"] * 2, sampler=CostAwareSampler(coarse, few, seed=0))
    for _ in range(20):
        trial = study.ask(coarse)
        study.tell(trial, [error(trial.params), cost(trial.params)])
    assert len({(trial.params["width"], trial.params["kind"]) for trial in study.get_trials()}) == 20


def test_what_is_under_way_is_left_to_others():
    study = search(CostAwareSampler(DISTRIBUTIONS, look, seed=2), trials=15)
    together = [study.ask(DISTRIBUTIONS).params for _ in range(6)]
    assert len({look(params).key for params in together}) == 6
    costs = sorted(cost(params) for params in together)
    assert costs[-1] - costs[0] > 0.1


def test_a_limit_that_only_a_training_tells_of_is_kept_to():
    """Of kind b nothing is feasible: with the constraint told, it is asked for less and less."""
    study = optuna.create_study(directions=["minimize"] * 2, sampler=CostAwareSampler(DISTRIBUTIONS, look, seed=0))
    for _ in range(40):
        trial = study.ask(DISTRIBUTIONS)
        trial.set_constraint("measured", 1.0 if trial.params["kind"] == "b" else -1.0)
        study.tell(trial, [error(trial.params), cost(trial.params)])
    late = [trial.params["kind"] for trial in study.get_trials()[20:]]
    assert late.count("b") <= 4  # a third by chance, and most without the constraint


@pytest.mark.parametrize(
    ("cost", "other", "alike"),
    [
        # Over three orders of magnitude what counts is the ratio, which a power scales alike everywhere.
        (lambda width: 10 ** (width / 13), lambda width: 10 ** (2 * width / 13), True),
        (lambda width: 10 ** (width / 13), lambda width: 10 ** (width / 13) + 100, False),
        # Within one it is the difference, which an offset leaves alone.
        (lambda width: 10.0 + width, lambda width: 30.0 + width, True),
        (lambda width: 10.0 + width, lambda width: (10.0 + width) ** 2, False),
    ],
    ids=["ratio kept", "ratio changed", "difference kept", "difference changed"],
)
def test_a_cost_of_orders_of_magnitude_counts_by_its_ratio(cost, other, alike):
    def searched(cost):
        sampler = CostAwareSampler(
            DISTRIBUTIONS, lambda params: replace(look(params), costs=(None, cost(params["width"]))), seed=0
        )
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        for _ in range(16):
            trial = study.ask(DISTRIBUTIONS)
            study.tell(trial, [error(trial.params), cost(trial.params["width"])])
        return [trial.params for trial in study.trials]

    assert (searched(cost) == searched(other)) is alike


def test_a_mutation_is_a_point_and_differs_little():
    rng = np.random.default_rng(0)
    point = {"width": 20, "rate": 1e-2, "kind": "a", "unused": 0.5}
    changed = [mutated(point, DISTRIBUTIONS, rng) for _ in range(300)]
    for one in changed:
        check_point(DISTRIBUTIONS, one, "the study")
    counts = [sum(one[name] != point[name] for name in point) for one in changed]
    assert 0.8 < np.mean(counts) < 2


def test_it_looks_at_no_point_twice_while_it_remembers_it(monkeypatch):
    coarse = {**DISTRIBUTIONS, "rate": CategoricalDistribution([1e-2]), "unused": CategoricalDistribution([0])}
    looked_at = []

    def noted(params):
        looked_at.append(tuple(params[name] for name in coarse))
        return Known((None, cost(params)), by_choice(coarse)(params), looked_at[-1])

    def asked(sampler):
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        for _ in range(15):
            trial = study.ask(coarse)
            study.tell(trial, [error(trial.params), cost(trial.params)])
        return [trial.params for trial in study.get_trials()]

    monkeypatch.setattr(cost_aware, "POOL", 40)
    with_memory = asked(CostAwareSampler(coarse, noted, seed=0))
    assert len(looked_at) == len(set(looked_at))
    # What is forgotten is looked at again, and nothing else changes.
    monkeypatch.setattr(cost_aware, "LOOKED_AT", 1)
    once = len(looked_at)
    looked_at.clear()
    assert asked(CostAwareSampler(coarse, noted, seed=0)) == with_memory
    assert len(looked_at) > once


def test_the_first_candidates_are_by_turns_the_most_promising_of_their_costs(monkeypatch):
    def promising(params):
        return replace(look(params), promise=-abs(np.log10(params["rate"]) + 2))

    monkeypatch.setattr(cost_aware, "POOL_GROWTH", 800)
    away = {}
    for seed in range(5):
        first = search(CostAwareSampler(DISTRIBUTIONS, promising, seed=seed), trials=10).trials
        for trial in first:
            away.setdefault(trial.number % 2, []).append(abs(np.log10(trial.params["rate"]) + 2))
    assert max(away[0]) < 0.2
    assert np.mean(away[1]) > 0.4
