"""Every defence at three strengths: what it costs in error, and what an attacker who knows it still finds.

Location-30 with a perceptron and CIFAR-10 (16 x 16) with a small convolutional network, 1,000 members each. Each
version is trained on random halves of 2,000 records and attacked by its other trainings, which have the same defence,
teachers and folds of their own: LiRA and RMIA, both online, and the gap. Beside the defences stand trainings of fewer
epochs: a defence that leaks no less at their error is not worth its cost. Intervals are Student's over the trainings,
95 %.

The full version has mislabelled canaries: an eighth of the records has a wrong label, the same in all versions. What
LiRA finds of them, who are the easiest to find where anything is learned by heart, has columns of its own (Aerni et
al., 2024); all other columns are of the rightly labelled records.

    python benchmarks/defences.py            # hours the first time; networks are kept
    python benchmarks/defences.py --short    # Location-30, six trainings, every defence at its strongest
    python benchmarks/defences.py --only none,dp_sgd,gecko
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from report import write_results
from shared_data import SHARED
from versions import Figures
from versions import Task
from versions import attacked
from versions import cifar10
from versions import convolutional_network
from versions import less
from versions import location30
from versions import means
from versions import of_canaries
from versions import perceptron
from versions import train
from versions import with_canaries

from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import rmia_online
from nas.base import plugins
from nas.records import Splits
from nas.search.config import Range
from nas.search.config import Setting
from nas.search.config import extremes_of
from nas.search.config import middle_of
from nas.search.defence_settings import settings_of
from nas.training.assess import Candidate
from nas.training.defence import load_defence
from nas.training.recipe import Recipe
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import ParamValue

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "defences"
SEED, TRAININGS = 21, 8
CANARIES = 250
"""With eight trainings 1,000 canaries were not trained on: one of them may be a false positive at an FPR of 0.1 %."""
BASELINE = "none"
SHORTER = (8, 4, 2)
"""Trainings of a part of the epochs: an eighth, a quarter, a half."""
STRENGTHS = ("weak", "medium", "strong")
ATTACKS = {"auc": lira_online.attack, "rmia_auc": rmia_online.attack}


def main() -> None:
    """Train, attack and print a row for each defence and strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", help="Defences, comma-separated; all, if left out.")
    arguments = parser.parse_args()
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    names = arguments.only.split(",") if arguments.only else acting()
    tasks = [location30(partial(perceptrons, names, short=arguments.short))]
    if not arguments.short:
        tasks.append(cifar10(partial(convolutional, names, short=False)))
    trainings, canaries = (6, 0) if arguments.short else (TRAININGS, CANARIES)
    rows = [row for task in tasks for row in measured(task, trainings, canaries)]
    write_results("defences_short" if arguments.short else "defences", rows, trainings=trainings)


def acting() -> list[str]:
    """List the defences but those that hold early answers back: these networks have no early exits.

    >>> "memguard" in acting(), "timeguard" in acting()
    (True, False)
    """
    names = plugins.available("nas.defences", "defend")
    return [name for name in names if load_defence(name).delay is None]


def perceptrons(names: Collection[str], data: Splits, *, short: bool) -> dict[str, Candidate]:
    """A perceptron that learns Location-30 by heart."""
    space, point = perceptron(data)
    return versions_of(space.decode(point).as_float(), names, epochs=20, short=short)


def convolutional(names: Collection[str], data: Splits, *, short: bool) -> dict[str, Candidate]:
    """A small convolutional network that learns CIFAR-10 by heart."""
    space, point = convolutional_network(data)
    return versions_of(space.decode(point).as_float(), names, epochs=30, short=short)


def versions_of(network: Architecture, names: Collection[str], *, epochs: int, short: bool) -> dict[str, Candidate]:
    """The network by one recipe, without a defence, trained more shortly, and with each defence at its strengths."""
    recipe = Recipe(epochs=epochs, weight_decay=1e-4)
    found = {BASELINE: Candidate(network, recipe)}
    for part in SHORTER[1:2] if short else SHORTER:
        shorter = max(1, epochs // part)
        found[f"{shorter} epochs of {epochs}"] = Candidate(network, replace(recipe, epochs=shorter))
    for name in names:
        for strength, parameters in strengths(name).items():
            if name != BASELINE and (strength == STRENGTHS[-1] or not short):
                found[f"{name}, {strength}"] = Candidate(network, recipe, name, parameters)
    return found


def strengths(name: str) -> dict[str, dict[str, ParamValue]]:
    """Return a defence's parameters at both ends and in the middle of what is sampled; strong alone if nothing is.

    >>> strengths("relaxloss")["weak"], strengths("gecko").keys() >= {"strong"}
    ({'alpha': 0.05}, True)
    """
    settings = settings_of([load_defence(name)])[name].settings
    chosen = {strength: {key: _at(value, strength) for key, value in settings.items()} for strength in STRENGTHS}
    is_searched = any(isinstance(setting, Range | list) for setting in settings.values())
    return chosen if is_searched else {STRENGTHS[-1]: chosen[STRENGTHS[-1]]}


def _at(setting: Setting, strength: str) -> ParamValue:
    ends = extremes_of(setting)
    return {"weak": ends[0], "medium": middle_of(setting), "strong": ends[-1]}[strength]


def measured(task: Task, trainings: int, canaries: int) -> list[dict[str, object]]:
    """Train and attack all versions, with so many canaries among their records."""
    task, is_canary = with_canaries(task, canaries, SEED)
    found, apart = {}, {}
    for name, spec in train(task, trainings, SEED, CACHE).items():
        found[name] = attacked(task, spec, trainings, ATTACKS, counted=~is_canary)
        apart[name] = of_canaries(task, spec, trainings, ATTACKS["auc"], is_canary) if canaries else {}
        print(f"  {task.name}: {name} attacked", flush=True)
    return [row_of(task, name, found) | apart[name] for name in task.versions]


def row_of(task: Task, name: str, found: Mapping[str, Figures]) -> dict[str, object]:
    """One line: means over the trainings, half-widths of their intervals, and differences to no defence."""
    row: dict[str, object] = {"data": task.name, "version": name}
    row |= means(found[name], ("error", "gap", *ATTACKS, "tpr_at_1pct_fpr"))
    row |= less(found[name], found[BASELINE], ("error", "auc"), BASELINE)
    told = task.versions[name].defence_parameters
    return row | {"parameters": ", ".join(f"{key} {value}" for key, value in told.items())}


if __name__ == "__main__":
    main()
