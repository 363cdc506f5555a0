"""Optuna's Gaussian process over all parameters, and the hypervolume that a candidate is expected to add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import GPSampler
from optuna.samplers._gp.sampler import _get_params
from optuna.trial import FrozenTrial

from nas.search.plan import Plan


class _Resumable(GPSampler):
    """Optuna notes in a trial what it sampled for it, and asked again keeps away from that as from another trial's."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        noted: Mapping[str, Any] = _get_params(trial)
        if search_space and search_space.keys() <= noted.keys():
            return {name: noted[name] for name in search_space}
        return super().sample_relative(study, trial, search_space)


def make_sampler(_plan: Plan, seed: int) -> BaseSampler:
    """Return Optuna's sampler with a random stream of its own."""
    return _Resumable(seed=seed)
