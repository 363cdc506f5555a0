"""Machines that share a database and no locks: one falls silent, another takes its trial up, the first comes back."""

import logging
import threading
import time
from types import SimpleNamespace

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from nas.runs.progress import count
from nas.search import claims
from nas.search import signs
from nas.search import study as search
from nas.search import workers
from nas.search.ledger import ledger_of
from nas.search.storage import open_study
from tests.small_search import evaluated
from tests.small_search import planned
from tests.small_search import with_settings

PATIENCE = 60


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"), storage=None)


@pytest.fixture
def plan(small, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return with_settings(small, storage=f"sqlite:///{tmp_path}/study.db", trials=3)


@pytest.fixture
def clock(monkeypatch):
    """The time by which machines wait for signs of life: it stands still until a test moves it."""
    now = SimpleNamespace(time=0.0)
    monkeypatch.setattr(signs, "time", SimpleNamespace(monotonic=lambda: now.time))
    monkeypatch.setattr(signs, "_known", {})
    monkeypatch.setattr(signs, "_outage", [float("-inf")])
    return now


@pytest.fixture
def on(plan, clock, tmp_path, monkeypatch):
    """Go to a machine: another name, and other locks. Returns the study as it sees it."""

    def go(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        monkeypatch.setattr("nas.search.claims.here", lambda url: f"me@{name}")
        return open_study(plan)

    return go


def fall_silent(proposal):
    """As when the machine loses its power, or the process is stopped."""
    proposal.hold.signs.stop()


def take_over_the_lost(plan, study):
    claims._take_over_the_lost(plan, study, ledger_of(study).open)


def told(study):
    return [(trial.state.name, trial.user_attrs.get("broken_off")) for trial in study.get_trials()]


def test_what_was_decided_at_a_rung_goes_to_the_other_machine(plan, on, clock):
    row = {"epochs": 1, "of": 9, "place": 1, "among": 1, "goes_on": True, "error": 0.5, "leakage": 0.5}
    row |= {"latency_ms": 1.0}
    lost = search.propose(plan, on("a"))
    lost.trial.set_user_attr("rung_1", row)
    fall_silent(lost)
    study = on("b")
    take_over_the_lost(plan, study)  # the first look at the sign
    clock.time += signs.SECONDS_OF_SILENCE + 1
    take_over_the_lost(plan, study)
    first, again = study.get_trials()
    assert (first.state, again.state) == (TrialState.FAIL, TrialState.RUNNING)
    assert again.user_attrs["rung_1"] == row


def test_the_trial_of_a_silent_machine_is_taken_up_elsewhere_with_its_parameters(plan, on, clock):
    lost = search.propose(plan, on("a"))
    fall_silent(lost)
    study = on("b")
    other = search.propose(plan, study)
    assert other.candidate != lost.candidate
    clock.time += signs.SECONDS_OF_SILENCE  # not longer
    third = search.propose(plan, study)
    assert third.trial.number == 2
    clock.time += 1
    again = search.propose(plan, study)
    assert again.trial.number == 3
    assert again.candidate == lost.candidate
    assert again.trial.params == lost.trial.params
    assert told(study) == [("FAIL", None), ("RUNNING", None), ("RUNNING", None), ("RUNNING", ["lost: me@a"])]
    search.record(plan, study, again, evaluated(again.candidate.key))
    assert study.get_trials()[3].state == TrialState.COMPLETE


def test_who_comes_back_after_its_trial_was_given_away_drops_its_result(plan, on, clock, caplog):
    there = on("a")
    stopped = search.propose(plan, there)
    fall_silent(stopped)
    study = on("b")
    _busy = search.propose(plan, study)
    clock.time += signs.SECONDS_OF_SILENCE + 1
    again = search.propose(plan, study)
    on("a")
    with caplog.at_level(logging.WARNING, "nas"):
        search.record(plan, there, stopped, evaluated(stopped.candidate.key))
    assert "candidate 0 was given to another machine" in caplog.text
    assert study.get_trials()[0].state == TrialState.FAIL
    assert "error" not in study.get_trials()[0].user_attrs
    on("b")
    search.record(plan, study, again, evaluated(again.candidate.key))
    assert [trial.number for trial in study.get_trials(states=(TrialState.COMPLETE,))] == [again.trial.number]


@pytest.mark.parametrize(
    "end",
    [
        lambda plan, study, proposal: search.reject(study, proposal, "diverged: the loss became nan"),
        lambda plan, study, proposal: search.fail(study, proposal, "a bug"),
        lambda plan, study, proposal: search.break_off(study, proposal, "out of memory: 20 GiB"),
    ],
    ids=["reject", "fail", "break_off"],
)
def test_no_other_end_of_a_trial_that_was_given_away_is_told(plan, on, clock, end):
    there = on("a")
    stopped = search.propose(plan, there)
    before = there.get_trials()[0].user_attrs
    there._storage.set_trial_state_values(stopped.trial._trial_id, TrialState.FAIL)
    end(plan, there, stopped)
    assert there.get_trials()[0].user_attrs == before
    assert stopped.hold.lock._close.alive is False


def test_a_trial_that_is_given_away_between_its_last_attribute_and_its_end_is_dropped(plan, on, monkeypatch):
    study = on("a")
    proposal = search.propose(plan, study)
    tell = type(study).tell

    def too_late(self, trial, *arguments):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return tell(self, trial, *arguments)

    monkeypatch.setattr(type(study), "tell", too_late)
    search.record(plan, study, proposal, evaluated(proposal.candidate.key))
    assert study.get_trials()[0].state == TrialState.FAIL


def test_who_is_stopped_while_it_samples_goes_on_with_another_candidate(plan, on, monkeypatch):
    study = on("a")
    suggest, stops = search.suggest, iter([True, False])

    def stopped(plan, trial):
        if next(stops):
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return suggest(plan, trial)

    monkeypatch.setattr(search, "suggest", stopped)
    assert search.propose(plan, study).trial.number == 1


def test_a_machine_that_gives_signs_keeps_its_trial(plan, on, clock, monkeypatch):
    monkeypatch.setattr(signs, "SECONDS_BETWEEN_SIGNS", 0.02)
    kept = search.propose(plan, on("a"))
    study = on("b")
    for _ in range(3):
        take_over_the_lost(plan, study)
        ((sign, _),) = signs._known.values()
        give_up = time.monotonic() + PATIENCE
        while study.get_trials()[0].system_attrs.get(signs.ALIVE) == sign:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        clock.time += 10 * signs.SECONDS_OF_SILENCE  # this one was busy, or stopped itself
    take_over_the_lost(plan, study)
    assert told(study) == [("RUNNING", None)]
    kept.hold.end()


def test_signs_end_with_the_trial(plan, on, monkeypatch):
    monkeypatch.setattr(signs, "SECONDS_BETWEEN_SIGNS", 0.02)
    before = set(threading.enumerate())
    study = on("a")
    ended = [search.propose(plan, study) for _ in range(3)]
    new = set(threading.enumerate()) - before
    assert len(new) == 3
    search.record(plan, study, ended[0], evaluated(ended[0].candidate.key))
    study._storage.set_trial_state_values(ended[1].trial._trial_id, TrialState.FAIL)
    ended.pop().hold.release()
    give_up = time.monotonic() + PATIENCE
    while any(thread.is_alive() for thread in new):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_candidate_that_is_lost_twice_is_rejected(plan, on, clock):
    first = search.propose(plan, on("a"))
    fall_silent(first)
    study = on("b")
    _busy = [search.propose(plan, study)]
    clock.time += signs.SECONDS_OF_SILENCE + 1
    second = search.propose(plan, study)
    assert second.candidate == first.candidate
    fall_silent(second)
    take_over_the_lost(plan, on("c"))
    clock.time += signs.SECONDS_OF_SILENCE + 1
    _all = [search.propose(plan, on("c")) for _ in range(2)]  # the other one of b's, too
    rejected = [trial for trial in study.get_trials() if trial.user_attrs.get("rejected")]
    assert [trial.user_attrs["rejected"] for trial in rejected] == ["lost twice: me@a, me@b"]
    assert count(study.get_trials()).died == 1


def test_a_trial_that_was_given_back_is_taken_up_at_once_and_counts_for_nothing(plan, on):
    left = search.propose(plan, on("a"))
    left.hold.release()
    study = on("b")
    again = search.propose(plan, study)
    assert again.candidate == left.candidate
    assert told(study) == [("FAIL", None), ("RUNNING", None)]


def test_who_takes_up_on_the_same_machine_what_was_given_back_keeps_it(plan, on):
    search.propose(plan, on("a")).hold.release()
    kept = search.propose(plan, on("a"))
    assert kept.trial.number == 0
    study = on("b")
    _busy = search.propose(plan, study)
    assert told(study) == [("RUNNING", None), ("RUNNING", None)]


def test_of_two_machines_that_want_a_lost_trial_one_gets_it(plan, on, clock, monkeypatch):
    fall_silent(search.propose(plan, on("a")))
    other = on("c")
    take_over_the_lost(plan, other)
    study = on("b")
    take_over_the_lost(plan, study)
    clock.time += signs.SECONDS_OF_SILENCE + 1
    get_trial, both = type(study._storage).get_trial, []

    def slow(storage, trial_id):
        found = get_trial(storage, trial_id)
        if not both:  # between this one's last look and its end of the trial
            both.append(True)
            take_over_the_lost(plan, other)
        return found

    monkeypatch.setattr(type(study._storage), "get_trial", slow)
    take_over_the_lost(plan, study)
    assert told(study) == [("FAIL", None), ("RUNNING", ["lost: me@a"])]


def test_an_outage_of_the_storage_is_nobodys_silence(plan, on, clock, monkeypatch):
    fall_silent(search.propose(plan, on("a")))
    study = on("b")
    mine = search.propose(plan, study)
    clock.time += 10 * signs.SECONDS_OF_SILENCE

    def away(*_):
        raise StorageInternalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(signs, "SECONDS_BETWEEN_SIGNS", 0.0)
        patch.setattr(type(study._storage), "set_trial_system_attr", away)
        thread = signs.Signs(study._storage, study.get_trials()[1])
        give_up = time.monotonic() + PATIENCE
        while signs._outage == [float("-inf")]:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        thread.stop()
    take_over_the_lost(plan, study)
    assert told(study)[0] == ("RUNNING", None)
    clock.time += signs.SECONDS_OF_SILENCE + 1
    take_over_the_lost(plan, study)
    assert told(study)[0] == ("FAIL", None)
    mine.hold.end()


def test_who_has_nothing_left_to_do_waits_for_what_other_machines_may_lose(plan, on, clock, monkeypatch):
    plan = with_settings(plan, trials=1)
    fall_silent(search.propose(plan, on("a")))
    study = on("b")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        clock.time += signs.SECONDS_OF_SILENCE / 3

    monkeypatch.setattr(claims, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    taken = []
    for proposal in search.proposals(plan, study):
        taken.append(proposal.trial.number)
        search.record(plan, study, proposal, evaluated(proposal.candidate.key))
    assert taken == [1]
    assert len(looks) == 4
    assert told(study) == [("FAIL", None), ("COMPLETE", ["lost: me@a"])]


def test_who_has_nothing_left_to_do_ends_with_the_last_trial_of_the_others(plan, on, monkeypatch):
    plan = with_settings(plan, trials=1)
    there = on("a")
    theirs = search.propose(plan, there)
    study = on("b")

    def sleep(seconds):
        search.record(plan, there, theirs, evaluated(theirs.candidate.key))

    monkeypatch.setattr(claims, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    assert list(search.proposals(plan, study)) == []


def test_duplicates_of_a_lost_trial_do_not_keep_its_candidate_from_training(plan, on, clock):
    lost = search.propose(plan, on("a"))
    fall_silent(lost)
    study = on("b")
    study.enqueue_trial(lost.trial.params)
    _busy = search.propose(plan, study)
    assert study.get_trials()[1].user_attrs["rejected"] == "duplicate of trial 0"
    clock.time += signs.SECONDS_OF_SILENCE + 1
    assert search.propose(plan, study).candidate == lost.candidate


@pytest.mark.parametrize("end", [KeyboardInterrupt, workers._Asked])
@pytest.mark.parametrize("where", ["suggest", "training"])
def test_who_is_asked_to_end_gives_its_trial_back(plan, on, monkeypatch, end, where):
    def leave(*_):
        raise end

    study = on("a")

    def work():
        proposal = search.propose(plan, study)
        with search.failing(study, proposal):
            leave()

    if where == "suggest":
        monkeypatch.setattr(search, "suggest", leave)
    with pytest.raises(end):
        work()
    assert signs.has_left(study.get_trials()[0])
