"""nas dashboard: a run on a web page of this machine, by optuna-dashboard."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Plugins
from nas.commands.options import Run
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import say
from nas.commands.options import trust


def dashboard(
    run: Run,
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1 to serve on; 0 for any that is free.")
    ] = 8080,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
) -> None:
    """Show a run on a web page of this machine, to read: the front with cards, plots and exported files."""
    from nas.base import loopback
    from nas.runs.dashboard import copied
    from nas.runs.dashboard import write_notes
    from nas.runs.run import open_run

    trust(plugin)
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise ValueError("nas dashboard needs optuna-dashboard: pip install 'gecko-nas[dashboard]'") from None
    opened = open_run(run, runs, storage)
    with tempfile.TemporaryDirectory(prefix="nas-dashboard-") as folder:
        copy = copied(opened, Path(folder))
        write_notes(copy)
        say(f"{opened.name}: a copy as it is now; nothing on the page changes the run")
        page = wsgi(copy.storage, artifact_store=copy.artifacts)
        loopback.serve(page, port, lambda address: say(f"open {address} on this machine; Ctrl-C ends it"))
