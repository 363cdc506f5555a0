"""Tree-structured Parzen estimators of all parameters together (Bergstra et al., 2011; Ozaki et al., 2022)."""

from __future__ import annotations

from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler

from nas.search.plan import Plan


def make_sampler(_plan: Plan, seed: int) -> BaseSampler:
    """Return Optuna's sampler with a random stream of its own."""
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)
