"""Whether any training with DP-SGD shows a larger epsilon than its certificate allows.

Digits of scikit-learn (8 x 8): 600 members, 600 test records, and canaries, which are further records with a wrong
label; a coin decides for each canary whether it is trained on. One network of 8 bits per training is asked how sure it
is of the canaries' wrong labels. From that follow a lower bound on epsilon (Steinke, Nasr and Jagielski, 2023), one
that takes the trade-off function for Gaussian (Mahloujifar, Melis and Chaudhuri, 2024), and how far the canaries' TPR
and FPR lie apart at a threshold that half of them choose. Beside them stands what the certificate allows at the same
delta. The row without noise is the control: it must show more than the strictest certificates allow.

    python benchmarks/dp_sgd.py            # 20 trainings for each of five epsilons, half an hour on two cores
    python benchmarks/dp_sgd.py --short    # 20 trainings of one epsilon and two without noise, two minutes
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from report import write_results
from sklearn.datasets import load_digits

from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.accountants import Mechanism
from estimators.leakage.statistics.accountants import epsilon_of
from estimators.leakage.statistics.epsilon import one_run_by_shares
from estimators.leakage.statistics.gaussian_epsilon import mu_of_one_run
from nas.defences import dp_sgd
from nas.training.assess import train_teacher
from nas.training.certificate import largest_advantage
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp

EPSILONS, RUNS, DELTA = (1.0, 4.0, 8.0, 16.0, 50.0), 20, 1e-4
MEMBERS, TEST, CANARIES, CLASSES = 600, 600, 400, 10
RECIPE = Recipe(epochs=30, batch_size=100, learning_rate=0.01, weight_decay=0.0)
OTHERS = {"noise_multiplier": 0.0, "delta": 0.0, "max_grad_norm": 1.0, "augmentations": 1}


@dataclass(frozen=True)
class Shown:
    """What one training shows, and what its certificate allows at the same delta."""

    lower: float
    gaussian: float
    advantage: float
    allowed: float
    error: float
    seconds: float


def main() -> None:
    """Train, ask the canaries, and report."""
    torch.set_num_threads(1)
    short = "--short" in sys.argv[1:]
    rows: list[dict[str, object]] = []
    for epsilon in (8.0, None) if short else (*EPSILONS, None):
        runs = 2 if short and epsilon is None else RUNS
        rows.append(row(epsilon, [shown(epsilon, seed) for seed in range(runs)]))
    above = sum(int(str(one["above"])) for one in rows)
    control, strictest = rows[-1]["lower, most"], min(float(str(one["allowed"])) for one in rows[:-1])
    write_results("dp_sgd", rows, **{"trainings that show more than is allowed": above, "delta": DELTA})
    if above:
        sys.exit(f"{above} trainings show more than their certificate allows")
    if not short and float(str(control)) <= strictest:
        sys.exit("the control shows no more than is allowed: this benchmark could find nothing")


def row(epsilon: float | None, found: list[Shown]) -> dict[str, object]:
    """Summarise the trainings of one epsilon."""
    allowed = found[0].allowed
    return {
        "epsilon": "no noise" if epsilon is None else f"{epsilon:g}",
        "trainings": len(found),
        "allowed": allowed,
        "lower, most": max(one.lower for one in found),
        "lower, mean": float(np.mean([one.lower for one in found])),
        "Gaussian, most": max(one.gaussian for one in found),
        "above": sum(one.lower > one.allowed for one in found),
        "advantage, mean": float(np.mean([one.advantage for one in found])),
        "advantage allowed": 1.0 if allowed == inf else largest_advantage(allowed, DELTA),
        "error": float(np.mean([one.error for one in found])),
        "seconds": float(np.mean([one.seconds for one in found])),
    }


def shown(epsilon: float | None, seed: int) -> Shown:
    """Train once with canaries of one seed."""
    rng = np.random.default_rng(seed)
    images, digits = load_digits(return_X_y=True)
    order = rng.permutation(len(digits))
    features = ((images - 4.9) / 6.0).astype(np.float32).reshape(-1, 1, 8, 8)[order]  # mean and deviation of all pixels
    labels = digits.astype(np.int64)[order]
    members, test, canaries = np.split(np.arange(MEMBERS + TEST + CANARIES), [MEMBERS, MEMBERS + TEST])
    labels[canaries] = (labels[canaries] + rng.integers(1, CLASSES, CANARIES)) % CLASSES
    included = rng.random(CANARIES) < 0.5
    rows = np.concatenate([members, canaries[included]])
    space = mlp.make_space((1, 8, 8), CLASSES)
    architecture = space.decode(space.reference)
    setup = plain_setup(architecture, torch.from_numpy(features[rows]), torch.from_numpy(labels[rows]), RECIPE, seed)
    allowed = inf
    if epsilon is not None:
        setup = dp_sgd.defend(setup, train_teacher, epsilon=epsilon, **OTHERS)
        stated = setup.guarantee
        mechanism = Mechanism(stated["noise_multiplier"], stated["sampling_rate"], int(stated["private_steps"]))
        allowed = epsilon_of(mechanism, DELTA)
    start = time.perf_counter()
    network = train(setup)
    seconds = time.perf_counter() - start
    scores = scaled_logit(logits_of(network, torch.from_numpy(features[canaries])), labels[canaries])
    wrong = logits_of(network, torch.from_numpy(features[test])).argmax(axis=1) != labels[test]
    return Shown(
        one_run_by_shares(scores, included, delta=DELTA).epsilon,
        mu_of_one_run(scores, included, delta=DELTA).epsilon,
        advantage(scores, included),
        allowed,
        float(wrong.mean()),
        seconds,
    )


def advantage(scores: NDArray[np.float64], included: NDArray[np.bool_]) -> float:
    """Return TPR minus FPR on half of the canaries, at the threshold that is best on the other half."""
    tried, asked = np.arange(len(scores)) % 2 == 0, np.arange(len(scores)) % 2 == 1

    def apart(threshold: float, part: NDArray[np.bool_]) -> float:
        above = scores >= threshold
        return float(above[part & included].mean() - above[part & ~included].mean())

    best = max(scores[tried], key=lambda threshold: apart(float(threshold), tried))
    return apart(float(best), asked)


if __name__ == "__main__":
    main()
