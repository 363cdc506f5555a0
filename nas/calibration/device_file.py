"""Write device files: plain tables that people can read and that `load_device` takes.

Two calibrations write them: `nas.calibration.fit` from a table of measurements, `nas.calibration.this_machine` from
what it timed itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import TypeAlias

import numpy as np
import tomlkit

from estimators.devices.device import Device
from estimators.devices.files import load_device
from estimators.devices.files import parse_device
from estimators.devices.trees import as_lists
from estimators.fitting.cycle_model import ALL_COLUMNS
from estimators.fitting.cycle_model import CycleModel
from estimators.fitting.least_squares import interval_of
from estimators.models.counts import COLUMNS
from estimators.models.counts import Floats
from estimators.models.energy import NANOJOULES_PER_MILLIJOULE
from nas.base import files
from nas.base import plugins
from nas.calibration.energy import EnergyModel
from nas.calibration.measurements import ENOUGH_REPEATED
from nas.calibration.measurements import MIN_NETWORKS
from nas.calibration.measurements import UNKNOWN_CLOCK_MHZ
from nas.calibration.measurements import About
from nas.calibration.measurements import CalibrationReport
from nas.calibration.measurements import Prepared
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import ELEMENT_KINDS
from search_spaces.graph.operators import MAC_KINDS

Data: TypeAlias = dict[str, Any]

PRECISION_BITS = {"float32": 32, "int8": 8}
FOLDER = Path("devices")
NOT_CALIBRATED: Data = {"source": "none", "networks": 1, "error_mean": 0.0, "error_max": 0.0}
"""Stands for the calibration of a device that measurements are still to be fitted to."""


def template_of(about: About) -> Device:
    """Return the device without its coefficients."""
    return parse_device(about.name, bare_data(about) | {"calibration": NOT_CALIBRATED})


def bare_data(about: About) -> Data:
    """Return a device's data without its coefficients and calibration.

    Raises:
        ValueError: If there is no such precision.
    """
    if about.precision not in PRECISION_BITS:
        raise ValueError(f"expected as precision one of {list(PRECISION_BITS)}; got {about.precision!r}")
    return _identity(about) | _like(about.like, PRECISION_BITS[about.precision])


def device_text(
    table: Prepared, model: CycleModel, energy: EnergyModel | None, about: About, findings: CalibrationReport
) -> str:
    """Return the TOML of a calibrated device.

    Args:
        table: The rows that the model was fitted to, on a device without coefficients.
        model: Its cycle model.
        energy: What the rows say of its energy; None where they say too little.
        about: What the rows do not say.
        findings: What the calibration found.
    """
    template, counts = table.device, table.counts
    data = bare_data(about)
    data["prune_dead_ops"] = template.prune_dead_ops
    data["merge_repeated_ops"] = template.merge_repeated_ops
    data["latency"] |= _latency(model, counts, template)
    if energy is not None:
        data["energy"] = _energy(energy)
    for key, metric in (("ram_kib", "peak_ram_kib"), ("flash_kib", "flash_kib")):
        if offset := _offset(table, key, plugins.load("estimators.cost", metric, "estimate")):
            data[f"engine_{key}"] = offset
    data["calibration"] = calibration_table(
        f"{about.source}; errors from cross-validation grouped by identical graphs",
        networks=findings.networks,
        error_mean=findings.error_mean,
        error_max=findings.error_max,
        close=findings.close,
        close_low=findings.close_low,
        repeated=findings.ceiling if findings.repeated >= ENOUGH_REPEATED else None,
        fastest_ms=findings.fastest_ms,
        slowest_ms=findings.slowest_ms,
    )
    return toml_of(about.name, data, about.written_by)


def toml_of(name: str, data: Data, written_by: str) -> str:
    """Return a device's TOML, with its tables last.

    Raises:
        ValueError: If it could not be read back.
    """
    parse_device(name, data)
    document = tomlkit.document()
    document.add(tomlkit.comment(f"Written by {written_by}."))
    for key, value in sorted(data.items(), key=lambda item: isinstance(item[1], dict)):
        document[key] = value
    return tomlkit.dumps(document)


def rounded(number: float) -> float:
    """Round to four digits: people read device files too.

    >>> rounded(0.123456)
    0.1235
    """
    return float(f"{number:.4g}")


def calibration_table(
    source: str,
    *,
    networks: int,
    error_mean: float,
    error_max: float,
    close: float,
    close_low: float,
    repeated: float | None,
    fastest_ms: float,
    slowest_ms: float,
) -> Data:
    """Return a device's table `calibration`: what it was fitted to, and how well it predicts networks left out.

    Args:
        source: Where the measurements come from.
        networks: Different networks measured.
        error_mean: Mean relative error of predictions without the network itself.
        error_max: Largest of these errors.
        close: Share of these predictions within 10 %.
        close_low: At least this share of other networks is, with 90 % confidence.
        repeated: Share of repeated measurements that agree within 10 %; None where too few were repeated.
        fastest_ms: Time of the fastest network.
        slowest_ms: Time of the slowest.
    """
    return {
        "source": source,
        "networks": networks,
        "error_mean": rounded(error_mean),
        "error_max": rounded(error_max),
        "within_10_percent": rounded(close),
        "within_10_percent_low": rounded(close_low),
        **({} if repeated is None else {"repeated_within_10_percent": rounded(repeated)}),
        "fastest_ms": rounded(fastest_ms),
        "slowest_ms": rounded(slowest_ms),
    }


def latency_tables(
    coefficients: Floats, interval: float, clock_mhz: float, kept: Callable[[str, str, float], bool]
) -> Data:
    """Return the numbers and tables of a device's `latency` that come from a fit.

    Args:
        coefficients: `(columns,)`, in the order of `ALL_COLUMNS`.
        interval: Relative half-width of the 90 % interval.
        clock_mhz: The device's clock.
        kept: Tells of a table, a kind of operator and its coefficient whether the file has it. A kind that a table
            lacks is refused where it is needed, and free elsewhere.
    """
    tables: dict[str, dict[str, float]] = {"cycles_per_mac": {}, "cycles_per_element": {}, "cycles_per_kernel": {}}
    for (table, kind), value in zip(COLUMNS, coefficients.tolist(), strict=False):
        if kept(table, kind, value):
            tables[table][kind] = rounded(value)
    overhead_ms = float(coefficients[ALL_COLUMNS.index(("overhead", ""))]) / (clock_mhz * 1e3)
    return {"overhead_ms": rounded(overhead_ms), "interval": rounded(interval), **tables}


def path_of(name: str, *, force: bool = False) -> Path:
    """Return where a user's device file lies.

    Raises:
        ValueError: If the name is no file name, or the file exists and may not be replaced.
    """
    path = FOLDER / f"{name}.toml"
    if not re.fullmatch(r"[\w][\w.-]*", name) or name.endswith(".toml") or name == "all":
        raise ValueError(
            "expected letters, digits, '_', '-' or '.' as the name of a device, not 'all' and without '.toml'; "
            f"got {name!r}"
        )
    if path.exists() and not force:
        raise ValueError(f"{path} exists: choose another name, or --force to replace it")
    return path


def write(text: str, path: Path) -> None:
    """Write a device file whole or not at all."""
    files.write_text(path, text)


def _identity(about: About) -> Data:
    return {
        "description": about.description or f"{about.core}, {about.engine} {about.precision}",
        "core": about.core,
        "clock_mhz": float(about.clock_mhz or UNKNOWN_CLOCK_MHZ),
        "engine": about.engine,
        "precision": about.precision,
    }


def _like(name: str | None, bits: int) -> Data:
    """Return what a new device takes from a known one; without one, whole bytes and no limits."""
    if name is not None:
        known = load_device(name)
        relative = {"/".join(map(str, pair)): factor for pair, factor in known.latency.relative_cycles.items()}
        data: Data = {
            "weight_bits": list(known.weight_bits),
            "activation_bits": list(known.activation_bits),
            "engine_ram_kib": known.engine_ram_kib,
            "engine_flash_kib": known.engine_flash_kib,
            "memory": _plain(known.memory),
            "prune_dead_ops": known.prune_dead_ops,
            "merge_repeated_ops": known.merge_repeated_ops,
            "float_becomes_bits": known.float_becomes_bits,
            "ram_kib": known.ram_kib,
            "flash_kib": known.flash_kib,
        }
    else:
        relative = {str(bits): 1.0}
        data = {"weight_bits": [bits], "activation_bits": [bits], "engine_ram_kib": 0.0, "engine_flash_kib": 0.0}
        data |= {"float_becomes_bits": bits} if bits < 32 else {}
    empty: Data = {"cycles_per_mac": {}, "cycles_per_element": {}, "cycles_per_kernel": {}}
    latency = {**empty, "relative_cycles": relative, "overhead_ms": 0.0, "interval": 0.0}
    return {key: value for key, value in data.items() if value is not None} | {"latency": latency}


def _latency(model: CycleModel, counts: Floats, template: Device) -> Data:
    """Return the tables of a cycle model. A kind of operator that no row has is left out, and so refused."""
    seen = {kind for (_, kind), count in zip(COLUMNS, counts.sum(axis=0), strict=False) if count > 0}
    needed = {("cycles_per_mac", kind) for kind in MAC_KINDS} | {("cycles_per_element", kind) for kind in ELEMENT_KINDS}
    latency = latency_tables(
        model.coefficients,
        model.interval,
        template.clock_mhz,
        kept=lambda table, kind, value: kind in seen and ((table, kind) in needed or value > 0),
    )
    if template.prune_dead_ops:  # the zero operators that remain are constants, whether a row has one or not
        for kind in CONSTANT:
            latency["cycles_per_element"][kind] = 0.0
            latency["cycles_per_kernel"].pop(kind, None)
    if model.trees:
        columns = [f"{table}.{kind}" for table, kind in COLUMNS]
        latency["residual"] = {"columns": columns, "trees": [as_lists(tree) for tree in model.trees]}
    return latency


def _energy(energy: EnergyModel) -> Data:
    data: Data = {
        "active_power_mw": rounded(energy.power_mw),
        "interval": rounded(energy.power_interval),
        "energy_interval": rounded(interval_of(energy.ratios)),
    }
    if energy.nanojoules is None:
        return data
    tables = _latency(energy.nanojoules, energy.table.counts, energy.table.device)
    consumption: Data = {
        name.replace("cycles", "nj"): {kind: value for kind, value in tables[name].items() if value}
        for name in ("cycles_per_mac", "cycles_per_element", "cycles_per_kernel")
    }
    overhead_nj = float(energy.nanojoules.coefficients[ALL_COLUMNS.index(("overhead", ""))])
    consumption["overhead_mj"] = rounded(overhead_nj / NANOJOULES_PER_MILLIJOULE)
    if "residual" in tables:
        consumption["residual"] = tables["residual"]
    return {**data, "consumption": consumption}


def _offset(table: Prepared, key: str, metric: Callable[[Architecture, Device], Any]) -> float | None:
    """Return what the engine needs beside what the metric counts: the median difference."""
    if table.having(key) < MIN_NETWORKS:
        return None
    bare = replace(table.device, engine_ram_kib=0.0, engine_flash_kib=0.0)
    measured = [(row.architecture, getattr(row, key)) for row in table.rows if getattr(row, key) is not None]
    return rounded(max(0.0, float(np.median([kib - metric(network, bare).value for network, kib in measured]))))


def _plain(memory: Any) -> Data:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(memory).items()}
