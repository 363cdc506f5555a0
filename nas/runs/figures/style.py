"""What the figures share: colours, names as text, axes, and how candidates are marked."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from nas.base.text import printable
from nas.runs.candidates import Candidate
from nas.runs.candidates import Candidates

# Colour-blind safe (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7f7f7f",
)
COLOURS = (ORANGE, BLUE, GREEN, PINK, YELLOW, SKY, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
CANDIDATES = "candidates"
"""`meta` of traces whose points are candidates; `customdata` holds their numbers."""
LONGEST = 60
WIDE = 50.0
"""An axis is logarithmic where its largest number is so many times the smallest."""
MOST_DRAWN = 1000
"""More points than this are drawn by WebGL: as elements of SVG they would be slow."""


def plain(text: str) -> str:
    """Return somebody's text so that plotly shows it as it is: it takes tags and entities for markup.

    >>> plain("<b>a & b</b>")
    '&lt;b&gt;a &amp; b&lt;/b&gt;'
    """
    shown = printable(text).replace("\n", " ")
    return html.escape(shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…", quote=False)


def groups_of(candidates: Candidates) -> list[tuple[str, list[Candidate], dict[str, Any]]]:
    """Divide candidates into those on the front, the others, and those over a limit: name, candidates, marker."""
    return [
        (
            "over a limit",
            [row for row in candidates.rows if row.over],
            {"color": GREY, "symbol": "x", "size": 6, "opacity": 0.6},
        ),
        (
            "other candidates",
            [row for row in candidates.rows if not (row.over or row.is_best)],
            {"color": BLUE, "symbol": "circle", "size": 7, "opacity": 0.65},
        ),
        ("front", candidates.best, {"color": ORANGE, "symbol": "diamond", "size": 10, "opacity": 0.95}),
    ]


def axes_of(candidates: Candidates, count: int, *, least: int = 2) -> tuple[str, ...]:
    """Return the metrics to draw candidates by: the objectives, and costs beside them where these are too few.

    Args:
        candidates: The candidates.
        count: The most metrics.
        least: The fewest, where the candidates have so many.
    """
    objectives = candidates.objectives[:count]
    more = [name for name in ("latency_ms", *candidates.metrics) if name in candidates.metrics]
    others = [name for name in dict.fromkeys(more) if name not in objectives]
    return (*objectives, *others[: max(0, least - len(objectives))])


def is_wide(values: NDArray[np.float64] | Sequence[float]) -> bool:
    """Tell whether numbers span so much that their axis should be logarithmic."""
    found = np.asarray(values, dtype=np.float64)
    return bool(found.size and found.min() > 0 and found.max() > WIDE * found.min())


def axis(name: str, values: NDArray[np.float64] | Sequence[float]) -> dict[str, Any]:
    """Return the settings of an axis for a metric."""
    return {"title": {"text": plain(name)}, "type": "log" if is_wide(values) else "linear"}


def said(text: str) -> go.Figure:
    """Return an empty figure that says why it is empty."""
    figure = go.Figure(layout={"xaxis": {"visible": False}, "yaxis": {"visible": False}})
    figure.add_annotation(text=plain(text), showarrow=False)
    return figure
