"""Where the time of a network goes on its device, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from estimators.models.by_layer import Layer
from nas.runs.figures.style import BLUE
from nas.runs.figures.style import GREEN
from nas.runs.figures.style import GREY
from nas.runs.figures.style import ORANGE

BOUNDS = {"compute": BLUE, "memory": ORANGE, "overhead": GREEN, "nothing": GREY}
"""What most of a layer's time goes to, in one colour each."""
MOST_LAYERS = 120


def latency_by_layer(layers: Sequence[Layer]) -> go.Figure:
    """Draw a bar for each layer, in the order in which they run, coloured by what most of its time goes to.

    Args:
        layers: Of `estimators.models.by_layer.by_layer`; those that take no time are left out.
    """
    shown = [layer for layer in layers if layer.latency_ms][:MOST_LAYERS]
    names = [named(layer) for layer in shown]
    figure = go.Figure()
    for bound, colour in BOUNDS.items():
        inside = [place for place, layer in enumerate(shown) if layer.bound == bound]
        if inside:
            figure.add_trace(
                go.Bar(
                    y=[names[place] for place in inside],
                    x=[shown[place].latency_ms for place in inside],
                    orientation="h",
                    marker={"color": colour},
                    name=f"bound by {bound}",
                    hovertemplate="%{y}: %{x:.3g} ms<extra></extra>",
                )
            )
    order = {"categoryorder": "array", "categoryarray": names, "autorange": "reversed", "automargin": True}
    figure.update_layout(
        barmode="stack",
        xaxis={"title": {"text": "latency, ms"}},
        yaxis=order,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02},
        showlegend=True,
        height=130 + 22 * len(shown),
    )
    return figure


def named(layer: Layer) -> str:
    """Name a layer: its operator, its type and window, its bits, the shape of its output."""
    if layer.op is None:
        return layer.kind
    window = f" {layer.window[0]}x{layer.window[1]}" if layer.window != (1, 1) else ""
    bits = "" if layer.weight_bits is None else f", W {layer.weight_bits} A {layer.input_bits}"
    return f"{layer.op} {layer.kind}{window} {'x'.join(map(str, layer.shape))}{bits}"
