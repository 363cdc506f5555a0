"""nas pick: choose one candidate of a run and write its weights and its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import limits
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust


def pick(
    run: str,
    *,
    maximum: Annotated[
        list[str] | None, typer.Option("--max", help="Upper limit of a metric, METRIC=NUMBER; may be repeated.")
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="Metric to minimise within the limits (default: the knee of the front).")
    ] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Choose one candidate, print the reason, and write its architecture, weights and card."""
    from nas.deploy import exportable
    from nas.runs import picks
    from nas.runs import report
    from nas.runs.front_and_knee import choose
    from nas.runs.run import open_run

    trust(plugin)
    opened = open_run(run, runs, storage)
    study = opened.study
    choice = choose(study, limits(maximum, "--max"), prefer)
    if choice.failed:
        nearest = f"candidate {choice.trial.number} is nearest"
        if as_json:
            typer.echo(
                json.dumps({"picked": None, "nearest": report.row(study, choice.trial), "failed": choice.failed})
            )
        raise ValueError(f"no candidate meets the limits; {nearest}: {', '.join(choice.failed)}")
    written = picks.write(opened, choice)
    judged = exportable.judge(opened, [choice.trial])
    if as_json:
        row = {**report.row(study, choice.trial), "int8": exportable.of(judged, choice.trial)}
        typer.echo(json.dumps({"picked": row, "reason": choice.reason, "folder": str(written)}))
        return
    say(f"candidate {choice.trial.number}: {choice.reason}")
    show_table(report.front_table(study, [choice.trial]))
    for line in exportable.sentences(judged, [choice.trial]):
        say(line)
    say(f"written to {written}")
