"""What each defence, bit-width, share of zeros and exit costs and buys, over the candidates of a run."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from estimators.estimate import Estimate
from nas.runs.candidates import Candidate
from nas.runs.candidates import Candidates
from nas.runs.figures.style import BLUE
from nas.runs.figures.style import axes_of
from nas.runs.figures.style import axis
from nas.runs.figures.style import plain
from nas.runs.figures.style import said

MOST_METRICS = 4
BIT_EDGES = (1.5, 2.5, 4.5, 8.5, 16.5)
ZERO_EDGES = (0.001, 0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Group:
    """Candidates of one choice, and the medians of what they measure.

    Attributes:
        name: The choice.
        count: How many candidates chose it.
        medians: By metric, with the quartiles as ends.
    """

    name: str
    count: int
    medians: Mapping[str, Estimate]


def choices(candidates: Candidates, kind: str) -> go.Figure:
    """Draw a box for each choice of a kind, in a panel for each objective, or a cost beside a single one.

    Candidates of one choice differ in all else, too: what a box shows is no effect of the choice alone.

    Args:
        candidates: The candidates.
        kind: One of `KINDS`.
    """
    groups = grouped(candidates, kind)
    if len(groups) < 2:
        return said(f"all candidates have the same {kind}")
    names = axes_of(candidates, MOST_METRICS)
    figure = go.Figure()
    wide = 1 / len(names)
    for place, metric in enumerate(names):
        number = "" if place == 0 else str(place + 1)
        for name, rows in groups.items():
            figure.add_trace(
                go.Box(
                    x=[row.numbers[metric].value for row in rows],
                    name=plain(f"{name} ({len(rows)})"),
                    orientation="h",
                    boxpoints="all" if len(candidates.rows) <= 200 else "outliers",
                    jitter=0.4,
                    pointpos=0,
                    marker={"color": BLUE, "size": 4, "opacity": 0.6},
                    line={"width": 1},
                    showlegend=False,
                    xaxis=f"x{number}",
                    yaxis=f"y{number}",
                )
            )
        domain = (place * wide + 0.02 * bool(place), (place + 1) * wide - 0.01)
        figure.layout[f"xaxis{number}"] = {
            **axis(metric, candidates.values(metric)),
            "domain": domain,
            "anchor": f"y{number}",
            "nticks": 5,
        }
        figure.layout[f"yaxis{number}"] = {
            "anchor": f"x{number}",
            "showticklabels": not place,
            "automargin": True,
            "autorange": "reversed",
        }
    figure.update_layout(height=110 + 46 * len(groups))
    return figure


def table(candidates: Candidates, kind: str) -> list[Group]:
    """Return the same as numbers: medians with quartiles, a group for each choice."""
    return [
        Group(name, len(rows), {metric: _median(rows, metric) for metric in axes_of(candidates, MOST_METRICS)})
        for name, rows in grouped(candidates, kind).items()
    ]


def grouped(candidates: Candidates, kind: str) -> dict[str, list[Candidate]]:
    """Divide candidates by what they chose, in the order of the choices."""
    found: dict[tuple[int, str], list[Candidate]] = {}
    for row in candidates.rows:
        found.setdefault(KINDS[kind](row), []).append(row)
    return {name: rows for (_, name), rows in sorted(found.items())}


def _median(rows: Sequence[Candidate], metric: str) -> Estimate:
    low, middle, high = np.quantile([row.numbers[metric].value for row in rows], [0.25, 0.5, 0.75]).tolist()
    return Estimate(middle, low, high)


def _by_defence(row: Candidate) -> tuple[int, str]:
    return (0, row.short_defence)


def _by_bits(row: Candidate) -> tuple[int, str]:
    place = int(np.searchsorted(BIT_EDGES, row.mean_weight_bits))
    names = ("1 bit", "to 2.5 bits", "to 4.5 bits", "to 8.5 bits", "to 16.5 bits", "more than 16.5 bits")
    return place, names[place]


def _by_zeros(row: Candidate) -> tuple[int, str]:
    place = int(np.searchsorted(ZERO_EDGES, row.zeros))
    return place, ("no zeros", "to 50 %", "to 80 %", "to 95 %", "more than 95 %")[place]


def _by_exits(row: Candidate) -> tuple[int, str]:
    return row.early_exits, {0: "no early exit", 1: "1 early exit"}.get(
        row.early_exits, f"{row.early_exits} early exits"
    )


KINDS: Mapping[str, Callable[[Candidate], tuple[int, str]]] = {
    "defence": _by_defence,
    "weight bits, on average": _by_bits,
    "share of zeros": _by_zeros,
    "early exits": _by_exits,
}
"""By what candidates are grouped: the place of a candidate's group among the others, and its name."""
