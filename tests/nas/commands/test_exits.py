"""Networks with early exits from the search to the audit, by the command line alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from estimators.estimate import from_flat
from nas.base.onnx_runtime import session
from nas.runs.run import open_run
from nas.search.schema import EXITS
from nas.search.storage import load_study
from nas.training.assess import asked
from tests.conftest import Run
from tests.conftest import command_line
from tests.conftest import work_here
from tests.small_search import SMALL

FLAGS = (*SMALL, "--compress", "exits", "--objectives", "error,mean_latency_ms", "--budget", "mean_latency_ms=50")
LONGER = ("--members", "300", "--trials", "8", "--epochs", "15", "--defences", "none")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("exits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.workers.run", work_here)
        found = command_line("search", *FLAGS, *LONGER, "--name", "exits", "--runs", runs)
    assert found.code == 0, found.err
    return Run(runs, "exits", found.out)


@pytest.fixture(scope="module")
def candidate(run):
    """The candidate with exits whose records leave most evenly."""
    trials = [trial for trial in load_study("exits", run.folder, None).trials if EXITS in trial.user_attrs]
    return min(trials, key=lambda trial: max(row["share"] for row in trial.user_attrs[EXITS]))


@pytest.fixture(scope="module")
def pick(run, candidate):
    found = command_line("pick", "exits", "--number", candidate.number, "--runs", run.runs, "--json")
    assert found.code == 0, found.err
    return json.loads(found.out)


def test_a_search_has_the_mean_as_objective_and_budget(run):
    study = load_study("exits", run.folder, None)
    for trial in study.trials:
        if trial.values is None:
            continue
        assert trial.values[1] == trial.user_attrs["mean_latency_ms"] <= trial.user_attrs["latency_ms"]
        rows = trial.user_attrs.get(EXITS)
        if rows is None:
            assert trial.user_attrs["mean_latency_ms"] == trial.user_attrs["latency_ms"]
            continue
        records = sum(row["records"] for row in rows)
        mean = sum(row["records"] * row["latency_ms"] for row in rows) / records
        assert trial.user_attrs["mean_latency_ms"] == pytest.approx(mean)
        assert rows[-1]["latency_ms"] == trial.user_attrs["latency_ms"]
        assert rows[-1]["macs"] == trial.user_attrs["macs"]
        interval = from_flat(trial.user_attrs, "mean_latency_ms")
        assert interval.low < interval.value < interval.high
    assert "mean_latency" in run.printed


def test_show_tells_shares_and_latencies_by_exit(nas, run, candidate):
    told = json.loads(nas("show", "exits", "--json", "--runs", run.runs).out)
    by_number = {row["number"]: row for row in told["front"]}
    for trial in load_study("exits", run.folder, None).best_trials:
        assert by_number[trial.number]["exits"] == trial.user_attrs.get(EXITS, [])
    lines = nas("pick", "exits", "--number", candidate.number, "--runs", run.runs).out
    (line,) = re.findall(rf"validation records leave candidate {candidate.number}: .*", lines)
    assert line.count("at exit") == len(candidate.user_attrs[EXITS])


def test_the_weights_of_a_pick_leave_as_the_study_says(run, candidate):
    opened = open_run("exits", run.runs)
    exits = asked(opened.network(candidate), opened.data.validation.features)[1]
    expected = [row["records"] for row in candidate.user_attrs[EXITS]]
    assert np.bincount(exits, minlength=len(expected)).tolist() == expected
    assert len(set(exits.tolist())) > 1


def test_a_card_has_the_table_of_exits(pick):
    card = (Path(pick["folder"]) / "card.md").read_text()
    assert "| exit | validation records | share | latency_ms | interval | macs |" in card
    assert "| mean_latency_ms | " in card
    assert pick["picked"]["exits"]


def test_the_file_of_a_pick_predicts_as_the_pick(nas, run, pick):
    folder = Path(pick["folder"])
    written = nas("export", folder)
    assert (written.code, written.err) == (0, "")
    model = onnx.load(folder / "float32.onnx")
    assert [output.name for output in model.graph.output] == ["logits", "exit"]
    told = [
        json.loads(nas("predict", network, "--json", *flags).out)["predictions"]
        for network, flags in ((folder, ()), (folder / "float32.onnx", ("--dataset", "digits")))
    ]
    same = [one["class"] == other["class"] for one, other in zip(*told, strict=True)]
    assert np.mean(same) > 0.999
    records = open_run("exits", run.runs).records.features[:200]
    given = open_run("exits", run.runs).data.preprocessing.as_given(records)
    assert len(set(session(model).run(["exit"], {"records": given})[0].tolist())) > 1


def test_an_audit_attacks_by_the_exit(nas, run, candidate):
    audit = ("audit", "exits", "--pick", candidate.number, "--runs", run.runs, "--workers", 1, "--json")
    quick = nas(*audit, "--effort", "quick")
    assert quick.code == 0, quick.err
    told = json.loads(quick.out)
    assert told["skipped"]["exit_index"] == "needs --effort standard"
    assert told["about"]["exits"].startswith(f"{len(candidate.user_attrs[EXITS])}; one answers from a confidence of ")
    attacks = [part for name in ("exit_index", "lira_online") for part in ("--attack", name)]
    named = nas(*audit, "--effort", "standard", *attacks)
    assert named.code == 0, named.err
    found = {row["attack"] for row in json.loads(named.out)["findings"]}
    assert found == {"exit_index", "lira_online"}


def test_metrics_are_listed_and_negative_budgets_refused(nas, refused):
    listed = json.loads(nas("list", "metrics", "--json").out)["metrics"]
    assert {"mean_latency_ms", "mean_macs", "mean_energy_mj"} <= listed.keys()
    line = refused("search", *SMALL, "--budget", "mean_macs=-1")
    assert line == "expected a budget of 0 or more on 'mean_macs', which is never below 0; got -1"
    assert refused("search", "--objectives", "mean_energy_mj", "--device", "host").startswith(
        "no objective 'mean_energy_mj' on host (ends: "
    )


def test_an_estimate_says_that_it_is_of_the_worst_case(nas, run, candidate):
    count = len(candidate.user_attrs[EXITS])
    shown = nas("estimate", f"exits:{candidate.number}", "--runs", run.runs)
    assert f"costs of a record that passes all {count} exits" in shown.out
    plain = nas("estimate", "--space", "mlp", '{"depth": 2}')
    assert (plain.code, "exits" in plain.out) == (0, False)
