"""Measure this machine with ONNX Runtime and describe it as two devices: float32, and int8.

Networks are drawn, written as ONNX with random weights and timed (`nas.deploy.timing.fastest_ms`). A kernel model is
fitted to their latencies. Each measurement is appended to a CSV, so that an interrupted calibration can go on.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.devices.files import parse_device
from estimators.devices.kernel_features import FEATURES
from estimators.devices.trees import as_lists
from estimators.fitting.kernel_model import KernelModel
from estimators.fitting.kernel_model import fit_kernel_model
from estimators.fitting.least_squares import close_at_least
from estimators.models.counts import Floats
from nas.base import environment
from nas.calibration.device_file import NOT_CALIBRATED
from nas.calibration.device_file import bare_data
from nas.calibration.device_file import calibration_table
from nas.calibration.device_file import latency_tables
from nas.calibration.device_file import toml_of
from nas.calibration.measurements import About
from nas.calibration.networks import random_operators
from nas.calibration.networks import spaces
from nas.deploy.file_size import OWN_BYTES
from nas.deploy.onnx_file import to_onnx
from nas.deploy.timing import fastest_ms
from nas.spaces import random_points
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import MAC_KINDS
from search_spaces.graph.structure import structure_of
from search_spaces.network import build

DEVICES: Mapping[str, str] = {"host": "float32", "host_int8": "int8"}
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
    """Measure this machine and fit both of its devices. It takes about eleven minutes on two idle cores.

    Args:
        measurements: CSV that measurements are kept in; what is in it already is not measured again.
        operators: Chains of operators to time.
        points: Random points of each space to time.
        report: Shows progress.

    Raises:
        ValueError: If other processes disturb every measurement; what was measured until then is kept.
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
    """Draw the networks that a calibration times: chains of operators, and points of each space at all its shapes."""
    offered = spaces()
    networks = random_operators(operators, seed)
    for space in offered:
        shapes = sum(other.name == space.name for other in offered)
        networks += random_points(space, -(-points // shapes), seed)
    # In random order, so that an interrupted measurement is a smaller sample of the same kind.
    return [networks[index] for index in np.random.default_rng(seed).permutation(len(networks))]


def timed(
    networks: Sequence[Architecture],
    precision: str,
    measurements: Path,
    *,
    report: Report = lambda what, done, of: None,  # noqa: ARG005
) -> Floats:
    """Return `(networks,)` latencies on this machine in ms. Each is measured once and then read from the CSV.

    Args:
        networks: In float (`Architecture.as_float`).
        precision: `float32` or `int8`.
        measurements: CSV with the columns key, precision, latency_ms.
        report: Shows progress.

    Raises:
        ValueError: If other processes disturb every measurement.
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
        except ValueError:  # another process disturbed it; that may pass
            continue
    return fastest_ms(models)


def hosted(name: str, networks: Sequence[Architecture], latency_ms: Floats) -> Hosted:
    """Fit one device to measured networks.

    Args:
        name: `host` or `host_int8`.
        networks: In float.
        latency_ms: `(networks,)`.
    """
    about = _about(name)
    # ONNX Runtime still runs what is multiplied by zero.
    data = bare_data(about) | {"prune_dead_ops": False, "merge_repeated_ops": True}
    if about.precision != "float32":  # flash is what a file holds
        data["memory"] = {"bytes_per_scale": OWN_BYTES}
    template = parse_device(name, data | {"calibration": NOT_CALIBRATED})
    running = [deployed(network, template) for network in networks]
    groups = np.unique([structure_of(network) for network in running], return_inverse=True)[1]
    model = fit_kernel_model(running, latency_ms * template.clock_mhz * 1e3, groups)
    errors = np.abs(1 / model.ratios - 1)
    data["latency"] |= _latency(model, template)
    data["calibration"] = calibration_table(
        about.source,
        networks=len(networks),
        error_mean=float(errors.mean()),
        error_max=float(errors.max()),
        close=model.close,
        close_low=close_at_least(model.ratios, groups),
        repeated=None,  # each network is measured once
        fastest_ms=float(latency_ms.min()),
        slowest_ms=float(latency_ms.max()),
    )
    text = toml_of(name, data, about.written_by)
    return Hosted(name, text, len(networks), model.close, float(errors.mean()), float(errors.max()), model.interval)


def _about(name: str) -> About:
    """Describe this machine as a device. The memory of the process itself is not counted."""
    precision, processor = DEVICES[name], str(environment.describe()["processor"])
    engine = f"ONNX Runtime {version('onnxruntime')}"
    return About(
        name=name,
        core=processor,
        clock_mhz=_clock_mhz(),
        engine=engine,
        precision=precision,
        source="random networks timed on this machine by nas calibrate; errors from cross-validation",
        description=f"{processor}, {engine} {precision}, one thread",
        written_by=WRITTEN_BY,
    )


def _latency(model: KernelModel, template: Device) -> dict[str, Any]:
    """Return the tables of a kernel model. Every kind is in it, because every kind was measured."""
    latency = latency_tables(
        model.coefficients,
        model.interval,
        template.clock_mhz,
        kept=lambda table, kind, _: table != "cycles_per_mac" or kind in MAC_KINDS,
    )
    trees = {kind: [as_lists(tree) for tree in grown] for kind, grown in sorted(model.trees.items())}
    return {**latency, "kernels": {"features": list(FEATURES), "trees": trees}}


def _clock_mhz() -> float:
    """Return the clock the system reports: only the unit that coefficients are written in."""
    frequency = psutil.cpu_freq()
    return float(round(frequency.max or frequency.current)) if frequency else 1000.0
