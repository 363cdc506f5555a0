"""ROC curves of the attacks of an audit, on logarithmic axes, where the exposed records are seen."""

from __future__ import annotations

from math import log10

import plotly.graph_objects as go

from nas.runs.audits import Audited
from nas.runs.figures.style import COLOURS
from nas.runs.figures.style import DASHES
from nas.runs.figures.style import GREY
from nas.runs.figures.style import plain

CURVES = 6
"""So many of the strongest attacks are drawn, and `loss`, the best-known one."""


def roc(audited: Audited) -> go.Figure:
    """Draw the share of members found by the share of non-members called members by mistake, a curve per attack.

    Args:
        audited: One of what `nas.runs.audits.audits_in` read.
    """
    least = 1 / audited.non_members
    curves = [found for found in audited.findings if found.attack != "gap"]  # which has one threshold
    drawn = curves[:CURVES] + [found for found in curves[CURVES:] if found.attack == "loss"]
    figure = go.Figure(
        go.Scatter(
            x=[least, 1],
            y=[least, 1],
            mode="lines",
            line={"color": GREY, "dash": "dash", "width": 1},
            name="guessing",
            hoverinfo="skip",
        )
    )
    for found, colour, dash in zip(drawn, COLOURS, DASHES, strict=False):
        name = plain(f"{found.attack}, AUC {found.auc:.3f}")
        figure.add_trace(
            go.Scatter(
                # A logarithmic axis has no place for an FPR of 0, which holds up to the first false positive.
                x=[max(fpr, least) for fpr, _ in found.roc],
                y=[tpr or None for _, tpr in found.roc],
                mode="lines",
                line={"color": colour, "dash": dash, "shape": "hv"},
                name=name,
                hovertemplate=f"{name}<br>FPR %{{x:.3g}}<br>TPR %{{y:.3g}}<extra></extra>",
            )
        )
    ends = {"type": "log", "range": [log10(least), 0.02]}
    figure.update_layout(
        xaxis={**ends, "title": {"text": "FPR: share of non-members called members"}},
        yaxis={**ends, "title": {"text": "TPR: share of members found"}},
        height=500,
    )
    return figure
