"""How far trainings of one recipe lie apart, learned from references that were trained on complementary halves.

A measured number has two variances. One is that of the records: which of all possible ones are attacked, or are in the
validation set. DeLong's interval of an AUC and the exact one of a share are of this. The other is that of the training:
the same recipe on the same records, from another seed, gives another network with other numbers.

The second is learned from pairs of references. The two of a pair were trained on complementary halves of the same
records, so what makes one of them look better because the easy records are its members makes the other look worse by
as much. In the mean of a pair this cancels, and pairs differ by their trainings alone:

    2 var(mean of a pair) = variance between trainings

A bank has two to four pairs, so this is a rough number. One part of it is measured well, because there are many
records: what trainings do to each record on its own. This is the variance of a record's contribution over the
references that share its role, averaged over the records and divided by their number. Trainings that move all records
together add to it. Like Smyth's (2004) moderated variances, the estimate is the mean of both, weighted by degrees of
freedom, and never less than the well-known part.

It is told as a share of the sampling variance, because it is used for networks that leak more or less than the
references: both variances become small together where an AUC nears 1 or an error nears 0. `benchmarks/
between_trainings.py` compares it with what trainings of random candidates vary by.

Where a recipe is trained several times, its own trainings are counted together with that (`repeated`).

Sources: DeLong et al. (1988); Smyth (2004), "Linear models and empirical Bayes methods"; Zou and Donner (2008); Welch
(1947) and Satterthwaite (1946) for the degrees of freedom of a sum of variances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import scipy

from estimators.estimate import Estimate
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Mask

FEWEST_REFERENCES = 4
"""With two references, no record was trained on by two, and no two pairs can be compared."""
USUAL_SHARE = 1.0
"""Variance between trainings as a share of the sampling variance, where there is no bank to learn it from."""
WEIGHT_OF_RECORDS = 3.0
"""Degrees of freedom that the part known from the records counts for; the four pairs of a usual bank have three."""
NORMAL_95 = NormalDist().inv_cdf(0.975)
"""How many standard deviations an end of a 95 % interval lies from the value."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How far trainings of one recipe lie apart in one measure.

    Attributes:
        share: Variance between trainings as a share of the sampling variance of the records; higher is further apart.
        sd: Standard deviation between trainings of the references, in the measure's unit; 0 if nothing was learned.
        pairs: Pairs of references that it was learned from; 0 where the share is `USUAL_SHARE`.

    Raises:
        ValueError: If a number is negative or not finite.
    """

    share: float
    sd: float
    pairs: int

    def __post_init__(self) -> None:
        if not (0 <= self.share < math.inf and 0 <= self.sd < math.inf and self.pairs >= 0):
            raise ValueError(f"expected numbers from 0; got {self.share}, {self.sd} and {self.pairs}")


@dataclass(frozen=True, slots=True)
class Repeated:
    """What several trainings of one recipe say of a measure.

    Attributes:
        values: What each training gave.
        mean: Their mean, with the 95 % interval of the mean over all trainings and records.
        anew: The same mean, with the 95 % interval of a network that is trained anew.
    """

    values: tuple[float, ...]
    mean: Estimate
    anew: Estimate


USUAL = Spread(USUAL_SHARE, 0.0, 0)
"""What is taken where a bank has too few references to learn from, or there is none."""


def spread_of_pairs(values: Floats, contributions: Floats, groups: Sequence[Mask]) -> Spread:
    """Learn how far trainings lie apart from references of which each two neighbours are a complementary pair.

    The measure of a reference is a sum of means, one over each group of records; of an AUC, for example, of the
    members' and the non-members' placements, up to a constant. How the groups' means enter, added or subtracted, makes
    no difference for the variances.

    Args:
        values: `(references,)`, the measure of each; an even number, at least four.
        contributions: `(references, records)`; read where a group holds the record.
        groups: Each `(references, records)`: the records that one mean of each reference is over.

    Raises:
        ValueError: If there are fewer references, an odd number of them, or shapes disagree.
    """
    references = len(values)
    if references < FEWEST_REFERENCES or references % 2:
        raise ValueError(f"expected pairs of references, at least {FEWEST_REFERENCES} of them; got {references}")
    if any(contributions.shape != group.shape for group in groups) or len(contributions) != references:
        raise ValueError(
            f"expected contributions and groups ({references}, records); got {contributions.shape} and "
            f"{[group.shape for group in groups]}"
        )
    sampling = sum(_sampling_variance(contributions, group) for group in groups)
    of_records = sum(_variance_of_records(contributions, group) for group in groups)
    of_pairs = 2 * float(values.reshape(-1, 2).mean(axis=1).var(ddof=1))
    freedom = references // 2 - 1
    moderated = (freedom * of_pairs + WEIGHT_OF_RECORDS * of_records) / (freedom + WEIGHT_OF_RECORDS)
    variance = max(moderated, of_records)
    # References that are right everywhere, or wrong, do not vary and tell nothing.
    share = variance / sampling if sampling > 0 else USUAL_SHARE
    return Spread(share, math.sqrt(variance), references // 2)


def wider(share: float) -> float:
    """Return how many times as wide an interval for another training is as one of the records alone.

    Another training on the same records is off by twice the variance between trainings, because both trainings are
    chance. A training on average, on other records, is off by the sampling variance; another one by the variance
    between trainings as well. The sampling variance holds already what trainings do to each record on its own, so the
    variance is `max(sampling, between) + between`, and this its root as a multiple of the sampling's.

    Args:
        share: Variance between trainings as a share of the sampling variance.

    >>> wider(0.0), round(wider(1.0), 3), wider(2.0)
    (1.0, 1.414, 2.0)
    """
    return math.sqrt(max(1.0, share) + share)


def widened(estimate: Estimate, share: float, *, lowest: float = 0.0) -> Estimate:
    """Widen an interval that is of the records alone, so that it also holds another training's number.

    Each end moves away from the value by a factor (`wider`): distances of ends are added as standard errors are (Zou
    and Donner, 2008).

    Args:
        estimate: With an interval of the records' sampling alone.
        share: Variance between trainings as a share of the sampling variance.
        lowest: Lowest number that the measure can be; the highest is 1.

    >>> wide = widened(Estimate(0.6, 0.58, 0.62), 1.0)
    >>> round(wide.low, 4), round(wide.high, 4)
    (0.5717, 0.6283)
    """
    more = wider(share) - 1
    low = estimate.low - more * (estimate.value - estimate.low)
    high = estimate.high + more * (estimate.high - estimate.value)
    return Estimate(estimate.value, max(low, min(lowest, estimate.low)), min(high, max(1.0, estimate.high)))


def repeated(estimates: Sequence[Estimate], spread: Spread, *, lowest: float = 0.0) -> Repeated:
    """Put several trainings of one recipe together, all measured on the same records.

    With V the sampling variance of the records and B the variance between trainings, the mean of k trainings is off the
    mean over all trainings and records by V + B / k. V is not divided: the trainings share their records. A network
    that is trained anew is off by B more on other records, and by B + B / k on the same ones; the larger counts, so
    that one training has the variance of `wider`.

    B is known from the k trainings with k - 1 degrees of freedom, and beforehand as a share of V, with one less than
    the pairs that it was learned from and `WEIGHT_OF_RECORDS` together. It is the mean of both, weighted by these, as
    in `spread_of_pairs`. So intervals are Student's; V is taken as known (Welch and Satterthwaite).

    Args:
        estimates: One for each training, with intervals of the records' sampling alone; at least one.
        spread: What is known beforehand.
        lowest: Lowest number that the measure can be; the highest is 1.

    >>> alike = repeated([Estimate(0.6, 0.58, 0.62)] * 3, Spread(0.0, 0.0, 4))
    >>> round(alike.mean.low, 4), round(alike.anew.high, 4)  # trainings vary by nothing: the records are left
    (0.58, 0.62)
    >>> apart = repeated([Estimate(x, x - 0.02, x + 0.02) for x in (0.5, 0.6, 0.7)], Spread(0.0, 0.0, 4))
    >>> round(apart.mean.low, 3), round(apart.anew.low, 3)
    (0.532, 0.467)
    """
    values = np.array([one.value for one in estimates])
    lows, highs = (np.array([getattr(one, end) for one in estimates]) for end in ("low", "high"))
    below, above = _halves(values, values - lows, spread), _halves(values, highs - values, spread)
    mean, floor, ceiling = float(values.mean()), min(lowest, float(lows.min())), max(1.0, float(highs.max()))
    of_mean, anew = (
        Estimate(mean, max(mean - low, floor), min(mean + high, ceiling))
        for low, high in zip(below, above, strict=True)
    )
    return Repeated(tuple(values.tolist()), of_mean, anew)


def _halves(values: Floats, distances: Floats, spread: Spread) -> tuple[float, float]:
    """Return how far one end lies from the mean: in the interval of the mean, and in that of another training.

    Args:
        values: `(trainings,)`.
        distances: Alike, from each value to that end of its interval of the records alone.
        spread: What is known beforehand.
    """
    count, prior = len(values), WEIGHT_OF_RECORDS + spread.pairs - 1
    freedom = prior + count - 1
    sampling = float(np.mean((distances / NORMAL_95) ** 2))
    found = float(values.var(ddof=1)) if count > 1 else 0.0
    between = (prior * spread.share * sampling + (count - 1) * found) / freedom
    of_mean = between / count
    another = (sampling, between) if sampling >= of_mean else (0.0, of_mean + between)
    return _half(sampling, of_mean, freedom), _half(*another, freedom)


def _half(known: float, estimated: float, freedom: float) -> float:
    """Return half of a 95 % interval whose variance is the sum of a known one and an estimated one."""
    variance = known + estimated
    if estimated == 0:
        return NORMAL_95 * math.sqrt(variance)
    return float(scipy.special.stdtrit(freedom * (variance / estimated) ** 2, 0.975)) * math.sqrt(variance)


def _sampling_variance(contributions: Floats, groups: Mask) -> float:
    """Return the variance of a mean over a group as the records of one reference say it, averaged over references."""
    rows = [row[group] for row, group in zip(contributions, groups, strict=True)]
    return float(np.mean([row.var(ddof=1) / len(row) for row in rows]))


def _variance_of_records(contributions: Floats, groups: Mask) -> float:
    """Return the variance of a mean over a group that comes from what references make of each record on its own."""
    counts = groups.sum(axis=0)
    known = counts > 1  # of pairs, each record is in the group for half of the references
    means = np.where(groups, contributions, 0.0).sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(groups, (contributions - means) ** 2, 0.0).sum(axis=0)
    return float((squares[known] / (counts[known] - 1)).mean() / groups.sum(axis=1).mean())
