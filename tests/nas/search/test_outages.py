"""Databases that go away for a while: what is asked of them is asked again, and nothing is told twice."""

import logging
import sqlite3
from types import SimpleNamespace

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import PendingRollbackError

from nas.search import outages
from nas.search import signs
from nas.search import storage
from nas.search import study as search
from nas.search import workers
from nas.search.storage import open_study
from tests.small_search import evaluated
from tests.small_search import planned


class Psycopg2Error(Exception):
    """As the driver of PostgreSQL raises it."""


def away(kind=OperationalError, cause=Psycopg2Error):
    """What a storage raises whose server is not there."""
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = kind("SELECT 1", {}, cause("the database system is starting up"))
    return error


@pytest.fixture
def clock(monkeypatch):
    """Time passes only while somebody waits; the waits are kept."""
    waits = []
    now = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append)
    monkeypatch.setattr(outages, "time", now)
    return waits


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return planned(tmp_path, storage=f"sqlite:///{tmp_path}/study.db")


def test_a_server_that_comes_back_is_waited_for_and_it_is_said_once(clock, caplog, monkeypatch):
    monkeypatch.setattr(signs, "_outage", [float("-inf")])
    errors = iter([away(), away()])

    def ask():
        for error in errors:
            raise error
        return 7

    with caplog.at_level(logging.WARNING, "nas"):
        assert outages.patiently(ask) == 7
    assert len(clock) == 2
    assert "nas: waiting for the storage: the storage failed:" in caplog.text
    assert len(caplog.records) == 1
    assert signs._outage != [float("-inf")]


def test_a_transaction_that_an_outage_broke_is_begun_anew():
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")
    assert outages.is_outage(error)


@pytest.mark.parametrize("error", [away(), away().__cause__], ids=["by Optuna", "by SQLAlchemy"])
def test_a_server_that_is_away_when_a_storage_is_opened_is_told_in_a_line_and_can_be_waited_for(
    plan, clock, monkeypatch, error
):
    answers, connect = iter([error, error]), storage._connect

    def slow(url):
        for one in answers:
            raise one
        return connect(url)

    monkeypatch.setattr(storage, "_connect", slow)
    with pytest.raises(ValueError, match=r"expected an Optuna study in .*the database system is starting up"):
        open_study(plan)
    assert outages.patiently(lambda: open_study(plan)).study_name == "small"
    assert len(clock) == 1


@pytest.mark.parametrize("error", [away(kind=IntegrityError), ValueError("x")], ids=repr)
def test_what_is_wrong_with_a_storage_that_answers_is_not_waited_for(plan, clock, monkeypatch, error):
    def wrong(url):
        raise error

    monkeypatch.setattr(storage, "_connect", wrong)
    with pytest.raises(ValueError, match="expected an Optuna study"):
        outages.patiently(lambda: open_study(plan))
    assert clock == []


@pytest.mark.parametrize(
    "end",
    [
        lambda study, proposal: search.break_off(study, proposal, "out of memory: 20 GiB"),
        lambda study, proposal: search.fail(study, proposal, "a bug"),
    ],
    ids=["break_off", "fail"],
)
def test_how_a_training_ended_is_told_after_an_outage(plan, clock, monkeypatch, end):
    study = open_study(plan)
    proposal = search.propose(plan, study)
    errors, write = iter([away()]), type(study._storage).set_trial_user_attr

    def slow(*arguments):
        for error in errors:
            raise error
        write(*arguments)

    monkeypatch.setattr(type(study._storage), "set_trial_user_attr", slow)
    end(study, proposal)
    assert len(clock) == 1
    assert study.get_trials()[0].user_attrs.keys() & {"failed", "broken_off"}


@pytest.mark.parametrize(
    "error", [away(cause=sqlite3.OperationalError), away(kind=IntegrityError), StorageInternalError("x")], ids=repr
)
def test_what_is_no_outage_is_raised_at_once(clock, error):
    def ask():
        raise error

    with pytest.raises(StorageInternalError):
        outages.patiently(ask)
    assert clock == []


def test_patience_ends(clock):
    def ask():
        raise away()

    with pytest.raises(StorageInternalError):
        outages.patiently(ask)
    assert sum(clock) > outages.SECONDS_OF_PATIENCE


def breaking(monkeypatch, study, name, *, after):
    """Let a method of the storage fail at each first call with its arguments, before or after it has done its work."""
    kind, met = type(study._storage), set()
    method = getattr(kind, name)

    def broken(storage, *arguments, **more):
        first = repr((arguments, more)) not in met
        met.add(repr((arguments, more)))
        if first and not after:
            raise away()
        answer = method(storage, *arguments, **more)
        if first:
            raise away()
        return answer

    monkeypatch.setattr(kind, name, broken)


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done, but the answer is lost"])
@pytest.mark.parametrize("name", ["set_trial_user_attr", "set_trial_system_attr", "set_trial_state_values"])
def test_a_result_is_recorded_once_across_an_outage(plan, clock, monkeypatch, caplog, name, after):
    study = open_study(plan)
    proposal = search.propose(plan, study)
    whole = evaluated(proposal.candidate.key)
    breaking(monkeypatch, study, name, after=after)
    with caplog.at_level(logging.WARNING, "nas"):
        search.record(plan, study, proposal, whole)
    (trial,) = study.get_trials()
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["leakage"] == whole.measures["leakage"].value
    assert "given to another machine" not in caplog.text
    assert not proposal.hold.lock.path.exists()


def test_a_trial_that_an_outage_meets_while_it_is_sampled_is_taken_up_again(plan, clock, monkeypatch):
    study = open_study(plan)
    expected = search.propose(plan, study)
    expected.hold.release()
    study = open_study(plan)
    breaking(monkeypatch, study, "set_trial_user_attr", after=False)
    again = search.propose(plan, study)
    assert (again.trial.number, again.candidate) == (0, expected.candidate)
    assert len(study.get_trials()) == 1


def test_the_display_skips_an_outage_and_nothing_else():
    def look():
        raise away()

    workers._unless_away(look)

    def broken():
        raise StorageInternalError("no such table")

    with pytest.raises(StorageInternalError):
        workers._unless_away(broken)
