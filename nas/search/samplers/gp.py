"""Optuna's Gaussian process over all parameters, and the hypervolume that a candidate is expected to add.

It is over what the search samples. Beyond `LEARNT_FROM` trials it learns from the front and the latest others: its time
grows with the third power of their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import GPSampler
from optuna.samplers._gp.sampler import _get_params
from optuna.trial import FrozenTrial

from nas.search.bounded import bounded
from nas.search.bounded import sampled_together
from nas.search.plan import Plan

LEARNT_FROM = 200
"""Finished trials that are learned from, more only if the front has more."""


class _Bounded(GPSampler):
    def __init__(self, distributions: Mapping[str, BaseDistribution], seed: int) -> None:
        super().__init__(seed=seed)
        self._together = sampled_together(distributions)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self._together

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # Optuna notes in a trial what it sampled for it, and asked again keeps away from that as from another trial's.
        noted: Mapping[str, Any] = _get_params(trial)
        if search_space and search_space.keys() <= noted.keys():
            return {name: noted[name] for name in search_space}
        return super().sample_relative(bounded(study, LEARNT_FROM), trial, search_space)


def make_sampler(plan: Plan, seed: int) -> BaseSampler:
    """Return Optuna's sampler with a random stream of its own, over what the search samples."""
    return _Bounded(plan.distributions, seed)
