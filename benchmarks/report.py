"""What every benchmark ends with: a table for people, a JSON file for machines, and where it ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nas.base import environment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def write_results(name: str, rows: list[dict[str, object]], **facts: object) -> Path:
    """Print rows as a table and write them, with the machine and the commit, to `benchmarks/results/<name>.json`.

    Args:
        name: Name of the benchmark.
        rows: One dictionary for each line; the keys of the first are the columns.
        facts: Further figures, written beside the rows and printed under the table.
    """
    table = Table(title=name, header_style="bold")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    # Wider than a terminal rather than cut: figures are what the table is for.
    console = Console(width=max(Console().width, 20 + 16 * len(columns)))
    console.print(table)
    for key, value in facts.items():
        console.print(f"{key}: {_cell(value)}", markup=False, highlight=False)
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": name,
        "command": _command(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "machine": environment.describe(),
    }
    path.write_text(json.dumps({**content, "rows": rows, **facts}, indent=1) + "\n", encoding="utf-8")
    console.print(f"written to {os.path.relpath(path, ROOT)}", markup=False, highlight=False)
    return path


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _command() -> str:
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def _commit() -> str:
    """Return the commit, marked where tracked files differ from it, other than the results of benchmarks before."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        compared = ["git", "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results"]
        changed = subprocess.run(compared, cwd=ROOT, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if changed else "")
