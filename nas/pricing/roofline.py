"""A roofline plot: the speed of each layer, and the limits of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos
from math import hypot
from math import log10
from math import pi
from math import sin
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from estimators.devices.device import Device
from estimators.models.by_layer import Layer
from estimators.models.by_layer import Roofs
from estimators.models.by_layer import by_layer
from estimators.models.by_layer import roofs
from nas.base import files
from nas.pricing.price import as_shipped
from search_spaces.graph.architecture import Architecture

FORMATS = (".png", ".svg")
# Colour-blind safe (Okabe and Ito, 2008), by type of layer.
COLOURS = {"conv": "#0072B2", "pointwise": "#E69F00", "depthwise": "#009E73", "linear": "#CC79A7"}
GREY = "#555555"
LABELS = 6
NAMED_OPS = 4
AREA, LEAST_AREA = 2500.0, 20.0
"""Area of a point, in points squared, that takes all of the time, and of the smallest that can be seen."""
DIRECTIONS = tuple(pi * turn for turn in (0.25, 0.75, 1.75, 1.25, 0.5, 1.5, 0.0, 1.0))
ROOM = 11.0
"""Points between the middles of two numbers."""
DOTS_PER_INCH = 130
LEAST_SPAN = 100.0
"""The axis of speeds spans this factor at least: equal layers are not to look far apart."""


@dataclass(frozen=True)
class Point:
    """Layers of one type at the same place of the plot.

    Attributes:
        layers: The layers.
        intensity: MACs for each byte moved.
        macs_per_s: Their speed.
        share: Their share of the network's time.
    """

    layers: tuple[Layer, ...]
    intensity: float
    macs_per_s: float
    share: float

    @property
    def colour(self) -> str:
        """The colour of their type."""
        return COLOURS.get(self.layers[0].kind, GREY)

    @property
    def area(self) -> float:
        """Area of the point on paper, in points squared."""
        return max(LEAST_AREA, AREA * self.share)

    @property
    def label(self) -> str:
        """Their text in the legend."""
        kind, side = self.layers[0].kind, self.layers[0].window
        ops = [str(layer.op) for layer in self.layers]
        more = f" +{len(ops) - NAMED_OPS}" if len(ops) > NAMED_OPS else ""
        window = f" {side[0]}x{side[1]}" if side != (1, 1) else ""
        return f"{kind}{window}, op {', '.join(ops[:NAMED_OPS])}{more}: {self.share:.0%}"


def roofline(path: Path, layers: Sequence[Layer], roofs: Roofs, title: str) -> None:
    """Draw layers under the roofs of compute and memory; a point's area is its share of the time.

    Args:
        path: A `.png` or `.svg` file; written completely or not at all.
        layers: The layers of `estimators.models.by_layer.by_layer`. Those without MACs are not drawn; the plot states
            their share of the time.
        roofs: The limits of `estimators.models.by_layer.roofs`.
        title: Title of the plot.

    Raises:
        ValueError: If the file has another ending, or no layer has MACs.
    """
    check_format(path)
    points = points_of(layers, roofs)
    if not points:
        raise ValueError("expected a layer with MACs that takes time, for a roofline plot; there is none")
    figure = Figure(figsize=(10.5, 6.0), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log")
    _draw_roofs(axes, points, roofs)
    for point in points:
        place = (point.intensity, point.macs_per_s)
        axes.scatter(*place, s=point.area, color=point.colour, alpha=0.75, linewidths=0, zorder=3)
    _finish(axes, points, roofs, title)
    _number(axes, points[:LABELS])
    figure.legend(
        handles=_legend(points), loc="outside right upper", frameon=False, fontsize=8, title="most of the time"
    )
    kind = path.suffix.removeprefix(".").lower()
    files.write(path, lambda stream: figure.savefig(stream, format=kind))


def of_network(path: Path, network: Architecture, device: Device, *, shipped: bool) -> None:
    """Draw the layers of a network on a device.

    Args:
        path: As in `roofline`.
        network: The network.
        device: The device.
        shipped: Whether it stands behind something, as a candidate of a run does (`nas.pricing.price.as_shipped`).

    Raises:
        ValueError: As `roofline`, and if the device cannot run the network.
    """
    check_format(path)
    shown = as_shipped(network, device) if shipped else network
    layers = by_layer(shown, device)
    total_ms = sum(layer.latency_ms for layer in layers)
    title = f"{network.space} {network.key} on {device.name} ({device.engine}, {device.precision}): {total_ms:.3g} ms"
    roofline(path, layers, roofs(shown, device), title)


def check_format(path: Path) -> None:
    """Refuse a file that is neither `.png` nor `.svg`.

    Raises:
        ValueError: If it is neither.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"expected --plot with a file ending in {' or '.join(FORMATS)}; got {str(path)!r}")


def points_of(layers: Sequence[Layer], roofs: Roofs) -> list[Point]:
    """Return the points of a roofline plot, those that take most time first; layers in one place are one point."""
    total_ms = sum(layer.latency_ms for layer in layers)
    places: dict[tuple[str, float, float], list[Layer]] = {}
    for layer in layers:
        if layer.macs and layer.latency_ms:
            intensity, speed = _place(layer, roofs)
            places.setdefault((layer.kind, round(log10(intensity), 2), round(log10(speed), 2)), []).append(layer)
    points = [
        Point(tuple(group), *_place(group[0], roofs), sum(layer.latency_ms for layer in group) / total_ms)
        for group in places.values()
    ]
    return sorted(points, key=lambda point: -point.share)


def _place(layer: Layer, roofs: Roofs) -> tuple[float, float]:
    moved = layer.tensor_bytes + (layer.weight_bytes if roofs.counts_weights else 0.0)
    return layer.macs / moved, layer.macs / layer.latency_ms * 1e3


def _draw_roofs(axes: Axes, points: Sequence[Point], roofs: Roofs) -> None:
    """Draw the slope of memory up to the level of compute; either may be missing, or hold for some types only."""
    compute, memory = roofs.macs_per_s, roofs.bytes_per_s
    knee = [compute / memory] if compute and memory else []
    reached = [point.intensity for point in points] + knee
    low, high = min(reached) / 3, max(reached) * 3
    axes.set_xlim(low, high)
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": GREY}
    partial = not {point.layers[0].kind for point in points} <= roofs.memory_kinds
    if memory:
        end = (knee or [high])[0]
        ends = np.array([low, end])
        axes.plot(ends, ends * memory, color=GREY, linewidth=1.2, linestyle="--" if partial else "-", zorder=2)
        only = f" ({', '.join(sorted(roofs.memory_kinds))} only)" if partial else ""
        text = f"memory {EngFormatter('B/s', places=1)(memory)}{only}"
        # Above the slope, where no layer can be; beside it a long text would leave the axes.
        axes.annotate(text, (0, 1), (6, -6), xycoords="axes fraction", va="top", **style)
    if compute:
        axes.plot([low if partial or not knee else knee[0], high], [compute] * 2, color=GREY, linewidth=1.2, zorder=2)
        text = f"compute {EngFormatter('MAC/s', places=1)(compute)}"
        axes.annotate(text, (high, compute), (-4, 14), ha="right", **style)


def _number(axes: Axes, points: Sequence[Point]) -> None:
    """Write each point's number beside it, in the first direction where no other stands."""
    taken: list[tuple[float, float]] = []
    for number, point in enumerate(points, start=1):
        place = (point.intensity, point.macs_per_s)
        x, y = axes.transData.transform(place) * 72 / DOTS_PER_INCH
        away = sqrt(point.area) / 2 + 6
        spots = [(away * far * cos(turn), away * far * sin(turn)) for far in (1.0, 1.6) for turn in DIRECTIONS]
        free = [(dx, dy) for dx, dy in spots if all(hypot(x + dx - a, y + dy - b) > ROOM for a, b in taken)]
        spot = (free or spots)[0]
        taken.append((x + spot[0], y + spot[1]))
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "ha": "center", "va": "center"}
        axes.annotate(str(number), place, spot, zorder=4, **style)


def _finish(axes: Axes, points: Sequence[Point], roofs: Roofs, title: str) -> None:
    speeds = [point.macs_per_s for point in points]
    top = max([*speeds, roofs.macs_per_s or 0.0]) * 2
    axes.set_ylim(min(min(speeds) / 2, top / LEAST_SPAN), top)
    moved = "weights and tensors" if roofs.counts_weights else "of tensors; the device's model sees no weights"
    axes.set(xlabel=f"MACs per byte moved ({moved})", ylabel="MACs per second")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.yaxis.set_major_formatter(EngFormatter())
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    hidden = 1 - sum(point.share for point in points)
    rest = f"; {hidden:.0%} of it is in layers without MACs" if hidden > 0.005 else ""
    axes.set_title(f"{title}\narea: share of the time{rest}", fontsize=10, loc="left")


def _legend(points: Sequence[Point]) -> list[Line2D]:
    shown = [
        Line2D([], [], color=point.colour, marker="o", linestyle="", label=f"{number}  {point.label}")
        for number, point in enumerate(points[:LABELS], start=1)
    ]
    if len(points) > LABELS:
        rest = f"others: {sum(point.share for point in points[LABELS:]):.0%}"
        shown.append(Line2D([], [], linestyle="", label=rest))
    return shown
