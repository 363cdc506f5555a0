"""Infer which exit answered from latencies: a network with early exits takes longer for records that go deeper.

Li et al., 2022, "Auditing Membership Leakages of Multi-Exit Networks" (CCS). Latencies of one exit lie together, and
between two exits their density has a valley. Measured again, a record's smallest latency is the one with the least
delay by anything else.

Who knows when each exit can answer needs no valleys (`last_exit_by`), also where early answers are held back, which
fills them up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde

from estimators.leakage.evidence import Floats

BANDWIDTH = 0.15
"""Of the kernels, in standard deviations of all latencies: Li et al. use 0.15 of their unit of time."""

# A share of the highest peak of the density: lower valleys between two peaks are noise.
LEAST_DEPTH = 0.02
GRID = 2048


def exits_from_latencies(latencies: Floats, exits: int, bandwidth: float = BANDWIDTH) -> NDArray[np.int64]:
    """Tell `(records,)` exits, from 0 for the quickest, by the valleys in the density of the latencies.

    Of the valleys the deepest are taken, one less than there are exits. An exit that hardly any record leaves by has no
    peak of its own: its records count as its neighbour's, and deeper exits have a number less.

    Args:
        latencies: `(repeats, records)`, of one record at a time, in any unit; `(1, records)` if measured once.
        exits: Of the network, the last one included.
        bandwidth: Standard deviation of the Gaussian kernels, in standard deviations of the latencies; larger ones
            see fewer exits.

    Raises:
        ValueError: If the latencies are not `(repeats, records)` with at least two records, one is not a finite
            number, there is no exit, or the bandwidth is not positive.

    >>> latencies_ms = np.array([[1.0, 9.0, 2.0, 1.1, 2.1, 1.05], [1.1, 2.05, 2.2, 1.0, 8.0, 7.0]])
    >>> exits_from_latencies(latencies_ms, exits=2).tolist()
    [0, 1, 1, 0, 1, 0]
    """
    if latencies.ndim != 2 or not len(latencies) or latencies.shape[1] < 2:
        raise ValueError(f"expected latencies (repeats, records) of two records or more; got {latencies.shape}")
    if not np.isfinite(latencies).all():
        raise ValueError("expected finite latencies; got NaN or infinity")
    if exits < 1 or not bandwidth > 0:
        raise ValueError(f"expected an exit or more and a positive bandwidth; got {exits} and {bandwidth}")
    shortest = latencies.min(axis=0).astype(np.float64)
    if np.ptp(shortest) == 0:
        return np.zeros(len(shortest), dtype=np.int64)
    return np.asarray(np.searchsorted(_valleys(shortest, exits - 1, bandwidth), shortest), dtype=np.int64)


def last_exit_by(times: Floats, latencies: Floats) -> NDArray[np.int64]:
    """Tell `(records,)` exits, from 0, from exact times: of each record the last exit that could have answered by then.

    Without delays that is the exit that answered. Where answers are held back by a time whose density falls, as that of
    a normal distribution's absolute value, it is the likeliest exit for a time before the last one's.

    Args:
        times: `(records,)`, after which each answer was given, in any unit.
        latencies: `(exits,)`, what an answer of each exit takes, ascending, in the same unit.

    >>> last_exit_by(np.array([1.0, 1.7, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0, 0, 1, 2]
    """
    return np.asarray(np.maximum(np.searchsorted(latencies, times, side="right") - 1, 0), dtype=np.int64)


def _valleys(times: NDArray[np.float64], count: int, bandwidth: float) -> NDArray[np.float64]:
    """Return the times between two exits, ascending: the deepest minima of the density."""
    grid = np.linspace(times.min(), times.max(), GRID)
    density = gaussian_kde(times, bandwidth)(grid)
    valleys, found = find_peaks(-density, prominence=LEAST_DEPTH * density.max())
    deepest = np.argsort(-found["prominences"], kind="stable")[:count]
    return np.sort(grid[valleys[deepest]])
