"""nas estimate: the cost of an architecture, or of a table of architectures, on a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from nas.commands.options import Runs
from nas.commands.options import Space
from nas.commands.options import changes
from nas.commands.options import say
from nas.commands.options import shape
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimators.devices.device import Device
    from estimators.estimate import Estimate
    from nas.runs.tables import TableRow
    from search_spaces.graph.architecture import Architecture


def estimate(
    architecture: Annotated[
        str | None,
        typer.Argument(
            help="JSON of parameters, a JSON file, RUN:NUMBER, the name of a network (see nas list networks), or an "
            "nb201 cell (default: the space's reference).",
            autocompletion=completion.networks,
        ),
    ] = None,
    *,
    space: Space = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    changed: Changes = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device, a device file of your own, or all (default: the run's own for RUN:NUMBER, else stm32h747).",
            autocompletion=completion.devices,
        ),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Refuse if the device was measured with another inference engine.")
    ] = None,
    by_layer: Annotated[bool, typer.Option("--by-layer", help="Print a row for each layer, and advice.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a roofline plot to this .png or .svg file.")] = None,
    table: Annotated[
        Path | None, typer.Option("--from", help="CSV with a column 'architecture', to estimate every row.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="CSV file to write, with --from.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare the counts with fvcore, thop and PyTorch.")] = False,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Estimate latency, energy, memory and size of an architecture on a device, without training."""
    from estimators.devices.files import load_device
    from nas.runs import architectures
    from nas.search.config import SearchConfig

    trust(plugin, space)
    device = device or architectures.device_of(architecture, runs) or SearchConfig.model_fields["device"].default
    _check_flags(device, engine, one={"--by-layer": by_layer, "--plot": plot, "--from": table})
    if table or output:
        from nas.runs import tables

        others = {
            "ARCHITECTURE": architecture,
            "--by-layer": by_layer,
            "--plot": plot,
            "--check": check,
            "--set": changed,
        }
        source, target = _check_table(table, output, others)
        chip = load_device(device)
        rows = tables.read_architectures(source, space, shape(input_shape), classes)
        tables.write_table(target, tables.price_table(rows, chip, source))
        _say_priced(chip, rows, target, as_json=as_json)
        return
    network = architectures.read_architecture(
        architecture, space, shape(input_shape), classes, runs, changes=changes(changed)
    )
    checked = _counted(network) if check else {}
    shipped = architectures.is_of_a_run(architecture)
    if plot:
        from nas.pricing import roofline

        roofline.of_network(plot, network, load_device(device), shipped=shipped)
    body = (_layers if by_layer else _costs)(network, device, as_json=as_json, shipped=shipped)
    if as_json:
        typer.echo(json.dumps({**_about(network, device), **({"check": checked} if checked else {}), **body}))
        return
    for tool, counted in checked.items():
        say(f"{tool}: {counted['macs']:,} MACs, {counted['params']:,} parameters")
    if checked:
        say("all counts agree with these")
    if plot:
        say(f"written to {plot}")


def _counted(network: Architecture) -> dict[str, dict[str, int]]:
    """Count with other tools, which build the network."""
    from nas.pricing import crosscheck

    return crosscheck.check(network)


def _check_flags(device: str, engine: str | None, one: Mapping[str, object]) -> None:
    """Refuse an engine other than the measured one, and all devices where one is expected."""
    from estimators.devices.files import load_device
    from estimators.devices.files import require_engine

    if device == "all" and (wanted := [flag for flag, given in {**one, "--engine": engine}.items() if given]):
        raise ValueError(f"expected one device with {' and '.join(wanted)}; got all")
    if engine is not None:
        require_engine(load_device(device), engine)


def _check_table(table: Path | None, output: Path | None, others: Mapping[str, object]) -> tuple[Path, Path]:
    if table is None or output is None:
        raise ValueError(f"expected --from and --output together; got {'--from' if table else '--output'} alone")
    if given := [flag for flag, value in others.items() if value]:
        raise ValueError(f"expected --from without {' and '.join(given)}: it estimates the rows of the table")
    if table.resolve() == output.resolve():
        raise ValueError(f"expected another file as --output than --from; got {output} twice")
    return table, output


def _say_priced(device: Device, rows: Sequence[TableRow], output: Path, *, as_json: bool) -> None:
    from nas.pricing import report
    from nas.runs.tables import tasks_of

    if as_json:
        typer.echo(json.dumps({"device": device.name, "rows": len(rows), "output": str(output)}))
        return
    say(report.basis(device))
    say(f"taken for: {tasks_of(rows)}")
    say(f"estimates of {len(rows)} architectures on {device.name} written to {output}")


def _costs(network: Architecture, device: str, *, as_json: bool, shipped: bool) -> dict[str, Any]:
    """Print the costs, or return them for JSON."""
    from estimators.devices.files import load_device
    from nas.pricing import limits
    from nas.pricing import price
    from nas.pricing import report

    by_device, refused = price.price_on(network, device, shipped=shipped)
    if as_json:
        numbers = {name: _priced(estimates, load_device(name)) for name, estimates in by_device.items()}
        return {"devices": numbers, "refused": refused} if device == "all" else next(iter(numbers.values()))
    show_table(report.estimate_table(f"{network.space} {network.key}  {report.bits_of(network)}", by_device))
    if len(network.outputs) > 1:
        say(f"costs of a record that passes all {len(network.outputs)} exits")
    for name, reason in refused.items():
        say(f"{name} cannot run it: {reason}")
    for name, costs in by_device.items():
        for line in limits.misfits(costs, load_device(name)):
            say(f"{name}: {line}" if device == "all" else line)
    if any(cost.extrapolated for costs in by_device.values() for cost in costs.values()):
        for line in report.extrapolated(None if device == "all" else load_device(device)):
            say(line)
    if device == "all":
        return {}
    for name, costs in by_device.items():
        _say_basis(name, costs["latency_ms"], network)
    return {}


def _priced(costs: Mapping[str, Estimate], device: Device) -> dict[str, Any]:
    """Write the costs on a device for JSON, and whether the network fits into what the device has."""
    from nas.pricing.limits import device_limits
    from nas.pricing.limits import misfits
    from nas.pricing.report import costs_row

    limits = [limit.row for limit in device_limits(device)]
    return {**costs_row(costs), "fits": not misfits(costs, device), "limits": limits}


def _say_basis(device: str, latency: Estimate, network: Architecture) -> None:
    """Print where a latency comes from, and a warning if it is extrapolated."""
    from estimators.devices.files import load_device
    from nas.pricing import report

    chip = load_device(device)
    for line in (report.basis(chip), report.beyond(latency, chip, network)):
        if line:
            say(line)


def _layers(network: Architecture, device: str, *, as_json: bool, shipped: bool) -> dict[str, Any]:
    """Print a row for each layer and the advice, or return them for JSON."""
    from dataclasses import asdict

    from estimators.devices.files import load_device
    from estimators.models.by_layer import by_layer
    from estimators.models.latency import inference_ms
    from nas.pricing import report
    from nas.pricing.advice import advice
    from nas.pricing.price import as_shipped
    from nas.pricing.price import screen

    chip = load_device(device)
    shown = as_shipped(network, chip) if shipped else network
    layers = by_layer(shown, chip)
    told = advice(layers, shown, chip)
    far = [name for name, cost in screen(shown, chip).items() if cost.extrapolated]
    if as_json:
        parts = [asdict(layer) for layer in layers]
        return {"basis": _basis(chip), "layers": parts, "advice": told, "extrapolated": far}
    show_table(report.layer_table(layers, f"{network.space} {network.key} on {chip.name}"), keys=2)
    if far:
        say(report.extrapolated_sums(far, chip))
    _say_basis(device, inference_ms(shown, chip), network)
    for line in told:
        say(line)
    return {}


def _basis(device: Device) -> dict[str, Any]:
    from nas.pricing import report

    return {key: value for key, value in report.device_row(device).items() if key != "description"}


def _about(network: Architecture, device: str) -> dict[str, Any]:
    from nas.pricing import report

    about = {"space": network.space, "key": network.key, "bits": report.bits_of(network), "device": device}
    return {**about, "architecture": dict(network.params)}
