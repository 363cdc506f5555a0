"""Sample candidates by the sampler of the settings, whose random stream depends on the seed and where it is used."""

from __future__ import annotations

import warnings
from weakref import WeakKeyDictionary

import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import Trial

from nas.base import plugins
from nas.search.plan import Plan
from nas.search.schema import CAN_RUN
from nas.training.schedule import seed_from
from search_spaces.graph.architecture import ParamValue


def make_sampler(plan: Plan, *where: int | str, nothing_ran: bool = False) -> BaseSampler:
    """Return a sampler whose random stream depends on the run's seed and on where it is used, and on nothing else.

    Args:
        plan: The search.
        where: Where it is used: a trial's number, the name of a parameter.
        nothing_ran: Whether all earlier candidates cannot run on the device (`nothing_ran`): there is nothing to learn,
            and a sampler that learns from them would ask for the like of them again and again.
    """
    name = "random" if nothing_ran else plan.config.sampler
    make = plugins.load("nas.search.samplers", name, "make_sampler")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: BaseSampler = make(plan, seed_from(plan.config.seed, *where))
    return sampler


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
    blind = nothing_ran(plan, trial.study, trial.number)
    for name, distribution in plan.distributions.items():
        trial.study.sampler = make_sampler(plan, trial.number, name, nothing_ran=blind)
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
