"""Write files whole or not at all, and read arrays without executing anything."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nas.base.reading import BROKEN
from nas.base.reading import parse_json
from nas.base.reading import read_arrays
from nas.base.reading import read_text

EVERYBODY, OWNER = 0o666, 0o600


def write(path: Path, fill: Callable[[BinaryIO], object], mode: int = EVERYBODY) -> None:
    """Fill a temporary file beside `path` and move it there, so that a reader never sees half of it.

    Args:
        path: The file; its folder is made.
        fill: Writes the content.
        mode: Who may read it, less what the process's umask takes away.

    Raises:
        OSError: If the disk is full or read-only; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())  # or a power cut may leave a name without its content
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which file it was for
            error.filename = str(path)
        raise


def write_text(path: Path, text: str, mode: int = EVERYBODY) -> None:
    """Write a text file in UTF-8."""
    write(path, lambda stream: stream.write(text.encode()), mode)


def write_json(path: Path, value: object, mode: int = EVERYBODY) -> None:
    """Write readable JSON; NaN and infinity are refused, not every reader takes them."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", mode)


def append_json(path: Path, value: object, mode: int = EVERYBODY) -> None:
    """Append one line of JSON; a single write, so that lines of several processes do not mix.

    Where a full disk or a kill left half a line at the end, the new one begins on a line of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(value, allow_nan=False) + "\n"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode), "ab+") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            line = line if stream.read(1) == b"\n" else f"\n{line}"
        stream.write(line.encode())


def digest_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def private_folder(path: Path) -> Path:
    """Make a folder that its owner alone can look into; one of ours that was open to others is closed.

    Raises:
        OSError: If it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.stat()
    if hasattr(os, "getuid") and found.st_uid == os.getuid() and found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: If the file holds something else.
    """
    try:
        text = read_text(path)
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}: {error}") from None
    return parse_json(text, f"expected JSON in {path}")


def write_arrays(path: Path, *, mode: int = EVERYBODY, **arrays: NDArray[Any]) -> None:
    """Write named arrays as npz."""
    write(path, lambda stream: np.savez(stream, allow_pickle=False, **arrays), mode)


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read one array of an npz; pickled objects are refused.

    Raises:
        ValueError: If the file is no npz or has no such array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return read_arrays(archive, [name])[name]
    except OSError:
        raise
    except BROKEN as error:
        raise ValueError(f"expected an .npz with {name!r} in {path}: {error}") from None
