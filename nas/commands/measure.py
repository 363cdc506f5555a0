"""nas measure: the latency of a network on this machine, beside a device's prediction."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from nas.commands import completion
from nas.commands.options import Changes
from nas.commands.options import Classes
from nas.commands.options import InputShape
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Precision
from nas.commands.options import Runs
from nas.commands.options import Space
from nas.commands.options import changes
from nas.commands.options import precisions
from nas.commands.options import say
from nas.commands.options import shape
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from rich.table import Table

    from estimators.devices.device import Device
    from nas.deploy.deployed import Compared

ENGINE = "ONNX Runtime"
HOST, INT8_HOST = "host", "host_int8"


def measure(
    architecture: Annotated[
        str | None,
        typer.Argument(
            help="Folder that nas pick wrote, or what nas estimate takes (default: the reference).",
            autocompletion=completion.networks,
        ),
    ] = None,
    *,
    device: Annotated[
        str,
        typer.Option(
            help="Device whose prediction is compared with the measurement.", autocompletion=completion.devices
        ),
    ] = HOST,
    precision: Precision = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of undisturbed rounds to measure.")] = 7,
    space: Space = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    changed: Changes = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Time a network on this machine, in each of its precisions, and compare with a device's prediction."""
    from importlib.metadata import version

    from estimators.devices.files import load_device
    from nas.deploy.deployed import compare
    from nas.runs.networks import find_network

    trust(plugin, space)
    chosen, chip = precisions(precision), load_device(device)
    # This machine is two devices, one for each precision.
    chips = [chip, load_device(INT8_HOST)] if device == HOST else [chip]
    found = find_network(architecture, space, shape(input_shape), classes, runs, changes=changes(changed))
    compared = compare(found, chips, precisions=chosen, rounds=rounds)
    engine = f"{ENGINE} {version('onnxruntime')}"
    if as_json:
        about = {"key": found.architecture.key, "engine": engine, "device": chip.name, "device_engine": chip.engine}
        typer.echo(json.dumps({**about, "timings": [_row(one) for one in compared]}))
        return
    network = found.architecture
    say(f"{network.space} {network.key} on this machine, {engine}, one thread on one core")
    show_table(_table(compared))
    for one in chips:
        for line in _notes(one, compared):
            say(line)


def _table(compared: list[Compared]) -> Table:
    """Lay out the measured latency of each precision, with its fastest and slowest round, beside the prediction."""
    from estimators.estimate import Estimate
    from nas.base import text

    table = text.plain_table("precision", "measured\nms", "predicted\nms", "prediction\noff by", "drift")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in compared:
        timing = one.timing
        measured = text.stacked(Estimate(timing.latency_ms, timing.low, timing.high))
        predicted = "-" if one.predicted is None else text.stacked(one.predicted)
        error = "-" if one.error is None else f"{one.error:+.0%}"
        table.add_row(one.precision, measured, predicted, error, f"{timing.drift:.1%}")
    return table


def _row(one: Compared) -> dict[str, Any]:
    predicted = None if one.predicted is None else asdict(one.predicted)
    return {"precision": one.precision, **asdict(one.timing), "predicted": predicted, "error": one.error}


def _notes(device: Device, compared: list[Compared]) -> list[str]:
    """Return lines on where the prediction comes from, and whether it is comparable."""
    from estimators.devices.files import same_engine
    from nas.pricing import report

    if all(one.predicted is None for one in compared):
        return [f"no prediction: {device.name} was measured in {device.precision} only"]
    is_far = any(one.predicted is not None and one.predicted.extrapolated for one in compared)
    told = [*(report.extrapolated(device) if is_far else ()), report.basis(device)]
    if same_engine(device, ENGINE):
        return told
    return [
        *told,
        f"this is another engine than {ENGINE}: the difference is not the error of the prediction",
    ]
