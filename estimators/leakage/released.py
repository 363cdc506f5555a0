"""What several versions of one network reveal together.

Whoever publishes a network and its compressed versions publishes more than any of them: each was made from the same
training, and what differs between them is about the records (CompLeak, 2025, arXiv 2507.16872). The attacker here sees
all of them, and holds their log odds against those of shadow networks that were compressed alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Mask
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import scaled_logit

# Versions that agree to the last digit have a singular covariance; a share of the mean variance keeps it invertible.
RIDGE = 1e-3


def together(versions: Sequence[Evidence]) -> NDArray[np.float64]:
    """Score `(records,)` by the likelihood ratio over all versions at once; higher means member.

    Online LiRA (Carlini et al., 2022) with a vector in the place of a number: for each record the means over shadows
    trained on it and over those that left it out, one covariance for either side, pooled over records. With a single
    version it ranks as `lira_online` does below 64 shadows.

    Args:
        versions: One for each version, about the same records in the same order, with banks of the same shadows'
            versions.

    Raises:
        ValueError: If there is no version, one has no bank, banks disagree about records or shadows, or a record has
            fewer than two shadows trained on it, or than two that left it out.
    """
    if not versions:
        raise ValueError("expected at least one version; got none")
    banks = [bank_of(version, "together") for version in versions]
    first = banks[0]
    if any(not np.array_equal(bank.trained_on, first.trained_on) for bank in banks):
        raise ValueError("expected banks of the same shadows for all versions; they were trained on other records")
    fewer = np.minimum(first.trained_on.sum(axis=0), (~first.trained_on).sum(axis=0))
    if fewer.min() < 2:
        raise ValueError(
            "expected two shadows or more trained on each record, and two that left it out; "
            f"{int((fewer < 2).sum())} of {len(fewer)} records have fewer"
        )
    own = np.stack([scaled_logit(version.logits, version.labels) for version in versions], axis=-1)
    shadows = np.stack([_phi(bank) for bank in banks], axis=-1)
    return _log_density(own, shadows, first.trained_on) - _log_density(own, shadows, ~first.trained_on)


def _phi(bank: Bank) -> NDArray[np.float64]:
    return np.stack([scaled_logit(logits, bank.labels) for logits in bank.logits])


def _log_density(own: NDArray[np.float64], shadows: NDArray[np.float64], among: Mask) -> NDArray[np.float64]:
    """Return `(records,)` log densities, less a constant, of the normal fitted to some shadows of each record."""
    count = among.sum(axis=0)
    mean = np.einsum("rnv,rn->nv", shadows, among) / count[:, None]
    residuals = (shadows - mean)[among]
    degrees = max(int(count.sum()) - len(count), 1)
    covariance = residuals.T @ residuals / degrees
    versions = len(covariance)
    scale = max(float(np.trace(covariance)) / versions, 1e-30)
    covariance += RIDGE * scale * np.eye(versions)
    apart = own - mean
    distance = np.einsum("nv,vw,nw->n", apart, np.linalg.inv(covariance), apart)
    return np.asarray(-(distance + np.linalg.slogdet(covariance)[1]) / 2)
