"""Wall time by phase."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import psutil


class Clock:
    """Sums wall time by phase.

    Attributes:
        seconds: What each phase has taken since the start, or since the last `line`.

    >>> clock = Clock()
    >>> clock.lap("training")
    >>> list(clock.seconds)
    ['training']
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds = dict(seconds or {})
        self._since = time.perf_counter()

    def lap(self, phase: str, within: Mapping[str, float] | None = None) -> None:
        """Add the time since the last lap to a phase, less what is known to belong to others."""
        now = time.perf_counter()
        parts = dict(within or {})
        parts[phase] = now - self._since - sum(parts.values())
        for name, seconds in parts.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self._since = now

    def line(self, trial: int | None) -> dict[str, object]:
        """Return what a run's `timings.jsonl` says of a trial, and start again from nothing."""
        told: dict[str, object] = {"worker": os.getpid(), "trial": trial, "seconds": self.seconds}
        self.seconds = {}
        return told


def since_start() -> float:
    """Return the seconds since this process was started."""
    return time.time() - psutil.Process().create_time()
