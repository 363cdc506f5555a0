"""Sample candidates by a sampler whose random stream depends on the seed and where it is used, or as they are given."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Mapping
from functools import partial
from weakref import WeakKeyDictionary

import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import Trial

from nas.base import plugins
from nas.search.plan import Plan
from nas.search.schema import CAN_RUN
from nas.search.schema import given_to
from nas.search.schema import picked_in
from nas.training.schedule import seed_from
from search_spaces.graph.architecture import ParamValue

RANDOM = "random"


def make_sampler(plan: Plan, name: str, *where: int | str) -> BaseSampler:
    """Return a sampler whose random stream depends on the run's seed and on where it is used, and on nothing else.

    Args:
        plan: The search.
        name: A file of `nas/search/samplers`, or a module of the user's own.
        where: Where it is used: a trial's number, the name of a parameter.
    """
    make = plugins.load("nas.search.samplers", name, "make_sampler")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: BaseSampler = make(plan, seed_from(plan.config.seed, *where))
    return sampler


def sampler_of(plan: Plan, study: optuna.Study, trial: FrozenTrial | Trial) -> Callable[..., BaseSampler]:
    """Return what makes the sampler of a trial, and with the name of a parameter the one of that parameter.

    A trial that is given a point has that; any other one is asked for by the search's sampler.
    """
    given = given_to(study.user_attrs, trial)
    if given is None:
        return usual_sampler(plan, study, trial)
    return lambda *where: _OfAPoint(given.params, plan, seed_from(plan.config.seed, trial.number, *where))


def usual_sampler(plan: Plan, study: optuna.Study, trial: FrozenTrial | Trial) -> Callable[..., BaseSampler]:
    """Return what makes a search's sampler for a trial: that of the settings, or the one picked when the study began.

    Where all earlier candidates cannot run on the device (`nothing_ran`), there is nothing to learn, and a sampler that
    learns from them would ask for the like of them again and again.
    """
    picked = picked_in(study.user_attrs)
    name = picked.sampler if picked else plan.config.sampler
    return partial(make_sampler, plan, RANDOM if nothing_ran(plan, study, trial.number) else name, trial.number)


class _OfAPoint(RandomSampler):
    """A sampler that asks for a given point, and draws at random what the point leaves open."""

    def __init__(self, point: Mapping[str, ParamValue], plan: Plan, seed: int) -> None:
        super().__init__(seed=seed)
        self._point = {name: value for name, value in point.items() if name in plan.distributions}
        self._given = {name: plan.distributions[name] for name in self._point}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self._given

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, ParamValue]:
        del study, trial, search_space
        return self._point


def nothing_ran(plan: Plan, study: optuna.Study, number: int) -> bool:
    """Tell whether candidates before a trial were refused because they cannot run, and none was priced."""
    known = _priced.setdefault(study._storage, {})  # noqa: SLF001 - copies of a study share it
    if known.get(study._study_id, number) < number:  # noqa: SLF001
        return False
    earlier = study.get_trials(deepcopy=False)[:number]
    for trial in earlier:
        if not plan.metrics.keys().isdisjoint(trial.user_attrs):
            known[study._study_id] = trial.number  # noqa: SLF001
            return False
    return any(trial.constraints.get(CAN_RUN, 0.0) > 0 for trial in earlier)


def suggest(plan: Plan, trial: Trial) -> dict[str, ParamValue]:
    """Sample every parameter, or fetch those that a process sampled before it died.

    What is sampled jointly is sampled before anything is written, and the rest with a random stream for each parameter,
    so that it does not matter which of them are there already.
    """
    _ = trial.relative_params
    params = {}
    make = sampler_of(plan, trial.study, trial)
    for name, distribution in plan.distributions.items():
        trial.study.sampler = make(name)
        params[name] = _suggest_one(trial, name, distribution)
    return params


def _suggest_one(trial: Trial, name: str, distribution: BaseDistribution) -> ParamValue:
    if isinstance(distribution, CategoricalDistribution):
        choice: ParamValue = trial.suggest_categorical(name, distribution.choices)
        return choice
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"no rule for {type(distribution).__name__}; there are categorical, int and float")


_priced: WeakKeyDictionary[BaseStorage, dict[int, int]] = WeakKeyDictionary()
"""The first trial of each study that was priced: it stays so, and a list of all trials grows with the study."""
