"""What the commands share: types of options, how option texts are read, and how lines and tables are printed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from nas.base.text import printable

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 140
INTERRUPTED = 130
"""Exit code after Ctrl-C, the same as in a shell."""
ROOM = 30
"""Characters that a table wider than `WIDTH` leaves for text, beyond its longest words."""
NO_LIMIT = 10_000

Runs = Annotated[Path, typer.Option(help="Folder that holds all runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="GECKO_NAS_STORAGE",
        help="Optuna storage URL (default: a file in the run's folder). Other users do not see the variable.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", help="Module of your own that a run or a file may name, and that may be imported; may be repeated."
    ),
]
InputShape = Annotated[
    str | None, typer.Option(help="Shape of one record, comma-separated (default: the space's own).")
]
Classes = Annotated[int | None, typer.Option(help="Number of classes (default: the space's own).")]
Space = Annotated[str, typer.Option(help="Search space of the parameters (see nas list spaces).")]
Precision = Annotated[
    list[str] | None,
    typer.Option(help="float32, int8, or mixed: as it was trained; may be repeated (default: all that differ)."),
]


class PlainConsole(Console):
    """A console that prints what it is given: `[b]` is no bold, a control character no control.

    Names in devices, runs and tables are other people's. Every text that Rich prints comes by here, those in cells too.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a line to print of a text."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def console(*, stderr: bool = False) -> Console:
    """Return a console. Without a terminal to set its width, it is wide enough for most tables."""
    found = PlainConsole(stderr=stderr)
    return found if found.is_terminal else PlainConsole(stderr=stderr, width=WIDTH)


def show_table(table: Table) -> None:
    """Print a table. Without a terminal to set the width, it is printed wide enough that nothing is cut."""
    screen = console()
    if not screen.is_terminal:
        needed = screen.measure(table, options=screen.options.update(max_width=NO_LIMIT)).minimum
        screen.width = max(WIDTH, needed + ROOM)
    screen.print(table)


def say(text: str) -> None:
    """Print one line as it is, without colours and line breaks."""
    console().print(text.replace("\n", "\\n"), highlight=False, markup=False, soft_wrap=True)


def trust(plugins: list[str] | None, *named: str | None) -> None:
    """Allow the modules that the command line names to be imported: who types a name trusts its code.

    Args:
        plugins: What `--plugin` gave.
        named: Names of plug-ins that other options gave; None for one that was not given.
    """
    from nas.base.plugins import trust

    trust(*(plugins or ()), *(name for name in named if name))


def names(text: str | None) -> list[str] | None:
    """Read comma-separated names.

    >>> names("error, leakage,")
    ['error', 'leakage']
    """
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def limits(texts: list[str] | None, flag: str) -> dict[str, float]:
    """Read METRIC=NUMBER options.

    Raises:
        ValueError: If a text is not of this form.

    >>> limits(["latency_ms=5"], "--max")
    {'latency_ms': 5.0}
    """
    found = {}
    for text in texts or []:
        name, _, number = text.partition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise ValueError(f"expected {flag} METRIC=NUMBER; got {text!r}")
        found[name.strip()] = limit
    return found


def span(text: str) -> int | dict[str, int]:
    """Read a number or LOW:HIGH.

    Raises:
        ValueError: If it is neither.

    >>> span("5"), span("2:9")
    (5, {'low': 2, 'high': 9})
    """
    try:
        ends = [int(part) for part in text.split(":")]
    except ValueError:
        ends = []
    if len(ends) == 1:
        return ends[0]
    if len(ends) == 2:
        return {"low": ends[0], "high": ends[1]}
    raise ValueError(f"expected --epochs NUMBER or LOW:HIGH; got {text!r}")


def shape(text: str | None, option: str = "--input-shape") -> tuple[int, ...] | None:
    """Read the lengths of axes; None if no text is given.

    Raises:
        ValueError: If they are not whole numbers.

    >>> shape("3,32,32")
    (3, 32, 32)
    """
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected {option} with whole numbers, like 3,32,32; got {text!r}") from None


def precisions(texts: list[str] | None) -> tuple[str, ...] | None:
    """Return the requested precisions; None if none is given.

    Raises:
        ValueError: If there is no such precision.
    """
    from nas.deploy.onnx_file import PRECISIONS

    if unknown := [text for text in texts or [] if text not in PRECISIONS]:
        raise ValueError(f"no precision {unknown[0]!r}; there are {list(PRECISIONS)}")
    return tuple(dict.fromkeys(texts)) if texts else None
