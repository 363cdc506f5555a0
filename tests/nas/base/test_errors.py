import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from nas.base import processes
from nas.base.errors import one_line
from nas.search import workers
from tests.small_search import settings


def lost():
    """A lost connection as Optuna raises it."""
    gone = OperationalError("SELECT 1", {}, Exception("server closed the connection\nThis probably means ..."))
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = gone
    return gone, error


@pytest.mark.parametrize("error", lost())
def test_a_lost_storage_is_one_line_that_says_how_to_go_on(error):
    line = one_line(error)
    assert "server closed the connection" in line
    assert line.endswith("; the same command goes on")
    assert "\n" not in line


def work_that_raises(monkeypatch, error, **changes):
    """What a worker sends home, less the parent's guard and the log."""
    sent = []
    monkeypatch.setattr(processes, "_die_with_parent", lambda: None)
    monkeypatch.setattr(workers, "_send_log", lambda _: None)
    monkeypatch.setattr(workers, "resolve", lambda *_: (_ for _ in ()).throw(error))
    sender = type("Sender", (), {"send": staticmethod(sent.append)})
    with pytest.raises(SystemExit) as ended:
        workers._work(settings(**changes), None, sender)
    assert ended.value.code == 2
    return sent[0]


def test_a_worker_sends_a_lost_storage_home_as_one_line(monkeypatch):
    sent = work_that_raises(monkeypatch, lost()[1])
    assert isinstance(sent, ConnectionError)
    assert str(sent).startswith("the storage failed: ")


def test_a_worker_sends_no_secret_of_the_storage_home(monkeypatch):
    error = OperationalError("SELECT 1", {}, Exception("cannot reach dsn host=h password=hunter2"))
    sent = work_that_raises(monkeypatch, error, storage="postgresql://me:hunter2@h/db")
    assert "hunter2" not in str(sent)
    assert "cannot reach dsn" in str(sent)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9.31 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=repr,
)
def test_a_worker_without_memory_for_the_bank_says_so_in_one_line(monkeypatch, error):
    sent = work_that_raises(monkeypatch, error)
    assert one_line(sent) == f"not enough memory: {error}"


@pytest.mark.parametrize(
    "text",
    [
        "no run 'postgresql://me:hunter2@host/db'",
        "cannot read postgresql:/me:hunter2@host/db",
        "cannot read postgresql:/me:hunt@hunter2@host/db; there are ['a']",
    ],
)
def test_a_url_where_none_belongs_is_shown_without_its_login(text):
    line = one_line(ValueError(text))
    assert "hunter2" not in line
    assert "@host/db" in line
