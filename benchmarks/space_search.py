"""A search in the space `mobile`, with exits and sparsity or without, against one in `conv`: error and overhead.

CIFAR-10 at 32 x 32, 2,000 members, the same command but for the space and what is searched beside it. The search in
`conv` trains 30 candidates. The others train as many at most, and end when their workers have used the same time. Each
distilled candidate has a teacher of its own, whose training counts. Error is the lowest on validation records: at the
end, where the last training may end late, and among the candidates whose training had ended by then. Overhead is what
is neither training nor the reference bank: sampling, pricing, attack, writing.

    python benchmarks/space_search.py             # an hour and a half on two cores; a search that was stopped goes on
    python benchmarks/space_search.py --short     # 200 members, 4 candidates, 3 epochs
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from first_search import GROUPS
from optuna.trial import TrialState
from report import write_results
from rich.console import Console
from shared_data import cifar10

from nas.runs.progress import Display
from nas.search import workers
from nas.search.config import SearchConfig
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "space_search"
SEARCHES = {
    "conv": {"space": "conv"},
    "mobile": {"space": "mobile"},
    "mobile, compressed": {"space": "mobile", "compressions": ["exits", "sparsity"]},
}


class TimeIsUpError(Exception):
    """The workers have used as much time as those of the first search."""


def main(*, short: bool) -> None:
    """Run what is missing of the searches and report."""
    settings = {"dataset": "npz", "data_path": cifar10(10_000), "members": 2_000, "trials": 30, "teacher": "twin"}
    if short:
        settings |= {"members": 200, "trials": 4, "recipe": {"epochs": 3}}
    runs = CACHE / ("short" if short else "whole")
    rows, seconds = [], math.inf
    for number, (name, more) in enumerate(SEARCHES.items()):
        found = search(parse_config({**settings, **more, "name": f"search{number}"}), runs, seconds)
        seconds = min(seconds, found[-1][0])
        rows.append(row_of(name, found, seconds))
    write_results("space_search_short" if short else "space_search", rows)


def search(config: SearchConfig, runs: Path, most_seconds: float) -> list[tuple[float, float, float | None]]:
    """Run a search until it has its candidates or its workers have used so much time; return its `steps`."""
    plan, timings = resolve(config, runs), runs / config.name / "timings.jsonl"
    study = open_study(plan)
    trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    with Display(plan, study, Console()) as display, suppress(TimeIsUpError):

        def look() -> None:
            display.look()
            if used(timings) >= most_seconds:
                raise TimeIsUpError

        if len(trained) < config.trials and used(timings) < most_seconds:
            workers.run(config, runs, look)
    errors = {trial.number: trial.user_attrs.get("error") for trial in study.get_trials(deepcopy=False)}
    return list(steps(timings, errors))


def used(path: Path) -> float:
    """Return the seconds that workers have used for what has ended."""
    return sum(sum(line["seconds"].values()) for line in lines_of(path))


def lines_of(path: Path) -> list[dict[str, dict[str, float]]]:
    """Read the lines that are written whole; none before the first."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def steps(path: Path, errors: dict[int, float | None]) -> Iterator[tuple[float, float, float | None]]:
    """Give after each trial the workers' seconds until then, those of training and bank, and the trial's error."""
    total = trained = 0.0
    for trial in lines_of(path):
        total += sum(trial["seconds"].values())
        trained += sum(value for phase, value in trial["seconds"].items() if phase in GROUPS)
        yield total, trained, errors.get(trial.get("trial"))


def row_of(name: str, trials: list[tuple[float, float, float | None]], seconds: float) -> dict[str, object]:
    """One line for a search, whose error is compared at so many seconds of the workers."""
    total, trained, _ = trials[-1]
    errors = [error for until, _, error in trials if error is not None]
    in_time = [error for until, _, error in trials if error is not None and until <= seconds]
    return {
        "search": name,
        "trained": len(errors),
        "seconds": total,
        "overhead_percent": 100 * (1 - trained / total),
        "lowest_error": min(errors),
        "lowest_error_at_equal_time": min(in_time, default=None),
        "seconds_compared": seconds,
    }


if __name__ == "__main__":
    main(short="--short" in sys.argv[1:])
