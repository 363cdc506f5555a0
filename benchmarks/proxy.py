"""How well the in-loop proxy ranks candidates, held against a full audit of each, and what it costs.

CIFAR-10 at 16 x 16 pixels with the conv space, Location-30 with multilayer perceptrons: 24 candidates each that differ
in bits, width, depth, epochs, weight decay, dropout and label smoothing, 2,000 members in a pool of 4,000. Every
candidate is trained 16 times on random halves of the pool, in complementary pairs. The yardstick is online LiRA (pooled
variance) of each of the 16 against the other 15, and the mean over the 16: what a training by this recipe leaks; tau is
given for online RMIA in its place, too. A proxy sees one of the 16 networks, and a bank of eight small references of
another architecture where it wants one; each of the 16 takes its turn, and figures are medians over the turns with the
range of Kendall's tau. Cost is one look at the records and the scoring, as a share of one training, timed in the same
run on one thread.

    python benchmarks/proxy.py             # hours on two cores the first time; trained networks are kept
    python benchmarks/proxy.py --short     # 12 candidates, 8 networks each: ten minutes, the same direction
    python benchmarks/proxy.py --short --seed 1    # the same for other candidates
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
from typing import TypeAlias

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
from estimators.leakage.attacks import lira_fitted
from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import loss
from estimators.leakage.attacks import rmia
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.base import files
from nas.records import Records
from nas.records import Source
from nas.records import load_records
from nas.records import split
from nas.runs.front_and_knee import non_dominated
from nas.search.config import RecipeSettings
from nas.training.assess import Candidate
from nas.training.assess import outputs
from nas.training.assess import set_up
from nas.training.bank import halves
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import conv
from search_spaces import mlp
from search_spaces.graph.architecture import Architecture
from search_spaces.space import SearchSpace

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "proxy"
MEMBERS, CANDIDATES, NETWORKS, REFERENCES = 2000, 24, 16, 8
SEED, BANK_SEED = 5, 77
BITS = (32, 8, 4, 2, 1)
YARDSTICKS = ("aucs", "rates", "by_rmia")
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """A data set with its space and its candidates."""

    name: str
    pool: Pool
    space: SearchSpace
    candidates: list[Candidate]


@dataclass(frozen=True, eq=False)
class Trained:
    """All networks of one candidate: logits `(networks, records, classes)`, and what each was trained on."""

    logits: NDArray[np.float32]
    trained_on: NDArray[np.bool_]


Proxy: TypeAlias = Callable[[Trained, int, NDArray[np.int64], Bank], Floats]
"""All networks of a candidate, the number of the one to look at, labels, the bank: scores `(records,)`."""


def main() -> None:
    """Train what is not kept yet, score every proxy, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the candidates")
    arguments = parser.parse_args()
    short, seed = arguments.short, arguments.seed
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    count, networks = (12, 8) if short else (CANDIDATES, NETWORKS)
    rows: list[dict[str, object]] = []
    facts: dict[str, object] = {}
    for task in (location30(count, seed), cifar10_small(count, seed)):
        print(f"{task.name}: {count} candidates, {networks} networks each", flush=True)
        train_all(task, networks)
        trained = [collect(task, candidate, networks) for candidate in task.candidates]
        bank = reference_bank(task)
        rows += compare(task, trained, bank)
        facts |= describe(task, trained)
    name = ("proxy_short" if short else "proxy") + (f"_seed{seed}" if seed else "")
    write_results(name, rows, **facts)


def location30(count: int, seed: int = 0) -> Task:
    """Location-30 with multilayer perceptrons."""
    data = split(load_records(Source("location30", SHARED / "location30")), seed=0, members=MEMBERS)
    space = mlp.make_space(data.members.input_shape, data.members.num_classes)
    rng = np.random.default_rng(1 + 2 * seed)
    drawn = [perceptron(space, BITS[number % len(BITS)], rng) for number in range(count)]
    return Task("location30", pool_of(data.members, data.non_members), space, drawn)


def cifar10_small(count: int, seed: int = 0) -> Task:
    """CIFAR-10, pixels averaged two by two, with small convolutional networks."""
    data = split(cifar10_images(), seed=0, members=MEMBERS)
    space = conv.make_space((3, 16, 16), 10)
    rng = np.random.default_rng(2 + 2 * seed)
    drawn = [convolutional(space, BITS[number % len(BITS)], rng) for number in range(count)]
    return Task("cifar10", pool_of(data.members, data.non_members), space, drawn)


def cifar10_images() -> Records:
    """CIFAR-10's first 12,000 images, pixels averaged two by two."""
    with np.load(cifar10(12_000), allow_pickle=False) as stored:
        images, labels = stored["features"], stored["labels"]
    images = images.reshape(len(images), 3, 16, 2, 16, 2).mean(axis=(3, 5)).round().astype(np.uint8)
    return Records(images, labels, tuple(map(str, range(10))))


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
    missing = sum(len(spec.missing(networks)) for spec in specs)
    for done, _ in enumerate(train_missing(specs, networks), start=1):
        if done % 16 == 0:
            print(f"  {task.name}: {done} of {missing} trained", flush=True)


def spec_of(task: Task, candidate: Candidate) -> ShadowSpec:
    """Say what a candidate's networks are."""
    return ShadowSpec(task.pool, candidate, SEED, CACHE)


def collect(task: Task, candidate: Candidate, networks: int) -> Trained:
    """Ask a candidate's networks about the whole pool, or read what they said before."""
    spec = spec_of(task, candidate)
    path = CACHE / f"logits-{spec.key}-{networks}.npz"
    if not path.exists():
        logits = np.stack([outputs(network, task.pool.features) for network in load(spec, networks)])
        files.write_arrays(path, logits=logits)
    masks = np.stack([halves(len(task.pool.labels), number, SEED) for number in range(networks)])
    return Trained(files.read_array(path, "logits"), masks)


def timings(task: Task) -> Floats:
    """Time one training and one look at all records, for some candidates: `(candidates, 2)` seconds of both."""
    seconds = []
    for candidate in task.candidates[::3]:
        rows = task.pool.is_member
        setup = set_up(candidate, task.pool.features[rows], task.pool.labels[rows], SEED)
        since = time.perf_counter()
        network = train(setup)
        trained = time.perf_counter()
        outputs(network, task.pool.features)
        seconds.append((trained - since, time.perf_counter() - trained))
    return np.array(seconds)


def reference_bank(task: Task) -> Bank:
    """Train the small references of another architecture that a search would train, once for all candidates."""
    recipe = RecipeSettings(epochs=20).middle()
    candidate = Candidate(task.space.decode(task.space.reference), recipe)
    spec = ShadowSpec(task.pool, candidate, BANK_SEED, CACHE)
    for _ in train_missing([spec], REFERENCES):
        pass
    return bank_of(task.pool, load(spec, REFERENCES), BANK_SEED)


def compare(task: Task, trained: list[Trained], bank: Bank) -> list[dict[str, object]]:
    """Score every proxy on every turn against the yardsticks: one row for each proxy."""
    labels = task.pool.labels
    audits = [leave_one_out(each, labels) for each in trained]
    yardstick, rates, by_rmia = (np.array([getattr(each, name).mean() for each in audits]) for name in YARDSTICKS)
    errors = np.array([1 - accuracy(each, labels) for each in trained])
    truth = non_dominated(np.stack([errors, yardstick], axis=1))
    took = timings(task)
    rows: list[dict[str, object]] = []
    for name, (proxy, share) in PROXIES.items():
        chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[: int(share * len(labels))])
        seen, known = [some(each, chosen) for each in trained], labels[chosen]
        references = bank.part(records=chosen)
        agreements = []
        since = time.perf_counter()
        for turn in range(len(trained[0].logits)):
            pairs = [(proxy(each, turn, known, references), each.trained_on[turn]) for each in seen]
            found, low = np.array([auc(*pair) for pair in pairs]), [tpr_at_fpr(*pair) for pair in pairs]
            front = non_dominated(np.stack([errors, found], axis=1))
            agreements.append(
                (
                    kendalltau(found, yardstick).statistic,
                    kendalltau(found, by_rmia).statistic,
                    np.abs(found - yardstick).mean(),
                    (found - yardstick).mean(),
                    spearmanr(low, rates).statistic,
                    (front & truth).sum() / truth.sum(),
                    (front & truth).sum() / front.sum(),
                )
            )
        seconds = (time.perf_counter() - since) / len(agreements) / len(trained)
        cost = float(np.median((share * took[:, 1] + seconds) / took[:, 0]))
        rows.append({"data": task.name, "proxy": name, **medians(agreements), "cost_percent": 100 * cost})
    return rows


def some(trained: Trained, rows: NDArray[np.intp]) -> Trained:
    """Look at some records only."""
    return Trained(trained.logits[:, rows], trained.trained_on[:, rows])


def medians(agreements: list[tuple[float, ...]]) -> dict[str, float | None]:
    """Take the median over the turns; of Kendall's tau also the lowest and the highest."""
    table = np.array(agreements)
    names = ("tau", "tau_rmia", "auc_error", "bias", "tpr_spearman", "front_recall", "front_precision")
    # The gap finds nobody at 1 % false alarms: all its rates are 0 and have no order.
    middle = [None if np.isnan(value) else float(value) for value in np.median(table, axis=0)]
    found = dict(zip(names, middle, strict=True))
    return {**found, "tau_low": float(table[:, 0].min()), "tau_high": float(table[:, 0].max())}


@dataclass(frozen=True, eq=False)
class Audited:
    """Each network attacked by the others: AUC and TPR at 1 % FPR of online LiRA, AUC of online RMIA, `(networks,)`."""

    aucs: Floats
    rates: Floats
    by_rmia: Floats


def leave_one_out(trained: Trained, labels: NDArray[np.int64]) -> Audited:
    """Attack each of a candidate's networks by the others."""
    turns = range(len(trained.logits))
    pairs, by_rmia = (
        [(by_the_others(trained, turn, labels, attack), trained.trained_on[turn]) for turn in turns]
        for attack in (lira_online.attack, rmia_online.attack)
    )
    figures = [auc(*pair) for pair in pairs], [tpr_at_fpr(*pair) for pair in pairs], [auc(*pair) for pair in by_rmia]
    return Audited(*map(np.array, figures))


def by_the_others(
    trained: Trained, turn: int, labels: NDArray[np.int64], attack: Callable[[Evidence], Floats]
) -> Floats:
    """Attack one of a candidate's networks with the others as references."""
    others = np.arange(len(trained.logits)) != turn
    rest = Bank(trained.logits[others], trained.trained_on[others], labels)
    return attack(Evidence(trained.logits[turn], labels, rest))


def accuracy(trained: Trained, labels: NDArray[np.int64]) -> float:
    """Return the share of records left out that the networks get right."""
    return float((trained.logits.argmax(axis=2) == labels)[~trained.trained_on].mean())


def alone(attack: Callable[[Evidence], Floats]) -> Proxy:
    """Make a proxy of an attack that reads the candidate and the bank."""
    return lambda trained, turn, labels, bank: attack(Evidence(trained.logits[turn], labels, bank))


def with_two(attack: Callable[[Evidence], Floats]) -> Proxy:
    """The same, with two references only."""

    def proxy(trained: Trained, turn: int, labels: NDArray[np.int64], bank: Bank) -> Floats:
        return attack(Evidence(trained.logits[turn], labels, bank.part(slice(2))))

    return proxy


def ceiling(attack: Callable[[Evidence], Floats]) -> Proxy:
    """A full audit of the one network by the others of its own recipe: what no cheap proxy can be expected to beat."""
    return lambda trained, turn, labels, _bank: by_the_others(trained, turn, labels, attack)


PROXIES: dict[str, tuple[Proxy, float]] = {
    "accuracy gap": (alone(gap.attack), 1.0),
    "loss": (alone(loss.attack), 1.0),
    "raw calibration": (alone(calibrated_loss.attack), 1.0),
    "offline RMIA, 8 references": (alone(rmia.attack), 1.0),
    "offline RMIA, 2 references": (with_two(rmia.attack), 1.0),
    "fitted LiRA, 8 references": (alone(lira_fitted.attack), 1.0),
    "fitted LiRA, 2 references": (with_two(lira_fitted.attack), 1.0),
    "fitted LiRA, a quarter of the records": (alone(lira_fitted.attack), 0.25),
    "ceiling: online LiRA, one network": (ceiling(lira_online.attack), 1.0),
    "ceiling: online RMIA, one network": (ceiling(rmia_online.attack), 1.0),
}
"""And the share of the records that each looks at."""


def describe(task: Task, trained: list[Trained]) -> dict[str, object]:
    """State how far apart the candidates are."""
    labels = task.pool.labels
    audits = [leave_one_out(each, labels).aucs for each in trained]
    return {
        f"{task.name}_audit_auc": [round(float(each.mean()), 4) for each in audits],
        f"{task.name}_audit_sd_over_networks": round(float(np.median([each.std(ddof=1) for each in audits])), 4),
        f"{task.name}_accuracy": [round(accuracy(each, labels), 3) for each in trained],
    }


if __name__ == "__main__":
    main()
