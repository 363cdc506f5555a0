"""How long an audit takes: scoring against many references, Shapley values, and a standard audit end to end.

- LiRA and RMIA, online and offline: 50,000 records of 10 classes against 64 references, each attack in a process of its
  own; seconds, and the peak memory of that process, the bank in it.
- SHAPr: 10,000 training records, 2,000 test records, 10 classes.
- A standard audit, 16 shadows, of a small CNN on 2,000 + 2,000 CIFAR-10 images (16 x 16): shadows in one process for
  each core, then every attack of that effort.

    python benchmarks/audit_speed.py
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from attacks import SEED
from attacks import SHADOWS
from attacks import cifar10
from report import write_results

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Population
from estimators.leakage.statistics.record_risk import shapr
from nas.audit.attack_all import audit
from nas.audit.oracles import of_network
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.base import plugins
from nas.training.assess import set_up
from nas.training.bank import halves
from nas.training.loop import train

RECORDS, REFERENCES, CLASSES = 50_000, 64, 10
ATTACKS = ("lira", "lira_online", "rmia", "rmia_online", "lira_fitted")


def main() -> None:
    """Time each part and say whether it keeps to its limit."""
    rows: list[dict[str, object]] = []
    for name in ATTACKS:
        with get_context("spawn").Pool(1) as pool:
            seconds, gib = pool.apply(scored, (name,))
        rows.append({"what": f"{name}, 50,000 x 64", "seconds": seconds, "limit_s": 10, "peak_gib": gib})
    rows.append({"what": "SHAPr, 10,000 x 2,000", "seconds": shapley(), "limit_s": 60})
    training, attacking = standard_audit()
    rows.append({"what": "standard audit: shadows", "seconds": training})
    rows.append({"what": "standard audit: attacks", "seconds": attacking})
    rows.append({"what": "standard audit", "seconds": training + attacking, "limit_s": 600})
    write_results("audit_speed", rows)


def scored(name: str) -> tuple[float, float]:
    """Score all records by one attack: seconds, and peak memory of the process in GiB, the bank included."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, RECORDS)
    logits = rng.normal(size=(REFERENCES, RECORDS, CLASSES)).astype(np.float32)
    bank = Bank(logits, np.stack([halves(RECORDS, number, 0) for number in range(REFERENCES)]), labels)
    evidence = Evidence(rng.normal(size=(RECORDS, CLASSES)).astype(np.float32), labels, bank)
    attack = plugins.load("estimators.leakage.attacks", name, "attack")
    since = time.perf_counter()
    attack(evidence)
    return time.perf_counter() - since, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def shapley() -> float:
    """Time the Shapley values of 10,000 records."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(12_000, CLASSES)), rng.integers(0, CLASSES, 12_000)
    since = time.perf_counter()
    shapr(logits[:10_000], labels[:10_000], logits[10_000:], labels[10_000:])
    return time.perf_counter() - since


def standard_audit() -> tuple[float, float]:
    """Time the shadows and the attacks of a standard audit, from an empty cache."""
    task = cifar10(members=2000)
    features, labels = task.data.members.features, task.data.members.labels
    network = train(set_up(task.candidate, features, labels, SEED + 1))
    with tempfile.TemporaryDirectory() as folder:
        spec = replace(task.spec, folder=Path(folder))
        since = time.perf_counter()
        for _ in train_missing([spec], SHADOWS):
            pass
        trained = time.perf_counter()
        oracle, known = of_network(network), task.data.reserve
        evidence = Evidence(
            logits=oracle.query(task.pool.features),
            labels=task.pool.labels,
            bank=bank_of(task.pool, load(spec, SHADOWS), SEED),
            features=task.pool.features,
            oracle=oracle,
            population=Population(known.features, known.labels, oracle.query(known.features)),
        )
        audit(evidence, task.pool.is_member, seed=0)
    return trained - since, time.perf_counter() - trained


if __name__ == "__main__":
    main()
