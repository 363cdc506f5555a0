"""The measured cells of NAS-Bench-201 as a table that a search looks up (`--evaluator table`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shared_data import SHARED

from nas.base import files

NB201 = SHARED / "nb201"
OBJECTIVES = ("error", "latency_ms")


def write_table(path: Path, accuracies: str = "cifar100_test", latencies: str = "raspi4") -> NDArray[np.float64]:
    """Write error and latency of all cells, and return them `(cells, 2)`.

    Args:
        path: Of the CSV file.
        accuracies: Column of the accuracies after 12 epochs.
        latencies: Column of the latencies.
    """
    accuracy = pd.read_csv(NB201 / "accuracy_12ep.csv.gz")
    latency = pd.read_csv(NB201 / "latency_ms.csv.gz")
    table = accuracy[["arch", "cell", accuracies]].merge(latency[["arch", latencies]], on="arch")
    table["error"] = (1 - table[accuracies] / 100).round(6)
    table = table.rename(columns={"cell": "network", latencies: "latency_ms"})
    # Whole or not at all: other processes read it.
    files.write_text(path, table[["network", *OBJECTIVES]].to_csv(index=False))
    return table[list(OBJECTIVES)].to_numpy()
