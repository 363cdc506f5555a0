"""Lower bounds on the epsilon of a training, from how well an attack works.

A training that is (epsilon, delta) differentially private keeps every attack to TPR <= exp(epsilon) FPR + delta, and to
TNR <= exp(epsilon) FNR + delta. An attack that does better shows epsilon to be larger. Each bound here fails in at most
`1 - confidence` of samples, the search for a threshold included; none says that the true epsilon is small.

The first three bounds take records as independent trials. They are where each record's score comes from its own
training, or from a mechanism that treats records apart. Records of *one* training share its randomness: for those use
`one_run`, which assumes only that fair coin flips chose the canaries to train on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Scores
from estimators.leakage.statistics.auc_and_rates import by_membership
from estimators.leakage.statistics.auc_and_rates import check_confidence
from estimators.leakage.statistics.thresholds import calibration_half
from estimators.leakage.statistics.trade_off import ruled_out

LARGEST_EPSILON = 500.0
"""No counts show more, and its exponential is a number yet."""
GUESSED_SHARES = (0.1, 0.3, 0.7, 1.0)
"""Shares of the canaries on which `one_run_by_shares` guesses; chosen on simulated Gaussian scores, not on networks."""


@dataclass(frozen=True, slots=True)
class EpsilonBound:
    """What a training is shown not to be: (epsilon', delta) differentially private for any epsilon' below epsilon.

    Attributes:
        epsilon: Lower bound, 0 where nothing is shown. One-sided.
        delta: It holds for this delta alone; a smaller delta would give a larger one.
        confidence: Share of samples in which the bound is at most the true epsilon.
    """

    epsilon: float
    delta: float
    confidence: float


def at_threshold(
    scores: Scores, is_member: Mask, threshold: float, *, delta: float, confidence: float = 0.95
) -> EpsilonBound:
    """Bound epsilon at a threshold fixed before the scores were seen.

    Clopper and Pearson's one-sided bounds for the true and the false positive rate, each at half of the error, hold
    together; both directions of the definition follow from them (as Nasr et al., 2021, but for both directions).

    Args:
        scores: `(records,)`; higher means member. Independent of each other.
        is_member: `(records,)`.
        threshold: A record is called a member if it scores strictly above. Chosen on these scores, it voids the bound.
        delta: Of the definition; 0 is pure differential privacy.
        confidence: Share of samples in which the bound holds.

    Raises:
        ValueError: If shapes disagree, a score or the threshold is NaN, there is no member or no non-member, `delta`
            is not from 0 to below 1, or the confidence is not between 0 and 1.

    >>> scores, is_member = np.repeat([1.0, 0.0], 500), np.arange(1000) < 500
    >>> round(at_threshold(scores, is_member, 0.5, delta=0.0, confidence=0.99).epsilon, 2)
    4.54
    """
    members, others = _checked(scores, is_member, delta, confidence)
    if math.isnan(threshold):
        raise ValueError("expected a threshold; got NaN")
    return EpsilonBound(_measured(members, others, threshold, delta, 1 - confidence), delta, confidence)


def over_thresholds(
    scores: Scores, is_member: Mask, *, delta: float, confidence: float = 0.95, thresholds: int = 20
) -> EpsilonBound:
    """Bound epsilon by the best of many thresholds, which are tested together and exactly.

    Both directions of the definition bound the true positive rate by a function of the false one (Wasserman and Zhou,
    2010; Kairouz et al., 2015); `estimators.leakage.statistics.trade_off.ruled_out` says what the counts at all
    thresholds rule out.

    Args:
        scores: `(records,)`; higher means member. Independent of each other.
        is_member: `(records,)`.
        delta: Of the definition; 0 is pure differential privacy.
        confidence: Share of samples in which the bound holds.
        thresholds: At most how many; fixed before the scores were seen.

    Raises:
        ValueError: As `at_threshold`, or if there is no threshold to try.

    >>> rng = np.random.default_rng(0)
    >>> scores, is_member = np.append(rng.normal(2, 1, 5000), rng.normal(0, 1, 5000)), np.arange(10_000) < 5000
    >>> round(over_thresholds(scores, is_member, delta=1e-5).epsilon, 1)
    4.1
    """
    members, others = _checked(scores, is_member, delta, confidence)
    found = ruled_out(
        members,
        others,
        lambda rates, epsilon: _highest(rates, epsilon, delta),
        most=LARGEST_EPSILON,
        confidence=confidence,
        thresholds=thresholds,
    )
    return EpsilonBound(found, delta, confidence)


def by_splitting(
    scores: Scores, is_member: Mask, *, delta: float, seed: int, confidence: float = 0.95, thresholds: int = 100
) -> EpsilonBound:
    """Bound epsilon at the threshold that looks best on one half of the records, measured on the other half.

    Unlike `over_thresholds` it needs no correction but half of the records.

    Args:
        scores: `(records,)`; higher means member. Independent of each other.
        is_member: `(records,)`.
        delta: Of the definition; 0 is pure differential privacy.
        seed: Of the split. Trying several and keeping the best voids the bound.
        confidence: Share of samples in which the bound holds.
        thresholds: At most how many to try in each direction.

    Raises:
        ValueError: As `over_thresholds`, or if there are fewer than two members or two non-members.
    """
    _checked(scores, is_member, delta, confidence)
    first = calibration_half(is_member, seed)
    candidates = []
    for sign in (1.0, -1.0):
        positives, negatives = by_membership(sign * scores[first], is_member[first] == (sign > 0))
        ranks = _ranks(len(negatives), thresholds)
        bounds = _at_ranks(positives, negatives, ranks, delta, 1 - confidence)
        candidates.append((float(bounds.max()), sign, float(_descending(negatives)[ranks[int(bounds.argmax())]])))
    _, sign, threshold = max(candidates)
    positives, negatives = by_membership(sign * scores[~first], is_member[~first] == (sign > 0))
    return EpsilonBound(_measured(positives, negatives, threshold, delta, 1 - confidence), delta, confidence)


def one_run(scores: Scores, is_member: Mask, *, guesses: int, delta: float, confidence: float = 0.95) -> EpsilonBound:
    """Bound epsilon from canaries of a single training run.

    Steinke, Nasr and Jagielski (2023, "Privacy Auditing with One (1) Training Run"), for adding or removing a record: a
    fair coin per canary says whether it is trained on. The auditor guesses the highest scores to be in, the lowest to
    be out, half of the guesses each, and abstains between. Ties go against the auditor, so the order of the records
    tells nothing.

    Args:
        scores: `(canaries,)`, all of them; higher means member. They may depend on each other.
        is_member: `(canaries,)`; what the coins said. A fixed half is *not* a coin per canary.
        guesses: How many to guess, fixed before the scores were seen. More are needed for a large epsilon to show,
            more confident ones for any to show.
        delta: Of the definition. It is paid once per canary: keep it well below 1 / canaries.
        confidence: Share of trainings in which the bound holds.

    Raises:
        ValueError: As `at_threshold`, or if guesses are not from 1 to canaries.

    >>> rng = np.random.default_rng(0)
    >>> is_member = rng.random(1000) < 0.5
    >>> round(one_run(is_member.astype(float), is_member, guesses=100, delta=1e-5).epsilon, 2)
    3.47
    """
    _checked(scores, is_member, delta, confidence)
    correct = right_guesses(scores, is_member, guesses)
    return one_run_bound(len(scores), guesses, correct, delta=delta, confidence=confidence)


def one_run_by_shares(scores: Scores, is_member: Mask, *, delta: float, confidence: float = 0.95) -> EpsilonBound:
    """Bound epsilon from canaries of a single training run, by the best of several numbers of guesses.

    Few confident guesses show a small epsilon, many a large one, and which it is cannot be known beforehand. The
    numbers of `guess_counts` are tried, each at its part of the error (Bonferroni). The best of many without this
    correction, as some programs report it, is no bound.

    Args:
        scores: `(canaries,)`, all of them; higher means member. They may depend on each other.
        is_member: `(canaries,)`; what the coins said.
        delta: Of the definition. It is paid once per canary: keep it well below 1 / canaries.
        confidence: Share of trainings in which the bound holds.

    Raises:
        ValueError: As `one_run`.
    """
    counts = guess_counts(len(scores))
    error = (1 - confidence) / len(counts)
    found = [one_run(scores, is_member, guesses=n, delta=delta, confidence=1 - error) for n in counts]
    return EpsilonBound(max(bound.epsilon for bound in found), delta, confidence)


def guess_counts(canaries: int) -> list[int]:
    """Return on how many canaries to guess: `GUESSED_SHARES` of them, each number once."""
    return sorted({max(round(share * canaries), 1) for share in GUESSED_SHARES})


def right_guesses(scores: Scores, is_member: Mask, guesses: int) -> int:
    """Count right guesses: the highest scores are guessed to be in, the lowest to be out, half of the guesses each.

    Ties go against the auditor.

    Args:
        scores: `(canaries,)`; higher means member.
        is_member: `(canaries,)`.
        guesses: How many.

    Raises:
        ValueError: If guesses are not from 1 to canaries.
    """
    if not 1 <= guesses <= len(scores):
        raise ValueError(f"expected guesses from 1 to the {len(scores)} canaries; got {guesses}")
    guessed_in = (guesses + 1) // 2
    highest = np.lexsort((is_member, -scores))[:guessed_in]
    lowest = np.lexsort((~is_member, scores))[: guesses - guessed_in]
    return int(is_member[highest].sum()) + int((~is_member[lowest]).sum())


def one_run_bound(canaries: int, guesses: int, correct: int, *, delta: float, confidence: float = 0.95) -> EpsilonBound:
    """Bound epsilon from counts of right guesses; see `one_run`.

    Args:
        canaries: How many coins were thrown.
        guesses: On how many the auditor did not abstain.
        correct: How many of the guesses were right.
        delta: Of the definition.
        confidence: Share of trainings in which the bound holds.

    Raises:
        ValueError: If not `0 <= correct <= guesses <= canaries`, or as `at_threshold`.

    >>> round(one_run_bound(1000, 100, 75, delta=1e-4).epsilon, 3)  # The paper's example, appendix D.
    0.673
    """
    check_confidence(confidence)

    def above(epsilon: float) -> float:
        return one_run_p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta) - (1 - confidence)

    high = 1.0
    if above(0.0) >= 0:
        return EpsilonBound(0.0, delta, confidence)
    while above(high) < 0:
        high *= 2
    # The root, less the solver's tolerance: a bound must not lie above it.
    root = float(scipy.optimize.brentq(above, 0.0, high, xtol=1e-9))
    return EpsilonBound(max(root - 2e-9, 0.0), delta, confidence)


def one_run_p_value(canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float) -> float:
    """Return how likely so many right guesses are, at most, if the training is (epsilon, delta) private.

    Steinke et al. (2023), corollary 5.4: under pure privacy the right guesses are dominated by Binomial(guesses,
    1 / (1 + exp(-epsilon))); delta adds, per canary, what it could push over the line.

    Args:
        canaries: How many coins were thrown.
        guesses: On how many the auditor did not abstain.
        correct: How many of the guesses were right.
        epsilon: Of the hypothesis.
        delta: Of the hypothesis.

    Raises:
        ValueError: If not `0 <= correct <= guesses <= canaries`, epsilon is negative, or `delta` is not from 0 to
            below 1.

    >>> one_run_p_value(10, 4, 4, epsilon=0.0, delta=0.0)  # Four fair coins, all heads.
    0.0625
    """
    if not (0 <= correct <= guesses <= canaries and canaries > 0):
        raise ValueError(f"expected 0 <= correct <= guesses <= canaries; got {correct}, {guesses}, {canaries}")
    if not epsilon >= 0:
        raise ValueError(f"expected epsilon from 0; got {epsilon}")
    _check_delta(delta)
    # Counted by wrong guesses: at a large epsilon their rate is tiny and 1 minus it would round.
    wrong, rate = guesses - correct, float(scipy.special.expit(-epsilon))
    pushed = 0.0
    if correct and delta:
        steps = np.arange(1, correct + 1)
        pushed = float((np.cumsum(scipy.stats.binom.pmf(wrong + steps, guesses, rate)) / steps).max())
    return min(float(scipy.stats.binom.cdf(wrong, guesses, rate)) + 2 * canaries * delta * pushed, 1.0)


def _checked(scores: Scores, is_member: Mask, delta: float, confidence: float) -> tuple[Scores, Scores]:
    check_confidence(confidence)
    _check_delta(delta)
    return by_membership(scores, is_member)


def _check_delta(delta: float) -> None:
    if not 0 <= delta < 1:
        raise ValueError(f"expected delta from 0 to below 1; got {delta}")


def _highest(rates: Scores, epsilon: float, delta: float) -> Scores:
    """Return the highest true positive rates that (epsilon, delta) allows, of false positive rates."""
    allowed = np.minimum(math.exp(epsilon) * rates + delta, 1 - math.exp(-epsilon) * (1 - delta - rates))
    return np.asarray(np.clip(allowed, 0.0, 1.0))


def _measured(positives: Scores, negatives: Scores, threshold: float, delta: float, error: float) -> float:
    """Bound epsilon where strictly above a threshold means positive."""
    hits, false = int((positives > threshold).sum()), int((negatives > threshold).sum())
    return float(_epsilon(hits, len(positives), false, len(negatives), delta=delta, error=error).item())


def _at_ranks(
    positives: Scores, negatives: Scores, ranks: NDArray[np.int64], delta: float, error: float
) -> NDArray[np.float64]:
    """Bound epsilon at each rank of the negatives, an error for each."""
    thresholds = _descending(negatives)[ranks]
    hits = len(positives) - np.searchsorted(np.sort(positives), thresholds, side="right")
    # The rank, not the negatives counted above: among ties these are fewer, and the bound would not hold.
    return _epsilon(hits, len(positives), ranks, len(negatives), delta=delta, error=error)


def _epsilon(
    hits: ArrayLike, positives: int, false: ArrayLike, negatives: int, *, delta: float, error: float
) -> NDArray[np.float64]:
    """Bound epsilon from counts: two one-sided bounds, half of the error each, and both directions."""
    hits, false = np.asarray(hits), np.asarray(false)
    low = np.where(hits > 0, scipy.special.betaincinv(np.maximum(hits, 1), positives - hits + 1, error / 2), 0.0)
    high = np.where(
        false < negatives, scipy.special.betainccinv(false + 1, np.maximum(negatives - false, 1), error / 2), 1.0
    )
    ratio = np.maximum((low - delta) / high, (1 - high - delta) / (1 - low))
    return np.asarray(np.log(np.maximum(ratio, 1.0)))


def _ranks(records: int, count: int) -> NDArray[np.int64]:
    """Space ranks from 0, geometrically, up to half of the records; beyond it the other direction says more."""
    if count < 1:
        raise ValueError(f"expected at least one threshold; got {count}")
    return np.unique(np.geomspace(1, max(records // 2, 1), count).astype(np.int64)) - 1


def _descending(scores: Scores) -> Scores:
    return np.sort(scores)[::-1]
