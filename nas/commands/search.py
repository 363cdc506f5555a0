"""nas search: sample, price, train, attack, keep the trade-off."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer
from rich.console import Console

from nas.commands.options import INTERRUPTED
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import console
from nas.commands.options import limits
from nas.commands.options import names
from nas.commands.options import say
from nas.commands.options import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna

    from nas.search.config import SearchConfig


def search(
    config: Annotated[Path | None, typer.Argument(help="TOML file; flags beat it.")] = None,
    *,
    name: Annotated[str | None, typer.Option(help="Names the run; the same name goes on where it stopped.")] = None,
    space: Annotated[str | None, typer.Option(help="What can be built (nas list spaces).")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set (nas list datasets).")] = None,
    data_path: Annotated[Path | None, typer.Option(help="Folder or file of the data.")] = None,
    label_column: Annotated[str | None, typer.Option(help="CSV column with the class.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Column whose equal values stay on one side.")] = None,
    members: Annotated[int | None, typer.Option(help="Training records; as many others are attacked.")] = None,
    device: Annotated[str | None, typer.Option(help="Target (nas list devices), or a TOML of your own.")] = None,
    objectives: Annotated[str | None, typer.Option(help="Metrics to minimise, comma-separated.")] = None,
    budget: Annotated[list[str] | None, typer.Option(help="Upper limit, METRIC=NUMBER; may be repeated.")] = None,
    attack: Annotated[str | None, typer.Option(help="Membership attack (nas list attacks).")] = None,
    defences: Annotated[str | None, typer.Option(help="Defences to choose from, comma-separated.")] = None,
    references: Annotated[int | None, typer.Option(help="Networks in the reference bank.")] = None,
    trials: Annotated[int | None, typer.Option(help="Networks to train.")] = None,
    epochs: Annotated[str | None, typer.Option(help="Epochs, a number or LOW:HIGH to search.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each (default: one per core).")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes split, sampling and trainings.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, nsga2 or random.")] = None,
    engine: Annotated[str | None, typer.Option(help="optuna, nni or nni-service.")] = None,
    nni_config: Annotated[Path | None, typer.Option(help="YAML of NNI's own settings, for nni-service.")] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to open NNI's web page to the network.")] = False,
    as_json: Json = False,
) -> None:
    """Search, or go on with a search: sample, price, train, attack, keep the trade-off in an Optuna study."""
    from nas.commands.show import print_front
    from nas.search.config import load_config
    from nas.search.config import modules_in

    flags = {
        "name": name,
        "space": space,
        "dataset": dataset,
        "data_path": data_path,
        "label_column": label_column,
        "group_column": group_column,
        "members": members,
        "device": device,
        "objectives": names(objectives),
        "budgets": limits(budget, "--budget"),
        "attack": attack,
        "defences": names(defences),
        "references": references,
        "trials": trials,
        "recipe": {} if epochs is None else {"epochs": span(epochs)},
        "workers": workers,
        "seed": seed,
        "sampler": sampler,
        "engine": engine,
        "nni_config": nni_config,
        "storage": storage,
    }
    settings = load_config(config, flags)
    _trust(settings, config, [*(plugin or ()), *modules_in(flags)])
    _check_engine(settings, yes=yes)
    study = _run(settings, runs, console(stderr=as_json))
    print_front(study, as_json=as_json)
    if not as_json:
        where = "" if runs == Path("runs") else f" --runs {runs}"
        say(
            f"leakage is a proxy, good for ranking: nas audit {settings.name}{where} holds it against ten audits, "
            "with --pick NUMBER one candidate is audited"
        )


def _trust(settings: SearchConfig, config: Path | None, named: Sequence[str]) -> None:
    """Allow the modules that the user names, by a flag or in a search file of their own.

    The settings in a run's folder are no such file: the run may come from somebody else.

    Raises:
        ValueError: If the settings of a run name a module that no flag does.
    """
    from nas.base import plugins
    from nas.search.config import modules_in
    from nas.search.storage import is_of_a_run

    plugins.trust(*named)
    wanted = modules_in(settings.model_dump())
    if config is not None and is_of_a_run(config):
        plugins.check_allowed(str(config), *wanted)
    plugins.trust(*wanted)


def _run(config: SearchConfig, runs: Path, screen: Console) -> optuna.Study:
    """Run a search in workers under a progress display."""
    from nas.base import environment
    from nas.base import files
    from nas.runs import report
    from nas.runs.pareto import front
    from nas.runs.progress import Display
    from nas.search import workers
    from nas.search.config import to_toml
    from nas.search.plan import resolve
    from nas.search.storage import open_study

    plan = resolve(config, runs)
    study = open_study(plan)
    files.write_text(plan.folder / "config.toml", to_toml(config), files.OWNER)
    environment.write(plan.folder)
    display = Display(plan, study, screen)
    try:
        with display:
            workers.run(config, runs, display.look)
    except KeyboardInterrupt:
        kept = f"{display.counts().trained} trained candidates are kept"
        screen.print(f"stopped; {kept}. {_go_on(config, runs)}", highlight=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    display.finish()
    files.write_json(plan.folder / "front.json", {"front": [report.row(study, trial) for trial in front(study)]})
    return study


def _go_on(config: SearchConfig, runs: Path) -> str:
    """Say how to continue a stopped search."""
    from nas.base import plugins

    where = "" if runs == Path("runs") else f" --runs {runs}"
    trusted = "".join(f" --plugin {name}" for name in plugins.trusted())
    return f"Go on with: nas search {runs / config.name / 'config.toml'}{where}{trusted}"


def _check_engine(config: SearchConfig, *, yes: bool) -> None:
    """Refuse an NNI engine that cannot run, and ask before its manager opens a port to everyone."""
    if config.engine == "optuna":
        return
    from nas.nni import check

    check.check()
    if config.engine == "nni-service":
        console(stderr=True).print(check.SERVICE_WARNING, highlight=False)
        if not yes:
            raise ValueError("expected --yes to start NNI's manager")
        if config.nni_config is not None:
            check.check_settings(config.nni_config)
