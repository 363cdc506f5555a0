"""Which constant RMIA should use: the published 0.3, another, or one tuned on the bank.

Location-30, 2,000 members and 2,000 others, 12 multilayer perceptrons that differ in width, epochs and weight decay.
Each is attacked by offline RMIA against a bank of eight small references, once trained as long as an average candidate
and once stopped early, for every slope; the yardstick is online LiRA with ten shadow networks of the candidate's own
architecture and recipe. Tuned means: the slope by which the references betray each other most.

    python benchmarks/rmia_slope.py
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from report import write_results
from scipy.stats import kendalltau
from shared_data import SHARED

from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import rmia
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import auc
from nas.records import Source
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.training.bank import halves
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.mlp import make_space

SLOPES = tuple(step / 10 for step in range(10))
REFERENCES, SHADOWS = 8, 10
BANKS = {"trained as long": 30, "stopped early": 6}
# Width, epochs, weight decay.
CANDIDATES = (
    (32, 10, 1e-4), (64, 4, 1e-4), (64, 8, 1e-4), (64, 30, 1e-4), (128, 15, 1.0), (128, 30, 1.0),
    (256, 4, 1e-4), (256, 30, 1e-4), (16, 20, 1e-4), (32, 3, 1e-4), (128, 10, 3.0), (16, 40, 0.3),
)  # fmt: skip
Floats = NDArray[np.float64]


def main() -> None:
    """Train candidates, shadows and banks, and report rank correlation and error by slope."""
    if not (SHARED / "location30").exists():
        sys.exit("skipped: no Location-30 beside the repository's parent folder")
    torch.set_num_threads(1)
    data = split(load_records(Source("location30", SHARED / "location30")), seed=0, members=2000)
    pool = Pool(data)
    is_member = np.arange(len(pool.labels)) < len(data.members)
    candidates = [pool.logits(is_member, *setting, seed=99) for setting in CANDIDATES]
    audits = [
        online_lira(pool, setting, logits, is_member) for setting, logits in zip(CANDIDATES, candidates, strict=True)
    ]
    rows: list[dict[str, object]] = []
    for name, epochs in BANKS.items():
        masks = np.stack([halves(len(pool.labels), reference, 7) for reference in range(REFERENCES)])
        logits = np.stack([pool.logits(mask, 64, epochs, 1e-4, seed=50 + i) for i, mask in enumerate(masks)])
        bank = Bank(logits, masks, pool.labels)
        tuned = tune(bank)
        for slope in SLOPES:
            aucs = [auc(score(logits, bank, slope), is_member) for logits in candidates]
            tau = float(kendalltau(aucs, audits).statistic)
            error = float(np.abs(np.subtract(aucs, audits)).mean())
            note = "tuned" if slope == tuned else "published" if slope == rmia.SLOPE else ""
            rows.append({"bank": name, "slope": slope, "kendall_tau": tau, "auc_error": error, "note": note})
    write_results("rmia_slope", rows, audit_aucs=[round(float(audit), 4) for audit in audits])


class Pool:
    """Members followed by others, and networks trained on parts of them."""

    def __init__(self, data: Splits) -> None:
        parts = (data.members, data.non_members)
        self.features = torch.from_numpy(np.concatenate([part.features for part in parts]))
        self.labels = np.concatenate([part.labels for part in parts])
        self.space = make_space(data.members.input_shape, data.members.num_classes)

    def logits(self, mask: NDArray[np.bool_], width: int, epochs: int, weight_decay: float, *, seed: int) -> Floats:
        """Train a network on the marked records and return its logits on all."""
        network = self.space.decode({**self.space.reference, "layer1_width": width})
        recipe = Recipe(epochs=epochs, weight_decay=weight_decay)
        rows = torch.from_numpy(np.flatnonzero(mask))
        labels = torch.from_numpy(self.labels)[rows]
        return logits_of(train(plain_setup(network, self.features[rows], labels, recipe, seed)), self.features)


def score(logits: Floats, bank: Bank, slope: float) -> Floats:
    """Score records by RMIA's ratio with a slope of choice."""
    own = log_probabilities(logits, bank.labels, rmia.TEMPERATURE)
    references = np.stack([log_probabilities(each, bank.labels, rmia.TEMPERATURE) for each in bank.logits])
    out = np.where(bank.trained_on, 0.0, np.exp(references)).sum(axis=0) / (~bank.trained_on).sum(axis=0)
    return own - np.log(((1 + slope) * out + 1 - slope) / 2)


def tune(bank: Bank) -> float:
    """Attack each reference with the others and return the slope with the highest mean AUC."""
    means = {}
    for slope in SLOPES:
        aucs = []
        for own in range(len(bank.logits)):
            others = np.arange(len(bank.logits)) != own
            known = ~bank.trained_on[others].all(axis=0)
            rest = bank.part(others, known)
            aucs.append(auc(score(bank.logits[own][known], rest, slope), bank.trained_on[own][known]))
        means[slope] = float(np.mean(aucs))
    return max(means, key=lambda slope: means[slope])


def online_lira(pool: Pool, setting: tuple[int, int, float], logits: Floats, is_member: NDArray[np.bool_]) -> float:
    """Return the AUC of online LiRA against shadow networks of the candidate's own architecture and recipe."""
    masks = np.stack([halves(len(pool.labels), shadow, 11) for shadow in range(SHADOWS)])
    shadows = np.stack([pool.logits(mask, *setting, seed=500 + i) for i, mask in enumerate(masks)])
    bank = Bank(shadows, masks, pool.labels)
    return auc(lira_online.attack(Evidence(logits, pool.labels, bank)), is_member)


if __name__ == "__main__":
    main()
