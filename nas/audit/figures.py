"""Figures of an audit as SVG that stands inside a page: ROC curves, the strongest attack's scores, AUC by class.

The same audit gives the same bytes: no date, no random ids.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import by_membership
from nas.audit.findings import Audit
from nas.audit.findings import Finding
from nas.audit.findings import Scores

Points: TypeAlias = NDArray[np.float64]

# Colour-blind safe (Okabe and Ito, 2008), the strongest attack first; each has a dash of its own for grey paper.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (7, 1.5, 1, 1.5)),
    (0, (3, 3)),
    (0, (9, 2)),
    (0, (2, 1)),
)
MEMBERS, OTHERS, GREY = "#D55E00", "#0072B2", "#555555"
CURVES = 6
"""The strongest attacks that the ROC plot draws, beside `gap` and `loss`."""
ROC_POINTS, BINS, CLASSES = 200, 50, 30
POINTS_PER_INCH = 72
LETTER, LINE = 5.7, 11.0
"""Width of a letter and height of a line of a label, in points."""
DISTANCES = (4.0, 12.0, 22.0, 36.0, 54.0, 78.0, 110.0)
NEAR, SHARED = 4.0, 25.0
"""Curves closer than that, in points, run along each other; a name there costs as much as one so much further away."""
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


class Curve(NamedTuple):
    """One attack's line: its `(points, 2)` false and true positive rates."""

    name: str
    rates: Points
    colour: str
    dash: Any


class Box(NamedTuple):
    """A rectangle on paper, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Tell whether two have a part in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top

    def covers(self, places: Points) -> int:
        """Count the `(places, 2)` that lie in it."""
        return int(((places > self[:2]) & (places < self[2:])).all(axis=1).sum())


def roc_points(scores: Scores, is_member: Mask, points: int = ROC_POINTS) -> Points:
    """Return `(at most points, 2)` false and true positive rates, ascending, spaced evenly in the logarithm of the FPR.

    Each is what a threshold reaches: the most members that can be found at that FPR, by calling members those that
    score strictly above it. The first has an FPR of 0, the last is (1, 1); between two the lower one holds.

    Args:
        scores: `(records,)`; higher means member.
        is_member: `(records,)`.
        points: At most how many, two or more.

    >>> roc_points(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False])).tolist()
    [[0.0, 0.5], [0.5, 1.0], [1.0, 1.0]]
    """
    members, others = (np.sort(group) for group in by_membership(scores, is_member))
    thresholds = np.unique(others)[::-1]
    fpr = np.append(1 - np.searchsorted(others, thresholds, side="right") / len(others), 1.0)
    tpr = np.append(1 - np.searchsorted(members, thresholds, side="right") / len(members), 1.0)
    grid = np.geomspace(1 / len(others), 1, points - 1)
    # An FPR of 1 - 0.9 is a little above 0.1.
    kept = np.unique(np.append(0, np.searchsorted(fpr, grid * (1 + 1e-9), side="right") - 1))
    return np.asarray(np.column_stack([fpr, tpr])[kept])


def roc(audit: Audit) -> str:
    """Draw the ROC curves of the strongest attacks and of `loss` on logarithmic axes, with `gap` as a point."""
    least = 1 / audit.non_members
    figure, axes = _figure(8.6, 5.4, left=0.085, right=0.985, bottom=0.1, top=0.975)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1))
    axes.set(xlabel="false positive rate: share of non-members called members", ylabel="share of members found")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.plot([least, 1], [least, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 4)))
    curves = [
        Curve(found.attack, roc_points(found.scores, audit.is_member), COLOURS[number], DASHES[number])
        for number, found in enumerate(_drawn(audit.findings))
    ]
    for curve in curves:
        style: dict[str, Any] = {"color": curve.colour, "linestyle": curve.dash, "linewidth": 1.5}
        # The point at an FPR of 0 holds up to the first false positive; a logarithmic axis has no place left of it.
        axes.plot(np.maximum(curve.rates[:, 0], least), curve.rates[:, 1], drawstyle="steps-post", **style)
    taken = _mark_gap(axes, audit)
    _name(axes, curves, least, taken)
    return _svg(figure, "roc")


def histogram(audit: Audit) -> str:
    """Draw how the strongest attack's scores are spread over members and over non-members."""
    members, others = by_membership(audit.strongest.scores, audit.is_member)
    # A few scores may lie far out; they count in the outermost bins.
    low, high = np.quantile(audit.strongest.scores, [0.005, 0.995])
    edges = np.histogram_bin_edges(np.array([low, high]), bins=BINS)
    figure, axes = _figure(8.6, 2.9, left=0.085, right=0.985, bottom=0.18, top=0.97)
    tops = []
    for scores, colour in ((others, OTHERS), (members, MEMBERS)):
        counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
        share = counts / len(scores)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(share, edges, color=colour, linewidth=1.3)
        tops.append(share.max())
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(tops) * 1.3)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel=f"score by {audit.strongest.attack} (higher: more like a member)", ylabel="share of each group")
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "fontsize": 9}
    axes.annotate("non-members", (0, 1), (6, -6), color=OTHERS, **style)
    axes.annotate("members", (1, 1), (-6, -6), color=MEMBERS, ha="right", **style)
    return _svg(figure, "histogram")


def classes(audit: Audit) -> str:
    """Draw AUC by class with intervals, the most exposed class on top; empty where no class has records enough."""
    shown = audit.by_class[:CLASSES]
    if not shown:
        return ""
    height = 0.23 * len(shown) + 0.75
    figure, axes = _figure(8.6, height, left=0.13, right=0.985, bottom=0.52 / height, top=1 - 0.08 / height)
    places = np.arange(len(shown))[::-1]
    values = np.array([risk.auc.value for risk in shown])
    ends = np.array([[risk.auc.value - risk.auc.low, risk.auc.high - risk.auc.value] for risk in shown]).T
    axes.barh(places, values - 0.5, left=0.5, height=0.62, color=MEMBERS, alpha=0.45)
    axes.errorbar(values, places, xerr=ends, fmt=".", color="black", linewidth=1, capsize=2.5)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (4, 4)))
    axes.axvline(audit.strongest.auc.value, color=MEMBERS, linewidth=1)
    axes.set_yticks(places, [f"class {risk.label}" for risk in shown])
    axes.set_xlim(left=min(0.48, min(risk.auc.low for risk in shown) - 0.02))
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel(f"AUC of {audit.strongest.attack} (dashed: guessing; line: all classes)")
    return _svg(figure, "classes")


def _figure(width: float, height: float, **margins: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=POINTS_PER_INCH)
    FigureCanvasSVG(figure)
    figure.subplots_adjust(**margins)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _drawn(findings: Sequence[Finding]) -> list[Finding]:
    """Pick the strongest, and `loss`, the attack that everybody knows, wherever it stands; `gap` is a point."""
    curves = [found for found in findings if found.attack != "gap"]
    return curves[:CURVES] + [found for found in curves[CURVES:] if found.attack == "loss"]


def _mark_gap(axes: Axes, audit: Audit) -> list[Box]:
    """Mark what the gap attack reaches, which has one threshold only; return the box that its name takes."""
    rates = [roc_points(found.scores, audit.is_member) for found in audit.findings if found.attack == "gap"]
    inner = [point for points in rates for point in points if 0 < point[0] < 1]
    if not inner:
        return []
    axes.plot(*inner[0], marker="D", markersize=6, color=GREY, linestyle="")
    axes.annotate("gap", inner[0], (8, -12), textcoords="offset points", fontsize=9, color=GREY)
    x, y = axes.transData.transform(inner[0])
    return [Box(x - 5, y - 16, x + 30, y + 5)]


def _name(axes: Axes, curves: Sequence[Curve], least: float, taken: list[Box]) -> None:
    """Write each curve's name beside it, where it covers no other name and as little of the curves as can be."""
    across = np.geomspace(least, 1, 240)
    lines = [np.column_stack([across, _at(curve.rates, across)]) for curve in curves]
    places = [axes.transData.transform(np.maximum(line, least)) for line in lines]
    drawn = np.concatenate([*map(_filled, places), axes.transData.transform(np.column_stack([across, across]))])
    for curve, line, own in zip(curves, lines, places, strict=True):
        # Not at the upper end, where all curves meet; best where no other runs along.
        visible = own[line[:, 1] > least][:-10:4]
        shared = [sum(np.hypot(*(other - place).T).min() < NEAR for other in places) - 1 for place in visible]
        spots = [
            (away + SHARED * count, place, box)
            for place, count in zip(visible, shared, strict=True)
            for away, box in _around(axes, place, curve.name)
        ]
        if not spots:
            continue
        costs = [3 * away + 5 * box.covers(drawn) + 1e4 * sum(map(box.meets, taken)) for away, _, box in spots]
        _, place, box = spots[int(np.argmin(costs))]
        taken.append(box)
        thread = {"arrowstyle": "-", "color": curve.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": curve.colour}
        shift = (box.left - place[0], box.bottom - place[1] + 2)
        x, y = axes.transData.inverted().transform(place)
        axes.annotate(curve.name, (x, y), shift, arrowprops=thread, **style)


def _filled(places: Points) -> Points:
    """Put points between those of a curve, for where it rises steeply it has few."""
    between = np.linspace(places[:-1], places[1:], 6)
    return between.reshape(-1, 2)


def _around(axes: Axes, place: Points, name: str) -> Iterator[tuple[float, Box]]:
    """List boxes inside the axes for a name beside a place, with their distance from it."""
    x, y, width = float(place[0]), float(place[1]), LETTER * len(name) + 4
    frame = axes.bbox
    for away in DISTANCES:
        # Above to the left, or below to the right: a ROC curve rises.
        for left, bottom in ((x - away - width, y + away), (x + away, y - away - LINE)):
            box = Box(left, bottom, left + width, bottom + LINE)
            if frame.x0 < box.left and frame.y0 < box.bottom and box.right < frame.x1 and box.top < frame.y1:
                yield away, box


def _at(rates: Points, fpr: Points) -> Points:
    """Return the true positive rate at each FPR: that of the last point not beyond it."""
    return np.asarray(rates[np.searchsorted(rates[:, 0], fpr * (1 + 1e-9), side="right") - 1, 1])


def _svg(figure: Figure, name: str) -> str:
    """Write a figure as an `svg` element whose ids no other figure of the page has."""
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata=NO_METADATA)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    # Its style would hold for the whole page.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", '<svg style="stroke-linejoin: round; stroke-linecap: butt" ', 1)
