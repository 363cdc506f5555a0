"""How much of a known epsilon each bound reaches, and how often it lies above the truth.

Records are answered by a mechanism whose epsilon is known: Gaussian noise, where the bounds through a trade-off
function hold; Laplace noise and randomised response, where their assumption is wrong; and nothing at all. Each bound is
computed on 500 draws of 2,000 members and 2,000 non-members, at delta 1 / 2,000 and 95 % confidence, so it may lie
above the truth in 5 % of them. Beside ours stand what other programs print, written anew from their formulas:

- `raw counts`: the highest log of TPR less delta over FPR with 50 false positives or more, a point estimate
  (JAX-Privacy, `epsilon_raw_counts`);
- `best threshold`: the highest of Clopper and Pearson's bounds at all thresholds, each at 95 % (TensorFlow Privacy,
  `EpsilonLowerBound`, which leaves delta out);
- `mu, bands`: the highest mu of Clopper and Pearson's bounds at all thresholds, with Bonferroni's correction
  (JAX-Privacy, `epsilon_from_gdp`);
- `mu, AUC`: the mu of the AUC itself, a point estimate, and that of the lower end of DeLong's interval.

The second table is about canaries of one training: 500 coins, delta 1e-5. `best guesses` is the highest bound of many
numbers of guesses without correction (Privacy Meter).

    python benchmarks/epsilon.py [--short]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from report import write_results
from scipy.special import betainccinv
from scipy.special import betaincinv
from scipy.special import expit
from scipy.special import ndtri

from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.epsilon import one_run
from estimators.leakage.statistics.epsilon import one_run_by_shares
from estimators.leakage.statistics.epsilon import over_thresholds
from estimators.leakage.statistics.gaussian_epsilon import gaussian_epsilon
from estimators.leakage.statistics.gaussian_epsilon import mu_from_auc
from estimators.leakage.statistics.gaussian_epsilon import mu_of_one_run
from estimators.leakage.statistics.gaussian_epsilon import mu_over_thresholds

RECORDS, CANARIES, CANARY_DELTA = 2000, 500, 1e-5
FEWEST_FALSE = 50
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Draw: TypeAlias = Callable[[np.random.Generator, Mask], Floats]
Bound: TypeAlias = Callable[[Floats, Mask, float], float]


def main(*, short: bool = "--short" in sys.argv) -> None:
    """Draw scores, bound epsilon, and write shares and rates."""
    runs = 20 if short else 500
    fixed = np.arange(2 * RECORDS) < RECORDS
    rows = _table(MECHANISMS, OF_RECORDS, lambda _rng: fixed, 1 / RECORDS, runs)
    rows += _table(OF_CANARIES, OF_ONE_RUN, _coins, CANARY_DELTA, 4 if short else runs)
    write_results("epsilon", rows)


def gaussian(mu: float, rng: np.random.Generator, is_member: Mask) -> Floats:
    """Scores of a Gaussian mechanism: a member's lies `mu` deviations higher."""
    return rng.normal(size=len(is_member)) + mu * is_member


def laplace(epsilon: float, rng: np.random.Generator, is_member: Mask) -> Floats:
    """Scores with Laplace noise; epsilon is that at delta 0."""
    return rng.laplace(scale=1 / epsilon, size=len(is_member)) + is_member


def randomised_response(epsilon: float, rng: np.random.Generator, is_member: Mask) -> Floats:
    """Scores 0 and 1: the truth is told with probability e^epsilon / (1 + e^epsilon)."""
    return np.asarray(is_member ^ (rng.random(len(is_member)) > expit(epsilon)), dtype=np.float64)


def nothing(rng: np.random.Generator, is_member: Mask) -> Floats:
    """Scores that do not depend on membership."""
    return rng.normal(size=len(is_member))


def truth(name: str, parameter: float, delta: float) -> float:
    """Return the epsilon of a mechanism at a delta."""
    if name == "Gaussian":
        return gaussian_epsilon(parameter, delta)
    if name == "Laplace":  # delta = 1 - exp((epsilon' - epsilon) / 2)
        return parameter + 2 * math.log1p(-delta)
    if name == "randomised response":
        return math.log((expit(parameter) - delta) / expit(-parameter))
    return 0.0


DRAWS: Mapping[str, Callable[..., Floats]] = {
    "Gaussian": gaussian,
    "Laplace": laplace,
    "randomised response": randomised_response,
}
MECHANISMS = (
    *(("Gaussian", mu) for mu in (0.5, 1.0, 2.0, 4.0)),
    *((name, epsilon) for name in ("Laplace", "randomised response") for epsilon in (1.0, 3.0)),
    ("nothing", 0.0),
)
OF_CANARIES = tuple(found for found in MECHANISMS if found[1] in {0.0, 1.0, 2.0})


def raw_counts(scores: Floats, is_member: Mask, delta: float) -> float:
    """Estimate epsilon by the best threshold with enough false positives, as it is."""
    hits, false = _counts(scores, is_member)
    enough = false >= FEWEST_FALSE
    tpr, fpr = hits[enough] / is_member.sum(), false[enough] / (~is_member).sum()
    return max(float(np.log(np.maximum(tpr - delta, 1e-12) / fpr).max()), 0.0)


def best_threshold(scores: Floats, is_member: Mask, _delta: float) -> float:
    """Bound epsilon at each threshold as if it were the only one, and keep the highest."""
    low, high = _ends(*_counts(scores, is_member), is_member, 0.025)
    return max(float(np.log(np.maximum(low, 1e-12) / high).max()), 0.0)


def mu_bands(scores: Floats, is_member: Mask, delta: float) -> float:
    """Bound mu at each threshold, with Bonferroni's correction for all of them, and keep the highest."""
    hits, false = _counts(scores, is_member)
    low, high = _ends(hits, false, is_member, 0.025 / len(hits))
    return gaussian_epsilon(max(float((ndtri(low) - ndtri(high)).max()), 0.0), delta)


def mu_of(area: Callable[[Floats, Mask], float], scores: Floats, is_member: Mask, delta: float) -> float:
    """Tell an AUC as the epsilon of a Gaussian mechanism that has it."""
    return gaussian_epsilon(min(max(math.sqrt(2) * float(ndtri(area(scores, is_member))), 0.0), 40.0), delta)


def best_guesses(scores: Floats, is_member: Mask, delta: float) -> float:
    """Bound epsilon by each of ten numbers of guesses as if it were the only one, and keep the highest."""
    counts = np.linspace(len(scores) / 10, len(scores), 10).astype(int)
    return max(one_run(scores, is_member, guesses=int(count), delta=delta).epsilon for count in counts)


OF_RECORDS: Mapping[str, Bound] = {
    "any training": lambda s, m, d: over_thresholds(s, m, delta=d).epsilon,
    "Gaussian, thresholds": lambda s, m, d: mu_over_thresholds(s, m, delta=d).epsilon,
    "Gaussian, AUC": lambda s, m, d: mu_from_auc(s, m, delta=d).epsilon,
    "raw counts": raw_counts,
    "best threshold": best_threshold,
    "mu, bands": mu_bands,
    "mu, AUC as it is": partial(mu_of, auc),
    "mu, DeLong's AUC": partial(mu_of, lambda s, m: auc_interval(s, m, 0.9).low),
}
OF_ONE_RUN: Mapping[str, Bound] = {
    "one run": lambda s, m, d: one_run_by_shares(s, m, delta=d).epsilon,
    "one run, Gaussian": lambda s, m, d: mu_of_one_run(s, m, delta=d).epsilon,
    "best guesses": best_guesses,
}


def _table(
    mechanisms: Sequence[tuple[str, float]],
    bounds: Mapping[str, Bound],
    members: Callable[[np.random.Generator], Mask],
    delta: float,
    runs: int,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for place, (name, parameter) in enumerate(mechanisms):
        draw: Draw = partial(DRAWS[name], parameter) if name in DRAWS else nothing
        rng, epsilon = np.random.default_rng([0, place]), truth(name, parameter, delta)
        found: dict[str, list[float]] = {bound: [] for bound in bounds}
        for _ in range(runs):
            is_member = members(rng)
            scores = draw(rng, is_member)
            for bound, compute in bounds.items():
                found[bound].append(compute(scores, is_member, delta))
        for bound, values in found.items():
            rows.append(
                {
                    "mechanism": name if name not in DRAWS else f"{name} {parameter:g}",
                    "epsilon": epsilon,
                    "bound": bound,
                    "mean": float(np.mean(values)),
                    "share_reached": float(np.mean(values)) / epsilon if epsilon else 0.0,
                    "above_truth": float(np.mean(np.array(values) > epsilon)),
                    "runs": runs,
                }
            )
    return rows


def _coins(rng: np.random.Generator) -> Mask:
    return rng.random(CANARIES) < 0.5


def _counts(scores: Floats, is_member: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count members and non-members above each score that occurs, but the lowest."""
    members, others = np.sort(scores[is_member]), np.sort(scores[~is_member])
    cuts = np.unique(scores)
    above = [len(group) - np.searchsorted(group, cuts, side="left") for group in (members, others)]
    return above[0], above[1]


def _ends(hits: NDArray[np.int64], false: NDArray[np.int64], is_member: Mask, error: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's lower end of the TPR and upper end of the FPR, at an error each."""
    members, others = int(is_member.sum()), int((~is_member).sum())
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), members - hits + 1, error), 0.0)
    high = np.where(false < others, betainccinv(false + 1, np.maximum(others - false, 1), error), 1.0)
    return low, high


if __name__ == "__main__":
    main()
