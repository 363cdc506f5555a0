"""Draw what defences cost in error and leave to an attacker who knows them, from the benchmark's result file.

    python benchmarks/defences.py
    python docs/defences_picture.py benchmarks/results/defences.json docs/defences.png

Every defence at each strength is a point, with the 95 % intervals of both values; a line joins its strengths. Two lines
are to be beaten: fewer epochs without any defence, and DP-SGD, which alone promises something.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

SHORTER, PRIVATE, NONE = "fewer epochs", "dp_sgd", "none"
TO_BEAT: Mapping[str, str] = {SHORTER: "black", PRIVATE: "tab:red"}
"""By line to beat: its colour."""
COLOURS = plt.get_cmap("tab20")
MARKERS = "osv^D<>pPX*hd"
TITLES: Mapping[str, str] = {"location30": "Location-30, a perceptron", "cifar10": "CIFAR-10 at 16 x 16, a small CNN"}


def main(results: Path, picture: Path) -> None:
    """Draw the result file into one picture."""
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    shown = [data for data in TITLES if any(row["data"] == data for row in rows)]
    figure, panels = plt.subplots(1, len(shown), figsize=(6.2 * len(shown), 5.8), layout="constrained", squeeze=False)
    for axes, data in zip(panels[0], shown, strict=True):
        draw(axes, [row for row in rows if row["data"] == data])
        axes.set_title(TITLES[data])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=5)
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    print(f"written to {picture}")


def draw(axes: Axes, rows: list[Mapping[str, Any]]) -> None:
    """Draw the defences of one network, those to beat as thick lines."""
    names = list(dict.fromkeys(line_of(row["version"]) for row in rows))
    others = [name for name in names if name not in TO_BEAT]
    for name in names:
        # The plain training ends the line of shorter ones.
        chosen = [row for row in rows if line_of(row["version"]) in {name} | ({NONE} if name == SHORTER else set())]
        chosen.sort(key=lambda row: row["auc"])
        axes.errorbar(
            [row["auc"] for row in chosen],
            [row["error"] for row in chosen],
            xerr=[row["auc_half_width"] for row in chosen],
            yerr=[row["error_half_width"] for row in chosen],
            label=name,
            color=TO_BEAT.get(name) or COLOURS(others.index(name)),
            marker="." if name in TO_BEAT else MARKERS[others.index(name) % len(MARKERS)],
            linewidth=2.0 if name in TO_BEAT else 0.7,
            alpha=0.85,
        )
    axes.axvline(0.5, color="grey", linestyle=":")
    axes.set_xlabel("AUC of LiRA that knows the defence (0.5: guessing)")
    axes.set_ylabel("error on validation records")


def line_of(version: str) -> str:
    """Return the line that a version is on.

    >>> line_of("5 epochs of 20"), line_of("dp_sgd, weak"), line_of("none")
    ('fewer epochs', 'dp_sgd', 'none')
    """
    return SHORTER if " epochs of " in version else version.partition(", ")[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
