import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from nas.base import processes
from nas.base.errors import one_line
from nas.search import workers


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


def test_a_worker_sends_a_lost_storage_home_as_one_line(monkeypatch):
    sent = []
    monkeypatch.setattr(processes, "_die_with_parent", lambda: None)
    monkeypatch.setattr(workers, "resolve", lambda *_: (_ for _ in ()).throw(lost()[1]))
    sender = type("Sender", (), {"send": staticmethod(sent.append)})
    with pytest.raises(SystemExit) as ended:
        workers._work(None, None, sender)
    assert ended.value.code == 2
    assert isinstance(sent[0], ConnectionError)
    assert str(sent[0]).startswith("the storage failed: ")
