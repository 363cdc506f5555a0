"""nas list: the names of all that a search can be made of, and the runs of a folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from nas.commands import completion
from nas.commands.options import Json
from nas.commands.options import Runs
from nas.commands.options import say
from nas.commands.options import show_table

if TYPE_CHECKING:
    from rich.table import Table

PACKAGES = {
    "spaces": ("search_spaces", "make_space"),
    "compressions": ("search_spaces.compressions", "compress"),
    "datasets": ("nas.data", "load"),
    "attacks": ("estimators.leakage.attacks", "attack"),
    "defences": ("nas.defences", "defend"),
    "samplers": ("nas.search.samplers", "make_sampler"),
    "metrics": ("estimators.cost", "estimate"),
}
NETWORKS = "networks"
DEVICES = "devices"
KNOWN = [*PACKAGES, NETWORKS, DEVICES]
RUNS = "runs"
"""Listed when asked for: runs are in a folder, the rest belongs to the program."""


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            help="spaces, networks, compressions, devices, datasets, attacks, defences, samplers, metrics or runs "
            "(default: all but runs).",
            autocompletion=completion.lists,
        ),
    ] = None,
    *,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """List spaces, networks, devices, data sets, attacks, defences, samplers, metrics or runs, a line about each."""
    if what == RUNS:
        _runs(runs, as_json=as_json)
        return
    if what is not None and what not in KNOWN:
        raise ValueError(f"no list of {what!r}; there are {[*KNOWN, RUNS]}")
    chosen = KNOWN if what is None else [what]
    if as_json:
        made = {NETWORKS: _networks, DEVICES: _devices}
        typer.echo(json.dumps({title: made[title]() if title in made else _plugins(title) for title in chosen}))
        return
    for title in chosen:
        if title == DEVICES:
            _show_devices()
        elif title == NETWORKS:
            show_table(_network_table())
        else:
            show_table(_plugin_table(title))
        say("")


def _runs(folder: Path, *, as_json: bool) -> None:
    from nas.base import text
    from nas.base.plugins import short_name
    from nas.runs.listing import list_runs

    found = list_runs(folder)
    if as_json:
        typer.echo(json.dumps({RUNS: [asdict(run) for run in found]}))
        return
    if not found:
        say(f"no runs in {folder}")
        return
    table = text.plain_table("name", "state", "trained", "data set, space", "device", "objectives")
    for run in found:
        if run.problem is not None:
            table.add_row(run.name, run.state, "", run.problem, "", "")
            continue
        names = ", ".join(short_name(name or "") for name in (run.dataset, run.space))
        device = Path(run.device or "").stem
        table.add_row(run.name, run.state, f"{run.trained} of {run.wanted}", names, device, " ".join(run.objectives))
    show_table(table)


def _networks() -> dict[str, Any]:
    """Return a row for each network with published counts: what it is for, its exact counts, where it was published."""
    from estimators.devices.files import load_device
    from nas import spaces
    from nas.pricing.price import cost_metrics

    device = load_device("host")  # counts are the same on every device
    metrics = cost_metrics(device)
    rows = {}
    for name, named in sorted(spaces.all_networks().items()):
        network = named.architecture()
        counts = {metric: int(metrics[metric](network, device).value) for metric in ("macs", "params")}
        about = {"space": named.space, "input_shape": network.input_shape, "num_classes": network.num_classes}
        rows[name] = {**about, **counts, "source": named.network.source}
    return rows


def _network_table() -> Table:
    from nas.base import text

    table = text.plain_table("name", "space", "input", "classes", "MACs", "parameters", "source", title=NETWORKS)
    for column in table.columns[3:6]:
        column.justify = "right"
    for name, row in _networks().items():
        shape = "x".join(map(str, row["input_shape"]))
        numbers = (f"{row[key]:,}" for key in ("num_classes", "macs", "params"))
        table.add_row(name, row["space"], shape, *numbers, row["source"])
    return table


def _devices() -> dict[str, Any]:
    from estimators.devices.files import own_devices
    from estimators.devices.files import readable_devices
    from nas.pricing import report

    own = own_devices()
    devices, wrong = readable_devices()
    rows = {name: {**report.device_row(device), "own": name in own} for name, device in devices.items()}
    return rows | {name: {"error": problem, "own": name in own} for name, problem in wrong.items()}


def _show_devices() -> None:
    from estimators.devices.files import own_devices
    from estimators.devices.files import readable_devices
    from nas.pricing import report

    devices, wrong = readable_devices()
    show_table(report.device_table(devices, own_devices(), wrong))
    for line in report.DEVICE_NOTES:
        say(line)


def _plugins(title: str) -> dict[str, str]:
    from nas.base import plugins

    package, attribute = PACKAGES[title]
    found = plugins.described(package, attribute)
    if title == "metrics":
        from nas.pricing.by_exit import MEANS
        from nas.training.by_class import CLASS_ERROR
        from nas.training.by_class import OF_A_CLASS
        from nas.training.measures import MEASURES

        found |= {**MEANS, **MEASURES, f"{CLASS_ERROR}NAME": OF_A_CLASS}
    return found


def _plugin_table(title: str) -> Table:
    from nas.base import text

    table = text.plain_table("name", "what it is", title=title)
    for name, description in _plugins(title).items():
        table.add_row(name, description)
    return table
