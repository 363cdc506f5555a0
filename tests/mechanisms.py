"""Mechanisms whose privacy is known, and scores of records that they answer."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm


def gaussian_epsilon(shift, delta):
    """Epsilon of a Gaussian mechanism of sensitivity `shift` and deviation 1: Balle and Wang (2018), theorem 8."""
    return brentq(
        lambda e: norm.cdf(shift / 2 - e / shift) - np.exp(e) * norm.cdf(-shift / 2 - e / shift) - delta, 0, 50
    )


def gaussian(rng, shift, records):
    is_member = np.arange(2 * records) < records
    return rng.normal(size=2 * records) + shift * is_member, is_member


def counted(hits, members, false, others):
    """Scores 1 and 0 with these counts above 0.5."""
    is_member = np.arange(members + others) < members
    scores = np.concatenate([np.arange(members) < hits, np.arange(others) < false])
    return scores.astype(float), is_member
