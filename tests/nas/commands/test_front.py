"""`nas front`: one front of several runs."""

from __future__ import annotations

import json
import shutil

import pytest

from nas.runs.front_and_knee import non_dominated
from nas.runs.run import open_run
from tests.conftest import Run
from tests.conftest import command_line
from tests.conftest import work_here
from tests.small_search import SMALL


@pytest.fixture(scope="module")
def two_runs(trained_run, tmp_path_factory):
    """The small run, and another one of the same settings by another sampler."""
    runs = shutil.copytree(trained_run.runs, tmp_path_factory.mktemp("two") / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.workers.run", work_here)
        result = command_line("search", *SMALL, "--sampler", "random", "--name", "second", "--runs", runs)
    assert result.code == 0, result.err
    return Run(runs, "second", result.out)


def test_the_front_of_two_runs_is_that_of_all_their_candidates(nas, two_runs):
    result = nas("front", "small", "second", "--json", "--runs", two_runs.runs)
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    trials = {
        f"{name}:{trial.number}": trial
        for name in ("small", "second")
        for trial in open_run(name, two_runs.runs).study.trials
        if f"{name}:{trial.number}" not in told["repeated"]
    }
    best = non_dominated([trial.values for trial in trials.values()])
    expected = {name for name, kept in zip(trials, best, strict=True) if kept}
    assert {row["name"] for row in told["front"]} == expected
    assert told["knee"] in expected
    assert [row["trained"] for row in told["runs"]] == [5, 5]
    assert sum(row["on_front"] for row in told["runs"]) == len(expected)
    for row in told["front"]:
        assert [row["error"], row["leakage"], row["latency_ms"]] == trials[row["name"]].values


def test_each_candidate_is_called_as_estimate_takes_it(nas, two_runs):
    printed = nas("front", "small", two_runs.folder, "--runs", two_runs.runs).out
    told = json.loads(nas("front", "small", two_runs.folder, "--json", "--runs", two_runs.runs).out)
    for row in told["front"]:
        assert row["name"] in printed
        assert json.loads(nas("estimate", row["name"], "--json", "--runs", two_runs.runs).out)["macs"] == row["macs"]
    assert "is the knee of the front" in printed


def test_what_cannot_be_merged_is_one_line(refused, own_run):
    runs = own_run.runs
    assert refused("front", "small", runs=runs) == (
        "expected two or more different runs; got small; nas show prints that of one"
    )
    assert refused("front", "small", "small", runs=runs).startswith(
        "expected two or more different runs; got small, small"
    )
    assert refused("front", "small", own_run.folder, runs=runs) == (
        f"expected different runs; 'small' and {str(own_run.folder)!r} are the same study"
    )
    assert refused("front", "small", "large", runs=runs) == f"no run 'large' in {runs}; there are ['small']"
