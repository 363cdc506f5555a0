"""A study as samplers see it that learn from a bounded number of trials: an ask then takes as long in a long study."""

from __future__ import annotations

import copy
from collections.abc import Container
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from nas.search.ledger import ledger_of


class _Bounded(optuna.Study):
    """A study of which a sampler sees some trials."""

    seen: list[FrozenTrial]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        del deepcopy, use_cache  # samplers change no trial
        return [trial for trial in self.seen if states is None or trial.state in states]


def bounded(study: optuna.Study, count: int) -> optuna.Study:
    """Return a view of a study with its open trials, its front, and its latest finished trials.

    Args:
        study: It stays as it is.
        count: How many finished trials are seen, if the front is no larger.
    """
    view = copy.copy(study)
    view.__class__ = _Bounded
    view.seen = ledger_of(study).worth_learning(count)  # type: ignore[attr-defined]
    return view


def sampled_together(distributions: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """Return what Optuna samples together: all parameters of a search that have more than one value, by name.

    Optuna intersects the parameters of all trials at each ask, which takes longer the longer a study is, and one trial
    that ended before it was sampled leaves nothing of them.
    """
    return {name: one for name, one in sorted(distributions.items()) if not one.single()}
