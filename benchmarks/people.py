"""Shadow models halved by person and by record, and what is found of people and of records.

Made people: each of 1,000 records of Location-30 stands for a person, who has four records of the same class, copies in
which a tenth of the places that anybody of that class has visited are flipped. A perceptron learns the records of half
of the people. Its shadow models are trained on halves of the people, or on halves of the records, where the shadow
models know nearly everybody in part.

    python benchmarks/people.py            # about five minutes on one core; trained networks are kept
    python benchmarks/people.py --short    # one network
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import write_results
from shared_data import SHARED

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from nas.audit.attack_all import audit
from nas.audit.findings import Origin
from nas.audit.oracles import of_network
from nas.audit.people import divided
from nas.base import files
from nas.records import Source
from nas.records import load_records
from nas.training.assess import Candidate
from nas.training.assess import set_up
from nas.training.bank import halves
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from
from search_spaces import mlp

PEOPLE, EACH, FLIPPED, SHADOWS, EPOCHS, NETWORKS, SEED = 1000, 4, 0.1, 16, 2, 4, 31
ATTACKS = ("gap", "loss", "rmia_online", "lira_online")
CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "people"


@dataclass(frozen=True, eq=False)
class Task:
    """The records, whose they are, and the network."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    person: NDArray[np.int64]
    candidate: Candidate

    def logits(self, mask: NDArray[np.bool_], seed: int) -> NDArray[np.float32]:
        """Train on some records and return the answers about all; kept from one run to the next."""
        rows = np.flatnonzero(mask)
        path = CACHE / f"{seed_from(seed, EPOCHS, FLIPPED, *rows.tolist())}.npz"
        if path.exists():
            return files.read_array(path, "logits")
        network = train(set_up(self.candidate, self.features[rows], self.labels[rows], seed))
        logits = of_network(network).query(self.features)
        files.write_arrays(path, logits=logits)
        return logits

    def bank(self, groups: NDArray[np.int64] | None) -> Bank:
        """Return shadow models, halved by group or by record."""
        masks = np.stack([halves(len(self.labels), number, SEED, groups) for number in range(SHADOWS)])
        logits = [self.logits(mask, seed_from(SEED, number)) for number, mask in enumerate(masks)]
        return Bank(np.stack(logits), masks, self.labels)


def main() -> None:
    """Train, audit, and average over networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    task = made_people()
    banks = {"by person": task.bank(task.person), "by record": task.bank(None)}
    rows: list[dict[str, object]] = []
    for name, bank in banks.items():
        found = [audited(task, bank, number) for number in range(1 if short else NETWORKS)]
        for attack in ATTACKS:
            records, people = np.mean([each[attack] for each in found], axis=0)
            rows.append(
                {
                    "shadow models halved": name,
                    "people known in part": round(divided(bank, task.person), 3),
                    "attack": attack,
                    "auc_records": round(float(records), 3),
                    "auc_people": round(float(people), 3),
                }
            )
    write_results("people_short" if short else "people", rows)


def audited(task: Task, bank: Bank, number: int) -> dict[str, tuple[float, float]]:
    """Train a network on half of the people and attack it: AUC by record and by person."""
    chosen = np.random.default_rng([SEED, number]).permutation(PEOPLE)[: PEOPLE // 2]
    is_member = np.isin(task.person, chosen)
    logits = task.logits(is_member, seed_from(SEED, "network", number))
    origin = Origin(groups=task.person)
    found = audit(Evidence(logits, task.labels, bank), is_member, seed=0, attacks=ATTACKS, origin=origin)
    assert found.people is not None
    people = {each.attack: each.auc.value for each in found.people.findings}
    return {each.attack: (each.auc.value, people[each.attack]) for each in found.findings}


def made_people() -> Task:
    """Make people of records of Location-30."""
    records = load_records(Source("location30", SHARED / "location30"))
    rng = np.random.default_rng(SEED)
    base = rng.permutation(len(records))[:PEOPLE]
    labels, person = np.repeat(records.labels[base], EACH), np.repeat(np.arange(PEOPLE), EACH)
    features = np.repeat(records.features[base], EACH, axis=0)
    visited = np.stack([records.features[records.labels == label].max(axis=0) > 0 for label in range(30)])
    turned = (rng.random(features.shape) < FLIPPED) & visited[labels]
    features = np.where(turned, 1 - features, features)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-3)
    space = mlp.make_space(records.input_shape, records.num_classes)
    architecture = space.decode({**space.reference, "layer1_width": 128}).as_float()
    return Task(features.astype(np.float32), labels, person, Candidate(architecture, Recipe(epochs=EPOCHS)))


if __name__ == "__main__":
    main()
