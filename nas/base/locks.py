"""Locks on files that the operating system frees when their process dies, however it dies.

They may lie where other users write: no link is followed, and what is no regular file of its own is refused. (The
releases of `filelock` that NNI needs open a lock through links and empty what they find.) Who waits longer than a
moment says so in the log, and names the process that holds the lock.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import stat
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

import psutil

SECONDS_WITHOUT_A_WORD = 2.0
SECONDS_BETWEEN_TRIES = 0.05
log = logging.getLogger("nas")


class Lock:
    """A lock that this process holds, until it gives it back, drops it or ends.

    Attributes:
        path: Its file.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._close = weakref.finalize(self, os.close, handle)

    def release(self) -> None:
        """Give the lock back; its file stays."""
        self._close()


def take(path: Path, *, patient: bool = True, pause: float = SECONDS_BETWEEN_TRIES) -> Lock | None:
    """Take a lock.

    Args:
        path: Its file, made where there is none; its folder must be there.
        patient: Wait while another process, or another part of this one, holds it.
        pause: Seconds between two tries.

    Returns:
        The lock; None if it is held and nobody wants to wait.

    Raises:
        OSError: If the file cannot be made or opened, or is a link or no regular file.
    """
    since, told = time.monotonic(), False
    while True:
        lock = _attempt(path)
        if lock is not None or not patient:
            return lock
        if not told and time.monotonic() - since > SECONDS_WITHOUT_A_WORD:
            log.warning("nas: waiting for %s, which %s", path, holder(path))
            told = True
        time.sleep(pause)


def is_held(path: Path) -> bool:
    """Tell whether a lock is held, without making its file."""
    if not path.exists():
        return False
    lock = take(path, patient=False)
    if lock is not None:
        lock.release()
    return lock is None


@contextmanager
def held(path: Path, *, patient: bool = True, pause: float = SECONDS_BETWEEN_TRIES) -> Iterator[bool]:
    """Hold a lock for a block; when not patient, give False at once if it is held elsewhere."""
    lock = take(path, patient=patient, pause=pause)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def holder(path: Path) -> str:
    """Say who holds a lock, as far as its file and this machine tell: "process 12 holds"."""
    try:
        with path.open("rb") as file:
            written = re.fullmatch(r"(\d{1,10}) ([\w.-]{1,255})\n", file.read(300).decode())
    except (OSError, UnicodeDecodeError):
        written = None
    if written is None:
        return "another process holds"
    number, host = int(written[1]), written[2]
    if host != socket.gethostname():
        return f"process {number} on {host} holds"
    with suppress(psutil.Error, OSError, OverflowError):
        if psutil.Process(number).status() == psutil.STATUS_STOPPED:
            return f"process {number} holds; it is stopped: kill -CONT {number} lets it go on"
    return f"process {number} holds"


def folder(path: Path) -> Path:
    """Make a folder of locks where other users may write too; it must not be a link.

    Raises:
        OSError: If it cannot be made, or is a link.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.EPERM, "expected a folder of locks; got a link", str(path))
    return path


def own_folder(*names: str) -> Path:
    """Make a folder of locks for the processes of one user on one machine, below the user's cache folder.

    Not in the temporary folder, where another user can be first to take the name. Not in the runtime folder either: a
    process that was started without a login has none, and at the logout it is deleted under those that go on.

    Raises:
        OSError: If it cannot be made, or somebody else has made it or can write it.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        place = place if place.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise OSError(errno.ENOENT, "expected a home folder, or XDG_CACHE_HOME with a folder of yours") from None
    place.mkdir(parents=True, exist_ok=True)
    for name in ("gecko-nas", "locks", *names):
        place /= name
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        is_ours = not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)
        if not is_ours or not stat.S_ISDIR(found.st_mode):
            expected = "expected a folder of yours, no link, that nobody else can write (or set XDG_CACHE_HOME)"
            raise OSError(errno.EPERM, expected, str(place))
    return place


def _attempt(path: Path) -> Lock | None:
    """Take a lock if it is free and its file is still there: who gives one back may take its file away."""
    handle = _open(path)
    try:
        _check(handle, path)
        free = _lock(handle) and _is_at(path, os.fstat(handle))
        if free:
            _sign(handle)
    except BaseException:
        os.close(handle)
        raise
    if not free:
        os.close(handle)
        return None
    return Lock(path, handle)


def _open(path: Path) -> int:
    no_link = getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | no_link, 0o666)
    except PermissionError:  # somebody else's: it can be locked without being written
        return os.open(path, os.O_RDONLY | no_link)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path) from None
        raise


def _check(handle: int, path: Path) -> None:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise _refused(path)


def _refused(path: Path) -> OSError:
    return OSError(errno.EPERM, "expected a lock, a file of its own; got a link or no regular file", str(path))


def _is_at(path: Path, found: os.stat_result) -> bool:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino)


def _sign(handle: int) -> None:
    """Write down who holds a lock, for those who wait; a full disk or somebody else's file may not let it."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())


if sys.platform == "win32":
    import msvcrt

    # Windows lets nobody read what is locked, so the lock lies beyond the text.
    BEYOND_THE_TEXT = 1 << 20

    def _lock(handle: int) -> bool:
        os.lseek(handle, BEYOND_THE_TEXT, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
