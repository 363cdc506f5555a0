"""How far below the best attack the proxy of a search reads, and whether its raised end holds what that attack finds.

Location-30 and Adult with multilayer perceptrons, 2,000 members in a pool of 4,000 and six candidates a draw; CIFAR-10
at 16 x 16 pixels with the conv space, 1,000 in 2,000 and three. The last draw has three for each. A third of the
candidates is as `benchmarks/proxy.py` draws them, a third is trained for one to four epochs, a third with a dropout of
.5 to .8. Each is trained 6 times on random halves of the pool, in complementary pairs.

The yardstick is the *best* of five attacks with the other five networks of the same recipe as references, by its mean
AUC over the 6: with so few, LiRA alone is a poor one. The proxy is `lira_fitted` with a bank of eight small references
of another architecture. *Before* is DeLong's 95 % interval of the proxy, *after* that interval with the end that
`lira_fitted.widen` raises. *Covered* is the share of trainings whose interval's upper end lies at or above the
yardstick. The constants of `widen` were chosen on the first two draws. The third was drawn afterwards.

*A tenth are members*: the proxy is asked about all non-members and every ninth member, of all candidates.

A second table compares asking about all records with asking about a quarter of them, chosen at random, evenly over the
records by how hard they are for the bank, or by where the bank says that membership has the largest effect.

    python benchmarks/proxy_shortfall.py             # 20 minutes on one core the first time; networks are kept
    python benchmarks/proxy_shortfall.py --short     # Location-30, three candidates, 4 networks each: a minute
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from proxy import BITS
from proxy import Floats
from proxy import Task
from proxy import Trained
from proxy import by_the_others
from proxy import cifar10_images
from proxy import collect
from proxy import convolutional
from proxy import perceptron
from proxy import pool_of
from proxy import reference_bank
from proxy import some
from proxy import train_all
from report import write_results
from scipy.stats import kendalltau
from shared_data import SHARED

from estimators.estimate import Estimate
from estimators.leakage.attacks import calibrated_loss
from estimators.leakage.attacks import lira_fitted
from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import loss
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_interval
from nas.records import Records
from nas.records import Source
from nas.records import load_records
from nas.records import split
from nas.training.assess import Candidate
from search_spaces import conv
from search_spaces import mlp
from search_spaces.space import SearchSpace

KINDS = ("usual", "few epochs", "dropout")
DRAWS = {"first": (11, 6), "second": (12, 6), "afterwards": (13, 3)}
"""The seed of each draw of candidates, and how many of them at most."""
NETWORKS = 6
YARDSTICKS = (loss, calibrated_loss, lira_online, lira_fitted, rmia_online)
NINTH, QUARTER = 9, 4


@dataclass(frozen=True)
class Setting:
    """A data set: its records, how many are members and candidates of a draw, its space, how candidates are drawn."""

    records: Callable[[], Records]
    members: int
    candidates: int
    make_space: Callable[..., SearchSpace]
    draw: Callable[[SearchSpace, int, np.random.Generator], Candidate]


@dataclass(frozen=True, eq=False)
class Judged:
    """One candidate: the AUC of the best attack, which that is, and what the proxy says of each training."""

    kind: str
    draw: str
    best: float
    attack: str
    trained: Trained
    proxies: list[Estimate]
    raised: list[Estimate]
    explained: float


def main(*, short: bool = False) -> None:
    """Train what is not kept yet, judge every candidate, and report."""
    if not SHARED.exists():
        sys.exit("skipped: no data beside the repository's parent folder")
    torch.set_num_threads(1)
    names, networks = (("location30",), 4) if short else (tuple(SETTINGS), NETWORKS)
    rows: list[dict[str, object]] = []
    asked: list[dict[str, object]] = []
    for name in names:
        found: list[Judged] = []
        for draw, (seed, most) in DRAWS.items():
            count = 3 if short else min(most, SETTINGS[name].candidates)
            task = drawn_task(name, seed, count)
            train_all(task, networks)
            bank = reference_bank(task)
            found += [judged(task, draw, number, networks, bank) for number in range(count)]
            print(f"{name}: {draw} draw judged", flush=True)
        rows += [row(name, draw, kind, found) for draw in DRAWS for kind in KINDS]
        few = thinned(found, bank)
        rows += [row(name, draw, "a tenth are members", few) for draw in DRAWS]
        asked += quarters(task, found, bank)
    suffix = "_short" if short else ""
    write_results(f"proxy_shortfall{suffix}", rows)
    write_results(f"proxy_records{suffix}", asked)


def adult() -> Records:
    """Adult's first 12,000 records, its integers as they are."""
    with np.load(SHARED / "adult" / "adult.npz", allow_pickle=False) as stored:
        features, labels = stored["x"][:12_000].astype(np.float32), stored["y"][:12_000].astype(np.int64)
    return Records(features, labels, ("<=50K", ">50K"))


def locations() -> Records:
    """Location-30."""
    return load_records(Source("location30", SHARED / "location30"))


SETTINGS = {
    "location30": Setting(locations, 2000, 6, mlp.make_space, perceptron),
    "adult": Setting(adult, 2000, 6, mlp.make_space, perceptron),
    "cifar10": Setting(cifar10_images, 1000, 3, conv.make_space, convolutional),
}


def drawn_task(name: str, seed: int, count: int) -> Task:
    """Draw candidates of every kind in turn; more of them begin with the same ones."""
    setting = SETTINGS[name]
    data = split(setting.records(), seed=0, members=setting.members)
    space = setting.make_space(data.members.input_shape, data.members.num_classes)
    rng = np.random.default_rng([seed, list(SETTINGS).index(name)])
    candidates = []
    for number in range(count):
        usual = setting.draw(space, BITS[number % len(BITS)], rng)
        candidates.append(weakened(usual, KINDS[number % len(KINDS)], rng))
    return Task(name, pool_of(data.members, data.non_members), space, candidates)


def weakened(candidate: Candidate, kind: str, rng: np.random.Generator) -> Candidate:
    """Shorten a candidate's training, raise its dropout, or leave it as usual."""
    if kind == "few epochs":
        return replace(candidate, recipe=replace(candidate.recipe, epochs=int(rng.integers(1, 5))))
    if kind == "dropout":
        return replace(candidate, recipe=replace(candidate.recipe, dropout=float(rng.uniform(0.5, 0.8))))
    return candidate


def judged(task: Task, draw: str, number: int, networks: int, bank: Bank) -> Judged:
    """Attack a candidate's networks by the others and by the bank."""
    trained, labels = collect(task, task.candidates[number], networks), task.pool.labels
    aucs = {
        attack.__name__.rpartition(".")[2]: np.mean(
            [
                auc(by_the_others(trained, turn, labels, attack.attack), trained.trained_on[turn])
                for turn in range(networks)
            ]
        )
        for attack in YARDSTICKS
    }
    attack = max(aucs, key=lambda name: float(aucs[name]))
    read = [proxy(trained, turn, labels, bank) for turn in range(networks)]
    intervals, raised, explained = ([each[part] for each in read] for part in range(3))
    return Judged(
        KINDS[number % len(KINDS)],
        draw,
        float(aucs[attack]),
        attack,
        trained,
        intervals,
        raised,
        float(np.mean(explained)),
    )


def proxy(trained: Trained, turn: int, labels: NDArray[np.int64], bank: Bank) -> tuple[Estimate, Estimate, float]:
    """Return what a search would say of one training: the interval, the raised one, and how much the bank explains."""
    evidence = Evidence(trained.logits[turn], labels, bank)
    interval = auc_interval(lira_fitted.attack(evidence), trained.trained_on[turn])
    return interval, lira_fitted.widen(interval, evidence), lira_fitted.explained(evidence)


def thinned(found: Sequence[Judged], bank: Bank) -> list[Judged]:
    """Ask the proxy about all non-members of each training and every ninth member: a tenth of these are members."""
    again = []
    for each in found:
        read = []
        for turn in range(len(each.trained.logits)):
            member = each.trained.trained_on[turn]
            rows = np.sort(np.concatenate([np.flatnonzero(member)[::NINTH], np.flatnonzero(~member)]))
            part = bank.part(records=rows)
            read.append(proxy(some(each.trained, rows), turn, part.labels, part))
        again.append(
            replace(each, kind="a tenth are members", proxies=[a for a, _, _ in read], raised=[b for _, b, _ in read])
        )
    return again


def row(name: str, draw: str, kind: str, found: Sequence[Judged]) -> dict[str, object]:
    """Summarise the candidates of one kind and draw."""
    these = [each for each in found if each.kind == kind and each.draw == draw]
    best = np.array([each.best for each in these])
    read = np.array([[estimate.value for estimate in each.proxies] for each in these])
    before, after = (
        np.array([[estimate.high for estimate in getattr(each, which)] for each in these])
        for which in ("proxies", "raised")
    )
    short = best - read.mean(axis=1)
    return {
        "data": name,
        "draw": draw,
        "kind": kind,
        "candidates": len(these),
        "proxy": float(read.mean()),
        "best": float(best.mean()),
        "shortfall": float(short.mean()),
        "shortfall_worst": float(short.max()),
        "covered_before": float((before >= best[:, None]).mean()),
        "covered_after": float((after >= best[:, None]).mean()),
        "raised_by": float((after - before).mean()),
        "explained": float(np.mean([each.explained for each in these])),
        "best attacks": ", ".join(sorted({each.attack for each in these})),
    }


def quarters(task: Task, found: Sequence[Judged], bank: Bank) -> list[dict[str, object]]:
    """Ask about all records, or about a quarter chosen in three ways: how candidates are ranked, and what is said."""
    best = [each.best for each in found]
    rows: list[dict[str, object]] = []
    everything: Floats | None = None
    for name, chosen in ways_to_choose(bank).items():
        part = bank.part(records=chosen)
        read = []
        for each in found:
            seen = some(each.trained, chosen)
            scores = [lira_fitted.attack(Evidence(logits, part.labels, part)) for logits in seen.logits]
            read.append([auc_interval(*pair) for pair in zip(scores, seen.trained_on, strict=True)])
        values = np.array([[estimate.value for estimate in each] for each in read])
        everything = values if everything is None else everything
        taus = [kendalltau(turn, best).statistic for turn in values.T]
        change = values.mean(axis=1) - everything.mean(axis=1)
        rows.append(
            {
                "data": task.name,
                "records": name,
                "tau": float(np.median(taus)),
                "tau_low": float(np.min(taus)),
                "tau_high": float(np.max(taus)),
                "change": float(change.mean()),
                "largest_change": float(change[np.abs(change).argmax()]),
                "half_width": float(np.mean([(one.high - one.low) / 2 for each in read for one in each])),
            }
        )
    return rows


def ways_to_choose(bank: Bank) -> dict[str, NDArray[np.intp]]:
    """Choose records by the bank alone."""
    phi = np.stack([scaled_logit(logits, bank.labels) for logits in bank.logits])
    mean_in, mean_out = phi.mean(axis=0, where=bank.trained_on), phi.mean(axis=0, where=~bank.trained_on)
    count = len(mean_out) // QUARTER
    rng = np.random.default_rng(0)
    by_hardness = np.argsort(mean_out, kind="stable")
    even = np.array([rng.choice(part) for part in np.array_split(by_hardness, count)])
    return {
        "all": np.arange(len(mean_out)),
        "a quarter, at random": np.sort(rng.permutation(len(mean_out))[:count]),
        "a quarter, evenly by hardness": np.sort(even),
        "the quarter with the largest effect": np.sort(np.argsort(mean_out - mean_in, kind="stable")[:count]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    main(short=parser.parse_args().short)
