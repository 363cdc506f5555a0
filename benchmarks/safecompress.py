"""Is a network whose zeros an attacker moved safer for what it can do than one whose zeros one rule moved?

The claim of SafeCompress (Zhu, Wang and Han, 2022), on Location-30 with a perceptron and CIFAR-10 at 16 x 16 with a
small convolutional network, 1,000 members each, a tenth of the weights. Each of eight strategies is used alone, for as
many epochs and updates as the training that tries all of them at each update and keeps the best. The pruning `dynamic`,
which moves zeros by their gradients twenty times, stands beside them. All are trained from five seeds.

The score is task accuracy over attack accuracy, as in the training, but measured on other records: the task on
validation records, the attacker on members and non-members, trained on half of either and judging the other halves, in
both directions. So the chosen network gets no credit for records that it was chosen by. `lira_fitted` attacks too, with
eight references. A strategy is beaten where the chosen network scores at least as well in four of five seeds.

    python benchmarks/safecompress.py            # half an hour on one core
    python benchmarks/safecompress.py --short    # Location-30, two seeds, four strategies: two minutes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from proxy import cifar10_images
from report import write_results
from scipy.stats import t
from shared_data import SHARED
from torch import nn

from estimators.leakage.attacks import lira_fitted
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.simulated_attacker import attacker_features
from estimators.leakage.shared.simulated_attacker import learner
from estimators.leakage.statistics.auc_and_rates import auc
from nas.records import Source
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.training.assess import Candidate
from nas.training.assess import for_training
from nas.training.assess import outputs
from nas.training.assess import set_up
from nas.training.bank import BankSpec
from nas.training.bank import build_bank
from nas.training.defence import load_defence
from nas.training.loop import Training
from nas.training.loop import TrainSetup
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.safecompress import ATTACKER_EPOCHS
from nas.training.safecompress import STRATEGIES
from nas.training.safecompress import Outcome
from nas.training.safecompress import Strategy
from nas.training.safecompress import attacker_test
from nas.training.safecompress import branching
from nas.training.safecompress import halves_of
from nas.training.stages import train_in_stages
from search_spaces import conv
from search_spaces import mlp
from search_spaces.compressions import sparsity
from search_spaces.graph.architecture import Architecture

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "safecompress"
MEMBERS, SHARE, SEEDS, REFERENCES = 1000, 0.9, 5, 8
CHOSEN, RIGL = "safecompress", "dynamic"
BEATEN_IN = 0.8
FIGURES = ("score", "task_accuracy", "attack_accuracy", "auc", "seconds")


@dataclass(frozen=True, eq=False)
class Task:
    """A data set and a sparse network."""

    name: str
    data: Splits
    candidate: Candidate
    bank: Bank


def main() -> None:
    """Train, attack, and hold the claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    seeds, strategies = (2, STRATEGIES[:4]) if short else (SEEDS, STRATEGIES)
    rows: list[dict[str, object]] = []
    facts: dict[str, object] = {}
    for make in (location30,) if short else (location30, cifar10):
        task = make()
        found, share = measured(task, seeds, strategies)
        rows += [row_of(task, way, figures, found[CHOSEN]) for way, figures in found.items()]
        facts |= {f"{task.name}: {told}": verdict for told, verdict in verdicts(found).items()}
        facts[f"{task.name}: share of the training's time that attackers take"] = share
    write_results("safecompress_short" if short else "safecompress", rows, **facts)


def location30() -> Task:
    """Location-30 and a perceptron that learns it by heart."""
    data = split(load_records(Source("location30", SHARED / "location30")), seed=0, members=MEMBERS)
    space = mlp.make_space(data.members.input_shape, data.members.num_classes)
    point = {**space.reference, "depth": 2, "layer1_width": 128, "layer2_width": 64}
    return task_of("location30", data, space.decode(point), space.decode(space.reference), Recipe(epochs=20))


def cifar10() -> Task:
    """CIFAR-10 and a small convolutional network that learns it by heart."""
    data = split(cifar10_images(), seed=0, members=MEMBERS)
    space = conv.make_space(data.members.input_shape, data.members.num_classes)
    blocks = {f"block{block}_width": 32 for block in (1, 2, 3)} | {f"block{block}_stride": 1 for block in (1, 3)}
    point = {**space.reference, "depth": 3, "stem_width": 32, "head": "flatten", **blocks}
    return task_of("cifar10", data, space.decode(point), space.decode(space.reference), Recipe(epochs=30))


def task_of(name: str, data: Splits, dense: Architecture, reference: Architecture, recipe: Recipe) -> Task:
    """Take nine tenths of a network's weights away, and train the references of the attack."""
    sparse = sparsity.compress(dense.as_float(), SHARE, "unstructured", "erk")
    bank = build_bank(BankSpec(data, reference.as_float(), recipe, REFERENCES, seed=0), CACHE)
    return Task(name, data, Candidate(sparse, replace(recipe, pruning=CHOSEN)), bank)


def measured(
    task: Task, seeds: int, strategies: Sequence[Strategy]
) -> tuple[dict[str, dict[str, NDArray[np.float64]]], float]:
    """Train in all ways from all seeds.

    Returns:
        By the way and the figure, a number for each seed; and the attackers' share of the time of SafeCompress.
    """
    in_tests: list[float] = []
    ways: dict[str, Callable[[TrainSetup], nn.Module]] = {CHOSEN: partial(all_strategies, seconds=in_tests)}
    ways |= {f"{one.prune}, {one.grow}": partial(one_strategy, strategy=one) for one in strategies}
    ways[RIGL] = rigl
    found: dict[str, dict[str, list[float]]] = {way: {figure: [] for figure in FIGURES} for way in ways}
    reserve, _ = for_training(task.candidate, load_defence("none"), task.data.reserve)
    members = task.data.members
    for seed in range(seeds):
        setup = set_up(task.candidate, members.features, members.labels, seed, reserve)
        for way, training in ways.items():
            since = time.process_time()
            network = training(setup)
            seconds = time.process_time() - since
            for figure, value in {**attacked(task, network), "seconds": seconds}.items():
                found[way][figure].append(value)
        print(f"  {task.name}: seed {seed} of {seeds} trained", flush=True)
    arrays = {way: {name: np.array(values) for name, values in figures.items()} for way, figures in found.items()}
    return arrays, sum(in_tests) / float(arrays[CHOSEN]["seconds"].sum())


def all_strategies(setup: TrainSetup, seconds: list[float]) -> nn.Module:
    """Train as the pruning does; appends the seconds of each test."""

    def make_test(setup: TrainSetup) -> Callable[[Training], Outcome]:
        test = attacker_test(setup)

        def timed(training: Training) -> Outcome:
            since = time.process_time()
            outcome = test(training)
            seconds.append(time.process_time() - since)
            return outcome

        return timed

    return train(branching(setup, make_test=make_test))


def one_strategy(setup: TrainSetup, strategy: Strategy) -> nn.Module:
    """Train with one strategy, which nothing has to choose."""
    return train(branching(setup, [strategy]))


def rigl(setup: TrainSetup) -> nn.Module:
    """Train with the pruning `dynamic`."""
    return train_in_stages(replace(setup, recipe=replace(setup.recipe, pruning=RIGL)))


def attacked(task: Task, network: nn.Module) -> dict[str, float]:
    """Measure a network on records that had no part in its training or choice, but for the members."""
    data = task.data
    parts = (data.members, data.non_members)
    logits, labels = [outputs(network, part.features) for part in parts], [part.labels for part in parts]
    right = outputs(network, data.validation.features).argmax(axis=1) == data.validation.labels
    outcome = Outcome(float(right.mean()), attack_accuracy(logits, labels))
    evidence = Evidence(np.concatenate(logits), np.concatenate(labels), task.bank)
    is_member = np.arange(len(evidence.labels)) < len(data.members)
    return {
        "score": outcome.score,
        "task_accuracy": outcome.task_accuracy,
        "attack_accuracy": outcome.attack_accuracy,
        "auc": auc(lira_fitted.attack(evidence), is_member),
    }


def attack_accuracy(logits: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.int64]]) -> float:
    """Return how often two new attackers are right, each about the halves that the other one learned from."""
    features = [attacker_features(*part) for part in zip(logits, labels, strict=True)]
    count = min(map(len, features))
    halves = [halves_of(len(part), count, seed) for seed, part in enumerate(features)]
    rights = []
    for learned, judged in ((0, 1), (1, 0)):
        known, asked = (
            np.concatenate([part[half[which]] for part, half in zip(features, halves, strict=True)])
            for which in (learned, judged)
        )
        is_member = np.arange(len(known)) < len(known) // 2
        nobody = np.zeros(len(known), dtype=np.int64)
        odds = learner(ATTACKER_EPOCHS * -(-len(known) // 128))(known, nobody, is_member)(asked, nobody)
        rights.append(float(((odds > 0) == is_member).mean()))
    return float(np.mean(rights))


def row_of(
    task: Task,
    way: str,
    figures: Mapping[str, NDArray[np.float64]],
    chosen: Mapping[str, NDArray[np.float64]],
) -> dict[str, object]:
    """One line: means over the seeds, and how the chosen network compares, seed by seed."""
    row: dict[str, object] = {"data": task.name, "way": way}
    row |= {figure: float(figures[figure].mean()) for figure in FIGURES}
    difference, half = interval(chosen["score"] - figures["score"])
    row |= {"chosen_less_this": difference, "chosen_less_this_half_width": half}
    row["chosen_at_least_as_well"] = int((chosen["score"] >= figures["score"]).sum())
    row["seeds"] = len(figures["score"])
    return row


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return a mean and the half-width of Student's 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def verdicts(found: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> dict[str, str]:
    """Hold the claim against each strategy; nothing here is tuned until it agrees."""
    chosen = found[CHOSEN]["score"]
    told = {}
    for way, figures in found.items():
        if way not in (CHOSEN, RIGL):
            wins = int((chosen >= figures["score"]).sum())
            mean, half = interval(chosen - figures["score"])
            word = "held" if wins >= BEATEN_IN * len(chosen) else "not held"
            told[f"at least as well as {way}"] = (
                f"{word}: in {wins} of {len(chosen)} seeds, score {mean:+.3f} +- {half:.3f}"
            )
    held = sum(verdict.startswith("held") for verdict in told.values())
    return {**told, "strategies that the chosen network is at least as good as": f"{held} of {len(told)}"}


if __name__ == "__main__":
    main()
