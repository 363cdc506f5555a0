"""The precisions that weights and tensors may have: as a search samples them, and as an operator holds them.

A search samples a whole number of bits, or the name of a format where a number of bits has several. An operator holds
both: the bits, which decide what it costs to store, and the format.

- 32: float32.
- `bf16`, `fp16`: 16 bits, with the exponent of float32 (bfloat16) or the fraction of IEEE 754's half precision.
- 8, 4, 3, 2: whole numbers times a scale; in two bits -2, -1, 0 and 1.
- `ternary`: weights -1, 0 and +1 times a scale, stored in two bits (Li, Zhang and Liu, 2016).
- 1: weights and tensors -1 and +1, binary (Rastegari et al., 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

Precision: TypeAlias = int | str

FLOAT = 32
HALF = 16
TERNARY = "ternary"
FORMATS: Mapping[str, int] = MappingProxyType({"bf16": HALF, "fp16": HALF, TERNARY: 2})
"""The bits of each format that has a name."""
WEIGHTS: tuple[Precision, ...] = (32, "bf16", "fp16", 8, 4, 3, 2, TERNARY, 1)
TENSORS: tuple[Precision, ...] = tuple(precision for precision in WEIGHTS if precision != TERNARY)
BIT_WIDTHS = (32, 16, 8, 4, 3, 2, 1)
INTEGER_WIDTHS = tuple(bits for bits in BIT_WIDTHS if bits < HALF)


def bits_and_format(precision: Precision) -> tuple[int, str]:
    """Return how an operator holds a precision: its bits, and the name of its format or "" where it needs none.

    Raises:
        ValueError: If there is no format of that name. Numbers of bits are checked where a layer is built: a graph may
            have any, to be priced.

    >>> bits_and_format(8), bits_and_format("bf16"), bits_and_format("ternary")
    ((8, ''), (16, 'bf16'), (2, 'ternary'))
    """
    if isinstance(precision, int):
        return precision, ""
    if precision not in FORMATS:
        raise ValueError(f"no precision {precision!r}; there are {list(WEIGHTS)}")
    return FORMATS[precision], precision


def is_float(bits: int, format: str) -> bool:
    """Tell whether weights or tensors are in floating point: 16 bits without the name of a format are whole numbers.

    >>> is_float(32, ""), is_float(16, "fp16"), is_float(16, ""), is_float(2, "ternary")
    (True, True, False, False)
    """
    return bits == FLOAT or (bits == HALF and bool(format))


def precision_of(bits: int, format: str) -> Precision:
    """Return the precision of an operator's bits and format, as a search samples it.

    >>> precision_of(2, "ternary"), precision_of(2, ""), precision_of(16, "fp16")
    ('ternary', 2, 'fp16')
    """
    return format or bits


def at_least(precision: Precision, bits: int) -> Precision:
    """Return a precision, or a wider one of so many bits where it has fewer.

    >>> at_least(2, 8), at_least("bf16", 8), at_least(8, 8)
    (8, 'bf16', 8)
    """
    return precision if bits_and_format(precision)[0] >= bits else bits
