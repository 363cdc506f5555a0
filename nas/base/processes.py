"""What processes that work for this one need: how many, how they end with it, and how they share out a list."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any
from typing import NoReturn
from typing import TypeVar

DEADLY = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGKILL")
"""Signals that end a process at its work: crashes of native code, and SIGKILL, by which Linux gets memory back.

SIGTERM, SIGINT and the like are somebody's wish.
"""
Item = TypeVar("Item")
Shared = TypeVar("Shared")
_shared: list[Any] = []


def cores() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def signal_of(exit_code: int | None) -> str:
    """Name the signal that a process died of, as `multiprocessing` and `subprocess` tell it; empty for any other end.

    >>> signal_of(-11), signal_of(2), signal_of(None)
    ('SIGSEGV', '', '')
    """
    if exit_code is None or exit_code >= 0:
        return ""
    try:
        return signal.Signals(-exit_code).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-exit_code}"


def share_out(
    work: Callable[[Shared, Item], object], shared: Shared, items: Iterable[Item], *, workers: int
) -> Iterator[Item]:
    """Work through items in processes of one thread each, and yield each item when it is done, in any order.

    Args:
        work: A function of a module, called with what is shared and one item; it keeps its result itself, in a file.
        shared: What all items need; sent to each process once.
        items: What to work through.
        workers: How many processes.

    Raises:
        Exception: What `work` raised; items not begun are dropped.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(shared,))
    try:
        with holding_back_ctrl_c():
            futures = {pool.submit(_run, work, item): item for item in items}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BaseException:
        # What is under way would finish first: minutes after Ctrl-C.
        for process in list((pool._processes or {}).values()):  # noqa: SLF001 - there is no public way
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def begin() -> None:
    """Prepare a process that works for another: one thread, deaf to Ctrl-C, ended with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for what it starts, too, which may want it otherwise
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_parent()
    import torch  # noqa: PLC0415 - what only counts cores or shows a run needs no PyTorch

    torch.set_num_threads(1)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does: it is how Docker, Kubernetes and Slurm ask a process to leave."""

    def leave(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread for a block, as every worker does: sums over more threads end in other last digits."""
    import torch  # noqa: PLC0415 - as in `begin`

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def holding_back_ctrl_c() -> Iterator[None]:
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


def _begin(shared: object) -> None:
    begin()
    _shared[:] = [shared]


def _run(work: Callable[[Any, Any], object], item: object) -> None:
    work(_shared[0], item)


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
