"""Tree-structured Parzen estimators of all parameters together (Bergstra et al., 2011; Ozaki et al., 2022).

Optuna's sampler looks at all trials of a study. Two things are changed here:

- What is sampled together is what the search samples. Optuna intersects the parameters of all trials at each ask, which
  takes longer the longer the study is, and one trial that ended before it was sampled leaves nothing of them.
- Beyond `LEARNT_FROM` trials it learns from the front and the latest others. Its densities have a kernel for each.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from nas.search.ledger import ledger_of
from nas.search.plan import Plan

LEARNT_FROM = 500
"""Finished trials that are learned from, more only if the front has more."""


class _Bounded(TPESampler):
    def __init__(self, distributions: Mapping[str, BaseDistribution], seed: int) -> None:
        super().__init__(seed=seed, multivariate=True, constant_liar=True)
        self._together = {name: one for name, one in sorted(distributions.items()) if not one.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self._together

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(_seen(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(_seen(study), trial, param_name, param_distribution)


class _Seen(optuna.Study):
    """A study of which a sampler sees some trials."""

    seen: list[FrozenTrial]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        del deepcopy, use_cache  # samplers change no trial
        return [trial for trial in self.seen if states is None or trial.state in states]


def _seen(study: optuna.Study) -> optuna.Study:
    """Return a study as it is learned from."""
    view = copy.copy(study)
    view.__class__ = _Seen
    view.seen = ledger_of(study).worth_learning(LEARNT_FROM)  # type: ignore[attr-defined]
    return view


def make_sampler(plan: Plan, seed: int) -> BaseSampler:
    """Return Optuna's sampler with a random stream of its own, over what the search samples."""
    return _Bounded(plan.distributions, seed)
