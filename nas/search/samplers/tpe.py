"""Tree-structured Parzen estimators of all parameters together (Bergstra et al., 2011; Ozaki et al., 2022).

Optuna's sampler, over what the search samples. Beyond `LEARNT_FROM` trials it learns from the front and the latest
others. Its densities have a kernel for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

from nas.search.bounded import bounded
from nas.search.bounded import sampled_together
from nas.search.plan import Plan

LEARNT_FROM = 500
"""Finished trials that are learned from, more only if the front has more."""


class _Bounded(TPESampler):
    def __init__(self, distributions: Mapping[str, BaseDistribution], seed: int) -> None:
        super().__init__(seed=seed, multivariate=True, constant_liar=True)
        self._together = sampled_together(distributions)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self._together

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(bounded(study, LEARNT_FROM), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(bounded(study, LEARNT_FROM), trial, param_name, param_distribution)


def make_sampler(plan: Plan, seed: int) -> BaseSampler:
    """Return Optuna's sampler with a random stream of its own, over what the search samples."""
    return _Bounded(plan.distributions, seed)
