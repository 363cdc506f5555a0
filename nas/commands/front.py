"""nas front: one front of several runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from nas.commands import completion
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from nas.runs.merging import Merged
    from nas.runs.run import Run


def front(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Names of two or more runs, or their folders.", autocompletion=completion.runs
        ),
    ],
    *,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Print the Pareto front of several runs together, where what decides their numbers is the same."""
    from nas.runs.merging import merge
    from nas.runs.run import open_run

    trust(plugin)
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"expected two or more different runs; got {', '.join(names)}; nas show prints that of one")
    opened = {name: open_run(name, runs, storage) for name in names}
    merged = merge(opened)
    (_print_json if as_json else _print)(opened, merged)


def _print_json(opened: Mapping[str, Run], merged: Merged) -> None:
    from nas.runs import report

    rows = _rows(opened, merged)
    front = [{"name": one.name, **report.row(one.study, one.trial)} for one in merged.shown]
    told = {"runs": rows, "front": front, "repeated": merged.repeated, "ties": merged.ties, "notes": merged.notes}
    typer.echo(json.dumps({**told, "knee": merged.knee.name if merged.knee else None}))


def _rows(opened: Mapping[str, Run], merged: Merged) -> list[dict[str, str | int]]:
    """Return of each run how many candidates it trained, and how many of these are on the front."""
    from nas.runs.progress import count

    there = Counter(one.name.rpartition(":")[0] for one in merged.shown)
    return [
        {"name": name, "trained": count(run.study.get_trials(deepcopy=False)).trained, "on_front": there[name]}
        for name, run in opened.items()
    ]


def _print(opened: Mapping[str, Run], merged: Merged) -> None:
    from nas.runs import report
    from nas.runs import ties

    for row in _rows(opened, merged):
        say(f"{row['name']}: {row['trained']} trained, {row['on_front']} on the front of all")
    for line in merged.notes:
        say(line)
    if merged.knee is None:
        say("no candidate of these runs meets the limits")
        return
    studies = [run.study for run in opened.values()]
    show_table(report.candidate_table(studies, merged.shown))
    for line in report.extrapolated_lines(studies[0], [one.trial for one in merged.shown]):
        say(line)
    for one in merged.shown:
        if report.fits(one.study, one.trial) is False:
            say(f"{one.name} does not fit into the device's memory")
    for again, name in merged.repeated.items():
        say(f"{again} is the same candidate as {name}")
    say(f"{merged.knee.name} is the knee of the front")
    for line in ties.told(merged.knee.name, merged.ties):
        say(line)
