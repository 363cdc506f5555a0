"""What each way to make a network small costs in error and gives away: pruning, few bits, efficient architectures.

The question of Gecko (Duddu, Boutet and Shejwalkar, 2022), on small sets of CIFAR-10 (16 x 16, 1,000 members) and
Location-30 (1,000 members), with one recipe. Each version of a network is trained ten times, on random halves of the
same 2,000 records. Each training is attacked by the other nine: the calibrated attack of `nas audit` (RMIA online),
thresholds by class on modified entropy, and, on networks pruned by 70 %, SAMIA. A version is compared with the baseline
training by training, on the same halves: the interval of a difference is Student's over ten pairs and holds what
trainings vary by. Latency is that of the STM32H747 in int8; bytes are those of packed weights, zeros as one bit each.

    python benchmarks/compression_leakage.py            # an hour on two cores the first time; networks are kept
    python benchmarks/compression_leakage.py --short    # six trainings of eight versions, ten minutes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from proxy import cifar10_images
from proxy import pool_of
from report import write_results
from scipy.stats import t
from shared_data import SHARED

from estimators.devices.files import load_device
from estimators.leakage.attacks import modified_entropy_by_class
from estimators.leakage.attacks import rmia_online
from estimators.leakage.attacks import samia
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.pricing.price import as_shipped
from nas.pricing.price import cost_metrics
from nas.records import Source
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.training.assess import Candidate
from nas.training.assess import outputs
from nas.training.recipe import Recipe
from nas.training.stages import settled
from search_spaces import conv
from search_spaces import mlp
from search_spaces import mobile
from search_spaces import squeeze
from search_spaces.compressions import sparsity
from search_spaces.compressions import weight_sharing
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.precision import FORMATS
from search_spaces.space import SearchSpace

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "compression"
MEMBERS, SEED = 1000, 11
SHARES = (0.3, 0.5, 0.7, 0.9)
PRECISIONS = (8, 4, 3, 2, "ternary", 1)
BASELINE, CONTROL = "baseline", "dense, trained further"
# SAMIA takes a minute for each network: so many of these versions are attacked by it.
BY_SAMIA, SAMIA_TRAININGS = ("pruned 70 %, retrained", "pruned 70 %, one shot"), 5
SHORT_VERSIONS = ("pruned 70 %, retrained", "pruned 90 %, one shot", "8 bits", "4 bits", "1 bits")
EQUAL = 0.01
ATTACKS = {"auc": "the audit", "threshold_auc": "thresholds by class"}


@dataclass(frozen=True, eq=False)
class Task:
    """A data set, and the versions of one network."""

    name: str
    data: Splits
    pool: Pool
    versions: Mapping[str, Candidate]


def main() -> None:
    """Train, attack, and hold the directions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    rows, verdicts = [], {}
    for task in (location30(), cifar10()):
        found, told = measured(shortened(task) if short else task, trainings=6 if short else 10, with_samia=not short)
        rows += found
        verdicts |= told
    write_results("compression_leakage_short" if short else "compression_leakage", rows, **verdicts)


def location30() -> Task:
    """Location-30 and a perceptron that learns it by heart."""
    data = split(load_records(Source("location30", SHARED / "location30")), seed=0, members=MEMBERS)
    space = mlp.make_space(data.members.input_shape, data.members.num_classes)
    point = {**space.reference, "depth": 2, "layer1_width": 128, "layer2_width": 64}
    return Task("location30", data, pool_of(data.members, data.non_members), versions_of(space, point, epochs=20))


def cifar10() -> Task:
    """CIFAR-10, a small convolutional network that learns it by heart, and two of efficient architectures."""
    data = split(cifar10_images(), seed=0, members=MEMBERS)
    shape, classes = data.members.input_shape, data.members.num_classes
    space = conv.make_space(shape, classes)
    blocks = {f"block{block}_width": 32 for block in (1, 2, 3)} | {f"block{block}_stride": 1 for block in (1, 3)}
    versions = versions_of(
        space, {**space.reference, "depth": 3, "stem_width": 32, "head": "flatten", **blocks}, epochs=30
    )
    recipe = versions[BASELINE].recipe
    for name, other in (("SqueezeNet-like", squeeze), ("MobileNet-like", mobile)):
        made = other.make_space(shape, classes)
        versions[name] = Candidate(made.decode(made.reference).as_float(), recipe)
    return Task("cifar10", data, pool_of(data.members, data.non_members), versions)


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
    specs = {name: ShadowSpec(task.pool, candidate, SEED, CACHE) for name, candidate in task.versions.items()}
    # First stages before what is made of them: two processes would train the same one twice, one after the other.
    firsts = {
        spec.candidate.first_stage.key: replace(spec, candidate=spec.candidate.first_stage) for spec in specs.values()
    }
    for wanted in (list(firsts.values()), list(specs.values())):
        for done, _ in enumerate(train_missing(wanted, trainings), start=1):
            if done % 10 == 0:
                print(f"  {task.name}: {done} trained", flush=True)
    found = {}
    for name, spec in specs.items():
        samia_too = with_samia and name in BY_SAMIA
        found[name] = attacked(task, spec, trainings, samia_too=samia_too)
        print(f"  {task.name}: {name} attacked", flush=True)
    rows = [row_of(task, name, found[name], found[BASELINE]) for name in task.versions]
    return rows, {f"{task.name}: {told}": verdict for told, verdict in directions(found).items()}


def attacked(task: Task, spec: ShadowSpec, trainings: int, *, samia_too: bool) -> dict[str, NDArray[np.float64]]:
    """Measure each training of a version: its error, and what the attacks find with the help of the others."""
    networks = load(spec, trainings)
    bank = bank_of(task.pool, networks, SEED)
    features, labels = task.pool.features, task.pool.labels
    validation = task.data.validation
    figures: dict[str, list[float]] = {}
    for own, network in enumerate(networks):
        is_member = bank.trained_on[own]
        others = [other for other in range(trainings) if other != own]
        evidence = Evidence(bank.logits[own], labels, bank.part(others), features, bank.oracles[own])
        scores = rmia_online.attack(evidence)
        by_class = modified_entropy_by_class.attack(evidence)
        answers = outputs(network, validation.features).argmax(axis=1)
        right = bank.logits[own].argmax(axis=1) == labels
        one = {
            "error": float(np.mean(answers != validation.labels)),
            "gap": float(right[is_member].mean() - right[~is_member].mean()),
            "auc": auc(scores, is_member),
            "tpr_at_1pct_fpr": tpr_at_fpr(scores, is_member, 0.01),
            "threshold_auc": auc(by_class, is_member),
        }
        if samia_too and own < SAMIA_TRAININGS:
            one["samia_auc"] = auc(samia.attack(evidence), is_member)
        for name, value in one.items():
            figures.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in figures.items()}


def row_of(
    task: Task, name: str, found: Mapping[str, NDArray[np.float64]], baseline: Mapping[str, NDArray[np.float64]]
) -> dict[str, object]:
    """One line: means over the trainings, half-widths of their 95 % intervals, and the difference to the baseline."""
    architecture = task.versions[name].architecture
    row: dict[str, object] = {"data": task.name, "version": name}
    for figure in ("error", "gap", "auc", "tpr_at_1pct_fpr", "threshold_auc"):
        mean, half = interval(found[figure])
        row |= {figure: mean, f"{figure}_half_width": half}
    for figure in ATTACKS:
        difference, half = interval(found[figure] - baseline[figure])
        row |= {f"{figure}_less_baseline": difference, f"{figure}_less_baseline_half_width": half}
    row["samia_auc"] = float(found["samia_auc"].mean()) if "samia_auc" in found else None
    row["latency_ms"] = latency_ms(architecture)
    row["bytes"] = packed_bytes(architecture)
    return row


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return a mean and the half-width of Student's 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


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


def directions(found: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> dict[str, str]:
    """Hold what was published against what was measured; nothing here is tuned until it agrees."""
    return dict(_directions(found))


def _directions(found: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Iterator[tuple[str, str]]:
    for name, (figure, attack) in product(found, ATTACKS.items()):
        mean, half = interval(found[name][figure] - found[BASELINE][figure])
        if name.endswith("retrained") and "90" not in name:
            yield f"{name} leaks at least as much as unpruned, by {attack}", verdict(mean, half)
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


def verdict(difference: float, half: float) -> str:
    """Say whether a difference is positive as published: reproduced, not, or within the noise."""
    word = "reproduced" if difference > half else "not reproduced" if difference < -half else "within the noise"
    return f"{word}: {difference:+.3f} +- {half:.3f}"


if __name__ == "__main__":
    main()
