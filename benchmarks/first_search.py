"""A whole search on CIFAR-10, wall time by phase.

2,000 members, 2,000 non-members, 30 trained candidates of the conv space. What is asked: everything that is neither
training nor the reference bank under 5 % of the workers' time, the bank under 15 %. `--short` shows the direction in
a minute or two (200 members, 4 candidates, 3 epochs; fixed costs weigh more there).

    python benchmarks/first_search.py [--short]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from report import write_results
from rich.console import Console
from shared_data import cifar10

from nas.base import processes
from nas.runs.front_and_knee import front
from nas.runs.progress import Display
from nas.runs.progress import count
from nas.search import workers
from nas.search.config import SearchConfig
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study

GROUPS = {"training": "training", "teacher": "training", "bank": "bank"}


def main(*, short: bool) -> None:
    """Run the search in a fresh folder and report."""
    settings = {"dataset": "npz", "data_path": cifar10(10_000), "members": 2_000, "trials": 30, "name": "first"}
    if short:
        settings |= {"members": 200, "trials": 4, "recipe": {"epochs": 3}}
    config = parse_config(settings)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        facts = search(config, Path(folder))
        wall = time.perf_counter() - begin
        seconds = phases(Path(folder) / config.name / "timings.jsonl")
    total = sum(seconds.values())
    rows = [
        {"phase": phase, "seconds": value, "share_percent": 100 * value / total}
        for phase, value in seconds.most_common()
    ]
    groups = Counter[str]()
    for phase, value in seconds.items():
        groups[GROUPS.get(phase, "everything else")] += 100 * value / total
    write_results(
        "first_search_short" if short else "first_search",
        rows,
        wall_seconds=wall,
        workers=processes.cores(),
        training_percent=groups["training"],
        bank_percent=groups["bank"],
        everything_else_percent=groups["everything else"],
        **facts,
    )


def search(config: SearchConfig, runs: Path) -> dict[str, object]:
    """Run the search and return what came of it."""
    plan = resolve(config, runs)
    study = open_study(plan)
    with Display(plan, study, Console()) as display:
        workers.run(config, runs, display.look)
    counts = count(study.get_trials(deepcopy=False))
    best = [
        {name: trial.user_attrs[name] for name in ("error", "leakage", "leakage_low", "leakage_high", "latency_ms")}
        for trial in front(study)
    ]
    return {"trained": counts.trained, "screened": counts.screened, "front": best}


def phases(path: Path) -> Counter[str]:
    """Add up the workers' seconds by phase."""
    seconds = Counter[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        seconds.update(json.loads(line)["seconds"])
    return seconds


if __name__ == "__main__":
    main(short="--short" in sys.argv[1:])
