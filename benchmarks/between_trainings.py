"""What trainings of one recipe vary by, whether the bank knows it, and how often a retrained pick breaks its limit.

Random candidates of four data sets are each trained several times on the same records, from other seeds.

Rows of the part `measure`: the standard deviation between trainings (`between_sd`) and that of the records' sampling
(`records_sd`), both as root mean squares over the candidates; `share`, the ratio of their squares, and `learned`, what
the bank of the search says it is. `covered_records` and `covered` are the percentages of other trainings whose number
lies in the 95 % interval of the records alone, and in the one that holds what was learned.

Of the part `pick`: from one training of each candidate, drawn anew many times, the one with the lowest error is picked
among those within a limit on the leakage, which is drawn, too. `breaks_percent`: how often another training of the
pick is over the limit. `value` compares the leakage itself, `records` the upper end at 95 % of the interval of the
records alone, `sure` that of the interval of the search. `picks_percent`: for how many limits there was a pick;
`error`: of the picks.

Of the part `simulated`: the same of made-up candidates, more of them, whose error falls as their leakage rises, by a
line from which it lies `error_scatter` off.

    python benchmarks/between_trainings.py [--short]

Trainings are kept beside other benchmarks' files in the temporary folder; a run that was stopped goes on. `--short`
takes a part of the digits only.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from proxy import BITS
from proxy import cifar10_images
from proxy import convolutional
from report import write_results
from shared_data import SHARED

from estimators.estimate import Estimate
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import accuracy_gap
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr_interval
from estimators.leakage.statistics.between_trainings import Spread
from estimators.leakage.statistics.between_trainings import wider
from nas.base import files
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.spaces import sample
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.assess import outputs
from nas.training.bank import build_bank
from nas.training.between import SPREAD_OF
from nas.training.between import spreads_of
from nas.training.between import with_trainings
from nas.training.loop import training_version

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "between"
CANDIDATES, TRAININGS, DRAWS, CONFIDENCE = 16, 4, 4000, 0.95
MEASURES = ("error", "leakage", "loss_auc", "accuracy_gap", "tpr_at_1pct_fpr")
# Candidates, sd of records and of trainings, how far errors lie from the line on which they follow the leakage.
SIMULATED = ((16, 0.014, 0.009, 0.01), (60, 0.014, 0.009, 0.01), (60, 0.014, 0.009, 0.05), (60, 0.003, 0.009, 0.01),
             (300, 0.014, 0.009, 0.01), (300, 0.014, 0.014, 0.01))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measured:
    """All trainings of a data set's candidates: for each measure `(candidates, trainings)` estimates.

    Attributes:
        records: With intervals of the records alone.
        spreads: What the bank knows.
    """

    records: Mapping[str, list[list[Estimate]]]
    spreads: Mapping[str, Spread]

    def held(self, measure: str) -> list[list[Estimate]]:
        """The same with intervals that hold what trainings vary by."""
        return [[with_trainings({measure: one}, self.spreads)[measure] for one in row] for row in self.records[measure]]


def main(*, short: bool) -> None:
    """Train what is not kept yet and report."""
    torch.set_num_threads(1)
    files.private_folder(CACHE)
    count, trainings = (6, 3) if short else (CANDIDATES, TRAININGS)
    rows: list[dict[str, object]] = []
    picks: list[dict[str, object]] = []
    for name, settings in tasks(short=short).items():
        measured = measure_all(name, settings, count, trainings)
        rows += [row_of(name, measure, measured) for measure in MEASURES]
        picks += picks_of(name, measured)
    simulated = [row for how in SIMULATED[: 2 if short else None] for row in simulate(*how)]
    write_results(
        "between_trainings_short" if short else "between_trainings",
        [*rows, *picks, *simulated],
        candidates=count,
        trainings=trainings,
    )


def tasks(*, short: bool) -> dict[str, dict[str, Any]]:
    """Return the settings of the searches by data set; those that are not here are left out."""
    found: dict[str, dict[str, Any]] = {"digits": {"space": "mlp", "dataset": "digits"}}
    if short or not SHARED.exists():
        return found
    adult, images = CACHE / "adult.npz", CACHE / "cifar8.npz"
    if not adult.exists():
        with np.load(SHARED / "adult" / "adult.npz", allow_pickle=False) as stored:
            features, labels = stored["x"][:12_000].astype(np.float32), stored["y"][:12_000].astype(np.int64)
        files.write_arrays(adult, features=features, labels=labels)
    if not images.exists():
        records = cifar10_images()
        small = records.features.reshape(-1, 3, 8, 2, 8, 2).mean(axis=(3, 5)).round().astype(np.uint8)
        files.write_arrays(images, features=small, labels=records.labels)
    location = SHARED / "location30" / "location30.npz"
    return {
        **found,
        "location30": {"space": "mlp", "dataset": "location30", "data_path": location, "members": 1000},
        "adult": {"space": "mlp", "dataset": "npz", "data_path": adult, "members": 1000},
        "cifar10": {"space": "conv", "dataset": "npz", "data_path": images, "members": 500},
    }


def measure_all(name: str, settings: Mapping[str, Any], count: int, trainings: int) -> Measured:
    """Train and measure a data set's candidates."""
    plan = resolve(parse_config({**settings, "name": name, "seed": 0}), CACHE / "runs")
    bank = build_bank(plan.bank, plan.cache_folder)
    found: dict[str, list[list[Estimate]]] = {measure: [] for measure in MEASURES}
    for candidate in drawn(plan, count):
        many = [estimates(plan, bank, answers(plan, candidate, seed)) for seed in range(trainings)]
        for measure, rows in found.items():
            rows.append([one[measure] for one in many])
    print(f"{name}: {count} candidates, {trainings} trainings each", flush=True)
    return Measured(found, spreads_of(bank, plan.attack))


def drawn(plan: Plan, count: int) -> list[Candidate]:
    """Draw candidates as a random search would; of the large space of networks for images, small ones."""
    rng = np.random.default_rng(7)
    if plan.config.space != "conv":
        return [plan.candidate(sample(plan.distributions, rng)) for _ in range(count)]
    found = [convolutional(plan.space, BITS[number % len(BITS)], rng) for number in range(count)]
    return [replace(one, defence="gecko") if number % 4 == 3 else one for number, one in enumerate(found)]


def answers(plan: Plan, candidate: Candidate, seed: int) -> np.ndarray:
    """Train a candidate, or read what it answered: logits of members, non-members and validation records."""
    what = f"{plan.data.fingerprint} {candidate.key} {seed} {training_version()}"
    path = CACHE / f"a-{hashlib.sha256(what.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        bench = Bench(plan.data, lambda evidence: np.zeros(len(evidence.labels)), None, plan.defences, seed)
        network = assess(candidate, bench).network
        parts = (plan.data.members, plan.data.non_members, plan.data.validation)
        files.write_arrays(path, logits=np.concatenate([outputs(network, part.features) for part in parts]))
    return files.read_array(path, "logits")


def estimates(plan: Plan, bank: Bank, logits: np.ndarray) -> dict[str, Estimate]:
    """Measure one training as a search does, with intervals of the records alone."""
    data = plan.data
    labels = np.concatenate([data.members.labels, data.non_members.labels])
    attacked, is_member = logits[: len(labels)], np.arange(len(labels)) < len(data.members)
    scores = plan.attack(Evidence(attacked, labels, bank))
    wrong = logits[len(labels) :].argmax(axis=1) != data.validation.labels
    return {
        "error": proportion_interval(int(wrong.sum()), len(wrong)),
        "leakage": auc_interval(scores, is_member),
        "loss_auc": auc_interval(log_probabilities(attacked, labels), is_member),
        "accuracy_gap": accuracy_gap(attacked.argmax(axis=1) == labels, is_member),
        "tpr_at_1pct_fpr": tpr_at_fpr_interval(scores, is_member, fpr=0.01, seed=0),
    }


def row_of(name: str, measure: str, measured: Measured) -> dict[str, object]:
    """Describe one measure of one data set."""
    table = measured.records[measure]
    between = np.mean([np.var([one.value for one in row], ddof=1) for row in table])
    records = np.mean([((one.high - one.low) / 2 / 1.96) ** 2 for row in table for one in row])
    return {
        "part": "measure",
        "data": name,
        "measure": measure,
        "between_sd": float(np.sqrt(between)),
        "records_sd": float(np.sqrt(records)),
        "share": float(between / records),
        "learned": measured.spreads[SPREAD_OF[measure]].share,
        "covered_records": covered(table),
        "covered": covered(measured.held(measure)),
    }


def covered(table: list[list[Estimate]]) -> float:
    """Return the percentage of other trainings of a candidate that lie in the interval of one."""
    hits = [
        one.low <= other.value <= one.high
        for row in table
        for place, one in enumerate(row)
        for other in row[:place] + row[place + 1 :]
    ]
    return 100 * float(np.mean(hits))


def picks_of(name: str, measured: Measured) -> list[dict[str, object]]:
    """Pick by many limits and draws, and see what another training of the pick leaks."""
    leakage, records = measured.held("leakage"), measured.records["leakage"]
    values = np.array([[one.value for one in row] for row in leakage])
    errors = np.array([[one.value for one in row] for row in measured.records["error"]])
    ways = {
        "value": values,
        "records": np.array([[one.upper(CONFIDENCE, of=0.95) for one in row] for row in records]),
        "sure": np.array([[one.upper(CONFIDENCE, of=0.95) for one in row] for row in leakage]),
    }
    return [
        {"part": "pick", "data": name, "way": way, **outcome(values, bounds, errors)} for way, bounds in ways.items()
    ]


def outcome(values: np.ndarray, bounds: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """Return how often a pick breaks its limit in another training.

    Args:
        values: Leakage `(candidates, trainings)`.
        bounds: What has to be within the limit, alike.
        errors: Alike; the lowest is picked.
    """
    rng = np.random.default_rng(0)
    every, count = np.arange(len(values)), values.shape[1]
    broken, picked = [], []
    for _ in range(DRAWS):
        limit = rng.uniform(values.min(), values.max())
        training = rng.integers(count, size=len(values))
        error = np.where(bounds[every, training] <= limit, errors[every, training], np.inf)
        chosen = int(error.argmin())
        if np.isfinite(error[chosen]):
            others = np.delete(values[chosen], training[chosen])
            broken.append(float((others > limit).mean()))
            picked.append(float(error[chosen]))
    return {
        "breaks_percent": 100 * float(np.mean(broken)),
        "picks_percent": 100 * len(picked) / DRAWS,
        "error": float(np.mean(picked)),
    }


def simulate(count: int, records_sd: float, between_sd: float, scatter: float) -> list[dict[str, object]]:
    """Make up candidates and pick among them; a training's own part of the records' variance is nine tenths at most."""
    rng = np.random.default_rng(0)
    share = (between_sd / records_sd) ** 2
    of_records = np.sqrt(records_sd**2 - min(between_sd**2, 0.9 * records_sd**2))
    true = rng.uniform(0.5, 0.8, size=(DRAWS, count))
    errors = 0.3 - (true - 0.5) / 2 + rng.normal(0, scatter, size=true.shape)
    on_these = true + rng.normal(0, of_records, size=true.shape)
    once, again = (on_these + rng.normal(0, between_sd, size=true.shape) for _ in range(2))
    limits = rng.uniform(0.55, 0.75, size=(DRAWS, 1))
    rows: list[dict[str, object]] = []
    for way, sd in {"value": 0.0, "records": records_sd, "sure": records_sd * wider(share)}.items():
        bounds = once + sd * NormalDist().inv_cdf(CONFIDENCE)
        within = np.where(bounds <= limits, errors, np.inf)
        chosen = within.argmin(axis=1)
        is_there = np.isfinite(within.min(axis=1))
        broken = np.take_along_axis(again, chosen[:, None], axis=1)[:, 0] > limits[:, 0]
        made_up = {"of": count, "records_sd": records_sd, "between_sd": between_sd, "error_scatter": scatter}
        breaks = 100 * float(broken[is_there].mean())
        rows.append({"part": "simulated", **made_up, "way": way, "breaks_percent": breaks})
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    main(**vars(parser.parse_args()))
