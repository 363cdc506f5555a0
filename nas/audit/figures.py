"""Figures of an audit as images in `data:` form: ROC curves, the strongest attack's scores, AUC by class.

Each is an SVG image within a URI, so that a page holds its figures and loads nothing. The same audit gives the same
bytes: no date, no random ids.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any
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
from nas.audit.findings import ClassRisk
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
"""How many of the strongest attacks the ROC plot draws, beside `gap` and `loss`."""
ROC_POINTS, BINS, CLASSES, LONGEST_NAME = 200, 50, 30, 24
POINTS_PER_INCH = 72
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


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


def drawn(findings: Sequence[Finding]) -> list[Finding]:
    """Return the attacks whose curves the ROC plot draws: the strongest, and `loss`, the best-known attack.

    `gap` is not among them: it has one threshold, which is drawn as a point.
    """
    curves = [found for found in findings if found.attack != "gap"]
    return curves[:CURVES] + [found for found in curves[CURVES:] if found.attack == "loss"]


def roc(audit: Audit) -> str:
    """Draw the ROC curves of the strongest attacks and of `loss` on logarithmic axes, with `gap` as a point."""
    least = 1 / audit.non_members
    figure, axes = _figure(8.6, 6.2)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1))
    axes.set(xlabel="FPR: share of non-members called members", ylabel="TPR: share of members found")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    for found, colour, dash in zip(drawn(audit.findings), COLOURS, DASHES, strict=False):
        points = roc_points(found.scores, audit.is_member)
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.5, "label": _label(found)}
        # The point at an FPR of 0 holds up to the first false positive; a logarithmic axis has no place left of it.
        axes.plot(np.maximum(points[:, 0], least), points[:, 1], drawstyle="steps-post", **style)
    for found in audit.findings:
        inner = [point for point in roc_points(found.scores, audit.is_member) if 0 < point[0] < 1]
        if found.attack == "gap" and inner:
            axes.plot(*inner[0], marker="D", markersize=6, color=GREY, linestyle="", label=_label(found))
    axes.plot([least, 1], [least, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 4)), label="guessing")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return _image(figure)


def histogram(audit: Audit) -> str:
    """Draw how the strongest attack's scores are spread over members and over non-members."""
    members, others = by_membership(audit.strongest.scores, audit.is_member)
    # A few scores may lie far out; they count in the outermost bins.
    low, high = np.quantile(audit.strongest.scores, [0.005, 0.995])
    edges = np.histogram_bin_edges(np.array([low, high]), bins=BINS)
    figure, axes = _figure(8.6, 2.9)
    for name, scores, colour in (("non-members", others, OTHERS), ("members", members, MEMBERS)):
        counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
        share = counts / len(scores)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(share, edges, color=colour, linewidth=1.3, label=name)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel=f"score of {_literal(audit.strongest.attack)}, higher: member", ylabel="share of each group")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return _image(figure)


def classes(audit: Audit) -> str:
    """Draw AUC by class with intervals, the most exposed class on top; empty if no class has enough records."""
    shown = audit.by_class[:CLASSES]
    if not shown:
        return ""
    figure, axes = _figure(8.6, 0.23 * len(shown) + 0.95)
    places = np.arange(len(shown))[::-1]
    values = np.array([risk.auc.value for risk in shown])
    ends = np.array([[risk.auc.value - risk.auc.low, risk.auc.high - risk.auc.value] for risk in shown]).T
    axes.barh(places, values - 0.5, left=0.5, height=0.62, color=MEMBERS, alpha=0.45)
    axes.errorbar(values, places, xerr=ends, fmt=".", color="black", linewidth=1, capsize=2.5)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (4, 4)), label="guessing")
    axes.axvline(audit.strongest.auc.value, color=MEMBERS, linewidth=1, label="all classes")
    axes.set_yticks(places, [_literal(_class_of(risk)) for risk in shown])
    axes.set_xlim(left=min(0.48, min(risk.auc.low for risk in shown) - 0.02))
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel(f"AUC of {_literal(audit.strongest.attack)}")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return _image(figure)


def _class_of(risk: ClassRisk) -> str:
    """Write a class: its name, shortened to what fits beside a bar."""
    name = f"class {risk.class_name}" if risk.class_name == str(risk.label) else risk.class_name
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=POINTS_PER_INCH, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _label(found: Finding) -> str:
    return f"{_literal(found.attack)}, AUC {found.auc.value:.3f}"


def _literal(name: str) -> str:
    """Return a name that matplotlib shows as it is: dollar signs would start a formula."""
    return name.replace("$", r"\$")


def _image(figure: Figure) -> str:
    """Return a figure as a `data:` URI of an SVG image. Letters are outlines: the reader's fonts may differ."""
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "audit", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata=NO_METADATA)
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
