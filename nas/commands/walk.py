"""The interactive part of nas pick: a walk along the front, from candidate to candidate by their leakage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from nas.commands.options import say
from nas.commands.options import show_table

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from nas.runs.compare import Difference
    from nas.runs.front_and_knee import Choice

LESS, MORE, CHOOSE, QUIT = STEPS = ("less", "more", "choose", "quit")
"""What can be typed: to the neighbour with less leakage or with more, choose this candidate, or choose none."""
BY = "leakage"
"""The measure that the front is walked along."""


def walk(study: optuna.Study, start: Choice) -> Choice | None:
    """Let somebody walk along the front within limits and choose a candidate.

    At each candidate its numbers are shown, and what the neighbours with less and with more leakage differ by.

    Args:
        study: The study.
        start: The candidate to begin at, and the limits. One that is not on the front stands among those that are.

    Returns:
        The choice; None if none was made.

    Raises:
        ValueError: If the input, which is not a terminal, ends before.
    """
    from nas.runs.front_and_knee import alternatives
    from nas.runs.report import extrapolated_lines

    found = {trial.number: trial for trial in (start.trial, *alternatives(study, start.limits))}
    row = sorted(found.values(), key=lambda trial: (trial.user_attrs[BY], *(trial.values or ()), trial.number))
    at = row.index(found[start.trial.number])
    say(f"the walk begins at candidate {start.trial.number}: {start.reason}")
    for line in extrapolated_lines(study, row):
        say(line)
    while True:
        _show(study, row, at)
        step = _ask()
        if step == QUIT:
            return None
        if step == CHOOSE:
            return replace(start, trial=row[at], reason="chosen on a walk along the front, by its leakage")
        to = at + (1 if step == MORE else -1)
        if 0 <= to < len(row):
            at = to
        else:
            say(f"no candidate of the front has {step} leakage than {row[at].number}")


def _ask() -> str:
    try:
        return str(typer.prompt(", ".join(STEPS), value_proc=_step))
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C or Ctrl-D
            raise
        raise ValueError(
            f"expected {', '.join(STEPS)} for --interactive; the input ended before a candidate was chosen"
        ) from None


def _step(text: str) -> str:
    """Read a step, or the beginning of one.

    Raises:
        BadParameter: If it is none, so that it is asked for again.
    """
    step = next((step for step in STEPS if text and step.startswith(text.strip().lower())), None)
    if step is None:
        raise typer.BadParameter(f"expected {', '.join(STEPS)} or a first letter of these; got {text!r}")
    return step


def _show(study: optuna.Study, row: Sequence[FrozenTrial], at: int) -> None:
    """Print a candidate, and what its neighbours differ by."""
    from nas.base.text import plain_table
    from nas.base.text import stacked
    from nas.runs import by_class
    from nas.runs import compare
    from nas.runs import report

    here = row[at]
    sides = {step: row[place] for step, place in ((LESS, at - 1), (MORE, at + 1)) if 0 <= place < len(row)}
    metrics = compare.walked_by(study, [here, *sides.values()])
    apart = {step: compare.differences(study, here, other, metrics) for step, other in sides.items()}
    table = plain_table("", f"candidate\n{here.number}", *(f"{step}: {sides[step].number}" for step in sides))
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for place, name in enumerate(metrics):
        numbers = stacked(by_class.estimate_of(study, here, name))
        table.add_row(name, numbers, *(compare.told(found[place]) for found in apart.values()))
    say(f"candidate {here.number}, {at + 1} of {len(row)} on the front by {BY}, the lowest first")
    show_table(table)
    for line in report.misfit_lines(study, [here]):
        say(line)
    if LESS in sides:
        say(_price(sides[LESS].number, apart[LESS]))


def _price(number: int, apart: Sequence[Difference]) -> str:
    """Say what the neighbour with less leakage costs."""
    from nas.runs.compare import in_words

    gained, *paid = (in_words(one) for one in apart)  # `walked_by` puts the leakage first
    return f"less {BY}, candidate {number}: {gained}; for {'; '.join(paid)}"
