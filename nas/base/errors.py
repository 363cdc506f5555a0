"""What ends a command in one line instead of a traceback, besides a mistake of the user's."""

from __future__ import annotations

import re
import sys

from nas.base.text import printable

GRPC = ("grpc", "RpcError")
"""Module and name of what Optuna's gRPC proxy raises."""
# What a database that went away raises, from SQLAlchemy itself or through Optuna.
STORAGE_LOST = (("sqlalchemy.exc", "SQLAlchemyError"), ("optuna.exceptions", "StorageInternalError"), GRPC)
LONGEST = 300
"""Characters of a message on the command line."""


def known(*errors: tuple[str, str]) -> tuple[type[Exception], ...]:
    """Return those kinds of errors whose library is imported: no other one can be raised, and none need be imported.

    Args:
        errors: Module and name of each kind.

    >>> known(("json", "JSONDecodeError"), ("no.such.library", "Error"))
    (<class 'json.decoder.JSONDecodeError'>,)
    """
    return tuple(getattr(sys.modules[module], name) for module, name in errors if module in sys.modules)


def storage_lost(*others: type[BaseException]) -> tuple[type[BaseException], ...]:
    """Return other kinds of errors and what a database that went away raises, as known when something was raised."""
    return (*others, *known(*STORAGE_LOST))


def one_line(error: BaseException) -> str:
    """Put an error into one line of at most `LONGEST` characters, whatever the names in it hold.

    >>> one_line(OSError(28, "No space left on device", "runs/a/config.toml"))
    'No space left on device: runs/a/config.toml'
    """
    return clipped(without_logins(_message(error)))


def clipped(text: str) -> str:
    r"""Put a text into one line that a terminal takes as it is, cut after `LONGEST` characters.

    >>> clipped("no [b]space[/b]\n here" + "!" * 1000)[:25], len(clipped("!" * 1000))
    ('no [b]space[/b] here!!!!!', 300)
    """
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, storage_lost()):
        cause = error.__cause__ or error
        return f"the storage failed: {str(cause).strip().splitlines()[0]}; the same command goes on"
    return str(error)


def without_logins(text: str) -> str:
    """Return a text less the logins of URLs in it, which a user may have put where no URL belongs.

    >>> without_logins("no run 'postgresql:/me:secret@host/studies'")
    "no run 'postgresql:/***@host/studies'"
    """
    return re.sub(r"(\w:/+)[^\s'\"]*:[^\s'\"]*@", r"\1***@", text)
