"""How well the in-loop proxy ranks candidates, held against a full audit of each, and what it costs.

CIFAR-10 at 16 x 16 pixels with the conv space, Location-30 with multilayer perceptrons: 24 candidates each that differ in
bits, width, depth, epochs, weight decay, dropout and label smoothing, 2,000 members in a pool of 4,000. Every candidate is
trained 16 times on random halves of the pool, in complementary pairs. The yardstick is online LiRA (pooled variance) of
each of the 16 against the other 15, and the mean over the 16: what a training by this recipe leaks. A proxy sees one of
the 16 networks, and a bank of eight small references of another architecture where it wants one; each of the 16 takes its
turn, and figures are medians over the turns with their range.

    python benchmarks/proxy.py             # hours on two cores the first time; trained networks are kept
    python benchmarks/proxy.py --short     # 12 candidates, 8 networks each: ten minutes, the same direction
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import write_results
from scipy.stats import kendalltau
from scipy.stats import spearmanr
from shared_data import SHARED
from shared_data import cifar10

from estimators.leakage.attacks import calibrated_loss
from estimators.leakage.attacks import gap
from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import loss
from estimators.leakage.attacks import rmia
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics import auc
from estimators.leakage.statistics import tpr_at_fpr
from nas import files
from nas import processes
from nas.bank import halves
from nas.evaluate import Candidate
from nas.records import Records
from nas.records import Source
from nas.records import load_records
from nas.records import split
from nas.shadows import Pool
from nas.shadows import ShadowSpec
from nas.shadows import load
from nas.shadows import train_shadow
from nas.training import Recipe
from nas.training import logits_of
from search_spaces import conv
from search_spaces import mlp
from search_spaces.graph import Architecture
from search_spaces.space import SearchSpace

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "proxy"
MEMBERS, CANDIDATES, NETWORKS, REFERENCES = 2000, 24, 16, 8
SEED, BANK_SEED = 5, 77
BITS = (32, 8, 4, 2, 1)
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """A data set with its space and its candidates."""

    name: str
    pool: Pool
    space: SearchSpace
    candidates: list[Candidate]


@dataclass(frozen=True, eq=False)
class Trained:
    """All networks of one candidate: logits `(networks, records, classes)`, and seconds of one training and one look."""

    logits: NDArray[np.float32]
    trained_on: NDArray[np.bool_]
    training_s: float
    query_s: float


def main() -> None:
    """Train what is not kept yet, score every proxy, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    count, networks = (12, 8) if short else (CANDIDATES, NETWORKS)
    rows: list[dict[str, object]] = []
    facts: dict[str, object] = {}
    for task in (location30(count), cifar10_small(count)):
        print(f"{task.name}: {count} candidates, {networks} networks each", flush=True)
        train_all(task, networks)
        trained = [collect(task, candidate, networks) for candidate in task.candidates]
        bank = reference_bank(task)
        rows += compare(task, trained, bank)
        facts |= describe(task, trained)
    write_results("proxy_short" if short else "proxy", rows, **facts)


def location30(count: int) -> Task:
    """Location-30 with multilayer perceptrons."""
    data = split(load_records(Source("location30", SHARED / "location30")), seed=0, members=MEMBERS)
    space = mlp.make_space(data.members.input_shape, data.members.num_classes)
    rng = np.random.default_rng(1)
    drawn = [perceptron(space, BITS[number % len(BITS)], rng) for number in range(count)]
    return Task("location30", pool_of(data.members, data.non_members), space, drawn)


def cifar10_small(count: int) -> Task:
    """CIFAR-10, pixels averaged two by two, with small convolutional networks."""
    with np.load(cifar10(12_000), allow_pickle=False) as stored:
        images, labels = stored["features"], stored["labels"]
    images = images.reshape(len(images), 3, 16, 2, 16, 2).mean(axis=(3, 5)).round().astype(np.uint8)
    data = split(Records(images, labels, tuple(map(str, range(10)))), seed=0, members=MEMBERS)
    space = conv.make_space((3, 16, 16), 10)
    rng = np.random.default_rng(2)
    drawn = [convolutional(space, BITS[number % len(BITS)], rng) for number in range(count)]
    return Task("cifar10", pool_of(data.members, data.non_members), space, drawn)


def pool_of(members: Records, non_members: Records) -> Pool:
    """Put members and non-members into one pool."""
    features = np.concatenate([members.features, non_members.features])
    labels = np.concatenate([members.labels, non_members.labels])
    return Pool(features, labels, np.arange(len(labels)) < len(members))


def perceptron(space: SearchSpace, bits: int, rng: np.random.Generator) -> Candidate:
    """Draw a perceptron and a recipe; hidden weights and tensors have `bits`."""
    depth = int(rng.integers(1, 3))
    params = {"depth": depth}
    for name in space.distributions:
        if name.endswith("_width"):
            params[name] = int(rng.choice([32, 64, 128, 256]))
        if name.endswith("_bits") and name != "last_bits":
            params[name] = max(bits, 2) if name.endswith("activation_bits") else bits
    recipe = Recipe(
        epochs=int(rng.integers(3, 31)),
        weight_decay=float(10 ** rng.uniform(-4, 0.5)),
        dropout=float(rng.uniform(0, 0.5)),
        label_smoothing=float(rng.choice([0.0, 0.0, 0.1])),
    )
    return Candidate(completed(space, params), recipe)


def convolutional(space: SearchSpace, bits: int, rng: np.random.Generator) -> Candidate:
    """Draw a small convolutional network and a recipe; its blocks have `bits` in weights, 8 or fewer in tensors."""
    params = {
        "depth": int(rng.integers(1, 4)),
        "stem_width": 16,
        "stem_stride": 2,
        "head": str(rng.choice(["avg", "flatten"])),
    }
    for name in space.distributions:
        if name.startswith("block"):
            part = name.split("_", 1)[1]
            params[name] = {
                "kind": "plain" if rng.random() < 0.5 else "separable",
                "width": int(rng.choice([16, 32, 48])),
                "kernel": 3,
                "stride": int(rng.choice([1, 2])),
                "residual": bool(rng.random() < 0.5),
                "weight_bits": bits,
                "activation_bits": max(bits, 2),
            }[part]
    recipe = Recipe(
        epochs=int(rng.integers(6, 36)),
        weight_decay=float(10 ** rng.uniform(-4, -0.5)),
        dropout=float(rng.uniform(0, 0.4)),
        label_smoothing=float(rng.choice([0.0, 0.0, 0.1])),
    )
    return Candidate(completed(space, params), recipe)


def completed(space: SearchSpace, params: Mapping[str, object]) -> Architecture:
    """Fill up what is not named with the space's reference."""
    return space.decode({**space.reference, **params})


def train_all(task: Task, networks: int) -> None:
    """Train what is missing of all candidates, in one crew of processes."""
    specs = [spec_of(task, candidate) for candidate in task.candidates]
    items = [(index, shadow) for index, spec in enumerate(specs) for shadow in spec.missing(networks)]
    done = 0
    for _ in processes.share_out(train_one, specs, items, workers=processes.cores()):
        done += 1
        if done % 16 == 0:
            print(f"  {task.name}: {done} of {len(items)} trained", flush=True)


def train_one(specs: list[ShadowSpec], item: tuple[int, int]) -> None:
    """Train one network and note how long it took."""
    index, shadow = item
    since = time.perf_counter()
    train_shadow(specs[index], shadow)
    seconds = time.perf_counter() - since
    files.append_json(CACHE / "timings.jsonl", {"key": specs[index].key, "seconds": seconds})


def spec_of(task: Task, candidate: Candidate) -> ShadowSpec:
    """Say what a candidate's networks are."""
    return ShadowSpec(task.pool, candidate, SEED, CACHE)


if __name__ == "__main__":
    main()
