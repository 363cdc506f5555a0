"""nas export: write a network as ONNX files that are judged by their error and leakage."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
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
    from nas.deploy.judging import Tolerances
    from nas.runs.networks import UserNetwork

C99, EXECUTORCH = "c99", "executorch"
FORMATS = ("onnx", C99, EXECUTORCH)


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
        str,
        typer.Option(
            help="onnx; c99: sources with packed weights, in the bits that were trained; or executorch: in float."
        ),
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

    They take records as the data have them. A file that errs or leaks more than its network is not written. verify.py
    beside them checks them where they run. With --format c99 a folder of C sources is written instead.
    """
    from nas.deploy.judging import TOLERANCE
    from nas.deploy.judging import Tolerances
    from nas.runs.networks import find_network
    from nas.runs.retrained import VOID

    trust(plugin, space)
    chosen = precisions(precision)
    _check_format(format, chosen)
    if output is not None and output.suffix == ".onnx" and not output.is_dir():
        raise ValueError(f"expected a folder for --output, for files named by their precision; got '{output}'")
    tolerances = Tolerances(
        error=TOLERANCE if max_error_increase is None else max_error_increase,
        leakage=TOLERANCE if max_leakage_increase is None else max_leakage_increase,
    )
    found = find_network(architecture, space, shape(input_shape), classes, runs, changes=changes(changed))
    folder = output or (Path(architecture) if found.trained else Path())
    write = _write_code if format == C99 else partial(_write_files, format=format)
    files, notes = write(found, chosen, folder, tolerances, say=(lambda _: None) if as_json else say)
    if as_json:
        about = {"key": found.architecture.key, "trained": found.trained, "records": len(found.check)}
        about |= {"device": found.device, **notes, **({"void": VOID} if found.is_retrained else {})}
        typer.echo(json.dumps({**about, "files": files}))
    elif found.is_retrained:
        say(f"{VOID}; the error and the loss AUC above are of records that it was trained on")
    elif found.trained and (reason := notes["not_attacked"]):
        say(f"the search's attack was not repeated on the files: {reason}")


def _check_format(format: str, precisions: Sequence[str] | None) -> None:
    """Refuse a format that there is not, or that cannot be written here or in these precisions."""
    from nas.deploy.executorch_file import check_installed

    if format not in FORMATS:
        raise ValueError(f"no format {format!r}; there are {list(FORMATS)}")
    if format == EXECUTORCH:
        if other := [name for name in precisions or () if name != "float32"]:
            raise ValueError(f"expected float32, the one precision of --format {EXECUTORCH}; got {other[0]}")
        check_installed()


def _write_files(
    found: UserNetwork,
    precisions: Sequence[str] | None,
    folder: Path,
    tolerances: Tolerances,
    *,
    format: str,
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    """Write and describe files that a runtime reads; also returns why the search's attack was not repeated on them."""
    from nas.deploy import shipped
    from nas.deploy.deployed import file_name
    from nas.deploy.deployed import precisions_of
    from nas.deploy.deployed import proxy_on
    from nas.deploy.deployed import write

    proxy, written = proxy_on(found), []
    attack = None if isinstance(proxy, str) else proxy
    for name in [EXECUTORCH] if format == EXECUTORCH else precisions or precisions_of(found.architecture):
        exported = write(found, name, folder / file_name(name), tolerances, attack)
        written.append(_file(exported))
        if described := [file for file in written if "sha256" in file]:
            shipped.write(folder, found.architecture.key, found.preprocessing, described)
        for line in _lines(exported, found):
            say(line)
    if found.trained and (folder / shipped.SCRIPT).is_file():
        say(f"python {folder / shipped.SCRIPT} checks the files, with NumPy and ONNX Runtime alone")
    return written, {"not_attacked": proxy if isinstance(proxy, str) else None}


def _write_code(
    found: UserNetwork,
    precisions: Sequence[str] | None,
    folder: Path,
    tolerances: Tolerances,
    *,
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    """Write and describe folders of C sources, which the search's attack is not repeated on."""
    from nas.deploy.c99.exported import code_precisions
    from nas.deploy.c99.exported import write_code

    written = []
    for name in code_precisions(found.architecture, precisions):
        code = write_code(found, name, folder / f"{name}_c99", tolerances)
        written.append(_code(code))
        weights = "" if found.trained else "; random weights"
        say(f"written to {code.folder}: {_memory(code)}, {_compared(code.judgement, len(found.check))}{weights}")
    return written, {"not_attacked": "C sources are judged by their error and loss AUC"}


def _lines(exported: Exported, found: UserNetwork) -> list[str]:
    """Say what was written and what was measured of it."""
    told = _compared(exported.judgement, len(found.check))
    weights = "" if found.trained else "; random weights, for timing only"
    lines = [f"written to {exported.path}: {exported.size_kib:,.1f} KiB, {told}{weights}"]
    if found.device is not None:
        lines += [f"  {line}" for line in (_priced(exported, found.device), *_shipped(exported))]
    return lines


def _file(exported: Exported) -> dict[str, Any]:
    """Describe a file for JSON."""
    from estimators.estimate import flat
    from nas.base.files import digest_of
    from nas.pricing.report import costs_row

    about = {"path": str(exported.path), "precision": exported.precision, "size_kib": exported.size_kib}
    about |= {"as_priced": exported.as_priced, "cannot_run": exported.cannot_run, "costs": costs_row(exported.prices)}
    about |= {"agreement": exported.judgement.agreement, **flat(exported.judgement.estimates)}
    if exported.size is None or exported.here is None:
        return about
    exact, size, here = exported.judgement.exactness, exported.size, exported.here
    about |= {"name": exported.path.name, "sha256": digest_of(exported.path)}
    about |= {} if exact is None else {"exact_agreement": exact.agreement, "exact_steps": exact.steps}
    about |= {"bytes": size.file_bytes, "container_bytes": size.container_bytes}
    about |= {"counted_bytes": size.counted_bytes, "flash_bytes": size.flash_bytes}
    predicted = {} if here.predicted is None else flat({"predicted_here_ms": here.predicted})
    return {**about, "here_ms": here.latency_ms, "here_is_inside": here.is_inside, **predicted}


def _shipped(exported: Exported) -> list[str]:
    """Say of a trained network's file how exactly it computes, what it holds and how long it takes here."""
    from nas.base.text import inline

    if exported.size is None or exported.here is None:
        return []
    exact, size, here = exported.judgement.exactness, exported.size, exported.here
    told = []
    if exact is not None:
        told = [
            f"{exact.agreement:.1%} get the class of the network with the file's biases, within {exact.steps:.2g} steps"
        ]
    numbers, around = (size.file_bytes - size.container_bytes) / 1024, size.container_bytes / 1024
    told.append(f"{numbers:,.1f} KiB of numbers and {around:,.1f} KiB around them")
    if size.over_estimate is not None:
        told[-1] += f", {size.over_estimate:+.1%} against the flash estimate"
    told.append("on this machine: " + ("no quiet moment" if here.latency_ms is None else f"{here.latency_ms:.3g} ms"))
    if here.predicted is not None:
        told[-1] += f"; predicted {inline(here.predicted, '{:.3g}'.format)}"
    return told


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
        ("leakage", found.leakage, found.leakage_increase),
    ):
        if value is not None and more is not None:
            told += f"; {what} {value.value:.3f}, {more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f})"
    return told
