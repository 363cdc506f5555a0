"""What LiRA and RMIA find when they ask about moved copies of each image, too.

The CNN of `attacks.py` on CIFAR-10 (16 x 16, 2,000 members among 4,000), 16 networks by each of two recipes: one flips
and shifts the images anew in each epoch, the other does not. Eight of the 16 are attacked in turn by the other 15.
Compared are the record alone, the mean over the record and five copies, and what the product does, which asks four
references first whether copies tell anything.

    python benchmarks/augmented_queries.py    # ten minutes of training on two cores the first time; networks are kept
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from attacks import SEED
from attacks import SHADOWS
from attacks import Task
from attacks import augmented
from attacks import cifar10
from attacks import shadows_of
from numpy.typing import NDArray
from report import write_results
from shared_data import SHARED

from estimators.leakage.attacks import lira_augmented
from estimators.leakage.attacks import rmia_augmented
from estimators.leakage.evidence import Evidence
from estimators.leakage.shared import augmented as queries
from estimators.leakage.shared.copies import moved
from estimators.leakage.shared.online_scores import log_likelihood_ratio
from estimators.leakage.shared.online_scores import log_relative_probability
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from nas.audit.shadows import bank_of

MEMBERS, ATTACKED = 2000, 8
Score: TypeAlias = Callable[[Evidence, str], NDArray[np.float64]]
FORMS: dict[str, tuple[Score, Callable[[Evidence], NDArray[np.float64]]]] = {
    "LiRA online": (log_likelihood_ratio, lira_augmented.attack),
    "RMIA online": (log_relative_probability, rmia_augmented.attack),
}


def main() -> None:
    """Train what is not kept yet, attack, and report."""
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    plain = cifar10(members=MEMBERS)
    rows, told = [], {}
    for recipe, task in (("yes", augmented(plain)), ("no", plain)):
        found, told[f"share told, augmented: {recipe}"] = rows_of(recipe, task)
        rows += found
    write_results("augmented_queries", rows, **told)


def rows_of(recipe: str, task: Task) -> tuple[list[dict[str, object]], float]:
    """Attack eight networks of one recipe: a row for each attack and way to ask, of means; and what decides."""
    features = task.pool.features[task.pool.audited]
    bank = bank_of(task.pool, shadows_of(task), SEED)
    copies = [features, *moved(features, queries.DISTANCES)]
    answers = np.stack([[oracle.query(copy) for oracle in bank.oracles] for copy in copies])
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for own in range(ATTACKED):
        is_member = bank.trained_on[own]
        others = [other for other in range(SHADOWS) if other != own]
        asked = [
            Evidence(of_copy[own], bank.labels, replace(bank, logits=of_copy).part(others), features, bank.oracles[own])
            for of_copy in answers
        ]
        for attack, (score, product) in FORMS.items():
            each = [score(one, attack) for one in asked]
            ways = {
                "the record": each[0],
                "record and mirror image": np.mean(each[:2], axis=0),
                "record and five copies, mean": np.mean(each, axis=0),
                "record and five copies, median": np.median(each, axis=0),
                "the product": product(asked[0]),
            }
            for way, scores in ways.items():
                rates = (tpr_at_fpr(scores, is_member, 0.01), tpr_at_fpr(scores, is_member, 0.001))
                found.setdefault((attack, way), []).append((auc(scores, is_member), *rates))
    rows = [
        {
            "augmented": recipe,
            "attack": attack,
            "asked about": way,
            "auc": float(np.mean([one[0] for one in each])),
            "auc_sd": float(np.std([one[0] for one in each], ddof=1)),
            "tpr_at_1pct_fpr": float(np.mean([one[1] for one in each])),
            "tpr_at_0.1pct_fpr": float(np.mean([one[2] for one in each])),
        }
        for (attack, way), each in found.items()
    ]
    return rows, queries.share_told(bank, answers[1:])


if __name__ == "__main__":
    main()
