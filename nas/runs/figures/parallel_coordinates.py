"""Candidates as lines over parallel axes: objectives, costs, defence, bits, and what else was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from nas.runs.candidates import Candidate
from nas.runs.candidates import Candidates
from nas.runs.figures.style import BLUE
from nas.runs.figures.style import CANDIDATES
from nas.runs.figures.style import GREY
from nas.runs.figures.style import ORANGE
from nas.runs.figures.style import is_wide
from nas.runs.figures.style import plain
from nas.runs.report import COLUMNS

MOST_AXES = 12
MOST_LINES = 500
"""So many lines beside those of the front: without a graphics card, thousands are slow to draw."""
MOST_NAMED = 16
"""An axis of names has a mark for so many of them."""


def parallel_coordinates(candidates: Candidates) -> go.Figure:
    """Draw each candidate as a line; drag along an axis to see only those that pass there.

    Of many candidates the front is drawn, and others spread evenly over the run.

    Args:
        candidates: At least one.

    Returns:
        The figure; its `meta` has the `numbers` of all candidates, and by axis the `values` of all.
    """
    dimensions = list(_dimensions(candidates))[:MOST_AXES]
    numbers = np.array([row.number for row in candidates.rows])
    drawn = _drawn(candidates)
    colours = np.array([2.0 if row.is_best else 0.0 if row.over else 1.0 for row in candidates.rows])
    figure = go.Figure(
        go.Parcoords(
            dimensions=[{**axis, "values": axis["values"][drawn]} for axis in dimensions],
            customdata=numbers[drawn],
            line={
                "color": colours[drawn],
                "colorscale": [[0.0, GREY], [0.5, BLUE], [1.0, ORANGE]],
                "cmin": 0,
                "cmax": 2,
            },
            unselected={"line": {"opacity": 0.05}},
            meta=CANDIDATES,
        )
    )
    figure.update_layout(meta={"numbers": numbers, "values": [axis["values"] for axis in dimensions]})
    figure.update_layout(height=460, margin={"l": 60, "r": 60, "t": 70, "b": 40})
    return figure


def _drawn(candidates: Candidates) -> NDArray[np.intp]:
    """Return the places of the candidates whose lines are drawn."""
    best = np.array([row.is_best for row in candidates.rows])
    others = np.flatnonzero(~best)
    step = max(1, -(-len(others) // MOST_LINES))
    return np.sort(np.concatenate([np.flatnonzero(best), others[::step]]))


def _dimensions(candidates: Candidates) -> Iterator[dict[str, Any]]:
    rows = candidates.rows
    shown = [name for name in candidates.metrics if name in candidates.objectives or name in COLUMNS]
    for name in shown:
        yield _numbers(name, candidates.values(name))
    for name, values in _made_of(rows).items():
        if len(set(values)) > 1:
            numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
            yield _numbers(name, np.array(values, dtype=np.float64)) if numbers else _names(name, values)


def _made_of(rows: Sequence[Candidate]) -> dict[str, list[Any]]:
    """Return what candidates were made of, a column each; of what was sampled only what all of them have."""
    shared = [name for name in rows[0].params if name != "defence" and all(name in row.params for row in rows)]
    return {
        "defence": [row.short_defence for row in rows],
        "mean weight bits": [row.mean_weight_bits for row in rows],
        "zeros": [row.zeros for row in rows],
        "early exits": [row.early_exits for row in rows],
        **{name: [row.params[name] for row in rows] for name in shared},
    }


def _numbers(name: str, values: NDArray[np.float64]) -> dict[str, Any]:
    """Return an axis of numbers; a logarithmic one holds exponents, with the numbers written beside its marks."""
    if not is_wide(values):
        return {"label": plain(name), "values": values}
    exponents = np.log10(values)
    marks = np.linspace(exponents.min(), exponents.max(), 5)
    return {
        "label": plain(name),
        "values": exponents,
        "tickvals": marks,
        "ticktext": [_short(10**mark) for mark in marks],
    }


def _short(number: float) -> str:
    """Write a mark of an axis, counts by thousands and millions.

    >>> _short(54378.0), _short(2.7e6), _short(0.0786)
    ('54.4k', '2.7M', '0.0786')
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.3g}"


def _names(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return an axis of names, or of true and false, by letter."""
    known = sorted({str(value) for value in values})
    places = {text: place for place, text in enumerate(known)}
    step = max(1, len(known) // MOST_NAMED)
    return {
        "label": plain(name),
        "values": np.array([float(places[str(value)]) for value in values]),
        "tickvals": list(range(0, len(known), step)),
        "ticktext": [plain(text) for text in known[::step]],
        "range": [-0.2, len(known) - 0.8],
    }
