"""The short versions of the benchmarks run, and their figures point where the long ones do."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from estimators.devices.files import load_device
from estimators.leakage.attacks import lira_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.statistics.auc_and_rates import auc
from nas.base.plugins import available
from nas.preprocessing.preprocessing import unchanged
from nas.records import Records
from nas.records import Splits
from nas.spaces import compressible
from nas.spaces import space_named
from nas.split_overview import Overview
from nas.training.assess import Candidate
from nas.training.bank import halves
from nas.training.recipe import Recipe
from search_spaces.graph.precision import WEIGHTS
from search_spaces.network import build
from search_spaces.space import check_point
from tests.c_sources import needs_cc
from tests.confirmed_studies import study_of
from tests.confirmed_studies import train_again

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a benchmark's main with its results elsewhere; returns what it wrote."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    report = importlib.import_module("report")
    monkeypatch.setattr(report, "RESULTS", tmp_path)

    def main(name, *arguments, **options):
        monkeypatch.setattr("sys.argv", [name, *arguments])
        importlib.import_module(name).main(**options)
        (written,) = tmp_path.glob("*.json")
        return json.loads(written.read_text())

    return main


def test_a_result_names_its_commit_and_says_when_other_files_than_results_had_changed(monkeypatch, tmp_path):
    git = lambda *words: subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
    result, code = tmp_path / "benchmarks" / "results" / "one.json", tmp_path / "code.py"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    code.write_text("")
    git("init")
    git("add", ".")
    git("-c", "user.name=n", "-c", "user.email=e", "commit", "-m", "first")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    report = importlib.import_module("report")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    result.write_text("[]")
    assert report._commit() == git("rev-parse", "HEAD").stdout.strip()
    code.write_text("changed = True")
    assert report._commit().endswith("+changes")


@pytest.mark.usefixtures("shared_data")
def test_a_short_search_on_cifar10_accounts_for_every_second(run):
    found = run("first_search", short=True)
    assert found["trained"] == 4
    assert {"training", "bank", "attack", "storage", "start-up"} <= {row["phase"] for row in found["rows"]}
    shares = found["training_percent"] + found["bank_percent"] + found["everything_else_percent"]
    assert shares == pytest.approx(100)


def test_the_exported_files_of_a_front_are_held_against_what_the_search_said(run, tmp_path):
    found = run("exported_front", short=True, runs=tmp_path / "runs")
    for row in found["rows"]:
        assert row["exact_agreement"] == 1
        assert row["over_count"] == 0
        assert abs(row["auc_difference"]) <= (1e-3 if row["file"] == "float32" else 0.1)
    floats = [row for row in found["rows"] if row["file"] == "float32"]
    assert len(floats) == len(found["rows"]) / 2 > 0
    assert all(row["agreement"] == 1 and row["steps"] < 1 and row["error_difference"] == 0 for row in floats)
    assert found["bytes_as_counted"] == f"{len(found['rows'])} of {len(found['rows'])}"


def test_more_steps_help_on_few_records(run):
    found = run("steps", short=True)
    few, many = found["rows"]
    assert (few["members"], few["steps"], few["epochs"]) == (180, 30, 10)
    assert (many["members"], many["steps"], many["epochs"]) == (180, 120, 40)
    assert many["median_error"] < few["median_error"]


def test_a_ceiling_keeps_useless_networks_off_the_front(run, monkeypatch):
    ceiling = importlib.import_module("error_ceiling")
    tasks = ceiling.tasks
    quick = {"members": 60, "references": 2, "recipe": {"epochs": 60, "learning_rate": 0.01}}
    monkeypatch.setattr(ceiling, "tasks", lambda place: {"breast cancer": {**tasks(place)["breast cancer"], **quick}})
    found = run("error_ceiling", short=True)
    rows = {row["ceiling"]: row for row in found["rows"]}
    assert list(rows) == ["without", "pick alone", "with"]
    assert len({row["limit"] for row in rows.values()}) == 1
    assert rows["with"]["best_error"] <= rows["with"]["limit"]
    assert rows["with"]["pick_error"] <= rows["with"]["limit"]
    assert rows["pick alone"]["pick_error"] <= rows["pick alone"]["limit"]
    assert rows["pick alone"]["median_error"] == rows["without"]["median_error"]
    assert rows["with"]["on_front"] <= rows["without"]["on_front"]


def test_bounds_on_epsilon_hold_where_their_assumption_does_and_point_estimates_do_not(run):
    found = {(row["mechanism"], row["bound"]): row for row in run("epsilon", short=True)["rows"]}
    ours = ("any training", "Gaussian, thresholds", "Gaussian, AUC")
    for mu in ("Gaussian 1", "Gaussian 2"):
        reached = [found[mu, bound]["share_reached"] for bound in ours]
        assert 0.4 < reached[0] < 0.6 < 0.8 < reached[1] < 1
        assert 0.85 < reached[2] < 1
    # Twenty runs: three or fewer failures have a probability of 98 % where one in twenty is allowed.
    valid = [row["above_truth"] for (name, bound), row in found.items() if bound in {"any training", "one run"}]
    valid += [found[mu, bound]["above_truth"] for mu in ("Gaussian 1", "Gaussian 2", "nothing") for bound in ours]
    assert max(valid) <= 0.15
    assert found["Laplace 1", "Gaussian, thresholds"]["above_truth"] == 1
    assert found["Laplace 1", "raw counts"]["above_truth"] > 0.5
    assert found["Gaussian 1", "mu, AUC as it is"]["above_truth"] > 0.2


@pytest.mark.filterwarnings("ignore")  # thop's, about a distutils class
def test_screening_times_every_network_beside_both_peers(run):
    found = run("screening", "--repetitions", "3", "--points", "2")
    assert [row["network"] for row in found["rows"]] == ["seven layers", "conv point 0", "conv point 1"]
    for row in found["rows"]:
        assert row["fvcore count"] == pytest.approx(row["fvcore_ms"] / row["priced_ms"])
        assert row["thop count"] == pytest.approx(row["thop_ms"] / row["priced_ms"])
    assert len(found["metrics"]) == 7
    assert found["machine"]["processor"]


@needs_cc
def test_c_code_computes_what_the_reference_does_in_the_memory_that_was_priced(run):
    found = run("c99", "--records", "30", "--spaces", "mlp")
    assert [row["weights"] for row in found["rows"]] == ["1", "ternary", "2", "4", "8"]
    assert found["bit_for_bit"] == found["networks"] == 5
    assert 0.95 < found["lowest_ratio"] <= found["highest_ratio"] < 1.05
    assert sorted(row["flash_bytes"] for row in found["rows"]) == [row["flash_bytes"] for row in found["rows"]]


def test_startup_is_timed_beside_the_import_of_pytorch(run, monkeypatch):
    startup = importlib.import_module("startup")
    monkeypatch.setattr(startup, "COMMANDS", {"nas --help": ("--help",)})
    found = run("startup", "--rounds", "1")
    row, library = found["rows"]
    assert (row["command"], library["command"]) == ("nas --help", "import optuna")
    assert found["largest_ratio"] == row["of importing PyTorch"]
    assert row["of importing PyTorch"] == pytest.approx(row["seconds"] / found["import_torch_seconds"])
    assert row["of importing PyTorch"] > 0


@pytest.mark.usefixtures("shared_data")
def test_measured_cells_are_predicted_better_than_by_flops(run):
    found = run("latency_nb201", "--short")
    assert {row["device"] for row in found["rows"]} >= {"raspi4", "pixel3", "gold_6226"}
    for row in found["rows"]:
        assert row["within 10 %"] > row["FLOPs line within 10 %"]
        assert row["rho"] > 0.85


@pytest.mark.usefixtures("shared_data")
def test_what_ten_measured_networks_claim_is_what_others_reach(run):
    rows = {row["device"]: row for row in run("calibration_claims", "--short")["rows"]}
    assert {"raspi4", "titan_rtx_256", "all"} <= set(rows)
    assert rows["all"]["draws"] == 2 * (len(rows) - 1)
    # Eighteen draws: the claim holds nearly always, and says something.
    assert rows["all"]["claim holds"] >= 0.75
    assert rows["all"]["cross-validated holds"] < rows["all"]["claim holds"]
    assert rows["titan_rtx_256"]["claimed"] > 0.5
    assert rows["titan_rtx_256"]["prunes"] == 0


@pytest.mark.usefixtures("shared_data")
def test_energies_lie_in_intervals_that_add_as_squares(run):
    found = run("energy_mcu")
    assert found["energies"] == 33
    # 90 % of 33, within two standard errors; added half-widths hold more than they say.
    assert 0.8 <= found["in_90_percent_interval_as_squares"] <= found["in_90_percent_interval_added"]


def test_the_host_is_predicted_better_than_by_macs(run, monkeypatch, tmp_path):
    hosting = importlib.import_module("nas.calibration.this_machine")
    monkeypatch.setattr(importlib.import_module("estimators.fitting.kernel_model"), "STAGES", 15)
    # No test depends on how busy this machine is: each kernel takes a made-up time.
    monkeypatch.setattr(hosting, "_written", lambda network, _precision: network)
    monkeypatch.setattr(hosting, "fastest_ms", lambda networks: [_made_up_ms(network) for network in networks])
    (tmp_path / "files").mkdir()
    monkeypatch.setattr(importlib.import_module("latency_host"), "FOLDER", tmp_path / "files")
    found = run("latency_host", "--short", "--write", "--measurements", str(tmp_path / "measured.csv"))
    rows = {(row["device"], row["model"], row["space"]): row for row in found["rows"]}
    assert {space for _, _, space in rows} == {"all", *available("search_spaces", "make_space")}
    for device in ("host", "host_int8"):
        of = {model: rows[device, model, "all"] for model in ("kernel by kernel", "MACs and a constant")}
        assert of["kernel by kernel"]["mape"] < of["MACs and a constant"]["mape"]
        # The same times again: nothing is noise.
        assert found[f"{device}_noise_within_10_percent"] == 1.0
        written = load_device(str(tmp_path / "files" / f"{device}.toml"))
        assert written.calibration.repeated_within_10_percent == 1.0


def _made_up_ms(network):
    return 0.01 + sum(0.01 + 1e-7 * kernel.output_size for kernel in network.kernels)


def test_a_pick_with_confidence_breaks_its_limit_less_often(run, monkeypatch, tmp_path):
    between = importlib.import_module("between_trainings")
    monkeypatch.setattr(between, "CACHE", tmp_path / "kept")
    quick = {"members": 120, "references": 4, "recipe": {"epochs": 4}, "defences": ["none"]}
    monkeypatch.setattr(between, "tasks", lambda **_: {"digits": {"space": "mlp", "dataset": "digits", **quick}})
    found = run("between_trainings", short=True)
    measures = [row for row in found["rows"] if row["part"] == "measure"]
    assert [row["measure"] for row in measures] == list(between.MEASURES)
    for row in measures:
        assert row["share"] == pytest.approx((row["between_sd"] / row["records_sd"]) ** 2)
        assert row["covered"] >= row["covered_records"]
    for part in ("pick", "simulated"):
        breaks = {row["way"]: row["breaks_percent"] for row in found["rows"] if row["part"] == part}
        assert breaks["sure"] <= breaks["records"] <= breaks["value"]
        assert breaks["sure"] <= 5
    assert found["trainings"] == 3


def test_a_front_is_confirmed_and_held_against_a_training_that_nothing_holds(run, monkeypatch, tmp_path):
    confirm = importlib.import_module("confirm")
    monkeypatch.setattr(confirm, "CACHE", tmp_path / "kept")
    found = run("confirm", "--short")
    assert (found["seeds"], found["repeats"]) == (2, 1)
    *rows, fronts = found["rows"]
    assert {(row["where"], row["measure"]) for row in rows} == set(
        itertools.product(confirm.WHERE, (*confirm.MEASURES, confirm.ON_TEST))
    )
    assert all(row["before_half_width"] >= 0 and row["after_half_width"] >= 0 for row in rows)
    assert fronts["searches"] == 2
    assert fronts["members_after"] <= fronts["members_before"]
    (written,) = tmp_path.glob("*.json")
    before = json.loads(written.read_text())["rows"]
    monkeypatch.setattr(confirm, "assess", lambda *_: pytest.fail("trained once more"))
    monkeypatch.setattr("nas.search.study.evaluate", lambda *_, **__: pytest.fail("searched once more"))
    assert run("confirm", "--short")["rows"] == before


def test_of_pure_noise_a_front_is_too_good_and_a_confirmed_one_is_not(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    confirm = importlib.import_module("confirm")
    rng, noise, found = np.random.default_rng(0), 0.02, []
    for _ in range(40):
        draw = lambda: tuple(0.5 + rng.normal(0, noise, 2))
        study = study_of(*((*draw(), latency) for latency in rng.uniform(1, 2, 20)))
        front = [trial.number for trial in study.best_trials]
        for number, repetition in itertools.product(front, (1, 2, 3)):
            train_again(study, number, repetition, draw())
        held = {number: dict(zip(("error", "leakage"), draw(), strict=True)) for number in front}
        for numbers in held.values():
            numbers[confirm.ON_TEST] = numbers["error"]
        found.append(confirm.biases(study, held))
    rows = {(row["where"], row["measure"]): row for row in confirm.summary("made up", found)[:-1]}
    for measure in ("error", "leakage"):
        whole, lowest = rows["front", measure], rows["lowest", measure]
        assert whole["before"] > 2 * whole["before_half_width"]
        assert abs(whole["after"]) < 2 * whole["after_half_width"]
        assert whole["before"] > 0.25 * noise
        # The lowest of several means is too low, too, by less: each has a third of the variance, and there are fewer.
        assert lowest["before"] > 1.2 * noise
        assert lowest["after"] < 0.75 * lowest["before"]


@pytest.mark.usefixtures("shared_data")
def test_a_dummy_value_is_no_better_than_a_pruned_trial(run):
    found = run("pruned_values", "--short", short=True)
    rows = {(row["objectives"], row["way"]): row for row in found["rows"]}
    assert len(rows) == 6
    for row in rows.values():
        assert 0.3 < row["lowest"] <= row["hypervolume"] <= row["highest"] <= 1
        assert row["difference"] == 0 or row["way"] != "pruned"
    # Half of all cells are over the limit: random search rejects about as many as it trains.
    assert 4 <= rows["error, latency_ms", "random"]["rejected"] <= 30


@pytest.mark.usefixtures("shared_data")
def test_the_versions_that_benchmarks_of_leakage_train_are_points_of_their_spaces(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    versions, distillation = importlib.import_module("versions"), importlib.import_module("distillation")
    leakage, defences = importlib.import_module("compression_leakage"), importlib.import_module("defences")
    published = importlib.import_module("published_defences")
    names = available("nas.defences", "defend")
    tasks = [
        versions.location30(leakage.perceptrons),
        versions.location30(partial(distillation.perceptrons, short=False)),
        versions.location30(partial(defences.perceptrons, names, short=False)),
        versions.location30(partial(published.perceptrons, short=False)),
        versions.cifar10(leakage.convolutional),
        versions.cifar10(distillation.students),
        versions.cifar10(partial(defences.convolutional, names, short=False)),
        versions.cifar10(published.convolutional),
    ]
    for task in tasks:
        keys = [candidate.key for candidate in task.versions.values()]
        doubles = {"1 bit, gecko", "1 bit, gecko, larger teacher"} & task.versions.keys()
        assert len(keys) - len(set(keys)) == max(0, len(doubles) - 1)  # the two differ in their teacher
    assert distillation.trainings_of(tasks[1], "10 folds, alpha 1") == 11


@pytest.fixture
def versions(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("versions")


@pytest.fixture
def small_task(versions):
    """Noise of three classes, 240 records in the pool, and one version that hardly learns."""
    rng = np.random.default_rng(0)
    sets = [Records(rng.normal(size=(120, 6)).astype(np.float32), np.arange(120) % 3, tuple("abc")) for _ in range(4)]
    overview = Overview(480, {}, 0, 0, None, 480, 1)
    data = Splits(
        *sets, test=sets[2], fingerprint="noise", preprocessing=unchanged((6,), tuple("abc")), overview=overview
    )
    space = space_named("mlp", (6,), 3)
    plain = Candidate(space.decode(space.reference), Recipe(epochs=1))
    pool = versions.pool_of(data.members, data.non_members)
    return versions.Task("noise", data, pool, {"none": plain})


def test_canaries_have_wrong_labels_and_without_any_nothing_changes(versions, small_task):
    task, is_canary = versions.with_canaries(small_task, 40, seed=3)
    assert is_canary.sum() == 40
    np.testing.assert_array_equal(task.pool.labels != small_task.pool.labels, is_canary)
    assert set(task.pool.labels) == {0, 1, 2}
    assert task.pool.fingerprint != small_task.pool.fingerprint
    np.testing.assert_array_equal(versions.with_canaries(small_task, 40, seed=3)[1], is_canary)
    # Which of them a training sees is a matter of chance: they are not drawn as the halves are.
    assert all(10 <= (is_canary & task.pool.trained_on(number, seed=3)).sum() <= 30 for number in range(6))
    same, nobody = versions.with_canaries(small_task, 0, seed=3)
    assert not nobody.any()
    assert same.pool.fingerprint == small_task.pool.fingerprint


def test_what_is_found_of_canaries_has_columns_of_its_own(versions, small_task, monkeypatch, tmp_path):
    defences = importlib.import_module("defences")
    monkeypatch.setattr(defences, "CACHE", tmp_path)
    monkeypatch.setattr("nas.base.processes.cores", lambda: 1)
    task, is_canary = versions.with_canaries(small_task, 40, defences.SEED)
    seen = []

    def watched(evidence):
        """An attack that knows canaries by their labels, and nothing of the others."""
        seen.append(evidence)
        np.testing.assert_array_equal(evidence.labels, task.pool.labels)
        own = len(seen) - 1 if len(seen) <= 6 else len(seen) - 7
        known = task.pool.trained_on(own, defences.SEED)
        return np.where(is_canary & known, 1.0, 0.0)

    monkeypatch.setattr(defences, "ATTACKS", {"auc": watched})
    monkeypatch.setattr(defences, "row_of", lambda task, name, found: {"auc": float(found[name]["auc"].mean())})
    (row,) = defences.measured(small_task, 6, 40)
    assert row["auc"] == 0.5  # of the others
    assert row["canary_auc"] == row["canary_tpr_at_1pct_fpr"] == row["canary_tpr_at_01pct_fpr"] == 1.0
    for evidence in seen:
        np.testing.assert_array_equal(evidence.bank.trained_on.sum(axis=0), 2)
        assert len(evidence.bank.logits) == 4


def test_without_its_partner_lira_finds_nothing_where_nothing_leaks(versions, small_task):
    rng = np.random.default_rng(1)
    trained_on = np.stack([halves(3000, number, 2) for number in range(6)])
    logits = rng.normal(size=(6, 3000, 3))
    oracles = tuple(Oracle(lambda features: features) for _ in range(6))
    bank = Bank(logits, trained_on, rng.integers(0, 3, 3000), oracles)
    pool = SimpleNamespace(features=rng.normal(size=(3000, 2)))

    def mean_auc(evidence_of):
        return np.mean([auc(lira_online.attack(evidence_of(own)), trained_on[own]) for own in range(6)])

    def with_partner(own):
        others = bank.part([other for other in range(6) if other != own])
        return Evidence(logits[own], bank.labels, others)

    assert mean_auc(partial(versions.evidence_of, replace(small_task, pool=pool), bank)) == pytest.approx(
        0.5, abs=0.015
    )
    assert mean_auc(with_partner) < 0.475


def test_what_was_published_of_a_defence_is_held_against_figures(versions):
    published = importlib.import_module("published_defences")
    halves_of = lambda value, noise=0.01: value + noise * np.array([-1.0, 0.0, 1.0, 0.0])
    plain = {"error": halves_of(0.5), "sorted_auc": halves_of(0.9), "unsorted_auc": halves_of(0.8)}
    told = partial(published.lowered, attacks=("sorted_auc", "unsorted_auc"), least=0.05, at_most=0.03)
    lower = {"error": halves_of(0.52), "sorted_auc": halves_of(0.8), "unsorted_auc": halves_of(0.74)}
    said = told(lower, plain)
    assert said.startswith("reproduced: sorted_auc -0.100 +- 0.000, unsorted_auc -0.060")
    assert said.endswith("error +0.020 +- 0.000")
    assert told({**lower, "unsorted_auc": halves_of(0.76)}, plain).startswith("not reproduced")  # one of the two stays
    assert told({**lower, "error": halves_of(0.54)}, plain).startswith("not reproduced")
    assert told({**lower, "sorted_auc": halves_of(0.8, 0.3)}, plain).startswith("within the noise")
    names = ("error", "gap", "tpr_at_1pct_fpr", *published.ATTACKS)
    figures = {name: halves_of(0.5) for name in names}
    pruned = {**figures, "samia_auc": halves_of(0.7)[:2]}
    found = {
        published.BASELINE: figures,
        published.PRUNED: pruned,
        published.BALANCED: pruned,
        published.PRIVATE: figures,
    }
    task = SimpleNamespace(name="noise")
    rows = {name: published.row_of(task, name, found) for name in found}
    assert "samia_auc" not in rows[published.BASELINE]
    assert "samia_auc_less_undefended" not in rows[published.PRUNED]  # nobody attacks the dense network by it
    assert rows[published.BALANCED]["samia_auc_less_undefended"] == 0
    claims = dict(published.claims(found))
    assert claims[next(claim for claim in claims if "SAMIA" in claim)].startswith("not reproduced: samia_auc +0.000")
    assert len(claims) == 5  # one of SAMIA, four of DP-SGD
    pruned = "pruned 70 %, retrained"
    assert published.compared_with(f"{pruned}, posterior balancing 4") == pruned
    assert published.compared_with(pruned) == published.compared_with("dp_sgd, epsilon 8") == "none"


@pytest.mark.usefixtures("shared_data")
def test_a_search_that_begins_with_an_earlier_front_begins_better(run, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("like")
    monkeypatch.setattr(module, "LATER", {"CIFAR-100": "cifar100_test"})
    monkeypatch.setattr(module, "TRIALS", 12)
    monkeypatch.setattr(module, "BUDGETS", (2, 12))
    found = run("like", short=True)
    rows = {(row["search"], row["networks"]): row for row in found["rows"]}
    assert {row["given"] > 0 for (search, _), row in rows.items() if search != "alone"} == {True}
    assert {row["given"] for (search, _), row in rows.items() if search == "alone"} == {0}
    assert rows["alone", 2]["share"] < rows["like CIFAR-10", 2]["share"] <= rows["like CIFAR-10", 12]["share"] < 1


@pytest.mark.usefixtures("shared_data")
def test_searches_in_a_table_come_nearer_to_its_front_with_more_evaluations(efficiency, run, monkeypatch):
    found = run("search_efficiency", "--short")
    rows = {(row["sampler"], row["evaluations"]): row for row in found["rows"] if row["part"] == "share"}
    assert {sampler for sampler, _ in rows} == {"random", "nsga2", "cost_aware"}
    for sampler in ("random", "nsga2", "cost_aware"):
        assert 0 < rows[sampler, 25]["share"] <= rows[sampler, 50]["share"] < 1
        assert rows["cost_aware", 50]["share"] >= rows[sampler, 50]["share"]
    asks = [row for row in found["rows"] if row["part"] == "ask"]
    assert all(row["trials"] >= 50 and row["ask_ms"] > 0 for row in asks)
    # What was found is read, not searched again.
    monkeypatch.setattr(efficiency, "search", None)
    assert run("search_efficiency", "--short")["rows"] == found["rows"]


@pytest.fixture
def efficiency(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("search_efficiency")
    monkeypatch.setattr(module, "CACHE", tmp_path / "kept")
    module.task_of.cache_clear()
    return module


@pytest.mark.usefixtures("shared_data", "efficiency")
def test_a_model_that_has_learnt_from_other_networks_finds_most_of_a_front(run):
    found = run("search_ceiling", "--short")
    shares = [row["share"] for row in found["rows"]]
    assert shares == sorted(shares)
    assert 0.9 < shares[0] <= shares[-1] <= 1
    assert found["rank_correlation"] > 0.8


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("sampler", ["TPE, univariate", "NSGA-II, 50", "pymoo's NSGA-II", "NNI's evolution"])
def test_peers_search_the_same_table_by_the_same_rule(efficiency, sampler):
    if sampler == "pymoo's NSGA-II":
        pytest.importorskip("pymoo", reason="pymoo is not installed; `search_efficiency.py --help` says how")
    if sampler == "NNI's evolution":
        pytest.importorskip("nni", reason="NNI is not installed")
    task = efficiency.task_of(efficiency.SHORT_TABLE)
    found = efficiency.search(task, sampler, 0, 60, None)
    assert found.values.shape == (60, 2)
    assert len(found.ask_ms) >= 60  # repeats are asks, and no evaluations
    every = {tuple(row) for row in efficiency.of_table(task.plan)}
    assert len(every) > 500
    assert {tuple(row) for row in found.values} <= every
    assert 0.5 < task.share(found.values) < 1
    again = efficiency.search(task, sampler, 0, 60, None)
    np.testing.assert_array_equal(again.values, found.values)
    assert len(efficiency.search(task, sampler, 0, None, 70).ask_ms) == 70


@pytest.mark.usefixtures("shared_data")
def test_a_share_is_one_for_the_whole_table_and_less_for_a_part(efficiency):
    task = efficiency.task_of(efficiency.SHORT_TABLE)
    values = efficiency.of_table(task.plan)
    assert len(values) <= 625
    assert task.share(values) == pytest.approx(1)
    assert task.share(values[values[:, 0] > np.median(values[:, 0])]) < 0.9


def test_goals_are_met_or_not_by_the_figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    efficiency = importlib.import_module("search_efficiency")
    line = lambda sampler, share, se: {
        "part": "share",
        "table": "raspi4",
        "sampler": sampler,
        "evaluations": 25,
        "share": share,
        "se": se,
    }
    ask = {"part": "ask", "table": "raspi4", "sampler": "cost_aware", "trials": 1000, "ask_ms": 60.0}
    told = efficiency.verdicts(
        [line("cost_aware", 0.981, 0.003), line("tpe", 0.977, 0.004), line("random", 0.9, 0.0), ask]
    )
    assert list(told.values()) == [
        "met: 0.9810",
        "not met: +0.0040 against tpe, standard error 0.0050",
        "not met: 60.0 ms",
    ]
    told = efficiency.verdicts([line("cost_aware", 0.979, 0.0), line("tpe", 0.977, 0.001), {**ask, "ask_ms": 40.0}])
    assert [verdict.partition(":")[0] for verdict in told.values()] == ["not met", "met", "met"]


@pytest.fixture
def pruned(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("pruned_values")


def test_the_hypervolume_of_two_points_is_that_of_two_rectangles(pruned):
    # (1 - .5) * (10 - 5) + (1 - .75) * (10 - 2.5 - 5), and a dominated point, one too dear and one too bad add nothing.
    points = np.array([[0.5, 5.0], [0.75, 2.5], [0.8, 6.0], [0.1, 11.0], [1.0, 0.5]])
    assert pruned.hypervolume(points, 10.0) == pytest.approx(0.5 * 5 + 0.25 * 2.5)


@pytest.mark.parametrize(("way", "states", "finished"), [("pruned", "PRUNED", 0), ("dummy value", "COMPLETE", 1)])
def test_a_rejected_cell_is_told_as_its_way_says(pruned, way, states, finished):
    study = optuna.create_study(directions=["minimize", "minimize"])
    pruned.tell_rejected(study, study.ask(), way, 7.5)
    (trial,) = study.trials
    assert trial.state.name == states
    assert [trial.values] * finished == [[1.0, 7.5]] * finished


def test_layouts_are_compared_in_pairs(run, monkeypatch):
    layout = importlib.import_module("training_layout")
    monkeypatch.setattr(layout, "STEPS", 2)
    monkeypatch.setattr(layout, "STACKS", ((2, 8),))
    found = run("training_layout", "--short", short=True)
    assert [row["way"] for row in found["rows"]] == ["channels_last", *["stacked"] * 3]
    for row in found["rows"]:
        assert row["ratio"] == pytest.approx(row["first_ms"] / row["second_ms"])
    assert found["stacked_lowest"] == min(row["ratio"] for row in found["rows"][1:])


def test_every_precision_is_timed_beside_plain_pytorch(run, monkeypatch):
    speed = importlib.import_module("training_speed")
    monkeypatch.setattr(speed, "STEPS", 1)
    found = run("training_speed", "--short", short=True)
    assert [row["precision"] for row in found["rows"]] == 2 * [str(precision) for precision in WEIGHTS]
    assert all(row[part] > 0 for row in found["rows"] for part in ("ratio", "weights_alone", "tensors_alone"))


def test_the_plain_network_beside_a_trained_one_has_its_weights(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    speed = importlib.import_module("training_speed")
    for made in (speed.convolutional, speed.perceptron):
        _, network_at, plain, batch = made()
        ours = build(network_at(32, 32))
        assert [w.shape for w in plain.parameters()] == [w.shape for w in ours.parameters()]
        ours.load_state_dict(dict(zip(ours.state_dict(), plain.state_dict().values(), strict=True)))
        torch.testing.assert_close(ours.eval()(batch), plain.eval()(batch))


@pytest.mark.parametrize("name", ["perceptron 446-64-64", "two convolutions, 16 x 16"])
def test_networks_trained_at_once_end_where_those_trained_in_turn_do(monkeypatch, name):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    layout = importlib.import_module("training_layout")
    made = [layout.MADE[name]() for _ in range(3)]
    networks, shape = [network for network, _ in made], made[0][1]
    records, labels = torch.randn(3, 8, *shape), torch.arange(8).repeat(3, 1)
    in_turn = layout.train_in_turn(networks, records, labels)
    at_once = layout.train_stacked(networks, records, labels)
    for before, one, other in zip(networks, in_turn, at_once, strict=True):
        for key, weight in before.named_parameters():
            assert not torch.equal(weight, one[key])
            torch.testing.assert_close(one[key], other[key], rtol=1e-4, atol=1e-6)


def test_a_quarter_of_the_records_is_chosen_by_the_bank_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    shortfall = importlib.import_module("proxy_shortfall")
    # Of 40 records, those with a high number are easier, and the first ten change most with membership.
    trained_on = np.array([[True] * 40, [False] * 40])
    odds = np.arange(40) / 10 + trained_on * np.where(np.arange(40) < 10, 5.0, 1.0)
    bank = Bank(np.stack([odds, np.zeros_like(odds)], axis=2), trained_on, np.zeros(40, dtype=np.int64))
    chosen = shortfall.ways_to_choose(bank)
    assert {name: len(set(rows)) for name, rows in chosen.items()} == dict(zip(chosen, [40, 10, 10, 10], strict=True))
    assert list(chosen["the quarter with the largest effect"]) == list(range(10))
    assert [row // 4 for row in chosen["a quarter, evenly by hardness"]] == list(range(10))


def test_a_strategy_is_beaten_in_four_of_five_seeds(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    safecompress = importlib.import_module("safecompress")
    found = {
        "safecompress": {"score": np.array([1.0, 1.0, 1.0, 1.0, 1.0])},
        "as good": {"score": np.array([1.0, 0.9, 1.0, 0.9, 1.1])},
        "better": {"score": np.array([1.1, 0.9, 1.0, 0.9, 1.1])},
        "dynamic": {"score": np.array([2.0, 2.0, 2.0, 2.0, 2.0])},
    }
    told = safecompress.verdicts(found)
    assert told["at least as well as as good"].startswith("held: in 4 of 5 seeds, score +0.020")
    assert told["at least as well as better"].startswith("not held: in 3 of 5 seeds")
    assert told["strategies that the chosen network is at least as good as"] == "1 of 2"
    assert len(told) == 3


def test_attackers_of_a_benchmark_judge_what_they_did_not_learn_from(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    safecompress = importlib.import_module("safecompress")
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, 300) for _ in range(2)]
    logits = [rng.normal(size=(300, 3)).astype(np.float32) for _ in range(2)]
    assert abs(safecompress.attack_accuracy(logits, labels) - 0.5) < 0.07  # known by heart it would be near 1
    sure = logits[0] + 6 * np.eye(3, dtype=np.float32)[labels[0]]
    assert safecompress.attack_accuracy([sure, logits[1]], labels) > 0.8


@pytest.mark.parametrize("shares", [(1, 1, 1, 1), (0, 0, 0, 1), (0, 1, 0, 1), (1, 0, 0, 0)])
def test_exits_are_recovered_from_latencies_though_some_answer_for_nobody(monkeypatch, shares):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("exits")
    space = compressible(space_named("mlp", (40,), 5), ["exits"])
    network = space.decode({**space.reference, "depth": 4, "exits.count": 3})
    left = np.random.default_rng(0).choice(4, 800, p=np.array(shares) / sum(shares))
    assert np.mean(benchmark.recovered_exits(network, left, seed=1) == left) > 0.98


def test_an_unpairing_is_held_to_every_attack_and_to_the_error(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    siblings = importlib.import_module("siblings")
    rows = [
        {"network": name, "error_less_shipped": error, "PGD-10 drop": weak, "MI-PGD-50 drop": strong}
        for name, error, weak, strong in (
            ("unpaired", 0.01, 0.9, 0.3),
            ("unpaired", 0.02, 0.9, 0.9),
            ("unpaired", -0.1, 0.9, 0.2),
            (siblings.FURTHER, 0.0, 0.5, 0.6),
            ("control", 0.0, 0.0, 0.0),
        )
    ]
    assert siblings.verdicts(rows) == {
        "unpaired": "held in 1 of 3, least drop 0.20",
        siblings.FURTHER: "held in 1 of 1, least drop 0.50",
    }


@pytest.mark.usefixtures("shared_data")
def test_every_published_figure_of_gecko_stands_beside_a_version_that_is_trained(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    versions, gecko = importlib.import_module("versions"), importlib.import_module("gecko")
    for network, named in gecko.NETWORKS.items():
        task = versions.cifar10(partial(gecko.versions_of, named, short=False))
        assert {version for of, version in gecko.PUBLISHED if of == network} <= task.versions.keys()
        assert build(gecko.residual(task.data))(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
        plain, narrow = (task.versions[name].architecture for name in (gecko.FLOAT, gecko.NARROWER))
        assert sum(kernel.weights for kernel in narrow.kernels) < 0.5 * sum(kernel.weights for kernel in plain.kernels)
        binary = [kernel.weight_bits for kernel in task.versions[gecko.TWIN].architecture.kernels if kernel.weights]
        assert set(binary[1:-1]) == {1}
        keys = {name: candidate.key for name, candidate in task.versions.items()}
        assert keys.pop(gecko.LARGER) == keys[gecko.TWIN]  # they differ in their teacher
        assert len(set(keys.values())) == len(keys)


def test_a_defence_is_held_to_the_float_training_that_leaks_least_at_its_error(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gecko = importlib.import_module("gecko")
    near = np.array([0.0, 0.001, 0.002])
    figures = {"float": (0.4, 0.9), "float, shorter": (0.5, 0.7), "float, shortest": (0.7, 0.55)}
    figures |= {"phase I": (0.6, 0.8), "good": (0.6, 0.65), "sure": (0.3, 0.95)}
    found = {name: {"error": error + near, "auc": auc - 2 * near} for name, (error, auc) in figures.items()}
    plainly = ["float", "float, shorter", "float, shortest"]
    assert gecko.against_float(found, "phase I", plainly).startswith("not reproduced: -0.100")
    assert gecko.against_float(found, "phase I", plainly).endswith("to float, shorter")
    assert gecko.against_float(found, "good", plainly).startswith("reproduced: +0.050")
    assert gecko.against_float(found, "sure", plainly) == "no float training here errs as seldom"
    won_back = importlib.import_module("versions").won_back
    assert won_back(found["float, shorter"], found["phase I"], found["float"]).startswith("met: 50 % of 0.200")
    assert won_back(found["good"], found["phase I"], found["float"]).startswith("not met: 0 %")
    none_lost = won_back(found["good"], found["phase I"], found["float, shortest"])
    assert none_lost.startswith("nothing to win back")


@pytest.mark.usefixtures("shared_data")
def test_searches_over_defences_are_compared_seed_by_seed_and_their_teachers_counted(run, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    compared = importlib.import_module("defence_search")
    monkeypatch.setattr(compared, "CACHE", tmp_path / "kept")
    quick = {"space": "mlp", "dataset": "digits", "members": 240, "references": 4, "objectives": ["error", "leakage"]}
    monkeypatch.setattr(compared, "task", lambda _data: quick)
    monkeypatch.setattr(compared, "EPOCHS", 30)
    found = run("defence_search", "--short")
    rows = {row["defences"]: row for row in found["rows"]}
    assert rows.keys() == {"all", "none", "gecko", "relaxloss"}
    for row in rows.values():
        assert 0 < row["lowest"] <= row["hypervolume"] <= row["highest"] < 1
    assert rows["none"]["trainings_per_candidate"] == 1
    assert rows["gecko"]["trainings_per_candidate"] == pytest.approx(7 / 6)  # six, and one teacher for all
    for name in ("none", "gecko", "relaxloss"):
        assert rows[name]["all_is_larger_in_seeds"] == int(rows["all"]["hypervolume"] > rows[name]["hypervolume"])
    again = run("defence_search", "--short")
    assert again["rows"] == found["rows"]


@pytest.fixture
def nni_strategies(monkeypatch):
    if importlib.util.find_spec("nni") is None:
        pytest.skip("the extra [nni] is not installed")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("nni_strategies")


SLOPE = {"x": IntDistribution(0, 19), "y": CategoricalDistribution(["a", "b", "c"]), "z": FloatDistribution(0.0, 1.0)}


def slope(params):
    return params["x"] + {"a": 0, "b": 5, "c": 10}[params["y"]] + params["z"]


@pytest.mark.parametrize(
    ("name", "owner", "method"),
    [
        ("regularised evolution", "nni.nas.strategy.RegularizedEvolution", "new_individual"),
        ("random", "nni.nas.strategy.Random", "random"),
        ("tpe", "nni.algorithms.hpo.tpe_tuner.TpeTuner", "generate_parameters"),
    ],
)
def test_points_of_a_strategy_come_from_nnis_own_code(nni_strategies, monkeypatch, name, owner, method):
    module, _, cls = owner.rpartition(".")
    made = getattr(nni_strategies.imported(module), cls)
    asked = []
    real = getattr(made, method)
    monkeypatch.setattr(made, method, lambda *args, **kwargs: (asked.append(1), real(*args, **kwargs))[1])
    small = {"population": 10, "tournament": 5} if name == "regularised evolution" else {}
    strategy = {**nni_strategies.STRATEGIES, "regularised evolution": nni_strategies.regularised_evolution}[name]
    seen = []
    tried = strategy(SLOPE, lambda params: (seen.append(dict(params)), slope(params))[1], 40, 3, **small)
    assert [one.params for one in tried] == seen
    assert [one.value for one in tried] == [slope(params) for params in seen]
    assert len(tried) == 40
    assert len(asked) >= (30 if small else 40)
    for params in seen:
        check_point(SLOPE, params, "the slope")
    again = strategy(SLOPE, slope, 40, 3, **small)
    assert again == tried
    assert strategy(SLOPE, slope, 40, 4, **small) != tried


@pytest.mark.parametrize("name", ["regularised evolution, population 20", "tpe"])
def test_strategies_that_learn_go_down(nni_strategies, name):
    found = [nni_strategies.STRATEGIES[name](SLOPE, slope, 120, seed) for seed in range(5)]
    at_first = np.mean([one.value for tried in found for one in tried[:20]])
    at_last = np.mean([one.value for tried in found for one in tried[-20:]])
    assert at_last < at_first - 4  # told the wrong sign, they climb


@pytest.mark.parametrize("name", ["regularised evolution, population 20", "tpe", "random"])
def test_a_point_without_a_number_is_looked_at_and_not_learnt_from(nni_strategies, name):
    tried = nni_strategies.STRATEGIES[name](SLOPE, lambda p: None if p["y"] == "a" else slope(p), 60, 0)
    assert len(tried) == 60
    assert {one.value is None for one in tried if one.params["y"] == "a"} == {True}
    assert any(one.value is not None for one in tried)


@pytest.mark.usefixtures("shared_data")
def test_nnis_strategies_come_nearer_to_the_front_with_more_networks(nni_strategies, run, monkeypatch):
    monkeypatch.setattr(nni_strategies, "BUDGETS", (5, 25))
    found = run("nni_strategies", short=True)
    shares = {(row["strategy"], row["networks"]): row["share"] for row in found["rows"]}
    assert len(shares) == 8
    for strategy in nni_strategies.STRATEGIES:
        assert 0 < shares[strategy, 5] <= shares[strategy, 25] < 1


def test_without_nni_its_strategies_are_refused_in_one_line(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    strategies = importlib.import_module("nni_strategies")
    monkeypatch.setattr("nas.nni.check._version", lambda _: None)
    for strategy in strategies.STRATEGIES.values():
        with pytest.raises(ValueError, match="expected NNI for NNI's strategies; it is not installed"):
            strategy(SLOPE, slope, 1, 0)


@pytest.fixture
def postgresql_server(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    if not importlib.import_module("postgresql").is_installed():
        pytest.skip("PostgreSQL or its driver is not installed")


@pytest.mark.usefixtures("postgresql_server")
def test_faults_cost_a_search_on_a_database_no_result(run):
    found = run("faults", short=True, only=("processes killed", "server restarted", "machine stopped"))
    for row in found["rows"]:
        told = [row[name] for name in ("asked", "finished", "rejected", "lost", "told_twice", "ended")]
        assert told == [12, 12, 0, 0, 0, True], row
    assert found["rows"][-1]["begun_again"] >= 1  # the stopped machine lost its trial


@pytest.mark.usefixtures("postgresql_server")
def test_workers_share_a_database_and_time_per_trial_is_measured_as_a_study_grows(run):
    rows = run("scale", short=True)["rows"]
    fed = [row for row in rows if row["what"] == "workers"]
    assert [(row["workers"], row["trials"]) for row in fed] == [(1, 2), (2, 4)]
    assert fed[0]["share"] == 1
    grown = [(row["storage"], row["sampler"], row["trials"]) for row in rows if row["what"] == "growth"]
    assert grown == [(s, m, n) for s in ("journal", "postgresql") for n in (12, 60) for m in ("random", "tpe")]
    assert all(row["open_s"] > 0 for row in rows if row["what"] == "growth")


def test_samplers_are_compared_on_real_trainings_at_equal_seconds(run, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    compared = importlib.import_module("search_training")
    monkeypatch.setattr(compared, "CACHE", tmp_path / "kept")
    quick = {
        "space": "mlp",
        "dataset": "digits",
        "members": 240,
        "references": 4,
        "trials": 4,
        "recipe": {"epochs": 18},
    }
    monkeypatch.setattr(compared, "TASKS", {"digits": quick})
    monkeypatch.setattr(compared, "SHORT_SEARCHES", ("random", f"tpe{compared.RUNGS}"))
    rows = run("search_training", "--short")["rows"]
    by_name = {name: [row for row in rows if row["search"] == name] for name in compared.SHORT_SEARCHES}
    for of_name in by_name.values():
        volumes = [row["hypervolume"] for row in of_name]
        assert [row["share"] for row in of_name] == list(compared.SHARES)
        assert volumes == sorted(volumes)
        assert of_name[-1]["cpu_seconds"] > 0
        assert [row["trainings"] for row in of_name] == [0.5, 1, 2, 4]
        after = [row["after_trainings"] for row in of_name]
        assert (after[0], after) == (0, sorted(after))
    assert (by_name["random"][-1]["trained"], by_name["random"][-1]["stopped"]) == (4, 0)
    assert by_name[f"tpe{compared.RUNGS}"][-1]["trained"] >= 1


def test_a_quarter_of_the_seconds_is_compared_with_all_of_the_best_other(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    compared = importlib.import_module("search_training")
    volumes = dict.fromkeys(compared.SEARCHES, (0.1, 0.2, 0.3, 0.4)) | {"tpe": (0.2, 0.4, 0.5, 0.6)}
    volumes |= {compared.OURS: (0.3, 0.6, 0.7, 0.8), f"tpe{compared.RUNGS}": (0.9, 0.9, 0.9, 0.9)}
    rows = [
        {"search": name, "share": share, "hypervolume": volume}
        for name, of_name in volumes.items()
        for share, volume in zip(compared.SHARES, of_name, strict=True)
    ]
    told = compared.verdict(rows)
    assert told[compared.OURS].startswith("met: what the best other reaches with all seconds (0.600)")
    assert told[f"{compared.OURS}{compared.RUNGS}"].startswith("not met")


def test_members_of_two_samplers_fronts_are_audited_side_by_side(run, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    audits, compared = importlib.import_module("front_audits"), importlib.import_module("search_training")
    quick = {"space": "mlp", "dataset": "digits", "members": 240, "references": 4, "recipe": {"epochs": 18}}
    for module in (audits, compared):
        monkeypatch.setattr(module, "TASKS", {"digits": quick})
        monkeypatch.setattr(module, "CACHE", tmp_path / "kept")
    monkeypatch.setitem(audits.EFFORTS, "standard", 4)
    monkeypatch.setattr("nas.base.processes.cores", lambda: 1)
    monkeypatch.setattr(audits, "SAMPLERS", ("tpe", "random"))
    rows = run("front_audits", "--short")["rows"]
    assert [(row["sampler"], row["seed"]) for row in rows] == [("tpe", 0), ("random", 0)]
    for row in rows:
        assert 1 <= row["audited_members"] <= min(2, row["on_front"])
        assert row["too_low"] == pytest.approx(row["audited_auc"] - row["search_auc"])
        assert row["too_low"] <= row["largest_too_low"]


def test_a_front_paid_for_by_the_estimate_is_called_so(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    audits = importlib.import_module("front_audits")

    def told(ours):
        found = {"tpe": (0.01, 0.02, 0.03), audits.OURS: ours}
        rows = [{"sampler": name, "too_low": low} for name, lows in found.items() for low in lows]
        return audits.verdict(rows)["difference"]

    assert told((0.01, 0.02, 0.04)).startswith("not paid for: +0.003")
    assert told((0.11, 0.12, 0.13)).startswith("paid for by the estimate: +0.100")


def test_members_are_spread_over_a_front(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    audits = importlib.import_module("front_audits")
    made = [optuna.create_trial(values=[0.0], user_attrs={"error": error}) for error in (0.5, 0.1, 0.4, 0.2, 0.3)]
    errors = lambda count: [trial.user_attrs["error"] for trial in audits.spread(made, count)]
    assert errors(3) == [0.1, 0.3, 0.5]
    assert errors(9) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_inherited_weights_are_compared_with_fresh_ones_of_as_many_epochs(run):
    rows = {row["number"]: row for row in run("inherit", "--short")["rows"]}
    assert {"error", "cpu_seconds", "AUC lira_fitted", "AUC rmia", "AUC loss", "AUC gap"} < rows.keys()
    epochs = rows["epochs seen"]
    assert epochs["candidates"] >= 2
    assert epochs["inherited"] == epochs["fresh, as many epochs"] > epochs["fresh"] == 4
    assert rows["cpu_seconds"]["inherited"] > 0
    for row in rows.values():
        assert row["above fresh"] == pytest.approx(row["inherited"] - row["fresh"])
    assert rows["error"]["inherited"] != rows["error"]["fresh"]


def test_a_super_network_is_compared_with_trainings_of_their_own_and_what_is_kept_is_not_done_again(
    run, monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("supernet")
    monkeypatch.setattr(benchmark, "CACHE", tmp_path / "kept")
    rows = run("supernet", "--short")["rows"]
    assert {(row["task"], row["measure"]) for row in rows} == {("digits", "error"), ("digits", "leakage")}
    assert [row["predictor"] for row in rows[:4]] == ["super-network", "weights", "macs", "another training"]
    for row in rows:
        assert row["networks"] == benchmark.SHORT_NETWORKS
        assert -1 <= row["low"] <= row["tau"] <= row["high"] <= 1
        assert min(row["supernet_seconds"], row["training_seconds"], row["screened_per_second"]) > 0
    monkeypatch.setattr(benchmark, "work", lambda shared, item: pytest.fail(f"{item} is kept"))
    assert run("supernet", "--short")["rows"] == rows


def test_the_interval_of_a_rank_correlation_is_over_the_networks_of_each_seed(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("supernet")
    up, down = np.arange(9.0), -np.arange(9.0)
    assert benchmark.tau_of([(up, up), (up, up)]) == pytest.approx((1.0, 1.0, 1.0))
    assert benchmark.tau_of([(up, up), (up, down)])[0] == 0.0
    tau, low, high = benchmark.tau_of([(up, np.array([1, 0, 3, 2, 5, 4, 7, 6, 8.0]))])
    assert tau == pytest.approx(1 - 2 * 4 / 36)
    assert -1 < low < tau < high <= 1
