"""Candidates by each pair of objectives, side by side, the front marked."""

from __future__ import annotations

from itertools import combinations
from math import ceil

import numpy as np
import plotly.graph_objects as go

from nas.runs.candidates import Candidates
from nas.runs.figures.style import CANDIDATES
from nas.runs.figures.style import MOST_DRAWN
from nas.runs.figures.style import axes_of
from nas.runs.figures.style import axis
from nas.runs.figures.style import groups_of
from nas.runs.figures.style import plain

MOST_AXES = 4
BESIDE = 3
GAP = 0.08


def projections(candidates: Candidates) -> go.Figure:
    """Draw every candidate in a panel for each pair of the first four objectives.

    Args:
        candidates: At least one. With a single objective, a cost is the other axis.
    """
    names = axes_of(candidates, MOST_AXES)
    pairs = list(combinations(names, 2))
    kind = go.Scatter if len(candidates.rows) <= MOST_DRAWN else go.Scattergl
    figure = go.Figure()
    for panel, (x, y) in enumerate(pairs, start=1):
        number = "" if panel == 1 else str(panel)
        for label, rows, marker in groups_of(candidates):
            figure.add_trace(
                kind(
                    x=np.array([row.numbers[x].value for row in rows]),
                    y=np.array([row.numbers[y].value for row in rows]),
                    mode="markers",
                    marker=marker,
                    name=label,
                    legendgroup=label,
                    showlegend=panel == 1 and bool(rows),
                    customdata=np.array([row.number for row in rows]),
                    hovertemplate=f"candidate %{{customdata}}<br>{plain(x)} %{{x}}<br>{plain(y)} %{{y}}<extra></extra>",
                    unselected={"marker": {"opacity": 0.08}},
                    meta=CANDIDATES,
                    xaxis=f"x{number}",
                    yaxis=f"y{number}",
                )
            )
        across, down = _place(panel - 1, len(pairs))
        figure.layout[f"xaxis{number}"] = {
            **axis(x, candidates.values(x)),
            "domain": across,
            "anchor": f"y{number}",
        }
        figure.layout[f"yaxis{number}"] = {
            **axis(y, candidates.values(y)),
            "domain": down,
            "anchor": f"x{number}",
        }
    rows_of_panels = ceil(len(pairs) / BESIDE)
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02}
    figure.update_layout(height=380 * rows_of_panels + 60, legend=legend, dragmode="select")
    return figure


def _place(index: int, count: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the part of the width and of the height that a panel takes, the first one on the upper left."""
    columns, lines = min(count, BESIDE), ceil(count / BESIDE)
    wide, high = (1 - GAP * (columns - 1)) / columns, (1 - 2 * GAP * (lines - 1)) / lines
    left, top = (index % columns) * (wide + GAP), 1 - (index // columns) * (high + 2 * GAP)
    return (left, left + wide), (max(0.0, top - high), top)
