"""Numbers, intervals and tables as people read them."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
import unicodedata
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import groupby
from typing import Any
from typing import TypeAlias

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Column
from rich.table import Table

from estimators.estimate import Estimate

Row: TypeAlias = dict[str, Any]
BETWEEN_COLUMNS = 2
"""Characters that `plain_table` leaves between two columns."""
HIDDEN = 0.0005
"""Positive numbers below this would read 0.000 with three places."""
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that no terminal should get from a file: controls, directions, halves of pairs, breaks."""


def runs(values: Iterable[int | str]) -> str:
    """Write equal neighbours as one.

    >>> runs([8, 2, 2, 8, 8, 8])
    '8 2x2 8x3'
    """
    lengths = [(value, len(list(group))) for value, group in groupby(values)]
    return " ".join(str(value) if length == 1 else f"{value}x{length}" for value, length in lengths)


def printable(text: str) -> str:
    r"""Write control characters as escapes: a name in somebody's file could otherwise steer the terminal.

    Line breaks stay, and so do letters of every script.

    >>> print(printable("a\x1b[31m red"))
    a\x1b[31m red
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(letter) for letter in text)


def in_markdown(text: str) -> str:
    r"""Write somebody's text so that it is text in Markdown, in a table's cell too: no markup, no tag, one line.

    An underscore within a word is no markup.

    >>> print(in_markdown("<=50K | *all* _of_ latency_ms"))
    \<=50K \| \*all\* \_of\_ latency_ms
    """
    return re.sub(r"([\\`*\[\]<>|~#&]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", printable(text).replace("\n", "\\n"))


def in_code(text: str) -> str:
    """Write somebody's text as code in Markdown: one line, and no backtick that ends it.

    >>> print(in_code("digits"), in_code("a` <b>"))
    `digits` `a' <b>`
    """
    return f"`{printable(text).replace(chr(10), ' ').replace('`', chr(39))}`"


def _escaped(letter: str) -> str:
    if letter == "\n" or unicodedata.category(letter) not in STEERING:
        return letter
    return letter.encode("unicode_escape").decode()


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table without frames, as narrow as its columns allow."""
    look: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    return Table(*columns, title=title, title_justify="left", **look)


def fitting(table: Table, width: int, *, keys: int = 1) -> list[Table]:
    """Divide a table that is wider than a screen into tables that fit, one below the other, and cut nothing.

    Args:
        table: What `plain_table` returned, with cells of text. Text is broken at its spaces, unless the column forbids.
        width: Characters in a line of the screen.
        keys: How many of its first columns stand in each part, because they say which row it is.

    Returns:
        The parts, the whole table where it fits. A part with a single column beside the keys may still be wider.

    >>> table = plain_table("name", "first", "second")
    >>> table.add_row("a", "1" * 10, "2" * 10)
    >>> [[column.header for column in part.columns] for part in fitting(table, 20)]
    [['name', 'first'], ['name', 'second']]
    """
    first = table.columns[:keys]
    parts: list[list[Column]] = [[]]
    for column in table.columns[keys:]:
        if parts[-1] and _least([*first, *parts[-1], column], first) > width:
            parts.append([])
        parts[-1].append(column)
    whole = [_part(table, [*first, *columns], first, width) for columns in parts]
    for part in whole[1:]:
        part.title = None
    return whole


def _part(table: Table, columns: Sequence[Column], keys: Sequence[Column], width: int) -> Table:
    """Return some columns of a table, each as wide as its text or its share of what the widest words leave."""
    least, most = zip(*(_widths(column, keys) for column in columns), strict=True)
    room = max(0, width - _least(columns, keys))
    wanted = sum(most) - sum(least)
    share = min(1.0, room / wanted) if wanted else 1.0
    widths = [low + int(share * (high - low)) for low, high in zip(least, most, strict=True)]
    part = copy.copy(table)
    part.columns = [
        dataclasses.replace(column, width=wide, overflow="fold", _index=at)
        for at, (column, wide) in enumerate(zip(columns, widths, strict=True))
    ]
    return part


def _least(columns: Sequence[Column], keys: Sequence[Column]) -> int:
    return sum(_widths(column, keys)[0] for column in columns) + BETWEEN_COLUMNS * (len(columns) - 1)


def _widths(column: Column, keys: Sequence[Column]) -> tuple[int, int]:
    """Return how wide a column must be and how wide it can be of use."""
    lines = [line for text in (column.header, *column.cells) for line in printable(str(text)).splitlines()]
    most = max((cell_len(line) for line in lines), default=0)
    whole = column.no_wrap or column in keys
    return (most if whole else max((cell_len(word) for line in lines for word in line.split()), default=0)), most


def short(value: float) -> str:
    """Write a number with three digits, and nothing for 0."""
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


def with_parameters(name: str, parameters: Mapping[str, object]) -> str:
    """Name a defence with its parameters.

    >>> with_parameters("none", {}), with_parameters("relaxloss", {"alpha": 0.123456})
    ('none', 'relaxloss (alpha 0.1235)')
    """
    written = {key: f"{value:.4g}" if isinstance(value, float) else f"{value}" for key, value in parameters.items()}
    values = [f"{key} {value}" for key, value in written.items()]
    return f"{name} ({', '.join(values)})" if values else name


def heading(name: str) -> str:
    """Put a metric's unit on a second line."""
    return name.replace("_", "\n", 1) if name.count("_") == 1 else "\n".join(name.rsplit("_", 1))


def two_places(number: float) -> str:
    """Write a number with two decimal places, as a rank correlation is read."""
    return f"{number:.2f}"


def three_places(number: float) -> str:
    """Write a number with three decimal places, as an AUC is read."""
    return f"{number:.3f}"


def signed(number: float) -> str:
    """Write a number that may be negative, with its sign."""
    return f"{number:+.3f}"


def changed(estimate: Estimate) -> str:
    """Write a difference for a table's cell, with its sign, and its interval on a line of its own where it has one.

    >>> print(changed(Estimate(-0.0123, -0.05, 0.02)), changed(Estimate.exact(25248)), changed(Estimate.exact(-2e-5)))
    -0.012
    -0.050 to +0.020 +25,248 -2e-05
    """
    if estimate.low == estimate.high:
        return f"{estimate.value:+,.0f}" if estimate.value.is_integer() else with_sign(estimate.value)
    return stacked(estimate, with_sign)


def with_sign(number: float) -> str:
    """Write a number of any size with its sign."""
    if abs(number) < 10:
        return f"{number:+.2g}" if 0 < abs(number) < HIDDEN else signed(number)
    return f"{number:+.1f}" if abs(number) < 1000 else f"{number:+,.0f}"


def percent(number: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * number:.3g} %"


def at_least(share: float) -> str:
    """Write a lower bound of a share, rounded down.

    >>> at_least(0.6789)
    'at least 67%'
    """
    return f"at least {math.floor(share * 100)}%"


def stacked(estimate: Estimate, form: Callable[[float], str] | None = None) -> str:
    """Write a value for a table's cell, with its interval on a line of its own below, where it has one.

    An extrapolated one has a `*` behind it, which a line below the table has to explain.

    Args:
        estimate: The number.
        form: How each number is written; None: three places, or one from 10 on, and a count in full.

    >>> print(stacked(Estimate.exact(1234567)), stacked(Estimate(0.5123, 0.45, 0.57)))
    1,234,567 0.512
    0.450 to 0.570
    >>> print(stacked(Estimate(-0.02, -0.05, 0.01), signed))
    -0.020
    -0.050 to +0.010
    >>> print(stacked(Estimate(0.012, 0.00023, 0.588)))
    0.012
    0.00023 to 0.588
    >>> print(stacked(Estimate(0.4, 0.1, 1.6, extrapolated=True)))
    0.400*
    0.100 to 1.600
    """
    value, interval = _written(estimate, form)
    value += "*" if estimate.extrapolated else ""
    return f"{value}\n{interval}" if interval else value


def inline(estimate: Estimate, form: Callable[[float], str] | None = None) -> str:
    """Write a value within a sentence, with its interval in brackets, where it has one.

    >>> inline(Estimate(0.5123, 0.45, 0.57)), inline(Estimate(0.0012, 0.0003, 0.01), percent)
    ('0.512 (0.450 to 0.570)', '0.12 % (0.03 % to 1 %)')
    >>> inline(Estimate(0.4, 0.1, 1.6, extrapolated=True))
    '0.400 (0.100 to 1.600, extrapolated)'
    """
    value, interval = _written(estimate, form)
    notes = ", ".join(filter(None, (interval, "extrapolated" if estimate.extrapolated else "")))
    return f"{value} ({notes})" if notes else value


def _small(number: float) -> str:
    """Write a number below 10 with three places, or with two digits where these would hide it."""
    return f"{number:.2g}" if 0 < abs(number) < HIDDEN else three_places(number)


def _written(estimate: Estimate, form: Callable[[float], str] | None) -> tuple[str, str]:
    if form is None and estimate.low == estimate.high:
        return (f"{estimate.value:,.0f}" if estimate.value.is_integer() else f"{estimate.value:,.3g}"), ""
    form = form or (_small if estimate.high < 10 else "{:.1f}".format)
    return form(estimate.value), f"{form(estimate.low)} to {form(estimate.high)}"
