"""Which parameters matter for reaching the best candidates, for each objective, beside what chance alone would show."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.importance import get_param_importances
from optuna.trial import TrialState
from optuna.trial import create_trial

from nas.runs.figures.style import COLOURS
from nas.runs.figures.style import GREY
from nas.runs.figures.style import plain
from nas.runs.figures.style import said
from nas.search.storage import CONFIG

MOST_TRIALS = 300
"""Importance is computed from so many candidates at most, spread evenly over the study: more take long."""
LEAST_TRIALS = 10
MOST_SHOWN = 15
SHUFFLES = 20
"""How often candidates are put in a random order, to see what chance gives."""


def importance(study: optuna.Study) -> go.Figure:
    """Draw how much each parameter matters for being among the best tenth in each objective (PED-ANOVA).

    Args:
        study: With trained candidates or without.
    """
    objectives = study.user_attrs[CONFIG]["objectives"]
    found, chance = importances(study)
    if not chance:
        return said(f"needs {LEAST_TRIALS} trained candidates and a parameter in which they differ")
    ranked = sorted(chance, key=lambda name: -max(one[name] for one in found))
    shown = ranked[:MOST_SHOWN][::-1]
    figure = go.Figure()
    for place, (objective, shares) in enumerate(zip(objectives, found, strict=True)):
        figure.add_trace(
            go.Bar(
                y=[plain(name) for name in shown],
                x=[shares[name] for name in shown],
                orientation="h",
                name=plain(objective),
                marker={"color": COLOURS[place % len(COLOURS)]},
                hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            y=[plain(name) for name in shown],
            x=[chance[name] for name in shown],
            mode="markers",
            marker={"color": GREY, "symbol": "line-ns-open", "size": 16, "line": {"width": 2}},
            name="by chance, up to",
            hovertemplate="%{y}: by chance up to %{x:.3f}<extra></extra>",
        )
    )
    figure.update_layout(
        barmode="group",
        xaxis={"title": {"text": "importance"}},
        yaxis={"automargin": True},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02},
        height=140 + 20 * len(shown) * max(1, len(objectives)),
    )
    return figure


def importances(study: optuna.Study) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Return the importance of each parameter for each objective, and what chance reaches.

    Args:
        study: The study.

    Returns:
        For each objective the importance by parameter; and by parameter the largest that it had in 20 random orders of
        the candidates. A parameter that is not well above that has not been shown to matter. Empty for fewer than 10
        candidates, or where they do not differ.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    objectives = len(study.directions)
    if len(trials) < LEAST_TRIALS:
        return [{} for _ in range(objectives)], {}
    chosen = [trials[place] for place in np.linspace(0, len(trials) - 1, min(len(trials), MOST_TRIALS)).astype(int)]
    bare = optuna.create_study()  # of one objective, which the evaluation of Optuna wants
    bare.add_trials([create_trial(params=one.params, distributions=one.distributions, value=0.0) for one in chosen])
    rng = np.random.default_rng(0)
    found = [_evaluated(bare, [trial.values[place] for trial in chosen]) for place in range(objectives)]
    orders = [_evaluated(bare, rng.permutation(len(chosen)).tolist()) for _ in range(SHUFFLES)]
    return found, {name: max(one[name] for one in orders) for name in found[0]}


def _evaluated(bare: optuna.Study, values: Sequence[float]) -> dict[str, float]:
    """Ask Optuna, with a value for each trial of a study in the place of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low values are taken for good, as they are
        return get_param_importances(
            bare,
            evaluator=PedAnovaImportanceEvaluator(),
            target=lambda trial: float(values[trial.number]),
            normalize=False,
        )
