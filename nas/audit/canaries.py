"""Audit a training with canaries: one more training, and a bound on epsilon that takes no records as independent.

Test records with a wrong label each are the canaries: a network that tells such a record by its wrong label has seen
it. For each a fair coin decides whether it joins the candidate's members. One network is trained on what results, by
the candidate's recipe and defence, and asked about all canaries. As the coins are independent whatever the training
does, Steinke, Nasr and Jagielski's bound (2023, "Privacy Auditing with One (1) Training Run") holds for this one
training.

The bound is about the training as an algorithm, which is what differential privacy speaks of: it must hold for any
records, and these are among the hardest. It is not about the network that a run picked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from estimators.leakage.evidence import Mask
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.epsilon import EpsilonBound
from estimators.leakage.statistics.epsilon import guess_counts
from estimators.leakage.statistics.epsilon import one_run_by_shares
from estimators.leakage.statistics.epsilon import right_guesses
from estimators.leakage.statistics.gaussian_epsilon import GaussianBound
from estimators.leakage.statistics.gaussian_epsilon import mu_of_one_run
from nas.audit import epsilons
from nas.audit.candidate import Subject
from nas.audit.oracles import of_network
from nas.audit.shadows import trained_on
from nas.base.text import Row
from nas.base.text import plain_table
from nas.base.text import with_parameters
from nas.records import Records
from nas.search.plan import Plan
from nas.training import certificate
from nas.training.schedule import seed_from

LEAST = 10
"""Fewer canaries show next to nothing: ten right guesses of ten rule out an epsilon of 0.6."""
DELTA = 1e-5
CAVEATS = (
    epsilons.LOWER,
    (
        "The bound is of the training as an algorithm, which has to protect any records. It is not of the network that "
        "was picked."
    ),
    "The canaries have wrong labels, so the network that was trained with them is not to be used.",
    (
        "One training was audited, with one seed. Repeating it with other numbers of canaries and quoting the highest "
        "is no bound."
    ),
    epsilons.OTHERWISE,
)
"""What has to be known to read the bounds, in sentences."""


@dataclass(frozen=True, eq=False)
class Canaries:
    """Records with wrong labels, and what the coins said.

    Attributes:
        features: `(canaries, ...)`.
        labels: `(canaries,)`, each another class than the record's own.
        included: `(canaries,)`: whether the canary is trained on.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    included: Mask


@dataclass(frozen=True, eq=False)
class Found:
    """What one training with canaries shows.

    Attributes:
        included: `(canaries,)`: what the coins said.
        guesses: How many guesses were right, by how many were made: the most certain ones.
        any_training: Bound on epsilon whatever the training is; the one to quote.
        gaussian: Bound if the training's trade-off function is Gaussian.
    """

    included: Mask
    guesses: Mapping[int, int]
    any_training: EpsilonBound
    gaussian: GaussianBound


def check_count(count: int, test: Records) -> None:
    """Refuse a number of canaries that cannot be drawn or show nothing, before any training.

    Raises:
        ValueError: If it is below `LEAST`, or there are fewer test records.
    """
    if not LEAST <= count <= len(test):
        raise ValueError(
            f"expected --canaries from {LEAST} to {len(test)}, one for each test record of the run; got {count}"
        )


def draw(test: Records, count: int, seed: int) -> Canaries:
    """Draw records, a wrong label for each, and coins.

    Args:
        test: Records that the candidate was not trained on.
        count: How many.
        seed: Of all three.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(test))[:count]
    wrong = (test.labels[rows] + rng.integers(1, test.num_classes, count)) % test.num_classes
    return Canaries(test.features[rows], wrong, rng.random(count) < 0.5)


def audit(subject: Subject, members: Records, count: int) -> Found:
    """Train the candidate's kind of network once with canaries, and bound epsilon. The same call gives the same result.

    A canary's score is how much surer of its wrong label this network is than the candidate, which saw no canary: what
    is easy to mislabel is so for both.

    Args:
        subject: The candidate; of its shadow models only the description is used.
        members: What the candidate was trained on.
        count: Canaries to draw from the test records; half of them are trained on.

    Raises:
        ValueError: As `check_count`.
        nas.training.loop.Diverged: If the training diverged.
    """
    check_count(count, subject.test)
    seed = seed_from(subject.spec.seed, "canaries", subject.spec.candidate.key, count)
    drawn = draw(subject.test, count, seed)
    features = np.concatenate([members.features, drawn.features[drawn.included]])
    labels = np.concatenate([members.labels, drawn.labels[drawn.included]])
    groups = None if members.groups is None else _with_strangers(members.groups, int(drawn.included.sum()))
    network = trained_on(subject.spec, features, labels, seed_from(seed, "training"), groups=groups)
    with_canaries, without = (
        scaled_logit(of_network(asked.eval()).query(drawn.features), drawn.labels)
        for asked in (network, subject.network)
    )
    return conclude(with_canaries - without, drawn.included)


def _with_strangers(groups: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Number groups, and give each of so many further records one of its own."""
    numbers = np.unique(groups, return_inverse=True)[1]
    return np.concatenate([numbers, numbers.max() + 1 + np.arange(count)])


def conclude(scores: NDArray[np.float64], included: Mask) -> Found:
    """Bound epsilon from the canaries' scores.

    Args:
        scores: `(canaries,)`; higher means trained on.
        included: `(canaries,)`.
    """
    return Found(
        included,
        {count: right_guesses(scores, included, count) for count in guess_counts(len(scores))},
        one_run_by_shares(scores, included, delta=DELTA),
        mu_of_one_run(scores, included, delta=DELTA),
    )


def about(subject: Subject, plan: Plan, found: Found) -> dict[str, str]:
    """Return the facts about the training that was audited."""
    candidate, count = subject.spec.candidate, len(plan.data.members)
    return {
        "network": f"candidate {subject.number} of {plan.config.name}, key {candidate.key}",
        "recipe": ", ".join(f"{name} {value}" for name, value in asdict(candidate.recipe).items()),
        "defence": with_parameters(candidate.defence, candidate.defence_parameters),
        **certificate.beside(subject.guarantee, found.any_training.epsilon, found.any_training.delta),
        "data": f"{plan.config.dataset}, fingerprint {plan.data.fingerprint[:16]}",
        "training records": f"{count}, and the canaries that the coins chose",
        "canaries": f"test records with wrong labels, seed {subject.spec.seed}",
        "made by": f"gecko-nas {metadata.version('gecko-nas')}, PyTorch {torch.__version__}",
    }


def headline(found: Found) -> str:
    """Return one line: the bound, and what it stands on."""
    bound = found.any_training
    return (
        f"epsilon at least {bound.epsilon:.2f} at delta {bound.delta:g}, with {100 * bound.confidence:g} % confidence, "
        f"from one training with {len(found.included):,} canaries, {int(found.included.sum()):,} of them trained on"
    )


def table(found: Found) -> Table:
    """Lay out the bounds by what is assumed of the training."""
    laid_out = plain_table("assumed of the training", "epsilon\nat least", "mu\nat least")
    for column in laid_out.columns[1:]:
        column.justify = "right"
    laid_out.add_row(epsilons.ANY, f"{found.any_training.epsilon:.2f}", "-")
    laid_out.add_row(epsilons.GAUSSIAN, f"{found.gaussian.epsilon:.2f}", f"{found.gaussian.mu:.2f}")
    return laid_out


def summary(found: Found) -> list[str]:
    """Return lines that say what the bounds stand on, and what has to be known to read them."""
    right = ", ".join(f"{right} of {guesses}" for guesses, right in found.guesses.items())
    told = f"of the canaries that it was surest about, the attack guessed right: {right}; half would be chance"
    return [told, *CAVEATS]


def as_json(found: Found, about: Mapping[str, str]) -> Row:
    """Return what was found as plain numbers, texts, lists and dictionaries."""
    return {
        "about": dict(about),
        "canaries": len(found.included),
        "included": int(found.included.sum()),
        "guesses": [{"guesses": guesses, "right": right} for guesses, right in found.guesses.items()],
        "epsilon_bounds": [
            epsilons.bound_as_json("guesses", found.any_training),
            epsilons.bound_as_json("guesses", found.gaussian),
        ],
        "epsilon_caveats": list(CAVEATS),
    }
