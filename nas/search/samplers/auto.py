"""Picks one of three when a search begins, by its trainings, its costs and its space: cost_aware, tpe or random.

The search says which and why, and its study notes it, so that a search that goes on keeps it.
"""

from __future__ import annotations

from optuna.samplers import BaseSampler

from estimators.estimate import metric_of
from nas.base import plugins
from nas.search.plan import Plan

AT_RANDOM = 10
"""Trainings before `tpe` and `cost_aware` predict anything."""
FEW = 100
"""Trainings up to which `cost_aware` is taken: where they are few, what is known before them counts most."""


def pick(plan: Plan) -> tuple[str, str]:
    """Return the name of the sampler for a search, and why it is taken."""
    config = plan.config
    if config.trials <= AT_RANDOM:
        return "random", f"{config.trials} trainings are too few to learn from: others begin after {AT_RANDOM}"
    costs = [name for name in (*config.objectives, *config.budgets) if metric_of(name, plan.metrics)]
    if not costs:
        return "tpe", "no objective and no budget is a cost that is known before a training"
    if config.trials > FEW:
        return "tpe", f"{config.trials} trainings are more than {FEW}"
    if plugins.is_own(config.space):
        return "tpe", "cost_aware describes thousands of networks, and how long your own space takes is not known"
    return "cost_aware", f"{costs[0]} is known before a training, and {config.trials} trainings are few"


def make_sampler(plan: Plan, seed: int) -> BaseSampler:
    """Return the sampler that is picked for a search whose study notes none."""
    sampler: BaseSampler = plugins.load("nas.search.samplers", pick(plan)[0], "make_sampler")(plan, seed)
    return sampler
