"""NSGA-III, an evolutionary search for three objectives and more (Deb and Jain, 2014)."""

from __future__ import annotations

from optuna.samplers import BaseSampler
from optuna.samplers import NSGAIIISampler

from nas.search.plan import Plan

POPULATION = 20
"""Optuna's 50 is no better than random search for the first hundred trials."""


def make_sampler(_plan: Plan, seed: int) -> BaseSampler:
    """Return Optuna's sampler with a random stream of its own."""
    return NSGAIIISampler(seed=seed, population_size=POPULATION)
