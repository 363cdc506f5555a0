"""Both NNI engines, end to end on the embedded data, and the parts that decide what becomes of a trial."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from importlib import metadata

import numpy as np
import psutil
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from estimators.estimate import Estimate
from nas.base import locks
from nas.base.clock import Clock
from nas.nni import check
from nas.nni import engine
from nas.nni import importing
from nas.nni import job
from nas.nni import service
from nas.nni.exchange import LOST_IN_A_ROW
from nas.nni.exchange import Exchange
from nas.nni.measure import DIED
from nas.nni.measure import DIVERGED
from nas.nni.measure import FAILED
from nas.nni.measure import OUT_OF_MEMORY
from nas.nni.measure import evaluated_in
from nas.nni.measure import result_of
from nas.nni.measure import seconds_in
from nas.search import study as search
from nas.search.bench import Evaluated
from nas.search.bench import evaluate
from nas.search.bench import make_bench
from nas.search.config import parse_config
from nas.search.config import to_toml
from nas.search.plan import resolve
from nas.search.schema import WEIGHTS
from nas.search.storage import open_study
from nas.spaces import sample
from nas.training.loop import Diverged
from nas.training.measures import MEASURED
from tests.small_search import planned

needs_nni = pytest.mark.skipif(importlib.util.find_spec("nni") is None, reason="the extra [nni] is not installed")
# For what NNI does in half a minute, and in ten on a busy machine.
PATIENCE = 900
SETTINGS = {
    "space": "mlp",
    "dataset": "digits",
    "members": 120,
    "references": 2,
    "recipe": {"epochs": 2},
    "trials": 6,
    "workers": 3,
}
NUMBERS = {**dict.fromkeys(MEASURED, 0.5), "error_low": 0.4, "error_high": 0.6, "seconds_training": 2.0, WEIGHTS: "ab"}


def start(runs, name, **settings):
    """Resolve a small search and open its study."""
    plan = resolve(parse_config({**SETTINGS, "name": name, **settings}), runs)
    return plan, open_study(plan)


def rows(study):
    """All that a study holds and that must not depend on who trained it."""
    return [
        (trial.number, trial.state.name, trial.values, trial.params, {**trial.user_attrs, "host": None})
        for trial in study.get_trials()
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def reference(runs):
    """The same search without NNI."""
    plan, study = start(runs, "plain")
    search.work(plan, study)
    return rows(study)


@pytest.fixture
def exchange(runs, tmp_path):
    plan, _ = start(tmp_path, "exchange", trials=2)
    job.write(plan, plan.folder / "nni")
    return Exchange(plan.folder / "nni")


@pytest.fixture
def nni_manager():
    return importlib.import_module("nas.nni.manager")


def nni_mutables(folder):
    """Import NNI as the engine does."""
    return importing.imported("nas.nni.mutables", folder / "nni.lock")


def trials_of(exchange):
    return exchange._study.get_trials()


def ended(exchange):
    return exchange._ended.read_text() if exchange._ended.exists() else None


def test_nothing_imports_nni_until_an_engine_asks_for_it_and_nothing_needs_lightning():
    script = (
        "import sys, tempfile, pathlib\n"
        "from nas import cli\nfrom nas.search import workers\n"
        "from nas.nni import check, engine, exchange, job, measure, service\n"
        "assert 'nni' not in sys.modules\n"
        "if len(sys.argv) > 1:\n"
        "    sys.modules['pytorch_lightning'] = sys.modules['torchmetrics'] = None\n"
        "    engine.import_strategy(pathlib.Path(tempfile.mkdtemp()))\n"
        "    assert 'nni' in sys.modules\n"
    )
    arguments = ["too"] if importlib.util.find_spec("nni") else []
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)


@pytest.mark.parametrize(
    ("installed", "complaint"),
    [
        ({}, "expected NNI for this engine; it is not installed: pip install 'gecko-nas[nni]'"),
        (
            {"nni": "3.0", "filelock": "3.12.0"},
            "expected filelock < 3.12, with a later one NNI never starts; got 3.12.0: pip install 'gecko-nas[nni]'",
        ),
        ({"nni": "3.0", "filelock": "4.2.11"}, "expected filelock < 3.12, with a later one NNI never starts; got 4.2"),
    ],
)
def test_nni_that_would_fail_or_hang_is_refused_in_one_line(monkeypatch, installed, complaint):
    monkeypatch.setattr(metadata, "version", lambda name: _installed(installed, name))
    with pytest.raises(ValueError, match=re.escape(complaint)):
        check.check()


@pytest.mark.parametrize("filelock", ["3.11.0", "3.9"])
def test_nni_with_an_old_filelock_is_fine(monkeypatch, filelock):
    monkeypatch.setattr(metadata, "version", lambda name: _installed({"nni": "3.0", "filelock": filelock}, name))
    check.check()


def _installed(versions, name):
    if name not in versions:
        raise metadata.PackageNotFoundError(name)
    return versions[name]


@needs_nni
def test_in_process_the_study_and_nni_agree_with_the_plain_search(runs, reference):
    plan, study = start(runs, "in-process", engine="nni")
    strategy = engine.import_strategy(plan.cache_folder).explore(plan, study, make_bench(plan), Clock())
    assert rows(study) == reference
    models = list(strategy.list_models())
    assert [model.status.value for model in models] == ["trained"] * 6
    trained = sorted(study.get_trials(), key=lambda trial: trial.values[0])
    assert [model.metric["default"] for model in models] == [trial.values[0] for trial in trained]
    unsorted = list(strategy.list_models(sort=False))
    assert [model.sample for model in unsorted] == [trial.params for trial in study.get_trials()]
    names = plan.config.objectives
    assert [[model.metric[name] for name in names] for model in unsorted] == [row[2] for row in reference]
    assert list(strategy.list_models(limit=2)) == models[:2]


@needs_nni
def test_a_study_begun_without_nni_goes_on_with_it_as_if_nothing_had_changed(runs, reference):
    search.work(*start(runs, "mixed", trials=3))
    plan, study = start(runs, "mixed", engine="nni")
    engine.work(plan, study)
    assert rows(study) == reference
    lines = [json.loads(line) for line in (plan.folder / "timings.jsonl").read_text().splitlines()]
    assert [line["trial"] for line in lines] == [0, 1, 2, None, 3, 4, 5, None]
    assert {"training", "attack", "nni", "storage"} <= lines[-2]["seconds"].keys()
    assert len(list((plan.folder / "models").iterdir())) == 6


@needs_nni
def test_in_process_a_diverged_training_is_rejected_and_another_takes_its_place(tmp_path, monkeypatch):
    plan, study = start(tmp_path, "diverged", trials=2)
    real, calls = evaluate, []

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise Diverged("the loss became nan")
        return real(*arguments)

    monkeypatch.setattr("nas.nni.measure.evaluate", counted)
    strategy = engine.import_strategy(tmp_path).explore(plan, study, make_bench(plan), Clock())
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.get_trials()[0].user_attrs["rejected"] == "diverged: the loss became nan"
    assert [model.status.value for model in strategy.list_models(sort=False, limit=1)] == ["failed"]
    assert len(list(strategy.list_models())) == 2


@needs_nni
def test_in_process_an_error_is_not_swallowed_by_nni(tmp_path, monkeypatch):
    plan, study = start(tmp_path, "bug", trials=2)
    monkeypatch.setattr("nas.nni.measure.evaluate", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match="trial 0 failed: division by zero"):
        engine.work(plan, study)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL]


@needs_nni
def test_what_nni_samples_from_our_space_is_a_candidate_and_nothing_else_is(tmp_path):
    plan, _ = start(tmp_path, "space")
    space = engine.import_strategy(tmp_path).CandidateSpace(plan)
    keys = {space.random().key for _ in range(20)}
    assert len(keys) > 15
    point = {}
    space.random(point)
    assert point.keys() == plan.distributions.keys()
    with pytest.raises(ValueError, match="first_bits"):
        space.freeze({**point, "first_bits": 5})


@needs_nni
def test_nni_samples_the_narrowed_space(tmp_path):
    plan, _ = start(tmp_path, "narrow", set={"bits": 8, "depth": 1})
    space = engine.import_strategy(tmp_path).CandidateSpace(plan)
    point = {}
    space.random(point)
    assert {value for name, value in point.items() if name.endswith("_bits")} == {8}
    assert point["depth"] == 1
    assert space.freeze(point).architecture.params["depth"] == 1
    with pytest.raises(ValueError, match="first_bits"):
        space.freeze({**point, "first_bits": 4})


@needs_nni
@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (CategoricalDistribution(["none", "gecko"]), ["none", "gecko"], ["other"]),
        (IntDistribution(1, 7, step=2), [1, 3, 5, 7], [0, 2, 4, 8, 9]),
        (IntDistribution(1, 64, log=True), [1, 2, 63, 64], [0, 65]),
        (FloatDistribution(0.0, 0.5), [0.0, 0.3, 0.5], [-0.1, 0.51]),
        (FloatDistribution(1e-5, 1e-1, log=True), [1e-5, 3e-3, 1e-1], [0.0, 9e-6, 0.2]),
    ],
)
def test_an_nni_mutable_takes_the_values_of_its_distribution(tmp_path, distribution, inside, outside):
    mutable = nni_mutables(tmp_path).mutable("x", distribution)
    assert [mutable.freeze({"x": value}) for value in inside] == inside
    assert not any(mutable.contains({"x": value}) for value in outside)


@needs_nni
@pytest.mark.parametrize(("log", "middle"), [(False, 0.5005), (True, 0.0316228)])
def test_an_nni_mutable_keeps_the_scale_of_its_distribution(tmp_path, log, middle):
    mutable = nni_mutables(tmp_path).mutable("x", FloatDistribution(0.001, 1.0, log=log))
    assert mutable.default() == pytest.approx(middle, rel=1e-5)


def test_what_nni_carries_comes_back_as_it_was(tmp_path, monkeypatch):
    plan, _ = start(tmp_path, "carried", objectives=["latency_ms", "error"])
    candidate = plan.candidate({**plan.space.reference, **_some_recipe(), "defence": "none"})
    measures = {name: Estimate(0.1 + index / 7, 0.1, 0.1 + index / 3) for index, name in enumerate(MEASURED)}
    monkeypatch.setattr("nas.nni.measure.evaluate", lambda *_: Evaluated(measures, {"training": 1.5}, "0" * 64))
    numbers = json.loads(json.dumps(result_of(plan, None, candidate)))
    assert evaluated_in(numbers).measures == measures
    stated = {**measures, "epsilon": Estimate.exact(8.0)}
    monkeypatch.setattr("nas.nni.measure.evaluate", lambda *_: Evaluated(stated, {}, "0" * 64))
    assert evaluated_in(json.loads(json.dumps(result_of(plan, None, candidate)))).measures == stated
    assert seconds_in(numbers) == {"training": 1.5}
    assert numbers["default"] == numbers["latency_ms"] > 0


def _some_recipe():
    return {"learning_rate": 0.01, "weight_decay": 0.01, "dropout": 0.0, "label_smoothing": 0.0}


def test_results_reach_the_study_under_the_number_they_were_asked_for(exchange):
    first, second = exchange.propose(0), exchange.propose(1)
    assert first != second
    assert exchange.propose(2) is None
    exchange.receive(1, {**NUMBERS, "error": 0.45})
    exchange.end_if_idle()
    assert ended(exchange) is None
    exchange.receive(0, NUMBERS)
    exchange.end_if_idle()
    assert ended(exchange) == ""
    assert [(trial.params, trial.values[0]) for trial in trials_of(exchange)] == [(first, 0.5), (second, 0.45)]
    lines = [json.loads(line) for line in (exchange._plan.folder / "timings.jsonl").read_text().splitlines()]
    assert [line["trial"] for line in lines] == [1, 0]
    assert lines[0]["seconds"]["training"] == 2.0
    assert lines[0]["seconds"]["sampling and screening"] > lines[1]["seconds"]["sampling and screening"] == 0.0


def test_a_trial_that_ends_without_a_result_is_proposed_again_and_its_first_result_counts(exchange):
    lost = exchange.propose(0)
    exchange.failed.append(0)
    exchange.take_back_lost()
    assert exchange.propose(1) == lost
    exchange.receive(0, NUMBERS)  # NNI kept the parameters of the trial that failed, and gave them to the next one
    exchange.receive(1, {**NUMBERS, "error": 0.45})
    assert [(trial.state, trial.values[0]) for trial in trials_of(exchange)] == [(TrialState.COMPLETE, 0.5)]


def test_of_several_trials_the_lost_one_is_known_when_the_others_have_ended(exchange):
    lost, other = exchange.propose(0), exchange.propose(1)
    exchange.failed.append(1)  # NNI names the trial that asked second, but it trained what was proposed first
    exchange.take_back_lost()
    assert exchange.propose(2) is None
    exchange.end_if_idle()
    assert ended(exchange) is None
    exchange.receive(1, NUMBERS)
    exchange.take_back_lost()
    assert exchange.propose(2) == lost
    exchange.receive(2, {**NUMBERS, "error": 0.45})
    exchange.take_back_lost()
    assert exchange.propose(3) is None
    exchange.end_if_idle()
    assert ended(exchange) == ""
    assert [(trial.params, trial.values[0]) for trial in trials_of(exchange)] == [(lost, 0.45), (other, 0.5)]


def test_a_proposal_that_no_trial_got_is_made_again(exchange):
    first = exchange.propose(0)
    exchange.failed.append(0)
    exchange.take_back_lost()
    assert exchange.propose(1) == first
    second = exchange.propose(2)
    exchange.receive(0, NUMBERS)  # both trials got the first proposal: from the one that failed, and their own
    exchange.receive(1, NUMBERS)
    exchange.take_back_lost()
    assert exchange.propose(3) == second


def test_the_search_is_given_up_when_trial_after_trial_ends_without_a_result(exchange):
    for number in range(LOST_IN_A_ROW):
        assert exchange.propose(number) is not None
        exchange.failed.append(number)
        exchange.take_back_lost()
    assert exchange.propose(LOST_IN_A_ROW) is None
    exchange.end_if_idle()
    assert ended(exchange) == "3 trainings in a row ended without a result; trial.stderr of each says why"
    assert [trial.state for trial in trials_of(exchange)] == [TrialState.RUNNING]


def test_a_result_in_between_keeps_the_search_alive(exchange):
    for number in range(LOST_IN_A_ROW):
        exchange.propose(number)
        exchange.failed.append(number)
        exchange.take_back_lost()
        if number == 0:
            exchange.propose(100)
            exchange.receive(100, NUMBERS)
    assert exchange.propose(LOST_IN_A_ROW) is not None


def test_diverged_is_a_result_and_an_error_ends_the_search(exchange):
    exchange.propose(0)
    exchange.receive(0, {DIVERGED: "the loss became nan"})
    exchange.propose(1)
    assert ended(exchange) is None
    exchange.receive(1, {FAILED: "ValueError: no such thing"})
    assert [trial.state for trial in trials_of(exchange)] == [TrialState.PRUNED, TrialState.FAIL]
    assert trials_of(exchange)[0].user_attrs["rejected"] == "diverged: the loss became nan"
    assert ended(exchange) == "the training of trial 1 failed: ValueError: no such thing"


def test_a_shortage_of_memory_is_tried_once_more_and_then_rejected(exchange):
    short = {OUT_OF_MEMORY: "CUDA out of memory. Tried to allocate 20.00 GiB."}
    first = exchange.propose(0)
    exchange.receive(0, short)
    assert exchange.propose(1) == first
    exchange.receive(1, short)
    assert ended(exchange) is None
    assert exchange.propose(2) not in (None, first)
    (trial, _) = trials_of(exchange)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected"] == f"out of memory twice: {short[OUT_OF_MEMORY]}"


def test_a_death_is_tried_once_more_and_then_rejected(exchange):
    first = exchange.propose(0)
    exchange.receive(0, {DIED: "SIGSEGV"})
    assert exchange.propose(1) == first
    exchange.receive(1, {DIED: "SIGBUS"})
    assert ended(exchange) is None
    assert exchange.propose(2) not in (None, first)
    assert trials_of(exchange)[0].user_attrs["rejected"] == "died twice: SIGSEGV, SIGBUS"


def test_the_search_is_given_up_when_training_after_training_dies(exchange, monkeypatch):
    monkeypatch.setattr("nas.nni.exchange.DEATHS_IN_A_ROW", 3)
    for number in range(3):
        assert exchange.propose(number) is not None
        exchange.receive(number, {DIED: "SIGSEGV"})
    assert exchange.propose(3) is None
    exchange.take_back_lost()
    exchange.end_if_idle()
    assert ended(exchange) == "3 trainings in a row ended without a result; trial.stderr of each says why"


DYING = """
import json, os, signal, sys
import nas.nni.trial as trial

def died():
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))

def report(numbers):
    print(json.dumps(numbers), flush=True)

trial.main = died
trial.nni.get_next_parameter = dict
trial.nni.report_final_result = report
trial.watch()
"""


@needs_nni
@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize(("name", "out", "code"), [("SIGSEGV", '{"died": "SIGSEGV"}\n', 0), ("SIGTERM", "", 1)])
def test_a_trial_that_dies_of_a_signal_is_reported_by_who_watches_it(name, out, code):
    ended = subprocess.run([sys.executable, "-c", DYING, name], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == (out, code)


def test_an_error_that_speaks_of_memory_is_still_an_error(exchange):
    exchange.propose(0)
    exchange.receive(0, {FAILED: "ValueError: out of memory"})
    assert [trial.state for trial in trials_of(exchange)] == [TrialState.FAIL]
    assert ended(exchange) == "the training of trial 0 failed: ValueError: out of memory"


@needs_nni
@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (MemoryError(), {OUT_OF_MEMORY: "MemoryError"}),
        (OSError(12, "Cannot allocate memory"), {OUT_OF_MEMORY: "[Errno 12] Cannot allocate memory"}),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), {OUT_OF_MEMORY: ...}),
        (OSError(28, "No space left on device"), None),
        (KeyboardInterrupt(), None),
        (ValueError("a bug"), {FAILED: "ValueError: a bug"}),
    ],
    ids=repr,
)
def test_a_trial_reports_what_is_to_be_counted_or_told(monkeypatch, error, reported):
    trial = importlib.import_module("nas.nni.trial")
    sent = []
    monkeypatch.setattr(trial.job, "read", lambda _: None)
    monkeypatch.setattr(trial.nni, "get_next_parameter", dict)
    monkeypatch.setattr(trial.nni, "report_final_result", sent.append)
    monkeypatch.setattr(trial, "result", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        trial.main()
    if reported is None:
        assert sent == []
    else:
        assert sent[0].keys() == reported.keys()
        assert sent[0] == reported or ... in reported.values()


@needs_nni
def test_in_process_a_shortage_of_memory_is_tried_once_more_and_then_rejected(tmp_path, monkeypatch):
    plan, study = start(tmp_path, "short", trials=1)
    errors = iter([MemoryError(), MemoryError()])
    real = evaluate

    def short(*arguments):
        for error in errors:
            raise error
        return real(*arguments)

    monkeypatch.setattr("nas.nni.measure.evaluate", short)
    engine.work(plan, study)
    assert [trial.state for trial in study.get_trials()] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert study.get_trials()[0].user_attrs["rejected"] == "out of memory twice: MemoryError"


def test_the_settings_for_trials_hold_no_storage_and_come_back_with_it(tmp_path, monkeypatch):
    storage = f"sqlite:///{tmp_path}/secret.db"
    plan, _ = start(tmp_path / "runs", "job", storage=storage)
    job.write(plan, tmp_path)
    path = tmp_path / job.CODE / job.SETTINGS
    assert "secret" not in path.read_text()
    monkeypatch.setenv(job.STORAGE, storage)
    monkeypatch.setenv(job.HOME, "/home/user")
    monkeypatch.setenv("HOME", str(tmp_path))
    back = job.read(path)
    assert (back.config, back.folder) == (plan.config, plan.folder)
    assert os.environ["HOME"] == "/home/user"


@needs_nni
def test_a_folder_that_nni_cannot_quote_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="folder without spaces"):
        service.work(*start(tmp_path / "my runs", "spaces"))


MISTAKES = {
    b"trainingService: {platform: remote, machineList: []}": "must provide at least one machine",
    b"trainingService: {platform: remote, machineList: [{host: h, user: me}]}": "a valid SSH key file",
    b"trainingService: {platform: local}\ntrialConcurrency: 0": "AssertionError",
    b"trainingService: {platform: local}\ntrialConcurency: 3": "does not have field",
    b"trialConcurrency: 3": "there is no trainingService among them",
    b"a: [": "while parsing a flow node expected the node content",
    b"dear diary": "not a dict",
    b"\xff\xfe": "can't decode",
}


@needs_nni
@pytest.mark.parametrize("settings", MISTAKES, ids=MISTAKES.values())
def test_a_mistake_in_the_users_nni_settings_is_refused_before_anything_is_trained(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = tmp_path / "nni.yaml"
    own.write_bytes(settings)
    with pytest.raises(ValueError, match=re.escape(MISTAKES[settings])) as caught:
        check.check_settings(own)
    assert str(caught.value).startswith(f"expected settings of NNI's in {own}; NNI does not take them: ")
    assert "\n" not in str(caught.value)


@needs_nni
def test_the_users_nni_settings_are_looked_at_first(nas, tmp_path, no_training, monkeypatch):
    own = tmp_path / "nni.yaml"
    own.write_text("trainingService: {platform: remote, machineList: []}\n")
    service_flags = ("--engine", "nni-service", "--nni-config", own, "--yes", "--runs", tmp_path / "runs")
    result = nas("search", *service_flags)
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith("must provide at least one machine in machine_list\n")
    assert not (tmp_path / "runs").exists()
    missing = nas("search", *service_flags[:3], tmp_path / "none.yaml", *service_flags[4:])
    assert missing.err.endswith(
        f"expected settings of NNI's in {tmp_path}/none.yaml; cannot read them: No such file or directory\n"
    )
    monkeypatch.setattr(service, "open_bench", lambda *_: pytest.fail("the bank was built"))
    with pytest.raises(ValueError, match="must provide at least one machine"):
        service.work(*start(tmp_path, "mistake", nni_config=own))


@needs_nni
def test_the_users_own_nni_settings_are_kept_where_the_search_does_not_decide(nni_manager, tmp_path, monkeypatch):
    own = tmp_path / "nni.yaml"
    own.write_text(
        "trialConcurrency: 7\n"
        "trialCommand: python3 -m nas.nni.trial\n"
        "trainingService: {platform: remote, machineList: [{host: 192.0.2.7, user: me}]}\n"
    )
    key = tmp_path / "home" / ".ssh" / "id_rsa"
    key.parent.mkdir(parents=True)
    key.touch()
    for folder in (job.CODE, "lent"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "lent"))
    monkeypatch.setenv(job.HOME, str(tmp_path / "home"))
    request = {"nni_config": str(own), "name": "x", "concurrency": 2, "search_space": {}, "trial_command": "python"}
    config = nni_manager.configure(request, tmp_path)
    assert (config.trial_concurrency, config.trial_command) == (7, "python3 -m nas.nni.trial")
    assert config.training_service.machine_list[0].host == "192.0.2.7"
    # At the user's home, not at the one lent to NNI, and still there when NNI looks again.
    assert config.canonical_copy().training_service.machine_list[0].ssh_key_file == str(key)
    assert os.environ["HOME"] == str(tmp_path / "lent")
    assert config.tuner.class_args == {"folder": str(tmp_path), "optimize_mode": "minimize"}
    plain = nni_manager.configure({**request, "nni_config": None}, tmp_path)
    assert (plain.trial_concurrency, plain.trial_command, plain.training_service.platform) == (2, "python", "local")


def test_nothing_links_to_the_users_keys(tmp_path, monkeypatch):
    home = tmp_path / "home"
    for name in (".ssh", ".kube"):
        (home / name).mkdir(parents=True)
        (home / name / "config").write_text("secret")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    plan, _ = start(tmp_path / "runs", "keys", nni_config=tmp_path / "nni.yaml")
    folder = plan.folder / "nni"
    folder.mkdir()
    (folder / ".ssh").symlink_to(home / ".ssh")  # as an earlier version left it
    service._prepare(plan, folder)
    assert [path for path in plan.folder.rglob("*") if path.is_symlink()] == []
    assert (home / ".ssh" / "config").exists()
    environment = service._environment(folder, None)
    assert environment["KUBECONFIG"] == str(home / ".kube" / "config")
    assert (environment["HOME"], environment[job.HOME]) == (str(folder), str(home))
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    assert service._environment(folder, None)["KUBECONFIG"] == "/elsewhere"


@needs_nni
def test_a_port_is_free_when_it_and_the_next_one_are(nni_manager):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert nni_manager.free_port(taken - 1) > taken


class Experiment:
    """What the manager's loop asks of NNI."""

    id = "abc"

    def __init__(self, status, jobs=()):
        self.status = status
        self.jobs = jobs

    def get_status(self):
        if self.status == "dead":
            raise ConnectionRefusedError("refused")
        return self.status

    def get_job_statistics(self):
        return [{"trialJobStatus": job, "trialJobNumber": 1} for job in self.jobs]


@needs_nni
@pytest.mark.parametrize(
    ("experiment", "complaint"),
    [
        (Experiment("ERROR"), "its experiment ended with ERROR; see the logs of abc"),
        (Experiment("TUNER_NO_MORE_TRIAL", ["SUCCEEDED"]), "nothing ran for 0.05 s"),
        (Experiment("dead"), "its manager does not answer"),
    ],
)
def test_an_experiment_that_gets_nowhere_is_ended(nni_manager, tmp_path, monkeypatch, experiment, complaint):
    for name in ("SECONDS_WITHOUT_WORK", "SECONDS_WITHOUT_ANSWER"):
        monkeypatch.setattr(nni_manager, name, 0.05)
    monkeypatch.setattr(nni_manager, "SECONDS_BETWEEN_LOOKS", 0.01)
    assert nni_manager.wait(experiment, tmp_path / "ended", threading.Event()) == complaint


@needs_nni
def test_an_experiment_that_works_is_left_alone_until_the_tuner_says_so(nni_manager, tmp_path, monkeypatch):
    monkeypatch.setattr(nni_manager, "SECONDS_WITHOUT_WORK", 0.05)
    monkeypatch.setattr(nni_manager, "SECONDS_BETWEEN_LOOKS", 0.01)
    timer = threading.Timer(0.3, (tmp_path / "ended").touch)
    timer.start()
    assert nni_manager.wait(Experiment("RUNNING", ["RUNNING"]), tmp_path / "ended", threading.Event()) == ""


def processes_of(folder):
    """All processes that NNI has for a run, whatever they are: they share its home folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, OSError):
            continue
    return found


def wait_until(condition):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def served(runs, reference, tmp_path_factory):
    """A search under NNI's service, killed while it trains and started again."""
    home = tmp_path_factory.mktemp("home")
    plan, study = start(runs, "service", engine="nni-service")
    folder = plan.folder / "nni"
    settings = plan.folder / "settings.toml"
    settings.write_text(to_toml(plan.config))
    # NNI's manager has one port: processes that test side by side must not have one each at a time.
    alone = locks.held(tmp_path_factory.getbasetemp().parent / "nni-manager.lock")
    with alone, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        command = [sys.executable, "-c", "from nas.cli import main; main()", "search", str(settings)]
        killed = subprocess.Popen([*command, "--runs", str(runs), "--yes"], stdout=subprocess.DEVNULL)
        page = folder / "page.txt"
        trained = lambda: page.exists() and study.get_trials(states=(TrialState.RUNNING,))
        wait_until(lambda: trained() or killed.poll() is not None)
        assert killed.poll() is None
        with urllib.request.urlopen(page.read_text().strip()) as answer:
            assert answer.status == 200
        assert processes_of(folder)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        wait_until(lambda: not processes_of(folder))
        service.work(plan, study)
    return plan, study, home


@needs_nni
@pytest.mark.timeout(3 * PATIENCE)
def test_a_killed_service_leaves_no_process_and_goes_on_to_the_same_study(served, reference):
    plan, study, home = served
    assert rows(study) == reference
    assert processes_of(plan.folder / "nni") == []
    assert list(home.iterdir()) == []
    assert len(list((plan.folder / "models").iterdir())) == 6


@needs_nni
@pytest.mark.timeout(3 * PATIENCE)
def test_as_a_service_the_study_and_nni_agree(served):
    plan, study, _ = served
    started, reported = {}, {}  # by NNI's number for a proposal: its trials may swap theirs
    latest = max((plan.folder / "nni").glob("*/db/nni.sqlite"), key=lambda path: path.stat().st_mtime)
    with contextlib.closing(sqlite3.connect(latest)) as database:
        for (data,) in database.execute("select data from TrialJobEvent where event = 'RUNNING'"):
            started[json.loads(data)["parameter_id"]] = json.loads(data)["parameters"]
        for number, data in database.execute("select parameterId, data from MetricData where type = 'FINAL'"):
            reported[int(number)] = json.loads(json.loads(data))
    assert sorted(started) == sorted(reported) == list(range(6))
    trials = {json.dumps(trial.params, sort_keys=True): trial for trial in study.get_trials()}
    assert {json.dumps(params, sort_keys=True) for params in started.values()} == trials.keys()
    for number, params in started.items():
        trial = trials[json.dumps(params, sort_keys=True)]
        assert [reported[number][name] for name in plan.config.objectives] == trial.values
        assert evaluated_in(reported[number]).measures["leakage"].high == trial.user_attrs["leakage_high"]


@needs_nni
@pytest.mark.timeout(3 * PATIENCE)
def test_a_finished_study_does_not_start_nni(served, monkeypatch):
    plan, study, _ = served
    monkeypatch.setattr(service.subprocess, "Popen", lambda *_, **__: pytest.fail("NNI was started"))
    service.work(plan, study)


def test_errors_of_classes_and_what_is_never_predicted_are_carried(monkeypatch, tmp_path):
    half = Estimate(0.5, 0.4, 0.6)
    measures = {**dict.fromkeys(MEASURED, half), "trainings": Estimate.exact(1)}
    measures |= {"class_error_risk": Estimate.exact(0.25), "class_error_risk_low": Estimate.exact(1.0)}
    found = Evaluated(measures, {"training": 1.0}, "ab", (2,))
    monkeypatch.setattr("nas.nni.measure.evaluate", lambda *_: found)
    plan = planned(tmp_path)
    candidate = plan.candidate(sample(plan.distributions, np.random.default_rng(0)))
    carried = json.loads(json.dumps(result_of(plan, None, candidate)))
    assert evaluated_in(carried) == found
    old = {name: value for name, value in carried.items() if name != "never_predicted"}
    assert evaluated_in(old).never_predicted == ()
