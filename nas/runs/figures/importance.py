"""Which parameters matter for reaching the best candidates, for each objective, beside what chance alone would show."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from nas.runs.figures.style import COLOURS
from nas.runs.figures.style import plain
from nas.runs.figures.style import said
from nas.search.storage import CONFIG

MOST_TRIALS = 1000
"""Importance is computed from so many candidates at most, spread evenly over the study."""
LEAST_TRIALS = 10
MOST_SHOWN = 15
SHUFFLES = 20
"""How often the values of an objective are shuffled, to see what chance gives."""


def importance(study: optuna.Study) -> go.Figure:
    """Draw how much each parameter matters for being among the best tenth in each objective (PED-ANOVA).

    Args:
        study: With trained candidates or without.
    """
    objectives = study.user_attrs[CONFIG]["objectives"]
    found = {place: importances(study, place) for place in range(len(objectives))}
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    if not names:
        return said(f"needs {LEAST_TRIALS} trained candidates and a parameter in which they differ")
    ranked = sorted(names, key=lambda name: -max(one.get(name, (0.0, 0.0))[0] for one in found.values()))
    shown = ranked[:MOST_SHOWN][::-1]
    figure = go.Figure()
    for place, objective in enumerate(objectives):
        colour = COLOURS[place % len(COLOURS)]
        shares = [found[place].get(name, (0.0, 0.0)) for name in shown]
        figure.add_trace(
            go.Bar(
                y=[plain(name) for name in shown],
                x=[share for share, _ in shares],
                orientation="h",
                name=plain(objective),
                marker={"color": colour},
                offsetgroup=str(place),
                customdata=[chance for _, chance in shares],
                hovertemplate="%{y}: %{x:.3f}, by chance up to %{customdata:.3f}<extra></extra>",
            )
        )
        figure.add_trace(
            go.Bar(
                y=[plain(name) for name in shown],
                x=[0.0] * len(shown),
                orientation="h",
                offsetgroup=str(place),
                error_x={"type": "data", "array": [chance for _, chance in shares], "symmetric": False, "thickness": 1},
                showlegend=False,
                hoverinfo="skip",
            )
        )
    figure.update_layout(
        barmode="group",
        xaxis={"title": {"text": "importance; the line ends where chance alone may reach"}},
        yaxis={"automargin": True},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02},
        height=140 + 20 * len(shown) * max(1, len(objectives)),
    )
    return figure


def importances(study: optuna.Study, objective: int) -> Mapping[str, tuple[float, float]]:
    """Return the importance of each parameter for an objective, and what shuffled values of the objective reach.

    Args:
        study: The study.
        objective: Place of the objective among the study's.

    Returns:
        By parameter: its importance, and the largest that it had among 20 shuffles. A parameter that is not well above
        the second has not been shown to matter. Empty for fewer than 10 candidates.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) < LEAST_TRIALS:
        return {}
    chosen = [trials[place] for place in np.linspace(0, len(trials) - 1, min(len(trials), MOST_TRIALS)).astype(int)]
    values = np.array([trial.values[objective] for trial in chosen])
    own = _evaluated(chosen, values)
    rng = np.random.default_rng(0)
    by_chance = [_evaluated(chosen, rng.permutation(values)) for _ in range(SHUFFLES)]
    return {name: (share, max(one.get(name, 0.0) for one in by_chance)) for name, share in own.items()}


def _evaluated(trials: Sequence[FrozenTrial], values: np.ndarray) -> dict[str, float]:
    """Ask Optuna about a study in memory, whose only objective are the values."""
    bare = optuna.create_study()
    bare.add_trials(
        [
            optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=float(value))
            for trial, value in zip(trials, values, strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low values are taken for good, as they are
        return get_param_importances(bare, evaluator=PedAnovaImportanceEvaluator(), normalize=False)
