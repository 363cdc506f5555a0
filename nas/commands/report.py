"""nas report: the page of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Run
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import say
from nas.commands.options import trust


def report(
    run: Run,
    *,
    output: Annotated[
        Path | None, typer.Option(help="HTML file to write (default: report.html in the run's folder).")
    ] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write one HTML page about a run: front, limits, parameters, defences, audits, latency; it needs no network."""
    from nas.page import build
    from nas.runs.run import open_run

    trust(plugin)
    written = build.write(open_run(run, runs, storage), output)
    if as_json:
        typer.echo(json.dumps({"report": str(written)}))
    else:
        say(f"written to {written}")
