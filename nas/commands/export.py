"""nas export: write a network as ONNX files that are judged by their error and leakage."""

from __future__ import annotations

import json
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
from nas.commands.options import trust

if TYPE_CHECKING:
    from nas.deploy.c99.exported import ExportedCode
    from nas.deploy.deployed import Exported
    from nas.deploy.judging import Judgement

FORMATS = ("onnx", "c99")


def export(
    architecture: Annotated[
        str,
        typer.Argument(
            help="Folder that nas pick wrote; or what nas estimate takes, with random weights for timing.",
            autocompletion=completion.networks,
        ),
    ],
    *,
    precision: Precision = None,
    format: Annotated[
        str, typer.Option(help="onnx; or c99: sources with packed weights, in the bits that were trained.")
    ] = "onnx",
    output: Annotated[
        Path | None, typer.Option(help="Folder for the files (default: the pick's folder, or the current one).")
    ] = None,
    max_error_increase: Annotated[
        float | None,
        typer.Option(help="Accepted rise of the error over the network's, on validation records (default: 0.02)."),
    ] = None,
    max_leakage_increase: Annotated[
        float | None, typer.Option(help="Accepted rise of the loss AUC over the network's (default: 0.02).")
    ] = None,
    space: Space = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    changed: Changes = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write float32.onnx and int8.onnx, and mixed.onnx of a network with both.

    They take records as the data have them. A file that errs or leaks more than its network is not written.
    With --format c99 a folder of C sources is written instead.
    """
    from nas.deploy.c99.exported import code_precisions
    from nas.deploy.c99.exported import write_code
    from nas.deploy.deployed import precisions_of
    from nas.deploy.deployed import write
    from nas.deploy.judging import TOLERANCE
    from nas.deploy.judging import Tolerances
    from nas.runs.networks import find_network
    from nas.runs.retrained import VOID

    trust(plugin, space)
    chosen = precisions(precision)
    if format not in FORMATS:
        raise ValueError(f"no format {format!r}; there are {list(FORMATS)}")
    if output is not None and output.suffix == ".onnx" and not output.is_dir():
        raise ValueError(f"expected a folder for --output, for files named by their precision; got '{output}'")
    tolerances = Tolerances(
        error=TOLERANCE if max_error_increase is None else max_error_increase,
        leakage=TOLERANCE if max_leakage_increase is None else max_leakage_increase,
    )
    found = find_network(architecture, space, shape(input_shape), classes, runs, changes=changes(changed))
    folder = output or (Path(architecture) if found.trained else Path())
    written = []
    for name in code_precisions(found.architecture, chosen) if format == "c99" else ():
        code = write_code(found, name, folder / f"{name}_c99", tolerances)
        written.append(_code(code))
        if not as_json:
            weights = "" if found.trained else "; random weights"
            say(f"written to {code.folder}: {_memory(code)}, {_compared(code.judgement, len(found.check))}{weights}")
    for name in () if format == "c99" else chosen or precisions_of(found.architecture):
        exported = write(found, name, folder / f"{name}.onnx", tolerances)
        written.append(_file(exported))
        if not as_json:
            told = _compared(exported.judgement, len(found.check))
            weights = "" if found.trained else "; random weights, for timing only"
            say(f"written to {exported.path}: {exported.size_kib:,.1f} KiB, {told}{weights}")
            if found.device is not None:
                say(f"  {_priced(exported, found.device)}")
    if found.is_retrained and not as_json:
        say(f"{VOID}; the error and the loss AUC above are of records that it was trained on")
    if as_json:
        about = {"key": found.architecture.key, "trained": found.trained, "records": len(found.check)}
        about |= {"device": found.device, **({"void": VOID} if found.is_retrained else {})}
        typer.echo(json.dumps({**about, "files": written}))


def _file(exported: Exported) -> dict[str, Any]:
    """Describe a file for JSON."""
    from estimators.estimate import flat
    from nas.pricing.report import costs_row

    about = {"path": str(exported.path), "precision": exported.precision, "size_kib": exported.size_kib}
    about |= {"as_priced": exported.as_priced, "cannot_run": exported.cannot_run, "costs": costs_row(exported.prices)}
    return {**about, "agreement": exported.judgement.agreement, **flat(exported.judgement.estimates)}


def _code(code: ExportedCode) -> dict[str, Any]:
    """Describe C sources for JSON."""
    from estimators.estimate import flat

    about = {"path": str(code.folder), "precision": code.precision, "ram_bytes": code.ram_bytes}
    about |= {"planned_bytes": code.planned_bytes, "flash_bytes": code.flash_bytes}
    return {**about, "agreement": code.judgement.agreement, **flat(code.judgement.estimates)}


def _memory(code: ExportedCode) -> str:
    """Say what C sources take, and that it is what was planned."""
    more = code.ram_bytes - code.planned_bytes
    planned = "as planned" if not more else f"{more:,} more than planned"
    return f"{code.ram_bytes:,} bytes of memory, {planned}, {code.flash_bytes:,} bytes of weights"


def _priced(exported: Exported, device: str) -> str:
    """Say what a file costs on the run's device, and whether that is what the search priced."""
    if exported.cannot_run is not None:
        return f"no estimate on {device}: {exported.cannot_run}"
    costs = exported.prices
    guesses = [" (extrapolated)" if costs[name].extrapolated else "" for name in ("latency_ms", "flash_kib")]
    time, flash = f"{costs['latency_ms'].value:.3g} ms", f"{costs['flash_kib'].value:,.1f} KiB of flash"
    told = f"on {device}: {time}{guesses[0]}, {flash}{guesses[1]}"
    return f"{told}, as the search priced it" if exported.as_priced else f"{told}; the search priced other bits"


def _compared(found: Judgement, records: int) -> str:
    """Say how a file differs from its network."""
    told = f"{found.agreement:.1%} of {records} records get PyTorch's class"
    for what, value, more in (
        ("error", found.error, found.error_increase),
        ("loss AUC", found.loss_auc, found.loss_auc_increase),
    ):
        if value is not None and more is not None:
            told += f"; {what} {value.value:.3f}, {more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f})"
    return told
