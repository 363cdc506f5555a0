"""How a super-network's predictions compare with what stand-alone trainings gave."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from estimators.leakage.statistics.record_risk import kendall_tau
from nas.base.text import inline
from nas.base.text import two_places
from nas.search.config import SUPERNET
from nas.search.config import stored_config
from nas.search.schema import CONFIG
from nas.search.schema import PREDICTED

LEAST = 5
"""Candidates without which there is no rank correlation with an interval."""


def agreement(study: optuna.Study) -> str | None:
    """Say how alike a super-network and trainings order the candidates of a study; None without a super-network.

    These are all trained candidates that it could predict.
    """
    if SUPERNET not in stored_config(study.user_attrs[CONFIG]).like:
        return None
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    both = [trial for trial in trials if set(PREDICTED.values()) <= trial.user_attrs.keys()]
    start = f"super-network against stand-alone training, {len(both)} candidates"
    if len(both) < LEAST:
        return f"{start}: too few for a rank correlation, which takes {LEAST}"
    told = [f"{_tau(both, measure)} for {measure}" for measure in PREDICTED]
    return f"{start}: Kendall's tau {', '.join(told)}; its predictions are no figures of a candidate"


def _tau(trials: list[FrozenTrial], measure: str) -> str:
    names = PREDICTED[measure], measure
    predicted, measured = (np.array([float(trial.user_attrs[name]) for trial in trials]) for name in names)
    if not (np.ptp(predicted) and np.ptp(measured)):
        return "undefined (all are equal)"
    return inline(kendall_tau(predicted, measured), two_places)
