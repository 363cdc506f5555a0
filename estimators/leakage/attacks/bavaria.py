"""Online LiRA with a variance for each record that is shrunk towards that of all records, scored by Student's t.

Brannvall, 2026, "BaVarIA" (arXiv 2603.11799). LiRA with few references has one variance for all records, and with many
has one for each. Between the two lies a prior. With phi = log(p / (1 - p)) of the true label, the references trained on
x (in) and those that left it out (out) each give n values, and on each side

    s^2   = (a s_all^2 + sum of (phi_k - mean)^2) / (a + n - 1)
    log t = log density at phi of Student's t with a + n - 1 degrees of freedom, centre mean, scale s sqrt(1 + 1/n)

s_all^2 is the variance within records, pooled over all records, and a = 8 says that it counts as eight more
observations. This is the predictive distribution of a normal-inverse-gamma prior on the variance with a flat one on the
mean. The score is log t(in) - log t(out). Its tails are heavier than LiRA's: a single outlier decides less.

When to use: beside `lira_online`, where the spread over networks differs between records, as for records of rare kinds.
It pays mostly at low false positive rates. Where the spreads are alike, its variances are noisier than the pooled one,
and `lira_online` finds as much or more. References must be of the network's architecture and recipe.

Not monotone: where the two scales differ, the wider side wins at both ends.

What is *not* done: a prior fitted to the references, and the offline form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Mask
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import check_both_sides
from estimators.leakage.scores import pooled_variance
from estimators.leakage.scores import scaled_logit
from estimators.leakage.scores import spread_within

NEEDS = ("bank",)
MIN_REFERENCES = 4
"""Two trained on each record, and two not: a bank trains half of its references on it."""
PRIOR = 8.0
"""Observations that the variance of all records counts for. 4 to 16 give nearly the same."""


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the log ratio of two Student's t densities; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or a record has fewer than two references trained on it, or than two
            that left it out.
    """
    with_it, without = _with_and_without(bank_of(evidence, "bavaria"))
    phi = scaled_logit(evidence.logits, evidence.labels)
    return with_it.log_density(phi) - without.log_density(phi)


@dataclass(frozen=True, eq=False)
class _Predictive:
    """Student's t of each record: degrees of freedom, centre and scale, each `(records,)`."""

    degrees: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    def log_density(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `(records,)` log densities."""
        return np.asarray(stats.t.logpdf(phi, self.degrees, self.centre, self.scale))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _with_and_without(bank: Bank) -> tuple[_Predictive, _Predictive]:
    """Fit phi of networks with the record, and of those without."""
    check_both_sides(bank, "bavaria", " (attack 'lira' needs those that left it out)")
    phi = np.stack([scaled_logit(logits, bank.labels) for logits in bank.logits])
    return _predictive(phi, bank.trained_on), _predictive(phi, ~bank.trained_on)


def _predictive(values: NDArray[np.float64], among: Mask) -> _Predictive:
    """Predict a further value of each record from those of some references.

    >>> found = _predictive(np.array([[1.0, 4.0], [3.0, 8.0]]), np.ones((2, 2), bool))
    >>> found.degrees.tolist(), found.centre.tolist()
    ([9.0, 9.0], [2.0, 6.0])
    >>> (found.scale**2).round(9).tolist()  # pooled (2 + 8) / 2 = 5; (8 * 5 + 2) / 9 and (8 * 5 + 8) / 9, times 1 + 1/2
    [7.0, 8.0]
    """
    count, mean, squares = spread_within(values, among)
    degrees = np.asarray(PRIOR + count - 1, np.float64)
    variance = (PRIOR * pooled_variance(count, squares) + squares) / degrees
    # References that all agree: any difference from them is beyond all measure, yet its square is a number.
    return _Predictive(degrees, mean, np.maximum(np.sqrt(variance * (1 + 1 / count)), 1e-30))
