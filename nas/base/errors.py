"""What ends a command in one line instead of a traceback, besides a mistake of the user's."""

from __future__ import annotations

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
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, STORAGE_LOST):
        cause = error.__cause__ or error
        return f"the storage failed: {str(cause).strip().splitlines()[0]}; the same command goes on"
    return " ".join(str(error).split())
