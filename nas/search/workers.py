"""One process per core with one thread each, all on one study."""

from __future__ import annotations

import errno
import importlib
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeAlias

import optuna

from nas.base import memory
from nas.base import processes
from nas.base.errors import STORAGE_LOST
from nas.base.errors import one_line
from nas.search import storage_url
from nas.search.config import SearchConfig
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import open_study

Work: TypeAlias = Callable[[Plan, optuna.Study], None]
SECONDS_BETWEEN_LOOKS = 0.25


def run(config: SearchConfig, runs: Path, look: Callable[[], None]) -> None:
    """Run a search in worker processes until the study has its trials.

    Args:
        config: The settings, resolved anew by each worker.
        runs: Folder of all runs.
        look: Called a few times a second while they work.

    Raises:
        ValueError: If a worker met a mistake in the settings or the data; the message is the worker's.
        OSError: If a worker could not write or read a file, or did not get memory for what all candidates need.
        RuntimeError: If a worker died.
    """
    # NNI's service starts its own trainings, as many at a time as there are workers.
    count = 1 if config.engine == "nni-service" else config.workers or processes.cores()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    told: set[str] = set()
    crew = [context.Process(target=_work, args=(config, runs, sender)) for _ in range(count)]
    try:
        with processes.holding_back_ctrl_c():
            for process in crew:
                process.start()
        while any(process.is_alive() for process in crew):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            _hear(receiver, crew, told)
            look()
        _hear(receiver, crew, told)
    finally:
        _stop(crew)
    look()


def engine(name: str) -> Work:
    """Return the function that runs a worker's part of a search; NNI is imported only when asked for."""
    modules = {"optuna": "nas.search.study", "nni": "nas.nni.engine", "nni-service": "nas.nni.service"}
    work: Work = importlib.import_module(modules[name]).work
    return work


def _work(config: SearchConfig, runs: Path, sender: Connection) -> None:
    """Run in a worker process; a mistake of the user's is sent home as one line, and so is what it has to say."""
    processes.begin()
    _send_log(sender)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        plan = resolve(config, runs)
        engine(config.engine)(plan, open_study(plan))
    except (ValueError, OSError) as error:
        sender.send(error)
        sys.exit(2)
    except STORAGE_LOST as error:
        sender.send(ConnectionError(storage_url.without_secrets(one_line(error), config.storage)))
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not memory.is_shortage(error):
            raise
        sender.send(OSError(errno.ENOMEM, f"not enough memory: {memory.reason(error)}"))
        sys.exit(2)


def _send_log(sender: Connection) -> None:
    """Let the parent show what this process logs: it knows what else is on the screen."""
    handler = logging.Handler()
    handler.emit = lambda record: sender.send(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("nas").addHandler(handler)


def _hear(receiver: Connection, crew: Sequence[BaseProcess], told: set[str]) -> None:
    """Log what the workers say, once if several say the same, and raise what they failed of.

    That they wait for each other at work is nothing to tell; that one of them is stopped is.
    """
    at_work = tuple(f"process {process.pid} holds" for process in crew)
    while receiver.poll():
        heard = receiver.recv()
        if isinstance(heard, BaseException):
            raise heard
        if heard not in told and not heard.endswith(at_work):
            told.add(heard)
            logging.getLogger("nas").warning("%s", heard)
    for process in crew:
        if process.exitcode not in (None, 0, 2):
            raise RuntimeError(f"a worker ended with exit code {process.exitcode}")


def _stop(crew: Sequence[BaseProcess]) -> None:
    for process in crew:
        if process.is_alive():
            process.terminate()
    for process in crew:
        if process.pid is not None:
            process.join(timeout=10)
            process.kill()
