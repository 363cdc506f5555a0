import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import NSGAIISampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from estimators.estimate import Estimate
from estimators.leakage.statistics.between_trainings import Spread
from nas.base import memory
from nas.base.clock import Clock
from nas.base.plugins import TRUSTED
from nas.pricing.price import cost_metrics
from nas.runs.progress import count
from nas.search import claims
from nas.search import sampling
from nas.search import study as search
from nas.search.bench import evaluate
from nas.search.bench import make_bench
from nas.search.ledger import Ledger
from nas.search.schema import BETWEEN
from nas.search.schema import baselines_of
from nas.search.schema import limits_of
from nas.search.schema import memory_of
from nas.search.schema import spreads_in
from nas.search.storage import JOURNAL
from nas.search.storage import here
from nas.search.storage import lock_folder
from nas.search.storage import open_study
from nas.search.storage import weights_path
from nas.spaces import sample
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.baselines import error_ceiling
from nas.training.between import spreads_of
from nas.training.loop import Diverged
from nas.training.measures import MEASURED
from tests.small_search import NO_BENCH
from tests.small_search import elsewhere
from tests.small_search import evaluated
from tests.small_search import measures_of
from tests.small_search import planned
from tests.small_search import record_of
from tests.small_search import run_here
from tests.small_search import tiny_space
from tests.small_search import with_settings
from tests.small_search import without_training

PATIENCE = 240


@pytest.fixture(autouse=True)
def _locks_of_databases_here(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def mlp_plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def plan(mlp_plan, tmp_path):
    return elsewhere(mlp_plan, tmp_path / "run")


@pytest.fixture
def three(tmp_path, monkeypatch):
    """A search of a space of three networks, trained by one recipe."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUSTED, "tiny_spaces.three")
    recipe = {
        "epochs": 2,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "dropout": 0.0,
        "label_smoothing": 0.0,
    }
    return planned(tmp_path / "runs", space=tiny_space(tmp_path), recipe=recipe, defences=["none"], trials=10)


def states(study):
    return Counter(trial.state.name for trial in study.get_trials())


def complete(study):
    return study.get_trials(states=(TrialState.COMPLETE,))


# What is recorded


def test_a_search_trains_as_many_as_asked_and_records_every_number(plan):
    study = run_here(plan)
    trained = complete(study)
    assert len(trained) == plan.config.trials
    costs = set(cost_metrics(plan.device))
    for trial in trained:
        candidate = plan.candidate(trial.params)
        assert trial.user_attrs["key"] == candidate.key
        assert trial.user_attrs["host"] == here(None)
        names = {name for name in trial.user_attrs if not name.endswith(("_low", "_high"))}
        by_class = {f"class_error_{name}" for name in plan.data.members.classes}
        marks = {"never_predicted", "latency_ms_extrapolated", "energy_mj_extrapolated"}
        assert names - marks == {"key", "host", "weights_sha256", *costs, *MEASURED, *by_class}
        priced = plan.prices(candidate.architecture)
        for name in costs:
            assert trial.user_attrs[name] == priced[name].value
        for name in ("error", "leakage", "tpr_at_1pct_fpr", "loss_auc", "accuracy_gap", "latency_ms"):
            low, high = trial.user_attrs[f"{name}_low"], trial.user_attrs[f"{name}_high"]
            assert low <= trial.user_attrs[name] <= high
            assert low < high
        assert "macs_low" not in trial.user_attrs  # counted, not estimated
        assert trial.values == [trial.user_attrs[name] for name in plan.config.objectives]
        assert trial.constraints.keys() == {"peak_ram_kib", "flash_kib"}
        assert max(trial.constraints.values()) < 0
        assert weights_path(plan.folder, candidate.key).exists()
    assert len({trial.user_attrs["key"] for trial in trained}) == len(trained)
    assert study.metric_names == list(plan.config.objectives)
    assert set(study.directions) == {optuna.study.StudyDirection.MINIMIZE}


def learned(monkeypatch, **spreads):
    """Let the bench know spreads, and nothing be trained; returns the benches that candidates were measured with."""
    benches = []

    def evaluate(_plan, bench, candidate):
        benches.append(bench)
        return evaluated(candidate.key)

    monkeypatch.setattr("nas.search.study.make_bench", lambda plan: Bench(None, None, None, {}, 0, spreads=spreads))
    monkeypatch.setattr("nas.search.study.evaluate", evaluate)
    return benches


SPREADS = dict.fromkeys(("error", "leakage", "loss_auc", "accuracy_gap"), Spread(0.5, 0.01, 4))


def test_a_study_says_how_far_trainings_lie_apart(plan, monkeypatch):
    benches = learned(monkeypatch, **SPREADS)
    study = run_here(with_settings(plan, trials=1))
    assert study.user_attrs[BETWEEN]["leakage"] == {"share": 0.5, "sd": 0.01, "pairs": 4}
    assert spreads_in(study.user_attrs) == SPREADS
    assert spreads_in(run_here(with_settings(plan, trials=2)).user_attrs) == SPREADS
    assert [bench.spreads for bench in benches] == [SPREADS, SPREADS]


def test_a_study_of_an_earlier_version_keeps_to_the_intervals_it_has(plan, monkeypatch):
    learned(monkeypatch)
    assert BETWEEN not in run_here(with_settings(plan, trials=1)).user_attrs
    benches = learned(monkeypatch, **SPREADS)
    study = run_here(with_settings(plan, trials=2))
    assert (BETWEEN in study.user_attrs, [bench.spreads for bench in benches]) == (False, [{}])
    assert spreads_in(study.user_attrs) == {}


def test_a_bank_of_four_is_learned_from_and_widens_what_is_recorded(plan):
    plan = with_settings(plan, trials=1, references=4)
    study = run_here(plan)
    bench, (trial,) = make_bench(plan), complete(study)
    assert spreads_in(study.user_attrs) == bench.spreads == spreads_of(bench.bank, plan.attack)
    assert bench.spreads["leakage"].pairs == 2
    alone = assess(plan.candidate(trial.params), dataclasses.replace(bench, spreads={})).measures
    for name in ("error", "leakage", "loss_auc", "accuracy_gap", "balanced_error"):
        width = trial.user_attrs[f"{name}_high"] - trial.user_attrs[f"{name}_low"]
        assert trial.user_attrs[name] == alone[name].value
        assert width > alone[name].high - alone[name].low


def test_what_the_study_holds_is_what_assess_gives(plan):
    study = run_here(with_settings(plan, trials=1))
    (trial,) = complete(study)
    bench = make_bench(plan)
    measures = assess(plan.candidate(trial.params), bench).measures
    for name, estimate in measures.items():
        assert trial.user_attrs[name] == pytest.approx(estimate.value)
        assert trial.user_attrs.get(f"{name}_low", estimate.value) == pytest.approx(estimate.low)
        assert trial.user_attrs.get(f"{name}_high", estimate.value) == pytest.approx(estimate.high)


def test_optuna_opens_what_a_search_left(plan, monkeypatch):
    without_training(monkeypatch)
    run_here(plan)
    storage = JournalStorage(JournalFileBackend(str(plan.folder / JOURNAL)))
    study = optuna.load_study(study_name="small", storage=storage)
    assert study.metric_names == ["error", "leakage", "latency_ms"]
    assert len(study.best_trials) >= 1
    assert study.best_trials[0].user_attrs["leakage_low"] == 0.0
    assert study.best_trials[0].user_attrs["leakage_high"] == 1.0


def test_other_objectives_are_recorded_in_their_order(plan, monkeypatch):
    without_training(monkeypatch)
    objectives = ("macs", "error")
    study = run_here(with_settings(plan, objectives=objectives, trials=2))
    assert study.metric_names == list(objectives)
    for trial in complete(study):
        assert trial.values == [trial.user_attrs["macs"], measures_of(trial.user_attrs["key"])["error"].value]


# Budgets


def median_cost(plan, name):
    rng = np.random.default_rng(0)
    points = [plan.prices(plan.space.describe(sample(plan.space.distributions, rng))) for _ in range(50)]
    return float(np.median([estimates[name].value for estimates in points]))


def test_a_trained_trial_has_exactly_the_constraints_of_the_budgets(plan, monkeypatch):
    without_training(monkeypatch)
    budgets = {"flash_kib": median_cost(plan, "flash_kib"), "leakage": 0.6, "macs": 1e9}
    study = run_here(with_settings(plan, budgets=budgets, trials=8))
    trained = complete(study)
    assert len(trained) == 8
    for trial in trained:
        limits = {**budgets, "peak_ram_kib": 1024.0}  # what the device has
        excess = {name: trial.user_attrs[name] / limit - 1 for name, limit in limits.items()}
        assert trial.constraints == pytest.approx(excess)
        assert trial.constraints["flash_kib"] <= 0
    infeasible = {trial.number for trial in trained if trial.user_attrs["leakage"] > 0.6}
    assert infeasible
    assert not infeasible & {trial.number for trial in study.best_trials}


def test_what_is_over_budget_is_pruned_with_its_costs_and_the_reason(plan, monkeypatch):
    asked = without_training(monkeypatch)
    limit = median_cost(plan, "flash_kib")
    study = run_here(with_settings(plan, budgets={"flash_kib": limit}, trials=8))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert pruned
    for trial in pruned:
        flash_kib = trial.user_attrs["flash_kib"]
        assert flash_kib > limit
        assert trial.user_attrs["rejected"] == f"over a limit: flash_kib {flash_kib:.4g} > {limit:.4g}"
        assert trial.values is None
        assert trial.constraints["flash_kib"] == pytest.approx(flash_kib / limit - 1)
        assert trial.constraints["peak_ram_kib"] < 0
        assert not set(MEASURED) & set(trial.user_attrs)
        assert trial.user_attrs["key"] not in asked
    assert states(study) == {"COMPLETE": 8, "PRUNED": len(pruned)}


def test_what_exceeds_the_devices_memory_is_not_trained_and_the_reason_is_said(plan, tmp_path, monkeypatch):
    asked = without_training(monkeypatch)
    small = dataclasses.replace(plan.device, name="small", flash_kib=median_cost(plan, "flash_kib"))
    study = run_here(dataclasses.replace(plan, device=small))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert pruned
    assert len(asked) == plan.config.trials
    for trial in pruned:
        assert trial.user_attrs["flash_kib"] > small.flash_kib
        assert trial.user_attrs["rejected"].endswith(f" (small has {small.flash_kib:,.10g} KiB of flash)")
        assert trial.constraints["flash_kib"] > 0
    beyond = with_settings(elsewhere(dataclasses.replace(plan, device=small), tmp_path / "b"), device_limits=False)
    study = run_here(beyond)
    assert states(study) == {"COMPLETE": plan.config.trials}
    assert all(trial.constraints == {} for trial in study.get_trials())
    assert limits_of(study.user_attrs) == ()
    assert [limit.value for limit in memory_of(study.user_attrs)] == [1024.0, small.flash_kib]


def test_what_errs_more_than_the_ceiling_is_trained_counted_and_no_failure(plan, monkeypatch):
    without_training(monkeypatch)
    study = run_here(with_settings(plan, error_ceiling=True, trials=8))
    (ceiling,) = [limit for limit in limits_of(study.user_attrs) if limit.metric == "error"]
    assert ceiling == error_ceiling(baselines_of(study.user_attrs))
    assert states(study) == {"COMPLETE": 8}
    for trial in study.get_trials():
        assert trial.constraints["error"] == pytest.approx(trial.user_attrs["error"] / ceiling.value - 1)
    useful = {trial.number for trial in study.get_trials() if trial.user_attrs["error"] <= ceiling.value}
    assert 0 < len(useful) < 8
    assert {trial.number for trial in study.best_trials} <= useful


def test_a_budget_on_the_error_takes_the_place_of_the_ceiling(plan, monkeypatch):
    without_training(monkeypatch)
    study = open_study(with_settings(plan, error_ceiling=True, budgets={"error": 0.9}))
    assert [(limit.kind, limit.value) for limit in limits_of(study.user_attrs) if limit.metric == "error"] == [
        ("budget", 0.9)
    ]


def test_a_study_goes_on_with_the_limits_it_was_started_with(plan, monkeypatch):
    without_training(monkeypatch)
    open_study(with_settings(plan, trials=1))
    monkeypatch.setattr("nas.search.storage.train_baselines", None)  # they are not trained again
    study = run_here(with_settings(plan, trials=3))
    assert states(study) == {"COMPLETE": 3}
    with pytest.raises(ValueError, match="error_ceiling: was False, now True"):
        open_study(with_settings(plan, error_ceiling=True))


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_keep_to_the_ceiling(plan, monkeypatch, sampler):
    """The first layer's width decides the made-up error, and wide ones cost more: without a limit narrow ones win."""

    def evaluate(_plan, _bench, candidate):
        wide = candidate.architecture.kernels[0].channels
        return evaluated(candidate.key, error=Estimate.exact(1 - wide / 256))

    monkeypatch.setattr("nas.search.study.make_bench", lambda plan: NO_BENCH)
    monkeypatch.setattr("nas.search.study.evaluate", evaluate)
    plan = with_settings(plan, objectives=("params",), trials=60, sampler=sampler, error_ceiling=True)
    late = [trial.params["layer1_width"] for trial in complete(run_here(plan))[30:]]
    assert np.mean([width == 256 for width in late]) > 0.4  # the ceiling is below 0.5; one in five by chance


def test_a_value_at_the_limit_is_within_the_budget(three, monkeypatch):
    without_training(monkeypatch)
    largest = three.prices(three.space.decode({"width": 24}))["params"].value
    study = run_here(with_settings(three, budgets={"params": largest}, trials=3))
    assert states(study)["COMPLETE"] == 3
    assert not [trial for trial in study.get_trials() if trial.user_attrs.get("rejected", "").startswith("over")]


# Duplicates, and spaces that end


def test_a_small_space_ends(three, monkeypatch):
    monkeypatch.setattr(search, "REFUSALS_IN_A_ROW", 15)
    asked = without_training(monkeypatch)
    study = run_here(three)
    trained = complete(study)
    assert sorted(trial.params["width"] for trial in trained) == [8, 16, 24]
    assert sorted(asked) == sorted(trial.user_attrs["key"] for trial in trained)
    first = {trial.user_attrs["key"]: trial.number for trial in trained}
    duplicates = study.get_trials(states=(TrialState.PRUNED,))
    assert len(duplicates) >= 15
    for trial in duplicates:
        assert trial.user_attrs["rejected"] == f"duplicate of trial {first[trial.user_attrs['key']]}"
        assert trial.number > first[trial.user_attrs["key"]]
        assert trial.values is None
    assert states(study).keys() == {"COMPLETE", "PRUNED"}


def test_one_network_from_two_points_is_a_duplicate(plan, monkeypatch):
    without_training(monkeypatch)
    study = open_study(plan)
    point = {**plan.space.reference, "epochs": 2, "learning_rate": 0.002, "weight_decay": 1e-4, "defence": "none"}
    point |= {"dropout": 0.1, "label_smoothing": 0.1}
    for width in (16, 256):  # of a layer that is not there
        study.enqueue_trial({**point, "layer4_width": width})
    study = run_here(plan)
    first, second = study.get_trials()[:2]
    assert first.state == TrialState.COMPLETE
    assert (first.params["layer4_width"], second.params["layer4_width"]) == (16, 256)
    assert second.state == TrialState.PRUNED
    assert second.user_attrs["rejected"] == "duplicate of trial 0"
    assert states(study)["COMPLETE"] == plan.config.trials


# Seeds


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_the_seed_decides_the_study(plan, tmp_path, monkeypatch, sampler):
    without_training(monkeypatch)
    same = with_settings(plan, sampler=sampler, trials=14)
    records = [record_of(run_here(elsewhere(same, tmp_path / name))) for name in ("one", "two")]
    assert records[0] == records[1]
    other = with_settings(same, seed=1)
    assert record_of(run_here(elsewhere(other, tmp_path / "three"))) != records[0]
    assert len({str(trial["params"]) for trial in records[0]}) == len(records[0])  # each trial samples anew


def test_trained_numbers_repeat_too(plan, tmp_path):
    records = [record_of(run_here(elsewhere(plan, tmp_path / name / "run"))) for name in ("one", "two")]
    assert records[0] == records[1]


def test_parameters_are_not_sampled_from_one_random_number(plan, monkeypatch):
    without_training(monkeypatch)
    study = run_here(with_settings(plan, sampler="random", trials=30))
    widths = [(trial.params["layer1_width"], trial.params["layer2_width"]) for trial in study.get_trials()]
    assert len({first for first, _ in widths}) == 5
    assert len(set(widths)) > 12


def test_samplers_learn_from_what_was_trained(plan, monkeypatch):
    """TPE finds the wide first layers that a made-up error rewards, in one process that runs for long."""

    def evaluate(_plan, _bench, candidate):
        wide = candidate.architecture.kernels[0].channels
        return evaluated(candidate.key, error=Estimate.exact(1 - wide / 256))

    monkeypatch.setattr("nas.search.study.make_bench", lambda plan: NO_BENCH)
    monkeypatch.setattr("nas.search.study.evaluate", evaluate)
    study = run_here(with_settings(plan, objectives=("error",), trials=40))
    late = [trial.params["layer1_width"] for trial in study.get_trials()[20:]]
    assert np.mean([width == 256 for width in late]) > 0.4  # one in five by chance


def test_samplers_learn_from_what_other_processes_trained_meanwhile(plan, monkeypatch):
    without_training(monkeypatch)
    plan = with_settings(plan, trials=16)
    study = open_study(plan)
    held = search.propose(plan, study)  # and tell nothing, as a tuner with several trials under way
    assert held.trial.relative_params == {}  # nothing to learn from yet
    run_here(with_settings(plan, trials=14))
    assert search.propose(plan, study).trial.relative_params.keys() == plan.distributions.keys()


def test_samplers_are_what_the_settings_say(plan):
    study = open_study(with_settings(plan, sampler="nsga2"))
    trial = study.ask()
    assert isinstance(sampling.sampler_of(with_settings(plan, sampler="nsga2"), study, trial)(), NSGAIISampler)


# Trainings that end badly


def failing_first(monkeypatch, error, times=1):
    """Let the first trainings raise; returns the keys in the order in which they were asked for."""
    asked = []

    def evaluate(_plan, _bench, candidate):
        asked.append(candidate.key)
        if len(asked) <= times:
            raise error
        return evaluated(candidate.key)

    monkeypatch.setattr("nas.search.study.make_bench", lambda plan: NO_BENCH)
    monkeypatch.setattr("nas.search.study.evaluate", evaluate)
    return asked


def test_trainings_that_diverge_are_pruned_and_the_search_goes_on(plan, monkeypatch):
    failing_first(monkeypatch, Diverged("the loss became nan in epoch 1 of 2"), times=2)
    study = run_here(plan)
    for trial in study.get_trials()[:2]:
        assert trial.state == TrialState.PRUNED
        assert trial.user_attrs["rejected"] == "diverged: the loss became nan in epoch 1 of 2"
        assert trial.values is None
        assert not set(MEASURED) & set(trial.user_attrs)
    assert states(study) == {"PRUNED": 2, "COMPLETE": plan.config.trials}


def test_a_real_divergence_is_pruned(plan):
    recipe = plan.config.recipe.model_copy(update={"epochs": 1, "learning_rate": 3e38, "optimizer": "sgd"})
    study = open_study(plan)
    proposal = search.propose(plan, study)
    bench = make_bench(plan)
    candidate = Candidate(proposal.candidate.architecture, recipe.middle())
    with pytest.raises(Diverged):
        evaluate(plan, bench, candidate)
    assert not weights_path(plan.folder, candidate.key).exists()


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), ValueError("a bug too")], ids=repr)
def test_a_crash_is_raised_and_does_not_block_the_search(plan, monkeypatch, error):
    asked = failing_first(monkeypatch, error)
    with pytest.raises(RuntimeError, match="training of trial 0 failed: a bug") as raised:
        run_here(plan)
    assert raised.value.__cause__ is error
    (trial,) = open_study(plan).get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["failed"] == f"{type(error).__name__}: {error}"
    assert trial.user_attrs["key"] == asked[0]
    study = run_here(plan)
    assert states(study) == {"FAIL": 1, "COMPLETE": plan.config.trials}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_what_is_not_the_candidates_doing_leaves_its_trial_to_be_taken_up(plan, tmp_path, monkeypatch, error):
    uninterrupted = elsewhere(plan, tmp_path / "uninterrupted")
    asked = failing_first(monkeypatch, error)
    with pytest.raises(type(error)):
        run_here(plan)
    assert states(open_study(plan)) == {"RUNNING": 1}
    study = run_here(plan)
    assert asked[1] == asked[0]
    without_training(monkeypatch)
    assert record_of(study) == record_of(run_here(uninterrupted))


SHORTAGES = [
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((10**6, 10**6), np.dtype("float32")),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: not enough memory: you tried ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_a_training_without_memory_is_done_again_and_the_search_ends_as_if_there_had_been_enough(
    plan, tmp_path, monkeypatch, error
):
    asked = failing_first(monkeypatch, error)
    study = run_here(plan)
    assert asked[1] == asked[0]
    assert study.get_trials()[0].user_attrs["broken_off"] == [f"out of memory: {memory.reason(error)}"]
    with_enough = elsewhere(plan, tmp_path / "enough")
    without_training(monkeypatch)
    assert without_tries(record_of(study)) == record_of(run_here(with_enough))


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_a_candidate_that_got_no_memory_twice_is_rejected_with_the_reason_and_the_search_goes_on(
    plan, monkeypatch, error
):
    asked = failing_first(monkeypatch, error, times=2)
    study = run_here(plan)
    assert asked[1] == asked[0] != asked[2]
    first = study.get_trials()[0]
    assert first.state == TrialState.PRUNED
    assert first.user_attrs["rejected"] == f"out of memory twice: {memory.reason(error)}"
    assert "\n" not in first.user_attrs["rejected"]
    assert first.values is None
    assert states(study) == {"PRUNED": 1, "COMPLETE": plan.config.trials}
    assert count(study.get_trials()).out_of_memory == 1
    assert {path.name for path in lock_folder(study, None, plan.folder).iterdir()} <= {"claim.lock", "journal.lock"}


def test_tries_are_counted_across_searches(plan, monkeypatch):
    """The one that met the first shortage is interrupted."""
    errors = iter([MemoryError(), KeyboardInterrupt(), MemoryError(), None])

    def evaluate(_plan, _bench, candidate):
        if error := next(errors, None):
            raise error
        return evaluated(candidate.key)

    monkeypatch.setattr("nas.search.study.make_bench", lambda plan: NO_BENCH)
    monkeypatch.setattr("nas.search.study.evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        run_here(plan)
    assert states(open_study(plan)) == {"RUNNING": 1}
    study = run_here(plan)
    assert study.get_trials()[0].user_attrs["rejected"] == "out of memory twice: MemoryError"
    assert states(study) == {"PRUNED": 1, "COMPLETE": plan.config.trials}


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory")
def test_a_real_shortage_of_memory_is_known_as_one():
    """What PyTorch, NumPy and Python raise where the system gives no more."""
    script = (
        "import resource, numpy, torch\n"
        "from nas.base.memory import is_shortage\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))\n"
        "for work in (lambda: torch.empty(1 << 41), lambda: numpy.ones(1 << 41), lambda: bytearray(1 << 41)):\n"
        "    try:\n"
        "        work()\n"
        "    except Exception as error:\n"
        "        print(is_shortage(error))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["True"] * 3


def without_tries(record):
    for trial in record:
        trial["user_attrs"] = {name: value for name, value in trial["user_attrs"].items() if name != "broken_off"}
    return record


# Kills: a killed search leaves a prefix of the journal that it would have written, and locks that nobody holds


@pytest.mark.parametrize(
    ("sampler", "trials", "step"),
    [("random", 2, 1), ("tpe", 13, 3), ("nsga2", 22, 7)],  # far enough for each sampler to have begun to learn
)
def test_a_search_killed_at_any_moment_ends_as_if_it_had_not_been(plan, tmp_path, monkeypatch, sampler, trials, step):
    limit = {"flash_kib": median_cost(plan, "flash_kib")}
    plan = with_settings(plan, sampler=sampler, trials=trials, budgets={**limit, "leakage": 0.6})
    asked = without_training(monkeypatch)
    whole = record_of(run_here(plan))
    assert {trial["state"] for trial in whole} == {"COMPLETE", "PRUNED"}
    lines = (plan.folder / JOURNAL).read_bytes().splitlines(keepends=True)
    last = len(lines) - 100 if trials > 2 else 0
    for cut in range(max(last, 0), len(lines), step):
        killed = elsewhere(plan, tmp_path / f"killed-{cut}")
        killed.folder.mkdir()
        torn = lines[cut][: len(lines[cut]) // 2] if cut % 2 else b""  # every other time in the middle of a write
        (killed.folder / JOURNAL).write_bytes(b"".join(lines[:cut]) + torn)
        done = b"".join(lines[:cut]).count(b'"state":1')
        asked.clear()
        study = run_here(killed)
        assert record_of(study) == whole, f"killed after line {cut} of {len(lines)}: {lines[cut]!r}"
        assert len(asked) == trials - done  # nothing finished is trained again


def test_a_search_may_be_killed_again_and_again(plan, tmp_path, monkeypatch):
    plan = with_settings(plan, trials=6)
    without_training(monkeypatch)
    whole = record_of(run_here(plan))
    killed = elsewhere(plan, tmp_path / "killed")
    killed.folder.mkdir()
    rng = np.random.default_rng(0)
    path = killed.folder / JOURNAL
    kept, kills = b"", 0
    while True:
        path.write_bytes(kept)
        study = run_here(killed)
        lines = path.read_bytes().splitlines(keepends=True)
        before = len(kept.splitlines())
        kills += 1
        if before + 30 >= len(lines):
            break
        kept = b"".join(lines[: before + int(rng.integers(5, 60))])
    assert kills > 4
    assert record_of(study) == whole


def test_more_trials_go_on_where_fewer_stopped(plan, tmp_path, monkeypatch):
    without_training(monkeypatch)
    whole = record_of(run_here(with_settings(elsewhere(plan, tmp_path / "whole"), trials=6)))
    run_here(with_settings(plan, trials=2))
    assert record_of(run_here(with_settings(plan, trials=6))) == whole


def test_a_finished_search_started_again_does_nothing(plan, monkeypatch):
    without_training(monkeypatch)
    first = record_of(run_here(plan))
    asked = without_training(monkeypatch)
    assert record_of(run_here(plan)) == first
    assert asked == []


# Several workers


def test_a_trial_held_by_a_live_process_is_left_to_it(plan, monkeypatch):
    without_training(monkeypatch)
    study = open_study(plan)
    held = search.propose(plan, study)
    other = search.propose(plan, study)
    assert (held.trial.number, other.trial.number) == (0, 1)
    other.hold.release()  # its process dies
    again = search.propose(plan, study)
    assert again.trial.number == 1
    assert again.candidate == other.candidate
    search.record(plan, study, held, evaluated(held.candidate.key))
    search.record(plan, study, again, evaluated(again.candidate.key))
    assert states(study) == {"COMPLETE": 2}


def test_trials_under_way_count(plan):
    study = open_study(plan)
    plan = with_settings(plan, trials=2)
    proposals = [search.propose(plan, study) for _ in range(3)]
    assert [proposal and proposal.trial.number for proposal in proposals] == [0, 1, None]
    search.reject(study, proposals[1], "diverged: the loss became nan")
    assert search.propose(plan, study).trial.number == 2  # in place of the one that gave nothing


def test_a_trial_of_another_machine_is_not_taken_up_from_a_database(plan, tmp_path):
    plan = with_settings(plan, storage=f"sqlite:///{tmp_path}/study.db", trials=3)
    study = open_study(plan)
    proposal = search.propose(plan, study)
    proposal.trial.set_user_attr("host", "nobody@elsewhere")
    proposal.hold.release()
    assert search.propose(plan, study).trial.number == 1


def test_a_trial_in_a_journal_is_taken_up_wherever_it_was_started(plan):
    # The locks lie beside the journal: a container that is started again has another name, and a free lock is free.
    study = open_study(plan)
    proposal = search.propose(plan, study)
    proposal.trial.set_user_attr("host", "root@1f2e3d4c5b6a")
    proposal.hold.release()
    assert search.propose(plan, study).trial.number == 0


def test_one_trial_too_many_by_another_machine_is_given_up(plan, tmp_path, monkeypatch):
    plan = with_settings(plan, storage=f"sqlite:///{tmp_path}/study.db", trials=2)
    study = open_study(plan)
    theirs = open_study(plan)
    ours = search.propose(plan, study)
    count, calls = Ledger.spoken_for, []

    def slow(ledger, before=None):
        calls.append(before)
        if len(calls) == 1:  # between our look and our trial another machine starts one
            counted = count(ledger, before)
            theirs.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"host": "x@elsewhere"}))
            return counted
        return count(ledger, before)

    monkeypatch.setattr(Ledger, "spoken_for", slow)
    assert search.propose(plan, study) is None
    trials = study.get_trials()
    assert ours.trial.number == 0
    assert [trial.state.name for trial in trials] == ["RUNNING", "RUNNING", "PRUNED"]
    assert trials[2].user_attrs["rejected"] == "enough candidates are under way"
    assert "key" not in trials[2].user_attrs


@pytest.fixture
def two_trials(plan, tmp_path):
    """A study of two running trials that have not said which candidate they are."""
    plan = with_settings(plan, storage=f"sqlite:///{tmp_path}/study.db")
    study = open_study(plan)
    for _ in range(2):
        study.ask()
    return study, study.get_trials()


def test_of_two_equal_candidates_the_earlier_trial_has_it(two_trials):
    study, (first, second) = two_trials
    trials = [optuna.trial.Trial(study, frozen._trial_id) for frozen in (first, second)]
    trials[1].set_user_attr("key", "same")
    waited = []

    def later():
        waited.append(claims.first_with_key(study, 1, "same"))

    thread = threading.Thread(target=later)
    thread.start()
    assert claims.first_with_key(study, 0, "same") is None  # the earlier one does not wait
    thread.join(timeout=0.3)
    assert thread.is_alive()  # the later one does
    trials[0].set_user_attr("key", "same")
    thread.join(timeout=PATIENCE)
    assert waited == [0]


def test_a_failed_trial_does_not_keep_its_candidate(two_trials):
    study, (first, second) = two_trials
    for frozen in (first, second):
        optuna.trial.Trial(study, frozen._trial_id).set_user_attr("key", "same")
    assert claims.first_with_key(study, 1, "same") == 0
    study.tell(first.number, state=TrialState.FAIL)
    assert claims.first_with_key(study, 1, "same") is None


def test_a_trial_that_never_says_is_waited_for_once(two_trials, monkeypatch):
    study, _ = two_trials
    monkeypatch.setattr(claims, "SECONDS_TO_NAME_A_CANDIDATE", 0.2)
    assert claims.first_with_key(study, 1, "same") is None
    monkeypatch.setattr("nas.search.claims.time.sleep", lambda seconds: pytest.fail("waited again"))
    assert claims.first_with_key(study, 1, "other") is None


COLLIDING = """
import json
import sys
from pathlib import Path
import optuna
from nas.search import study as search
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study
from tests.small_search import NO_BENCH, evaluated
optuna.logging.set_verbosity(optuna.logging.WARNING)
search.REFUSALS_IN_A_ROW = 40
search.make_bench = lambda plan: NO_BENCH
search.evaluate = lambda plan, bench, candidate: evaluated(candidate.key)
plan = resolve(parse_config(json.loads(sys.argv[1])), Path(sys.argv[2]))
study = open_study(plan)
print("ready", flush=True)
sys.stdin.readline()
search.work(plan, study)
"""


def test_processes_that_propose_the_same_candidates_at_once_train_each_once(three, tmp_path):
    config = json.dumps(three.config.model_dump(mode="json"))
    folders = [str(tmp_path), str(Path(__file__).parents[3])]
    command = [sys.executable, "-c", COLLIDING, config, str(three.folder.parent)]
    environment = {**os.environ, "PYTHONPATH": ":".join(folders), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.close()
    for worker in workers:
        assert worker.wait(timeout=PATIENCE) == 0
        worker.stdout.close()
    study = open_study(three)
    keys = [trial.user_attrs["key"] for trial in complete(study)]
    assert len(keys) == len(set(keys)) == 3
    assert states(study).keys() == {"COMPLETE", "PRUNED"}
    first = {trial.user_attrs["key"]: trial.number for trial in complete(study)}
    for trial in study.get_trials(states=(TrialState.PRUNED,)):
        assert trial.user_attrs["rejected"] == f"duplicate of trial {first[trial.user_attrs['key']]}"
    assert len({trial.number for trial in study.get_trials()}) >= 40


def test_locks_do_not_pile_up(plan, monkeypatch):
    without_training(monkeypatch)
    study = run_here(plan)
    left = {path.name for path in lock_folder(study, None, plan.folder).iterdir()}
    assert left <= {"claim.lock", "journal.lock"}


# Time


def test_time_is_kept_by_phase_for_each_trial(plan):
    run_here(plan)
    lines = [json.loads(line) for line in (plan.folder / "timings.jsonl").read_text().splitlines()]
    assert [line["trial"] for line in lines] == [0, 1, 2, 3, None]
    phases = {"sampling and screening", "teacher", "training", "attack", "saving", "storage"}
    assert set(lines[0]["seconds"]) == phases | {"bank", "start-up"}
    assert set(lines[1]["seconds"]) == phases
    assert all(seconds >= 0 for line in lines for seconds in line["seconds"].values())


def test_a_lap_gives_every_second_to_one_phase(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("nas.base.clock.time.perf_counter", lambda: now[0])
    clock = Clock({"start-up": 1.0})
    now[0] += 10
    clock.lap("saving", {"training": 7.0, "attack": 2.0})
    now[0] += 5
    clock.lap("saving")
    line = clock.line(3)
    assert line["trial"] == 3
    assert {k: v for k, v in line["seconds"].items() if k != "start-up"} == {
        "training": 7.0,
        "attack": 2.0,
        "saving": 6.0,
    }


# Candidates that a device has no rule for.


def test_a_candidate_that_the_device_cannot_run_is_rejected_with_the_reason(tmp_path):
    plan = planned(tmp_path, space="conv", device="raspi4", trials=3)
    study = open_study(plan)
    kept = []
    while len(kept) < 3:
        kept.append(search.propose(plan, study))
        search.reject(study, kept[-1], "enough")
    refused = [trial for trial in study.trials if "cannot run" in trial.user_attrs["rejected"]]
    assert refused
    for trial in refused:
        assert trial.state == TrialState.PRUNED
        assert trial.user_attrs["rejected"].startswith("cannot run on raspi4: no rule for the operator 'depthwise'")
        assert "latency_ms" not in trial.user_attrs
        assert trial.constraints == {"can_run": 1.0}
    kinds = {kernel.kind for proposal in kept for kernel in proposal.candidate.architecture.kernels}
    assert "depthwise" not in kinds


def test_a_space_that_does_not_run_on_the_device_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no candidate of the space 'nb201' runs on coral_edgetpu: .* 32 bits"):
        planned(tmp_path, space="nb201", device="coral_edgetpu")


def test_too_few_references_for_an_attack_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="at least 4 references for the attack 'lira_online'; got 2"):
        planned(tmp_path, attack="lira_online", references=2)
    assert planned(tmp_path, attack="lira_online", references=4).needs_bank


def test_candidates_that_are_pruned_otherwise_share_teacher_and_bank(tmp_path):
    def searched(pruning):
        fixed = {"epochs": 2, "learning_rate": 3e-3, "weight_decay": 1e-4, "dropout": 0.0, "label_smoothing": 0.0}
        recipe = {**fixed, "pruning": pruning}
        return planned(tmp_path, recipe=recipe, defences=["gecko"], compressions=["sparsity"])

    one, other = searched(["one_shot", "dynamic"]), searched("retrained")
    assert one.bank.key == other.bank.key
    sparse = {**one.space.reference, "sparsity.share": 0.5}
    teachers = set()
    for pruning in ("one_shot", "dynamic"):
        candidate = one.candidate({**sparse, "pruning": pruning})
        assert candidate.recipe.pruning == pruning
        evaluate(one, make_bench(one), candidate)
        teachers.update(one.cache_folder.glob("teacher-*.npz"))
    assert len(teachers) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"recipe": {"pruning": "one_shot"}},
            "pruning 'one_shot' changes no candidate of the 1000 ",
        ),
        ({"recipe": {"pruning": ["retrained", "dynamic"]}, "compressions": ["channels"]}, "pruning 'dynamic' changes"),
        (
            {"recipe": {"quantization": "afterwards"}, "set": {"bits": 32}},
            "quantization 'afterwards' changes",
        ),
    ],
)
def test_a_setting_of_the_recipe_that_would_change_nothing_is_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        planned(tmp_path, **settings)


def test_a_fixed_teacher_is_part_of_what_a_first_stage_is_kept_under(tmp_path):
    fixed = {"epochs": 1, "learning_rate": 3e-3, "weight_decay": 1e-4, "dropout": 0.0, "label_smoothing": 0.0}
    kept = set()
    for width in (16, 32):
        plan = planned(
            tmp_path,
            recipe={**fixed, "pruning": "one_shot"},
            defences=["gecko"],
            compressions=["sparsity"],
            teacher={"layer1_width": width},
        )
        evaluate(plan, make_bench(plan), plan.candidate({**plan.space.reference, "sparsity.share": 0.5}))
        kept.add(len(list(plan.cache_folder.glob("first-*.safetensors"))))
    assert kept == {1, 2}


def test_a_damaged_first_stage_is_trained_again(tmp_path):
    fixed = {"epochs": 1, "learning_rate": 3e-3, "weight_decay": 1e-4, "dropout": 0.0, "label_smoothing": 0.0}
    plan = planned(tmp_path, recipe={**fixed, "pruning": "one_shot"}, defences=["none"], compressions=["sparsity"])
    candidate = plan.candidate({**plan.space.reference, "sparsity.share": 0.5})
    bench = make_bench(plan)
    before = evaluate(plan, bench, candidate).weights
    (path,) = plan.cache_folder.glob("first-*.safetensors")
    path.write_bytes(b"damaged")
    assert evaluate(plan, bench, candidate).weights == before
    assert path.stat().st_size > 100
