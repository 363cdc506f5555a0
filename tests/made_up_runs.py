"""Runs of the page's tests: a trained run's study in memory, with other trials, names and attributes."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState
from optuna.trial import create_trial

from nas.runs.run import Run

HOSTILE = '</script><img src=x onerror="window.hacked=1"><b>b</b> {{ 7 * 7 }} & \'"; rm -rf $HOME `id` ../../x \x1b[31m'


def changed(run: Run, *, name=None, trials=None, attrs=None, more=None, values=None, params=None) -> Run:
    """Return a run in memory that differs in some things; nothing of the given one is changed.

    Args:
        run: A run.
        name: Name of its study.
        trials: How many of its trained trials it has.
        attrs: Attributes of the study to set.
        more: Attributes of every trial to set.
        values: Returns the attributes of a trial to set, by its place.
        params: Parameters of every trial to add, with their distributions.
    """
    study = optuna.create_study(study_name=name or run.study.study_name, directions=run.study.directions)
    for key, value in {**run.study.user_attrs, **(attrs or {})}.items():
        study.set_user_attr(key, value)
    kept = run.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))[:trials]
    for place, trial in enumerate(kept):
        measured = {**trial.user_attrs, **(more or {}), **(values(place) if values else {})}
        added = {key: value for key, (value, _) in (params or {}).items()}
        study.add_trial(
            create_trial(
                params={**trial.params, **added},
                distributions={**trial.distributions, **{key: kind for key, (_, kind) in (params or {}).items()}},
                values=[float(measured[objective]) for objective in run.config.objectives],
                user_attrs=measured,
                system_attrs=trial.system_attrs,
            )
        )
    return Run(run.folder, study)
