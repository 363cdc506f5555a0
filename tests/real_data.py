"""Real data as their users have them, written from `../shared/data`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def write_adult(shared_data: Path, path: Path) -> None:
    """Write UCI Adult as a CSV with the words of its categories, the label in `income`."""
    data = np.load(_there(shared_data / "adult" / "adult.npz"))
    words = {text.split(":")[0]: text.split(":")[1].split("|") for text in data["vocab"].tolist()}
    frame = pd.DataFrame(data["x"], columns=data["columns"].tolist()).assign(income=data["y"])
    for name, levels in words.items():
        frame[name] = np.array(levels)[frame[name]]
    frame.to_csv(path, index=False)


def write_har(shared_data: Path, path: Path, *, block: int = 50) -> None:
    """Write the windows of UCI HAR's test part as an npz; windows of one block, which overlap, are of one group."""
    data = np.load(_there(shared_data / "uci_har" / "uci_har.npz"))
    windows = data["x_test"].astype(np.float32)
    np.savez(path, x=windows, y=data["y_test"], block=np.arange(len(windows)) // block)


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"needs {path.parent.name}/{path.name} in ../shared/data")
    return path
