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
from nas.commands import completion

if TYPE_CHECKING:
    from rich.table import Table

INTERRUPTED = 130
"""Exit code after Ctrl-C, the same as in a shell."""
ABOVE_LIMIT = 3
"""Exit code of an audit that does not stay below a limit."""

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
        "--plugin",
        help="Module of your own (dotted name or .py file) that a run or a file may name; may be repeated.",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        help="Shape of one record, comma-separated (default: the space's or the named network's; tables must say it)."
    ),
]
Classes = Annotated[int | None, typer.Option(help="Number of classes (default: as for the shape).")]
Space = Annotated[
    str | None,
    typer.Option(
        help="Search space of the parameters (see nas list spaces; default: conv).", autocompletion=completion.spaces
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a parameter, PARAMETER=VALUE; PARAMETER may be a pattern or an ending; may be repeated.",
    ),
]
Run = Annotated[str, typer.Argument(help="Name of a run, or its folder.", autocompletion=completion.runs)]
Precision = Annotated[
    list[str] | None,
    typer.Option(
        help="float32, int8, mixed: as it was trained, or int4: int8 with weights of 4 and fewer bits packed; may "
        "be repeated (default: the first three, where they differ)."
    ),
]


class PlainConsole(Console):
    """A console that prints what it is given: `[b]` is no bold, a control character no control.

    Names in devices, runs and tables are other people's. Every text that Rich prints comes by here, those in cells too.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a line to print of a text."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as its terminal; without one, as `COLUMNS` says, or 80 columns."""
    return PlainConsole(stderr=stderr)


def show_table(table: Table, *, keys: int = 1) -> None:
    """Print a table, in several parts one below the other where it is too wide; nothing of it is cut.

    Args:
        table: The table.
        keys: How many of its first columns stand in each part.
    """
    from nas.base.text import fitting

    screen = console()
    for part in fitting(table, screen.width, keys=keys):
        screen.print(part, crop=False)  # a single column can be wider than the screen, whose terminal breaks it then


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
    """Read METRIC=NUMBER options, divided at the last `=`: the name of a class may have one, too.

    Raises:
        ValueError: If a text is not of this form.

    >>> limits(["latency_ms=5", "class_error_<=50K=0.2"], "--max")
    {'latency_ms': 5.0, 'class_error_<=50K': 0.2}
    """
    found = {}
    for text in texts or []:
        name, _, number = text.rpartition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not (name.strip() and math.isfinite(limit)):
            raise ValueError(f"expected {flag} METRIC=NUMBER; got {text!r}")
        found[name.strip()] = limit
    return found


def narrowings(texts: list[str] | None) -> dict[str, Any]:
    """Read PARAMETER=VALUE options: one value, several with commas, or LOW..HIGH. The last of one parameter counts.

    Raises:
        ValueError: If a text is not of this form.

    >>> narrowings(["bits=8", "block*_weight_bits=bf16,4", "depth=1..3", "norm=true"])
    {'bits': 8, 'block*_weight_bits': ['bf16', 4], 'depth': {'low': 1, 'high': 3}, 'norm': True}
    """
    found: dict[str, Any] = {}
    for text in texts or []:
        name, _, written = (part.strip() for part in text.partition("="))
        words = [word.strip() for word in written.split(",")]
        if not (name and all(words)):
            raise ValueError(
                f"expected --set PARAMETER=VALUE, PARAMETER=VALUE,VALUE or PARAMETER=LOW..HIGH; got {text!r}"
            )
        found.pop(name, None)
        found[name] = [_value(word) for word in words] if len(words) > 1 else _value_or_range(written)
    return found


def changes(texts: list[str] | None) -> dict[str, bool | int | float | str]:
    """Read PARAMETER=VALUE options for one network.

    Raises:
        ValueError: If a text is not of this form.

    >>> changes(["bits=8", "norm=false"])
    {'bits': 8, 'norm': False}
    """
    found = narrowings(texts)
    if several := [name for name, value in found.items() if isinstance(value, list | dict)]:
        raise ValueError(f"expected --set PARAMETER=VALUE, one value, for one network; got several of {several[0]!r}")
    return found


def _value_or_range(text: str) -> Any:
    """Read one value, or the two ends of a range.

    >>> _value_or_range("0.5..1"), _value_or_range("a..b"), _value_or_range("2:4")  # a pattern of zeros
    ({'low': 0.5, 'high': 1}, 'a..b', '2:4')
    """
    ends = [_value(end) for end in text.split("..")]
    if len(ends) == 2 and all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        return {"low": ends[0], "high": ends[1]}
    return _value(text)


def _value(text: str) -> bool | int | float | str:
    """Read a value in the type it looks like.

    >>> [_value(text) for text in ("true", "8", "-1", "0.5", "1e-3", "bf16", "nan")]
    [True, 8, -1, 0.5, 0.001, 'bf16', 'nan']
    """
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text


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
    """Return the requested precisions of files; None if none is given.

    Raises:
        ValueError: If there is no such precision.
    """
    from nas.deploy.packed import FILES

    if unknown := [text for text in texts or [] if text not in FILES]:
        raise ValueError(f"no precision {unknown[0]!r}; there are {list(FILES)}")
    return tuple(dict.fromkeys(texts)) if texts else None
