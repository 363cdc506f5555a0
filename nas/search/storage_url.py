"""Where a study is kept, as the user writes it: a storage URL or the path of a journal file.

A URL may hold a password, so nothing here repeats what it refuses. Of a URL that is written down, the secrets are left
out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

VARIABLE = "GECKO_NAS_STORAGE"
"""Environment variable with a storage's URL: other than an argument, other users do not see it."""
HIDDEN = "***"
PROXY = "grpc"
"""Scheme of the URL of Optuna's gRPC proxy, which stands between many workers and one database."""
EXPECTED = (
    "expected the path of a journal file, or a storage URL: postgresql://USER:PASSWORD@HOST/DATABASE, with %40 for an "
    "@ in the password, mysql+pymysql://..., sqlite:///FILE, grpc://HOST:PORT"
)
SECRET = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
# A scheme and a colon; a database's name and slashes; what stands before a host; the form of libpq; a lost scheme.
LOOKS_LIKE_A_URL = re.compile(
    r"[a-z][\w+.-]+:|(sqlite|postgres|mysql|mariadb|oracle|mssql|redis|mongodb)[\w+]*\W*//|.*:.*@|.*\b(password|pwd)\s*=|//",
    re.IGNORECASE | re.DOTALL,
)


def proxy_of(storage: str) -> tuple[str, int] | None:
    """Return host and port of Optuna's gRPC proxy; None for any other storage.

    >>> proxy_of("grpc://db.local:13000"), proxy_of("sqlite:///studies.db")
    (('db.local', 13000), None)
    """
    url = _taken_apart(storage)
    return (str(url.host), int(url.port or 0)) if url.get_backend_name() == PROXY else None


def _taken_apart(storage: str) -> URL:
    """Take a URL apart.

    Raises:
        ValueError: If it is none.
    """
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - a journal does without, and most runs have one
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        return make_url(storage)
    except ArgumentError as error:
        raise ValueError(str(error)) from None


def is_database(storage: str | None) -> bool:
    """Tell whether a storage is a database, which other machines reach too, or a journal file."""
    return storage is not None and "://" in storage


def checked(storage: str) -> str:
    """Return a storage that is a URL or a path; a URL without its secrets is taken whole from the environment if there.

    Raises:
        ValueError: If it is a URL that is not well-formed, or a path that looks like one.
    """
    if problem := (_problem_of_url if is_database(storage) else _problem_of_path)(storage):
        raise ValueError(f"{EXPECTED}; got {problem} (not shown, it may hold a password)")
    whole = os.environ.get(VARIABLE)
    return checked(whole) if whole and whole != storage and is_redacted(storage) else storage


def redacted(storage: str) -> str:
    """Return a storage without the secrets in its URL.

    >>> redacted("postgresql://me:secret@host/studies"), redacted("runs/all.log")
    ('postgresql://me:***@host/studies', 'runs/all.log')
    """
    if not is_database(storage):
        return storage
    url = _taken_apart(storage)
    hidden = {name: HIDDEN if SECRET.search(name) else value for name, value in url.query.items()}
    if url.password is None and hidden == dict(url.query):
        return storage
    return url.set(query=hidden).render_as_string(hide_password=True)


def is_redacted(storage: str) -> bool:
    """Tell whether secrets were left out of a URL."""
    if not is_database(storage):
        return False
    url = _taken_apart(storage)
    return HIDDEN in (url.password, *url.query.values())


def without_secrets(text: str, storage: str | None) -> str:
    """Return a text less what may be part of the secrets in a storage's URL, however badly that is written."""
    login, _, _ = (storage or "").partition("://")[2].rpartition("@")
    query = (storage or "").partition("?")[2]
    parts = re.split(r"[:@/?&=]", f"{login.partition(':')[2]}&{query}")
    for secret in sorted({*parts, *map(unquote, parts)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if len(secret) > 2 else text
    return text


def _problem_of_url(storage: str) -> str | None:
    """Say in general terms what is wrong with a URL."""
    place = storage.partition("://")[2].partition("?")[0]
    try:
        url = _taken_apart(storage)
    except ValueError:
        return "a URL that cannot be taken apart"
    is_file, is_proxy = url.get_backend_name() == "sqlite", url.get_backend_name() == PROXY
    problems = {
        "a URL with spaces around it or characters that cannot be printed": (
            not storage.isprintable() or storage != storage.strip()
        ),
        "a URL of SQLite with a host; it has three slashes, four before an absolute path": is_file and bool(url.host),
        "a URL of a gRPC proxy that is more or less than grpc://HOST:PORT": is_proxy and not _is_place(url),
        "a URL with spaces in it": not is_file and " " in storage,
        "a URL with an @ where none can be": not is_file and (place.count("@") > 1 or "@" in (url.database or "")),
        "a URL with a % that two hexadecimal digits do not follow": (
            not is_file and bool(re.search(r"%(?![0-9A-Fa-f]{2})", place))
        ),
    }
    return next((problem for problem, is_there in problems.items() if is_there), None)


def _is_place(url: URL) -> bool:
    """Tell whether a URL has a host, a port and nothing else."""
    return bool(url.host and url.port) and not (url.username or url.password or url.database or url.query)


def _problem_of_path(storage: str) -> str | None:
    if storage != storage.strip() or not storage.isprintable():
        return "a path with spaces around it or characters that cannot be printed"
    is_explicit = Path(storage).is_absolute() or storage.startswith((".", "~"))
    looks = LOOKS_LIKE_A_URL.match(storage) or LOOKS_LIKE_A_URL.match(unquote(storage))
    if storage.startswith("//") or (looks and not is_explicit):
        return "what looks like a broken URL; a path that does begins with ./"
    return None
