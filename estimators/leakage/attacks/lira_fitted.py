"""LiRA across architectures: the midpoint between members and non-members is fitted to the candidate's own answers.

Online LiRA (Carlini et al., 2022) with equal deviations scores by `(mean_in - mean_out) (phi - midpoint)`, with phi the
log odds of the true label and both means over references of the candidate's own architecture. A search has references
of another one, more or less confident than the candidate. But half of the audited records are members, and so the mean
of the candidate's own phi over records that are equally hard *is* its midpoint:

    midpoint(x) = class intercept + a mean_out(x) + b mean_in(x)        least squares over the audited records
    score(x)    = gap(x) (phi(x) - midpoint(x))                         gap = fit of mean_in - mean_out on mean_out

with the means over the bank's references. The candidate's scale is in a and b, so that confident and
less confident candidates are measured alike. The bank contributes only which records are hard, and for which records
membership has the largest effect. The attack is not told which records are members.

This is the attack that guides a search: against full audits of each candidate's own architecture it ranks better than
offline RMIA, and its AUC is nearer to theirs (`benchmarks/proxy.py`). The form was chosen there among a dozen with or
without class intercepts, mean_in and gap, which all lie close together, and confirmed on candidates drawn afterwards.

It suits audits as well. It needs few references: with four, as `--effort quick` trains, it finds nearly as much as the
best other attack with sixteen where a network does not know its members by heart, and more than any other with four
(`benchmarks/peers.py`). Where members are known by heart, `lira_online` finds a little more.

Where the bank explains most of a candidate's log odds (few epochs, heavy dropout, smooth data), what remains is less
the noise of a training than what the bank does not know of the candidate's recipe. Shadow models of that recipe do.
There this attack reads low, by up to .08, and elsewhere by up to .04. `widen` raises the upper end of its interval.

What is *not* done: a deviation for each record, and augmented queries. Where members are a small share of the audited
records, the fit is of non-members and the score that of an offline attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from estimators.estimate import Estimate
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import scaled_logit

NEEDS = ("bank",)
TRANSDUCTIVE = True
"""Scores are relative to the other audited records."""
# A class leans to all others as if it had this many records of theirs.
LEAN = 5.0
# Log odds beyond these shares of the records do not pull the fit; they are scored as they are.
CLIP = (0.005, 0.995)
LEAST_GAP = 0.1
# Log odds that differ by less are the same but for rounding.
SAME = 1e-9
# How much more the best attack may tell, on the normal scale, where the bank explains little or much of the log odds.
# Chosen on two draws of candidates, judged on a third (`benchmarks/proxy_shortfall.py`).
FACTORS = (1.2, 1.5)
EXPLAINED = (0.45, 0.6)


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the weighted distance above the midpoint; higher means member.

    Raises:
        ValueError: If the evidence has no bank, or no reference was trained on some record.
    """
    known = _known(bank_of(evidence, "lira_fitted"))
    phi = scaled_logit(evidence.logits, evidence.labels)
    return np.asarray(known.gap * (phi - known.midpoint(_clipped(phi))))


def widen(interval: Estimate, evidence: Evidence) -> Estimate:
    """Raise the upper end to hold the AUC of the best attack with shadow models of the candidate's own recipe.

    With an AUC written as that of two normal distributions, `Phi(d / sqrt(2))`, the distance d of the upper end is
    multiplied by a factor that grows from the first to the second of `FACTORS` while the share of the candidate's log
    odds that the bank explains grows between `EXPLAINED`. An end at or below 0.5 stays.

    Args:
        interval: Of this attack's AUC on the evidence.
        evidence: What the attack saw.

    Returns:
        The same value and lower end, with an upper end that is as high or higher.
    """
    factor = float(np.interp(explained(evidence), EXPLAINED, FACTORS))
    return replace(interval, high=max(interval.high, float(norm.cdf(factor * norm.ppf(interval.high)))))


def explained(evidence: Evidence) -> float:
    """Return the share of the variance of a candidate's log odds that the bank explains, from 0 to 1.

    Raises:
        ValueError: As `attack`.
    """
    known = _known(bank_of(evidence, "lira_fitted"))
    clipped = _clipped(scaled_logit(evidence.logits, evidence.labels))
    if np.ptp(clipped) < SAME:
        return 1.0
    return max(1 - float((clipped - known.midpoint(clipped)).var() / clipped.var()), 0.0)


def _clipped(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(phi, *np.quantile(phi, CLIP))


@dataclass(frozen=True, eq=False)
class _Known:
    """What the bank contributes: the design matrix of the fit, with its penalty below, and the expected gap."""

    design: NDArray[np.float64]
    gap: NDArray[np.float64]

    def midpoint(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fit a candidate's log odds `(records,)`, and return the fit."""
        # The penalty's rows stand below the records', with targets of 0.
        targets = np.concatenate([phi, np.zeros(len(self.design) - len(phi))])
        coefficients, *_ = np.linalg.lstsq(self.design, targets, rcond=None)
        return np.asarray(self.design[: len(phi)] @ coefficients)


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _known(bank: Bank) -> _Known:
    """Take the means of phi with and without each record."""
    nowhere = int((~bank.trained_on.any(axis=0)).sum())
    if nowhere:
        raise ValueError(
            "attack 'lira_fitted' expected every record to have a reference trained on it; "
            f"{nowhere} of {len(bank.labels)} have none (attack 'rmia' needs none)"
        )
    phi = np.stack([scaled_logit(logits, bank.labels) for logits in bank.logits])
    mean_in, mean_out = phi.mean(axis=0, where=bank.trained_on), phi.mean(axis=0, where=~bank.trained_on)
    ones = np.ones_like(mean_out)
    plain = np.stack([ones, mean_out], axis=1)
    slopes, *_ = np.linalg.lstsq(plain, mean_in - mean_out, rcond=None)
    gap = plain @ slopes
    classes = np.arange(bank.logits.shape[2])
    intercepts = (bank.labels[:, None] == classes).astype(np.float64)
    design = np.concatenate([np.stack([ones, mean_out, mean_in], axis=1), intercepts], axis=1)
    penalty = np.concatenate([np.zeros((len(classes), 3)), np.sqrt(LEAN) * np.eye(len(classes))], axis=1)
    # A bank that tells members from others nowhere, or the wrong way round, still leaves the ranking by distance.
    floor = LEAST_GAP * max(float(gap.mean()), 0.0) or 1.0
    return _Known(np.concatenate([design, penalty]), np.maximum(gap, floor))
