"""Show the progress of a search: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING
from typing import Self

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from rich.console import Console
from rich.console import Group
from rich.live import Live
from rich.text import Text

from nas.base.text import fitting
from nas.runs import report
from nas.runs.front_and_knee import front
from nas.search.ledger import spent_on
from nas.search.rungs import STOPPED
from nas.search.storage import NNI_PAGE

if TYPE_CHECKING:
    from nas.search.plan import Plan

ROWS_OF_FRONT = 8
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of candidates in each state.

    Attributes:
        screened: Candidates whose cost was estimated.
        trained: Trained and attacked.
        rejected: Not trained, because they exceed a limit or the device cannot run them.
        duplicates: Not trained, because they equal an earlier candidate.
        diverged: Their training diverged.
        out_of_memory: Their training did not get its memory, twice.
        died: Their training's process died of a signal, or its machine fell silent, twice.
        running: In progress.
        stopped: Their training was stopped at a rung, because others were better there.
        spent: Trainings that the trained and the stopped ones cost together: a stopped one counts as the share of its
            epochs that it had.
    """

    screened: int
    trained: int
    rejected: int
    duplicates: int
    diverged: int
    out_of_memory: int
    died: int
    running: int
    stopped: int = 0
    spent: float = 0.0

    def __str__(self) -> str:
        line = f"{self.screened} screened, {self.rejected} rejected, {self.duplicates} duplicate"
        more = {"diverged": self.diverged, "out of memory": self.out_of_memory, "died": self.died}
        line += "".join(f", {count} {name}" for name, count in more.items() if count)
        return f"{line}, {self.stopped} stopped: {short(self.spent)} trainings in all" if self.stopped else line

    def has_room(self, trials: int) -> bool:
        """Tell whether one more training in full would keep within so many, as the search counts them."""
        return self.spent + self.running + 1 <= trials


def short(spent: float) -> str:
    """Write a number of trainings with at most one decimal.

    >>> short(12000.0), short(9.04), short(9.66)
    ('12000', '9', '9.7')
    """
    return f"{spent:.1f}".removesuffix(".0")


def count(trials: list[FrozenTrial]) -> Counts:
    """Count a study's trials by their state."""
    refusals = [str(trial.user_attrs.get("rejected", "")) for trial in trials if trial.state == TrialState.PRUNED]
    return Counts(
        screened=sum("key" in trial.user_attrs for trial in trials),
        trained=sum(trial.state == TrialState.COMPLETE for trial in trials),
        rejected=sum(refusal.startswith(("over a limit", "over budget", "cannot run")) for refusal in refusals),
        duplicates=sum(refusal.startswith("duplicate") for refusal in refusals),
        diverged=sum(refusal.startswith("diverged") for refusal in refusals),
        out_of_memory=sum(refusal.startswith("out of memory") for refusal in refusals),
        died=sum(refusal.startswith(("died", "lost")) for refusal in refusals),
        running=sum(trial.state == TrialState.RUNNING for trial in trials),
        stopped=sum(refusal.startswith(STOPPED) for refusal in refusals),
        spent=float(sum(map(spent_on, trials))),
    )


class Display:
    """The progress of one search, read from the study and the files of the bank. Use it as a context manager."""

    def __init__(self, plan: Plan, study: optuna.Study, console: Console) -> None:
        self._plan = plan
        self._study = study
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._spent_before = count(study.get_trials(deepcopy=False)).spent
        self._training_since: float | None = None
        self._last_line = ""
        self._page_told = False
        self._last_time = -math.inf

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def look(self) -> None:
        """Read the study and show its state."""
        self._tell_page()
        line = self._line()
        if self._live:
            best = front(self._study)[:ROWS_OF_FRONT]
            tables = fitting(report.front_table(self._study, best), self._console.width) if best else [Text("")]
            notes = map(Text, report.extrapolated_lines(self._study, best))
            self._live.update(Group(Text(line, style="bold"), *tables, *notes), refresh=True)
        elif line != self._last_line and time.monotonic() > self._last_time + SECONDS_BETWEEN_LINES:
            self._console.print(line, highlight=False)
            self._last_line, self._last_time = line, time.monotonic()

    def _tell_page(self) -> None:
        """Print the address of NNI's web page once, when there is one."""
        page = self._plan.folder / NNI_PAGE
        if not self._page_told and page.exists():
            self._console.print(f"NNI's web page: {page.read_text().strip()}", highlight=False)
            self._page_told = True

    def counts(self) -> Counts:
        """Count the study's trials by their present state."""
        return count(self._study.get_trials(deepcopy=False))

    def finish(self) -> None:
        """Print how the search ended.

        Raises:
            ValueError: If nothing was trained.
        """
        counts, wanted = self.counts(), self._plan.config.trials
        if not counts.trained:
            raise ValueError(f"no candidate finished training: {counts}")
        if counts.has_room(wanted):
            self._console.print(f"no new candidates were found after {short(counts.spent)} of {wanted}")
        if counts.running:
            self._console.print(f"{counts.running} candidates are still in progress in other processes")

    def _line(self) -> str:
        counts = self.counts()
        wanted = self._plan.config.trials
        if counts.screened == 0 and self._plan.needs_bank:
            paths = self._plan.bank.paths(self._plan.cache_folder)
            return f"reference bank: {sum(path.exists() for path in paths)} of {len(paths)} networks trained"
        if self._training_since is None:
            self._training_since = time.monotonic()
        how = "looked up" if self._plan.table else "trained"
        return f"{how} {short(counts.spent)} of {wanted}{self._left(counts.spent)}  |  {counts}"

    def _left(self, spent: float) -> str:
        done, to_do = spent - self._spent_before, self._plan.config.trials - spent
        if done < 1 or to_do < 1 or self._training_since is None:
            return ""
        left = (time.monotonic() - self._training_since) / done * to_do
        return f", about {duration(left)} left"


def duration(seconds: float) -> str:
    """Write a duration in its two largest units.

    >>> duration(42), duration(200), duration(7300)
    ('42 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
