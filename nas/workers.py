"""One process per core with one thread each, all on one study."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeAlias

import optuna
import torch

from nas.config import SearchConfig
from nas.errors import STORAGE_LOST
from nas.errors import one_line
from nas.plan import Plan
from nas.plan import resolve
from nas.storage import open_study

Work: TypeAlias = Callable[[Plan, optuna.Study], None]
SECONDS_BETWEEN_LOOKS = 0.25


def cores() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(config: SearchConfig, runs: Path, look: Callable[[], None]) -> None:
    """Run a search in worker processes until the study has its trials.

    Args:
        config: The settings, resolved anew by each worker.
        runs: Folder of all runs.
        look: Called a few times a second while they work.

    Raises:
        ValueError: If a worker met a mistake in the settings or the data; the message is the worker's.
        OSError: If a worker could not write or read a file.
        RuntimeError: If a worker died.
    """
    # NNI's service starts its own trainings, as many at a time as there are workers.
    count = 1 if config.engine == "nni-service" else config.workers or cores()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    processes = [context.Process(target=_work, args=(config, runs, sender)) for _ in range(count)]
    try:
        with _holding_back_ctrl_c():
            for process in processes:
                process.start()
        while any(process.is_alive() for process in processes):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            _raise_failure(receiver, processes)
            look()
        _raise_failure(receiver, processes)
    finally:
        _stop(processes)
    look()


def engine(name: str) -> Work:
    """Return the function that runs a worker's part of a search; NNI is imported only when asked for."""
    modules = {"optuna": "nas.search", "nni": "nas.nni.engine", "nni-service": "nas.nni.service"}
    work: Work = importlib.import_module(modules[name]).work
    return work


def _work(config: SearchConfig, runs: Path, sender: Connection) -> None:
    """Run in a worker process; a mistake of the user's is sent home as one line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for what it starts, too, which may want it otherwise
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_parent()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        plan = resolve(config, runs)
        engine(config.engine)(plan, open_study(plan))
    except (ValueError, OSError) as error:
        sender.send(error)
        sys.exit(2)
    except STORAGE_LOST as error:
        sender.send(ConnectionError(one_line(error)))
        sys.exit(2)


@contextmanager
def _holding_back_ctrl_c() -> Iterator[None]:
    """Hold Ctrl-C back for a block, here until its end, and for good in processes started in it.

    It reaches the whole group, and the parent decides. A worker that ignored it by its own doing would be too late: it
    imports for seconds before its first line runs.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # which lets Ctrl-C through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise_failure(receiver: Connection, processes: Sequence[BaseProcess]) -> None:
    if receiver.poll():
        raise receiver.recv()
    for process in processes:
        if process.exitcode not in (None, 0, 2):
            raise RuntimeError(f"a worker ended with exit code {process.exitcode}")


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join(timeout=10)
            process.kill()


def _die_with_parent() -> None:
    """End this process when its parent dies, however it dies: an orphan must not go on beside a resumed search."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
