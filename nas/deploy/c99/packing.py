"""Weights as bytes: levels of 1, 2, 4 or 8 bits, the first one in the lowest bits of the first byte.

One bit is 1 for +1 and 0 for -1. Wider levels are in two's complement; ternary ones take two bits, as `flash_kib`
counts them, and levels of three bits take four.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTHS = (1, 2, 4, 8)


def stored_bits(bits: int) -> int:
    """Return the bits in which a weight is stored.

    >>> [stored_bits(bits) for bits in (1, 2, 3, 4, 8)]
    [1, 2, 4, 4, 8]
    """
    return next(width for width in WIDTHS if width >= bits)


def pack(levels: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Pack whole numbers.

    Args:
        levels: Any shape: -1 and +1 at one bit, else from -2^(bits-1) to 2^(bits-1) - 1.
        bits: One of `WIDTHS`.

    Returns:
        `(bytes,)`, the last one filled up with zeros.

    Raises:
        ValueError: If a level has no form in so many bits.

    >>> pack(np.array([1, -1, 1, 1, -1]), 1), pack(np.array([-2, 1, 0, -1, 1]), 2)
    (array([13], dtype=uint8), array([198,   1], dtype=uint8))
    """
    flat = np.asarray(levels).reshape(-1).astype(np.int64)
    if not np.isin(flat, (-1, 1) if bits == 1 else range(-(2 ** (bits - 1)), 2 ** (bits - 1))).all():
        raise ValueError(f"expected levels of {bits} bits; got {flat.min()} to {flat.max()}")
    fields = (flat > 0).astype(np.int64) if bits == 1 else flat & (2**bits - 1)
    each = 8 // bits
    fields = np.concatenate([fields, np.zeros(-len(fields) % each, np.int64)]).reshape(-1, each)
    return np.asarray((fields << (bits * np.arange(each))).sum(1), np.uint8)


def unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.int8]:
    """Return the levels that `pack` packed, `(count,)`."""
    each = 8 // bits
    fields = (packed.astype(np.int64)[:, None] >> (bits * np.arange(each)) & (2**bits - 1)).reshape(-1)[:count]
    half = 2 ** (bits - 1)
    return np.asarray(2 * fields - 1 if bits == 1 else (fields ^ half) - half, np.int8)
