"""The speed of each layer of a network under the limits of its device (Williams et al., 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import plotly.graph_objects as go

from estimators.models.by_layer import Layer
from estimators.models.by_layer import Roofs
from nas.pricing.roofline import Point
from nas.pricing.roofline import points_of
from nas.runs.figures.style import GREY
from nas.runs.figures.style import said

LARGEST = 46.0
"""Diameter, in pixels, of a point that takes all of the time; the area is its share."""
SMALLEST = 6.0
LOGARITHMIC = {"type": "log", "dtick": "D2", "exponentformat": "SI"}


def roofline(layers: Sequence[Layer], roofs: Roofs) -> go.Figure:
    """Draw layers under the roofs of compute and memory; the area of a point is its share of the time.

    Args:
        layers: Of `estimators.models.by_layer.by_layer`; those without MACs are not drawn.
        roofs: Of `estimators.models.by_layer.roofs`.
    """
    points = points_of(layers, roofs)
    if not points:
        return said("no layer has MACs that take time")
    figure = go.Figure()
    for name, xs, ys in _roofs(points, roofs):
        line = {"color": GREY, "width": 1.5}
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=line, name=name, hoverinfo="name"))
    for kind in dict.fromkeys(point.layers[0].kind for point in points):
        inside = [point for point in points if point.layers[0].kind == kind]
        figure.add_trace(
            go.Scatter(
                x=[point.intensity for point in inside],
                y=[point.macs_per_s for point in inside],
                mode="markers",
                marker={
                    "color": inside[0].colour,
                    "opacity": 0.75,
                    "size": [max(SMALLEST, LARGEST * sqrt(point.share)) for point in inside],
                },
                name=kind,
                text=[point.label for point in inside],
                hovertemplate="%{text}<br>%{x:.3g} MACs per byte<br>%{y:.3s}MAC/s<extra></extra>",
            )
        )
    moved = "weights and tensors" if roofs.counts_weights else "tensors; the device's model sees no weights"
    figure.update_layout(
        xaxis={**LOGARITHMIC, "title": {"text": f"MACs per byte moved ({moved})"}},
        yaxis={**LOGARITHMIC, "title": {"text": "MACs per second"}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "itemsizing": "constant"},
        height=460,
    )
    return figure


def _roofs(points: Sequence[Point], roofs: Roofs) -> list[tuple[str, list[float], list[float]]]:
    """Return the slope of memory up to the level of compute; either may be missing, or hold for some types only."""
    compute, memory = roofs.macs_per_s, roofs.bytes_per_s
    knee = [compute / memory] if compute and memory else []
    reached = [point.intensity for point in points] + knee
    low, high = min(reached) / 3, max(reached) * 3
    partial = not {point.layers[0].kind for point in points} <= roofs.memory_kinds
    lines = []
    if memory:
        end = (knee or [high])[0]
        only = f" ({', '.join(sorted(roofs.memory_kinds))} only)" if partial else ""
        lines.append((f"memory{only}", [low, end], [low * memory, end * memory]))
    if compute:
        lines.append(("compute", [low if partial or not knee else knee[0], high], [compute, compute]))
    return lines
