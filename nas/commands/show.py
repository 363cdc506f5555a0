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
    print_front(open_run(run, runs, storage).study, as_json=as_json, with_data=True)


def print_front(study: optuna.Study, *, as_json: bool, with_data: bool = False) -> None:
    """Print a study's counts and its Pareto front, as text or as JSON.

    Args:
        study: The study.
        as_json: Whether to print JSON, which always holds all.
        with_data: Whether to say what became of the records.
    """
    from nas.runs import report
    from nas.runs.front_and_knee import front
    from nas.runs.progress import count
    from nas.search.storage import DATA
    from nas.split_overview import overview_in

    counts = count(study.get_trials(deepcopy=False))
    best = front(study)
    if as_json:
        rows = [report.row(study, trial) for trial in best]
        data = study.user_attrs.get(DATA)
        typer.echo(json.dumps({"name": study.study_name, "data": data, "counts": asdict(counts), "front": rows}))
        return
    table = report.front_table(study, best) if best else None
    say(f"{study.study_name}: {counts.trained} trained, {counts}")
    if with_data and DATA in study.user_attrs:
        for sentence in overview_in(study.user_attrs[DATA]).sentences:
            say(sentence)
    if table is None:
        say("no candidate has finished training yet")
    else:
        show_table(table)
