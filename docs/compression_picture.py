"""Draw what each way to make a network small costs in error and gives away, from the benchmark's result file.

    python benchmarks/compression_leakage.py
    python docs/compression_picture.py benchmarks/results/compression_leakage.json docs/compression.png

Every version of a network is a point, with the 95 % intervals of both values. A line joins versions of one kind, from
the mildest to the strongest. Versions whose weights share values are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

KINDS: Mapping[str, tuple[str, str, str]] = {
    "baseline": ("float, not compressed", "*", "black"),
    "pruned, retrained": ("pruned and retrained", "o", "tab:red"),
    "pruned, one shot": ("pruned, not retrained", "v", "tab:orange"),
    "bits": ("few bits", "s", "tab:blue"),
    "efficient": ("efficient architecture", "D", "tab:green"),
}
"""By kind of version: what the legend calls it, its marker and its colour."""
GUESSING = 0.5
TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
TITLES: Mapping[str, str] = {"location30": "Location-30, a perceptron", "cifar10": "CIFAR-10 at 16 x 16, a small CNN"}


def main(results: Path, picture: Path) -> None:
    """Draw the result file into one picture."""
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for axes, data in zip(panels, TITLES, strict=True):
        draw(axes, [row for row in rows if row["data"] == data])
        axes.set_title(TITLES[data])
    handles = [
        plt.Line2D([], [], marker=mark, color=colour, label=told, linestyle="none")
        for told, mark, colour in KINDS.values()
    ]
    panels[0].legend(handles=handles, fontsize=8)
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    print(f"written to {picture}")


def draw(axes: Axes, rows: list[Mapping[str, Any]]) -> None:
    """Draw the versions of one network."""
    for kind, (_, marker, colour) in KINDS.items():
        chosen = [row for row in rows if kind_of(row["version"]) == kind]
        axes.errorbar(
            [row["auc"] for row in chosen],
            [row["error"] for row in chosen],
            xerr=[row["auc_half_width"] for row in chosen],
            yerr=[row["error_half_width"] for row in chosen],
            color=colour,
            marker=marker,
            markersize=9 if kind == "baseline" else 5,
            linestyle="none" if kind == "efficient" else "-",
            linewidth=0.8,
            alpha=0.85,
        )
        for row in chosen:
            place = (row["auc"], row["error"])
            axes.annotate(short(row["version"]), place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.axvline(GUESSING, color="grey", linestyle=":")
    axes.set_xscale("logit")  # most versions lie close to 1
    axes.set_xlim(0.48, 0.9985)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("AUC of the audit's attack, on a logit scale; 0.5: it can only guess")
    axes.set_ylabel("error on validation records")


def kind_of(version: str) -> str | None:
    """Return the kind of a version, None for one that the picture leaves out.

    >>> kind_of("pruned 70 %, one shot"), kind_of("ternary"), kind_of("pruned 70 %, retrained, 16 values")
    ('pruned, one shot', 'bits', None)
    """
    if version == "baseline":
        return version
    if version.startswith("pruned"):
        return {", retrained": "pruned, retrained", ", one shot": "pruned, one shot"}.get(version[len("pruned 70 %") :])
    if version.endswith("-like"):
        return "efficient"
    return "bits" if version == "ternary" or version.endswith(" bits") else None


def short(version: str) -> str:
    """Return a version's label, without what its kind says.

    >>> short("pruned 70 %, one shot"), short("1 bits")
    ('70 %', '1 bit')
    """
    if version.startswith("pruned"):
        return version.removeprefix("pruned ").partition(",")[0]
    return "1 bit" if version == "1 bits" else version.removesuffix("-like")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
