"""Draw the front of a run: error against leakage, coloured by latency, with intervals.

    nas search --name example --workers 1
    python docs/front_picture.py runs/example docs/front.png

Every trained candidate is a point. Candidates on the Pareto front have a dark edge, their number, and the 95 %
intervals of both values. The shape of a point tells the defence. The data come from the study of the run alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from nas.runs import report
from nas.runs.confirmed import with_confirmed
from nas.runs.front_and_knee import front
from nas.runs.run import open_run

MARKERS = "osD^vP*X"
GUESSING = 0.5


def main(run: Path, picture: Path) -> None:
    """Draw one run into one file, .png or .svg."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_run(run.name, run.parent).study
    trained = with_confirmed(study, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    best = front(study)
    numbers = {trial.number for trial in best}
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    times = [trial.user_attrs["latency_ms"] for trial in trained]
    shades = LogNorm(min(times), max(times))
    for marker, defence in zip(MARKERS, study.user_attrs["config"]["defences"], strict=False):
        of_defence = [trial for trial in trained if report.defence_of(study, trial) == defence]
        for trials, look in (
            ([trial for trial in of_defence if trial.number not in numbers], {"s": 30, "alpha": 0.55, "linewidths": 0}),
            (
                [trial for trial in of_defence if trial.number in numbers],
                {"s": 75, "edgecolors": "black", "linewidths": 1.4},
            ),
        ):
            points = scatter(axes, trials, shades, marker=marker, zorder=3, **look)
        axes.scatter([], [], marker=marker, color="grey", label=f"defence: {defence}")
    axes.scatter([], [], s=75, facecolors="none", edgecolors="black", linewidths=1.4, label="on the Pareto front")
    for trial in best:
        label(axes, trial)
    axes.axvline(GUESSING, color="grey", linestyle=":", label="0.5: the attack can only guess")
    axes.set_xlabel("leakage: AUC of the search's attack, the proxy (95 % interval)")
    axes.set_ylabel("error on validation records (95 % interval)")
    axes.set_title(f"{study.study_name}: {len(trained)} trained candidates, {len(best)} on the front")
    axes.legend(loc="upper right", fontsize=8)
    bar = figure.colorbar(points, label="estimated latency, ms", ticks=LogLocator(subs=(1, 3)), format="%g")
    bar.ax.minorticks_off()
    figure.savefig(picture, dpi=110, metadata={"Software": None} if picture.suffix == ".png" else {"Date": None})
    print(f"written to {picture}")


def scatter(axes: Axes, trials: list[FrozenTrial], shades: LogNorm, **look: object) -> PathCollection:
    """Draw candidates as points: leakage to the right, error upwards, latency as colour."""
    columns = [[trial.user_attrs[name] for trial in trials] for name in ("leakage", "error", "latency_ms")]
    return axes.scatter(columns[0], columns[1], c=columns[2], norm=shades, cmap="viridis", **look)


def label(axes: Axes, trial: FrozenTrial) -> None:
    """Write a candidate's number beside its point, with its intervals."""
    value = trial.user_attrs
    spans = [
        [[value[name] - value[f"{name}_low"]], [value[f"{name}_high"] - value[name]]] for name in ("leakage", "error")
    ]
    bars = {"fmt": "none", "ecolor": "black", "elinewidth": 0.6, "alpha": 0.35, "zorder": 2}
    axes.errorbar(value["leakage"], value["error"], xerr=spans[0], yerr=spans[1], **bars)
    axes.annotate(str(trial.number), (value["leakage"], value["error"]), (7, 5), textcoords="offset points", fontsize=9)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python docs/front_picture.py RUN_FOLDER PICTURE")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
