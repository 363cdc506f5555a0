"""Locks: one holder at a time, nothing destroyed through links, and who waits says for whom."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from nas.base import locks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="links, signals and rights of POSIX")
PATIENCE = 240
HOLD = "import sys, pathlib, time\nfrom nas.base import locks\nlock = locks.take(pathlib.Path(sys.argv[1]))\n"
HOLD += "print('held', flush=True)\nsys.stdin.read()\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.lock"


@pytest.fixture
def other(path):
    """Another process that holds the lock, until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def waiting(path, monkeypatch, caplog):
    """Start a thread that waits for the lock and says so at once; returns what it has logged, and the thread."""
    monkeypatch.setattr(locks, "SECONDS_WITHOUT_A_WORD", 0.0)
    caplog.set_level(logging.WARNING, "nas")

    def start():
        thread = threading.Thread(target=lambda: locks.take(path).release(), daemon=True)
        thread.start()
        return thread

    return start


def eventually(condition):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.02)


def test_a_lock_that_another_holds_is_not_waited_for_unless_patient(path, other):
    with locks.held(path, patient=False) as mine:
        assert not mine
    assert locks.take(path, patient=False) is None
    other.stdin.close()
    with locks.held(path) as mine:
        assert mine
        assert locks.take(path, patient=False) is None  # not by another part of this process either
    locks.take(path, patient=False).release()


def test_a_lock_dies_with_its_process(path, other):
    other.kill()
    locks.take(path).release()


def test_a_lock_that_nobody_holds_on_to_is_free(path):
    locks.take(path)
    assert locks.take(path, patient=False) is not None


def test_who_waits_says_for_whom(path, other, waiting, caplog):
    thread = waiting()
    eventually(lambda: caplog.messages)
    assert caplog.messages == [f"nas: waiting for {path}, which process {other.pid} holds"]
    other.stdin.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(caplog.messages) == 1


def test_a_holder_that_is_stopped_is_said_to_be(path, other, waiting, caplog):
    other.send_signal(signal.SIGSTOP)
    eventually(lambda: psutil.Process(other.pid).status() == psutil.STATUS_STOPPED)
    thread = waiting()
    eventually(lambda: caplog.messages)
    assert caplog.messages[0].endswith(f"holds; it is stopped: kill -CONT {other.pid} lets it go on")
    assert "\n" not in caplog.messages[0]
    other.send_signal(signal.SIGCONT)
    other.stdin.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_lock_that_is_free_is_taken_without_a_word(path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "SECONDS_WITHOUT_A_WORD", 0.0)
    locks.take(path).release()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"", "another process holds"),
        (b"12\x1b[31m host\n", "another process holds"),
        (b"\xff\xfe", "another process holds"),
        (b"9999999999 " + socket.gethostname().encode() + b"\n", "process 9999999999 holds"),
        (b"12 elsewhere\n", "process 12 on elsewhere holds"),
    ],
)
def test_what_a_lock_says_of_its_holder_is_not_trusted(path, written, said):
    path.write_bytes(written)
    assert locks.holder(path) == said


def test_nothing_is_destroyed_through_a_link(path, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("dear diary")
    for link in (path.symlink_to, path.hardlink_to):
        link(precious)
        with pytest.raises(OSError, match="expected a lock, a file of its own; got a link") as caught:
            locks.take(path)
        assert caught.value.filename == str(path)
        assert precious.read_text() == "dear diary"
        path.unlink()
    path.symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="expected a lock"):
        locks.take(path)
    assert not (tmp_path / "made").exists()


def test_what_is_no_regular_file_is_no_lock(path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        locks.take(path)


def test_a_refused_lock_leaves_no_open_file(path, tmp_path):
    (tmp_path / "precious").touch()
    path.hardlink_to(tmp_path / "precious")
    before = psutil.Process().num_fds()
    for _ in range(20):
        with pytest.raises(OSError, match="expected a lock"):
            locks.take(path)
    with locks.held(tmp_path / "b"):
        for _ in range(20):
            assert locks.take(tmp_path / "b", patient=False) is None
    assert psutil.Process().num_fds() == before


def test_who_takes_a_file_that_is_being_taken_away_does_not_have_the_lock(path, monkeypatch):
    """Between the opening of a file and its locking its holder deletes it, and a third makes it anew."""
    lock, third = locks._lock, []

    def slow(handle):
        monkeypatch.setattr(locks, "_lock", lock)
        path.unlink()
        third.append(locks.take(path))
        return lock(handle)

    monkeypatch.setattr(locks, "_lock", slow)
    assert locks.take(path, patient=False) is None
    assert third[0] is not None


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs two users")
def test_somebody_elses_lock_can_be_taken_without_being_written():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to other users
        Path(folder).chmod(0o755)
        path = Path(folder) / "a.lock"
        path.write_text("1 x\n")
        path.chmod(0o644)
        script = HOLD.replace("lock = ", "import os; os.setuid(65534); lock = ")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", script, str(path)], **pipes) as process:
            assert process.stdout.readline() == "held\n"
            assert locks.take(path, patient=False) is None
            process.stdin.close()
        assert process.returncode == 0
        assert path.read_text() == "1 x\n"


# Folders


def test_a_folder_of_locks_is_no_link(tmp_path):
    assert locks.folder(tmp_path / "deep" / "locks").is_dir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="expected a folder of locks; got a link"):
        locks.folder(tmp_path / "link")


def test_ones_own_folder_is_closed_to_others(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = locks.own_folder("me", "study")
    assert place == tmp_path / "cache" / "gecko-nas" / "locks" / "me" / "study" == locks.own_folder("me", "study")
    while place != tmp_path / "cache":
        assert place.stat().st_mode & 0o777 == 0o700
        place = place.parent


@pytest.mark.parametrize("relative", ["", "cache"])
def test_without_a_cache_folder_it_lies_at_home(tmp_path, monkeypatch, relative):
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locks.own_folder("me") == tmp_path / ".cache" / "gecko-nas" / "locks" / "me"


def spoil(place, how, elsewhere):
    if how == "link":
        elsewhere.mkdir()
        place.symlink_to(elsewhere)
    elif how == "writable":
        place.mkdir()
        place.chmod(0o777)
    elif how == "file":
        place.touch()
    else:
        place.mkdir()
        os.chown(place, 65534, 65534)


@pytest.mark.parametrize("name", ["gecko-nas", "gecko-nas/locks", "gecko-nas/locks/me"])
@pytest.mark.parametrize("how", ["link", "writable", "file", "somebody else's"])
def test_a_folder_that_others_made_or_can_write_is_refused(tmp_path, monkeypatch, name, how):
    if how == "somebody else's" and os.getuid() != 0:
        pytest.skip("needs two users")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "cache" / name
    place.parent.mkdir(parents=True)
    for above in place.parents:
        if above.is_relative_to(tmp_path / "cache" / "gecko-nas"):
            above.chmod(0o700)
    spoil(place, how, tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"expected a folder of yours|File exists"):
        locks.own_folder("me", "study")
    assert list((tmp_path / "elsewhere").glob("*")) == []


def test_whether_a_lock_is_held_is_told_without_making_its_file(tmp_path):
    path = tmp_path / "a.lock"
    assert not locks.is_held(path)
    assert not path.exists()
    lock = locks.take(path)
    assert locks.is_held(path)
    lock.release()
    assert not locks.is_held(path)
    assert locks.take(path, patient=False) is not None  # to ask leaves it free
