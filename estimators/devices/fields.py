"""What device files are made of: numbers with their limits, tables by kind of operator or by bits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Annotated
from typing import TypeAlias
from typing import TypeVar

from annotated_types import Ge
from annotated_types import Gt
from annotated_types import Le
from annotated_types import MinLen
from pydantic import AfterValidator
from pydantic import ConfigDict
from pydantic import PlainValidator

from search_spaces.graph.architecture import Pair
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.operators import MAC_KINDS

_Names = TypeVar("_Names", Mapping[str, float], tuple[str, ...])


class CannotRun(ValueError):  # noqa: N818 - an outcome, like Diverged
    """A network has an operator or a bit-width that a device, or a metric, has no rule for."""


def no_rule(kind: str, where: str) -> CannotRun:
    """Return the error for a kernel that nothing prices: an unknown operator is never free."""
    return CannotRun(f"no rule for the operator {kind!r} in {where}")


def only(names: _Names, known: frozenset[str]) -> _Names:
    """Refuse names that are not known.

    Raises:
        ValueError: If there are others among them.
    """
    strangers = sorted(set(names) - known)
    if strangers:
        raise ValueError(f"no operator {strangers}; there are {sorted(known)}")
    return names


def _ascending(widths: tuple[int, ...]) -> tuple[int, ...]:
    if list(widths) != sorted(set(widths)):
        raise ValueError(f"expected ascending widths; got {list(widths)}")
    return widths


def _width_pair(key: object) -> Pair:
    """Read `8` (weights and activations of 8 bits) or `"4/8"` (weights of 4, activations of 8)."""
    texts = str(key).split("/") if isinstance(key, str | int) else [str(width) for width in key]  # type: ignore[attr-defined]
    if not (1 <= len(texts) <= 2 and all(text.isdecimal() and 1 <= int(text) <= 32 for text in texts)):
        raise ValueError("expected weight/activation bits such as 8 or 4/8, each an integer from 1 to 32")
    return int(texts[0]), int(texts[-1])


def _never_cheaper_wide(table: Mapping[Pair, float]) -> Mapping[Pair, float]:
    for narrow in table:
        for wide in table:
            if narrow[0] <= wide[0] and narrow[1] <= wide[1] and table[narrow] > table[wide]:
                raise ValueError(f"expected figures that do not fall as bits grow, but {narrow} exceeds {wide}")
    return {pair: table[pair] for pair in sorted(table)}


def cheapest_holding(table: Mapping[Pair, float]) -> Mapping[Pair, float]:
    """Return the figure of every pair of weight and activation bits: that of the cheapest pair listed that holds both.

    >>> cheapest_holding({(2, 2): 0.5, (2, 4): 0.7, (4, 2): 0.6})[1, 3]
    0.7
    """
    found: dict[Pair, float] = {}
    for pair in sorted(table, key=lambda pair: -table[pair]):
        found |= dict.fromkeys(product(range(1, pair[0] + 1), range(1, pair[1] + 1)), table[pair])
    return found


Positive: TypeAlias = Annotated[float, Gt(0)]
NotNegative: TypeAlias = Annotated[float, Ge(0)]
Width: TypeAlias = Annotated[int, Ge(1), Le(32)]
Widths: TypeAlias = Annotated[tuple[Width, ...], MinLen(1), AfterValidator(_ascending)]
Text: TypeAlias = Annotated[str, MinLen(1)]
Kinds: TypeAlias = Annotated[tuple[str, ...], AfterValidator(partial(only, known=KERNEL_KINDS))]
PerMac: TypeAlias = Annotated[Mapping[str, NotNegative], AfterValidator(partial(only, known=MAC_KINDS))]
PerKind: TypeAlias = Annotated[Mapping[str, NotNegative], AfterValidator(partial(only, known=KERNEL_KINDS))]
WidthPair: TypeAlias = Annotated[Pair, PlainValidator(_width_pair)]
PerWidths: TypeAlias = Annotated[Mapping[WidthPair, Positive], MinLen(1), AfterValidator(_never_cheaper_wide)]

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
