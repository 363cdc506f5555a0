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
from nas.commands.options import names
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="METRIC=NUMBER,...: minimise this weighted sum on the front within the limits, each metric scaled to "
            "its range there; may be repeated."
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="METRIC,METRIC,...: the lowest of the first on the front within the limits; the next decides among "
            "those that the noise does not tell apart."
        ),
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
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            help="Walk along the front within the limits, by leakage, see what less of it costs, and choose there.",
        ),
    ] = False,
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
    from nas.commands.walk import walk
    from nas.deploy import exportable
    from nas.runs import picks
    from nas.runs.front_and_knee import choose
    from nas.runs.front_and_knee import chosen
    from nas.runs.front_and_knee import limits_to_pick_by
    from nas.runs.run import open_trained

    trust(plugin)
    ways = {"--prefer": prefer, "--weights": weights, "--order": order}
    _check_ways(number, ways, {"--max": maximum, "--interactive": interactive}, as_json=as_json)
    weighted, ordered = _weights(weights), _order(order)
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
    if number is None:
        choice = choose(study, within, prefer, weights=weighted, order=ordered)
    else:
        choice = chosen(study, opened.trained(number), within)
    if choice.failed and number is None:
        _refuse(study, choice, as_json=as_json)
    if interactive:
        found = walk(study, choice)
        if found is None:
            say("no candidate was chosen, and nothing was written")
            return
        choice = found
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


def _check_ways(number: int | None, ways: Mapping[str, object], others: Mapping[str, object], *, as_json: bool) -> None:
    """Refuse ways to choose that contradict each other.

    Raises:
        ValueError: If `--number` or `--json` stands beside what it leaves nothing to, or there are two ways to choose.
    """
    given = [flag for flag, value in ways.items() if value]
    if number is not None and (beside := [*(flag for flag, value in others.items() if value), *given]):
        raise ValueError(f"expected --number without {' and '.join(beside)}: it names the candidate")
    if len(given) > 1:
        raise ValueError(f"expected one of {', '.join(ways)}; got {' and '.join(given)}")
    if others["--interactive"] and as_json:
        raise ValueError("expected --interactive without --json: it asks on the terminal")


def _weights(texts: list[str] | None) -> dict[str, float]:
    """Read METRIC=NUMBER,METRIC=NUMBER.

    Raises:
        ValueError: If a text is not of this form, or a weight is not above 0.

    >>> _weights(["error=2,leakage=1", "latency_ms=0.5"])
    {'error': 2.0, 'leakage': 1.0, 'latency_ms': 0.5}
    """
    found = limits([part for text in texts or [] for part in names(text) or []], "--weights")
    if wrong := [f"{name}={weight:g}" for name, weight in found.items() if weight <= 0]:
        raise ValueError(f"expected --weights above 0; got {', '.join(wrong)}")
    return found


def _order(text: str | None) -> list[str]:
    """Read METRIC,METRIC.

    Raises:
        ValueError: If there is none, or one stands there twice.
    """
    found = names(text) or []
    if text is not None and (not found or len(set(found)) < len(found)):
        raise ValueError(f"expected --order METRIC,METRIC, each once; got {text!r}")
    return found


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
