"""nas show: the Pareto front of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Run
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna
    from optuna.trial import FrozenTrial

NO_KNEE: dict[str, object] = {"knee": None, "ties": {}}
"""What JSON says of the knee where there is no front."""


def show(
    run: Run,
    *,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Print the Pareto front of a run, and how many candidates were trained or rejected."""
    from nas.runs.run import open_run

    trust(plugin)
    opened = open_run(run, runs, storage)
    print_front(opened.study, opened.folder, as_json=as_json)


def print_front(study: optuna.Study, folder: Path, *, as_json: bool, with_settings: bool = True) -> None:
    """Print a study's counts, limits, Pareto front and baselines, as text or as JSON.

    Where no trained candidate meets the limits, the nearest ones stand in the place of the front.

    Args:
        study: The study.
        folder: The run's folder.
        as_json: Whether to print JSON, which always holds all.
        with_settings: Whether to say, as text, what became of the records, which limits held, and what to doubt.
    """
    from optuna.trial import TrialState

    from nas.deploy import exportable
    from nas.runs import by_class
    from nas.runs import report
    from nas.runs.confirmed import with_confirmed
    from nas.runs.front_and_knee import NEAREST
    from nas.runs.front_and_knee import front
    from nas.runs.front_and_knee import knee_of
    from nas.runs.front_and_knee import left_the_front
    from nas.runs.front_and_knee import nearest
    from nas.runs.progress import count
    from nas.runs.ties import ties_in
    from nas.search.schema import BETWEEN
    from nas.search.schema import DATA
    from nas.search.schema import baselines_of
    from nas.search.schema import limits_of

    counts, best = count(study.get_trials(deepcopy=False)), front(study)
    limits, baselines = limits_of(study.user_attrs), baselines_of(study.user_attrs)
    trained = with_confirmed(study, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    ordered = [] if best else nearest(study, trained, limits)
    judged = exportable.read(folder)
    if as_json:
        told: dict[str, object] = {
            "limits": [limit.row for limit in limits],
            "baselines": [baseline.row for baseline in baselines],
        }
        rows = [
            [{**report.row(study, trial), "int8": exportable.of(judged, trial)} for trial in trials]
            for trials in (best, ordered[:NEAREST])
        ]
        told |= {"warnings": by_class.cautions(study), "classes": by_class.told_by_class(study)}
        told |= {BETWEEN: study.user_attrs.get(BETWEEN)}
        left = [{"number": number, "reason": why} for number, why in left_the_front(study).items()]
        told |= {"left_the_front": left}
        told |= {"data": study.user_attrs.get(DATA), "front": rows[0], "nearest": rows[1]}
        told |= {"knee": knee_of(best).number, "ties": ties_in(study, knee_of(best), best)} if best else NO_KNEE
        typer.echo(json.dumps({"name": study.study_name, "counts": asdict(counts), **told}))
        return
    shown = best or ordered[:NEAREST]
    table = report.front_table(study, shown)
    say(f"{study.study_name}: {counts.trained} {report.how(study)}, {counts}")
    for line in report.settings_lines(study) if with_settings else ():  # a search said them when it began
        say(line)
    if not trained:
        say("no candidate has finished training yet")
    else:
        if not best:
            say(report.nothing_within(study, ordered))
        show_table(table)
        for line in (*report.extrapolated_lines(study, shown), *report.misfit_lines(study, shown)):
            say(line)
        notes = (*_of_trainings(study, best), *exportable.sentences(judged, best), *_of_the_knee(study, best))
        for line in notes:
            say(line)
    if baselines:
        show_table(report.baseline_table(baselines))
    for caution in by_class.cautions(study) if with_settings else ():
        say(f"warning: {caution}")


def _of_trainings(study: optuna.Study, best: Sequence[FrozenTrial]) -> list[str]:
    """Say which trainings the numbers of a front are of, and who left it."""
    from nas.runs import report
    from nas.runs.confirmed import trainings_of

    at_hand = not best or not all(map(trainings_of, best))
    between = report.between_lines(study, at_hand=at_hand)
    return [*between, *report.confirmed_lines(study, best), *report.left_lines(study)]


def _of_the_knee(study: optuna.Study, best: Sequence[FrozenTrial]) -> list[str]:
    """Say what to know of the knee of a front: who is tied with it, and which classes it never predicts."""
    from nas.runs import by_class
    from nas.runs import ties
    from nas.runs.front_and_knee import knee_of
    from nas.runs.report import exit_line

    if not best:
        return []
    knee = knee_of(best)
    tied = ties.sentences(knee, ties.ties_in(study, knee, best))
    told = [f"candidate {knee.number} is the knee of the front", *tied] if tied else []
    if never := by_class.never_predicted(study, knee):
        told.append(f"candidate {knee.number}, the knee of the front, never predicts: {', '.join(never)}")
    if line := exit_line(knee):
        told.append(line)
    return told
