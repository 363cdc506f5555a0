import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import optuna
import psutil
import pytest
import tomlkit
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas.base import files
from nas.base import locks
from nas.base import plugins
from nas.base import processes
from nas.runs.progress import count
from nas.search import workers
from nas.search.ledger import spent_on
from nas.search.schema import RUNGS
from nas.search.storage import JOURNAL
from nas.search.storage_url import VARIABLE
from tests.small_search import planned
from tests.small_search import record_of
from tests.small_search import run_here
from tests.small_search import settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sends POSIX signals and looks for processes")
# Long enough trainings to be killed in.
RECIPE = {"epochs": {"low": 120, "high": 160}}
PATIENCE = 240


# A background job starts with Ctrl-C ignored, and so do its children, these tests' searches too; a terminal's do not.
AS_IN_A_TERMINAL = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from nas.cli import main; main()"
)


def start(runs, **changes):
    """Start `nas search` in a process group of its own, as a terminal does."""
    runs.mkdir(exist_ok=True)
    config = settings(recipe=RECIPE, **changes).model_dump(mode="json", exclude_none=True)
    (runs / "small.toml").write_text(tomlkit.dumps(config))
    return subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL, "search", str(runs / "small.toml"), "--runs", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def trials_in(runs):
    path = runs / "small" / JOURNAL
    if not path.exists():
        return []
    try:
        study = optuna.load_study(study_name="small", storage=JournalStorage(JournalFileBackend(str(path))))
    except (KeyError, ValueError):  # not made yet
        return []
    return study.get_trials()


def states_in(runs):
    return Counter(trial.state.name for trial in trials_in(runs))


def wait_until(condition, process):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.08)


def kill(process):
    """SIGKILL the search, and see that nothing of it is left."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return out


def in_training(runs, completed):
    """Tell whether a candidate is being trained and so many others are done."""
    trials = trials_in(runs)
    done = sum(trial.state == TrialState.COMPLETE for trial in trials)
    return done >= completed and any(t.state == TrialState.RUNNING and "flash_kib" in t.user_attrs for t in trials)


def test_a_search_killed_again_and_again_equals_one_that_was_not(tmp_path):
    expected = record_of(run_here(planned(tmp_path / "whole", recipe=RECIPE)))
    runs = tmp_path / "runs"
    journal = runs / "small" / JOURNAL
    lines = int.from_bytes(os.urandom(1), "little") % 60

    def lines_more(before):
        return journal.exists() and journal.read_bytes().count(b"\n") >= before + lines

    moments = {
        "in the bank": lambda _: bool(list(runs.glob(".cache/reference-*.lock"))),
        "in a training": lambda _: in_training(runs, completed=1),
        f"{lines} lines later": lines_more,
    }
    for name, moment in moments.items():
        before = journal.read_bytes().count(b"\n") if journal.exists() else 0
        search = start(runs)
        try:
            wait_until(lambda moment=moment, before=before: moment(before), search)
            finished = record_of_files(runs)
        finally:
            kill(search)
        assert set(finished.items()) <= set(record_of_files(runs).items()), f"killed {name}: a finished trial is lost"
    finish(start(runs))
    study = optuna.load_study(study_name="small", storage=JournalStorage(JournalFileBackend(str(journal))))
    assert record_of(study) == expected, f"killed {list(moments)}"
    timed = [line["trial"] for line in lines_of(runs / "small" / "timings.jsonl") if line["trial"] is not None]
    assert len(timed) == len(set(timed))  # nothing finished was trained again


def record_of_files(runs):
    finished = [trial for trial in trials_in(runs) if trial.state == TrialState.COMPLETE]
    return {trial.number: (tuple(trial.values), trial.datetime_complete) for trial in finished}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_workers_killed_lose_and_repeat_nothing(tmp_path):
    runs = tmp_path / "runs"
    search = start(runs, workers=2, trials=5)
    try:
        wait_until(lambda: states_in(runs) >= Counter(COMPLETE=1, RUNNING=2), search)
    finally:
        kill(search)
    before = record_of_files(runs)
    assert before
    finish(start(runs, workers=2, trials=5))
    trials = trials_in(runs)
    assert states_in(runs).keys() <= {"COMPLETE", "PRUNED"}
    assert states_in(runs)["COMPLETE"] == 5
    assert set(before.items()) <= set(record_of_files(runs).items())
    keys = [trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(set(keys)) == 5
    for key in keys:
        assert (runs / "small" / "models" / f"{key}.safetensors").exists()


def test_two_workers_with_rungs_killed_keep_the_budget_and_what_was_decided(tmp_path):
    runs = tmp_path / "runs"
    more = {"workers": 2, "trials": 4, "fidelity": "rungs"}

    def decided():
        return {
            (trial.number, name): trial.user_attrs[name]
            for trial in trials_in(runs)
            for name in RUNGS
            if name in trial.user_attrs
        }

    search = start(runs, **more)
    try:
        wait_until(lambda: len(decided()) >= 4 and states_in(runs)["RUNNING"] == 2, search)
    finally:
        kill(search)
    before = decided()
    out = finish(start(runs, **more))
    after, trials = decided(), trials_in(runs)
    assert before.items() <= after.items()
    assert states_in(runs).keys() <= {"COMPLETE", "PRUNED"}
    assert 3 < sum(map(spent_on, trials)) <= 4
    assert f"{count(trials).stopped} stopped" in out
    keys = [trial.user_attrs["key"] for trial in trials if spent_on(trial)]
    assert len(set(keys)) == len(keys)
    for name in RUNGS:  # each was compared with those before it, and at most one at the same moment
        among = sorted(row["among"] for (_, rung), row in after.items() if rung == name)
        assert all(place - 1 <= one <= place for place, one in enumerate(among, start=1))


def test_a_search_that_waits_says_for_whom_and_shows_the_storage_to_nobody(tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    monkeypatch.setenv(VARIABLE, f"sqlite:///{tmp_path}/hunter2.db")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = planned(runs, recipe=RECIPE)
    lock = plan.bank.paths(files.private_folder(plan.cache_folder))[0].with_suffix(".lock")
    with locks.held(lock):
        search = start(runs, workers=2)
        said = next(line for line in search.stderr if "waiting" in line)  # both wait, and it is said once
        family = [psutil.Process(search.pid), *psutil.Process(search.pid).children(recursive=True)]
        arguments = [" ".join(process.cmdline()) for process in family]
    assert said == f"nas: waiting for {lock.resolve()}, which process {os.getpid()} holds\n"
    assert len(arguments) >= 3
    assert not [line for line in arguments if "hunter2" in line]
    _, err = search.communicate(timeout=PATIENCE)
    assert (search.returncode, err) == (0, "")
    assert (tmp_path / "hunter2.db").exists()
    assert list((tmp_path / "cache" / "gecko-nas" / "locks").glob("*/*"))


def interrupt(search):
    family = psutil.Process(search.pid).children(recursive=True)
    os.killpg(search.pid, signal.SIGINT)
    out, err = search.communicate(timeout=PATIENCE)
    assert search.returncode == 130, err
    assert err == ""
    runs = search.args[-1]
    assert f"To continue: nas search {runs}/small/config.toml --runs {runs}" in " ".join(out.split())
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path):
    runs = tmp_path / "runs"
    early = start(runs, trials=1000)
    wait_until(lambda: len(psutil.Process(early.pid).children()) > 1, early)  # the worker is importing
    interrupt(early)
    search = start(runs, trials=1000)
    wait_until(lambda: in_training(runs, completed=1), search)
    interrupt(search)
    states = states_in(runs)
    assert states["COMPLETE"] >= 1
    assert states["RUNNING"] <= 1
    assert (runs / "small" / "config.toml").exists()


BROKEN = """
import os

def make_space(input_shape, num_classes):
    os._exit(3)
"""


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [("nowhere", ValueError, "no 'nowhere' in search_spaces; there are"), ("broken.dies", RuntimeError, "exit code 3")],
)
def test_what_ends_a_worker_ends_the_search(tmp_path, monkeypatch, space, error, message):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dies.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.TRUSTED, "broken.dies")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(error, match=message):
        workers.run(settings(space=space), tmp_path / "runs", look=lambda: None)
    assert signal.getsignal(signal.SIGINT) is before
    _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=0)
    assert not [process for process in alive if "spawn_main" in " ".join(process.cmdline())]


def test_cores_are_those_this_process_may_use():
    assert processes.cores() == len(os.sched_getaffinity(0))
