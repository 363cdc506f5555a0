"""Between NNI's trials and the study: which proposal is which trial's, and what becomes of it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.base import files
from nas.nni import job
from nas.nni.measure import DIED
from nas.nni.measure import DIVERGED
from nas.nni.measure import FAILED
from nas.nni.measure import OUT_OF_MEMORY
from nas.nni.measure import evaluated_in
from nas.nni.measure import seconds_in
from nas.search.storage import open_study
from nas.search.study import DEATHS_IN_A_ROW
from nas.search.study import Proposal
from nas.search.study import break_off
from nas.search.study import fail
from nas.search.study import propose
from nas.search.study import record
from nas.search.study import reject

# Trials that may end without a result, one after the other, before the search is given up.
LOST_IN_A_ROW = 3


class Exchange:
    """The study's proposals that NNI has.

    Screening, duplicates and budgets are settled before NNI hears of a candidate. A trial that ends without a result
    (killed, its machine gone) stays under way in the study and is proposed again, to NNI or by a later run; so is one
    that did not get its memory or died of a signal, the first time. A training that diverged is a result: the candidate
    is rejected. One that raised an error ends the search.

    Two traits of NNI 3.0 decide how that is done. It hands parameters to whichever of its trials asks first, so the
    one that failed need not be the one that was to train them: which proposal was lost is known only when no trial
    runs, and a result counts under whatever number NNI gives it. And it tells of a failure from another thread,
    perhaps before the result that arrived earlier is handled: so `failed` only takes a note, and one thread does
    everything that touches the study.
    """

    def __init__(self, folder: Path) -> None:
        self.failed: deque[int] = deque()
        self._ended = folder / job.ENDED
        self._plan = job.read(folder / job.CODE / job.SETTINGS)
        self._study = open_study(self._plan)
        self._under_way: dict[int, Proposal] = {}  # by the study's number of the trial
        self._trial_of: dict[int, int] = {}  # the study's number by NNI's; a proposal made again has several of NNI's
        self._trials_running = 0
        self._lost_in_a_row = 0
        self._died_in_a_row = 0
        self._sampling_seconds = 0.0

    def propose(self, number: int) -> dict[str, Any] | None:
        """Return the parameters of a candidate to train, None when there is none now."""
        start = time.perf_counter()
        proposal = None if self._is_hopeless() else propose(self._plan, self._study)
        self._sampling_seconds += time.perf_counter() - start
        if proposal is None:
            return None
        self._trials_running += 1
        self._under_way[proposal.trial.number] = proposal
        self._trial_of[number] = proposal.trial.number
        return dict(proposal.trial.params)

    def receive(self, number: int, numbers: Mapping[str, Any]) -> None:
        """Tell the study a result, the first of each proposal."""
        self._trials_running -= 1
        proposal = self._under_way.pop(self._trial_of[number], None)
        if proposal is None:
            return
        self._lost_in_a_row = 0
        start = time.perf_counter()
        if FAILED in numbers:
            self._fail(proposal, numbers[FAILED])
        elif DIVERGED in numbers:
            reject(self._study, proposal, f"diverged: {numbers[DIVERGED]}")
        elif OUT_OF_MEMORY in numbers:
            break_off(self._study, proposal, f"out of memory: {numbers[OUT_OF_MEMORY]}")
        elif DIED in numbers:
            self._died_in_a_row += 1
            break_off(self._study, proposal, f"died: {numbers[DIED]}")
        else:
            self._died_in_a_row = 0
            record(self._plan, self._study, proposal, evaluated_in(numbers))
        ours = {"sampling and screening": self._sampling_seconds, "storage": time.perf_counter() - start}
        self._sampling_seconds = 0.0
        line = {"worker": os.getpid(), "trial": proposal.trial.number, "seconds": seconds_in(numbers) | ours}
        files.append_json(self._plan.timings, line)

    def take_back_lost(self) -> None:
        """Free the proposals that are left when NNI runs no trial, so that they are made again."""
        while self.failed:
            self.failed.popleft()
            self._trials_running -= 1
            self._lost_in_a_row += 1
        if self._trials_running <= 0:
            for proposal in self._under_way.values():
                proposal.hold.release()
            self._under_way.clear()

    def end_if_idle(self) -> None:
        """Say that the search has ended, and why if it was given up, once NNI has none of its trials left."""
        if not self._under_way:
            number = max(self._lost_in_a_row, self._died_in_a_row)
            lost = f"{number} trainings in a row ended without a result; trial.stderr of each says why"
            files.write_text(self._ended, lost if self._is_hopeless() else "")

    def _fail(self, proposal: Proposal, reason: str) -> None:
        """End the search as it would end without NNI: a bug in one training is one in all."""
        fail(self._study, proposal, reason)
        files.write_text(self._ended, f"the training of trial {proposal.trial.number} failed: {reason}")

    def _is_hopeless(self) -> bool:
        return self._lost_in_a_row >= LOST_IN_A_ROW or self._died_in_a_row >= DEATHS_IN_A_ROW
