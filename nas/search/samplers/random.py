"""Random search: all parameters are drawn independently of what was trained."""

from __future__ import annotations

from optuna.samplers import BaseSampler
from optuna.samplers import RandomSampler

from nas.search.plan import Plan


def make_sampler(_plan: Plan, seed: int) -> BaseSampler:
    """Return Optuna's sampler with a random stream of its own."""
    return RandomSampler(seed=seed)
