"""nas list: what there is."""

from __future__ import annotations

import importlib
import json
from typing import Annotated

import typer

from nas.commands.options import Json
from nas.commands.options import console

# What `nas list metrics` adds to the cost metrics, which are files with a description of their own.
MEASURED = {
    "error": "Share of validation records misclassified, with its exact binomial 95 % interval.",
    "leakage": "AUC of the membership attack: 0.5 when nothing leaks; DeLong 95 % interval.",
    "tpr_at_1pct_fpr": "Share of members the attack finds at 1 % false alarms; bootstrap 95 % interval.",
    "loss_auc": "AUC of the plain loss threshold, the baseline of the attack.",
    "accuracy_gap": "Accuracy on members minus accuracy on as many others.",
}


def list_(
    what: Annotated[str | None, typer.Argument(help="spaces, devices, datasets, attacks, defences or metrics.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what there is: spaces, devices, data sets, attacks, defences, metrics."""
    from nas import report

    known = _descriptions()
    if what is not None and what not in known:
        raise ValueError(f"no list of {what!r}; there are {list(known)}")
    chosen = known if what is None else {what: known[what]}
    if as_json:
        typer.echo(json.dumps(chosen))
        return
    screen = console()
    for title, entries in chosen.items():
        table = report.plain_table("name", "what it is", title=title)
        for entry, description in entries.items():
            table.add_row(entry, description)
        screen.print(table, "")


def _descriptions() -> dict[str, dict[str, str]]:
    from estimators.device_files import available_devices
    from estimators.device_files import load_device
    from nas import plugins

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
