"""Inherited weights: what candidates err, leak and cost that start from an earlier one's weights.

Two tasks: Location-30 with 1,000 members in the space `mlp`, and the digits with 300 members in the space `conv`.
Random candidates with a fixed number of epochs, no defence. They are trained as `nas search --inherit parents` trains
them. Each one that has a parent is then trained twice more from fresh weights: by the same recipe, and for as many
epochs as its inherited weights have seen the members in all. All three are attacked alike, against one reference bank.

Given are means over all candidates with a parent, of all seeds, and by how much inherited weights lie above fresh ones
of each kind: the mean of the differences with 1.96 standard errors over candidates. Candidates of one search share
forebears, so these intervals are too narrow rather than too wide. CPU-seconds are those of the training, of finding
and fitting the parent's weights, and of the search's attack.

    python benchmarks/inherit.py            # two hours on one core; needs Location-30
    python benchmarks/inherit.py --short    # the digits, few of all, half a minute
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from report import write_results
from shared_data import SHARED

from nas.base import plugins
from nas.base import processes
from nas.base.weights import read_weights
from nas.search.bench import Evaluated
from nas.search.bench import evaluate
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.schema import inherited_in
from nas.search.storage import open_study
from nas.search.storage import weights_path
from nas.search.study import Proposal
from nas.search.study import begin_at
from nas.search.study import open_bench
from nas.search.study import work
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.assess import measure
from nas.training.defence import deployed_network

ATTACKS = ("lira_fitted", "rmia", "loss", "gap")
ARMS = ("inherited", "fresh", "fresh, as many epochs")
EVERYWHERE: dict[str, Any] = {"sampler": "random", "defences": ["none"], "inherit": "parents", "error_ceiling": False}
TASKS: dict[str, dict[str, Any]] = {
    "location30": {
        "space": "mlp",
        "dataset": "location30",
        "data_path": SHARED / "location30",
        "members": 1000,
        "references": 16,
        "trials": 40,
        "recipe": {"epochs": 20},
    },
    "digits": {"space": "conv", "members": 300, "references": 16, "trials": 40, "recipe": {"epochs": 20}},
}
SHORT: dict[str, dict[str, Any]] = {
    "digits": {
        "space": "mlp",
        "members": 120,
        "references": 4,
        "trials": 6,
        "recipe": {"epochs": 4},
        "set": {"depth": {"low": 1, "high": 2}, "width": [16, 32], "norm": False, "activation": "relu"},
    }
}
SEEDS = 3


def main() -> None:
    """Search with inherited weights, train all that have parents from fresh ones too, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    if not arguments.short and not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    tasks, seeds = (SHORT, 1) if arguments.short else (TASKS, arguments.seeds)
    rows = []
    with processes.one_thread(), tempfile.TemporaryDirectory() as folder:
        for name, settings in tasks.items():
            found: list[dict[str, dict[str, float]]] = []
            for seed in range(seeds):
                found += compared(settings, seed, Path(folder), lambda line, task=name: print(task, line, flush=True))
            rows += summary(name, found)
    write_results("inherit_short" if arguments.short else "inherit", rows)


def compared(
    settings: Mapping[str, Any], seed: int, runs: Path, say: Callable[[str], None]
) -> list[dict[str, dict[str, float]]]:
    """Search once, and return for each candidate with a parent what each of `ARMS` gave, by the name of a number."""
    named = {"name": f"{settings['space']}-{seed}", "seed": seed}
    plan = resolve(parse_config({**EVERYWHERE, **settings, **named}), runs)
    study, seconds, found = open_study(plan), {}, []
    bench = open_bench(plan, study)

    def evaluated(proposal: Proposal) -> Evaluated:
        since = time.process_time()
        result = evaluate(plan, bench, proposal.candidate, begin=begin_at(plan, study, proposal))
        seconds[proposal.trial.number] = time.process_time() - since
        return result

    work(plan, study, evaluated)
    for trial in study.get_trials():
        row = inherited_in(trial.user_attrs)
        if row is None or row.parent is None or trial.values is None:
            continue
        candidate = plan.candidate(trial.params)
        network = deployed_network(candidate.architecture, candidate.defence, candidate.defence_parameters)
        network.load_state_dict(read_weights(weights_path(plan.folder, candidate.key)))
        ours = {"epochs seen": row.epochs_seen, "cpu_seconds": seconds[trial.number]}
        longer = replace(candidate, recipe=replace(candidate.recipe, epochs=row.epochs_seen))
        arms = [ours | attacked(network.eval(), bench), fresh(candidate, bench), fresh(longer, bench)]
        found.append(dict(zip(ARMS, arms, strict=True)))
        say(f"seed {seed}, candidate {trial.number} from {row.parent}: {row.share:.0%}, {row.epochs_seen} epochs seen")
    return found


def fresh(candidate: Candidate, bench: Bench) -> dict[str, float]:
    """Train a candidate from fresh weights, and measure it."""
    since = time.process_time()
    network = assess(candidate, bench).network
    seconds = time.process_time() - since
    return {"epochs seen": candidate.recipe.epochs, "cpu_seconds": seconds, **attacked(network, bench)}


def attacked(network: Any, bench: Bench) -> dict[str, float]:
    """Return the error of a network, and the AUC of each attack."""
    measured = {}
    for name in ATTACKS:
        attack = plugins.load("estimators.leakage.attacks", name, "attack")
        found = measure(network, replace(bench, attack=attack, widen=None, spreads={}))
        measured |= {"error": found["error"].value, f"AUC {name}": found["leakage"].value}
    return measured


def summary(task: str, found: list[dict[str, dict[str, float]]]) -> list[dict[str, object]]:
    """Return a row for each number: its mean in each arm, and the mean differences with 1.96 standard errors."""
    rows: list[dict[str, object]] = []
    for number in found[0][ARMS[0]] if found else ():
        values = {arm: np.array([one[arm][number] for one in found]) for arm in ARMS}
        row: dict[str, object] = {"task": task, "candidates": len(found), "number": number}
        row |= {arm: float(of_arm.mean()) for arm, of_arm in values.items()}
        for arm in ARMS[1:]:
            apart = values[ARMS[0]] - values[arm]
            row[f"above {arm}"] = float(apart.mean())
            row[f"+- of {arm}"] = (
                1.96 * float(apart.std(ddof=1)) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
            )
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
