"""The progress of a search: what is counted, what is printed, how it ends."""

from __future__ import annotations

import io

import optuna
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from optuna.trial import create_trial
from rich.console import Console

from nas.runs import progress
from nas.runs.progress import Counts
from nas.runs.progress import Display
from nas.runs.progress import count
from nas.runs.progress import duration
from nas.search.config import load_config
from nas.search.plan import resolve
from nas.search.storage import load_study

few = settings(max_examples=50, deadline=None, derandomize=True)


def trial(state, **attrs):
    return create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None, user_attrs=attrs)


def pruned(reason):
    return trial(TrialState.PRUNED, key="k", rejected=reason)


TRIALS = [
    trial(TrialState.COMPLETE, key="k"),
    trial(TrialState.COMPLETE, key="k"),
    trial(TrialState.RUNNING, key="k"),
    trial(TrialState.RUNNING),  # sampled, not priced yet
    pruned("over budget: latency_ms 5 > 4"),
    pruned("over a limit: params 5 > 4"),
    pruned("over budget: macs 5 > 4"),
    pruned("duplicate of trial 0"),
    pruned("diverged: the loss became nan in epoch 3 of 9"),
    pruned("died twice: SIGSEGV"),
    trial(
        TrialState.PRUNED,
        key="k",
        rejected="stopped at rung 2 of 2: place 3 of 4 after 3 of 9 epochs, 1 goes on",
        rung_1={"epochs": 1, "of": 9, "goes_on": True},
        rung_2={"epochs": 3, "of": 9, "goes_on": False},
    ),
    trial(TrialState.FAIL),
]


def test_every_fate_is_counted_once():
    counts = count(TRIALS)
    fates = {"trained": 2, "rejected": 3, "duplicates": 1, "diverged": 1, "out_of_memory": 0, "died": 1, "running": 2}
    assert counts == Counts(screened=10, stopped=1, spent=2 + 1 / 3, **fates)
    assert str(counts) == ("10 screened, 3 rejected, 1 duplicate, 1 diverged, 1 died, 1 stopped: 2.3 trainings in all")
    assert str(count(TRIALS[:4])) == "3 screened, 0 rejected, 0 duplicate"
    assert str(count([])) == "0 screened, 0 rejected, 0 duplicate"


@few
@given(st.lists(st.sampled_from(TRIALS), max_size=12))
def test_priced_candidates_are_trained_refused_or_under_way(trials):
    counts = count(trials)
    settled = counts.trained + counts.rejected + counts.duplicates + counts.diverged + counts.died + counts.stopped
    assert settled <= counts.screened <= settled + counts.running


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (93784, "26 h 3 min"),
    ],
)
def test_durations_by_hand(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def display(trained_run):
    """Make a display of the trained run, as if it had been asked for `trials`."""

    def make(trials, *, study=None, **console):
        config = load_config(trained_run.folder / "config.toml", {"trials": trials})
        plan = resolve(config, trained_run.runs)
        study = study or load_study(trained_run.name, trained_run.folder, None)
        stream = io.StringIO()
        return Display(plan, study, Console(file=stream, width=140, **console)), stream

    return make


def test_plain_lines_say_what_is_trained_and_are_not_repeated(display, monkeypatch):
    shown, stream = display(7)
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with shown:
        for _ in range(50):
            shown.look()
            clock[0] += 1
    assert stream.getvalue() == "trained 5 of 7  |  5 screened, 0 rejected, 0 duplicate\n"


def test_a_line_that_came_too_soon_is_printed_later(display, monkeypatch):
    empty = optuna.create_study(directions=["minimize"] * 3)
    shown, stream = display(7, study=empty)
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with shown:
        shown.look()  # nothing screened: the bank
        empty.add_trial(create_trial(values=[1.0, 1.0, 1.0], user_attrs={"key": "k"}))
        for _ in range(15):
            clock[0] += 1
            shown.look()
    first, second = stream.getvalue().splitlines()
    assert first == "reference bank: 2 of 2 networks trained"
    # Printed 11 s after the first line; one was trained in the 10 s since training was first seen, six are to go.
    assert second == "trained 1 of 7, about 1 min 0 s left  |  1 screened, 0 rejected, 0 duplicate"


def test_the_time_left_by_hand(display, monkeypatch):
    study = optuna.create_study(directions=["minimize"] * 3)
    study.add_trial(create_trial(values=[1.0] * 3, user_attrs={"key": "k"}))  # from before: says nothing about the pace
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    shown, stream = display(10, study=study)
    shown.look()
    clock[0] = 40.0
    for _ in range(2):
        study.add_trial(create_trial(values=[1.0] * 3, user_attrs={"key": "k"}))
    shown.look()
    before, after = stream.getvalue().splitlines()
    assert "left" not in before
    assert after.startswith("trained 3 of 10, about 2 min 20 s left  |")  # two in 40 s, seven to go
    for _ in range(8):
        study.add_trial(create_trial(values=[1.0] * 3, user_attrs={"key": "k"}))
    shown.look()
    assert stream.getvalue().splitlines()[-1].startswith("trained 11 of 10  |")


def test_a_terminal_sees_the_front_and_is_left_clean(display):
    shown, stream = display(7, force_terminal=True)
    with shown:
        shown.look()
    assert "trained 5 of 7" in stream.getvalue()
    assert "leakage" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[2K")  # the last thing written erases the display


def test_the_end_says_when_there_are_fewer_than_wanted(display):
    shown, stream = display(7)
    shown.finish()
    assert stream.getvalue() == "no new candidates were found after 5 of 7\n"
    shown, stream = display(5)
    shown.finish()
    assert stream.getvalue() == ""


def test_the_end_says_what_others_still_do(display):
    study = optuna.create_study(directions=["minimize"] * 3)
    study.add_trial(create_trial(values=[1.0] * 3))
    study.ask()
    shown, stream = display(2, study=study)
    shown.finish()
    assert stream.getvalue() == "1 candidates are still in progress in other processes\n"


def test_nothing_trained_is_an_error_that_says_what_became_of_the_candidates(display):
    study = optuna.create_study(directions=["minimize"] * 3)
    for reason in ("over a limit: error 0.9 > 0.1", "diverged: the loss became nan"):
        study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"key": "k", "rejected": reason}))
    shown, _ = display(2, study=study)
    with pytest.raises(
        ValueError, match=r"^no candidate finished training: 2 screened, 1 rejected, 0 duplicate, 1 diverged$"
    ):
        shown.finish()


def test_nnis_page_is_told_once(display):
    shown, stream = display(7)
    page = shown._plan.folder / "nni" / "page.txt"
    page.parent.mkdir(exist_ok=True)
    page.write_text("http://localhost:8080\n")
    try:
        for _ in range(3):
            shown.look()
    finally:
        page.unlink()
        page.parent.rmdir()
    assert stream.getvalue().count("NNI's web page: http://localhost:8080") == 1
