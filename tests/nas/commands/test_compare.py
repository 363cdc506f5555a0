"""`nas compare`: candidates side by side."""

from __future__ import annotations

import json

import pytest

from nas.search.storage import load_study
from tests.confirmed_studies import train_again


def test_two_candidates_are_told_with_their_differences(nas, trained_run):
    result = nas("compare", "small", 0, 3, "--json", "--runs", trained_run.runs)
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    assert (told["name"], [row["number"] for row in told["candidates"]]) == ("small", [0, 3])
    ((only,), (first, second)) = told["differences"], told["candidates"]
    assert (only["number"], only["minus"]) == (3, 0)
    by_metric = {row["metric"]: row for row in only["metrics"]}
    assert {"error", "leakage", "latency_ms", "macs"} <= by_metric.keys()
    for name, row in by_metric.items():
        assert row["change"] == pytest.approx(second[name] - first[name])
    assert by_metric["leakage"]["tied"] is (
        by_metric["leakage"]["change_low"] <= 0 <= by_metric["leakage"]["change_high"]
    )
    assert by_metric["latency_ms"]["tied"] is None
    assert all(len(values) == 2 and values[0] != values[1] for values in told["parameters"].values())


def test_the_table_has_every_candidate_and_its_difference_from_the_first(nas, trained_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = nas("compare", "small", 3, 0, 1, "--runs", trained_run.runs)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["parameter", "3", "0", "1"]
    study = load_study("small", trained_run.folder, None)
    leakage = [study.trials[number].user_attrs["leakage"] for number in (3, 0, 1)]
    row = next(line.split() for line in lines if line.startswith("leakage "))
    changes = [f"{one - leakage[0]:+.3f}" for one in leakage[1:]]
    assert row[1:] == [f"{leakage[0]:.3f}", f"{leakage[1]:.3f}", changes[0], f"{leakage[2]:.3f}", changes[1]]
    assert lines[-3].startswith("tied: the difference is within the noise")
    assert lines[-1].startswith("not confirmed: all")


def test_what_cannot_be_compared_is_one_line(refused, own_run):
    runs = own_run.runs
    two = "expected two or more different candidates; got "
    assert refused("compare", "small", 1, runs=runs) == f"{two}1"
    assert refused("compare", "small", 1, 1, runs=runs) == f"{two}1, 1"
    assert refused("compare", "small", 0, 9, runs=runs).startswith("no trained candidate 9 in 'small'; there are [0, ")


def test_confirmed_numbers_are_compared(nas, own_run):
    study = load_study("small", own_run.folder, None)
    first, second = [study.trials[number].user_attrs["error"] for number in (0, 3)]
    train_again(study, 0, 1, (first + 0.125, study.trials[0].user_attrs["leakage"]))
    told = json.loads(nas("compare", "small", 0, 3, "--json", "--runs", own_run.runs).out)
    (error,) = [row for row in told["differences"][0]["metrics"] if row["metric"] == "error"]
    assert error["change"] == pytest.approx(second - first - 0.125)
    assert [row["error"] for row in told["candidates"]] == pytest.approx([first + 0.125, second])
    assert "not confirmed: 3; " in nas("compare", "small", 0, 3, "--runs", own_run.runs).out
