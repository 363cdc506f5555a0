"""How large what a file or an option says may be: checked before anything of that size is made."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

if sys.platform == "linux":
    import resource

ALWAYS = 2**28
"""Bytes that need no question: a quarter of a GiB."""
MOST_UNPACKED = 200
"""How many times its packed size an array beyond `ALWAYS` may have: real records stay far below, zip bombs do not."""
MOST_TEXT = 2**28
"""Bytes of a file of settings or JSON."""
MOST_NESTED = 50
"""How deep lists and tables in a file may lie in each other."""
MOST_INPUTS = 2**24
"""Numbers in one record: an image of 2,300 x 2,300 in colour."""
MOST_CLASSES = 2**16
MOST_WEIGHTS = 2**27
"""Weights, and elements of one tensor, of a network that is built: half a GiB in float32."""


def check_memory(needed: int, what: str) -> None:
    """Refuse what does not fit into the memory that is free.

    Args:
        needed: In bytes.
        what: What takes them, for the message.

    Raises:
        ValueError: If it does not fit.
    """
    if needed > ALWAYS and needed > (free := psutil.virtual_memory().available):
        raise ValueError(f"{what} takes {_gib(needed)}; {_gib(free)} of memory are free")


@contextmanager
def at_most_memory(more: int) -> Iterator[None]:
    """Let this process reserve only so many bytes more for a block: a library that wants more is refused by the system.

    Where the system knows no such limit, nothing is limited.
    """
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + more
    kept = [end for end in (most, *before) if end != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(kept), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def check_unpacked(size: int, packed: int, what: str) -> None:
    """Refuse what grows beyond all measure when it is unpacked.

    Args:
        size: In bytes, unpacked.
        packed: In bytes, as it lies in the file.
        what: What is packed, for the message.

    Raises:
        ValueError: If it is more than `MOST_UNPACKED` times as large, and large.
    """
    if size > max(ALWAYS, MOST_UNPACKED * packed):
        raise ValueError(
            f"{what} grows to {_gib(size)} or more, over {MOST_UNPACKED} times its packed size: if it is no mistake, "
            "store it without packing"
        )


def check_task(input_shape: Iterable[int], num_classes: int) -> None:
    """Refuse records and classes beyond what any network here is for, before a shape of that size is computed with.

    Raises:
        ValueError: If a length is no whole number from 1, or the record or the number of classes is too large.
    """
    size = 1
    for length in (shape := tuple(input_shape)):
        if type(length) is not int or length < 1:
            raise ValueError(f"expected whole numbers from 1 as lengths of a record; got shape {shape}")
        size *= length
        if size > MOST_INPUTS:
            raise ValueError(f"expected records of at most {MOST_INPUTS:,} numbers; got shape {shape}")
    if type(num_classes) is not int or num_classes > MOST_CLASSES:
        raise ValueError(f"expected at most {MOST_CLASSES:,} classes; got {num_classes}")


def check_depth(value: object) -> None:
    """Refuse lists and tables that lie deeper in each other than `MOST_NESTED`.

    >>> import json
    >>> check_depth([{"a": [1, 2]}])
    >>> check_depth(json.loads("[" * 60 + "]" * 60))
    Traceback (most recent call last):
    ValueError: it is nested deeper than 50 levels

    Raises:
        ValueError: If they do.
    """
    level = [value]
    for _ in range(MOST_NESTED):
        level = [part for one in level for part in _parts(one)]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {MOST_NESTED} levels")


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _gib(size: int) -> str:
    return f"{size / 2**30:,.3g} GiB" if size < 2**80 else "more than any machine has"
