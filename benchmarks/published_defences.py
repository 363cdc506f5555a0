"""What was published of NeuGuard, of posterior balancing on pruned networks and of DP-SGD, held against attacks.

Location-30 with a perceptron and CIFAR-10 (16 x 16) with a small convolutional network, 1,000 members each. Each
version is trained on random halves of 2,000 records and attacked by its other trainings, which have the same defence:
networks that read posteriors in the order of the classes (`shokri`) and in descending order (`sorted_posteriors`), the
loss threshold, online LiRA and online RMIA; on pruned networks SAMIA too, which is slow and attacks the first few.
Versions are compared training by training, on the same halves: the interval of a difference is Student's, 95 %.

Held against what was published, by thresholds that were set before anything was measured:

- NeuGuard lowers both attack networks by five points of AUC for at most three points of accuracy. Beside it stands what
  calibrated attacks still find, which the paper does not ask.
- Posterior balancing with a strength of 4, on a network pruned by 70 % and retrained, lowers SAMIA by two points for at
  most two points of accuracy, where SAMIA's shadow models are balanced too.
- DP-SGD at an epsilon of 8 is attacked by a loss threshold and by shadow models of the same epsilon. A training of so
  little noise that nothing is promised stands beside it.

    python benchmarks/published_defences.py            # hours the first time; networks are kept
    python benchmarks/published_defences.py --short    # Location-30, six trainings of five versions
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
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
from versions import defended
from versions import interval
from versions import less
from versions import location30
from versions import means
from versions import perceptron
from versions import train
from versions import verdict

from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import loss
from estimators.leakage.attacks import rmia_online
from estimators.leakage.attacks import samia
from estimators.leakage.attacks import shokri
from estimators.leakage.attacks import sorted_posteriors
from nas.defences import dp_sgd
from nas.records import Splits
from nas.training.assess import Candidate
from nas.training.recipe import Recipe
from search_spaces.compressions import sparsity
from search_spaces.graph.architecture import Architecture

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "published_defences"
SEED, TRAININGS, FIRST = 31, 8, 5
"""Trainings of each version, and how many of them SAMIA attacks: it takes a minute for each."""
SHORT_TRAININGS, SHORT_FIRST = 6, 3
BASELINE, PRUNED = "none", "pruned 70 %, retrained"
BALANCED = f"{PRUNED}, posterior balancing 4"
PRIVATE, LOOSE = "dp_sgd, epsilon 8", "dp_sgd, noise 0.2"
GUARDED = "neuguard, "
SHORT_VERSIONS = (BASELINE, f"{GUARDED}balance 3, variance 0.3", PRUNED, BALANCED, PRIVATE)
# Balance and variance; the last as the paper has it for 100 and for 10 classes (Texas100, CIFAR-10).
STRENGTHS = ((1.0, 0.1), (3.0, 0.3), (10.0, 1.0))
AS_PUBLISHED = {"location30": (100.0, 30.0), "cifar10": (30.0, 20.0)}
SHARE = 0.7
BY_NETWORKS, CALIBRATED = ("unsorted_auc", "sorted_auc"), ("auc", "rmia_auc")
ATTACKS = {
    "auc": lira_online.attack,
    "rmia_auc": rmia_online.attack,
    "unsorted_auc": shokri.attack,
    "sorted_auc": sorted_posteriors.attack,
    "loss_auc": loss.attack,
}


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
        tasks.append(cifar10(convolutional))
    rows: list[dict[str, object]] = []
    told: dict[str, object] = {}
    for task in tasks:
        found = measured(task, SHORT_TRAININGS if short else TRAININGS, SHORT_FIRST if short else FIRST)
        rows += [row_of(task, name, found) for name in task.versions]
        told |= {f"{task.name}: {claim}": became for claim, became in claims(found)}
    write_results("published_defences_short" if short else "published_defences", rows, **told)


def perceptrons(data: Splits, *, short: bool) -> dict[str, Candidate]:
    """A perceptron that learns Location-30 by heart."""
    space, point = perceptron(data)
    found = versions_of(space.decode(point).as_float(), 20, AS_PUBLISHED["location30"])
    return {name: found[name] for name in SHORT_VERSIONS} if short else found


def convolutional(data: Splits) -> dict[str, Candidate]:
    """A small convolutional network that learns CIFAR-10 by heart."""
    space, point = convolutional_network(data)
    return versions_of(space.decode(point).as_float(), 30, AS_PUBLISHED["cifar10"])


def versions_of(network: Architecture, epochs: int, as_published: tuple[float, float]) -> dict[str, Candidate]:
    """The network by one recipe without a defence and with each, and pruned without and with one."""
    plain = Candidate(network, Recipe(epochs=epochs, weight_decay=1e-4))
    found = {BASELINE: plain}
    for balance, variance in (*STRENGTHS, as_published):
        name = f"{GUARDED}balance {balance:g}, variance {variance:g}"
        found[name] = defended(plain, "neuguard", balance=balance, variance=variance)
    pruned = replace(plain, architecture=sparsity.compress(network, SHARE, "unstructured", "uniform"))
    found[PRUNED] = pruned
    for strength in (1.0, 4.0, 16.0):
        name = f"{PRUNED}, posterior balancing {strength:g}"
        found[name] = defended(pruned, "posterior_balancing", strength=strength)
    private = {**dp_sgd.PARAMETERS, "epsilon": 8.0}
    found[PRIVATE] = defended(plain, "dp_sgd", **private)
    found[LOOSE] = defended(plain, "dp_sgd", **{**private, "noise_multiplier": 0.2})
    return found


def measured(task: Task, trainings: int, first: int) -> dict[str, Figures]:
    """Train what is missing of all versions and attack each training by others of its version."""
    found = {}
    for name, spec in train(task, trainings, SEED, CACHE).items():
        attacks = ATTACKS | ({"samia_auc": samia.attack} if name.startswith(PRUNED) else {})
        found[name] = attacked(task, spec, trainings, attacks, {"samia_auc": first})
        print(f"  {task.name}: {name} attacked", flush=True)
    return found


def compared_with(name: str) -> str:
    """Name the version without the defence: of a balanced network the pruned one, whose epochs it shares."""
    return PRUNED if name.startswith(f"{PRUNED},") else BASELINE


def row_of(task: Task, name: str, found: Mapping[str, Figures]) -> dict[str, object]:
    """One line: means over the trainings, half-widths of their 95 % intervals, and the differences to no defence."""
    figures, others = found[name], found[compared_with(name)]
    attacks = [attack for attack in (*ATTACKS, "samia_auc") if attack in figures]
    row: dict[str, object] = {"data": task.name, "version": name, "compared with": compared_with(name)}
    row |= means(figures, ("error", "gap", *attacks, "tpr_at_1pct_fpr"))
    return row | less(figures, others, ("error", *(attack for attack in attacks if attack in others)), "undefended")


def claims(found: Mapping[str, Figures]) -> Iterator[tuple[str, str]]:
    """Hold what was published against what was measured; nothing here is tuned until it agrees."""
    for name in (name for name in found if name.startswith(GUARDED)):
        told = lowered(found[name], found[BASELINE], BY_NETWORKS, least=0.05, at_most=0.03)
        yield f"{name}: both attack networks lose 5 points of AUC for at most 3 points of accuracy", told
        best, known = strongest(found[name], CALIBRATED), strongest(found[name], BY_NETWORKS)
        more = verdict(*interval(found[name][best] - found[name][known]))
        yield f"{name}: a calibrated attack finds more than both attack networks", f"{more} ({best}, {known})"
    if BALANCED in found:
        told = lowered(found[BALANCED], found[PRUNED], ("samia_auc",), least=0.02, at_most=0.02)
        yield f"{BALANCED}: SAMIA that knows it loses 2 points of AUC for at most 2 points of accuracy", told
    for name in (name for name in found if name.startswith("dp_sgd")):
        for attack in ("loss_auc", *CALIBRATED):
            fall = verdict(*interval(found[BASELINE][attack] - found[name][attack]))
            yield f"{name}: {attack} is lower than without noise", fall
        best = strongest(found[name], CALIBRATED)
        more = verdict(*interval(found[name][best] - found[name]["loss_auc"]))
        yield f"{name}: shadow models of the same noise find more than the loss threshold", f"{more} ({best})"


def strongest(figures: Figures, attacks: Sequence[str]) -> str:
    """Name the attack with the highest mean."""
    return max(attacks, key=lambda attack: float(figures[attack].mean()))


def lowered(figures: Figures, others: Figures, attacks: Sequence[str], *, least: float, at_most: float) -> str:
    """Say whether attacks all lose so much on average, and the error rises by no more than so much.

    Falls that chance could have made are within the noise, however large.

    Args:
        figures: With the defence.
        others: Without it, on the same halves.
        attacks: Names of the figures.
        least: What each has to lose.
        at_most: What the error may rise by.
    """
    changes = {attack: interval(figures[attack] - others[attack]) for attack in attacks}
    lost, half = interval(figures["error"] - others["error"])
    is_met = all(change <= -least for change, _ in changes.values()) and lost <= at_most
    is_sure = all(change + around < 0 for change, around in changes.values())
    word = "not reproduced" if not is_met else "reproduced" if is_sure else "within the noise"
    told = ", ".join(f"{attack} {change:+.3f} +- {around:.3f}" for attack, (change, around) in changes.items())
    return f"{word}: {told}, error {lost:+.3f} +- {half:.3f}"


if __name__ == "__main__":
    main()
