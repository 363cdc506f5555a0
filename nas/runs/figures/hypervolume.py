"""The way of the hypervolume: how the front grew from candidate to candidate."""

from __future__ import annotations

import numpy as np
import optuna
import plotly.graph_objects as go
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume
from optuna.trial import TrialState

from nas.runs.figures.style import BLUE
from nas.runs.figures.style import said
from nas.runs.front_and_knee import exceeded_by
from nas.runs.front_and_knee import non_dominated
from nas.search.rungs import MARGIN
from nas.search.schema import limits_of

MOST_POINTS = 100
"""The hypervolume is computed after so many candidates at most: it takes long where the front has many."""


def hypervolume(study: optuna.Study) -> go.Figure:
    """Draw the hypervolume of the front after each candidate within the limits, as a share of the last one.

    Each objective is scaled to the range that it has among these candidates.

    Args:
        study: With trained candidates or without.
    """
    limits = limits_of(study.user_attrs)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    within = [trial for trial in trials if not exceeded_by(study, trial, limits)]
    if not within:
        return said("no candidate is within the limits yet")
    at, volumes = way([trial.values for trial in within])
    figure = go.Figure(
        go.Scatter(
            x=np.array([within[place].number for place in at]),
            y=100 * volumes / volumes[-1],
            mode="lines+markers",
            line={"color": BLUE, "shape": "hv"},
            hovertemplate="up to candidate %{x}: %{y:.1f} %<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis={"title": {"text": "candidate"}},
        yaxis={"title": {"text": "hypervolume, % of the last"}, "rangemode": "tozero"},
        height=380,
    )
    return figure


def way(values: NDArray[np.float64] | list[list[float]]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the hypervolume of the front of the first candidates, at most a hundred times.

    Args:
        values: `(candidates, objectives)` in the order in which they came; lower is better.

    Returns:
        `(points,)` how many candidates came before that one, and `(points,)` hypervolumes of objectives scaled to
        0 to 1, up to a point a little worse than the worst value in each.

    >>> at, volumes = way([[2.0, 2.0], [1.0, 3.0], [3.0, 1.0], [1.0, 1.0]])
    >>> at.tolist(), volumes.round(3).tolist()
    ([0, 1, 2, 3], [0.36, 0.41, 0.46, 1.21])
    """
    table = np.asarray(values, dtype=np.float64)
    low, high = table.min(axis=0), table.max(axis=0)
    scaled = (table - low) / np.where(high > low, high - low, 1.0)
    reference = np.full(table.shape[1], 1.0 + MARGIN)
    ends = np.unique(np.linspace(0, len(table) - 1, min(len(table), MOST_POINTS)).round().astype(np.intp))
    front, volumes, start = scaled[:0], [], 0
    for end in ends:
        front = np.unique(np.concatenate([front, scaled[start : end + 1]]), axis=0)
        front, start = front[non_dominated(front)], end + 1
        volumes.append(compute_hypervolume(front, reference))
    return ends, np.array(volumes)
