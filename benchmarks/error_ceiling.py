"""What the ceiling of the error changes in a search: the candidates it trains, its front, its default pick.

The same searches, with the same seeds, with and without the ceiling. `median_error` is over all trained candidates,
`best_error` the lowest on the front; `pick_error` and `pick_leakage` are those of what `nas pick` takes without flags.
*Pick alone* takes the pick of the search without the ceiling within the ceiling: what is gained after it is the search.
Numbers are medians over the seeds. `--short` shows the direction in a minute (one seed, 12 candidates).

With `--runs FOLDER` the searches are kept there, and one that was stopped goes on.

    python benchmarks/error_ceiling.py [--short] [--runs FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import TrialState
from report import write_results
from sklearn.datasets import load_breast_cancer

from nas.base import files
from nas.pricing.limits import Limit
from nas.runs.front_and_knee import choose
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import limits_to_pick_by
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.schema import baselines_of
from nas.search.storage import open_study
from nas.search.study import work
from nas.training.baselines import error_ceiling

SEEDS, TRIALS = 3, 24
WITHOUT, ALONE, WITH = "without", "pick alone", "with"


def main(*, short: bool, runs: Path | None = None) -> None:
    """Search both data sets and report."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds, trials = (1, 12) if short else (SEEDS, TRIALS)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        place = runs or Path(temporary)
        for data, settings in tasks(place).items():
            found: dict[str, list[dict[str, float]]] = {WITHOUT: [], ALONE: [], WITH: []}
            for seed in range(seeds):
                for way, numbers in both(data, {**settings, "seed": seed, "trials": trials}, place).items():
                    found[way].append(numbers)
            for way, many in found.items():
                medians = {name: float(np.median([one[name] for one in many])) for name in many[0]}
                rows.append({"data": data, "ceiling": way, **medians})
    write_results("error_ceiling_short" if short else "error_ceiling", rows, seeds=seeds, trials=trials)


def tasks(place: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of the searches by data set."""
    features, labels = load_breast_cancer(return_X_y=True)
    path = place / "breast_cancer.npz"
    files.write_arrays(path, features=features.astype(np.float32), labels=labels.astype(np.int64))
    return {
        "digits, 180 members": {"space": "conv", "dataset": "digits", "members": 180},
        "breast cancer": {"space": "mlp", "dataset": "npz", "data_path": path},
    }


def both(data: str, settings: Mapping[str, Any], place: Path) -> dict[str, dict[str, float]]:
    """Search with and without the ceiling, and describe what came of each."""
    studies = {}
    for way, error_ceiling_set in ((WITHOUT, False), (WITH, True)):
        name = f"{data}-{way}-{settings['seed']}".replace(" ", "-").replace(",", "")
        plan = resolve(parse_config({**settings, "name": name, "error_ceiling": error_ceiling_set}), place)
        study = open_study(plan)
        work(plan, study)
        studies[way] = study
    return {
        WITHOUT: numbers(studies[WITHOUT], limits_to_pick_by(studies[WITHOUT], {})),
        ALONE: numbers(studies[WITHOUT], limits_to_pick_by(studies[WITH], {})),
        WITH: numbers(studies[WITH], limits_to_pick_by(studies[WITH], {})),
    }


def numbers(study: optuna.Study, limits: Sequence[Limit]) -> dict[str, float]:
    """Describe the candidates of a study, its front within the limits, and its default pick."""
    trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best, chosen = front(study), choose(study, limits, None).trial
    ceiling = error_ceiling(baselines_of(study.user_attrs))
    assert ceiling is not None
    errors = [trial.user_attrs["error"] for trial in trained]
    return {
        "limit": ceiling.value,
        "median_error": float(np.median(errors)),
        "within_percent": 100 * float(np.mean([error <= ceiling.value for error in errors])),
        "on_front": float(len(best)),
        "best_error": min((trial.user_attrs["error"] for trial in best), default=1.0),
        "pick_error": chosen.user_attrs["error"],
        "pick_leakage": chosen.user_attrs["leakage"],
        "pick_ms": chosen.user_attrs["latency_ms"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--runs", type=Path)
    main(**vars(parser.parse_args()))
