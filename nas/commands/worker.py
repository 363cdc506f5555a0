"""nas worker: join a search that another machine began, with the settings that its study holds."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import console
from nas.commands.options import say
from nas.commands.search import work_on

if TYPE_CHECKING:
    from nas.search.config import SearchConfig


def worker(
    storage: Annotated[
        str,
        typer.Argument(
            help="Storage of the search: a URL (*** stands for secrets in GECKO_NAS_STORAGE), or a journal file."
        ),
    ],
    run: Annotated[str, typer.Argument(help="Name of the run.")],
    *,
    data_path: Annotated[
        Path | None, typer.Option(help="Folder or file with the same data, where they lie elsewhere on this machine.")
    ] = None,
    test_path: Annotated[
        Path | None, typer.Option(help="File or folder with the test part, where it lies elsewhere on this machine.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Number of candidates to train in all (default: as the search was started with).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes, one thread each (default: one per core).")
    ] = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
) -> None:
    """Work on a search that exists until it has its candidates. May join, leave and die at any moment."""
    from nas.base import plugins
    from nas.search.config import load_config
    from nas.search.config import modules_in
    from nas.search.config import stored_config
    from nas.search.schema import CONFIG
    from nas.search.storage import load_study

    given = load_config(None, {"storage": storage, "data_path": data_path, "test_path": test_path})
    found = stored_config(load_study(run, runs / run, given.storage).user_attrs[CONFIG])
    # Paths in the study are those of the machine that began the search. NNI is that machine's own business, too.
    here = {"storage": given.storage, "workers": workers, "engine": "optuna", "nni_config": None}
    given_here = {"data_path": given.data_path, "test_path": given.test_path, "trials": trials}
    moved = {name: value for name, value in given_here.items() if value is not None}
    config = stored_config({**found.model_dump(), **here, **moved})
    plugins.trust(*(plugin or ()))
    plugins.check_allowed(f"the study {run!r}", *modules_in(config.model_dump()))
    work_on(config, runs, console(), _how_to_continue)
    say(f"{run} has its candidates; nas show {run} shows the front")


def _how_to_continue(config: SearchConfig, runs: Path) -> str:
    """Say how to join again."""
    from nas.search import storage_url

    command = ["nas", "worker", storage_url.redacted(str(config.storage)), config.name]
    command += [] if runs == Path("runs") else ["--runs", str(runs)]
    return f"To continue: {shlex.join(command)} with the same options"
