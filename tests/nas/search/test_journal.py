import json
import os
import threading
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas.base import locks
from nas.search.journal import LINE_START
from nas.search.journal import Journal
from nas.search.journal import lock_folder

PATIENCE = 240


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "journal.log"
    lock_folder(path).mkdir()
    return path


def study_in(path, **changes):
    return optuna.create_study(study_name="s", storage=JournalStorage(Journal(path)), load_if_exists=True, **changes)


def finished(study, value=1.0):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("note", "ä")
    study.tell(trial, value)


def plainly_read(path):
    return optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path)))).get_trials()


def test_optuna_reads_what_is_written_and_the_other_way_round(path):
    ours = study_in(path)
    finished(ours)
    (trial,) = plainly_read(path)
    assert (trial.state, trial.values, trial.user_attrs) == (TrialState.COMPLETE, [1.0], {"note": "ä"})
    finished(optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path)))), value=2.0)
    assert [trial.value for trial in ours.get_trials()] == [1.0, 2.0]


def test_the_lines_are_optunas_own(path, tmp_path):
    other = tmp_path / "other.log"
    logs = [{"op_code": 4, "worker_id": "w", "study_id": 0, "text": "ä"}, {"op_code": 6, "state": 1, "values": [0.5]}]
    Journal(path).append_logs(logs)
    JournalFileBackend(str(other)).append_logs(logs)
    assert path.read_bytes() == other.read_bytes()
    assert list(Journal(path).read_logs(0)) == logs
    assert list(Journal(path).read_logs(1)) == logs[1:]


def test_a_killed_writer_holds_nobody_up(path):
    # Optuna's lock is a file that is there; a killed writer leaves it, and the next one waits half a minute.
    (path.parent / "journal.log.lock").symlink_to(path)
    (lock_folder(path) / "journal.lock").touch()
    study = study_in(path)
    thread = threading.Thread(target=finished, args=(study,), daemon=True)
    thread.start()
    thread.join(timeout=PATIENCE)
    assert not thread.is_alive()


def test_one_writes_at_a_time(path):
    study = study_in(path)
    before = path.read_bytes()
    with locks.held(lock_folder(path) / "journal.lock"):
        thread = threading.Thread(target=study.set_user_attr, args=("a", 1))
        thread.start()
        thread.join(timeout=0.2)
        assert thread.is_alive()
        assert path.read_bytes() == before
    thread.join(timeout=PATIENCE)
    assert path.read_bytes() != before


@pytest.mark.parametrize("kept", [1, 12, 40, -1])
def test_half_a_line_at_the_end_is_cut(path, kept):
    finished(study_in(path))
    whole = path.read_bytes()
    line = whole.splitlines(keepends=True)[-1]
    torn = whole.removesuffix(line) + line[:kept]
    path.write_bytes(torn)
    study = study_in(path)
    assert path.read_bytes().startswith(whole.removesuffix(line) + LINE_START)
    assert study.get_trials()[0].state == TrialState.RUNNING
    finished(study)
    assert [trial.state for trial in plainly_read(path)] == [TrialState.RUNNING, TrialState.COMPLETE]


def test_a_line_that_is_being_written_is_waited_for(path):
    finished(study_in(path))
    whole = path.read_bytes()
    opened = []
    with locks.held(lock_folder(path) / "journal.lock"):
        path.write_bytes(whole[:-9])
        thread = threading.Thread(target=lambda: opened.append(Journal(path)))
        thread.start()
        thread.join(timeout=0.2)
        assert thread.is_alive()
        path.write_bytes(whole)
    thread.join(timeout=PATIENCE)
    assert opened
    assert path.read_bytes() == whole


def test_an_empty_file_is_a_new_journal(path):
    path.touch()
    finished(study_in(path))
    assert len(plainly_read(path)) == 1


def test_half_of_the_first_line_is_cut(path):
    path.write_bytes(b'{"op_code":0,"work')
    finished(study_in(path))
    assert len(plainly_read(path)) == 1


@pytest.mark.parametrize("content", [b"a,b\n1,2", b"one line", b'{"op": 1}', b"\0\xff", b"[1, 2]"])
def test_a_file_that_is_no_journal_is_left_as_it_is(path, content):
    path.write_bytes(content)
    with pytest.raises((ValueError, TypeError, KeyError)):
        study_in(path)
    assert path.read_bytes() == content


def test_a_whole_journal_is_opened_without_a_lock(path):
    finished(study_in(path))
    with locks.held(lock_folder(path) / "journal.lock"):
        assert len(study_in_for_reading(path)) == 1


def study_in_for_reading(path):
    return optuna.load_study(study_name="s", storage=JournalStorage(Journal(path))).get_trials()


def test_a_full_disk_leaves_no_half_line(path, monkeypatch):
    study = study_in(path)
    before = path.read_bytes()
    whole_open = Path.open

    class Full:
        """A file on a disk with room for ten bytes."""

        def __init__(self, file):
            self.file = file
            self.room = 10

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if not self.room:
                raise OSError(28, "No space left on device")
            written = self.file.write(data[: self.room])
            self.room -= written
            return written

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *how, **more: Full(whole_open(self, *how, **more)))
        with pytest.raises(OSError, match="No space left"):
            study.set_user_attr("a", 1)
    assert path.read_bytes() == before
    study.set_user_attr("a", 2)
    assert study_in(path).user_attrs == {"a": 2}


def test_only_the_start_and_the_end_of_a_trial_wait_for_the_disk(path, monkeypatch):
    study = study_in(path)
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(path.read_bytes().splitlines()[-1]) or fsync(handle))
    study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
    trial = optuna.trial.Trial(study, study.get_trials()[0]._trial_id)
    for index in range(20):
        trial.suggest_float(f"x{index}", 0, 1)
        trial.set_user_attr(f"y{index}", index)
    study.tell(trial, 1.0)
    assert len(synced) == 2
    assert json.loads(synced[-1])["values"] == [1.0]  # what is finished is on the disk
