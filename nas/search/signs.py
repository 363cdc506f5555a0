"""Signs of life of the trials on a database, by which machines that share no locks know that a process is gone.

Whoever works on a trial writes a new sign into it every half minute. Nobody compares clocks: a trial is *silent* for as
long as another process has looked at it and read the same sign. Optuna's own heartbeat is a time stamp in a table that
its gRPC proxy does not pass on, and a trial that has none yet never counts as dead.

An outage of the storage silences everybody at once. So silence is counted from the end of the last outage that this
process has met.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
import weakref
from contextlib import suppress
from datetime import datetime

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

ALIVE = "gecko_nas:alive"
"""System attribute of a trial: its last sign of life. What it says means nothing; that it changes does."""
SECONDS_BETWEEN_SIGNS = 30.0
SECONDS_OF_SILENCE = 180.0
"""Seconds without a new sign after which a trial is given to another machine."""
LEFT = "left"
"""The sign of a process that gave its trial back: nobody need wait."""


class Signs:
    """Signs of life of one trial, given until they are stopped, dropped, or the process ends."""

    def __init__(self, storage: BaseStorage, trial: FrozenTrial) -> None:
        self._storage = storage
        self._trial_id = trial._trial_id  # noqa: SLF001 - storages know trials by it
        name, ended = uuid.uuid4().hex[:8], threading.Event()  # whoever takes a trial up again begins to count anew
        if has_left(trial):
            storage.set_trial_system_attr(self._trial_id, ALIVE, f"{name} 0")
        self._stop = weakref.finalize(self, ended.set)
        threading.Thread(target=_give, args=(storage, self._trial_id, name, ended), daemon=True).start()

    def stop(self) -> None:
        """Give no more."""
        self._stop()

    def leave(self) -> None:
        """Give no more, and let other machines know that the trial is free, if the storage can be reached."""
        self.stop()
        with suppress(Exception):  # each storage has its own kinds; without a word, silence says the same later
            self._storage.set_trial_system_attr(self._trial_id, ALIVE, LEFT)


def has_left(trial: FrozenTrial) -> bool:
    """Tell whether the process that worked on a trial gave it back."""
    return bool(trial.system_attrs.get(ALIVE) == LEFT)


def silence(trial: FrozenTrial) -> float:
    """Return for how many seconds this process has known a trial's last sign of life, no outage counted."""
    key, sign = (trial.number, trial.datetime_start), trial.system_attrs.get(ALIVE)
    known = _known.get(key)
    if known is None or known[0] != sign:
        _known[key] = known = (sign, time.monotonic())
    return time.monotonic() - max(known[1], _outage[0])


def note_outage() -> None:
    """Note that the storage did not answer this process: others may not have reached it either."""
    _outage[0] = time.monotonic()


_known: dict[tuple[int, datetime | None], tuple[object, float]] = {}
_outage = [float("-inf")]


def _give(storage: BaseStorage, trial_id: int, name: str, ended: threading.Event) -> None:
    for count in itertools.count(1):
        if ended.wait(SECONDS_BETWEEN_SIGNS):
            return
        start = time.monotonic()
        try:
            storage.set_trial_system_attr(trial_id, ALIVE, f"{name} {count}")
        except UpdateFinishedTrialError:
            return
        except Exception:  # noqa: BLE001 - each storage has its own kinds, and the next sign may reach it
            note_outage()
        if time.monotonic() - start > SECONDS_BETWEEN_SIGNS:  # it hung, and others may hang still
            note_outage()
