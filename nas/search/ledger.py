"""What a study's trials came to, read once each: a finished trial never changes, and a study may have ten thousand."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence
from fractions import Fraction
from weakref import WeakKeyDictionary

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from nas.search.rungs import share_in

DUPLICATE = "duplicate of trial"
"""How the reason starts for which a candidate is refused that an earlier trial has."""


class Ledger:
    """The trials of one study as of the last reading.

    Attributes:
        open: Those that have not finished, by their numbers.
    """

    def __init__(self) -> None:
        self.open: list[FrozenTrial] = []
        self._seen = 0
        self._complete: list[int] = []
        self._stopped: list[tuple[int, Fraction]] = []  # numbers, with the share of its epochs that each had
        self._spent_on_stopped = Fraction(0)
        self._finished: list[FrozenTrial] = []
        self._front: list[FrozenTrial] = []
        self._first: dict[str, int] = {}
        self._lock = threading.Lock()

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Go through what was open at the last reading and what is new since.

        Args:
            trials: All trials of the study, each at its number.
        """
        with self._lock:
            news = [
                trials[number] for number in [*(trial.number for trial in self.open), *range(self._seen, len(trials))]
            ]
            self._seen = len(trials)
            self.open = [trial for trial in news if not trial.state.is_finished()]
            for trial in news:
                if trial.state.is_finished():
                    self._close(trial)

    def spoken_for(self, before: int | None = None) -> Fraction:
        """Count the trainings that are spent or under way, up to a trial's number if there is one.

        One that is under way counts in full, for it may go on to its end, and one that was stopped at a rung as the
        share of its epochs.
        """
        end = self._seen if before is None else before
        running = sum(trial.state == TrialState.RUNNING and trial.number < end for trial in self.open)
        later = self._stopped[bisect.bisect_left(self._stopped, end, key=lambda stopped: stopped[0]) :]
        stopped = self._spent_on_stopped - sum((share for _, share in later), Fraction(0))
        return bisect.bisect_left(self._complete, end) + running + stopped

    def has_room(self, trials: int, before: int | None = None) -> bool:
        """Tell whether one more training in full keeps within so many; see `spoken_for`."""
        return self.spoken_for(before) + 1 <= trials

    def first_with_key(self, number: int, key: str) -> int | None:
        """Return the first trial before a number that stands for a candidate.

        A failed trial stands for nothing, and nor does a duplicate: what it repeats is earlier, or has failed.
        """
        found = [trial.number for trial in self.open if trial.user_attrs.get("key") == key]
        first = min([*found, self._first.get(key, number)])
        return first if first < number else None

    def worth_learning(self, count: int) -> list[FrozenTrial]:
        """Return the open trials, the feasible front, and the latest of the finished ones.

        What it is follows from the study alone, in whatever order this process has seen its trials end.

        Args:
            count: How many finished ones, if the front is no larger.

        Returns:
            By their numbers; failed ones are left out.
        """
        with self._lock:
            front = {trial.number for trial in self._front}
            rest = [trial for trial in self._finished if trial.number not in front]
            latest = rest[max(len(rest) + len(front) - count, 0) :]
            return sorted([*self._front, *latest, *self.open], key=_number)

    def _close(self, trial: FrozenTrial) -> None:
        if trial.state != TrialState.FAIL:
            bisect.insort(self._finished, trial, key=_number)
        if trial.state == TrialState.COMPLETE:
            bisect.insort(self._complete, trial.number)
            self._add_to_the_front(trial)
        elif share := spent_on(trial):
            bisect.insort(self._stopped, (trial.number, share))
            self._spent_on_stopped += share
        is_duplicate = str(trial.user_attrs.get("rejected")).startswith(DUPLICATE)
        key = trial.user_attrs.get("key")
        if key is not None and trial.state != TrialState.FAIL and not is_duplicate:
            self._first[key] = min(trial.number, self._first.get(key, trial.number))

    def _add_to_the_front(self, trial: FrozenTrial) -> None:
        """Keep a trial unless it breaks a limit or another one is better; all objectives are minimised."""
        is_infeasible = any(excess > 0 for excess in trial.constraints.values())
        if is_infeasible or any(_is_better(other, trial) for other in self._front):
            return
        self._front = [other for other in self._front if not _is_better(trial, other)] + [trial]


def _number(trial: FrozenTrial) -> int:
    return trial.number


def _is_better(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Tell whether a complete trial is nowhere worse than another and somewhere better."""
    return one.values != other.values and all(a <= b for a, b in zip(one.values, other.values, strict=True))


def spent_on(trial: FrozenTrial) -> Fraction:
    """Return how much of a training a finished trial has cost: all of it, a share, or none.

    One that was refused, diverged or failed counts as none.
    """
    if trial.state == TrialState.COMPLETE:
        return Fraction(1)
    return share_in(trial.user_attrs) if trial.state == TrialState.PRUNED else Fraction(0)


def ledger_of(study: optuna.Study) -> Ledger:
    """Return the ledger of a study, as of now."""
    storage, number = study._storage, study._study_id  # noqa: SLF001 - copies of a study share them
    ledger = _ledgers.setdefault(storage, {}).setdefault(number, Ledger())
    ledger.read(study.get_trials(deepcopy=False))
    return ledger


_ledgers: WeakKeyDictionary[BaseStorage, dict[int, Ledger]] = WeakKeyDictionary()
