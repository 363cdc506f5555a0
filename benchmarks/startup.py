"""How long commands take that touch no tensor, beside what importing PyTorch takes.

    python benchmarks/startup.py [--rounds 7]

Each figure is the median processor time of a process, user and system together; ratios are taken within this one run,
in which commands and imports take turns. Processor time is what an idle machine waits for, and a busy one hardly
changes it. A command that reads a study imports Optuna, and NumPy with it: the last row.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from report import write_results

ROOT = Path(__file__).resolve().parents[1]
EARLIER = ("--runs", str(ROOT / "tests" / "fixtures" / "earlier_runs"))
COMMANDS = {
    "nas --help": ("--help",),
    "nas list": ("list",),
    "nas list networks": ("list", "networks"),
    "nas list runs": ("list", "runs", *EARLIER),
    "nas show": ("show", "before", *EARLIER),
    "nas estimate": ("estimate",),
    "nas estimate --device all": ("estimate", "--device", "all"),
    "nas pick, refused": ("pick", "before", "--max", "error=0", *EARLIER),
}
MAIN = "from nas.cli import main; main()"
PYTORCH, OPTUNA = "import torch", "import optuna"


def processor_seconds(code: str, *arguments: str) -> float:
    """Run Python code in a process of its own; returns its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    runs = {name: (MAIN, *arguments) for name, arguments in COMMANDS.items()}
    runs |= {PYTORCH: (PYTORCH,), OPTUNA: (OPTUNA,)}
    for run in runs.values():  # the first run reads files from the disk and compiles them
        processor_seconds(*run)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(processor_seconds(*run))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    of_pytorch = medians.pop(PYTORCH)
    rows: list[dict[str, object]] = [
        {"command": name, "seconds": found, "of importing PyTorch": found / of_pytorch}
        for name, found in medians.items()
    ]
    ratios = [found / of_pytorch for name, found in medians.items() if name != OPTUNA]
    write_results(
        "startup", rows, import_torch_seconds=of_pytorch, largest_ratio=max(ratios), goal_ratio=0.4, rounds=rounds
    )


if __name__ == "__main__":
    main()
