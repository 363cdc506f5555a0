"""Measure this machine with ONNX Runtime and describe it as two devices: float32, and int8.

Networks are drawn, written as ONNX with random weights, timed (`nas.deploy.timing.fastest_ms`), and a kernel model is
fitted to what they took. Measurements are kept in a CSV as they come in: a calibration that was interrupted goes on.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import torch

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.devices.files import parse_device
from estimators.devices.kernel_features import FEATURES
from estimators.devices.trees import as_lists
from estimators.fitting.kernel_model import KernelModel
from estimators.fitting.kernel_model import fit_kernel_model
from estimators.models.counts import COLUMNS
from estimators.models.counts import Floats
from nas.base import environment
from nas.calibration.device_file import short
from nas.calibration.device_file import toml_of
from nas.calibration.networks import random_operators
from nas.calibration.networks import spaces
from nas.deploy.onnx_file import to_onnx
from nas.deploy.timing import fastest_ms
from nas.spaces import random_points
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import MAC_KINDS
from search_spaces.graph.structure import structure_of
from search_spaces.network import build

DEVICES: Mapping[str, str] = {"host": "float32", "host_int8": "int8"}
BITS: Mapping[str, int] = {"float32": 32, "int8": 8}
OPERATORS, POINTS = 200, 500
"""Chains of operators, and random points of each space."""
SEED = 1
WRITTEN_BY = "nas calibrate --device host"
TOGETHER = 96
ATTEMPTS = 5

Report = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and of how much."""


@dataclass(frozen=True, eq=False)
class Hosted:
    """One device of this machine.

    Attributes:
        name: `host` or `host_int8`.
        text: Its device file, TOML.
        networks: Networks measured.
        close: Share of them predicted within 10 % by a fit without them.
        error_mean: Mean relative error of these predictions.
        error_max: Largest of them.
        interval: Relative half-width of the 90 % interval.
    """

    name: str
    text: str
    networks: int
    close: float
    error_mean: float
    error_max: float
    interval: float


def calibrate_host(
    measurements: Path,
    *,
    operators: int = OPERATORS,
    points: int = POINTS,
    report: Report = lambda what, done, of: None,  # noqa: ARG005
) -> list[Hosted]:
    """Measure this machine and fit both of its devices; about eleven minutes on two quiet cores.

    Args:
        measurements: CSV that measurements are kept in; what is in it already is not measured again.
        operators: Chains of operators to time.
        points: Random points of each space to time.
        report: Shows progress.

    Raises:
        ValueError: If the machine is not left alone long enough; what was measured until then is kept.
    """
    networks = calibration_networks(operators, points)
    found = []
    for name, precision in DEVICES.items():
        latency_ms = timed(networks, precision, measurements, report=report)
        report(f"fitting {name}", 0, 1)
        found.append(hosted(name, networks, latency_ms))
        report(f"fitting {name}", 1, 1)
    return found


def calibration_networks(operators: int, points: int, seed: int = SEED) -> list[Architecture]:
    """Draw what a calibration times: chains of operators and, of each space, points at all its shapes of records."""
    offered = spaces()
    networks = random_operators(operators, seed)
    for space in offered:
        shapes = sum(other.name == space.name for other in offered)
        networks += random_points(space, -(-points // shapes), seed)
    # Fast and slow ones mixed, so that a measurement broken off is a smaller one of the same kind.
    return [networks[index] for index in np.random.default_rng(seed).permutation(len(networks))]


def timed(
    networks: Sequence[Architecture],
    precision: str,
    measurements: Path,
    *,
    report: Report = lambda what, done, of: None,  # noqa: ARG005
) -> Floats:
    """Return `(networks,)`, what networks take here in ms; each measured once and then read from the CSV.

    Args:
        networks: In float (`Architecture.as_float`).
        precision: `float32` or `int8`.
        measurements: CSV with the columns key, precision, latency_ms.
        report: Shows progress.

    Raises:
        ValueError: If the machine is not left alone long enough.
    """
    known = read_measurements(measurements, precision)
    waiting = list({network.key: network for network in networks if network.key not in known}.values())
    for start in range(0, len(waiting), TOGETHER):
        report(f"timing in {precision}", len(networks) - len(waiting) + start, len(networks))
        part = waiting[start : start + TOGETHER]
        times = _patiently([_written(network, precision) for network in part])
        rows = [(network.key, precision, f"{time_ms:.6g}") for network, time_ms in zip(part, times, strict=True)]
        _append(measurements, rows)
        known |= {key: float(time_ms) for key, _, time_ms in rows}
    report(f"timing in {precision}", len(networks), len(networks))
    return np.array([known[network.key] for network in networks])


def read_measurements(path: Path, precision: str) -> dict[str, float]:
    """Return latencies in ms by the networks' keys; none where there is no file yet."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["key"]: float(row["latency_ms"]) for row in csv.DictReader(file) if row["precision"] == precision}


def _append(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(("key", "precision", "latency_ms"))
        writer.writerows(rows)


def _written(network: Architecture, precision: str) -> Any:
    records = torch.randn(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
    return to_onnx(network, build(network, seed=0).eval(), precision, records)


def _patiently(models: list[Any]) -> list[float]:
    for _ in range(ATTEMPTS - 1):
        try:
            return fastest_ms(models)
        except ValueError:  # disturbed: a busy minute passes
            continue
    return fastest_ms(models)


def hosted(name: str, networks: Sequence[Architecture], latency_ms: Floats) -> Hosted:
    """Fit one device to measured networks.

    Args:
        name: `host` or `host_int8`.
        networks: In float.
        latency_ms: `(networks,)`.
    """
    clock = _clock_mhz()
    template = parse_device(name, _data(name, clock))
    running = [deployed(network, template) for network in networks]
    groups = np.unique([structure_of(network) for network in running], return_inverse=True)[1]
    model = fit_kernel_model(running, latency_ms * clock * 1e3, groups)
    errors = np.abs(1 / model.ratios - 1)
    about = {
        "source": "random networks timed on this machine by nas calibrate; errors from cross-validation",
        "networks": len(networks),
        "error_mean": short(float(errors.mean())),
        "error_max": short(float(errors.max())),
        "within_10_percent": short(model.close),
        "fastest_ms": short(float(latency_ms.min())),
        "slowest_ms": short(float(latency_ms.max())),
    }
    text = toml_of(name, _data(name, clock) | {"latency": _latency(model, template), "calibration": about}, WRITTEN_BY)
    return Hosted(name, text, len(networks), model.close, float(errors.mean()), float(errors.max()), model.interval)


def _data(name: str, clock: float) -> dict[str, Any]:
    """Return the device without its coefficients."""
    precision, processor = DEVICES[name], str(environment.describe()["processor"])
    engine, bits = f"ONNX Runtime {onnxruntime.__version__}", BITS[DEVICES[name]]
    data: dict[str, Any] = {
        "description": f"{processor}, {engine} {precision}, one thread",
        "core": processor,
        "clock_mhz": clock,
        "engine": engine,
        "precision": precision,
        "weight_bits": [bits],
        "activation_bits": [bits],
        # The process itself is not counted.
        "engine_ram_kib": 0.0,
        "engine_flash_kib": 0.0,
        "prune_dead_ops": False,  # what is multiplied by zero still runs
        "merge_repeated_ops": True,
    }
    if bits < 32:
        data["float_becomes_bits"] = bits
    empty: dict[str, Any] = {"cycles_per_mac": {}, "cycles_per_element": {}, "cycles_per_kernel": {}}
    latency = {**empty, "relative_cycles": {str(bits): 1.0}, "overhead_ms": 0.0, "interval": 0.0}
    calibration = {"source": "none", "networks": 1, "error_mean": 0.0, "error_max": 0.0}
    return {**data, "latency": latency, "calibration": calibration}


def _latency(model: KernelModel, template: Device) -> dict[str, Any]:
    """Return the tables of a kernel model; every kind is in it, because every kind was measured."""
    tables: dict[str, dict[str, float]] = {"cycles_per_mac": {}, "cycles_per_element": {}, "cycles_per_kernel": {}}
    for (table, kind), value in zip(COLUMNS, model.coefficients, strict=False):
        if table != "cycles_per_mac" or kind in MAC_KINDS:
            tables[table][kind] = short(float(value))
    overhead_ms = float(model.coefficients[-1]) / (template.clock_mhz * 1e3)
    relative = {str(template.weight_bits[0]): 1.0}
    latency = {"overhead_ms": short(overhead_ms), "interval": short(model.interval), "relative_cycles": relative}
    trees = {kind: [as_lists(tree) for tree in grown] for kind, grown in sorted(model.trees.items())}
    return {**latency, **tables, "kernels": {"features": list(FEATURES), "trees": trees}}


def _clock_mhz() -> float:
    """Return the clock the system reports: only the unit that coefficients are written in."""
    frequency = psutil.cpu_freq()
    return float(round(frequency.max or frequency.current)) if frequency else 1000.0
