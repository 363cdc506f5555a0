"""The command line, `nas`: a function for each command, and one line for a mistake of the user's."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from nas.base import errors
from nas.commands.audit import audit
from nas.commands.calibrate import calibrate
from nas.commands.compare import compare
from nas.commands.confirm import confirm
from nas.commands.dashboard import dashboard
from nas.commands.estimate import estimate
from nas.commands.examples import epilog
from nas.commands.export import export
from nas.commands.front import front
from nas.commands.list import list_
from nas.commands.measure import measure
from nas.commands.options import INTERRUPTED
from nas.commands.pick import pick
from nas.commands.predict import predict
from nas.commands.report import report
from nas.commands.search import search
from nas.commands.show import show
from nas.commands.siblings import siblings
from nas.commands.worker import worker

app = typer.Typer(
    name="nas",
    help="Search for small networks that are accurate, fit the chip and leak little about their training data.",
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gecko-nas {version('gecko-nas')}")
        raise typer.Exit


@app.callback()
def _every_command(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    import optuna  # noqa: PLC0415 - help and completion do without

    optuna.logging.set_verbosity(optuna.logging.WARNING)


for command in (
    search,
    worker,
    confirm,
    show,
    report,
    front,
    compare,
    dashboard,
    pick,
    audit,
    siblings,
    export,
    predict,
    estimate,
    measure,
    calibrate,
):
    app.command(epilog=epilog(command.__name__))(command)
app.command(name="list", epilog=epilog("list"))(list_)

# The command line's own errors. Typer may bring its own copy of click, so the class is found from one of typer's.
USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.mro() if kind.__name__ == "UsageError")


def main() -> None:
    """Run the command line. A user's mistake is reported in one line, with exit code 2."""
    logging.captureWarnings(capture=True)
    if logging.lastResort is not None:  # one line each on whatever standard error is at that moment
        logging.getLogger("nas").addHandler(logging.lastResort)
    try:
        app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except errors.storage_lost(ValueError, OSError, USAGE_ERROR) as error:
        typer.echo(f"nas: {_one_line(error)}", err=True)
        sys.exit(2)
    except typer.Abort:
        sys.exit(INTERRUPTED)


def _one_line(error: BaseException) -> str:
    if isinstance(error, USAGE_ERROR):
        return errors.clipped(errors.without_logins(error.format_message()))  # type: ignore[attr-defined]
    return errors.one_line(error)
