"""Measure this machine and fit its device file: PyTorch, float32, one thread, batch 1.

    python benchmarks/host_device.py [--networks 200] [--rounds 20] [--write]

Times small random networks that use every operator, fits the cycle model by non-negative least squares on the relative
error, prints the error on networks left out, and with `--write` renews `estimators/devices/host.toml`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomlkit
import torch
from report import ROOT
from report import write_results
from torch import Tensor
from torch import nn

from estimators.calibration import Fit
from estimators.calibration import fit_cycles
from estimators.counts import COLUMNS
from estimators.counts import Floats
from estimators.counts import counts_of
from nas import environment
from search_spaces.graph import Architecture
from search_spaces.graph import GraphBuilder
from search_spaces.network import build

DEVICE_FILE = ROOT / "estimators" / "devices" / "host.toml"
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 16, 16), (3, 32, 32))
FOLDS = 10
# Rough cycles of a vector processor, to share out what the measurements cannot tell apart; only their ratios matter.
TABLES = {"cycles_per_mac": 0.05, "cycles_per_element": 2.0, "cycles_per_kernel": 5e4}
OVERHEAD_CYCLES = 2e4


@dataclass(frozen=True, eq=False)
class Measured:
    """Networks and their times.

    Attributes:
        networks: What was timed.
        latency_ms: `(networks,)`, median within a round, fastest round: what the machine does when left alone.
        drift: Slowest over fastest round of the first network, minus 1.
    """

    networks: list[Architecture]
    latency_ms: Floats
    drift: float


def random_network(generator: np.random.Generator) -> Architecture:
    """Draw a small network; over many draws every kind of kernel occurs."""
    return random_mlp(generator) if generator.random() < 0.25 else random_cnn(generator)


def random_mlp(generator: np.random.Generator) -> Architecture:
    """Draw two to five fully connected layers."""
    graph = GraphBuilder((int(generator.integers(16, 700)),))
    x = graph.norm(0) if generator.random() < 0.2 else 0
    for _ in range(generator.integers(1, 5)):
        x = graph.linear(x, int(generator.integers(16, 512)), bias=True)
        x = graph.activation(graph.norm(x) if generator.random() < 0.5 else x)
    graph.linear(x, int(generator.integers(2, 100)), bias=True)
    return graph.architecture("host", {})


def random_cnn(generator: np.random.Generator) -> Architecture:
    """Draw a stem, one to six blocks and a head."""
    graph = GraphBuilder(SHAPES[generator.integers(len(SHAPES))])
    x = _conv(graph, 0, int(generator.choice([8, 16, 32])), 3)
    blocks = (_plain, _separable, _residual, _alone, _dense, _pooled)
    for _ in range(generator.integers(1, 7)):
        channels = int(generator.choice([8, 16, 24, 32, 48, 64]))
        x = blocks[generator.integers(len(blocks))](graph, x, channels, int(generator.choice([3, 5])))
    height, width = graph.ops[x].shape[1:]
    x = graph.pool(x, "avg", kernel=(height, width), stride=(height, width))
    graph.linear(graph.flatten(x), int(generator.integers(2, 100)), bias=True)
    return graph.architecture("host", {})


def _conv(graph: GraphBuilder, x: int, channels: int, side: int, stride: int = 1) -> int:
    x = graph.conv(x, channels, kernel=(side, side), stride=(stride, stride), padding=(side // 2, side // 2))
    return graph.activation(graph.norm(x))


def _plain(graph: GraphBuilder, x: int, channels: int, side: int) -> int:
    return _conv(graph, x, channels, side, 2 if graph.ops[x].shape[1] > 8 else 1)


def _separable(graph: GraphBuilder, x: int, channels: int, side: int) -> int:
    x = graph.depthwise(x, kernel=(side, side), padding=(side // 2, side // 2))
    return _conv(graph, graph.activation(graph.norm(x)), channels, 1)


def _residual(graph: GraphBuilder, x: int, channels: int, side: int) -> int:
    shortcut = _conv(graph, x, channels, 1)
    return graph.activation(graph.add(_conv(graph, x, channels, side), shortcut))


def _alone(graph: GraphBuilder, x: int, channels: int, side: int) -> int:
    # A second reader keeps the norm or the activation from folding into the layer before them.
    alone = graph.activation(x) if channels % 16 else graph.norm(x)
    return _conv(graph, graph.add(alone, x), channels, side)


def _dense(graph: GraphBuilder, x: int, channels: int, side: int) -> int:
    return graph.concat(x, _conv(graph, x, channels, side))


def _pooled(graph: GraphBuilder, x: int, channels: int, side: int) -> int:
    if graph.ops[x].shape[1] >= 4:
        x = graph.pool(x, "max" if side == 3 else "avg", kernel=(2, 2), stride=(2, 2))
    return _conv(graph, x, channels, 1)


def measure(networks: list[Architecture], rounds: int) -> Measured:
    """Time each network once a round, so that a slow minute touches all of them alike."""
    torch.set_num_threads(1)
    built = [build(network).eval() for network in networks]
    records = [torch.randn(1, *network.input_shape) for network in networks]
    times = np.empty((rounds, len(networks)))
    with torch.inference_mode():
        for index in range(rounds):
            times[index] = [_median_ms(network, record) for network, record in zip(built, records, strict=True)]
    return Measured(networks, times.min(axis=0), float(times[:, 0].max() / times[:, 0].min() - 1))


def _median_ms(network: nn.Module, record: Tensor, repetitions: int = 15, warm_up: int = 3) -> float:
    samples = []
    for index in range(repetitions + warm_up):
        start = time.perf_counter()
        network(record)
        if index >= warm_up:
            samples.append((time.perf_counter() - start) * 1e3)
    return float(np.median(samples))


def fit(measured: Measured, clock_mhz: float) -> Fit:
    """Fit the cycle model; a last column of ones is the fixed cost of one inference."""
    counts = np.array([[*counts_of(network), 1.0] for network in measured.networks])
    prior = np.array([*(TABLES[table] for table, _ in COLUMNS), OVERHEAD_CYCLES])
    return fit_cycles(counts, measured.latency_ms * clock_mhz * 1e3, prior, folds=FOLDS)


def clock_mhz() -> float:
    """Return the clock the system reports: only the unit that coefficients are written in."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(round(float(line.split(":")[1])) for line in lines if line.startswith("cpu MHz"))


def device_text(found: Fit, clock: float, networks: int) -> str:
    """Write the device file."""
    document = tomlkit.document()
    processor = str(environment.describe()["processor"])
    document.add(tomlkit.comment("Written by benchmarks/host_device.py --write."))
    document["description"] = f"x86 server ({processor}), PyTorch float32, one thread"
    document.update({"core": processor, "clock_mhz": float(clock)})
    document["engine"] = f"PyTorch {torch.__version__.split('+')[0]} eager, one thread"
    document["precision"] = "float32"
    document.add(tomlkit.comment("A float network stores 32 bits whatever it was trained to be rounded to."))
    document.update({"weight_bits": [32], "activation_bits": [32]})
    document.add(tomlkit.comment("The process itself (Python, PyTorch) is not counted."))
    document.update({"engine_ram_kib": 0.0, "engine_flash_kib": 0.0})
    coefficients = found.coefficients
    latency = {"overhead_ms": _round(coefficients[-1] / (clock * 1e3)), "interval": _round(found.interval)}
    tables: dict[str, dict[str, float]] = {table: {} for table in TABLES}
    for (table, kind), value in zip(COLUMNS, coefficients[:-1], strict=True):
        tables[table][kind] = _round(value)
    document["latency"] = {**latency, **tables, "relative_cycles": {"32": 1.0}}
    errors = {"error_mean": _round(np.abs(found.errors).mean()), "error_max": _round(np.abs(found.errors).max())}
    source = f"random networks timed on the machine by benchmarks/host_device.py, {FOLDS}-fold cross-validation"
    document["calibration"] = {"source": source, "networks": networks, **errors}
    return tomlkit.dumps(document)


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    """Measure, fit, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200, help="how many random networks to time")
    parser.add_argument("--rounds", type=int, default=20, help="how often each is timed; the fastest round counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"renew {DEVICE_FILE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    measured = measure([random_network(generator) for _ in range(arguments.networks)], arguments.rounds)
    found = fit(measured, clock_mhz())
    if arguments.write:
        DEVICE_FILE.write_text(device_text(found, clock_mhz(), arguments.networks), encoding="utf-8")
    write_results("host_device", _rows(found), **_facts(found, measured))


def _rows(found: Fit) -> list[dict[str, object]]:
    by_kind: dict[str, dict[str, object]] = {}
    for (table, kind), value in zip(COLUMNS, found.coefficients[:-1], strict=True):
        by_kind.setdefault(kind, {"kernel": kind})[table] = _round(value)
    return list(by_kind.values())


def _facts(found: Fit, measured: Measured) -> dict[str, object]:
    errors = np.abs(found.errors)
    macs = np.array([sum(kernel.macs for kernel in network.kernels) for network in measured.networks], dtype=float)
    by_macs = fit_cycles(np.column_stack([macs, np.ones_like(macs)]), measured.latency_ms, folds=FOLDS)
    return {
        "networks": len(errors),
        "latency_ms_range": [float(measured.latency_ms.min()), float(measured.latency_ms.max())],
        "error_mean": float(errors.mean()),
        "error_max": float(errors.max()),
        "within_10_percent": float((errors <= 0.1).mean()),
        "interval_90_percent": found.interval,
        "error_mean_macs_alone": float(np.abs(by_macs.errors).mean()),
        "drift": measured.drift,
    }


if __name__ == "__main__":
    main()
