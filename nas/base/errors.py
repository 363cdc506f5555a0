"""What ends a command in one line instead of a traceback, besides a mistake of the user's."""

from __future__ import annotations

import re

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

# What a database that went away raises, from SQLAlchemy itself or through Optuna.
STORAGE_LOST = (SQLAlchemyError, StorageInternalError)


def one_line(error: Exception) -> str:
    """Put an error into one line.

    >>> one_line(OSError(28, "No space left on device", "runs/a/config.toml"))
    'No space left on device: runs/a/config.toml'
    """
    if isinstance(error, OSError) and error.strerror:
        return without_logins(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    if isinstance(error, STORAGE_LOST):
        cause = error.__cause__ or error
        return without_logins(f"the storage failed: {str(cause).strip().splitlines()[0]}; the same command goes on")
    return without_logins(" ".join(str(error).split()))


def without_logins(text: str) -> str:
    """Return a text less the logins of URLs in it, which a user may have put where no URL belongs.

    >>> without_logins("no run 'postgresql:/me:secret@host/studies'")
    "no run 'postgresql:/***@host/studies'"
    """
    return re.sub(r"(\w:/+)[^\s'\"]*:[^\s'\"]*@", r"\1***@", text)
