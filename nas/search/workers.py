"""One process per core with one thread each, all on one study."""

from __future__ import annotations

import errno
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import NoReturn
from typing import TypeAlias

import optuna
from optuna.trial import TrialState

from nas.base import memory
from nas.base import processes
from nas.base.errors import one_line
from nas.base.errors import storage_lost
from nas.search import storage_url
from nas.search.config import SearchConfig
from nas.search.outages import is_outage
from nas.search.outages import patiently
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import load_study
from nas.search.storage import open_study
from nas.search.study import DEATHS_IN_A_ROW
from nas.search.study import note_death

Work: TypeAlias = Callable[[Plan, optuna.Study], None]
SECONDS_BETWEEN_LOOKS = 0.25
ENDED = (0, 2)
"""Exit codes of workers that found nothing left to do, or that said what was wrong."""
log = logging.getLogger("nas")


@dataclass(frozen=True, slots=True)
class Took:
    """What a worker says when it begins to work on a trial.

    Attributes:
        worker: Number of its process.
        trial: The trial's number.
    """

    worker: int
    trial: int


def run(config: SearchConfig, runs: Path, look: Callable[[], None]) -> None:
    """Run a search in worker processes until the study has its trials.

    A worker that dies of a signal at work on a trial is replaced, and the study notes the death: the trial is taken up
    once more, and rejected after the second time.

    Args:
        config: The settings, resolved anew by each worker.
        runs: Folder of all runs.
        look: Called a few times a second while they work.

    Raises:
        ValueError: If a worker met a mistake in the settings or the data; the message is the worker's.
        OSError: If a worker could not write or read a file, or did not get memory for what all candidates need.
        RuntimeError: If a worker ended badly, died before it had a trial, or too many died one after the other.
    """
    # NNI's service starts its own trainings, as many at a time as there are workers.
    count = 1 if config.engine == "nni-service" else config.workers or processes.cores()
    crew = _Crew(config, runs)
    try:
        crew.start(count)
        while crew.is_at_work():
            time.sleep(SECONDS_BETWEEN_LOOKS)
            crew.hear()
            crew.replace_the_dead()
            _unless_away(look)
        crew.hear()
    finally:
        crew.stop()
    patiently(look)


class _Crew:
    """The worker processes of one search: what they say, and what becomes of those that die."""

    def __init__(self, config: SearchConfig, runs: Path) -> None:
        self._config = config
        self._runs = runs
        self._context = multiprocessing.get_context("spawn")
        self._receiver, self._sender = self._context.Pipe(duplex=False)
        self._processes: list[BaseProcess] = []
        self._told: set[str] = set()
        self._trial_of: dict[int, int] = {}  # by the number of the process
        self._deaths_in_a_row = 0
        self._trained = 0

    def start(self, count: int) -> None:
        """Start workers, deaf to Ctrl-C."""
        arguments = (self._config, self._runs, self._sender)
        with processes.holding_back_ctrl_c():
            for _ in range(count):
                self._processes.append(self._context.Process(target=_work, args=arguments))
                self._processes[-1].start()

    def is_at_work(self) -> bool:
        """Tell whether a worker is still there, or ended badly, which `replace_the_dead` has to see."""
        return any(process.exitcode not in ENDED for process in self._processes)

    def hear(self) -> None:
        """Log what the workers say, once if several say the same, and raise what they failed of.

        That they wait for each other at work is nothing to tell; that one of them is stopped is.
        """
        at_work = tuple(f"process {process.pid} holds" for process in self._processes)
        while self._receiver.poll():
            heard = self._receiver.recv()
            if isinstance(heard, BaseException):
                raise heard
            if isinstance(heard, Took):
                self._trial_of[heard.worker] = heard.trial
            elif heard not in self._told and not heard.endswith(at_work):
                self._told.add(heard)
                log.warning("%s", heard)

    def replace_the_dead(self) -> None:
        """Start a worker for each that died at work on a trial.

        Raises:
            RuntimeError: If one ended otherwise than by such a death, or too many died with nothing trained in between.
        """
        ended = [process for process in self._processes if process.exitcode not in (None, *ENDED)]
        if ended:
            self.hear()  # what they took last may have been said after the last look
        for process in ended:
            self._processes.remove(process)
            self._note(process)
            self.start(1)

    def _note(self, process: BaseProcess) -> None:
        name, number = processes.signal_of(process.exitcode), self._trial_of.get(process.pid or 0)
        if name not in processes.DEADLY:
            how = f"of {name}" if name else f"with exit code {process.exitcode}"
            raise RuntimeError(f"a worker ended {how}")
        # The server may be away as well: it was there when the search began.
        folder = self._runs / self._config.name
        study = patiently(partial(load_study, self._config.name, folder, self._config.storage))
        if number is None or not patiently(partial(note_death, study, number, name)):
            raise RuntimeError(f"a worker died of {name} while it had no candidate in training")
        trained = len(patiently(partial(study.get_trials, deepcopy=False, states=(TrialState.COMPLETE,))))
        self._deaths_in_a_row = 1 if trained > self._trained else self._deaths_in_a_row + 1
        self._trained = trained
        if self._deaths_in_a_row >= DEATHS_IN_A_ROW:
            raise RuntimeError(
                f"{self._deaths_in_a_row} workers died one after the other, the last of {name}, and none trained a "
                "candidate in between"
            )
        log.warning("nas: a worker died of %s while it trained candidate %d; another one goes on", name, number)

    def stop(self) -> None:
        """End the workers that are left."""
        for process in self._processes:
            if process.is_alive():
                process.terminate()
        for process in self._processes:
            if process.pid is not None:
                process.join(timeout=10)
                process.kill()


def _unless_away(look: Callable[[], None]) -> None:
    """Look, and think nothing of it if the storage cannot be reached: the workers wait for it."""
    try:
        look()
    except storage_lost() as error:
        if not is_outage(error):
            raise


def engine(name: str) -> Work:
    """Return the function that runs a worker's part of a search; NNI is imported only when asked for."""
    modules = {"optuna": "nas.search.study", "nni": "nas.nni.engine", "nni-service": "nas.nni.service"}
    work: Work = importlib.import_module(modules[name]).work
    return work


class _Asked(SystemExit):
    """Somebody asked this worker to end, and it has given its trial back."""


def _work(config: SearchConfig, runs: Path, sender: Connection) -> None:
    """Run in a worker process; a mistake of the user's is sent home as one line, and so is what it has to say."""
    processes.begin()
    if storage_url.is_database(config.storage):  # other machines would wait for a sign of life
        signal.signal(signal.SIGTERM, _leave)
    _send_log(sender)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        plan = replace(resolve(config, runs), notice=lambda trial: sender.send(Took(os.getpid(), trial)))
        engine(config.engine)(plan, patiently(partial(open_study, plan)))  # the search itself has opened it before
    except _Asked:
        os.kill(os.getpid(), signal.SIGTERM)
    except (ValueError, OSError) as error:
        sender.send(error)
        sys.exit(2)
    except storage_lost() as error:
        sender.send(ConnectionError(storage_url.without_secrets(one_line(error), config.storage)))
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not memory.is_shortage(error):
            raise
        sender.send(OSError(errno.ENOMEM, f"not enough memory: {memory.reason(error)}"))
        sys.exit(2)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise _Asked


def _send_log(sender: Connection) -> None:
    """Let the parent show what this process logs: it knows what else is on the screen."""
    handler = logging.Handler()
    handler.emit = lambda record: sender.send(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("nas").addHandler(handler)
