"""The command line: nas search | show | pick | estimate | list."""

from __future__ import annotations

import importlib
import json
import logging
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from typing import Any

import optuna
import typer
from rich.console import Console

from nas import errors
from nas import files
from nas import plugins
from nas import report
from nas.config import SearchConfig
from nas.config import load_config
from nas.pareto import choose
from nas.pareto import front

app = typer.Typer(
    name="nas",
    help="Search for small networks that are accurate, fit the chip and leak little about their training data.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
INTERRUPTED = 130
WIDTH = 140
# The command line's own errors; typer brings the library they come from, or uses the one installed.
USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.mro() if kind.__name__ == "UsageError")
# What `nas list metrics` adds to the cost metrics, which are files with a description of their own.
MEASURED = {
    "error": "Share of validation records misclassified, with its exact binomial 95 % interval.",
    "leakage": "AUC of the membership attack: 0.5 when nothing leaks; DeLong 95 % interval.",
    "tpr_at_1pct_fpr": "Share of members the attack finds at 1 % false alarms; bootstrap 95 % interval.",
    "loss_auc": "AUC of the plain loss threshold, the baseline of the attack.",
    "accuracy_gap": "Accuracy on members minus accuracy on as many others.",
}

Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Storage = Annotated[str | None, typer.Option(help="Optuna storage URL, if not the run's own file.")]


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    logging.captureWarnings(capture=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (ValueError, OSError, USAGE_ERROR, *errors.STORAGE_LOST) as error:
        typer.echo(f"nas: {_one_line(error)}", err=True)
        sys.exit(2)
    except typer.Abort:
        sys.exit(INTERRUPTED)


@app.command()
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
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each [one per core].")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes split, sampling and trainings.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, nsga2 or random.")] = None,
    engine: Annotated[str | None, typer.Option(help="optuna, nni or nni-service.")] = None,
    nni_config: Annotated[Path | None, typer.Option(help="YAML of NNI's own settings, for nni-service.")] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Agree to open NNI's web page to the network.")] = False,
    as_json: Json = False,
) -> None:
    """Search, or go on with a search: sample, price, train, attack, keep the trade-off in an Optuna study."""
    flags = {
        "name": name,
        "space": space,
        "dataset": dataset,
        "data_path": data_path,
        "label_column": label_column,
        "group_column": group_column,
        "members": members,
        "device": device,
        "objectives": _names(objectives),
        "budgets": _limits(budget, "--budget"),
        "attack": attack,
        "defences": _names(defences),
        "references": references,
        "trials": trials,
        "recipe": {} if epochs is None else {"epochs": _span(epochs)},
        "workers": workers,
        "seed": seed,
        "sampler": sampler,
        "engine": engine,
        "nni_config": nni_config,
        "storage": storage,
    }
    settings = load_config(config, flags)
    _check_engine(settings, yes=yes)
    study = _run(settings, runs, _console(stderr=as_json))
    _print_front(study, as_json=as_json)


@app.command()
def show(run: str, *, storage: Storage = None, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Print a run's front and what became of its candidates."""
    _print_front(_study(run, runs, storage)[0], as_json=as_json)


@app.command()
def pick(
    run: str,
    *,
    maximum: Annotated[list[str] | None, typer.Option("--max", help="Limit, METRIC=NUMBER; may be repeated.")] = None,
    prefer: Annotated[str | None, typer.Option(help="Metric to minimise within the limits [the knee].")] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Choose one candidate, say why, and write its architecture, weights and card."""
    from nas import picking  # noqa: PLC0415 - imports torch

    study, folder = _study(run, runs, storage)
    choice = choose(study, _limits(maximum, "--max"), prefer)
    if choice.failed:
        nearest = f"candidate {choice.trial.number} is nearest"
        if as_json:
            typer.echo(
                json.dumps({"picked": None, "nearest": report.row(study, choice.trial), "failed": choice.failed})
            )
        raise ValueError(f"no candidate meets the limits; {nearest}: {', '.join(choice.failed)}")
    written = picking.write(study, choice, folder)
    if as_json:
        picked = {"picked": report.row(study, choice.trial), "reason": choice.reason, "folder": str(written)}
        typer.echo(json.dumps(picked))
        return
    console = _console()
    console.print(f"candidate {choice.trial.number}: {choice.reason}", highlight=False, soft_wrap=True)
    console.print(report.front_table(study, [choice.trial]))
    console.print(f"written to {written}", highlight=False, soft_wrap=True)


@app.command()
def estimate(
    architecture: Annotated[
        str | None, typer.Argument(help="JSON of parameters, a file of it, or RUN:NUMBER [the space's reference].")
    ] = None,
    *,
    space: Annotated[str, typer.Option(help="Space of the parameters.")] = "conv",
    input_shape: Annotated[str, typer.Option(help="Shape of one record, comma-separated.")] = "1,8,8",
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 10,
    device: Annotated[str, typer.Option(help="Device, a TOML of your own, or all.")] = "stm32h747",
    check: Annotated[bool, typer.Option("--check", help="Count with fvcore, thop and PyTorch too.")] = False,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Price one architecture on one device or all, without training."""
    from nas import pricing  # noqa: PLC0415 - imports torch

    network = pricing.read_architecture(architecture, space, _shape(input_shape), classes, runs)
    by_device = pricing.price_on(network, device)
    checked = pricing.check(network) if check else None
    if as_json:
        numbers = {name: report.flat(estimates) for name, estimates in by_device.items()}
        body: dict[str, Any] = {"devices": numbers} if device == "all" else next(iter(numbers.values()))
        about = {"space": network.space, "key": network.key, "bits": report.bits_of(network), "device": device}
        architecture_row = {"architecture": dict(network.params), **({"check": checked} if checked else {})}
        typer.echo(json.dumps({**about, **architecture_row, **body}))
        return
    console = _console()
    console.print(report.estimate_table(f"{network.space} {network.key}  {report.bits_of(network)}", by_device))
    for tool, counted in (checked or {}).items():
        console.print(f"{tool}: {counted['macs']:,} MACs, {counted['params']:,} parameters", highlight=False)
    if checked:
        console.print("all counts agree", highlight=False)


@app.command(name="list")
def list_(
    what: Annotated[str | None, typer.Argument(help="spaces, devices, datasets, attacks, defences or metrics.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what there is: spaces, devices, data sets, attacks, defences, metrics."""
    known = _plugin_descriptions()
    if what is not None and what not in known:
        raise ValueError(f"no list of {what!r}; there are {list(known)}")
    chosen = known if what is None else {what: known[what]}
    if as_json:
        typer.echo(json.dumps(chosen))
        return
    console = _console()
    for title, entries in chosen.items():
        table = report.plain_table("name", "what it is", title=title)
        for entry, description in entries.items():
            table.add_row(entry, description)
        console.print(table, "")


def _run(config: SearchConfig, runs: Path, console: Console) -> optuna.Study:
    """Run a search in workers under a progress display."""
    from nas import environment  # noqa: PLC0415 - imports torch
    from nas import workers  # noqa: PLC0415 - imports torch
    from nas.config import to_toml  # noqa: PLC0415 - beside its only use
    from nas.plan import resolve  # noqa: PLC0415 - imports torch
    from nas.progress import Display  # noqa: PLC0415 - imports torch
    from nas.storage import open_study  # noqa: PLC0415 - imports torch

    plan = resolve(config, runs)
    study = open_study(plan)
    files.write_text(plan.folder / "config.toml", to_toml(config), files.OWNER)  # a storage URL may hold a password
    environment.write(plan.folder)
    display = Display(plan, study, console)
    try:
        with display:
            workers.run(config, runs, display.look)
    except KeyboardInterrupt:
        kept = f"{display.counts().trained} trained candidates are kept"
        console.print(f"stopped; {kept}. {_go_on(config, runs)}", highlight=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    display.finish()
    files.write_json(plan.folder / "front.json", {"front": [report.row(study, trial) for trial in front(study)]})
    return study


def _go_on(config: SearchConfig, runs: Path) -> str:
    """Say how to continue a stopped search."""
    where = "" if runs == Path("runs") else f" --runs {runs}"
    return f"Go on with: nas search {runs / config.name / 'config.toml'}{where}"


def _console(*, stderr: bool = False) -> Console:
    """Return a console; where no terminal sets the width, wide enough for the front's table."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH)


def _print_front(study: optuna.Study, *, as_json: bool) -> None:
    from nas.progress import count  # noqa: PLC0415 - imports torch

    counts = count(study.get_trials(deepcopy=False))
    best = front(study)
    if as_json:
        rows = [report.row(study, trial) for trial in best]
        typer.echo(json.dumps({"name": study.study_name, "counts": asdict(counts), "front": rows}))
        return
    console = _console()
    console.print(f"{study.study_name}: {counts.trained} trained, {counts}", highlight=False)
    console.print(report.front_table(study, best) if best else "no candidate was trained to the end yet")


def _study(run: str, runs: Path, storage: str | None) -> tuple[optuna.Study, Path]:
    """Open a run by its name or folder, from its own storage or the one given."""
    from nas.storage import load_study  # noqa: PLC0415 - imports torch

    folder = Path(run) if (Path(run) / "config.toml").exists() else runs / run
    settings = folder / "config.toml"
    config = load_config(settings, {}) if settings.exists() else None
    name = config.name if config else run
    return load_study(name, folder, storage or (config.storage if config else None)), folder


def _check_engine(config: SearchConfig, *, yes: bool) -> None:
    """Refuse an NNI engine that cannot run, and ask before its manager opens a port to everyone."""
    if config.engine == "optuna":
        return
    from nas.nni import check  # noqa: PLC0415 - beside its only use

    check.check()
    if config.engine == "nni-service":
        _console(stderr=True).print(check.SERVICE_WARNING, highlight=False)
        if not yes:
            raise ValueError("expected --yes to start NNI's manager")


def _plugin_descriptions() -> dict[str, dict[str, str]]:
    from estimators.device_files import available_devices  # noqa: PLC0415 - beside its only use
    from estimators.device_files import load_device  # noqa: PLC0415 - beside its only use

    packages = {
        "spaces": ("search_spaces", "make_space"),
        "datasets": ("nas.data", "load"),
        "attacks": ("estimators.leakage.attacks", "attack"),
        "defences": ("nas.defences", "defend"),
        "metrics": ("estimators.cost", "estimate"),
    }
    known = {
        title: {name: _first_sentence(f"{package}.{name}") for name in plugins.available(package, attribute)}
        for title, (package, attribute) in packages.items()
    }
    known["metrics"] |= MEASURED
    known["devices"] = {name: load_device(name).description for name in available_devices()}
    return known


def _first_sentence(module: str) -> str:
    return (importlib.import_module(module).__doc__ or "").strip().splitlines()[0]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _limits(texts: list[str] | None, flag: str) -> dict[str, float]:
    """Read METRIC=NUMBER options."""
    limits = {}
    for text in texts or []:
        name, _, number = text.partition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise ValueError(f"expected {flag} METRIC=NUMBER; got {text!r}")
        limits[name.strip()] = limit
    return limits


def _span(text: str) -> int | dict[str, int]:
    """Read a number or LOW:HIGH."""
    try:
        ends = [int(part) for part in text.split(":")]
    except ValueError:
        ends = []
    if len(ends) == 1:
        return ends[0]
    if len(ends) == 2:
        return {"low": ends[0], "high": ends[1]}
    raise ValueError(f"expected --epochs NUMBER or LOW:HIGH; got {text!r}")


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected --input-shape with whole numbers, like 3,32,32; got {text!r}") from None


def _one_line(error: Exception) -> str:
    return error.format_message() if isinstance(error, USAGE_ERROR) else errors.one_line(error)  # type: ignore[attr-defined]
