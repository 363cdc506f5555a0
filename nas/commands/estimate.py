"""nas estimate: what an architecture costs on a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from typing import Any

import typer

from nas.commands.options import Classes
from nas.commands.options import InputShape
from nas.commands.options import Json
from nas.commands.options import Runs
from nas.commands.options import console
from nas.commands.options import say
from nas.commands.options import shape


def estimate(
    architecture: Annotated[
        str | None, typer.Argument(help="JSON of parameters, a file of it, or RUN:NUMBER [the space's reference].")
    ] = None,
    *,
    space: Annotated[str, typer.Option(help="Space of the parameters.")] = "conv",
    input_shape: InputShape = "1,8,8",
    classes: Classes = 10,
    device: Annotated[str, typer.Option(help="Device, a TOML of your own, or all.")] = "stm32h747",
    check: Annotated[bool, typer.Option("--check", help="Count with fvcore, thop and PyTorch too.")] = False,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Price one architecture on one device or all, without training."""
    from nas import pricing
    from nas import report

    network = pricing.read_architecture(architecture, space, shape(input_shape), classes, runs)
    by_device = pricing.price_on(network, device)
    checked = pricing.check(network) if check else None
    if as_json:
        numbers = {name: report.flat(estimates) for name, estimates in by_device.items()}
        body: dict[str, Any] = {"devices": numbers} if device == "all" else next(iter(numbers.values()))
        about = {"space": network.space, "key": network.key, "bits": report.bits_of(network), "device": device}
        architecture_row = {"architecture": dict(network.params), **({"check": checked} if checked else {})}
        typer.echo(json.dumps({**about, **architecture_row, **body}))
        return
    console().print(report.estimate_table(f"{network.space} {network.key}  {report.bits_of(network)}", by_device))
    for tool, counted in (checked or {}).items():
        say(f"{tool}: {counted['macs']:,} MACs, {counted['params']:,} parameters")
    if checked:
        say("all counts agree")
