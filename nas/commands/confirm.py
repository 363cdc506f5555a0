"""nas confirm: train the candidates on the front of a run again, and replace lucky numbers by means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from nas.commands.options import INTERRUPTED
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Run
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import console
from nas.commands.options import trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from nas.runs.confirm import Item
    from nas.runs.confirm import Job


def confirm(
    run: Run,
    *,
    repeats: Annotated[int, typer.Option(help="Further trainings of each candidate, earlier ones included.")] = 3,
    max_candidates: Annotated[
        int | None,
        typer.Option(help="How many candidates of the front to train again, its knee first (default: all)."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes, one thread each (default: one per core).")
    ] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Train the candidates on the front again from other seeds, and print the front with means over these trainings."""
    from nas.commands.show import print_front
    from nas.runs.confirm import Job
    from nas.runs.confirm import members
    from nas.runs.confirm import missing
    from nas.runs.run import open_trained
    from nas.search.config import MOST_REPETITIONS
    from nas.search.storage import storage_of

    trust(plugin)
    for option, value, most in (
        ("--repeats", repeats, MOST_REPETITIONS),
        ("--max-candidates", max_candidates, None),
        ("--workers", workers, None),
    ):
        if value is not None and (value < 1 or (most is not None and value > most)):
            raise ValueError(f"expected {option} of 1 or more{f', {most} at most' if most else ''}; got {value}")
    opened = open_trained(run, runs, storage)
    if not members(opened.study):
        raise ValueError(f"expected a front to confirm; no trained candidate of {opened.name!r} is within its limits")
    if items := missing(opened.study, repeats, max_candidates):
        config = opened.plan.config.model_copy(update={"storage": storage_of(run, runs, storage)})
        how_to_continue = f"To continue: nas confirm {run} with the same options"
        train_again(Job(config, opened.folder), items, workers, console(stderr=as_json), how_to_continue)
    print_front(opened.study, opened.folder, as_json=as_json, with_settings=False)


def train_again(job: Job, items: Sequence[Item], workers: int | None, screen: Console, how_to_continue: str) -> None:
    """Train candidates again, with a progress bar on a terminal. After Ctrl-C, what is trained is kept."""
    from rich.progress import Progress

    from nas.base import processes
    from nas.runs.confirm import describe
    from nas.runs.confirm import train

    done = 0
    screen.print(describe(items), highlight=False, soft_wrap=True)
    try:
        shown = Progress(console=screen, transient=True, disable=not screen.is_terminal)
        with shown as bar, processes.sigterm_as_ctrl_c():
            task = bar.add_task("further trainings", total=len(items))
            for _ in train(job, items, workers=workers):
                done += 1
                bar.advance(task)
    except KeyboardInterrupt:
        kept = f"stopped; {done} further trainings are kept, {len(items) - done} are missing"
        screen.print(f"{kept}. {how_to_continue}", highlight=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
