"""Write a table of simulated measurements, for the example of `nas calibrate` in docs/cost.md.

    python docs/simulated_measurements.py measurements.csv

Thirty random networks of the space `conv` for digits, all in 8 bits: what `stm32h747` is estimated to take for each,
and its energy at 125 mW, both with noise. Nothing in it was measured.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np

from estimators.devices.files import load_device
from estimators.models.latency import inference_ms
from nas.spaces import random_points
from nas.spaces import space_named

NETWORKS, SEED = 30, 0
SHAPE, CLASSES = (1, 8, 8), 10
POWER_MW = 125.0
TIME_NOISE, POWER_NOISE = 0.03, 0.03


def rows() -> list[dict[str, object]]:
    """Return the rows of the table."""
    space, device = space_named("conv", SHAPE, CLASSES), load_device("stm32h747")
    draws = np.random.default_rng(SEED)
    found: list[dict[str, object]] = []
    for network in random_points(space, NETWORKS, SEED):
        params = network.params | {name: 8 for name in network.params if name.endswith("_bits")}
        latency_ms = inference_ms(space.describe(params), device).value * np.exp(draws.normal(0, TIME_NOISE))
        energy_mj = latency_ms * POWER_MW * np.exp(draws.normal(0, POWER_NOISE)) / 1e3
        found.append(
            {
                "space": space.name,
                "architecture": json.dumps(params),
                "input_shape": "x".join(map(str, SHAPE)),
                "classes": CLASSES,
                "latency_ms": f"{latency_ms:.4g}",
                "energy_mj": f"{energy_mj:.4g}",
            }
        )
    return found


def write(path: Path) -> None:
    """Write the table."""
    table = rows()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
