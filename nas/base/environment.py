"""What a run ran on: written beside it, because timings and last digits depend on it."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path

import psutil

from nas.base import files

PACKAGES = ("gecko-nas", "torch", "optuna", "numpy", "scipy", "nni")


def describe() -> dict[str, object]:
    """Return machine, interpreter and versions of the packages that decide the numbers."""
    return {
        "machine": platform.platform(),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": sys.version.split()[0],
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def write(folder: Path) -> None:
    """Write `environment.json` into a run's folder, once: a continued run keeps the first."""
    path = folder / "environment.json"
    if not path.exists():
        files.write_json(path, describe())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's name; Linux keeps it in a file, elsewhere the platform knows."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
