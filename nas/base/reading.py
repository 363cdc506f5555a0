"""Read users' data files as data, never as code; a file that cannot be read is refused in one line."""

from __future__ import annotations

import gzip
import json
import lzma
import stat
import struct
import tokenize
import tomllib
import zipfile
import zlib
from collections.abc import Iterable
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nas.base import sizes

BROKEN = (
    OSError, EOFError, ValueError, RuntimeError, MemoryError, OverflowError, SyntaxError, TypeError, KeyError,
    IndexError, AttributeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""What NumPy, gzip and zipfile raise on a damaged or hostile file; a RuntimeError is an encrypted zip.

A header of an array is Python's own notation, so whatever its parser raises belongs here too.
"""
LONGEST_HEADER = 10_000
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
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"expected {expected} at {path}; there is no such path, {contents(path.parent)}") from None
    except BROKEN as error:
        raise unreadable(path, expected, error) from None
    if stat.S_ISCHR(kind) or stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):  # such may never end
        raise ValueError(f"expected {expected} at {path}; it is a device, no file")
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
        size = path.stat().st_size
        sizes.check_memory(size, str(path))
        if path.suffix != ".gz":
            return path.read_bytes()
        most = max(sizes.ALWAYS, sizes.MOST_UNPACKED * size)
        with gzip.open(path) as stream:
            data = stream.read(most + 1)
        sizes.check_unpacked(len(data), size, str(path))
    except BROKEN as error:
        raise unreadable(path, expected, error) from None
    return data


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
            return read_arrays(archive, [name for name in (*required, *optional) if name in held])
    except BROKEN as error:
        raise unreadable(path, expected, error) from None


def read_arrays(archive: zipfile.ZipFile, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of an open npz, each only after what its header claims was held against what is in the file.

    Raises:
        ValueError: If an array is not there, is not as large as its header says, or does not fit into memory.
    """
    files = {name: archive.getinfo(name if name in archive.NameToInfo else f"{name}.npy") for name in names}
    for name, info in files.items():
        sizes.check_unpacked(info.file_size, info.compress_size, repr(name))
        _check_header(archive, info, name)
    sizes.check_memory(sum(info.file_size for info in files.values()), "what is asked of the file")
    found = {}
    for name, info in files.items():
        with archive.open(info) as stream:
            found[name] = npy.read_array(stream, allow_pickle=False, max_header_size=LONGEST_HEADER)
    return found


def _check_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> None:
    """Refuse an array whose header claims another size than it has."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with archive.open(info) as stream:
        version = npy.read_magic(stream)
        if version not in readers:
            raise ValueError(f"expected {name!r} in version 1 or 2 of NumPy's format; got {version}")
        shape, _, dtype = readers[version](stream, max_header_size=LONGEST_HEADER)
        size = info.file_size - stream.tell()
    fits = all(length >= 0 for length in shape) and prod(shape) * dtype.itemsize == size
    if not (fits or dtype.hasobject):  # objects are refused when they are read
        raise ValueError(f"expected {size} bytes of {name!r} to be what its header says; it says {dtype} {shape}")


def parse_json(text: str | bytes, expected: str) -> Any:
    """Read JSON that somebody else wrote.

    Args:
        text: What should be JSON.
        expected: How the message starts that says it is not: `expected JSON in a.json`.

    Raises:
        ValueError: If it is none, or nested beyond all measure.
    """
    try:
        found = json.loads(text)
        sizes.check_depth(found)
    except RecursionError:
        raise ValueError(f"{expected}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{expected}: {error}") from None
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file that somebody else may have written.

    Raises:
        ValueError: If it cannot be read, is no TOML, or is nested beyond all measure.
    """
    try:
        found = tomllib.loads(read_text(path))
        sizes.check_depth(found)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise ValueError(f"expected TOML in {path}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"expected TOML in {path}: {error}") from None
    return found


def read_text(path: Path) -> str:
    """Read a text file in UTF-8 whole, unless it is larger than any text that belongs here.

    Raises:
        ValueError: If it is too large, or not UTF-8.
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(sizes.MOST_TEXT + 1)
    if len(data) > sizes.MOST_TEXT:
        raise ValueError(f"{path} is larger than {sizes.MOST_TEXT >> 20} MiB")
    return data.decode()


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
