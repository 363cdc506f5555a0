"""Every attack on the same networks: how much each finds, how long it takes, and whether published relations hold.

Five networks, each with 16 shadows by its own recipe, attacked as `nas audit --effort full` does:

- a CNN that knows 2,500 CIFAR-10 images (16 x 16) by heart, among as many others;
- a perceptron that knows 2,000 records of Location-30 by heart;
- the same perceptron with 70 % of its weights pruned by magnitude and half of the epochs again, the shadows alike;
- the same CNN, hardly trained: 1-bit blocks, 3 epochs, weight decay 0.3. It leaks least of these and is *not*
  differentially private;
- an independent perceptron, trained on other records altogether: nobody is a member, and no attack may find one.

    python benchmarks/attacks.py             # about twenty minutes on two cores; trained shadows are kept
    python benchmarks/attacks.py --short     # Location-30 alone, without label_boundary and samia
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from proxy import cifar10_images
from proxy import pool_of
from report import write_results
from shared_data import SHARED
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from estimators.estimate import flat
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Population
from nas.audit.attack_all import audit
from nas.audit.attack_all import runnable
from nas.audit.findings import Audit
from nas.audit.oracles import of_network
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.records import Source
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.training.assess import Candidate
from nas.training.assess import set_up
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import conv
from search_spaces import mlp

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "attacks"
SHADOWS, SEED, SPARSITY = 16, 9, 0.7
COSTLY = ("label_boundary", "samia")
THRESHOLDS = ("loss", "confidence", "entropy", "modified_entropy")
LABEL_ONLY = ("label_augment", "label_noise", "label_boundary")
POINT = 0.01


@dataclass(frozen=True, eq=False)
class Task:
    """A data set, and one network's architecture and recipe."""

    data: Splits
    pool: Pool
    candidate: Candidate

    @property
    def spec(self) -> ShadowSpec:
        """The network's shadows."""
        return ShadowSpec(self.pool, self.candidate, SEED, CACHE)


def main() -> None:
    """Train, attack, and hold the relations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    skip = COSTLY if short else ()
    perceptron = location30()
    audits = {"location30": attacked(perceptron, skip=skip), "location30, pruned": attacked_pruned(perceptron, skip)}
    audits["location30, independent"] = attacked(perceptron, skip=COSTLY, independent=True)
    if not short:
        network = cifar10()
        audits["cifar10"] = attacked(network)
        quiet = replace(network, candidate=hardly_trained(network.candidate))
        audits["cifar10, hardly trained"] = attacked(quiet, skip=COSTLY)
    rows = [row for name, found in audits.items() for row in rows_of(name, found)]
    write_results("attacks_short" if short else "attacks", rows, **relations(audits))


def location30() -> Task:
    """Location-30 and a perceptron that learns it by heart."""
    data = split(load_records(Source("location30", SHARED / "location30")), seed=0, members=2000)
    space = mlp.make_space(data.members.input_shape, data.members.num_classes)
    architecture = space.decode({**space.reference, "layer1_width": 128}).as_float()
    return Task(data, pool_of(data.members, data.non_members), Candidate(architecture, Recipe(epochs=20)))


def cifar10(members: int = 2500) -> Task:
    """CIFAR-10 and a small convolutional network that learns it by heart."""
    data = split(cifar10_images(), seed=0, members=members)
    space = conv.make_space((3, 16, 16), 10)
    blocks = {f"block{block}_{part}": value for block in (1, 2) for part, value in BLOCK.items()}
    params = {**space.reference, "depth": 2, "stem_width": 32, "stem_stride": 2, "head": "flatten", **blocks}
    architecture = space.decode(params).as_float()
    return Task(data, pool_of(data.members, data.non_members), Candidate(architecture, Recipe(epochs=30)))


def augmented(task: Task) -> Task:
    """The same network, trained on flipped and shifted images: it does not learn its members by heart."""
    return replace(task, candidate=Candidate(task.candidate.architecture, Recipe(epochs=20, augment="flip-crop")))


BLOCK = {"kind": "plain", "width": 32, "kernel": 3, "stride": 1, "residual": False, "weight_bits": 1}


def hardly_trained(candidate: Candidate) -> Candidate:
    """The same graph with 1-bit weights, three epochs and a strong decay."""
    quantised = candidate.architecture.without_float(8)
    ops = tuple(op._replace(weight_bits=1) if op.kind == "conv" else op for op in quantised.ops)
    return Candidate(replace(quantised, ops=ops), Recipe(epochs=3, weight_decay=0.3))


def attacked(task: Task, *, skip: tuple[str, ...] = (), independent: bool = False) -> Audit:
    """Audit a network; an independent one is trained on the other sets, as many records of them as there are."""
    records = task.data.members
    if independent:
        parts = (task.data.test, task.data.validation)
        features, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels"))
    else:
        features, labels = records.features, records.labels
    network = train(set_up(task.candidate, features, labels, SEED + 1))
    return audited(task, network, shadows_of(task), skip)


def attacked_pruned(task: Task, skip: tuple[str, ...]) -> Audit:
    """Audit a network that was pruned and trained on, with shadows that were, too."""
    pool = task.pool
    members = np.flatnonzero(pool.is_member)
    network = train(set_up(task.candidate, pool.features[members], pool.labels[members], SEED + 1))
    rows = [pool.rows(shadow, SEED) for shadow in range(SHADOWS)]
    shadows = [pruned(shadow, task, own) for shadow, own in zip(shadows_of(task), rows, strict=True)]
    return audited(task, pruned(network, task, members), shadows, skip)


def shadows_of(task: Task) -> list[nn.Module]:
    """Train the shadows that are not kept yet."""
    for done, _ in enumerate(train_missing([task.spec], SHADOWS), start=1):
        print(f"  shadow {done}", flush=True)
    return list(load(task.spec, SHADOWS))


def pruned(network: nn.Module, task: Task, rows: NDArray[np.intp]) -> nn.Module:
    """Zero the smallest weights of each layer and train half of the epochs on, the zeros held."""
    network = copy.deepcopy(network)
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer in layers:
        prune.l1_unstructured(layer, "weight", SPARSITY)
    features, labels = torch.from_numpy(task.pool.features[rows]), torch.from_numpy(task.pool.labels[rows])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(SEED)
    network.train()
    for _ in range(task.candidate.recipe.epochs // 2):
        for batch in torch.randperm(len(features), generator=order).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(network(features[batch]), labels[batch]).backward()
            optimizer.step()
    for layer in layers:
        prune.remove(layer, "weight")
    return network.eval()


def audited(task: Task, network: nn.Module, shadows: list[nn.Module], skip: tuple[str, ...]) -> Audit:
    """Attack a network by all that is not left out."""
    oracle, known = of_network(network), task.data.reserve
    features = task.pool.features
    evidence = Evidence(
        logits=oracle.query(features),
        labels=task.pool.labels,
        bank=bank_of(task.pool, shadows, SEED),
        features=features,
        oracle=oracle,
        population=Population(known.features, known.labels, oracle.query(known.features)),
    )
    names, _ = runnable("full", evidence.holds, SHADOWS)
    chosen = [name for name in names if name not in skip]
    look = lambda name: print(f"  {name}", flush=True)  # noqa: E731
    return audit(evidence, task.pool.is_member, seed=0, effort="full", attacks=chosen, look=look)


def rows_of(name: str, found: Audit) -> list[dict[str, object]]:
    """One row for each attack, the strongest first."""
    return [
        {
            "network": name,
            "attack": each.attack,
            **flat({"auc": each.auc}),
            "tpr_at_1pct_fpr": None if each.tpr[0.01] is None else each.tpr[0.01].value,
            "over_gap": each.over_gap.estimate.value,
            "seconds": round(each.seconds, 2),
        }
        for each in found.findings
    ]


def relations(audits: dict[str, Audit]) -> dict[str, object]:
    """Hold the published relations: what was compared, and whether it is met."""
    found: dict[str, object] = {}
    for name, each in audits.items():
        aucs = {finding.attack: finding.auc.value for finding in each.findings}
        if name.endswith("independent"):
            holding = [finding.attack for finding in each.findings if finding.auc.low <= 0.5 <= finding.auc.high]
            found[f"{name}: intervals that hold .5"] = f"{len(holding)} of {len(aucs)}"
            continue
        if "hardly" in name:
            continue
        black_box = max((attack for attack in aucs if attack != "white_box"), key=lambda attack: aucs[attack])
        found[f"{name}: white_box >= {black_box} - .01"] = verdict(aucs["white_box"], aucs[black_box] - POINT)
        found[f"{name}: lira_online >= loss"] = verdict(aucs["lira_online"], aucs["loss"])
        found[f"{name}: rmia_online >= loss"] = verdict(aucs["rmia_online"], aucs["loss"])
        by_threshold = max(aucs[attack] for attack in aucs if attack.startswith(THRESHOLDS))
        if "samia" in aucs:
            found[f"{name}: samia >= best threshold - .01"] = verdict(aucs["samia"], by_threshold - POINT)
        labels = [attack for attack in LABEL_ONLY if attack in aucs]
        best = max(labels, key=lambda attack: aucs[attack])
        found[f"{name}: {best} >= loss - .05"] = verdict(aucs[best], aucs["loss"] - 5 * POINT)
    return found


def verdict(value: float, least: float) -> str:
    """Say whether a value reaches what it should."""
    return f"{'met' if value >= least else 'not met'}: {value:.3f}, expected {least:.3f}"


if __name__ == "__main__":
    main()
