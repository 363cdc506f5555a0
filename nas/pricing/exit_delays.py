"""Hold back the answers of early exits, so that the time of an answer does not tell the exit; and what that costs.

Source: TimeGuard, the defence of Li et al., "Auditing Membership Leakages of Multi-Exit Networks" (CCS 2022). An answer
that takes t milliseconds is given after min(t + |N(0, deviation)|, slowest), with `slowest` the latency of the last
exit. What is drawn follows from the record: whoever asks again waits as long again, and averages nothing out.

Difference from the published code, whose delays follow from a hash of the record that anybody can compute: here they
follow from the record and a secret of the device. Whoever knows the rule and not the secret can subtract nothing.

What it does not do. It hides the exit in the time of one record, not in power, heat or the answer itself. A record that
differs in a bit draws another delay: whoever may ask for many copies of nearly the same record sees the least of their
delays, which is close to none. An answer before an exit's own latency still tells that it came by an earlier one. And
what it hides it pays for with the time that early exits save: `delayed_by_exit_ms` says how much is left.

It runs where the network is deployed. An exported file computes all exits and knows no delays. An idle wait costs no
multiply-accumulates; the energy of a device that waits is not counted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_SECRET = 16
"""Bytes: 128 bits cannot be guessed."""


def delayed_ms(
    record: NDArray[Any], latency_ms: float, *, slowest_ms: float, deviation_ms: float, secret: bytes
) -> float:
    """Return after how many milliseconds the answer to a record is given.

    Args:
        record: As the network gets it, of any shape.
        latency_ms: What the answer took to compute.
        slowest_ms: Latency of the last exit; no answer is held back longer.
        deviation_ms: Of the normal distribution whose absolute value is waited; higher hides more and costs time.
        secret: Of the device, at least `LEAST_SECRET` bytes.

    Raises:
        ValueError: If the secret is shorter, or the deviation negative.
    """
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"expected a secret of {LEAST_SECRET} bytes or more; got {len(secret)}")
    _check(deviation_ms)
    digest = hashlib.blake2b(np.ascontiguousarray(record).tobytes(), digest_size=16, key=secret[:64]).digest()
    wait = abs(np.random.default_rng(int.from_bytes(digest, "little")).normal(0, deviation_ms))
    return max(latency_ms, min(latency_ms + wait, slowest_ms))


def delayed_by_exit_ms(latencies_ms: Sequence[float], deviation_ms: float) -> list[float]:
    """Return the mean time of an answer of each exit when those of early exits are held back.

    Args:
        latencies_ms: Of each exit, the last one the slowest.
        deviation_ms: As in `delayed_ms`; 0: nothing is held back.

    Raises:
        ValueError: If the deviation is negative.

    >>> [round(time, 2) for time in delayed_by_exit_ms([1.0, 3.0], 0.5)]
    [1.4, 3.0]
    """
    _check(deviation_ms)
    slowest = max(latencies_ms)
    return [latency + _mean_wait(slowest - latency, deviation_ms) for latency in latencies_ms]


def _mean_wait(most: float, deviation: float) -> float:
    """Return the mean of min(|N(0, deviation)|, most)."""
    if not deviation or not most:
        return 0.0
    ratio = most / deviation
    below = deviation * math.sqrt(2 / math.pi) * -math.expm1(-ratio * ratio / 2)  # a square by ** would overflow
    return below + most * math.erfc(ratio / math.sqrt(2))


def _check(deviation_ms: float) -> None:
    if not deviation_ms >= 0:
        raise ValueError(f"expected a deviation of 0 ms or more; got {deviation_ms}")
