"""nas list: the names of spaces, devices, data sets, attacks, defences and metrics."""

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
    """List the spaces, devices, data sets, attacks, defences and metrics, with a line about each."""
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
    from estimators.devices.files import own_devices
    from estimators.devices.files import readable_devices
    from nas.pricing import report

    own = own_devices()
    devices, wrong = readable_devices()
    rows = {name: {**report.device_row(device), "own": name in own} for name, device in devices.items()}
    return rows | {name: {"error": problem, "own": name in own} for name, problem in wrong.items()}


def _device_table() -> Table:
    from estimators.devices.files import own_devices
    from estimators.devices.files import readable_devices
    from nas.pricing import report

    devices, wrong = readable_devices()
    return report.device_table(devices, own_devices(), wrong)


def _plugins(title: str) -> dict[str, str]:
    from nas.base import plugins

    package, attribute = PACKAGES[title]
    found = {name: _first_sentence(f"{package}.{name}") for name in plugins.available(package, attribute)}
    if title == "metrics":
        from nas.training.assess import MEASURES
        from nas.training.by_class import CLASS_ERROR
        from nas.training.by_class import OF_A_CLASS

        found |= {**MEASURES, f"{CLASS_ERROR}NAME": OF_A_CLASS}
    return found


def _plugin_table(title: str) -> Table:
    from nas.base import text

    table = text.plain_table("name", "what it is", title=title)
    for name, description in _plugins(title).items():
        table.add_row(name, description)
    return table


def _first_sentence(module: str) -> str:
    return (importlib.import_module(module).__doc__ or "").strip().splitlines()[0]
