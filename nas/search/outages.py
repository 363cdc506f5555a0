"""Outages of a database: a server that is started again, a network that is cut. What was asked is asked again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from nas.base.errors import GRPC
from nas.base.errors import known
from nas.base.errors import one_line
from nas.base.errors import storage_lost
from nas.search import signs

SECONDS_OF_PATIENCE = 600.0
"""How long an outage may last before a search ends; the same command goes on then."""
SECONDS_BETWEEN_TRIES = 2.0
UNREACHABLE = (("sqlalchemy.exc", "OperationalError"), ("sqlalchemy.exc", "InterfaceError"))
"""Module and name of what SQLAlchemy raises when a server cannot be reached."""
ROLLED_BACK = ("sqlalchemy.exc", "PendingRollbackError")
Answer = TypeVar("Answer")
log = logging.getLogger("nas")


class Away(ValueError):  # noqa: N818 - an outcome, as an outage is
    """A server that did not answer when a storage was opened; the message is one line for people."""


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask a storage, and ask again while it cannot be reached.

    Args:
        ask: May be called several times; each call says or finds the same.

    Returns:
        What it returned.

    Raises:
        Away: If it stays away and was to be opened.
        Exception: One of `nas.base.errors.storage_lost`, if the storage stays away, or failed otherwise.
    """
    give_up = time.monotonic() + SECONDS_OF_PATIENCE
    told = False
    while True:
        try:
            return ask()
        except storage_lost(Away) as error:
            if not is_outage(error) or time.monotonic() > give_up:
                raise
            signs.note_outage()
            if not told:
                log.warning("nas: waiting for the storage: %s", one_line(error))
                told = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def is_outage(error: BaseException) -> bool:
    """Tell whether a server cannot be reached; a file that SQLite cannot read or write is another matter."""
    if isinstance(error, Away):
        return True
    cause = error.__cause__ or error
    if isinstance(cause, known(ROLLED_BACK)):  # of a transaction that the outage broke: the next one begins anew
        return True
    if isinstance(cause, known(*UNREACHABLE)):
        return not type(getattr(cause, "orig", None)).__module__.startswith("sqlite3")
    return isinstance(error, known(GRPC))
