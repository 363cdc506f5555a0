"""nas worker: joins a search that exists, with the settings of its study."""

import shlex
import signal

import numpy as np
import pytest
from optuna.trial import TrialState

from nas.base import processes
from nas.search.storage import JOURNAL
from nas.search.storage import load_study
from tests.small_search import SMALL


@pytest.fixture(autouse=True)
def _locks_of_databases_here(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def begun(nas, interrupted, tmp_path):
    """A search of records in a file that was stopped before it had a worker: its storage, and its data."""
    rng = np.random.default_rng(0)
    data = tmp_path / "data.npz"
    np.savez(data, features=rng.normal(size=(600, 6)).astype(np.float32), labels=np.arange(600) % 2)
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    flags = (*SMALL, "--dataset", "npz", "--data-path", data, "--name", "small", "--storage", url, "--workers", 3)
    assert nas("search", *flags, "--runs", tmp_path / "one").code == 130
    interrupted.clear()
    return url, data


def test_a_worker_trains_what_a_search_lacks(nas, own_run, in_process, tmp_path):
    journal = own_run.folder / JOURNAL
    result = nas("worker", journal, "small", "--trials", 6, "--runs", tmp_path / "elsewhere")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "small has its candidates; nas show small shows the front"
    trained = load_study("small", own_run.folder, None).get_trials(states=(TrialState.COMPLETE,))
    assert len(trained) == 6
    weights = {path.stem for path in (tmp_path / "elsewhere" / "small" / "models").glob("*.safetensors")}
    assert trained[-1].user_attrs["key"] in weights


def test_a_worker_of_a_search_that_has_all_does_nothing(nas, own_run, in_process):
    before = (own_run.folder / JOURNAL).read_bytes()
    assert nas("worker", own_run.folder / JOURNAL, "small", "--runs", own_run.runs).code == 0
    assert (own_run.folder / JOURNAL).read_bytes() == before


def test_a_worker_has_the_settings_of_the_study_and_what_is_said_here(nas, begun, interrupted, tmp_path):
    url, data = begun
    moved = data.rename(tmp_path / "moved.npz")
    runs = tmp_path / "two"
    result = nas("worker", url, "small", "--data-path", moved, "--runs", runs, "--workers", 2)
    assert result.code == 130
    (config,) = interrupted
    assert (config.space, config.members, config.trials, config.dataset) == ("mlp", 120, 5, "npz")
    assert (config.storage, config.data_path, config.workers) == (url, moved, 2)
    again = shlex.join(["nas", "worker", url, "small", "--runs", str(runs)])
    assert f"To continue: {again} with the same options" in result.out


def test_the_number_of_workers_is_not_that_of_the_machine_that_began(nas, begun, interrupted):
    url, _ = begun
    nas("worker", url, "small")
    assert interrupted[0].workers is None


def test_other_records_are_refused(refused, begun, no_training, tmp_path):
    url, data = begun
    held = dict(np.load(data))
    held["features"][0, 0] += 1
    np.savez(tmp_path / "other.npz", **held)
    assert "the data: other records" in refused("worker", url, "small", "--data-path", tmp_path / "other.npz")


def test_what_is_not_there_is_refused(refused, begun, no_training, tmp_path):
    url, data = begun
    assert refused("worker", url, "other") == "no study 'other' in the storage; there are ['small']"
    none = tmp_path / "none.log"
    assert refused("worker", none, "small") == f"no study 'small' in {none}; there is no such file"
    assert not none.exists()
    data.unlink()
    assert str(data) in refused("worker", url, "small")


def test_a_module_that_only_the_study_names_is_refused(refused, own_run, no_training):
    study = load_study("small", own_run.folder, None)
    study.set_user_attr("config", {**study.user_attrs["config"], "space": "somebodys.spaces"})
    line = refused("worker", own_run.folder / JOURNAL, "small")
    assert "somebodys.spaces" in line
    assert "--plugin" in line


def test_a_password_is_taken_from_the_environment(refused, monkeypatch):
    monkeypatch.setenv("GECKO_NAS_STORAGE", "postgresql+psycopg2://me:hunter2@127.0.0.1:1/none")
    line = refused("worker", "postgresql+psycopg2://me:***@127.0.0.1:1/none", "small")
    assert line.startswith("expected an Optuna study in postgresql+psycopg2://...; it cannot be read")
    assert "hunter2" not in line


def test_sigterm_is_ctrl_c_while_workers_work():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), processes.sigterm_as_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
