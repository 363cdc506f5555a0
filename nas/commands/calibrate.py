"""nas calibrate: make a device file from measurements."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer
from rich.progress import Progress

from nas.commands.options import Classes
from nas.commands.options import InputShape
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import console
from nas.commands.options import say
from nas.commands.options import shape
from nas.commands.options import trust

if TYPE_CHECKING:
    from nas.calibration.measurements import CalibrationReport
    from nas.calibration.measurements import EnergyReport
    from nas.calibration.measurements import Opinion
    from nas.calibration.measurements import TooFew

FEW_NETWORKS = 100
POOR = 0.3


def calibrate(
    *,
    device: Annotated[
        str, typer.Option(help="Name of the device: devices/NAME.toml is written; host measures this machine.")
    ],
    measurements: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="CSV with columns space, architecture, latency_ms, input_shape (3x32x32), classes; "
            "optional: energy_mj, ram_kib, flash_kib, engine.",
        ),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Search space of rows without one.")] = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    core: Annotated[str, typer.Option(help="Name of the processor core.")] = "unknown core",
    clock_mhz: Annotated[float | None, typer.Option(help="Clock of the core in MHz.", min=1e-3)] = None,
    engine: Annotated[str | None, typer.Option(help="Inference engine of the measurements, with its version.")] = None,
    precision: Annotated[str, typer.Option(help="float32, or int8 (float networks are converted).")] = "float32",
    like: Annotated[str | None, typer.Option(help="Device to take bit-widths, memory rules and limits from.")] = None,
    latency_unit: Annotated[
        str | None, typer.Option(help="Unit of latencies: ms, s or us (default: ms, refused if implausible).")
    ] = None,
    source: Annotated[
        str, typer.Option(help="Where the measurements come from, for the device file.")
    ] = "own measurements",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing devices/NAME.toml.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Make a device from a table of measured networks, or by measuring this machine (--device host)."""
    from estimators.devices.files import DEVICES
    from nas.calibration import device_file
    from nas.calibration.fit import calibrate
    from nas.calibration.measurements import About
    from nas.runs.tables import read_architectures

    trust(plugin, space)
    if measurements is None:
        if device != "host":
            raise ValueError(
                f"expected --from with the measurements of {device!r}; got none (only host is measured here)"
            )
        _host(force=force, as_json=as_json)
        return
    path = device_file.path_of(device, force=force)
    rows = read_architectures(measurements, space, shape(input_shape), classes)
    about = About(
        name=device,
        core=core,
        clock_mhz=clock_mhz,
        engine=engine,
        precision=precision,
        like=like,
        latency_unit=latency_unit,
        source=source,
    )
    text, findings = calibrate(rows, about)
    device_file.write(text, path)
    if as_json:
        typer.echo(json.dumps({"device": device, "file": str(path), **asdict(findings)}))
        return
    for line in describe(findings):
        say(line)
    if clock_mhz is None:
        say("no --clock-mhz given: 1,000 MHz is assumed; only the check of the latency unit depends on it")
    if (DEVICES / f"{device}.toml").exists():
        say(f"in this folder, {device} now means this device and not the shipped one")
    say(f"written to {path}; use it with nas estimate --device {device}")


def describe(findings: CalibrationReport) -> list[str]:
    """Return the lines that report a calibration."""
    from nas.calibration.measurements import left_out
    from nas.calibration.measurements import named_lines

    lines = [
        f"{findings.rows} rows of {findings.networks} different networks",
        f"taken for: {findings.tasks}",
        *left_out(findings),
    ]
    if findings.outliers:
        named = [f"{line} ({ratio:.2g} times the prediction)" for line, ratio in findings.outliers]
        lines.append(f"left out (far from the prediction): {named_lines(named)}")
    lines += [
        f"cross-validation: {findings.close:.0%} predicted within 10 %, {_errors(findings)}",
        f"other networks of these spaces: {_at_least(findings.close_low)}",
        f"90 % interval: +-{findings.interval:.0%} around a prediction",
        _ceiling(findings),
        *_engine(findings),
    ]
    trees = f", corrected by {findings.trees} trees" if findings.trees else ""
    lines.append(
        f"model: cycles by type of operator{trees}; proportions of {findings.relative!r} where the rows do not tell"
    )
    lines += _energy(findings.energy)
    for few in findings.too_few:
        lines += _too_few(few)
    if findings.unpriced:
        lines.append(f"no row has {', '.join(findings.unpriced)}: networks with these operators will be refused")
    if findings.networks < FEW_NETWORKS:
        lines.append(
            f"with {findings.networks} networks the interval is itself uncertain; measure {FEW_NETWORKS} or more"
        )
    if findings.close < POOR:
        lines.append("this is a poor fit: check the rows before you rely on it")
    lines += ["most informative networks to measure next:", *(f"  {text}" for text in findings.next_to_measure)]
    return lines


def _errors(found: CalibrationReport | EnergyReport) -> str:
    return f"mean error {found.error_mean:.1%}, median {found.error_median:.1%}, largest {found.error_max:.0%}"


def _at_least(share: float) -> str:
    from nas.base.text import at_least

    return f"{at_least(share)} within 10 %, with 90 % confidence"


def _engine(findings: CalibrationReport) -> list[str]:
    """Say what the engine leaves out, and how much better that predicts than the opposite."""
    told = {(opinion.prunes, opinion.merges): opinion for opinion in findings.opinions}
    first = findings.opinions[0]
    prunes = first.prunes if findings.prunes is None else findings.prunes
    merges = first.merges if findings.merges is None else findings.merges
    lines = []
    if findings.prunes is not None:
        what = f"operators whose result is not used {'cost nothing' if prunes else 'are run'} on this engine"
        lines.append(_opinion(what, told[prunes, merges], told.get((not prunes, merges))))
    if findings.merges is not None:
        what = f"repeated operators are computed {'once' if merges else 'each time'} on this engine"
        lines.append(_opinion(what, told[prunes, merges], told.get((prunes, not merges))))
    return lines


def _opinion(what: str, taken: Opinion, otherwise: Opinion | None) -> str:
    if otherwise is None:
        return what
    doubt = "" if otherwise.worse else "; the difference may be chance"
    return (
        f"{what}: {taken.close:.0%} within 10 %, mean error {taken.error_mean:.1%}; otherwise {otherwise.close:.0%}, "
        f"{otherwise.error_mean:.1%}{doubt}"
    )


def _too_few(few: TooFew) -> list[str]:
    """Say that a column was not used, with how many networks it needs."""
    from nas.calibration.measurements import MIN_NETWORKS

    needed = f"expected at least {MIN_NETWORKS} different networks with one"
    return [*_far_in_power(few), f"{few.column} is not used: {needed}; got {few.networks}"]


def _far_in_power(found: EnergyReport | TooFew) -> list[str]:
    from nas.calibration.measurements import named_lines

    named = [f"{line} ({ratio:.2g} times the median)" for line, ratio in found.outliers]
    return [f"left out of the energy (power far from the median): {named_lines(named)}"] if named else []


def _energy(found: EnergyReport | None) -> list[str]:
    if found is None:
        return []
    power = f"{found.power_mw:.4g} mW, 90 % of networks +-{found.power_interval:.0%}"
    way, other = "a constant power times the time", "nanojoules by type of operator"
    if found.by_counts:
        way, other = other, way
    return [
        *_far_in_power(found),
        f"energy, {found.rows} rows: {found.close:.0%} predicted within 10 %, {_errors(found)}",
        f"energy of other networks of these spaces: {_at_least(found.close_low)}",
        f"90 % interval of the energy: +-{found.interval:.0%} around a prediction",
        f"energy is {way}: mean error {found.error_mean:.1%}; as {other} {found.error_mean_otherwise:.1%}",
        f"median power: {power}",
    ]


def _ceiling(findings: CalibrationReport) -> str:
    from nas.calibration.measurements import ENOUGH_REPEATED

    if findings.ceiling is None or findings.repeated < ENOUGH_REPEATED:
        return f"{findings.repeated} rows repeat a network: too few to estimate how much of the error is noise"
    return (
        f"noise: of {findings.repeated} rows that repeat a network, {findings.ceiling:.0%} agree with the other rows "
        "within 10 %; no model can do much better"
    )


def _host(*, force: bool, as_json: bool) -> None:
    """Measure this machine, write its two devices, and keep the measurements beside them."""
    from nas.calibration import device_file
    from nas.calibration.this_machine import DEVICES
    from nas.calibration.this_machine import calibrate_host

    paths = {name: device_file.path_of(name, force=force) for name in DEVICES}
    with Progress(console=console(stderr=True)) as progress:
        task = progress.add_task("starting", total=1)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of)

        found = calibrate_host(device_file.FOLDER / "host-measurements.csv", report=report)
    for one in found:
        device_file.write(one.text, paths[one.name])
    if as_json:
        numbers = {one.name: {**asdict(one), "file": str(paths[one.name])} for one in found}
        typer.echo(json.dumps({name: {k: v for k, v in row.items() if k != "text"} for name, row in numbers.items()}))
        return
    for one in found:
        say(
            f"{one.name}: {one.networks} networks measured; cross-validation: {one.close:.0%} predicted within 10 %, "
            f"mean error {one.error_mean:.1%}, largest {one.error_max:.0%}; 90 % interval +-{one.interval:.0%}; "
            f"written to {paths[one.name]}"
        )
