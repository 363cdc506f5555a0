"""The journal file of a study: Optuna's format, for processes that may be killed at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal import JournalFileBackend

from nas.base import locks

# How Optuna starts each line.
LINE_START = b'{"op_code":'


class Journal(BaseJournalBackend):
    """Optuna's journal file, which its own `JournalFileBackend` reads; only writing differs.

    - The lock dies with its process. Optuna's outlives a killed writer, and everybody waits half a minute for it.
    - Only the start and the end of a trial wait for the disk. A candidate has some sixty parameters and numbers, and
      waiting for each takes longer than screening. A killed process loses nothing
      by that; a machine that loses power loses candidates that were not finished.

    Raises:
        ValueError: If the file is no journal; it is left as it is.
    """

    def __init__(self, path: Path) -> None:
        _check(path)
        _drop_torn_line(path)
        self._path = path
        self._reader = JournalFileBackend(str(path))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read the lines from a number on."""
        return self._reader.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines whole or not at all.

        Raises:
            OSError: If the disk is full or read-only.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with locks.held(_lock(self._path), pause=0.002), self._path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError:  # a full disk takes half a line
                file.truncate(end)
                raise
            if any("state" in log for log in logs):
                os.fsync(file.fileno())


def lock_folder(path: Path) -> Path:
    """Return the folder of the locks on a journal and its trials: beside it, where all who can write it find them."""
    return path.with_name(f".{path.name}.locks")


def _lock(path: Path) -> Path:
    return lock_folder(path) / "journal.lock"


def _check(path: Path) -> None:
    """Refuse a file that is no journal: Optuna overlooks one bad line at the end, and would append to it."""
    *whole, torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
    ends = [whole[0], whole[-1]] if whole else []
    if not all(map(_is_record, ends)) or not (whole or LINE_START.startswith(torn[: len(LINE_START)])):
        raise ValueError("it is no journal of Optuna's")


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("op_code"), int)


def _drop_torn_line(path: Path) -> None:
    """Cut what a writer that died in the middle of a line left at a journal's end.

    Optuna would skip it now and append to it next, which makes the file unreadable for good.
    """
    if not path.exists() or not _is_torn(path):
        return
    locks.folder(lock_folder(path))
    with locks.held(_lock(path)), path.open("rb+") as journal:
        if _is_torn(path):  # nobody writes now
            journal.truncate(journal.read().rfind(b"\n") + 1)


def _is_torn(path: Path) -> bool:
    with path.open("rb") as journal:
        if not journal.seek(0, os.SEEK_END):
            return False
        journal.seek(-1, os.SEEK_END)
        return journal.read(1) != b"\n"
