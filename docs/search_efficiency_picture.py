"""Draw what samplers miss of a known front, by evaluations, from the benchmark's result file.

    python benchmarks/search_efficiency.py
    python docs/search_efficiency_picture.py benchmarks/results/search_efficiency.json docs/search_efficiency.png

Each line is a sampler, with the standard errors of its medians: the share of the true hypervolume that is still missing
after so many evaluations. Lower is better. `cost_aware` is the thick one; grey marks are the goals set for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

OURS = "cost_aware"
GOALS: Mapping[int, float] = {25: 0.98, 50: 0.995, 100: 0.998}
COLOURS = plt.get_cmap("tab10")
MARKERS = "osv^D<>pPX*hd"
TITLES: Mapping[str, str] = {
    "raspi4": "NAS-Bench-201, Raspberry Pi 4",
    "xeon": "NAS-Bench-201, Xeon",
    "pixel3": "NAS-Bench-201, Pixel 3",
    "gpu": "NAS-Bench-201, GPU",
    "macro": "NAS-Bench-Macro, three objectives",
}


def main(results: Path, picture: Path) -> None:
    """Draw the result file into one picture."""
    rows = [row for row in json.loads(results.read_text(encoding="utf-8"))["rows"] if row["part"] == "share"]
    tables = list(dict.fromkeys(row["table"] for row in rows))
    figure, panels = plt.subplots(1, len(tables), figsize=(6.2 * len(tables), 5.4), layout="constrained", squeeze=False)
    for axes, table in zip(panels[0], tables, strict=True):
        draw(axes, [row for row in rows if row["table"] == table])
        axes.set_title(TITLES.get(table, table))
    for budget, goal in GOALS.items() if tables[0] == "raspi4" else ():
        panels[0][0].plot(budget, 1 - goal, marker="_", markersize=18, color="grey", zorder=0)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=5)
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    print(f"written to {picture}")


def draw(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the samplers of one table."""
    names = sorted({row["sampler"] for row in rows} - {OURS})
    for name in [OURS, *names]:
        chosen = [row for row in rows if row["sampler"] == name]
        axes.errorbar(
            [row["evaluations"] for row in chosen],
            [1 - row["share"] for row in chosen],
            yerr=[row["se"] for row in chosen],
            label=name,
            color="black" if name == OURS else COLOURS(names.index(name)),
            marker="." if name == OURS else MARKERS[names.index(name) % len(MARKERS)],
            linewidth=2.0 if name == OURS else 0.7,
            alpha=0.85,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    budgets = sorted({row["evaluations"] for row in rows})
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("networks evaluated")
    axes.set_ylabel("share of the true hypervolume that is missing")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
