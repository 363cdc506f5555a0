"""What defences by distillation cost in error and trainings, and what they leave to an attacker who repeats all of it.

Location-30 with 1,000 members and one perceptron that learns it by heart, by one recipe; for Gecko also the small set
of CIFAR-10 and the network of `compression_leakage.py`, where one bit costs accuracy. A version is trained ten times,
on random halves of the same 2,000 records. Folds, ensembles and teachers are trained anew each time, on that half. Each
training is attacked by the eight on other halves, which are an attacker's shadow models and repeat the whole defence:
online RMIA, which `nas audit` goes by, and online LiRA. A version is compared with another one training by training, on
the same halves: the interval of a difference is Student's over the pairs and holds what trainings vary by.

Held against what was published: Gecko's second phase gives back at least half of the accuracy that one bit costs, and
some of the leakage. Cross-distillation halves what the attack finds beyond chance for at most three points of accuracy,
leaks less and errs more the larger alpha is, and costs a training for each fold beside its own.

    python benchmarks/distillation.py            # hours on two busy cores the first time; networks are kept
    python benchmarks/distillation.py --short    # six trainings of five versions, ten minutes
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from compression_leakage import BASELINE
from compression_leakage import convolutional
from compression_leakage import in_precision
from report import write_results
from shared_data import SHARED
from torch import Tensor
from versions import Figures
from versions import Task
from versions import attacked
from versions import cifar10
from versions import defended
from versions import interval
from versions import less
from versions import location30
from versions import means
from versions import perceptron
from versions import train
from versions import verdict
from versions import won_back

from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import rmia_online
from nas.records import Splits
from nas.training.assess import Candidate
from nas.training.assess import for_training
from nas.training.assess import set_up
from nas.training.defence import load_defence
from nas.training.loop import TrainSetup
from nas.training.recipe import Recipe
from search_spaces.graph.architecture import Architecture

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "distillation"
EPOCHS, SEED = 20, 13
ALPHAS = (0.5, 0.75, 0.9, 1.0)
FOLDS = 5
FLOAT, BINARY = "undefended", "1 bit (phase I)"
SHORT_VERSIONS = (FLOAT, BINARY, "1 bit, gecko", "cross-distillation, alpha 0.5", "cross-distillation, alpha 1")
ATTACKS = {"auc": rmia_online.attack, "lira_auc": lira_online.attack}
LARGER_TEACHER = "1 bit, gecko, larger teacher"


def main() -> None:
    """Train, attack, and hold the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    tasks = [location30(partial(perceptrons, short=short))]
    if not short:
        tasks.append(cifar10(students))
    rows: list[dict[str, object]] = []
    told: dict[str, object] = {}
    for task in tasks:
        found = measured(task, trainings=6 if short else 10)
        rows += [row_of(task, name, found) for name in task.versions]
        told |= {f"{task.name}: {claim}": became for claim, became in claims(task, found)}
    write_results("distillation_short" if short else "distillation", rows, **told)


def perceptrons(data: Splits, *, short: bool) -> dict[str, Candidate]:
    """A perceptron that learns Location-30 by heart, by one recipe."""
    space, point = perceptron(data)
    plain = Candidate(space.decode(point).as_float(), Recipe(epochs=EPOCHS, weight_decay=1e-4))
    binary = replace(plain, architecture=space.decode(in_precision(space, point, 1)))
    found = {
        FLOAT: plain,
        BINARY: binary,
        "1 bit, gecko": defended(binary, "gecko"),
        LARGER_TEACHER: defended(binary, "gecko"),
        "1 bit, gecko, KL at temperature 4": defended(binary, "gecko", loss="kl", temperature=4.0),
        "gecko": defended(plain, "gecko"),
    }
    for alpha in ALPHAS:
        found[f"cross-distillation, alpha {alpha:g}"] = defended(plain, "cross_distillation", folds=FOLDS, alpha=alpha)
    found["10 folds, alpha 1"] = defended(plain, "cross_distillation", folds=10, alpha=1.0)
    found["1 bit, cross-distillation, alpha 1"] = defended(binary, "cross_distillation", folds=FOLDS, alpha=1.0)
    for models, left_out in ((5, 2), (25, 10)):
        found[f"SELENA, {left_out} of {models}"] = defended(plain, "selena", models=models, left_out=left_out)
    for temperature, share in ((1.0, 1.0), (4.0, 1.0), (1.0, 0.5)):
        name = f"DMP, temperature {temperature:g}, {share:.0%} of the reserve".replace("%", " %")
        found[name] = defended(plain, "distillation", temperature=temperature, share=share)
    return {name: found[name] for name in SHORT_VERSIONS} if short else found


def larger(data: Splits) -> Architecture:
    """A larger perceptron for the same records, which teaches."""
    space, point = perceptron(data)
    return space.decode({**point, "layer1_width": 256, "layer2_width": 256}).as_float()


def students(data: Splits) -> dict[str, Candidate]:
    """The network of the benchmark of compressions, in float and of one bit, and Gecko's students."""
    versions = convolutional(data)
    binary = versions["1 bits"]
    return {
        FLOAT: versions[BASELINE],
        BINARY: binary,
        "1 bit, gecko": defended(binary, "gecko"),
        "1 bit, gecko, KL at temperature 4": defended(binary, "gecko", loss="kl", temperature=4.0),
    }


def measured(task: Task, trainings: int) -> dict[str, Figures]:
    """Train what is missing of all versions and attack each training by the others of its version."""
    plain = task.versions[FLOAT]
    teachers = (
        {LARGER_TEACHER: replace(plain, architecture=larger(task.data))} if LARGER_TEACHER in task.versions else {}
    )
    specs = train(task, trainings, SEED, CACHE, teachers)
    return {name: attacked(task, spec, trainings, ATTACKS) for name, spec in specs.items()}


def row_of(task: Task, name: str, found: Mapping[str, Figures]) -> dict[str, object]:
    """One line: means over the trainings, half-widths of their 95 % intervals, and the differences to no defence."""
    row: dict[str, object] = {"data": task.name, "version": name, "trainings": trainings_of(task, name)}
    row |= means(found[name], ("error", "gap", *ATTACKS, "tpr_at_1pct_fpr"))
    row |= less(found[name], found[FLOAT], ("error", "auc"), FLOAT)
    return row | {"of_auc_beyond_chance_taken": taken(found[name], found[FLOAT])}


def trainings_of(task: Task, name: str) -> int:
    """Count the trainings that a version costs, as a search does: its own and those of its teachers."""
    candidate, members, asked = task.versions[name], task.data.members, []
    defence = load_defence(candidate.defence)

    def teach(setup: TrainSetup, *, rows: Tensor | None = None, about: Tensor | None = None) -> Tensor:
        asked.append(rows)
        return torch.zeros(len(setup.features if about is None else about), members.num_classes)

    reserve, _ = for_training(candidate, defence, task.data.reserve)
    setup = set_up(candidate, members.features, members.labels, SEED, reserve)
    defence.set_up(setup, teach, candidate.defence_parameters)
    return 1 + len(asked)


def taken(found: Figures, undefended: Figures) -> float:
    """Return the share of what the attack finds beyond chance that a defence takes away."""
    return float(1 - (found["auc"].mean() - 0.5) / (undefended["auc"].mean() - 0.5))


def claims(task: Task, found: Mapping[str, Figures]) -> Iterator[tuple[str, str]]:
    """Hold what was published against what was measured; nothing here is tuned until it agrees."""
    for name in (name for name in found if name.startswith("1 bit, gecko")):
        yield (
            f"{name}: at least half of the accuracy that one bit costs is given back",
            won_back(found[name], found[BINARY], found[FLOAT]),
        )
        leak, half = interval(found[name]["auc"] - found[BINARY]["auc"])
        yield f"{name}: AUC given back", f"{leak:+.3f} +- {half:.3f}"
    for name in (name for name in found if name.startswith(("cross-", "10 folds", "SELENA", "DMP"))):
        lost, half = interval(found[name]["error"] - found[FLOAT]["error"])
        share = taken(found[name], found[FLOAT])
        word = "met" if share >= 0.5 and lost <= 0.03 else "not met"
        told = f"{word}: {share:.0%} taken, error {lost:+.3f} +- {half:.3f}".replace("%", " %")
        yield f"{name}: half of the AUC beyond chance for at most 3 points of accuracy", told
    sweep = [FLOAT, *(name for name in found if name.startswith("cross-"))]
    for weak, strong in itertools.pairwise(sweep):
        yield f"{strong} leaks no more than {weak}", verdict(*interval(found[weak]["auc"] - found[strong]["auc"]))
        yield f"{strong} errs no less than {weak}", verdict(*interval(found[strong]["error"] - found[weak]["error"]))
    for name in sweep[1:]:
        count = trainings_of(task, name)
        yield f"{name}: a training for each fold and its own", f"{'met' if count == FOLDS + 1 else 'not met'}: {count}"


if __name__ == "__main__":
    main()
