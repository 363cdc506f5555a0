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

Sources: DeLong et al. (1988); Smyth (2004), "Linear models and empirical Bayes methods"; Zou and Donner (2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estimators.estimate import Estimate
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Mask

FEWEST_REFERENCES = 4
"""With two references, no record was trained on by two, and no two pairs can be compared."""
USUAL_SHARE = 1.0
"""Variance between trainings as a share of the sampling variance, where there is no bank to learn it from."""
WEIGHT_OF_RECORDS = 3.0
"""Degrees of freedom that the part known from the records counts for; the four pairs of a usual bank have three."""


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
