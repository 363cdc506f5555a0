"""nas compare: two or more candidates of a run side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

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
    import optuna
    from optuna.trial import FrozenTrial


def compare(
    run: Run,
    numbers: Annotated[
        list[int], typer.Argument(help="Numbers of two or more candidates; the first is compared with.")
    ],
    *,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Print candidates side by side: what they differ in, their numbers, and which differences are noise."""
    from nas.runs.confirmed import with_confirmed
    from nas.runs.run import open_run

    trust(plugin)
    if len(numbers) < 2 or len(set(numbers)) < len(numbers):
        raise ValueError(f"expected two or more different candidates; got {', '.join(map(str, numbers))}")
    opened = open_run(run, runs, storage)
    trials = with_confirmed(opened.study, [opened.trained(number) for number in numbers])
    if as_json:
        typer.echo(json.dumps(_told(opened.study, trials)))
    else:
        _print(opened.study, trials)


def _told(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    from nas.runs import compare
    from nas.runs import report

    first, *others = trials
    metrics = compare.metrics_of(study, trials)
    by_other = {
        other.number: [one.row for one in compare.differences(study, first, other, metrics)] for other in others
    }
    return {
        "name": study.study_name,
        "candidates": [report.row(study, trial) for trial in trials],
        "parameters": compare.parameters(study, trials),
        "differences": [
            {"number": number, "minus": first.number, "metrics": rows} for number, rows in by_other.items()
        ],
    }


def _print(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    from nas.runs import compare
    from nas.runs import report

    table = compare.parameter_table(study, trials)
    if table.row_count:
        show_table(table)
    else:
        say("their networks, recipes and defences are the same")
    show_table(compare.number_table(study, trials))
    for line in (*report.extrapolated_lines(study, trials), *report.misfit_lines(study, trials), *compare.NOTES):
        say(line)
    for line in report.confirmed_lines(study, trials):
        say(line)
