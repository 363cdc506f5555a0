"""`nas pick` by weights and orders, and the walk along the front."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import pytest
import typer

from nas.commands import walk
from nas.runs.front_and_knee import knee_of
from nas.runs.run import open_run
from tests.small_search import snapshot


@pytest.fixture
def typed(nas, own_run, monkeypatch):
    """Run the walk with lines of input."""

    def run(text, *flags):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return nas("pick", "small", "--interactive", *flags, "--runs", own_run.runs)

    return run


def by_leakage(run):
    """The front from the lowest leakage on, and the place of the knee."""
    best = open_run("small", run.runs).study.best_trials
    row = sorted(best, key=lambda trial: trial.user_attrs["leakage"])
    return [trial.number for trial in row], row.index(knee_of(best))


def visited(out):
    return [int(number) for number in re.findall(r"candidate (\d+), \d+ of \d+ on the front by leakage", out)]


def test_the_walk_begins_at_the_knee_and_goes_along_the_front(typed, own_run):
    row, knee = by_leakage(own_run)
    assert len(row) > 2
    steps = ["less"] * (knee + 1) + ["more"] * len(row)
    result = typed("\n".join([*steps, "quit"]) + "\n")
    assert (result.code, result.err) == (0, "")
    down, up = row[: knee + 1][::-1], row[1:]
    # At either end the walk stays where it is, and shows it again.
    assert visited(result.out) == [*down, row[0], *up, row[-1]]
    assert f"no candidate of the front has less leakage than {row[0]}" in result.out
    assert f"no candidate of the front has more leakage than {row[-1]}" in result.out
    assert result.out.endswith("no candidate was chosen, and nothing was written\n")
    assert not (own_run.folder / "picks").exists()


def test_what_less_leakage_costs_is_told_in_points_and_milliseconds(typed, own_run):
    row, _ = by_leakage(own_run)
    study = open_run("small", own_run.runs).study
    least, second = (study.trials[number].user_attrs for number in row[:2])
    out = typed("l\n" * len(row) + "m\nq\n").out
    told = next(line for line in out.splitlines()[::-1] if line.startswith("less leakage, candidate "))
    assert told.startswith(f"less leakage, candidate {row[0]}: leakage {least['leakage'] - second['leakage']:+.3f} (")
    points = re.search(r"; for error ([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\) percentage points", told)
    assert float(points[1]) == pytest.approx(100 * (least["error"] - second["error"]), abs=0.051)
    assert f"; latency_ms {least['latency_ms'] - second['latency_ms']:+.3f} (" in told


def test_what_is_chosen_is_written(typed, own_run):
    row, knee = by_leakage(own_run)
    result = typed("more\nchoose\n")
    assert (result.code, result.err) == (0, "")
    number = row[knee + 1]
    assert f"candidate {number}: chosen on a walk along the front, by its leakage" in result.out
    assert [path.name for path in (own_run.folder / "picks").iterdir()] == [str(number)]


def test_the_walk_keeps_to_limits_and_begins_where_it_is_told(typed, own_run):
    row, _ = by_leakage(own_run)
    study = open_run("small", own_run.runs).study
    second = study.trials[row[1]].user_attrs["leakage"]
    result = typed("more\nquit\n", "--max", f"leakage={second}", "--order", "leakage_low,error")
    lowest = min(row[:2], key=lambda number: study.trials[number].user_attrs["leakage_low"])
    assert visited(result.out)[0] == lowest
    assert set(visited(result.out)) <= set(row[:2])


def test_a_wrong_step_is_asked_for_again(typed):
    result = typed("x\nq\n")
    assert "expected less, more, choose, quit or a first letter of these; got 'x'" in result.out + result.err
    assert result.code == 0


def test_an_input_that_ends_is_one_line_and_nothing_is_written(typed, own_run):
    before = snapshot(own_run.runs)
    for text in ("", "less\n"):
        result = typed(text)
        assert (result.code, result.err.splitlines()[-1]) == (
            2,
            "nas: expected less, more, choose, quit for --interactive; the input ended before a candidate was chosen",
        )
    assert snapshot(own_run.runs) == before


def test_ctrl_c_on_a_terminal_ends_the_command_as_everywhere(monkeypatch):
    def interrupted(*_, **__):
        raise typer.Abort

    monkeypatch.setattr("typer.prompt", interrupted)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(typer.Abort):
        walk._ask()


# Weights and orders.


def test_weights_and_orders_choose_and_say_so(picked, own_run):
    row, _ = by_leakage(own_run)
    weighted = picked("--weights", "leakage=1000,error=0.001", "--weights", "latency_ms=0.001")
    assert weighted["picked"]["number"] == row[0]
    assert "(leakage 1000, error 0.001, latency_ms 0.001)" in weighted["reason"]
    ordered = picked("--order", "leakage,error")
    study = open_run("small", own_run.runs).study
    lowest = study.trials[row[0]].user_attrs["leakage"]
    assert f"have the lowest leakage ({lowest:.4g}) or are tied with it; lowest error (" in ordered["reason"]
    card = own_run.folder / "picks" / str(ordered["picked"]["number"]) / "card.md"
    assert ordered["reason"] in card.read_text()
    assert json.dumps(ordered)


CONTRADICTIONS = {
    (
        "--prefer",
        "error",
        "--weights",
        "error=1",
    ): "expected one of --prefer, --weights, --order; got --prefer and --weights",
    (
        "--weights",
        "error=1",
        "--order",
        "error",
    ): "expected one of --prefer, --weights, --order; got --weights and --order",
    ("--number", "1", "--order", "error"): "expected --number without --order: it names the candidate",
    ("--number", "1", "--interactive"): "expected --number without --interactive: it names the candidate",
    ("--interactive", "--json"): "expected --interactive without --json: it asks on the terminal",
    ("--weights", "error=0"): "expected --weights above 0; got error=0",
    ("--weights", "error"): "expected --weights METRIC=NUMBER; got 'error'",
    ("--order", "error,error"): "expected --order METRIC,METRIC, each once; got 'error,error'",
    ("--order", ","): "expected --order METRIC,METRIC, each once; got ','",
}


@pytest.mark.parametrize("flags", CONTRADICTIONS)
def test_ways_to_choose_that_contradict_are_one_line(refused, own_run, flags):
    assert refused("pick", "small", *flags, runs=own_run.runs) == CONTRADICTIONS[flags]
