"""What is said about a study: rows for machines, tables and a card for people."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import fields
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from estimators.devices.files import load_device
from estimators.estimate import flat
from nas.base import text
from nas.base.plugins import load
from nas.pricing.price import cost_metrics
from nas.pricing.price import screen
from nas.pricing.report import bits_of
from nas.pricing.report import estimate_table
from nas.runs import report
from nas.runs.front_and_knee import Choice
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import limits_to_pick_by
from nas.search.storage import load_study
from nas.spaces import sample
from nas.training import certificate
from nas.training.measures import MEASURED
from nas.training.recipe import Recipe
from search_spaces.graph.builder import GraphBuilder


@pytest.fixture(scope="module")
def study(trained_run):
    return load_study(trained_run.name, trained_run.folder, None)


def text_of(table, width):
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


def network(*weight_bits, tensors):
    graph = GraphBuilder((4,), bits=tensors[0])
    x = 0
    for weights, bits in zip(weight_bits, [*tensors[1:], 32], strict=True):
        x = graph.activation(graph.linear(x, 4, bias=True, weight_bits=weights), bits=bits)
    return graph.architecture("test", {})


@pytest.mark.parametrize(
    ("weights", "tensors", "text"),
    [
        ((8, 2, 2, 8, 8, 8), (8, 8, 8, 8, 4, 4), "W 8 2x2 8x3 A 8x4 4x2"),
        ((32,), (32,), "W 32 A 32"),
        ((1, 1, 2, 1), (8, 1, 2, 1), "W 1x2 2 1 A 8 1 2 1"),
    ],
)
def test_bits_are_written_as_runs(weights, tensors, text):
    assert bits_of(network(*weights, tensors=tensors)) == text


def test_runs_hold_every_value_in_order():
    rng = np.random.default_rng(0)
    for length in range(12):
        values = rng.choice([32, 8, 1], size=length).tolist()
        runs = [run.split("x") for run in text.runs(values).split()]
        assert [int(value) for value, *times in runs for _ in range(int(*times or [1]))] == values
        assert all(first[0] != second[0] for first, second in pairwise(runs))


def test_a_row_holds_the_costs_of_its_network_and_every_interval(study):
    device = load_device("stm32h747")
    for trial in front(study):
        row = report.row(study, trial)
        architecture = report.architecture_of(study, trial)
        assert row["number"] == trial.number
        assert row["architecture"] == dict(architecture.params)
        assert row["bits"] == bits_of(architecture)
        assert {name: row[name] for name in MEASURED} == {name: trial.user_attrs[name] for name in MEASURED}
        costs = {name: replace(cost, extrapolated=False) for name, cost in screen(architecture, device).items()}
        assert flat(costs).items() <= row.items()
        assert row["latency_ms_low"] < row["latency_ms"] < row["latency_ms_high"]
        assert row["leakage_low"] <= row["leakage"] <= row["leakage_high"]
        assert type(row["macs"]) is int
        assert type(row["params"]) is int
        assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_a_row_tells_the_whole_recipe(study):
    for trial in study.trials:
        recipe = report.row(study, trial)["recipe"]
        assert list(recipe) == [field.name for field in fields(Recipe)]
        assert recipe["epochs"] == 3  # fixed by the settings
        assert recipe["learning_rate"] == trial.params["learning_rate"]  # sampled


def test_the_defence_is_the_sampled_one_or_the_only_one(study):
    for trial in study.trials:
        assert report.defence_of(study, trial) == report.row(study, trial)["defence"] == trial.params["defence"]
        trial.params = {name: value for name, value in trial.params.items() if name != "defence"}
        assert report.defence_of(study, trial) == "none"


def test_the_front_fits_a_terminal_of_100_columns(study):
    best = front(study)
    table = text_of(report.front_table(study, best), 100)
    lines = table.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in table
    assert lines[1].split() == ["no.", "params", "error", "leakage", "ms", "kib", "kib", "macs", "bits", "defence"]
    for trial in best:
        attrs = trial.user_attrs
        first = next(place for place, line in enumerate(lines) if line.split()[0] == str(trial.number))
        assert f"{attrs['params']:,.0f}" in lines[first]
        assert f"{attrs['leakage']:.3f}" in lines[first]
        assert f"{attrs['leakage_low']:.3f} to {attrs['leakage_high']:.3f}" in lines[first + 1]


def test_a_number_without_an_interval_has_none_in_the_table(study):
    trial = study.trials[0]
    for end in ("low", "high"):
        del trial.user_attrs[f"leakage_{end}"]
    trial.user_attrs["leakage"] = 1.0
    assert text_of(report.front_table(study, [trial]), 140).count(" to 0.") == 1  # the interval of the error alone


def test_an_objective_beyond_the_columns_gets_one(own_run):
    study = load_study(own_run.name, own_run.folder, None)
    study.set_user_attr("config", {**study.user_attrs["config"], "objectives": ["error", "accuracy_gap"]})
    assert "accuracy" in text_of(report.front_table(study, front(study)), 140)


def test_costs_on_several_devices_leave_a_gap_where_a_metric_does_not_apply():
    space = load("search_spaces", "conv", "make_space")((1, 8, 8), 10)
    architecture = space.decode(sample(space.distributions, np.random.default_rng(1)))
    by_device = {name: screen(architecture, load_device(name)) for name in ("host", "stm32l4r5")}
    assert "energy_mj" not in cost_metrics(load_device("host"))
    lines = text_of(estimate_table("a network", by_device), 100).splitlines()
    assert lines[0].strip() == "a network"
    host, chip = (next(line.split() for line in lines if line.startswith(name)) for name in by_device)
    assert host[-1] == "-"
    assert by_device["stm32l4r5"]["energy_mj"].extrapolated
    assert chip[-1] == f"{by_device['stm32l4r5']['energy_mj'].value:.3f}*"


def test_the_card_says_what_was_measured_and_what_it_is_not(study):
    trial = front(study)[0]
    limits = limits_to_pick_by(study, {"macs": 1e9})
    card = report.card(study, Choice(trial, "it is the best", limits), "stm32h747")
    attrs = trial.user_attrs
    assert card.startswith(f"# Candidate {trial.number} of small\n\nReason for the choice: it is the best.\n")
    assert f"| error | {attrs['error']:.6g} | {attrs['error_low']:.4g} to {attrs['error_high']:.4g} |" in card
    assert f"| macs | {attrs['macs']:.6g} | counted |" in card
    rows = [line.split(" | ")[0].removeprefix("| ") for line in card.splitlines() if line.startswith("| ")]
    names = ["baseline", "majority class", "logistic regression", "random forest"]
    assert rows == ["metric", *MEASURED, *cost_metrics(load_device("stm32h747")), "class", *"0123456789", *names]
    assert "- fits into the device's memory\n" in card
    assert "- limit macs=1e+09: your budget\n" in card
    assert "- limit peak_ram_kib=1024: stm32h747 has 1,024 KiB of RAM; --no-device-limits looks beyond\n" in card
    assert "It is not an audit" in card
    assert "the test records were not used" in card


def test_the_card_of_a_private_training_has_its_certificate_and_what_that_assumes(study):
    trial = front(study)[0]
    choice = Choice(trial, "it is the best", limits_to_pick_by(study, {}))
    plain = report.card(study, choice, "stm32h747")
    assert "## Certificate" not in plain
    assert f", seed {study.user_attrs['config']['seed']}\n" in plain
    private = copy.deepcopy(trial)
    stated = {"epsilon": 3.98, "delta": 1e-4, "noise_multiplier": 1.5, "sampling_rate": 0.25, "private_steps": 40}
    private.user_attrs = {**trial.user_attrs, **stated, "epsilon_rdp": 4.4}
    card = report.card(study, replace(choice, trial=private), "stm32h747")
    assert "Differentially private with epsilon at most 3.98 at delta 0.0001" in card
    assert "- epsilon by Renyi divergences (RDP): 4.4\n" in card
    assert all(sentence in card for sentence in certificate.ASSUMPTIONS)
    assert ", its seed kept in the study\n" in card  # whoever knows it takes the noise off
    private.user_attrs["epsilon"] = 12.0
    weak = report.card(study, replace(choice, trial=private), "stm32h747")
    assert "not to be called private" in weak
    assert "Differentially private" not in weak


def test_the_front_shows_epsilon_where_a_candidate_has_one(study):
    trials = front(study)
    private = copy.deepcopy(trials[-1])
    private.user_attrs = {**private.user_attrs, "epsilon": 3.98}
    assert "epsilon" not in text_of(report.front_table(study, trials), 300)
    assert "3.98" in text_of(report.front_table(study, [*trials[:-1], private]), 300)
