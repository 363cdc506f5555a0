"""A search in the space `mobile`, with exits and sparsity or without, against one in `conv`: error and overhead.

CIFAR-10 at 32 x 32, 2,000 members, 30 trained candidates each, the same command but for the space and what is searched
beside it. Error is the lowest on validation records among the candidates whose training had ended when both searches
had used the same time of the workers. Overhead is what is neither training nor the reference bank: sampling, pricing,
attack, writing.

    python benchmarks/space_search.py             # an hour on two cores
    python benchmarks/space_search.py --short     # 200 members, 4 candidates, 3 epochs
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from first_search import GROUPS
from first_search import search
from report import write_results
from shared_data import cifar10

from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study

SEARCHES = {
    "conv": {"space": "conv"},
    "mobile": {"space": "mobile"},
    "mobile, compressed": {"space": "mobile", "compressions": ["exits", "sparsity"]},
}


def main(*, short: bool) -> None:
    """Run the searches in fresh folders and report."""
    settings = {"dataset": "npz", "data_path": cifar10(10_000), "members": 2_000, "trials": 30}
    if short:
        settings |= {"members": 200, "trials": 4, "recipe": {"epochs": 3}}
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for number, (name, more) in enumerate(SEARCHES.items()):
            config = parse_config({**settings, **more, "name": f"search{number}"})
            search(config, Path(folder))
            study = open_study(resolve(config, Path(folder)))
            errors = {trial.number: trial.user_attrs.get("error") for trial in study.get_trials(deepcopy=False)}
            found[name] = list(steps(Path(folder) / config.name / "timings.jsonl", errors))
    least = min(each[-1][0] for each in found.values())
    rows = [row_of(name, each, least) for name, each in found.items()]
    write_results("space_search_short" if short else "space_search", rows)


def steps(path: Path, errors: dict[int, float | None]) -> Iterator[tuple[float, float, float | None]]:
    """Give after each trial the workers' seconds until then, those of training and bank, and the trial's error."""
    total = trained = 0.0
    for line in path.read_text(encoding="utf-8").splitlines():
        trial = json.loads(line)
        total += sum(trial["seconds"].values())
        trained += sum(value for phase, value in trial["seconds"].items() if phase in GROUPS)
        yield total, trained, errors.get(trial.get("trial"))


def row_of(name: str, trials: list[tuple[float, float, float | None]], least: float) -> dict[str, object]:
    """One line for a search."""
    total, trained, _ = trials[-1]
    errors = [error for until, _, error in trials if error is not None]
    in_time = [error for until, _, error in trials if error is not None and until <= least]
    return {
        "search": name,
        "trained": len(errors),
        "seconds": total,
        "overhead_percent": 100 * (1 - trained / total),
        "lowest_error": min(errors),
        "lowest_error_at_equal_time": min(in_time, default=None),
        "seconds_compared": least,
    }


if __name__ == "__main__":
    main(short="--short" in sys.argv[1:])
