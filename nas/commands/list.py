"""nas list: what there is."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from nas.commands.options import Json
from nas.commands.options import say
from nas.commands.options import show_table

if TYPE_CHECKING:
    from rich.table import Table

# What `nas list metrics` adds to the cost metrics, which are files with a description of their own.
MEASURED = {
    "error": "Share of validation records misclassified, with its exact binomial 95 % interval.",
    "leakage": "AUC of the membership attack: 0.5 when nothing leaks; DeLong 95 % interval.",
    "tpr_at_1pct_fpr": "Share of members the attack finds at 1 % false alarms; bootstrap 95 % interval.",
    "loss_auc": "AUC of the plain loss threshold, the baseline of the attack.",
    "accuracy_gap": "Accuracy on members minus accuracy on as many others.",
    "trainings": "Trainings a candidate costs: its own and those of the teachers that its defence asks for.",
}
PACKAGES = {
    "spaces": ("search_spaces", "make_space"),
    "datasets": ("nas.data", "load"),
    "attacks": ("estimators.leakage.attacks", "attack"),
    "defences": ("nas.defences", "defend"),
    "metrics": ("estimators.cost", "estimate"),
}
KNOWN = [*PACKAGES, "devices"]


def list_(
    what: Annotated[str | None, typer.Argument(help="spaces, devices, datasets, attacks, defences or metrics.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what there is: spaces, devices, data sets, attacks, defences, metrics."""
    if what is not None and what not in KNOWN:
        raise ValueError(f"no list of {what!r}; there are {KNOWN}")
    chosen = KNOWN if what is None else [what]
    if as_json:
        typer.echo(json.dumps({title: _devices() if title == "devices" else _plugins(title) for title in chosen}))
        return
    for title in chosen:
        show_table(_device_table() if title == "devices" else _plugin_table(title))
        say("")


def _devices() -> dict[str, Any]:
    from estimators.devices.files import available_devices
    from estimators.devices.files import load_device
    from estimators.devices.files import own_devices
    from nas.pricing import report

    own = own_devices()
    return {name: {**report.device_row(load_device(name)), "own": name in own} for name in available_devices()}


def _device_table() -> Table:
    from estimators.devices.files import available_devices
    from estimators.devices.files import load_device
    from estimators.devices.files import own_devices
    from nas.pricing import report

    return report.device_table({name: load_device(name) for name in available_devices()}, own_devices())


def _plugins(title: str) -> dict[str, str]:
    from nas.base import plugins

    package, attribute = PACKAGES[title]
    found = {name: _first_sentence(f"{package}.{name}") for name in plugins.available(package, attribute)}
    return found | MEASURED if title == "metrics" else found


def _plugin_table(title: str) -> Table:
    from nas.base import text

    table = text.plain_table("name", "what it is", title=title)
    for name, description in _plugins(title).items():
        table.add_row(name, description)
    return table


def _first_sentence(module: str) -> str:
    return (importlib.import_module(module).__doc__ or "").strip().splitlines()[0]
