"""What defences by distillation cost in error and trainings, and what they leave to an attacker who repeats all of it.

Location-30 with 1,000 members and one perceptron that learns it by heart, by one recipe; for Gecko also the small set
of CIFAR-10 and the network of `compression_leakage.py`, where one bit costs accuracy. A version is trained ten times,
on random halves of the same 2,000 records. Folds, ensembles and teachers are trained anew each time, on that half. Each
training is attacked by the other nine, which are an attacker's shadow models and repeat the whole defence: online RMIA,
which `nas audit` goes by, and online LiRA. A version is compared with another one training by training, on the same
halves: the interval of a difference is Student's over the pairs and holds what trainings vary by.

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
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from compression_leakage import BASELINE
from compression_leakage import cifar10
from compression_leakage import in_precision
from compression_leakage import interval
from compression_leakage import verdict
from numpy.typing import NDArray
from proxy import pool_of
from report import write_results
from shared_data import SHARED
from torch import Tensor

from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.records import Records
from nas.records import Source
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.training.assess import Candidate
from nas.training.assess import for_training
from nas.training.assess import outputs
from nas.training.assess import set_up
from nas.training.defence import load_defence
from nas.training.loop import TrainSetup
from nas.training.recipe import Recipe
from search_spaces import mlp

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "distillation"
MEMBERS, EPOCHS, SEED = 1000, 20, 13
ALPHAS = (0.5, 0.75, 0.9, 1.0)
FOLDS = 5
FLOAT, BINARY = "undefended", "1 bit (phase I)"
SHORT_VERSIONS = (FLOAT, BINARY, "1 bit, gecko", "cross-distillation, alpha 0.5", "cross-distillation, alpha 1")
ATTACKS = {"auc": rmia_online.attack, "lira_auc": lira_online.attack}
Figures = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Version:
    """A network with a defence.

    Attributes:
        candidate: What is trained.
        teacher: What its teachers are; None: the network uncompressed, by the same recipe.
    """

    candidate: Candidate
    teacher: Candidate | None = None


def main() -> None:
    """Train, attack, and hold the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    data = split(load_records(Source("location30", SHARED / "location30")), seed=0, members=MEMBERS)
    versions = versions_on(data)
    tasks = {"location30": (data, {name: versions[name] for name in SHORT_VERSIONS} if short else versions)}
    if not short:
        tasks["cifar10"] = on_cifar10()
    rows: list[dict[str, object]] = []
    told: dict[str, object] = {}
    for task, (data, versions) in tasks.items():
        found = measured(data, versions, trainings=6 if short else 10)
        rows += [{"data": task, **row_of(name, versions[name], found, data)} for name in versions]
        told |= {f"{task}: {claim}": became for claim, became in claims(found, versions, data)}
    write_results("distillation_short" if short else "distillation", rows, **told)


def versions_on(data: Splits) -> dict[str, Version]:
    """All versions of one network by one recipe."""
    space = mlp.make_space(data.members.input_shape, data.members.num_classes)
    point = {**space.reference, "depth": 2, "layer1_width": 128, "layer2_width": 64}
    recipe = Recipe(epochs=EPOCHS, weight_decay=1e-4)
    plain = Candidate(space.decode(point).as_float(), recipe)
    binary = replace(plain, architecture=space.decode(in_precision(space, point, 1)))
    larger = space.decode({**point, "layer1_width": 256, "layer2_width": 256}).as_float()
    found = {
        FLOAT: Version(plain),
        BINARY: Version(binary),
        "1 bit, gecko": Version(replace(binary, defence="gecko")),
        "1 bit, gecko, larger teacher": Version(replace(binary, defence="gecko"), replace(plain, architecture=larger)),
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
    return found


def on_cifar10() -> tuple[Splits, dict[str, Version]]:
    """The network of the benchmark of compressions, in float and of one bit, and Gecko's students."""
    task = cifar10()
    binary = task.versions["1 bits"]
    return task.data, {
        FLOAT: Version(task.versions[BASELINE]),
        BINARY: Version(binary),
        "1 bit, gecko": Version(replace(binary, defence="gecko")),
        "1 bit, gecko, KL at temperature 4": defended(binary, "gecko", loss="kl", temperature=4.0),
    }


def defended(candidate: Candidate, defence: str, **parameters: float | str) -> Version:
    """Give a candidate a defence."""
    return Version(replace(candidate, defence=defence, defence_parameters=parameters))


def measured(data: Splits, versions: Mapping[str, Version], trainings: int) -> dict[str, Figures]:
    """Train what is missing of all versions and attack each training by the others of its version."""
    pool = pool_of(data.members, data.non_members)
    specs = {
        name: ShadowSpec(pool, one.candidate, SEED, CACHE, reserve=reserve_of(one, data), teacher=one.teacher)
        for name, one in versions.items()
    }
    for done, _ in enumerate(train_missing(list(specs.values()), trainings), start=1):
        if done % 10 == 0:
            print(f"  {done} trained", flush=True)
    return {name: attacked(pool, spec, trainings, data.validation) for name, spec in specs.items()}


def reserve_of(version: Version, data: Splits) -> Records | None:
    """Return what a version's trainings may learn from beside the members."""
    return for_training(version.candidate, load_defence(version.candidate.defence), data.reserve)[0]


def attacked(pool: Pool, spec: ShadowSpec, trainings: int, validation: Records) -> Figures:
    """Measure each training of a version: its error, and what the attacks find with the help of the others."""
    networks = load(spec, trainings)
    bank = bank_of(pool, networks, SEED)
    figures: dict[str, list[float]] = {}
    for own, network in enumerate(networks):
        is_member = bank.trained_on[own]
        others = bank.part([other for other in range(trainings) if other != own])
        evidence = Evidence(bank.logits[own], pool.labels, others, pool.features, bank.oracles[own])
        right = bank.logits[own].argmax(axis=1) == pool.labels
        scores = {name: attack(evidence) for name, attack in ATTACKS.items()}
        one = {
            "error": float(np.mean(outputs(network, validation.features).argmax(axis=1) != validation.labels)),
            "gap": float(right[is_member].mean() - right[~is_member].mean()),
            **{name: auc(found, is_member) for name, found in scores.items()},
            "tpr_at_1pct_fpr": tpr_at_fpr(scores["auc"], is_member, 0.01),
        }
        for name, value in one.items():
            figures.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in figures.items()}


def row_of(name: str, version: Version, found: Mapping[str, Figures], data: Splits) -> dict[str, object]:
    """One line: means over the trainings, half-widths of their 95 % intervals, and the differences to no defence."""
    row: dict[str, object] = {"version": name, "trainings": trainings_of(version, data)}
    for figure, values in found[name].items():
        mean, half = interval(values)
        row |= {figure: mean, f"{figure}_half_width": half}
    for figure in ("error", "auc"):
        difference, half = interval(found[name][figure] - found[FLOAT][figure])
        row |= {f"{figure}_less_undefended": difference, f"{figure}_less_undefended_half_width": half}
    row["of_auc_beyond_chance_taken"] = taken(found[name], found[FLOAT])
    return row


def trainings_of(version: Version, data: Splits) -> int:
    """Count the trainings that a version costs, as a search does: its own and those of its teachers."""
    candidate, members, asked = version.candidate, data.members, []

    def teach(setup: TrainSetup, *, rows: Tensor | None = None, about: Tensor | None = None) -> Tensor:
        asked.append(rows)
        return torch.zeros(len(setup.features if about is None else about), members.num_classes)

    setup = set_up(candidate, members.features, members.labels, SEED, reserve_of(version, data))
    load_defence(candidate.defence).set_up(setup, teach, candidate.defence_parameters)
    return 1 + len(asked)


def taken(found: Figures, undefended: Figures) -> float:
    """Return the share of what the attack finds beyond chance that a defence takes away."""
    return float(1 - (found["auc"].mean() - 0.5) / (undefended["auc"].mean() - 0.5))


def claims(found: Mapping[str, Figures], versions: Mapping[str, Version], data: Splits) -> Iterator[tuple[str, str]]:
    """Hold what was published against what was measured; nothing here is tuned until it agrees."""
    for name in (name for name in found if name.startswith("1 bit, gecko")):
        yield f"{name}: at least half of the accuracy that one bit costs is given back", given_back(found, name)
        leak, half = interval(found[name]["auc"] - found[BINARY]["auc"])
        yield f"{name}: AUC given back", f"{leak:+.3f} +- {half:.3f}"
    for name in (name for name in found if name.startswith(("cross-", "10 folds", "SELENA", "DMP"))):
        lost, half = interval(found[name]["error"] - found[FLOAT]["error"])
        share = taken(found[name], found[FLOAT])
        word = "met" if share >= 0.5 and lost <= 0.03 else "not met"
        told = f"{word}: {share:.0%} taken, error {lost:+.3f} +- {half:.3f}".replace("%", " %")
        yield f"{name}: half of the AUC beyond chance for at most 3 points of accuracy", told
    sweep = [FLOAT, *(name for name in found if name.startswith("cross-"))]
    for less, more in itertools.pairwise(sweep):
        yield f"{more} leaks no more than {less}", verdict(*interval(found[less]["auc"] - found[more]["auc"]))
        yield f"{more} errs no less than {less}", verdict(*interval(found[more]["error"] - found[less]["error"]))
    for name in sweep[1:]:
        count = trainings_of(versions[name], data)
        yield f"{name}: a training for each fold and its own", f"{'met' if count == FOLDS + 1 else 'not met'}: {count}"


def given_back(found: Mapping[str, Figures], name: str) -> str:
    """Say how much of the accuracy that one bit costs a student of one bit has again."""
    cost = float((found[BINARY]["error"] - found[FLOAT]["error"]).mean())
    back, half = interval(found[BINARY]["error"] - found[name]["error"])
    if cost <= 0:
        return f"nothing to give back: one bit costs {cost:+.3f}"
    word = "met" if back >= cost / 2 else "not met"
    return f"{word}: {back / cost:.0%} of {cost:.3f}, {back:+.3f} +- {half:.3f}".replace("%", " %")


if __name__ == "__main__":
    main()
