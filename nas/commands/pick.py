"""nas pick: choose one candidate of a run and write its weights and its card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Run
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import limits
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from nas.deploy.exportable import Judged
    from nas.runs.front_and_knee import Choice
    from nas.runs.retrained import Retrained
    from nas.runs.run import Run as OpenedRun


def pick(
    run: Run,
    *,
    maximum: Annotated[
        list[str] | None,
        typer.Option("--max", help="Upper limit of a metric or end (leakage_high), METRIC=NUMBER; may be repeated."),
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="Metric or end to minimise within the limits (default: the knee of the front).")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Percent, such as 95: choose only what stays within each limit in so many of 100 cases when it is "
            "trained anew, by the upper end of its interval."
        ),
    ] = None,
    no_device_limits: Annotated[
        bool, typer.Option("--no-device-limits", help="Choose also what exceeds the memory of the device.")
    ] = False,
    no_error_ceiling: Annotated[
        bool, typer.Option("--no-error-ceiling", help="Choose also what errs more than quick baselines allow.")
    ] = False,
    number: Annotated[
        int | None, typer.Option(help="Number of the candidate to pick, instead of a choice by --max and --prefer.")
    ] = None,
    retrain_on_all: Annotated[
        bool,
        typer.Option(
            "--retrain-on-all",
            help="Also train the candidate anew on members, non-members and validation records, beside the pick. "
            "Error, leakage and audits are not those of that network.",
        ),
    ] = False,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Choose one candidate, print the reason, and write its architecture, weights and card."""
    from nas.deploy import exportable
    from nas.runs import picks
    from nas.runs.front_and_knee import choose
    from nas.runs.front_and_knee import chosen
    from nas.runs.front_and_knee import limits_to_pick_by
    from nas.runs.run import open_trained

    trust(plugin)
    if number is not None and (given := [flag for flag, value in (("--max", maximum), ("--prefer", prefer)) if value]):
        raise ValueError(f"expected --number without {' and '.join(given)}: it names the candidate")
    opened = open_trained(run, runs, storage)
    study = opened.study
    wanted = limits(maximum, "--max")
    within = limits_to_pick_by(
        study,
        wanted,
        device_limits=not no_device_limits,
        error_ceiling=not no_error_ceiling,
        confidence=_share(confidence),
    )
    choice = choose(study, within, prefer) if number is None else chosen(study, opened.trained(number), within)
    if choice.failed and number is None:
        _refuse(study, choice, as_json=as_json)
    written = picks.write(opened, choice)
    anew = _trained_anew(opened, choice.trial, written) if retrain_on_all else None
    judged = exportable.judge_int8(opened, [choice.trial])
    if as_json:
        _print_json(study, choice, written, anew, judged)
    else:
        _print(study, choice, written, anew, judged)


def _trained_anew(opened: OpenedRun, trial: FrozenTrial, pick: Path) -> Retrained:
    from nas.runs import retrained

    return retrained.write(opened, trial, pick)


def _share(percent: float | None) -> float | None:
    """Turn a confidence in percent into a share.

    Raises:
        ValueError: If it is not above 50 and below 100.
    """
    if percent is None:
        return None
    if not 50 < percent < 100:
        hint = f"; a share of {percent:g} is {100 * percent:g} percent" if 0.5 < percent < 1 else ""
        raise ValueError(f"expected --confidence in percent, above 50 and below 100; got {percent:g}{hint}")
    return percent / 100


def _refuse(study: optuna.Study, choice: Choice, *, as_json: bool) -> None:
    """Say that no candidate meets the limits, and what the nearest one exceeds.

    Raises:
        ValueError: Always.
    """
    from nas.pricing.limits import LOOK_BEYOND
    from nas.runs import report
    from nas.runs.front_and_knee import exceeded_by

    if as_json:
        row = report.row(study, choice.trial)
        typer.echo(json.dumps({"picked": None, "nearest": row, "failed": choice.failed, **_limits(choice)}))
    kinds = dict.fromkeys(limit.kind for limit in exceeded_by(study, choice.trial, choice.limits))
    beyond = "".join(f"; {LOOK_BEYOND[kind]} looks beyond" for kind in kinds if kind in LOOK_BEYOND)
    raise ValueError(
        f"no candidate meets the limits; candidate {choice.trial.number} is nearest: {', '.join(choice.failed)}{beyond}"
    )


def _print_json(study: optuna.Study, choice: Choice, written: Path, anew: Retrained | None, judged: Judged) -> None:
    from estimators.estimate import flat
    from nas.deploy import exportable
    from nas.runs import report
    from nas.runs.front_and_knee import alternatives
    from nas.runs.ties import ties_in
    from nas.search.schema import errors_on_test

    known = errors_on_test(study.user_attrs)
    row = {**report.row(study, choice.trial), "int8": exportable.of(judged, choice.trial)}
    picked = {"picked": row, "reason": choice.reason, "folder": str(written)}
    picked |= {"ties": ties_in(study, choice.trial, alternatives(study, choice.limits))}
    picked |= {"test_error": {**flat({"error": known[choice.trial.number]}), "looked_at": list(known)}}
    over = {"failed": choice.failed} if choice.failed else {}
    more = {} if anew is None else {"retrained": {**asdict(anew), "folder": str(anew.folder)}}
    typer.echo(json.dumps({**picked, **_limits(choice), **over, **more, "warnings": _cautions(study, choice)}))


def _print(study: optuna.Study, choice: Choice, written: Path, anew: Retrained | None, judged: Judged) -> None:
    from nas.deploy import exportable
    from nas.runs import by_class
    from nas.runs import report
    from nas.runs import ties
    from nas.runs.confirmed import trainings_of
    from nas.runs.front_and_knee import alternatives

    say(f"candidate {choice.trial.number}: {choice.reason}")
    if choice.failed:
        say(f"warning: it is over a limit of the search: {', '.join(choice.failed)}")
    for limit in choice.limits:
        say(limit.line)
    show_table(report.front_table(study, [choice.trial]))
    for line in (*report.extrapolated_lines(study, [choice.trial]), *report.misfit_lines(study, [choice.trial])):
        say(line)
    tied = ties.ties_in(study, choice.trial, alternatives(study, choice.limits))
    for line in ties.sentences(choice.trial, tied):
        say(line)
    if never := by_class.never_predicted(study, choice.trial):
        say(f"never predicts: {', '.join(never)}")
    if line := report.exit_line(choice.trial):
        say(line)
    for caution in _cautions(study, choice):
        say(f"warning: {caution}")
    single = not trainings_of(choice.trial)
    trainings = (*report.between_lines(study, at_hand=single), *report.confirmed_lines(study, [choice.trial]))
    on_test = report.on_test_lines(study, choice.trial.number)
    for line in (*trainings, *on_test, *exportable.sentences(judged, [choice.trial])):
        say(line)
    say(f"written to {written}")
    if anew is not None:
        say(f"trained anew on {anew.records:,} records, written to {anew.folder}: {anew.void}")


def _cautions(study: optuna.Study, choice: Choice) -> list[str]:
    from nas.runs import by_class
    from nas.runs import report

    return [*by_class.cautions(study), *report.between_cautions(study, choice)]


def _limits(choice: Choice) -> dict[str, list[dict[str, Any]]]:
    return {"limits": [limit.row for limit in choice.limits]}
