"""Tell a shortage of memory, which is the machine's, from an error, which is the program's."""

from __future__ import annotations

import errno
import gc
import re

import torch

# What PyTorch and the libraries under it say in a plain RuntimeError.
SAID = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory|not enough memory|cannot allocate memory|out of memory"
    r"|_STATUS_ALLOC_FAILED|std::bad_alloc",
    re.IGNORECASE,
)
LENGTH = 300


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error, or what it came from, is that there was not enough memory.

    >>> is_shortage(MemoryError()), is_shortage(OSError(12, "Cannot allocate memory")), is_shortage(OSError(28, "full"))
    (True, True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError) and SAID.search(str(error)):
        return True
    return error.__cause__ is not None and is_shortage(error.__cause__)


def reason(error: BaseException) -> str:
    """Put a shortage of memory into one line.

    >>> reason(MemoryError())
    'MemoryError'
    """
    return (" ".join(str(error).split()) or type(error).__name__)[:LENGTH]


def free() -> None:
    """Give back what a broken-off training still holds, here and on the graphics card."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
