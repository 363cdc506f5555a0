"""Trainings whose process dies of a signal: tried once more, then rejected, and the search goes on."""

import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from nas.base import plugins
from nas.runs.progress import count
from nas.search import schema
from nas.search import study as search
from nas.search import workers
from nas.search.storage import open_study
from tests.small_search import elsewhere
from tests.small_search import evaluated
from tests.small_search import planned
from tests.small_search import settings
from tests.small_search import without_training

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

# A defence that ends its own process, in the trainings of the search and not where it is tried out before.
DEADLY = '''
"""Dies."""

import os
import signal
from pathlib import Path

FOLDER = Path(__file__).parent


def defend(setup, teach):
    is_searched = len(setup.features) == 120
    marker = FOLDER / f"died-{setup.architecture.key}-{setup.seed}"
    if is_searched and SELECTED and (ALWAYS or not marker.exists()):
        with marker.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGNAL)
    return setup
'''


def deadly(folder, monkeypatch, selected="True", always="True", name="SIGSEGV"):
    """Write the defence into a folder that is on the path; returns its dotted name."""
    (folder / "own").mkdir()
    text = DEADLY.replace("SELECTED", selected).replace("ALWAYS", always).replace("signal.SIGNAL", f"signal.{name}")
    (folder / "own" / "deadly.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv(plugins.TRUSTED, "own.deadly")
    return "own.deadly"


def run(folder, **changes):
    """Run a search in worker processes; returns its study."""
    config = settings(**changes)
    plan = planned(folder / "runs", **changes)
    open_study(plan)
    workers.run(config, folder / "runs", look=lambda: None)
    return open_study(plan)


def deaths_in(folder):
    return [len(path.read_text()) for path in (folder / "own").glob("died-*")]


@pytest.mark.parametrize("count_of_workers", [1, 2])
def test_a_candidate_whose_process_died_twice_is_rejected_and_the_search_goes_on(
    tmp_path, monkeypatch, count_of_workers
):
    name = deadly(tmp_path, monkeypatch, selected="setup.recipe.epochs == 2")
    recipe = {"epochs": {"low": 2, "high": 3}}
    study = run(tmp_path, defences=[name], recipe=recipe, trials=3, workers=count_of_workers)
    ended = study.get_trials()
    trained = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    died = [trial for trial in ended if trial.user_attrs.get("rejected") == "died twice: SIGSEGV"]
    assert [trial.params["epochs"] for trial in trained] == [3, 3, 3]
    assert died
    assert {trial.params["epochs"] for trial in died} == {2}
    assert {trial.state for trial in died} == {TrialState.PRUNED}
    assert [trial.user_attrs["broken_off"] for trial in died] == [["died: SIGSEGV"] * 2] * len(died)
    assert not [trial for trial in ended if trial.state in (TrialState.RUNNING, TrialState.FAIL)]
    counts = count(ended)
    assert (counts.trained, counts.died) == (3, len(died))
    assert f"{len(died)} died" in str(counts)
    assert deaths_in(tmp_path) == [2] * len(died)


@pytest.mark.parametrize("name", ["SIGABRT", "SIGKILL"])
def test_a_candidate_whose_process_died_once_is_trained_at_the_second_try(tmp_path, monkeypatch, name):
    defence = deadly(tmp_path, monkeypatch, always="False", name=name)
    study = run(tmp_path, defences=[defence], trials=1)
    (trial,) = study.get_trials()
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["broken_off"] == [f"died: {name}"]
    assert deaths_in(tmp_path) == [1]


def test_a_worker_that_is_asked_to_end_ends_the_search_and_counts_for_nothing(tmp_path, monkeypatch):
    defence = deadly(tmp_path, monkeypatch, name="SIGTERM")
    with pytest.raises(RuntimeError, match="a worker ended of SIGTERM"):
        run(tmp_path, defences=[defence], trials=1)
    (trial,) = open_study(planned(tmp_path / "runs", defences=[defence], trials=1)).get_trials()
    assert trial.state == TrialState.RUNNING
    assert "broken_off" not in trial.user_attrs


def crew_of(plan, held=None):
    """A crew whose only worker died of SIGSEGV, perhaps at work on a trial."""
    crew = workers._Crew(plan.config, plan.folder.parent)
    crew._processes = [SimpleNamespace(pid=7, exitcode=-signal.SIGSEGV)]
    if held is not None:
        crew._sender.send(workers.Took(7, held))
    return crew


@pytest.fixture(scope="module")
def whole_plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def plan(whole_plan, tmp_path):
    return elsewhere(whole_plan, tmp_path / "small")


def test_a_worker_that_dies_before_it_has_a_trial_ends_the_search(plan):
    open_study(plan)
    with pytest.raises(RuntimeError, match="a worker died of SIGSEGV while it had no candidate in training"):
        crew_of(plan).replace_the_dead()


def test_a_worker_that_dies_after_its_trial_has_ended_counts_for_nothing(plan):
    study = open_study(plan)
    proposal = search.propose(plan, study)
    search.reject(study, proposal, "diverged: the loss became nan")
    with pytest.raises(RuntimeError, match="a worker died of SIGSEGV while it had no candidate in training"):
        crew_of(plan, held=0).replace_the_dead()
    assert "broken_off" not in study.get_trials()[0].user_attrs


@pytest.mark.parametrize(
    ("exit_code", "goes_on"), [(None, True), (-11, True), (3, True), (1, True), (0, False), (2, False)]
)
def test_a_crew_is_looked_at_until_every_worker_has_ended_well_or_said_why(plan, exit_code, goes_on):
    crew = crew_of(plan)
    crew._processes = [SimpleNamespace(pid=7, exitcode=0), SimpleNamespace(pid=8, exitcode=exit_code)]
    assert crew.is_at_work() == goes_on


def test_what_a_worker_took_just_before_it_died_is_heard(plan, monkeypatch):
    study = open_study(plan)
    search.propose(plan, study).hold.release()
    crew, started = crew_of(plan, held=0), []
    monkeypatch.setattr(crew, "start", started.append)
    crew.replace_the_dead()
    assert started == [1]
    assert crew._processes == []
    assert study.get_trials()[0].user_attrs["broken_off"] == ["died: SIGSEGV"]


def test_too_many_deaths_in_a_row_end_the_search(plan, monkeypatch):
    """Two a candidate, but no end of candidates: a broken installation kills every training."""
    monkeypatch.setattr(workers, "DEATHS_IN_A_ROW", 3)
    study = open_study(plan)
    crew = crew_of(plan)
    monkeypatch.setattr(crew, "start", lambda _: None)

    def die():
        proposal = search.propose(plan, study)
        proposal.hold.release()
        crew._processes = [SimpleNamespace(pid=7, exitcode=-signal.SIGBUS)]
        crew._sender.send(workers.Took(7, proposal.trial.number))
        crew.replace_the_dead()
        return proposal.trial.number

    assert [die(), die()] == [0, 0]
    proposal = search.propose(plan, study)
    assert proposal.trial.number == 1
    assert study.get_trials()[0].user_attrs["rejected"] == "died twice: SIGBUS"
    search.record(plan, study, proposal, evaluated(proposal.candidate.key))
    assert [die(), die()] == [2, 2]  # something was trained in between
    with pytest.raises(RuntimeError, match="3 workers died one after the other, the last of SIGBUS, and none trained"):
        die()


def test_a_search_that_was_killed_whole_notes_nothing(plan, monkeypatch):
    without_training(monkeypatch)
    study = open_study(plan)
    for _ in range(3):  # three power failures
        search.propose(plan, study).hold.release()
    search.work(plan, study)
    assert {trial.state for trial in study.get_trials()} == {TrialState.COMPLETE}
    assert not [trial for trial in study.get_trials() if "broken_off" in trial.user_attrs]


def test_one_shortage_of_memory_and_one_death_are_two_tries(plan):
    study = open_study(plan)
    proposal = search.propose(plan, study)
    search.break_off(study, proposal, "out of memory: 20 GiB")
    assert search.note_death(study, 0, "SIGKILL")
    assert search.propose(plan, study).trial.number == 1
    assert study.get_trials()[0].user_attrs["rejected"] == "died: SIGKILL, after out of memory: 20 GiB"


def test_a_trial_says_which_process_takes_it_before_anything_is_built(plan):
    taken = []
    search.propose(replace(plan, notice=taken.append), open_study(plan))
    assert taken == [0]


@pytest.mark.parametrize("broken_off", ["died: SIGSEGV", [1], {"died": "SIGSEGV"}])
def test_a_study_with_other_deaths_than_texts_is_refused(plan, broken_off):
    config = plan.config.model_dump(mode="json", exclude={"storage"})
    attrs = {schema.CONFIG: config, schema.TASK: {"input_shape": [1, 8, 8], "num_classes": 10, "id": "a"}}
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"broken_off": broken_off})
    trial.number = 0
    with pytest.raises(ValueError, match="expected a list of texts as 'broken_off' of trial 0 of the study 'small'"):
        schema.check("small", attrs, 3, [trial])
