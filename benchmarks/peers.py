"""Our attacks and those of other tools on the same arrays: what each finds, and what it takes.

Two networks with 16 shadows each: a perceptron on 2,000 + 2,000 records of Location-30, which knows its members by
heart, and a small CNN on 2,000 + 2,000 CIFAR-10 images (16 x 16), trained with augmentation, which does not. Every
attack reads the same answers, in a process of its own: AUC, TPR at 1 % and .1 % false alarms, seconds of scoring, and
the peak memory of its process. With 2,000 non-members the TPR at .1 % rests on two of them: read it as a hint.

    python benchmarks/peers.py                               # ours alone
    python -m venv peers-venv
    peers-venv/bin/pip install tensorflow-cpu==2.15.1 tensorflow-probability==0.23.0 scikit-learn pandas
    peers-venv/bin/pip install --no-deps tensorflow-privacy==0.8.12 Privacy-Meter==1.0.1 dp-accounting==0.4.3
    python benchmarks/peers.py --peers-python peers-venv/bin/python
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from attacks import SEED
from attacks import SHADOWS
from attacks import Task
from attacks import augmented
from attacks import cifar10
from attacks import location30
from attacks import shadows_of
from numpy.typing import NDArray
from peer_attacks import ATTACKS as PEERS
from report import write_results
from shared_data import SHARED

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from nas.audit.oracles import of_network
from nas.audit.shadows import bank_of
from nas.base import plugins
from nas.training.assess import set_up
from nas.training.loop import train

OURS = (
    "lira",
    "lira_online",
    "lira_fitted",
    "bavaria",
    "rmia",
    "rmia_tuned",
    "rmia_online",
    "calibrated_loss",
    "shokri",
    "forest",
)
QUICK = 4
ABSENT = {
    "PrivacyGuard (Meta)": "not in the package index under its own name; install from its repository",
    "LeakPro": "the package index holds an empty placeholder; install from its repository",
    "Privacy Meter 2": "not in the package index, which holds 1.0.1; install from its repository",
}


def main() -> None:
    """Train, attack by ours and by the peers, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, help="Python of an environment with the peers.")
    python = parser.parse_args().peers_python
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    absent = dict(ABSENT)
    if python is None:
        absent |= {"tensorflow-privacy, Privacy-Meter": "no --peers-python; `peers.py --help` says how to install"}
    rows: list[dict[str, object]] = []
    for name, task in {"location30": location30(), "cifar10, augmented": augmented(cifar10(members=2000))}.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arrays.npz"
            is_member = task.pool.is_member
            write_arrays(path, task)
            for count in (SHADOWS, QUICK):
                rows += [by_ours(name, path, attack, count, is_member) for attack in OURS]
            rows += [by_peer(name, path, attack, python, is_member) for attack in PEERS if python is not None]
    write_results("peers", rows, absent=absent)


def write_arrays(path: Path, task: Task) -> None:
    """Train the network and its shadows, and store their answers."""
    members = task.data.members
    oracle = of_network(train(set_up(task.candidate, members.features, members.labels, SEED + 1)))
    bank = bank_of(task.pool, shadows_of(task), SEED)
    logits = oracle.query(task.pool.features)
    np.savez(
        path,
        logits=logits,
        labels=bank.labels,
        bank=bank.logits,
        trained_on=bank.trained_on,
        phi=scaled_logit(logits, bank.labels),
        references=np.stack([scaled_logit(each, bank.labels) for each in bank.logits]),
    )


def by_ours(network: str, path: Path, attack: str, count: int, is_member: NDArray[np.bool_]) -> dict[str, object]:
    """Score by one of our attacks in a process of its own, forked: it starts with what this one has in memory."""
    with get_context("fork").Pool(1) as pool:
        scores, costs = pool.apply(scored, (path, attack, count))
    return {
        "network": network,
        "tool": "gecko-nas",
        "attack": attack,
        "shadows": count,
        **figures(scores, is_member),
    } | costs


def scored(path: Path, attack: str, count: int) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Return the scores with the first shadows, and what they cost."""
    torch.set_num_threads(1)
    with np.load(path, allow_pickle=False) as stored:
        bank = Bank(stored["bank"][:count], stored["trained_on"][:count], stored["labels"])
        evidence = Evidence(stored["logits"], stored["labels"], bank)
    score = plugins.load("estimators.leakage.attacks", attack, "attack")
    since = time.perf_counter(), time.process_time()
    scores = score(evidence)
    seconds, cpu = time.perf_counter() - since[0], time.process_time() - since[1]
    return scores, costs_of(seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def by_peer(network: str, path: Path, attack: str, python: Path, is_member: NDArray[np.bool_]) -> dict[str, object]:
    """Score by a peer's attack in the peer's environment."""
    target = path.with_name("scores.npz")
    script = Path(__file__).with_name("peer_attacks.py")
    subprocess.run([str(python), str(script), str(path), attack, str(target)], check=True, stderr=subprocess.DEVNULL)
    with np.load(target, allow_pickle=False) as found:
        costs = costs_of(*(float(found[key]) for key in ("seconds", "cpu", "peak")))
        what = {"network": network, "tool": str(found["peer"]), "attack": attack, "shadows": SHADOWS}
        return what | figures(found["scores"], is_member) | costs


def figures(scores: NDArray[np.float64], is_member: NDArray[np.bool_]) -> dict[str, float]:
    """Return what an attack found."""
    rates = {f"tpr_at_{name}pct_fpr": tpr_at_fpr(scores, is_member, fpr) for name, fpr in (("1", 0.01), ("0_1", 0.001))}
    return {"auc": float(auc(scores, is_member))} | {name: float(rate) for name, rate in rates.items()}


def costs_of(seconds: float, cpu: float, peak_gib: float) -> dict[str, float]:
    """Name what an attack took. On a busy machine read the seconds of CPU."""
    return {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "peak_gib": round(peak_gib, 2)}


if __name__ == "__main__":
    main()
