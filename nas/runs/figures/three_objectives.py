"""Candidates by three objectives at once, in space."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from nas.runs.candidates import Candidates
from nas.runs.figures.style import CANDIDATES
from nas.runs.figures.style import axes_of
from nas.runs.figures.style import axis
from nas.runs.figures.style import groups_of
from nas.runs.figures.style import plain
from nas.runs.figures.style import said

SHRUNK = 0.55
"""Markers in space are drawn so much smaller than in the plane."""


def three_objectives(candidates: Candidates) -> go.Figure:
    """Draw candidates by the first three objectives; with fewer, costs take their places.

    Args:
        candidates: At least one, with three metrics or more.
    """
    names = axes_of(candidates, 3, least=3)
    if len(names) < 3:
        return said("three metrics are needed to draw candidates in space")
    figure = go.Figure()
    for label, rows, marker in groups_of(candidates):
        x, y, z = (np.array([row.numbers[name].value for row in rows]) for name in names)
        lines = "<br>".join(f"{plain(name)} %{{{place}}}" for name, place in zip(names, "xyz", strict=True))
        figure.add_trace(
            go.Scatter3d(
                x=x,
                y=y,
                z=z,
                mode="markers",
                marker={**marker, "size": marker["size"] * SHRUNK},
                name=label,
                showlegend=bool(rows),
                customdata=np.array([row.number for row in rows]),
                hovertemplate=f"candidate %{{customdata}}<br>{lines}<extra></extra>",
                meta=CANDIDATES,
            )
        )
    scene = {f"{place}axis": axis(name, candidates.values(name)) for name, place in zip(names, "xyz", strict=True)}
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0}
    figure.update_layout(
        scene=scene, legend=legend, meta={"axes": names}, height=560, margin={"l": 0, "r": 0, "t": 40, "b": 0}
    )
    return figure
