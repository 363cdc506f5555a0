"""Read users' data files as data, never as code; a file that cannot be read is refused in one line."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BROKEN = (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What NumPy, gzip and zipfile raise on a damaged or hostile file; a RuntimeError is an encrypted zip."""
FLOAT32_MAX = float(np.finfo(np.float32).max)


def existing(path: Path | None, expected: str) -> Path:
    """Return a path that exists.

    Args:
        path: What the user gave.
        expected: What should be there, for the message.

    Raises:
        ValueError: If no path was given or nothing is there; the message says what the folder above holds.
    """
    if path is None:
        raise ValueError(f"expected the path of {expected}; got none")
    try:
        path = path.expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"expected {expected} at {path}; there is no such path, {contents(path.parent)}") from None
    except BROKEN as error:
        raise unreadable(path, expected, error) from None
    return path


def contents(folder: Path, limit: int = 8) -> str:
    """Describe what a folder holds, in one line.

    >>> contents(Path("no/such/folder"))
    'no/such/folder is not a folder'
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return f"{folder} is not a folder"
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{folder} holds {names[:limit]}{more}" if names else f"{folder} is empty"


def find_files(
    root: Path, folders: Sequence[str], names: Sequence[str], expected: str, suffixes: Sequence[str] = ("",)
) -> list[Path]:
    """Find the files of a data set, all in one of `folders` below `root`, each under any of `suffixes`.

    Raises:
        ValueError: If no folder has them all; the message names those missing where the most are.
    """
    searched = []
    for folder in (root / name for name in folders):
        files = [[path for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file()] for name in names]
        missing = [name for name, paths in zip(names, files, strict=True) if not paths]
        if not missing:
            return [paths[0] for paths in files]
        searched.append((missing, folder))
    missing, folder = min(searched, key=lambda pair: len(pair[0]))
    if len(missing) < len(names):
        raise ValueError(f"expected {expected} in {folder}; missing: {missing}")
    raise ValueError(f"expected {expected} in {root}, files {list(names)}; {contents(root)}")


def read_bytes(path: Path, expected: str) -> bytes:
    """Read a whole file, decompressed if its name ends in `.gz`.

    Raises:
        ValueError: If it cannot be read or unpacked.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except BROKEN as error:
        raise unreadable(path, expected, error) from None


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read arrays of an npz without unpickling anything.

    Raises:
        ValueError: If the file is no npz, a required array is missing, or an array holds Python objects.
    """
    expected = f"an .npz with {' and '.join(repr(name) for name in required)}"
    try:
        with zipfile.ZipFile(path) as archive:
            held = [name.removesuffix(".npy") for name in archive.namelist()]
        missing = [name for name in required if name not in held]
        if missing:
            raise ValueError(f"there is no {missing[0]!r}, only {held}")
        with np.load(path, allow_pickle=False) as stored:
            return {name: np.asarray(stored[name]) for name in (*required, *optional) if name in held}
    except BROKEN as error:
        raise unreadable(path, expected, error) from None


def check_commas(header: Sequence[str], path: Path) -> None:
    """Refuse a CSV whose only column is several, divided by something else than commas.

    >>> check_commas(["a;label"], Path("x.csv"))
    Traceback (most recent call last):
    ValueError: expected commas between the columns of x.csv; got semicolons: 'a;label'

    Raises:
        ValueError: If there are semicolons or tabs in a single column's name.
    """
    for separator, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise ValueError(f"expected commas between the columns of {path}; got {called}: {header[0][:80]!r}")


def unreadable(path: Path, expected: str, error: BaseException) -> ValueError:
    """Say in one line that a file is not what was expected."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"expected {expected} at {path}; cannot read it: {reason}")


def as_float32(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return numbers as contiguous float32.

    Raises:
        ValueError: If they are no real numbers, or one is NaN, infinite or beyond float32.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers as {where}; got {values.dtype}")
    # Minimum and maximum carry NaN and infinity, and need no copy.
    if values.size and not -FLOAT32_MAX <= float(values.min()) <= float(values.max()) <= FLOAT32_MAX:
        raise ValueError(f"expected finite numbers as {where}; got NaN, infinity or a number beyond float32")
    return np.ascontiguousarray(values, dtype=np.float32)


def as_classes(values: NDArray[Any], where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number the classes that occur, in order: `(records,)` labels and the name of each class.

    >>> as_classes(np.array(["dog", "cat", "dog"]), "labels")
    (array([1, 0, 1]), ('cat', 'dog'))

    Raises:
        ValueError: If the values are neither integers nor strings, or not `(records,)`.
    """
    if values.ndim != 1 or values.dtype.kind not in "biuUS":
        raise ValueError(f"expected {where} (records,) of integers or strings; got {values.dtype} {values.shape}")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    classes, labels = np.unique(values, return_inverse=True)
    return labels.astype(np.int64), tuple(str(name) for name in classes)
