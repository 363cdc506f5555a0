"""nas confirm, what a search confirms on its own, and how show and pick say what is confirmed."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from nas.base import files
from nas.runs import confirm
from nas.runs.confirmed import Confirmed
from nas.runs.front_and_knee import first_front
from nas.runs.report import TIMES
from nas.search.schema import errors_on_test
from nas.search.schema import repetitions_in
from nas.search.storage import load_study
from tests.confirmed_studies import train_again
from tests.small_search import SMALL


def study_in(run):
    return load_study("small", run.folder, None)


@pytest.fixture
def confirmed(nas, own_run):
    """A run of one's own whose front was trained again once, and what that printed."""
    result = nas("confirm", "small", "--repeats", 1, "--workers", 1, "--json", "--runs", own_run.runs)
    assert result.code == 0, result.err
    return own_run, result


def test_a_confirmed_front_is_shown_with_means_and_says_so(nas, confirmed):
    run, result = confirmed
    told, before = json.loads(result.out), json.loads(run.printed)
    first = {row["number"]: row for row in before["front"]}
    assert {row["number"] for row in told["front"]} | {one["number"] for one in told["left_the_front"]} == set(first)
    for row in told["front"]:
        found = row["confirmed"]
        assert found.keys() == {field.name for field in fields(Confirmed)}
        assert (found["trainings"], found["diverged"]) == (1, 0)
        assert found["measures"]["error"]["first"] == first[row["number"]]["error"]
        assert found["measures"]["error"]["values"] == [row["error"]]
        assert row["error_low"] <= row["error"] <= row["error_high"]
    assert all(row["confirmed"] is None for row in before["front"])
    assert f"{len(first)} further trainings to confirm the front" in result.err
    assert json.loads(nas("show", "small", "--json", "--runs", run.runs).out) == told


def test_a_front_that_is_confirmed_is_not_trained_again(nas, confirmed, no_training, monkeypatch):
    run, result = confirmed
    monkeypatch.setattr("nas.runs.confirm.assess", lambda *_, **__: pytest.fail("trained"))
    again = nas("confirm", "small", "--repeats", 1, "--workers", 1, "--json", "--runs", run.runs)
    assert (again.code, again.out, again.err) == (0, result.out, "")


def test_show_says_who_is_confirmed_and_who_left(nas, own_run):
    study = study_in(own_run)
    best = first_front(study)
    numbers = [trial.number for trial in best]
    shown = nas("show", "small", "--runs", own_run.runs).out
    assert "not confirmed: all; they were chosen by the one training behind their numbers" in shown
    assert TIMES not in shown
    lucky = best[0].user_attrs
    train_again(study, numbers[0], 1, (lucky["error"] + 0.015625, lucky["leakage"] - 0.03125))
    train_again(study, numbers[0], 2, None)
    shown = nas("show", "small", "--runs", own_run.runs).out
    assert f"{TIMES}1" in shown
    assert f"{TIMES}N: what is measured is the mean of N further trainings" in shown
    assert "mean error +0.016 and mean leakage -0.031, averaged over 1 confirmed" in shown
    others = ", ".join(map(str, numbers[1:]))
    assert f"not confirmed: {others}; " in shown
    assert "(nas confirm small)" in shown
    assert f"candidate {numbers[0]}: 1 of 2 further trainings diverged" in shown


def test_a_network_for_which_all_intervals_are_of_others_is_not_at_hand(nas, confirmed):
    run, _ = confirmed
    assert "for the network at hand" not in nas("show", "small", "--runs", run.runs).out
    assert "not confirmed" not in nas("show", "small", "--runs", run.runs).out


def test_the_card_of_a_confirmed_pick_has_both_kinds_of_trainings(nas, confirmed):
    run, _ = confirmed
    picked = json.loads(nas("pick", "small", "--json", "--runs", run.runs).out)
    card = (run.folder / "picks" / str(picked["picked"]["number"]) / "card.md").read_text()
    measured = picked["picked"]["confirmed"]["measures"]["error"]
    assert "**Confirmed**: what is measured is the mean of 1 further trainings" in card
    assert f"| error | {measured['first']:.4g} | {measured['values'][0]:.4g} | {measured['mean']:.4g} |" in card
    assert f"| error | {measured['mean']:.6g} |" in card
    assert "for the network at hand" not in card


def test_the_error_on_test_records_is_measured_once_and_every_look_is_counted(nas, own_run, monkeypatch):
    numbers = [trial.number for trial in first_front(study_in(own_run))][:2]
    first, second = (json.loads(nas("pick", "small", "--number", number, "--json", "--runs", own_run.runs).out)
                     for number in numbers)  # fmt: skip
    assert first["test_error"]["looked_at"] == numbers[:1]
    assert second["test_error"]["looked_at"] == sorted(numbers)
    assert 0 <= first["test_error"]["error_low"] <= first["test_error"]["error"] <= first["test_error"]["error_high"]
    kept = errors_on_test(study_in(own_run).user_attrs)
    assert kept[numbers[0]].value == first["test_error"]["error"]
    monkeypatch.setattr("nas.training.assess.outputs", lambda *_: pytest.fail("measured again"))
    told = nas("pick", "small", "--number", numbers[0], "--runs", own_run.runs).out
    assert f"error on test records: {first['test_error']['error']:.3f} (" in told
    assert "it is known of 2 candidates of this run (" in told
    card = (own_run.folder / "picks" / str(numbers[0]) / "card.md").read_text()
    assert "the lowest of several is too low, so choose by it no more" in card
    assert "**Not confirmed**" in card


def test_a_search_confirms_its_front_with_a_tenth_of_its_trials(nas, tmp_path, in_process):
    small = [word for word in SMALL if word not in {"--confirm", "0"}]
    result = nas("search", *small, "--name", "small", "--runs", tmp_path)
    assert result.code == 0, result.err
    assert "1 further training to confirm the front: " in result.out
    folder = tmp_path / "small"
    rows = repetitions_in(load_study("small", folder, None).user_attrs)
    assert sum(map(len, rows.values())) == 1
    row = next(one for one in files.read_json(folder / "front.json")["front"] if one["number"] in rows)
    assert row["confirmed"]["trainings"] == 1
    again = nas("search", *small, "--name", "small", "--runs", tmp_path)
    assert "to confirm the front" not in again.out
    assert nas("search", *small, "--confirm", 1, "--name", "small", "--runs", tmp_path).code == 0
    rows = repetitions_in(load_study("small", folder, None).user_attrs)
    assert set(rows) == {trial.number for trial in first_front(load_study("small", folder, None))}


def test_ctrl_c_keeps_what_is_trained_and_says_how_to_go_on(nas, own_run, monkeypatch):
    def stopped(_job, items, **_):
        yield items[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(confirm, "train", stopped)
    result = nas("confirm", "small", "--repeats", 2, "--runs", own_run.runs)
    count = 2 * len(first_front(study_in(own_run)))
    assert result.code == 130
    assert (
        f"stopped; 1 further trainings are kept, {count - 1} are missing. To continue: nas confirm small" in result.out
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--repeats", 0), "expected --repeats of 1 or more, 100 at most; got 0"),
        (("--repeats", 101), "expected --repeats of 1 or more, 100 at most; got 101"),
        (("--max-candidates", 0), "expected --max-candidates of 1 or more; got 0"),
        (("--workers", 0), "expected --workers of 1 or more; got 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(refused, trained_run, flags, line):
    assert refused("confirm", "small", *flags, runs=trained_run.runs) == line


def test_a_run_without_a_front_is_refused(refused, own_run, monkeypatch):
    monkeypatch.setattr("nas.runs.confirm.members", lambda _: [])
    line = "expected a front to confirm; no trained candidate of 'small' is within its limits"
    assert refused("confirm", "small", runs=own_run.runs) == line


def test_a_search_in_a_table_confirms_nothing(refused, tmp_path):
    (tmp_path / "cells.csv").write_text("network,error\n")
    flags = ("--evaluator", "table", "--space", "nb201", "--data-path", tmp_path / "cells.csv", "--confirm", 2)
    assert "it trains nothing; got ['confirm']" in refused("search", *flags)
