"""What an audit says where members are merely easier than non-members, with a leak and without one.

3,000 records of Location-30 and a perceptron. Which half of them are claimed members depends on how typical they are of
their class: a record is claimed with probability expit(b z), where z is its standardised margin by the classes' means
over all 5,010 records; b of 0 is no shift. Each claim is audited twice with the same 16 shadow models:

- `independent`: the network was trained on 1,500 other records. Nothing was memorised, and the truth is 0.5.
- `leaky`: the network was trained on the claimed members. The truth is its AUC with the non-members weighted to the
  members' typicality, by the odds with which they were claimed.

    python benchmarks/membership_shift.py            # about ten minutes on one core; trained networks are kept
    python benchmarks/membership_shift.py --short    # four shifts, one draw of each
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from attacks import CACHE as ATTACKS_CACHE
from numpy.typing import NDArray
from report import write_results
from scipy.special import expit
from shared_data import SHARED

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from nas.audit.attack_all import audit
from nas.audit.findings import Audit
from nas.audit.oracles import of_network
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

POOL, SHADOWS, SEED = 3000, 16, 21
EPOCHS = 8
SHIFTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
FEWEST = 100
"""With weights that leave fewer non-members than this count, the truth of a leaky network is not known."""
DRAWS, HEADLINE = 4, "headline"
ATTACKS = ("gap", "loss", "modified_entropy", "rmia", "rmia_online", "lira", "lira_online", "lira_fitted")


@dataclass(frozen=True, eq=False)
class Task:
    """The records, the first `POOL` of which are audited, and the network."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    candidate: Candidate

    def logits(self, rows: NDArray[np.intp], seed: int) -> NDArray[np.float32]:
        """Train on some records and return the answers about the audited ones; kept from one run to the next."""
        name = f"{seed_from(seed, EPOCHS, *rows.tolist())}.npz"
        path = CACHE / name
        if path.exists():
            return files.read_array(path, "logits")
        network = train(set_up(self.candidate, self.features[rows], self.labels[rows], seed))
        logits = of_network(network).query(self.features[:POOL])
        files.write_arrays(path, logits=logits)
        print(".", end="", flush=True)
        return logits

    def bank(self, count: int, seed: int) -> Bank:
        """Return the answers of shadow models."""
        masks = np.stack([halves(POOL, number, seed) for number in range(count)])
        logits = [self.logits(np.flatnonzero(mask), seed_from(seed, number)) for number, mask in enumerate(masks)]
        return Bank(np.stack(logits), masks, self.labels[:POOL])


@dataclass(frozen=True, eq=False)
class Claim:
    """An audit by one claimed membership, and the truth of each attack; NaN where it is not known."""

    audit: Audit
    truth: Callable[[NDArray[np.float64]], float]


CACHE = ATTACKS_CACHE.parent / "membership_shift"


def main() -> None:
    """Train, claim, audit, compare with the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    task = location30()
    shadows, easiness = task.bank(SHADOWS, SEED), margins(task)
    rows = []
    for shift in (0.0, 0.5, 1.0, 2.0) if short else SHIFTS:
        audits = [claim(task, shadows, easiness, shift, draw) for draw in range(1 if short else DRAWS)]
        for kind in ("independent", "leaky"):
            rows += [row(kind, shift, attack, [found[kind] for found in audits]) for attack in (*ATTACKS, HEADLINE)]
    write_results("membership_shift_short" if short else "membership_shift", rows)


def location30() -> Task:
    """Location-30 in an order of its own, and a perceptron that learns it by heart."""
    records = load_records(Source("location30", SHARED / "location30"))
    order = np.random.default_rng(SEED).permutation(len(records))
    features = records.features[order]
    features = ((features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-3)).astype(np.float32)
    space = mlp.make_space(records.input_shape, records.num_classes)
    architecture = space.decode({**space.reference, "layer1_width": 128}).as_float()
    return Task(features, records.labels[order], Candidate(architecture, Recipe(epochs=EPOCHS)))


def margins(task: Task) -> NDArray[np.float64]:
    """Return how much nearer each audited record is to its own class's mean than to the next; mean 0, deviation 1."""
    means = np.stack([task.features[task.labels == label].mean(axis=0) for label in np.unique(task.labels)])
    apart = np.linalg.norm(task.features[:POOL, None] - means[None], axis=2)
    rows, labels = np.arange(POOL), task.labels[:POOL]
    own = apart[rows, labels].copy()
    apart[rows, labels] = np.inf
    found = apart.min(axis=1) - own
    return np.asarray((found - found.mean()) / found.std())


def claimed_members(
    easiness: NDArray[np.float64], shift: float, draw: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Draw exactly half of the records as members, the easier the likelier, and return each one's odds of it."""
    rng = np.random.default_rng([SEED, draw, round(100 * shift)])
    chance = np.clip(expit(shift * easiness), 1e-6, 1 - 1e-6)
    claimed = rng.random(POOL) < chance
    surplus = int(claimed.sum()) - POOL // 2
    side = np.flatnonzero(claimed if surplus > 0 else ~claimed)
    claimed[rng.choice(side, abs(surplus), replace=False)] ^= True
    return claimed, chance / (1 - chance)


def weighted_auc(scores: NDArray[np.float64], is_member: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """Return the AUC with each non-member counted as often as its weight says."""
    order = np.argsort(scores[~is_member])
    others, share = scores[~is_member][order], weights[~is_member][order]
    below = np.concatenate([[0.0], np.cumsum(share / share.sum())])
    left, right = (below[np.searchsorted(others, scores[is_member], side)] for side in ("left", "right"))
    return float((left + right).mean() / 2)


def claim(task: Task, shadows: Bank, easiness: NDArray[np.float64], shift: float, draw: int) -> dict[str, Claim]:
    """Audit both networks by one claimed membership."""
    is_member, odds = claimed_members(easiness, shift, draw)
    weights = odds[~is_member]
    known = weights.sum() ** 2 / (weights**2).sum() >= FEWEST
    found = {}
    for kind, logits in networks(task, is_member, draw).items():
        made = audit(Evidence(logits, shadows.labels, shadows), is_member, seed=0, attacks=ATTACKS)
        truth = partial(weighted_auc, is_member=is_member, weights=odds) if known else lambda _: math.nan
        found[kind] = Claim(made, (lambda _: 0.5) if kind == "independent" else truth)
    return found


def row(kind: str, shift: float, attack: str, claims: list[Claim]) -> dict[str, object]:
    """One line: means over draws, and in how many draws what is said is right."""
    lines = []
    for one in claims:
        each = one.audit.strongest if attack == HEADLINE else one.audit.finding(attack)
        said = one.audit.leakage if attack == HEADLINE else each.less_null
        truth = one.truth(each.scores)
        lines.append((each.auc.value, each.null.value, said.value, truth, said.low <= truth, said.high >= truth))
    auc, null, said, truth = np.mean([line[:4] for line in lines], axis=0)
    return {
        "network": kind,
        "shift": shift,
        "attack": attack,
        "auc": round(float(auc), 3),
        "null": round(float(null), 3),
        "said": round(float(said), 3),
        "truth": None if np.isnan(truth) else round(float(truth), 3),
        "too high": None if np.isnan(truth) else f"{sum(not line[4] for line in lines)} of {len(lines)}",
        "too low": None if np.isnan(truth) else f"{sum(not line[5] for line in lines)} of {len(lines)}",
        "warned": f"{sum(bool(one.audit.shifted) for one in claims)} of {len(lines)}",
        "refused": f"{sum(one.audit.is_refused for one in claims)} of {len(lines)}",
    }


def networks(task: Task, is_member: NDArray[np.bool_], draw: int) -> dict[str, NDArray[np.float32]]:
    """Return the answers of a network that saw none of the records, and of one that saw the claimed members."""
    rng = np.random.default_rng([SEED, 99, draw])
    apart = rng.permutation(np.arange(POOL, len(task.labels)))[: POOL // 2]
    return {
        "independent": task.logits(apart, seed_from(SEED, "apart", draw)),
        "leaky": task.logits(np.flatnonzero(is_member), seed_from(SEED, "leaky", draw)),
    }


if __name__ == "__main__":
    main()
