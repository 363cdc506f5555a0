"""Lower bounds on epsilon for a training that is taken to be as private as a Gaussian mechanism, and no more.

A *trade-off function* gives, for each false positive rate, the least false negative rate that any attack reaches. That
of a Gaussian mechanism whose answers with and without a record are `mu` deviations apart is G(x) = Phi(Phi^-1(1 - x) -
mu); a training whose trade-off function lies nowhere below it is mu-GDP (Dong, Roth and Su, 2022).

Each bound has two parts. That a training is *not* mu-GDP for any smaller mu needs no assumption about the training.
That its epsilon is that of mu does: it holds if the training's trade-off function *is* Gaussian, as of one release of a
sum with Gaussian noise, and nearly of many small steps (their central limit theorem). Randomised response and Laplace
noise have another one; there these bounds lie above the truth. `estimators.leakage.statistics.epsilon` assumes nothing
of the kind, and reaches less: at delta 1 / records it must show rates that hardly any record shows.

As there, records are independent trials, except for `mu_of_one_run`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Scores
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import by_membership
from estimators.leakage.statistics.auc_and_rates import check_confidence
from estimators.leakage.statistics.epsilon import guess_counts
from estimators.leakage.statistics.epsilon import right_guesses
from estimators.leakage.statistics.trade_off import largest
from estimators.leakage.statistics.trade_off import ruled_out

LARGEST_MU = 40.0
"""No counts show more: at 40 deviations a false positive has a probability of 1e-349."""
NEAR_NORMAL = 0.3
"""Above this ratio of deviation to mean, one minus the AUC is not near enough to normal to be tested as such."""


@dataclass(frozen=True, slots=True)
class GaussianBound:
    """What a training is shown not to be: mu'-GDP for any mu' below mu.

    Attributes:
        mu: Lower bound on how many deviations the answers with and without a record are apart; 0: nothing is shown.
        delta: At which mu is told as an epsilon.
        confidence: Share of samples in which the bound is at most the true mu.
    """

    mu: float
    delta: float
    confidence: float

    @property
    def epsilon(self) -> float:
        """Epsilon of a Gaussian mechanism of this mu, at this delta: a lower bound if the training is like one."""
        return gaussian_epsilon(self.mu, self.delta)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the epsilon of a Gaussian mechanism at a delta: Dong et al. (2022), corollary 2.13; Balle and Wang (2018).

    Args:
        mu: Distance of its answers with and without a record, in deviations of its noise; from 0.
        delta: Above 0 and below 1: without it no Gaussian mechanism has a finite epsilon.

    Raises:
        ValueError: If `mu` or `delta` is out of range.

    >>> round(gaussian_epsilon(1.0, 1e-5), 3)
    4.377
    """
    if not 0 <= mu <= LARGEST_MU:
        raise ValueError(f"expected mu from 0 to {LARGEST_MU:g}; got {mu}")
    _check_delta(delta)

    def above(epsilon: float) -> float:
        """The logarithm of the delta that this epsilon needs, less that of the delta."""
        first, second = (
            scipy.special.log_ndtr(mu / 2 - epsilon / mu),
            epsilon + scipy.special.log_ndtr(-mu / 2 - epsilon / mu),
        )
        return float(first + math.log(-math.expm1(min(second - first, -1e-300)))) - math.log(delta)

    if mu == 0 or 2 * scipy.special.ndtr(mu / 2) - 1 <= delta:
        return 0.0
    # The first term alone is at most delta here: epsilon is no larger.
    high = mu * (mu / 2 - float(scipy.special.ndtri(delta)))
    return float(scipy.optimize.brentq(above, 0.0, high)) if above(0.0) > 0 else 0.0


def mu_over_thresholds(
    scores: Scores, is_member: Mask, *, delta: float, confidence: float = 0.95, thresholds: int = 20
) -> GaussianBound:
    """Bound mu by the threshold that shows most of many, which hold together.

    All thresholds are tested together and exactly; see `estimators.leakage.statistics.trade_off.ruled_out`. Nasr et al.
    (2023) put a confidence interval around each of the two rates instead, which costs more.

    Args:
        scores: `(records,)`; higher means member. Independent of each other.
        is_member: `(records,)`.
        delta: At which mu is told as an epsilon.
        confidence: Share of samples in which the bound on mu holds.
        thresholds: At most how many; fixed before the scores were seen.

    Raises:
        ValueError: If shapes disagree, a score is NaN, there is no member or no non-member, `delta` is not above 0 and
            below 1, the confidence is not between 0 and 1, or there is no threshold to try.

    >>> rng = np.random.default_rng(0)
    >>> scores, is_member = np.append(rng.normal(2, 1, 2000), rng.normal(0, 1, 2000)), np.arange(4000) < 2000
    >>> bound = mu_over_thresholds(scores, is_member, delta=1e-5)
    >>> round(bound.mu, 1), round(bound.epsilon, 1), round(gaussian_epsilon(2, 1e-5), 1)
    (1.9, 9.2, 10.0)
    """
    members, others = _checked(scores, is_member, delta, confidence)
    mu = ruled_out(members, others, _highest, most=LARGEST_MU, confidence=confidence, thresholds=thresholds)
    return GaussianBound(mu, delta, confidence)


def mu_from_auc(scores: Scores, is_member: Mask, *, delta: float, confidence: float = 0.95) -> GaussianBound:
    """Bound mu by the AUC: no attack on a mu-GDP training has one above Phi(mu / sqrt(2)).

    No attack has an AUC that is likelier to be high than that of a Gaussian mechanism's own scores, since each attack
    can be had from those scores by moving members down. So a mu is ruled out if the AUC lies too far above Phi(mu /
    sqrt(2)) in deviations of *those* scores' AUC (Hanley and McNeil, 1982, with the Gaussian's own moments). Half of
    the error is used, because a normal distribution stands in for the AUC's; the other half pays for what that misses.
    DeLong's lower end fails too often where the AUC is high: 6 to 14 % instead of 5 with 2,000 + 2,000 records and mu
    from 2 to 6. Where few pairs of a member and a non-member are in the wrong order, no normal distribution fits, and a
    larger mu is not shown.

    Args:
        scores: `(records,)`; higher means member. Independent of each other.
        is_member: `(records,)`.
        delta: At which mu is told as an epsilon.
        confidence: Share of samples in which the bound on mu holds.

    Raises:
        ValueError: As `mu_over_thresholds`.

    >>> rng = np.random.default_rng(0)
    >>> scores, is_member = np.append(rng.normal(2, 1, 2000), rng.normal(0, 1, 2000)), np.arange(4000) < 2000
    >>> bound = mu_from_auc(scores, is_member, delta=1e-5)
    >>> round(bound.mu, 1), round(bound.epsilon, 1)
    (1.9, 9.3)
    """
    members, others = _checked(scores, is_member, delta, confidence)
    wrong, far = auc(-scores, is_member), -float(scipy.special.ndtri((1 - confidence) / 2))

    def above(mu: float) -> float:
        expected, deviation = _wrong_order(mu, len(members), len(others))
        return max(wrong - expected + far * deviation, deviation - NEAR_NORMAL * expected)

    return GaussianBound(largest(above, LARGEST_MU), delta, confidence)


def mu_of_one_run(scores: Scores, is_member: Mask, *, delta: float, confidence: float = 0.95) -> GaussianBound:
    """Bound mu from canaries of a single training run; see `estimators.leakage.statistics.epsilon.one_run_by_shares`.

    Args:
        scores: `(canaries,)`, all of them; higher means member. They may depend on each other.
        is_member: `(canaries,)`; what the coins said.
        delta: At which mu is told as an epsilon. Unlike Steinke's bound, it costs nothing per canary.
        confidence: Share of trainings in which the bound on mu holds.

    Raises:
        ValueError: As `mu_over_thresholds`.

    >>> rng = np.random.default_rng(0)
    >>> is_member = rng.random(1000) < 0.5
    >>> round(mu_of_one_run(rng.normal(size=1000) + 2 * is_member, is_member, delta=1e-5).mu, 1)
    1.2
    """
    _checked(scores, is_member, delta, confidence)
    counts = guess_counts(len(scores))
    error = (1 - confidence) / len(counts)
    found = [one_run_mu(len(scores), n, right_guesses(scores, is_member, n), confidence=1 - error) for n in counts]
    return GaussianBound(max(found), delta, confidence)


def one_run_mu(canaries: int, guesses: int, correct: int, *, confidence: float = 0.95) -> float:
    """Bound mu from counts of right guesses about the canaries of one training.

    Mahloujifar, Melis and Chaudhuri (2024, "Auditing f-Differential Privacy in One Run"), algorithm 3. Let h(i) be the
    probability that a given canary is guessed wrong and at least i guesses are right, r(i) that it is guessed right and
    at least i are. The trade-off function bounds r(i + 1) by h(i). From the error as the probability of so many right
    guesses follow, downwards, the least values of all h and r; if they add up to more than the share of guesses, that
    probability is too large for this mu.

    Args:
        canaries: How many coins were thrown.
        guesses: On how many the auditor did not abstain; fixed before the scores were seen.
        correct: How many of the guesses were right.
        confidence: Share of trainings in which the bound holds.

    Raises:
        ValueError: If not `0 <= correct <= guesses <= canaries`, or the confidence is not between 0 and 1.

    >>> round(one_run_mu(1, 1, 1, confidence=0.1), 3)  # 2 Phi^-1(0.9): how well one coin can be told.
    2.563
    """
    check_confidence(confidence)
    if not (0 <= correct <= guesses <= canaries and canaries > 0):
        raise ValueError(f"expected 0 <= correct <= guesses <= canaries; got {correct}, {guesses}, {canaries}")

    def above(mu: float) -> float:
        right = (1 - confidence) * correct / canaries
        wrong = (1 - confidence) * (guesses - correct) / canaries
        for i in range(correct - 1, -1, -1):
            more = float(scipy.special.ndtr(scipy.special.ndtri(right) - mu))
            if more <= wrong:  # then nothing changes any more
                break
            right, wrong = min(right + i / (guesses - i) * (more - wrong), 1.0), more
        return guesses / canaries - (right + wrong)

    return largest(above, LARGEST_MU) if correct else 0.0


def _checked(scores: Scores, is_member: Mask, delta: float, confidence: float) -> tuple[Scores, Scores]:
    check_confidence(confidence)
    _check_delta(delta)
    return by_membership(scores, is_member)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"expected delta above 0 and below 1; got {delta}")


def _highest(rates: Scores, mu: float) -> Scores:
    return np.asarray(scipy.special.ndtr(scipy.special.ndtri(rates) + mu))


def _wrong_order(mu: float, members: int, others: int) -> tuple[float, float]:
    """Return mean and deviation of the share of pairs in the wrong order, for the scores of a Gaussian mechanism."""
    places = np.linspace(-10, 10, 401)
    density = np.exp(-(places**2) / 2)
    mean = float(scipy.special.ndtr(-mu / math.sqrt(2)))
    # Two members against one non-member; for two non-members against one member it is the same.
    both = float((scipy.special.ndtr(places - mu) ** 2) @ density / density.sum())
    variance = (mean * (1 - mean) + (members + others - 2) * (both - mean**2)) / (members * others)
    return mean, math.sqrt(variance)
