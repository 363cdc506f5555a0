"""What each way to make a network small costs in error and gives away: pruning, few bits, efficient architectures.

The question of Gecko (Duddu, Boutet and Shejwalkar, 2022), on small sets of CIFAR-10 (16 x 16, 1,000 members) and
Location-30 (1,000 members), with one recipe. Each version of a network is trained ten times, on random halves of the
same 2,000 records. Each training is attacked by the eight on other halves: the calibrated attack of `nas audit` (RMIA
online), thresholds by class on modified entropy, and, on networks pruned by 70 %, SAMIA. A version is compared with the
baseline training by training, on the same halves: the interval of a difference is Student's over ten pairs and holds
what trainings vary by. What is retrained is also compared with the control, the dense network trained for as many
epochs. Latency is that of the STM32H747 in int8; bytes are those of packed weights, zeros as one bit each.

    python benchmarks/compression_leakage.py            # an hour on two cores the first time; networks are kept
    python benchmarks/compression_leakage.py --short    # six trainings of eight versions, ten minutes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from report import write_results
from shared_data import SHARED
from versions import Figures
from versions import Task
from versions import attacked
from versions import cifar10
from versions import convolutional_network
from versions import interval
from versions import less
from versions import location30
from versions import means
from versions import perceptron
from versions import train
from versions import verdict

from estimators.devices.files import load_device
from estimators.leakage.attacks import modified_entropy_by_class
from estimators.leakage.attacks import rmia_online
from estimators.leakage.attacks import samia
from nas.pricing.price import as_shipped
from nas.pricing.price import cost_metrics
from nas.records import Splits
from nas.training.assess import Candidate
from nas.training.recipe import Recipe
from nas.training.stages import settled
from search_spaces import mobile
from search_spaces import squeeze
from search_spaces.compressions import sparsity
from search_spaces.compressions import weight_sharing
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.precision import FORMATS
from search_spaces.space import SearchSpace

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "compression"
SEED = 11
SHARES = (0.3, 0.5, 0.7, 0.9)
PRECISIONS = (8, 4, 3, 2, "ternary", 1)
BASELINE, CONTROL = "baseline", "dense, trained further"
# SAMIA takes a minute for each network: so many of these versions are attacked by it.
BY_SAMIA, SAMIA_TRAININGS = ("pruned 70 %, retrained", "pruned 70 %, one shot"), 5
SHORT_VERSIONS = ("pruned 70 %, retrained", "pruned 90 %, one shot", "8 bits", "4 bits", "1 bits")
EQUAL = 0.01
ATTACKS = {"auc": rmia_online.attack, "threshold_auc": modified_entropy_by_class.attack}
CALLED = {"auc": "the audit", "threshold_auc": "thresholds by class"}


def main() -> None:
    """Train, attack, and hold the directions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    rows, verdicts = [], {}
    for task in (location30(perceptrons), cifar10(convolutional)):
        found, told = measured(shortened(task) if short else task, trainings=6 if short else 10, with_samia=not short)
        rows += found
        verdicts |= told
    write_results("compression_leakage_short" if short else "compression_leakage", rows, **verdicts)


def perceptrons(data: Splits) -> Mapping[str, Candidate]:
    """A perceptron that learns Location-30 by heart."""
    return versions_of(*perceptron(data), epochs=20)


def convolutional(data: Splits) -> Mapping[str, Candidate]:
    """A small convolutional network that learns CIFAR-10 by heart, and two of efficient architectures."""
    versions = versions_of(*convolutional_network(data), epochs=30)
    recipe = versions[BASELINE].recipe
    for name, other in (("SqueezeNet-like", squeeze), ("MobileNet-like", mobile)):
        made = other.make_space(data.members.input_shape, data.members.num_classes)
        versions[name] = Candidate(made.decode(made.reference).as_float(), recipe)
    return versions


def versions_of(space: SearchSpace, point: Params, epochs: int) -> dict[str, Candidate]:
    """All versions of one network by one recipe."""
    recipe = Recipe(epochs=epochs, weight_decay=1e-4)
    dense = space.decode(point).as_float()
    found = {BASELINE: Candidate(dense, recipe)}
    # The control for the further epochs of what is retrained: a weight in a thousand is zero.
    found[CONTROL] = Candidate(sparsity.compress(dense, 0.001, "unstructured", "uniform"), recipe)
    for share in SHARES:
        sparse = sparsity.compress(dense, share, "unstructured", "uniform")
        for how, pruning in (("retrained", "retrained"), ("one shot", "one_shot")):
            found[f"pruned {share:.0%}, {how}".replace("%", " %")] = Candidate(sparse, replace(recipe, pruning=pruning))
    for precision in PRECISIONS:
        found[f"{precision} bits" if isinstance(precision, int) else precision] = Candidate(
            space.decode(in_precision(space, point, precision)), recipe
        )
    most = sparsity.compress(dense, 0.7, "unstructured", "uniform")
    for width in (8, 4, 3, 2):
        shared = weight_sharing.compress(most, width)
        found[f"pruned 70 %, retrained, {2**width} values"] = Candidate(shared, settled(recipe, shared))
    return found


def in_precision(space: SearchSpace, point: Params, precision: int | str) -> dict[str, object]:
    """Give weights and tensors a precision, the first and the last layer 8 bits; ternary weights have 8-bit tensors."""
    tensors = 8 if precision in FORMATS else precision
    bits = {}
    for name, distribution in space.distributions.items():
        if name.endswith("_bits"):
            wanted = tensors if name.endswith("activation_bits") else precision
            bits[name] = wanted if wanted in distribution.choices else 8
    return {**point, **bits}


def shortened(task: Task) -> Task:
    """Keep the versions that show the directions."""
    kept = [BASELINE, *(name for name in task.versions if name in SHORT_VERSIONS or name.endswith("-like"))]
    return replace(task, versions={name: task.versions[name] for name in kept})


def measured(task: Task, trainings: int, *, with_samia: bool) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Train and attack all versions: a row each, and what became of the published directions."""
    found = {}
    for name, spec in train(task, trainings, SEED, CACHE).items():
        by_samia = {"samia_auc": samia.attack} if with_samia and name in BY_SAMIA else {}
        found[name] = attacked(task, spec, trainings, ATTACKS | by_samia, {"samia_auc": SAMIA_TRAININGS})
        print(f"  {task.name}: {name} attacked", flush=True)
    rows = [row_of(task, name, found[name], found) for name in task.versions]
    return rows, {f"{task.name}: {told}": verdict for told, verdict in directions(found).items()}


def row_of(task: Task, name: str, figures: Figures, found: Mapping[str, Figures]) -> dict[str, object]:
    """One line: means over the trainings, half-widths of their 95 % intervals, and differences to other versions."""
    architecture = task.versions[name].architecture
    row: dict[str, object] = {"data": task.name, "version": name}
    row |= means(figures, ("error", "gap", "auc", "tpr_at_1pct_fpr", "threshold_auc"))
    row |= less(figures, found[BASELINE], tuple(ATTACKS), "baseline")
    if CONTROL in found:
        row |= less(figures, found[CONTROL], tuple(ATTACKS), "control")
    row["samia_auc"] = float(figures["samia_auc"].mean()) if "samia_auc" in figures else None
    row["latency_ms"] = latency_ms(architecture)
    row["bytes"] = packed_bytes(architecture)
    return row


def latency_ms(architecture: Architecture) -> float:
    """Price a network on the STM32H747, which runs it in int8."""
    device = load_device("stm32h747")
    return cost_metrics(device)["latency_ms"](as_shipped(architecture, device), device).value


def packed_bytes(architecture: Architecture) -> int:
    """Count the bytes of weights in their bits; of a sparse layer a bit tells for each whether it is there."""
    bits = 0.0
    for kernel in architecture.kernels:
        width = kernel.shared_bits or kernel.weight_bits
        kept = kernel.weights - round(kernel.sparsity * kernel.weights)
        bits += kept * width + (kernel.weights if kernel.sparsity else 0) + (32 * 2**width if kernel.shared_bits else 0)
    return round(bits / 8)


def directions(found: Mapping[str, Figures]) -> dict[str, str]:
    """Hold what was published against what was measured; nothing here is tuned until it agrees."""
    return dict(_directions(found))


def _directions(found: Mapping[str, Figures]) -> Iterator[tuple[str, str]]:
    for name, (figure, attack) in product(found, CALLED.items()):
        mean, half = interval(found[name][figure] - found[BASELINE][figure])
        if name.endswith("retrained") and "90" not in name:
            yield f"{name} leaks at least as much as unpruned, by {attack}", verdict(mean, half)
            if CONTROL in found:
                against = interval(found[name][figure] - found[CONTROL][figure])
                yield f"{name} leaks at least as much as the control, by {attack}", verdict(*against)
        if name.endswith("one shot"):
            yield f"{name} leaks less than unpruned, by {attack}", verdict(-mean, half)
        if name == "1 bits":
            yield f"1 bit leaks less than float, by {attack}", verdict(-mean, half)
        if name in ("8 bits", "4 bits"):
            is_equal = abs(mean) + half <= EQUAL
            word = "reproduced" if is_equal else "not reproduced" if abs(mean) - half > EQUAL else "within the noise"
            yield f"{name} leak as much as float within {EQUAL}, by {attack}", f"{word}: {mean:+.3f} +- {half:.3f}"
    for name in found:
        if "samia_auc" in found[name]:
            ours, theirs = found[name]["samia_auc"].mean(), found[name]["threshold_auc"][:SAMIA_TRAININGS].mean()
            met = "met" if ours >= theirs - 0.01 else "not met"
            yield f"{name}: SAMIA at least the thresholds by class less a point", f"{met}: {ours:.3f}, {theirs:.3f}"


if __name__ == "__main__":
    main()
