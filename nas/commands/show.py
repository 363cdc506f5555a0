"""nas show: the Pareto front of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    import optuna


def show(
    run: str,
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


def print_front(study: optuna.Study, folder: Path, *, as_json: bool) -> None:
    """Print a study's counts and its Pareto front, as text or as JSON."""
    from nas.deploy import exportable
    from nas.runs import report
    from nas.runs.front_and_knee import front
    from nas.runs.progress import count

    counts = count(study.get_trials(deepcopy=False))
    best = front(study)
    judged = exportable.read(folder)
    if as_json:
        rows = [{**report.row(study, trial), "int8": exportable.of(judged, trial)} for trial in best]
        typer.echo(json.dumps({"name": study.study_name, "counts": asdict(counts), "front": rows}))
        return
    table = report.front_table(study, best) if best else None
    say(f"{study.study_name}: {counts.trained} trained, {counts}")
    if table is None:
        say("no candidate has finished training yet")
    else:
        show_table(table)
        for line in exportable.sentences(judged, best):
            say(line)
