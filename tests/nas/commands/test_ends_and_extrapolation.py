"""On the command line: ends of intervals as objectives and limits, extrapolated numbers, and ties."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from functools import partial

import pytest

from estimators.cost import energy_mj
from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.cost import peak_ram_kib
from estimators.estimate import Estimate
from nas.nni.measure import result_of
from nas.runs.front_and_knee import front
from nas.runs.ties import are_tied
from nas.search.schema import limits_of
from nas.search.storage import load_study
from tests.small_search import NO_BENCH
from tests.small_search import SMALL
from tests.small_search import evaluated
from tests.small_search import planned

OBJECTIVES = "error_high,leakage_high,latency_ms"


def made_up(key: str):
    """What a training of a candidate leaves: intervals that do not rank as the values do."""
    first, second = (int(key[at : at + 2], 16) / 255 for at in (0, 2))
    error, leakage = 0.4 * first, 0.5 + 0.2 * second
    return evaluated(
        key,
        error=Estimate(error, 0.5 * error, error + 0.3 * second),
        leakage=Estimate(leakage, leakage - 0.05, leakage + 0.3 * (1 - second)),
    )


@pytest.fixture
def searched(nas, in_process, monkeypatch, tmp_path):
    """Search with ends of intervals, measures made up from the keys; returns the study and the folder of runs."""
    monkeypatch.setattr("nas.search.study.make_bench", lambda plan: NO_BENCH)
    monkeypatch.setattr("nas.search.study.evaluate", lambda plan, bench, candidate: made_up(candidate.key))

    def search(*flags, name="ends"):
        told = nas("search", *SMALL, "--trials", "12", "--name", name, *flags, "--runs", tmp_path)
        assert told.code == 0, told.err
        return load_study(name, tmp_path / name, None)

    return search


@pytest.fixture
def extrapolated(monkeypatch):
    """Make cost metrics say of the named ones alone, whatever the network, that they are extrapolated."""

    def mark(*names):
        for module in (energy_mj, flash_kib, latency_ms, peak_ram_kib):
            name = module.__name__.rpartition(".")[2]
            monkeypatch.setattr(module, "estimate", partial(_marked, module.estimate, name in names))

    return mark


def _marked(price, is_extrapolated, architecture, device):
    found = price(architecture, device)
    if not is_extrapolated:
        return replace(found, extrapolated=False)
    return replace(found, low=found.value / 4, high=found.value * 4, extrapolated=True)


# Ends.


def test_ends_are_minimised_limited_and_told(searched, nas, tmp_path):
    study = searched("--objectives", OBJECTIVES, "--budget", "latency_ms_high=20", "--budget", "leakage_high=0.75")
    assert study.metric_names == OBJECTIVES.split(",")
    trained = [trial for trial in study.trials if trial.values]
    assert len(trained) == 12
    budgets = {"latency_ms_high": 20.0, "leakage_high": 0.75}
    assert {limit.metric: limit.value for limit in limits_of(study.user_attrs) if limit.kind == "budget"} == budgets
    for trial in trained:
        assert trial.values == [trial.user_attrs[name] for name in study.metric_names]
        for name, value in budgets.items():  # a constraint for each, or samplers would not see it
            assert trial.constraints[name] == pytest.approx(trial.user_attrs[name] / value - 1)
    best = front(study)
    assert 0 < len(best) < len(trained)
    assert all(trial.user_attrs["leakage_high"] <= 0.75 for trial in best)
    assert not all(trial.user_attrs["leakage_high"] <= 0.75 for trial in trained)
    shown = nas("show", "ends", "--runs", tmp_path)
    assert shown.code == 0
    assert "\nlimit leakage_high=0.75: your budget\n" in shown.out
    # The number that counts is the end of an interval, so the table has the interval.
    low, high = (best[0].user_attrs[f"latency_ms_{end}"] for end in ("low", "high"))
    assert f"{low:.3f} to {high:.3f}" in shown.out


def test_a_limit_on_an_end_rejects_before_any_training(searched):
    plain = [trial.user_attrs for trial in searched().trials if trial.values]
    limit = sorted(attrs["latency_ms_high"] for attrs in plain)[6]
    assert any(attrs["latency_ms"] <= limit < attrs["latency_ms_high"] for attrs in plain)  # within, but not surely
    study = searched("--budget", f"latency_ms_high={limit}", name="high")
    assert all(trial.user_attrs["latency_ms_high"] <= limit for trial in study.trials if trial.values)
    refusals = [trial.user_attrs.get("rejected", "") for trial in study.trials]
    assert any(re.match(r"over a limit: latency_ms_high [\d.]+ > [\d.]+$", refusal) for refusal in refusals)


def test_a_pick_by_ends(nas, own_run):
    trained = [trial for trial in load_study("small", own_run.folder, None).trials if trial.values]
    highs = sorted(trial.user_attrs["leakage_high"] for trial in trained)
    between = (highs[0] + highs[1]) / 2
    run = ("--runs", own_run.runs)
    told = json.loads(nas("pick", "small", "--max", f"leakage_high={between}", "--json", *run).out)
    assert told["picked"]["leakage_high"] == highs[0]
    preferred = json.loads(nas("pick", "small", "--prefer", "error_high", "--json", *run).out)
    assert preferred["picked"]["error_high"] == min(trial.user_attrs["error_high"] for trial in trained)
    assert preferred["reason"].startswith("lowest error_high (")
    refused = nas("pick", "small", "--max", "leakage_high=0.01", *run)
    assert (refused.code, refused.out) == (2, "")
    assert re.search(r"nearest: leakage_high 0\.\d+ > 0\.01$", refused.err)


def test_an_exact_number_stands_for_its_ends(nas, own_run):
    told = json.loads(nas("pick", "small", "--prefer", "macs_high", "--json", "--runs", own_run.runs).out)
    trained = [trial for trial in load_study("small", own_run.folder, None).trials if trial.values]
    assert told["picked"]["macs"] == min(trial.user_attrs["macs"] for trial in trained)


@pytest.mark.parametrize("flags", [("--objectives", "error,speed_high"), ("--budget", "speed_high=1")])
def test_an_end_of_no_metric_is_refused(refused, flags):
    line = refused("search", *SMALL, *flags)
    assert re.match(r"no (objective|budget) 'speed_high' on stm32h747 \(ends: \w+_low, \w+_high\); there are \[", line)


@pytest.mark.parametrize("flags", [("--objectives", "error,leakage_hgh"), ("--budget", "leakage_hgh=1")])
def test_a_misspelt_end_is_refused_with_those_of_the_metric(refused, flags):
    line = refused("search", *SMALL, *flags)
    assert re.match(r"no \w+ 'leakage_hgh' on stm32h747 \(ends: leakage_low, leakage_high\); there are \[", line)


def test_the_error_of_a_class_has_no_named_ends(refused, own_run):
    line = refused("search", *SMALL, "--budget", "class_error_3_high=0.5")
    assert line.startswith("no class '3_high' among the validation records")
    line = refused("pick", "small", "--max", "class_error_3_high=0.5", runs=own_run.runs)
    assert line.startswith("no metric 'class_error_3_high' in this run; ")


@pytest.mark.parametrize("name", ["error", "leakage_low", "trainings", "class_error_3"])
def test_a_limit_below_what_a_measure_can_be_is_refused(refused, name):
    line = refused("search", *SMALL, "--budget", f"{name}=-1")
    assert line == f"expected a budget of 0 or more on {name!r}, which is never below 0; got -1"


def test_a_gap_may_be_limited_below_zero_and_a_cost_is_found_by_pricing(nas, refused, interrupted, tmp_path):
    assert nas("search", *SMALL, "--budget", "accuracy_gap=-0.1", "--runs", tmp_path / "gap").code != 2
    line = refused("search", *SMALL, "--budget", "latency_ms_high=-1")
    assert line.startswith("no candidate meets the limits: 1000 screened on stm32h747, smallest latency_ms_high ")
    assert line.endswith(" (limit -1)")


def test_nni_ranks_by_an_end(monkeypatch, tmp_path):
    plan = planned(tmp_path, objectives=["error_high", "latency_ms"])
    candidate = plan.candidate(
        {**plan.space.reference, "defence": "none", "epochs": 2, "learning_rate": 0.01, "weight_decay": 0.01,
         "dropout": 0.0, "label_smoothing": 0.0}
    )  # fmt: skip
    monkeypatch.setattr("nas.nni.measure.evaluate", lambda plan, bench, candidate: made_up(candidate.key))
    assert result_of(plan, None, candidate)["default"] == made_up(candidate.key).measures["error"].high


# Extrapolated numbers.


def test_a_search_carries_what_is_extrapolated(searched, extrapolated, nas, tmp_path):
    extrapolated("latency_ms")
    study = searched()
    trained = [trial for trial in study.trials if trial.values]
    assert all(trial.user_attrs["latency_ms_extrapolated"] is True for trial in trained)
    shown = nas("show", "ends", "--runs", tmp_path).out
    found = front(study)[0].user_attrs
    assert f"{found['latency_ms']:.3f}*" in shown
    assert f"{found['latency_ms_low']:.3f} to {found['latency_ms_high']:.3f}" in shown
    assert re.search(
        r"\n\* extrapolated: nothing like it was measured on stm32h747, so its interval is a guess\n"
        r"  measured were the time of \d+ networks, [\d.]+ to [\d.]+ ms, and the memory of \d+\n",
        shown,
    )
    told = json.loads(nas("show", "ends", "--json", "--runs", tmp_path).out)
    assert [row["extrapolated"] for row in told["front"]] == [["latency_ms"]] * len(told["front"])
    assert not any("latency_ms_extrapolated" in row for row in told["front"])
    assert json.loads((tmp_path / "ends" / "front.json").read_text())["front"] == told["front"]


def test_a_pick_and_its_card_say_what_is_extrapolated(nas, own_run):
    told = nas("pick", "small", "--runs", own_run.runs)
    assert told.code == 0, told.err
    assert re.search(r" [\d.]+\*", told.out)
    assert "\n* extrapolated: nothing like it was measured on " in told.out
    picked = json.loads(nas("pick", "small", "--json", "--runs", own_run.runs).out)["picked"]
    assert "latency_ms" in picked["extrapolated"]
    card = (own_run.folder / "picks" / str(picked["number"]) / "card.md").read_text()
    for name in picked["extrapolated"]:
        assert re.search(rf"\n\| {name} \| [\d.]+ \| [\d.e-]+ to [\d.e-]+, extrapolated \|\n", card), name
    assert card.count("extrapolated") == len(picked["extrapolated"])


def test_where_nothing_is_extrapolated_nothing_is_said(searched, extrapolated, nas, tmp_path):
    extrapolated()
    searched()
    shown = nas("show", "ends", "--runs", tmp_path).out
    assert "extrapolated" not in shown
    assert "*" not in shown
    told = json.loads(nas("show", "ends", "--json", "--runs", tmp_path).out)
    assert [row["extrapolated"] for row in told["front"]] == [[]] * len(told["front"])


@pytest.mark.parametrize("flag", [1, "yes", None, 0.0])
def test_a_study_whose_flag_is_no_truth_value_is_refused(nas, own_run, flag):
    journal = own_run.folder / "journal.log"
    lines = journal.read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if '"latency_ms_extrapolated"' in line)
    lines[at] = json.dumps({**json.loads(lines[at]), "user_attr": {"latency_ms_extrapolated": flag}})
    journal.write_text("".join(f"{line}\n" for line in lines))
    told = nas("show", "small", "--runs", own_run.runs)
    assert (told.code, told.out) == (2, "")
    problem = "expected true or false as 'latency_ms_extrapolated' of trial 0 of the study 'small'"
    assert told.err == f"nas: {problem}; got {flag!r}\n"


def test_estimates_say_what_is_extrapolated(nas, extrapolated):
    extrapolated("latency_ms")
    shown = nas("estimate", "--device", "stm32l4r5")
    assert shown.code == 0
    assert re.search(r" [\d.]+\*", shown.out)
    assert "\n* extrapolated: nothing like it was measured on stm32l4r5, so " in shown.out
    assert json.loads(nas("estimate", "--device", "stm32l4r5", "--json").out)["extrapolated"] == ["latency_ms"]
    assert "\n* extrapolated: nothing like it was measured there, so " in nas("estimate", "--device", "all").out


def test_a_table_of_estimates_has_a_column(nas, extrapolated, tmp_path):
    extrapolated("latency_ms")
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('architecture,space,input_shape,classes\n"{}",mlp,8,3\n')
    assert nas("estimate", "--from", source, "--output", output, "--device", "stm32l4r5").code == 0
    with output.open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["extrapolated"] == "latency_ms"
    assert float(row["latency_ms_high"]) == pytest.approx(4 * float(row["latency_ms"]))


# Ties.


def test_candidates_within_the_noise_are_called_ties(searched, nas, tmp_path):
    study = searched()
    told = json.loads(nas("show", "ends", "--json", "--runs", tmp_path).out)
    rows = {row["number"]: row for row in told["front"]}
    knee = rows[told["knee"]]

    def estimate(row, name):
        return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])

    for name in ("error", "leakage"):
        others = [number for number in rows if number != knee["number"]]
        expected = [number for number in others if are_tied(estimate(rows[number], name), estimate(knee, name))]
        assert told["ties"][name] == expected
    assert told["ties"].keys() == {"error", "leakage"}  # a latency is not measured
    assert told["ties"]["leakage"]
    shown = nas("show", "ends", "--runs", tmp_path).out
    assert f"\ncandidate {told['knee']} is the knee of the front\n" in shown
    assert re.search(rf"\ncandidates? [\d, ]+ (is|are) tied with {told['knee']} in leakage: ", shown)
    assert front(study)


def test_a_pick_names_its_ties_among_what_meets_its_limits(nas, own_run):
    run = ("--runs", own_run.runs)
    told = json.loads(nas("pick", "small", "--json", *run).out)
    number = told["picked"]["number"]
    shown = nas("pick", "small", *run).out
    for name, tied in told["ties"].items():
        assert number not in tied
        assert (f"tied with {number} in {name}: " in shown) == bool(tied)
    study = load_study("small", own_run.folder, None)
    limit = sorted(trial.user_attrs["params"] for trial in study.trials if trial.values)[2]
    within = json.loads(nas("pick", "small", "--max", f"params={limit}", "--json", *run).out)
    named = {number for tied in within["ties"].values() for number in tied}
    assert all(study.trials[number].user_attrs["params"] <= limit for number in named)
