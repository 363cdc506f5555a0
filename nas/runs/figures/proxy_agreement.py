"""The leakage that guided a search beside the leakage that audits found, for the audited candidates."""

from __future__ import annotations

import plotly.graph_objects as go

from estimators.estimate import Estimate
from nas.runs.audits import Agreement
from nas.runs.figures.style import GREY
from nas.runs.figures.style import ORANGE


def proxy_agreement(found: Agreement) -> go.Figure:
    """Draw proxy against audit with both intervals; on the dashed line the two are equal.

    Args:
        found: What `nas.runs.audits.agreement_in` read.
    """
    proxies = [line.estimate("proxy") for line in found.candidates]
    audited = [line.estimate("audited") for line in found.candidates]
    ends = [end for one in (*proxies, *audited) for end in (one.low, one.high)]
    figure = go.Figure(
        go.Scatter(
            x=[min(ends), max(ends)],
            y=[min(ends), max(ends)],
            mode="lines",
            line={"color": GREY, "dash": "dash", "width": 1},
            name="equal",
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[one.value for one in proxies],
            y=[one.value for one in audited],
            error_x=_bars(proxies),
            error_y=_bars(audited),
            mode="markers",
            marker={"color": ORANGE, "size": 9},
            name="audited candidates",
            customdata=[line.number for line in found.candidates],
            hovertemplate="candidate %{customdata}<br>proxy %{x:.3f}<br>audit %{y:.3f}<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis={"title": {"text": "AUC of the search's attack (proxy)"}},
        yaxis={"title": {"text": "AUC of the audit"}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02},
        height=440,
    )
    return figure


def _bars(estimates: list[Estimate]) -> dict[str, object]:
    return {
        "type": "data",
        "array": [one.high - one.value for one in estimates],
        "arrayminus": [one.value - one.low for one in estimates],
        "thickness": 1,
    }
