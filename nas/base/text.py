"""Numbers, intervals and tables as people read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import groupby
from typing import Any
from typing import TypeAlias

from rich.box import SIMPLE_HEAD
from rich.table import Table

from estimators.estimate import Estimate

Row: TypeAlias = dict[str, Any]
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that no terminal should get from a file: controls, directions, halves of pairs, breaks."""


def runs(values: Iterable[int]) -> str:
    """Write equal neighbours as one.

    >>> runs([8, 2, 2, 8, 8, 8])
    '8 2x2 8x3'
    """
    lengths = [(value, len(list(group))) for value, group in groupby(values)]
    return " ".join(str(value) if length == 1 else f"{value}x{length}" for value, length in lengths)


def flat(estimates: Mapping[str, Estimate]) -> Row:
    """Write estimates as plain numbers; one with an interval has `NAME_low` and `NAME_high` beside it."""
    numbers: Row = {}
    for name, estimate in estimates.items():
        numbers[name] = _plain(estimate.value)
        if estimate.low < estimate.high:
            numbers |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return numbers


def printable(text: str) -> str:
    r"""Write control characters as escapes: a name in somebody's file could otherwise steer the terminal.

    Line breaks stay, and so do letters of every script.

    >>> print(printable("a\x1b[31m red"))
    a\x1b[31m red
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if letter == "\n" or unicodedata.category(letter) not in STEERING:
        return letter
    return letter.encode("unicode_escape").decode()


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table without frames, as narrow as its columns allow."""
    look: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    return Table(*columns, title=title, title_justify="left", **look)


def _short(value: float) -> str:
    return f"{value:.3g}" if value else ""


def runs_of_widths(widths: Sequence[int]) -> str:
    """Write ascending widths, three or more neighbours as a range.

    >>> runs_of_widths((1, 2, 3, 4, 8, 32)), runs_of_widths((1, 8))
    ('1-4 8 32', '1 8')
    """
    numbered = enumerate(widths)
    spans = [[width for _, width in group] for _, group in groupby(numbered, key=lambda pair: pair[1] - pair[0])]
    texts = [f"{span[0]}-{span[-1]}" if len(span) > 2 else " ".join(map(str, span)) for span in spans]
    return " ".join(texts)


def _plain(value: float) -> int | float:
    """Return a whole number as one."""
    return int(value) if float(value).is_integer() else value


def _heading(name: str) -> str:
    """Put a metric's unit on a second line."""
    return name.replace("_", "\n", 1) if name.count("_") == 1 else "\n".join(name.rsplit("_", 1))


def interval_text(estimate: Estimate) -> str:
    """Write a value, and under it its interval where it has one.

    >>> print(interval_text(Estimate.exact(1234567)), interval_text(Estimate(0.5123, 0.45, 0.57)))
    1,234,567 0.512
    0.450-0.570
    """
    if estimate.low == estimate.high:
        return f"{estimate.value:,.0f}" if estimate.value.is_integer() else f"{estimate.value:,.3g}"
    digits = ".3f" if estimate.high < 10 else ".1f"
    return f"{estimate.value:{digits}}\n{estimate.low:{digits}}-{estimate.high:{digits}}"
