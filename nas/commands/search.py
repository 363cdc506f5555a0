"""nas search: sample candidates, estimate their cost, train them, attack them, and keep an Optuna study."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer
from rich.console import Console

from nas.commands import completion
from nas.commands.options import INTERRUPTED
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import console
from nas.commands.options import limits
from nas.commands.options import names
from nas.commands.options import narrowings
from nas.commands.options import say
from nas.commands.options import shape
from nas.commands.options import span

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

    import optuna

    from nas.search.config import SearchConfig


def search(
    config: Annotated[Path | None, typer.Argument(help="TOML file with settings; flags take precedence.")] = None,
    *,
    name: Annotated[
        str | None, typer.Option(help="Name of the run. An existing run of this name is continued.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Search space (see nas list spaces).", autocompletion=completion.spaces)
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            help="Compressions to search, comma-separated (see nas list compressions).",
            autocompletion=completion.compressions,
        ),
    ] = None,
    narrowed: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Narrow the space, PARAMETER=VALUE, =VALUE,VALUE or =LOW..HIGH; PARAMETER may be a pattern or an "
            "ending; may be repeated.",
        ),
    ] = None,
    evaluator: Annotated[
        str | None,
        typer.Option(help="training, or table: figures are looked up in the table at --data-path, nothing is trained."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set (see nas list datasets).", autocompletion=completion.datasets)
    ] = None,
    data_path: Annotated[Path | None, typer.Option(help="Folder or file with the data.")] = None,
    test_path: Annotated[
        Path | None, typer.Option(help="File or folder with the test part, if it is not in the same one.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column that holds the class.")] = None,
    group_column: Annotated[
        str | None,
        typer.Option(help="Column, such as a person; its records are never divided between record sets."),
    ] = None,
    drop_column: Annotated[
        list[str] | None, typer.Option(help="Column that is not to be read; may be repeated.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Axes of an image or signal: channels-first or channels-last.")
    ] = None,
    record_shape: Annotated[
        str | None, typer.Option(help="Shape of a record that is stored as a row of numbers, such as 1,28,28.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="HEIGHT,WIDTH that the images of a folder are brought to.")
    ] = None,
    transform: Annotated[
        str | None, typer.Option(help="Scale of a table's skewed numbers: none, log or quantile.")
    ] = None,
    members: Annotated[
        int | None, typer.Option(help="Number of training records; as many non-members are attacked.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Target device (see nas list devices), or a device file of your own.",
            autocompletion=completion.devices,
        ),
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(help="Metrics to minimise, or ends of intervals such as leakage_high, comma-separated."),
    ] = None,
    budget: Annotated[
        list[str] | None, typer.Option(help="Upper limit of a metric or end, METRIC=NUMBER; may be repeated.")
    ] = None,
    no_device_limits: Annotated[
        bool, typer.Option("--no-device-limits", help="Train also what exceeds the memory of the device.")
    ] = False,
    no_error_ceiling: Annotated[
        bool,
        typer.Option("--no-error-ceiling", help="Put also what errs more than quick baselines allow on the front."),
    ] = False,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Membership attack that measures leakage (see nas list attacks).", autocompletion=completion.attacks
        ),
    ] = None,
    defences: Annotated[
        str | None,
        typer.Option(
            "--defences",
            "--defence",
            help="Defences to choose from, comma-separated; all: every one but masks; a plus combines several.",
            autocompletion=completion.defences,
        ),
    ] = None,
    references: Annotated[
        int | None, typer.Option(help="Number of reference networks that the attack compares with.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Number of candidates to train.")] = None,
    fidelity: Annotated[
        str | None,
        typer.Option(
            help="off, or rungs: stop trainings that are not among the best third after 1/9 and 1/3 of their epochs."
        ),
    ] = None,
    inherit: Annotated[
        str | None,
        typer.Option(
            help="off, or parents: start a training from the weights of the earlier candidate that has most to give."
        ),
    ] = None,
    confirm: Annotated[
        int | None,
        typer.Option(
            help="Further trainings of each candidate on the front, at the end (default: a tenth of the trials in all; "
            "0: none)."
        ),
    ] = None,
    epochs: Annotated[str | None, typer.Option(help="Epochs: a number, or LOW:HIGH to search a range.")] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help="none or balanced: what each class counts in the loss; both, comma-separated, to search."),
    ] = None,
    pruning: Annotated[
        str | None,
        typer.Option(
            help="retrained, one_shot, dynamic or safecompress: when weights are removed; several, comma-separated."
        ),
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(help="trained or afterwards: whether few bits are trained or rounded to; both, comma-separated."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes, one thread each (default: one per core).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the data split, of sampling and of training.")] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="What is trained next (see nas list samplers).", autocompletion=completion.samplers),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            help="Runs of the same space whose front is asked for first, comma-separated; networks: those of nas list "
            "networks; supernet: those that shared weights find; may be repeated.",
            autocompletion=completion.likes,
        ),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="optuna, nni or nni-service.")] = None,
    nni_config: Annotated[Path | None, typer.Option(help="YAML file with NNI's own settings, for nni-service.")] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    yes: Annotated[bool, typer.Option("--yes", help="Allow NNI to open its web page to the network.")] = False,
    as_json: Json = False,
) -> None:
    """Search for accurate, small networks that leak little, or continue a search."""
    from nas.commands.show import print_front
    from nas.runs.predicted import agreement
    from nas.search.config import TABLE
    from nas.search.config import load_config
    from nas.search.config import modules_in

    flags = {
        "name": name,
        "space": space,
        "compressions": names(compress),
        "set": narrowings(narrowed),
        "evaluator": evaluator,
        "dataset": dataset,
        "data_path": data_path,
        "test_path": test_path,
        "label_column": label_column,
        "group_column": group_column,
        "drop_columns": drop_column,
        "layout": layout,
        "record_shape": shape(record_shape, "--record-shape"),
        "image_size": shape(image_size, "--image-size"),
        "transform": transform,
        "members": members,
        "device": device,
        "objectives": names(objectives),
        "budgets": limits(budget, "--budget"),
        "device_limits": False if no_device_limits else None,
        "error_ceiling": False if no_error_ceiling else None,
        "attack": attack,
        "defences": names(defences),
        "references": references,
        "trials": trials,
        "fidelity": fidelity,
        "inherit": inherit,
        "confirm": confirm,
        "recipe": _recipe(
            epochs,
            {
                "class_weights": names(class_weights),
                "pruning": names(pruning),
                "quantization": names(quantization),
            },
        ),
        "workers": workers,
        "seed": seed,
        "sampler": sampler,
        "like": names(",".join(like)) if like else None,
        "engine": engine,
        "nni_config": nni_config,
        "storage": storage,
    }
    settings = load_config(config, flags)
    _trust(settings, config, [*(plugin or ()), *modules_in(flags)], nni_config)
    _check_engine(settings, yes=yes)
    study = _run(settings, runs, console(stderr=as_json))
    print_front(study, runs / settings.name, as_json=as_json, with_settings=False)
    if line := agreement(study):
        console(stderr=as_json).print(line, highlight=False, soft_wrap=True)
    if not as_json and settings.evaluator != TABLE:
        where = "" if runs == Path("runs") else f" --runs {runs}"
        say(
            f"leakage is a proxy that ranks candidates: nas audit {settings.name}{where} compares it with audits of "
            "ten candidates; add --pick NUMBER to audit one candidate"
        )


def _recipe(epochs: str | None, named: Mapping[str, list[str] | None]) -> dict[str, Any]:
    """Return the settings of the recipe that flags gave."""
    found: dict[str, Any] = {} if epochs is None else {"epochs": span(epochs)}
    chosen = {name: values for name, values in named.items() if values}
    return found | {name: values if len(values) > 1 else values[0] for name, values in chosen.items()}


def _trust(settings: SearchConfig, config: Path | None, named: Sequence[str], nni_config: Path | None) -> None:
    """Allow the modules that the user names, by a flag or in a search file of their own.

    The settings in a run's folder are no such file: the run may come from somebody else.

    Raises:
        ValueError: If the settings of a run name a module, or a YAML with commands for NNI, that no flag does.
    """
    from nas.base import plugins
    from nas.search.config import modules_in
    from nas.search.storage import is_of_a_run

    plugins.trust(*named)
    wanted = modules_in(settings.model_dump())
    if config is not None and is_of_a_run(config):
        plugins.check_allowed(str(config), *wanted)
        if settings.nni_config is not None and nni_config is None:
            raise ValueError(
                f"expected --nni-config {settings.nni_config} with the settings of a run, which name it: NNI would run "
                "the commands in it; got none"
            )
    plugins.trust(*wanted)


def _run(config: SearchConfig, runs: Path, screen: Console) -> optuna.Study:
    """Run a search, confirm its front, and write it down."""
    from nas.base import files
    from nas.commands.confirm import train_again
    from nas.deploy import exportable
    from nas.runs import report
    from nas.runs.confirm import Job
    from nas.runs.confirm import wanted_by
    from nas.runs.front_and_knee import front
    from nas.runs.run import Run

    folder, study = work_on(config, runs, screen, _how_to_continue)
    if items := wanted_by(study, config):
        train_again(Job(config, folder), items, config.workers, screen, _how_to_continue(config, runs))
    judged = exportable.judge_int8(Run(folder, study), front(study))
    rows = [{**report.row(study, trial), "int8": exportable.of(judged, trial)} for trial in front(study)]
    files.write_json(folder / "front.json", {"front": rows})
    return study


def work_on(
    config: SearchConfig, runs: Path, screen: Console, how_to_continue: Callable[[SearchConfig, Path], str]
) -> tuple[Path, optuna.Study]:
    """Work on a search in worker processes until its study has its trials, and display the progress.

    Args:
        config: The settings.
        runs: Folder of all runs.
        screen: Where to display it.
        how_to_continue: Says, of settings as they were resolved, how to continue after Ctrl-C.

    Returns:
        The run's folder and its study.
    """
    from nas.base import environment
    from nas.base import files
    from nas.base import processes
    from nas.runs import by_class
    from nas.runs import report
    from nas.runs.progress import Display
    from nas.search import workers
    from nas.search.config import to_toml
    from nas.search.plan import resolve
    from nas.search.storage import open_study

    plan = resolve(config, runs)
    config = plan.config
    study = open_study(plan)
    for line in (*report.settings_lines(study), *plan.narrowing.lines):
        screen.print(line, highlight=False, soft_wrap=True)
    files.write_text(plan.folder / "config.toml", to_toml(config), files.OWNER)
    environment.write(plan.folder)
    for caution in by_class.cautions(study):
        screen.print(f"warning: {caution}", highlight=False, soft_wrap=True)
    display = Display(plan, study, screen)
    try:
        with display, processes.sigterm_as_ctrl_c():
            workers.run(config, runs, display.look)
    except KeyboardInterrupt:
        kept = f"{display.counts().trained} trained candidates are kept"
        screen.print(f"stopped; {kept}. {how_to_continue(config, runs)}", highlight=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    display.finish()
    return plan.folder, study


def _how_to_continue(config: SearchConfig, runs: Path) -> str:
    """Say how to continue a stopped search."""
    from nas.search.config import modules_in

    command = ["nas", "search", str(runs / config.name / "config.toml")]
    command += [] if runs == Path("runs") else ["--runs", str(runs)]
    command += [part for name in modules_in(config.model_dump()) for part in ("--plugin", name)]
    command += ["--nni-config", str(config.nni_config)] if config.nni_config else []
    return f"To continue: {shlex.join(command)}"


def _check_engine(config: SearchConfig, *, yes: bool) -> None:
    """Refuse an NNI engine that cannot run, and ask before its manager opens a port to the network."""
    if config.engine == "optuna":
        return
    from nas.nni import check

    check.check()
    if config.engine == "nni-service":
        console(stderr=True).print(check.SERVICE_WARNING, highlight=False)
        if not yes:
            raise ValueError("expected --yes to start NNI's manager, which opens a web page to the network; got none")
        if config.nni_config is not None:
            check.check_settings(config.nni_config)
