"""What the exit that answered gives away, and how number and depth of early exits move the leakage.

The questions of Li et al. (2022, "Auditing Membership Leakages of Multi-Exit Networks"), on three backbones: a
perceptron on Location-30, a small CNN and one of residual blocks on CIFAR-10 (16 x 16), 1,000 members each. Every
version of a network is trained eight times on each of three draws of the records, on random halves of 2,000. Four
trainings of each draw are attacked by the other seven:

- `exit_index` with the exit, with the exit recovered from simulated latencies, and without it: the same attack that is
  told that all records left at one exit;
- RMIA online, which does not look at exits.

Latencies are those of the STM32H747 by exit, measured five times with Gaussian noise of a fifth of the smallest gap
between two exits. Records are told apart by the valleys between latencies; which exit a group left by is known from the
latencies of the attacker's own networks. Intervals are Student's over the attacked trainings, 95 %; trainings of one
draw share its records.

    python benchmarks/exits.py            # an hour on two cores the first time; networks are kept
    python benchmarks/exits.py --short    # one draw, four trainings, two versions
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
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
from estimators.leakage.attacks import exit_index
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Evidence
from estimators.leakage.shared.exit_times import exits_from_latencies
from estimators.leakage.statistics.auc_and_rates import auc
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.pricing.by_exit import price_by_exit
from nas.pricing.price import cost_metrics
from nas.records import Records
from nas.records import Source
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.spaces import compressible
from nas.spaces import space_named
from nas.training.assess import Candidate
from nas.training.assess import outputs
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "exits"
MEMBERS, SEED, DRAWS, TRAININGS, ATTACKED = 1000, 12, 3, 8, 4
DEVICE, NOISE, REPEATS = "stm32h747", 0.2, 5
EXITS = {"exits.threshold": 0.5, "exits.width": 64}
NONE, HEADLINE = "no exits", "3 exits"
VERSIONS: Mapping[str, Params] = {
    NONE: {"exits.count": 0},
    "1 exit, early": {"exits.count": 1, "exits.place": "early"},
    "1 exit, middle": {"exits.count": 1, "exits.place": "even"},
    "1 exit, late": {"exits.count": 1, "exits.place": "late"},
    "2 exits": {"exits.count": 2, "exits.place": "even"},
    HEADLINE: {"exits.count": 3, "exits.place": "even"},
}
HALF_A_POINT = 0.005


@dataclass(frozen=True)
class Backbone:
    """A data set, and a network without exits.

    Attributes:
        name: For the table.
        records: All records.
        space: Its search space.
        point: What differs from the space's reference.
        epochs: Of each training.
    """

    name: str
    records: Records
    space: str
    point: Params
    epochs: int

    def candidate(self, version: str) -> Candidate:
        """The network with a version's exits, in float."""
        made = compressible(space_named(self.space, self.records.input_shape, self.records.num_classes), ["exits"])
        point = {**made.reference, **self.point, **EXITS, **VERSIONS[version]}
        return Candidate(made.decode(point).as_float(), Recipe(epochs=self.epochs))


@dataclass(frozen=True, eq=False)
class Draw:
    """One division of the records."""

    data: Splits
    pool: Pool


def main() -> None:
    """Train, attack, and hold what was published."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    draws, trainings, attacked = (1, 4, 2) if short else (DRAWS, TRAININGS, ATTACKED)
    versions = (NONE, HEADLINE) if short else tuple(VERSIONS)
    rows, verdicts = [], {}
    for backbone in backbones(short=short):
        divided = [draw_of(backbone, number) for number in range(draws)]
        for version in versions:
            found = [figures(backbone, version, draw, trainings, attacked) for draw in divided]
            together = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
            rows.append(row_of(backbone, version, together))
            if version == HEADLINE:
                verdicts[f"{backbone.name}: with the exit at least without it less half a point"] = verdict(together)
    write_results("exits_short" if short else "exits", rows, **verdicts)


def backbones(*, short: bool) -> list[Backbone]:
    """The three networks; with a third of the epochs in short."""
    location, images = load_records(Source("location30", SHARED / "location30")), cifar10_images()
    wide = {f"layer{layer}_width": 128 for layer in (1, 2, 3, 4)}
    blocks = {f"block{block}_width": 32 for block in (1, 2, 3, 4)} | {"block1_stride": 1, "block3_stride": 1}
    found = [
        Backbone("perceptron, Location-30", location, "mlp", {"depth": 4, **wide}, 25),
        Backbone("CNN, CIFAR-10", images, "conv", {"depth": 4, **blocks}, 30),
        Backbone(
            "residual blocks, CIFAR-10", images, "resnet", {"stages": 3, "stem_width": 16, "stage1_blocks": 2}, 40
        ),
    ]
    return [replace(one, epochs=one.epochs // 3) for one in found] if short else found


def draw_of(backbone: Backbone, number: int) -> Draw:
    """Divide a backbone's records anew."""
    data = split(backbone.records, seed=number, members=MEMBERS)
    return Draw(data, pool_of(data.members, data.non_members))


def figures(
    backbone: Backbone, version: str, draw: Draw, trainings: int, attacked: int
) -> dict[str, NDArray[np.float64]]:
    """Train one version on one draw, and attack some of its trainings by the others: a number of each for each."""
    candidate = backbone.candidate(version)
    spec = ShadowSpec(draw.pool, candidate, SEED, CACHE)
    for _ in train_missing([spec], trainings):
        print(".", end="", flush=True)
    networks = load(spec, trainings)
    bank, labels = bank_of(draw.pool, networks, SEED), draw.pool.labels
    exits = np.zeros(bank.trained_on.shape, np.int64) if bank.exits is None else bank.exits
    found: dict[str, list[float]] = {}
    last = len(candidate.architecture.outputs) - 1
    for own in range(attacked):
        is_member = bank.trained_on[own]
        others = bank.part([other for other in range(trainings) if other != own])
        recovered = recovered_exits(candidate.architecture, exits[own], seed_from(SEED, spec.key, own))
        known = replace(others, exits=np.delete(exits, own, axis=0))
        unknown = replace(others, exits=np.zeros_like(known.exits))
        evidence = Evidence(bank.logits[own], labels, known, exits=exits[own])
        blind = replace(evidence, bank=unknown, exits=np.zeros_like(exits[own]))
        validation = draw.data.validation
        answers = outputs(networks[own], validation.features)
        one = {
            "error": float(np.mean(answers.argmax(axis=1) != validation.labels)),
            "members early": float(np.mean(exits[own][is_member] < last)),
            "others early": float(np.mean(exits[own][~is_member] < last)),
            "with": auc(exit_index.attack(evidence), is_member),
            "recovered": auc(exit_index.attack(replace(evidence, exits=recovered)), is_member),
            "without": auc(exit_index.attack(blind), is_member),
            "rmia_online": auc(rmia_online.attack(evidence), is_member),
            "right": float(np.mean(recovered == exits[own])),
        }
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def recovered_exits(architecture: Architecture, exits: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Tell the exits of records from latencies that are measured a few times with noise.

    The valleys tell groups apart, and number them from 0. A group is named by the nearest latency of an exit: numbers
    behind an exit that no record leaves by would be wrong.
    """
    count = len(architecture.outputs)
    if count == 1:
        return exits
    device = load_device(DEVICE)
    costs = price_by_exit(architecture, [1] * count, device, cost_metrics(device)).costs
    latencies = np.array([cost["latency_ms"].value for cost in costs])
    noise = NOISE * np.diff(latencies).min()
    rng = np.random.default_rng(seed)
    measured = latencies[exits] + rng.normal(0, noise, (REPEATS, len(exits)))
    groups = exits_from_latencies(measured, count)
    middles = np.array([np.median(measured[:, groups == group]) for group in range(groups.max() + 1)])
    return np.abs(middles[:, None] - latencies).argmin(axis=1)[groups]


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return a mean and the ends of Student's 95 % interval."""
    mean, count = float(values.mean()), len(values)
    half = float(t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def row_of(backbone: Backbone, version: str, found: Mapping[str, NDArray[np.float64]]) -> dict[str, object]:
    """One line: means over the attacked trainings, and what the exit adds."""
    row: dict[str, object] = {"backbone": backbone.name, "version": version, "attacked": len(found["error"])}
    row |= {name: round(float(found[name].mean()), 4) for name in ("error", "members early", "others early")}
    for name in ("with", "recovered", "without", "rmia_online"):
        mean, low, high = interval(found[name])
        row |= {name: round(mean, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
    added = interval(found["with"] - found["without"])
    row |= {"added": f"{added[0]:+.3f} ({added[1]:+.3f} to {added[2]:+.3f})"}
    return row | {"recovered right": round(float(found["right"].mean()), 4)}


def verdict(found: Mapping[str, NDArray[np.float64]]) -> str:
    """Say whether the exit costs the attack half a point at most."""
    mean, low, high = interval(found["with"] - found["without"])
    return f"{'met' if mean >= -HALF_A_POINT else 'not met'}: {mean:+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
