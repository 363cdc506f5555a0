"""nas export: write a network as ONNX files that are checked against PyTorch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Classes
from nas.commands.options import InputShape
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Precision
from nas.commands.options import Runs
from nas.commands.options import Space
from nas.commands.options import precisions
from nas.commands.options import say
from nas.commands.options import shape
from nas.commands.options import trust


def export(
    architecture: Annotated[
        str,
        typer.Argument(help="Folder that nas pick wrote; or what nas estimate takes, with random weights for timing."),
    ],
    *,
    precision: Precision = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the files (default: the pick's folder, or the current one).")
    ] = None,
    least: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Smallest share of records that must get PyTorch's class (default: 0.99; random weights: 0).",
        ),
    ] = None,
    space: Space = "conv",
    input_shape: InputShape = None,
    classes: Classes = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write float32.onnx and int8.onnx. A file that does not agree with PyTorch is not written."""
    from nas.deploy.deployed import write
    from nas.runs.networks import find_network
    from nas.runs.retrained import VOID

    trust(plugin, space)
    chosen = precisions(precision)
    found = find_network(architecture, space, shape(input_shape), classes, runs)
    folder = output or (Path(architecture) if found.trained else Path())
    written = []
    for name in chosen:
        exported = write(found, name, folder / f"{name}.onnx", least=least)
        written.append({**asdict(exported), "path": str(exported.path)})
        if not as_json:
            agrees = f"{exported.agreement:.1%} of {len(found.check)} records get PyTorch's class"
            weights = "" if found.trained else "; random weights, for timing only"
            say(f"written to {exported.path}: {exported.size_kib:,.1f} KiB, {agrees}{weights}")
    if found.is_retrained and not as_json:
        say(VOID)
    if as_json:
        about = {"key": found.architecture.key, "trained": found.trained, "records": len(found.check)}
        about |= {"void": VOID} if found.is_retrained else {}
        typer.echo(json.dumps({**about, "files": written}))
